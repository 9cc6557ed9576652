"""What every training of a native generator shares: one step, its precision, averages, and its state.

All random numbers of a step follow from the seed and the step's number, so that what resumes goes on as if it had never
stopped.
"""

from __future__ import annotations

import hashlib
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from closedloop.errors import InvalidArgumentError
from closedloop.networks.weights import weights_sha256
from closedloop.seeds import numbered_generator, torch_seed

from .judges import Adversary, FeatureTaps, fine_detail, second_moments
from .training_settings import TrainingSettings

#: Least magnitude by which features are divided; photographs of one colour have no fine detail.
LEAST = 1e-2
#: Losses of a step, feature maps of photographs, and sets of those of images to be judged: none before draws come in.
Learnt = tuple[dict[str, Tensor], list[Tensor], list[list[Tensor]]]


#: What trainings of before do not say of themselves: they have no origin, and no model but the first.
_FIRST: dict[str, dict[str, Any]] = {"settings": {"model": "spatial"}, "origin": {}}


class Trainer(ABC):
    """A training under way: networks, their running averages, optimizers and the number of the step.

    Args:
        crops: 8-bit photographs, see `closedloop.generators.training.cut_crops`.
        taps: The frozen network, on the device of the training.
        settings: The numbers.
        device: Where to train.
        start: Weights to begin with; None begins at random ones.

    Attributes:
        nets: What learns.
        origin: SHA-256 of what the training began with: photographs as cut, weights of the frozen network, `start`.
        precision: "bfloat16" or "single", in which the dear parts of a step are computed. It is chosen once, by what is
            quicker here, and stays with the training.
        pace: Factor of both learning rates, 1 unless the training has diverged and gone back.
    """

    def __init__(
        self,
        crops: NDArray[np.uint8],
        taps: FeatureTaps,
        settings: TrainingSettings,
        device: str | torch.device = "cpu",
        start: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.settings, self.device, self.crops = settings, torch.device(device), crops
        self.taps = taps.to(self.device)
        self.origin = {
            "photographs": hashlib.sha256(np.ascontiguousarray(crops).data).hexdigest(),
            "features": f"{', '.join(taps.layers)}: {weights_sha256(taps.network.state_dict())}",
            "start": None if start is None else weights_sha256(start),
        }
        self.precision = quicker_precision(self.device) if settings.precision == "quicker" else settings.precision
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_seed(settings.seed))
            self.nets = self._build(start)
            with torch.no_grad():
                first = self._photographs(np.arange(8) % len(self.crops))
                features = maps_of(first, self.taps(first))
            scales = torch.stack([f.square().mean().sqrt().clamp_min(LEAST) for f in features])
            self.adversary = Adversary([f.shape[1] for f in features], scales).to(self.device)
            self.moments = [second_moments(f) for f in features]
        self.nets.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = {k: v.detach().clone() for k, v in self.nets.state_dict().items()}
        learns = [p for p in self.nets.parameters() if p.requires_grad]
        self.adam = torch.optim.Adam(learns, settings.learning_rate, (0.9, 0.99))
        self.adversary_adam = torch.optim.Adam(self.adversary.parameters(), settings.adversary_rate, (0.5, 0.99))
        self.step, self.seconds, self.pace, self._usual_norm = 0, 0.0, 1.0, float("inf")

    @abstractmethod
    def _build(self, start: Mapping[str, Tensor] | None) -> nn.ModuleDict:
        """Returns the networks that learn."""

    @abstractmethod
    def _learn(self, real: Tensor, noise: torch.Generator) -> Learnt:
        """Returns the losses of a step, for photographs ``(n, 3, r, r)`` in [-1, 1]."""

    @abstractmethod
    def weights(self) -> dict[str, float]:
        """Weights of the losses at this step."""

    @abstractmethod
    def own_state(self) -> dict[str, Any]:
        """Returns what this kind of training remembers beside what all do."""

    @abstractmethod
    def restore_own(self, state: Mapping[str, Any]) -> None:
        """Takes back what `own_state` gave."""

    @abstractmethod
    def sheet(self, real: Tensor, draws: int) -> tuple[Tensor, Tensor]:
        """Reconstructions of photographs in [0, 1], and draws from the prior, by the running average."""

    @abstractmethod
    def write(self, out: Path, facts: Mapping[str, Any]) -> None:
        """Writes the file of weights."""

    def _photographs(self, index: NDArray[np.int_]) -> Tensor:
        """Crops by index, as images ``(n, 3, r, r)`` in [-1, 1]."""
        batch = torch.from_numpy(self.crops[index]).to(self.device).float() / 127.5 - 1
        return batch.contiguous(memory_format=torch.channels_last)

    def autocast(self) -> torch.autocast:
        """Returns the context in which the dear parts of a step are computed, in the precision of this training."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")

    def run_step(self) -> dict[str, float]:
        """Updates all networks once; returns the losses."""
        settings = self.settings
        rng = numbered_generator(settings.seed, 2, self.step)
        noise = torch.Generator().manual_seed(int(rng.integers(2**62)))
        self._set_rate()
        losses, wanted, drawn = self._learn(self._photographs(rng.integers(0, len(self.crops), settings.batch)), noise)
        self.adam.zero_grad(set_to_none=True)
        weights = self.weights()
        torch.autograd.backward(total(weights[name] * value for name, value in losses.items()))
        self._descend()
        if drawn:
            losses["judged"] = self._teach_adversary(wanted, drawn)
        self._follow_weights()
        self.step += 1
        return {name: float(value.detach()) for name, value in losses.items()}

    def _descend(self) -> None:
        """Updates the networks by their gradients, shortened where they are unusually long; not if one is no number."""
        learns = [p for group in self.adam.param_groups for p in group["params"]]
        longest = 4.0 * self._usual_norm  # so many times its usual norm a gradient may have
        norm = float(nn.utils.clip_grad_norm_(learns, longest))
        if np.isfinite(norm):
            first = np.isinf(self._usual_norm)
            self._usual_norm = norm if first else 0.98 * self._usual_norm + 0.02 * min(norm, longest)  # some 50 steps
            self.adam.step()

    @torch.no_grad()
    def _follow_weights(self) -> None:
        """Follows the weights by a running average, Polyak's."""
        keep = min(self.settings.average, (1 + self.step) / (10 + self.step))  # the first weights are soon forgotten
        for name, value in self.nets.state_dict().items():
            self.average[name].lerp_(value, 1 - keep)

    def _set_rate(self) -> None:
        """Sets the rate: it rises over 100 steps, and falls to 3 % over the last quarter."""
        left = (self.settings.steps - self.step) / (0.25 * self.settings.steps)
        factor = self.pace * min(1.0, (self.step + 1) / 100, max(0.03, left))
        for optimizer, rate in (
            (self.adam, self.settings.learning_rate),
            (self.adversary_adam, self.settings.adversary_rate),
        ):
            for group in optimizer.param_groups:
                group["lr"] = rate * factor

    def rise(self) -> float:
        """Returns the share of their weights that losses of draws have: it rises over as many steps as they waited."""
        start = self.settings.draws_start
        return float(np.clip((self.step - start) / start, 0, 1)) if start else 1.0

    def fooled(self, drawn: list[list[Tensor]]) -> Tensor:
        """Returns how the adversary judges sets of feature maps, high where they look real. It learns nothing."""
        self.adversary.requires_grad_(False)
        with self.autocast():
            judged = [j.float().mean() for features in drawn for j in self.adversary(features)]
        self.adversary.requires_grad_(True)
        return torch.stack(judged).mean()

    def difference_of_moments(self, wanted: list[Tensor], drawn: list[Tensor]) -> Tensor:
        """Returns how far second moments of the maps of draws are from those of photographs, which this follows."""
        parts = []
        for natural, w, f in zip(self.moments, wanted, drawn, strict=True):
            natural.lerp_(second_moments(w), 0.02)  # the moments of photographs, over some 50 steps
            size = natural.diagonal().clamp_min(LEAST**2).sqrt()
            # |M_ij - N_ij| / √(N_ii N_jj): a difference of correlations, whatever the scale of a feature.
            parts.append(((second_moments(f) - natural) / torch.outer(size, size)).abs().mean())
        return total(parts)

    def _teach_adversary(self, wanted: list[Tensor], drawn: list[list[Tensor]]) -> Tensor:
        """Updates the adversary once by the hinge loss; returns that."""
        with self.autocast():
            real = self.adversary([f.detach() for f in wanted])
            sets = [self.adversary([f.detach() for f in features]) for features in drawn]
        # Hinge loss: max(0, 1 - D(x)) of photographs, max(0, 1 + D(x)) of draws (Miyato et al. 2018, eq. 16).
        parts = [functional.relu(1 - r.float()).mean() for r in real]
        others = [functional.relu(1 + d.float()).mean() for judged in sets for d in judged]
        loss = torch.stack(parts).mean() + torch.stack(others).mean()
        self.adversary_adam.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.adversary_adam.step()
        return loss.detach()

    def state(self) -> dict[str, Any]:
        """Returns all that is needed to go on identically: tensors and plain values."""
        return {
            "settings": asdict(self.settings),
            "origin": self.origin,
            "precision": self.precision,
            "step": self.step,
            "nets": self.nets.state_dict(),
            "average": self.average,
            "adversary": self.adversary.state_dict(),
            "adam": self.adam.state_dict(),
            "adversary_adam": self.adversary_adam.state_dict(),
            "moments": self.moments,
            "pace": self.pace,
            "usual_norm": self._usual_norm,
            "seconds": self.seconds,
            **self.own_state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes back to a saved state.

        Raises:
            InvalidArgumentError: It belongs to a training with other settings.
        """
        mine = {"settings": asdict(self.settings), "origin": self.origin}
        for part, now in mine.items():
            then = _FIRST[part] | state.get(part, {})
            other = {k: v for k, v in then.items() if v != now.get(k) and k != "steps"}  # how long may be changed
            if other:
                raise InvalidArgumentError(
                    f"{part}: the training under way has {other}; give the same, or another --out to begin a new one."
                )
        self.precision = state.get("precision", "bfloat16")
        self.step = int(state["step"])
        self.nets.load_state_dict(state["nets"])
        self.adversary.load_state_dict(state["adversary"])
        self.adam.load_state_dict(state["adam"])
        self.adversary_adam.load_state_dict(state["adversary_adam"])
        self.average = {k: v.to(self.device) for k, v in state["average"].items()}
        self.moments = [m.to(self.device) for m in state["moments"]]
        self.pace, self._usual_norm = float(state.get("pace", 1)), float(state.get("usual_norm", "inf"))
        self.seconds = float(state["seconds"])
        self.restore_own(state)


def quicker_precision(device: torch.device) -> str:
    """Measures in which precision this processor learns faster: "single", or "bfloat16" where that saves a fifth.

    Processors without instructions for bfloat16 emulate it, which takes some fifteen times as long.
    """
    with torch.random.fork_rng(devices=[]):
        layer = nn.Conv2d(32, 32, 3, padding=1)
    layer.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.zeros((8, 32, 32, 32), device=device).contiguous(memory_format=torch.channels_last)

    def seconds(enabled: bool) -> float:
        began = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=enabled):
            loss = layer(layer(images).relu()).float().square().mean()
        torch.autograd.backward(loss)
        float(layer.weight.grad.sum())  # type: ignore[union-attr] # waits for the device
        return time.perf_counter() - began

    took = {enabled: min(seconds(enabled) for _ in range(4)) for enabled in (False, True)}
    return "bfloat16" if took[True] < 0.8 * took[False] else "single"


def maps_of(images: Tensor, features: Sequence[Tensor]) -> list[Tensor]:
    """Returns what adversary and moments look at: the fine detail of images, and those features that are maps."""
    return [fine_detail(images), *(f for f in features if f.ndim == 4)]


def total(parts: Iterable[Tensor]) -> Tensor:
    """Returns the sum of scalars."""
    return torch.stack(list(parts)).sum()


def leaning_draws(n: int, dim: int, leaning: float, noise: torch.Generator) -> Tensor:
    """Draws ``(n, dim)`` from N(0, I), every other one leaning towards its first axes, as codes that a search finds."""
    z = torch.randn((n, dim), generator=noise)
    # Leaning draws: each axis stretched log-normally, and later axes shrunk by rank^(-leaning u / 2), u uniform.
    rank = torch.arange(1, dim + 1)
    shrink = rank ** -(0.5 * leaning * torch.rand((n, 1), generator=noise))
    stretch = torch.exp(leaning * torch.randn((n, dim), generator=noise))
    z[1::2] *= (stretch * shrink)[1::2]
    return z
