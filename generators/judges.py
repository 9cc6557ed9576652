"""What judges the images of a training: features of a frozen network, and an adversary that looks at them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional


class _AllTaken(Exception):  # noqa: N818 - no error: it ends a forward pass that has given all that is wanted
    """All features are taken; what lies deeper in the network need not be computed."""


@final
class FeatureTaps(nn.Module):
    """Features of a frozen network at several depths.

    Args:
        network: From normalized images to anything; stays as it is, without gradients of its weights.
        layers: Names of modules whose output is taken; "output" for what the network returns.
        mean: Of each colour channel, of images in [0, 1].
        std: Likewise.
        name: Of the network, for the facts of a training.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, network: nn.Module, layers: Sequence[str], mean: Sequence[float], std: Sequence[float], name: str
    ) -> None:
        super().__init__()
        self.name = name
        self.network: nn.Module = network.eval().requires_grad_(False)
        self.layers: tuple[str, ...] = tuple(layers)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))
        self._taken: dict[str, Tensor] = {}
        for name in self.layers:
            if name != "output":
                network.get_submodule(name).register_forward_hook(self._hook(name))

    def _hook(self, name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def take(_: nn.Module, __: Any, output: Tensor) -> None:
            self._taken[name] = output
            if len(self._taken) == len(self.layers):
                raise _AllTaken

        return take

    def forward(self, images: Tensor) -> list[Tensor]:
        """Turns images ``(n, 3, h, w)`` in [-1, 1] into the layers' features in their order."""
        with contextlib.suppress(_AllTaken):
            self._taken["output"] = self.network((images / 2 + 0.5 - self.mean) / self.std)
        taken = [self._taken[name] for name in self.layers]
        self._taken.clear()
        return taken


@final
class Adversary(nn.Module):
    """Judges feature maps: one small convolutional network for each depth, with spectral normalization.

    Args:
        channels: Channels of each depth's features.
        scales: What the features of each depth are divided by.
        width: Channels of the judges.
    """

    scales: Tensor

    def __init__(self, channels: Sequence[int], scales: Tensor, width: int = 64) -> None:
        super().__init__()
        self.register_buffer("scales", scales)
        normalized = nn.utils.parametrizations.spectral_norm
        self.judges: nn.ModuleList = nn.ModuleList(
            nn.Sequential(
                normalized(nn.Conv2d(c, width, 1)),
                nn.LeakyReLU(0.2),
                normalized(nn.Conv2d(width, width, 4, 2, 1)),
                nn.LeakyReLU(0.2),
                normalized(nn.Conv2d(width, 1, 3, padding=1)),
            )
            for c in channels
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Turns feature maps of each depth into a map of judgements; high where they look like photographs."""
        return [judge(f / s) for judge, f, s in zip(self.judges, features, self.scales, strict=True)]


def fine_detail(images: Tensor) -> Tensor:
    """Returns what 3 x 3 pixels' mean leaves of images ``(n, 3, h, w)``, in blocks of 4 x 4: ``(n, 48, h/4, w/4)``.

    A pattern that repeats with the steps of a decoder's upsampling, a checkerboard, stands out in it.
    """
    mean = functional.avg_pool2d(functional.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return functional.pixel_unshuffle(images - mean, 4)


def second_moments(features: Tensor) -> Tensor:
    """Returns mean products of the channels of maps ``(n, c, h, w)``, with a constant 1 first, ``(c + 1, c + 1)``."""
    flat = features.transpose(0, 1).flatten(1)
    whole = torch.cat([torch.ones_like(flat[:1]), flat])
    return whole @ whole.T / whole.shape[1]
