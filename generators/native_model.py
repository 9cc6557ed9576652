"""The networks of the native generator: a spatial autoencoder whose decoder is small enough to draw images on a CPU."""

from __future__ import annotations

import itertools
from typing import cast, final

import torch
from torch import Tensor, nn
from torch.nn import functional

#: An image of r x r pixels has a code of CHANNELS x r/STRIDE x r/STRIDE numbers: 512 at 128 pixels.
CHANNELS, STRIDE = 8, 16
#: Channels of the decoder at 1/16, 1/8, 1/4 and 1/2 of the image's resolution, and of its global branch at 1/32.
WIDTHS, GLOBAL_WIDTH = (192, 96, 32, 16), 256
#: Channels of the encoder at 1/2, 1/4, 1/8 and 1/16.
ENCODER_WIDTHS = (32, 64, 128, 192)
_SLOPE = 0.2


@final
class Residual(nn.Module):
    """Two 3 x 3 convolutions beside the identity, ``(n, c, h, w)`` -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.a = nn.Conv2d(channels, channels, 3, padding=1)
        self.b = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return cast(Tensor, x + self.b(functional.leaky_relu(self.a(functional.leaky_relu(x, _SLOPE)), _SLOPE)))


@final
class Encoder(nn.Module):
    """Images ``(n, 3, r, r)`` in [-1, 1] -> spatial codes ``(n, 8, r/16, r/16)``."""

    def __init__(self) -> None:
        super().__init__()
        widths = ENCODER_WIDTHS
        layers: list[nn.Module] = [nn.Conv2d(12, widths[0], 3, padding=1)]
        for a, b in itertools.pairwise(widths):
            layers += [nn.LeakyReLU(_SLOPE), nn.Conv2d(a, b, 4, 2, 1)]
        layers += [Residual(widths[-1]), nn.LeakyReLU(_SLOPE), nn.Conv2d(widths[-1], CHANNELS, 3, padding=1)]
        self.f = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        return cast(Tensor, self.f(functional.pixel_unshuffle(images, 2)))


@final
class SpatialDecoder(nn.Module):
    """Spatial codes ``(n, 8, r/16, r/16)`` -> images ``(n, 3, r, r)`` around [-1, 1], not clipped.

    Upsampling is a 1 x 1 convolution and a pixel shuffle, which costs little, and a residual block that sees across the
    shuffled blocks. A branch at half the code's resolution sees the whole image and holds it together.
    """

    def __init__(self) -> None:
        super().__init__()
        widths = WIDTHS
        self.first = nn.Conv2d(CHANNELS, widths[0], 3, padding=1)
        self.down = nn.Conv2d(widths[0], GLOBAL_WIDTH, 2, 2)
        self.whole = nn.Sequential(Residual(GLOBAL_WIDTH), Residual(GLOBAL_WIDTH))
        self.back = nn.Conv2d(GLOBAL_WIDTH, 4 * widths[0], 1)
        self.mix = Residual(widths[0])
        self.up = nn.ModuleList(nn.Conv2d(a, 4 * b, 1) for a, b in itertools.pairwise(widths))
        self.refine = nn.ModuleList(Residual(b) for b in widths[1:])
        self.last = nn.Conv2d(widths[-1], 12, 3, padding=1)
        self._initialize()

    def _initialize(self) -> None:
        """Keeps the size of signals from layer to layer (He et al. 2015); residual blocks begin as the identity."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, _SLOPE)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        for module in self.modules():
            if isinstance(module, Residual):
                nn.init.zeros_(module.b.weight)

    def forward(self, codes: Tensor) -> Tensor:
        """See the class."""
        x = self.first(codes)
        whole = self.whole(self.down(functional.leaky_relu(x, _SLOPE)))
        x = self.mix(x + functional.pixel_shuffle(self.back(functional.leaky_relu(whole, _SLOPE)), 2))
        for up, refine in zip(self.up, self.refine, strict=True):
            x = refine(functional.pixel_shuffle(up(functional.leaky_relu(x, _SLOPE)), 2))
        return functional.pixel_shuffle(self.last(functional.leaky_relu(x, _SLOPE)), 2)


@final
class Prior(nn.Module):
    """The Gaussian prior of spatial codes: a code z, N(0, I), stands for the spatial code ``mean + z @ axes``.

    Args:
        mean: Mean spatial code of photographs, ``(d,)``.
        axes: Principal axes of the spatial codes of photographs as rows, times their standard deviations, ``(d, d)``.
    """

    mean: Tensor
    axes: Tensor

    def __init__(self, mean: Tensor, axes: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("axes", axes)
        self.side = round((len(mean) / CHANNELS) ** 0.5)

    def forward(self, codes: Tensor) -> Tensor:
        """Codes ``(n, d)`` -> spatial codes ``(n, 8, side, side)``."""
        spatial: Tensor = (self.mean + codes @ self.axes).reshape(-1, CHANNELS, self.side, self.side)
        return spatial

    def invert(self, spatial: Tensor) -> Tensor:
        """Spatial codes ``(n, 8, side, side)`` -> codes ``(n, d)``; 0 along axes on which photographs do not differ."""
        variance = self.axes.square().sum(1)
        whitened = (spatial.flatten(1) - self.mean) @ self.axes.T
        return torch.where(variance > 1e-8 * variance.max(), whitened / variance.clamp_min(1e-30), 0.0)


@final
class NativeNetwork(nn.Module):
    """Codes ``(n, d)``, prior N(0, I) -> images ``(n, 3, r, r)`` in [0, 1].

    Args:
        prior: From codes to spatial codes.
        decoder: From spatial codes to images.
        shell: Move codes to the sphere of radius ``sqrt(d)``, close to which draws from the prior lie.
    """

    def __init__(self, prior: Prior, decoder: SpatialDecoder, shell: bool) -> None:
        super().__init__()
        self.prior, self.decoder, self.shell = prior, decoder, shell

    def forward(self, codes: Tensor) -> Tensor:
        """See the class."""
        if self.shell:
            norm = torch.linalg.vector_norm(codes, dim=1, keepdim=True).clamp_min(1e-12)
            codes = codes * (codes.shape[1] ** 0.5 / norm)
        return cast(Tensor, (self.decoder(self.prior(codes)) / 2 + 0.5).clamp(0, 1))


def principal_axes(covariance: Tensor) -> Tensor:
    """Principal axes of a covariance ``(d, d)`` as rows, times their standard deviations, largest first."""
    values, vectors = torch.linalg.eigh(covariance.double())
    axes: Tensor = (values.clamp_min(0).sqrt() * vectors).T.flip(0).float().contiguous()
    return axes
