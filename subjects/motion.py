"""A model neuron for motion whose best movie is known: the motion energy of Adelson & Bergen (1985)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, final

import numpy as np

from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import Form, Units
from closedloop.seeds import named_generator

from .analytic import Array, EnergyModel, PerUnit, envelope_px, envelopes, quadrature_pairs


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class MotionEnergySubject(EnergyModel):
    """Direction-selective complex cells: the energy of a quadrature pair of Gabor filters that lean in space-time.

    The two filters are the even and the odd part of ``envelope · exp(2πi (f · across - w · t))``, with a Gaussian
    envelope in space and time (Adelson & Bergen 1985; their temporal filters are causal, these are Gabors). A grating
    that drifts as they lean drives both in quadrature, so that its phase does not matter; one that drifts the other way
    drives neither.

    `best_image` is the best movie, ``(frames, channels, h, w)``: within a contrast norm the even filter, a drifting
    Gabor patch, and over all movies in [0, 1] its black-and-white counterpart; see `EnergyModel`.

    Args:
        hz: Temporal frequency of each unit in cycles per second, at most half of `rate_hz`; by default a quarter of
            it. The stripes move across themselves: vertical ones (orientation 90) rightwards, and horizontal ones
            downwards; a negative frequency turns this round. Speed in image widths per second is
            ``|hz| / cycles_per_image``.
        frames: Pictures of each movie, at least 3.
        rate_hz: Pictures per second.
        sigma_s: Standard deviation of the envelope in time in seconds; None for a quarter of the movie.
        **options: Those of `EnergyModel`. Images are grey unless ``channels=3``.

    Raises:
        InvalidArgumentError: If a value is out of range or lists differ in length.
    """

    name: ClassVar[str] = "motion-energy"

    channels: int = 1
    hz: PerUnit = None
    frames: int = 8
    rate_hz: float = 20.0
    sigma_s: float | None = None

    def _check(self) -> None:
        Form(self.channels, self.frames, self.rate_hz)
        if self.frames < 3:
            raise InvalidArgumentError(f"frames: expected at least 3, which motion takes, got {self.frames!r}.")
        if self.sigma_s is not None and not 0 < self.sigma_s < np.inf:
            raise InvalidArgumentError(f"sigma_s: expected seconds above 0, got {self.sigma_s!r}.")

    def _defaults(self) -> dict[str, Any]:
        quarter = self.rate_hz / 4
        if self.count is None:
            return {**super()._defaults(), "hz": quarter}
        rng = named_generator(self.seed or 0, "motion")  # a stream of its own: the other draws stay as they are
        octaves = rng.uniform(-1, 0, self.count)
        return {**super()._defaults(), "hz": rng.choice([-1.0, 1.0], self.count) * quarter * 2**octaves}

    def _ranges(self) -> dict[str, tuple[float, float]]:
        return {**super()._ranges(), "hz": (-self.rate_hz / 2, self.rate_hz / 2)}

    @cached_property
    def units(self) -> Units:
        """One entry for each unit: its tuning in space, `hz`, `direction_deg` of motion (0 right, 90 up), and `speed`.

        Speed is in image widths per second.
        """
        inner = super().units
        orientation, hz, cycles = (self._columns[key] for key in ("orientation_deg", "hz", "cycles_per_image"))
        direction = (orientation - np.where(hz < 0, -90, 90)) % 360
        added = {"direction_deg": tuple(direction.tolist()), "speed": tuple((np.abs(hz) / cycles).tolist())}
        return Units(inner.neuroid_id, {**inner.coords, **added})

    @cached_property
    def _weights(self) -> Array:
        orientation, cycles, y, x, hz = (
            self._columns[key] for key in ("orientation_deg", "cycles_per_image", "y", "x", "hz")
        )
        sigma = envelope_px(cycles, self.resolution, self.bandwidth_octaves)
        in_space, across = envelopes(orientation, y, x, sigma, self.aspect, self.resolution)
        t = (np.arange(self.frames) - (self.frames - 1) / 2) / self.rate_hz
        in_time = np.exp(-0.5 * (t / (self.sigma_s or self.frames / self.rate_hz / 4)) ** 2)
        envelope = in_time[:, None] * in_space[:, None, :]
        # The phase in cycles, (units, frames, pixels): it stays the same for who moves along with the stripes.
        phase = (cycles[:, None] / self.resolution * across)[:, None, :] - hz[:, None, None] * t[:, None]
        wave = np.exp(2j * np.pi * phase)
        pairs = quadrature_pairs(envelope.reshape(self._count, -1), wave.reshape(self._count, -1))
        return self._scaled(pairs).reshape(2 * self._count, -1)
