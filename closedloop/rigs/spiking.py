"""Spikes in time for a subject that has none: latency, a transient that is broadly tuned, and a sustained response.

A unit's rate after an image comes on is its baseline, then from its latency on a transient that decays, and a sustained
part until the image goes off; both decay after it. The transient is less selective than what follows (Tamura & Tanaka
2001, "Visual response properties of cells in the ventral and dorsal parts of the macaque inferotemporal cortex";
Sugase et al. 1999, "Global and fine information coded by single neurons in the temporal visual cortex"): its drive is
drawn to the mean drive of the first images. That mean stays as it is then: one that went on would rise with the images
that are evolved, and all references would seem to be answered more and more. Spikes are Poisson.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from closedloop.interfaces import State
from closedloop.presentations import Spikes
from closedloop.seeds import generator_state, named_generator, restore_generator

#: Seconds of a step in which a rate is constant.
STEP_S = 0.002


@dataclass(frozen=True)
class Course:
    """How a response goes on in time.

    Attributes:
        latency_s: Mean latency over units.
        latency_spread_s: Standard deviation of the latency over units.
        transient: Height of the transient, where the sustained part is 1.
        decay_s: Time constant of the transient, and of what is left after the image is off.
        coarse: How far the transient is drawn to the mean drive, 0 to 1.
        baseline_hz: Rate without an image.
        memory: First presentations over which the mean drive is taken.
    """

    latency_s: float = 0.06
    latency_spread_s: float = 0.01
    transient: float = 3.0
    decay_s: float = 0.03
    coarse: float = 0.5
    baseline_hz: float = 3.0
    memory: int = 100


@final
class Firing:
    """Fires spikes whose expected number in a window is what a response says.

    Args:
        units: How many units.
        window_s: The window in which spikes are counted, in seconds from the onset.
        spikes_per_response: Expected spikes there, above baseline, for a response of 1; of each unit ``(units,)``.
        course: How responses go on in time.
        seed: Of latencies and spikes.
    """

    def __init__(
        self,
        units: int,
        window_s: tuple[float, float],
        spikes_per_response: NDArray[np.float64],
        course: Course | None = None,
        seed: int = 0,
    ) -> None:
        self._course, self._window = course or Course(), window_s
        self._scale = np.broadcast_to(np.asarray(spikes_per_response, np.float64), units).copy()
        rng = named_generator(seed, "rig latencies")
        spread = self._course.latency_spread_s * rng.standard_normal(units)
        self.latency_s: NDArray[np.float64] = np.maximum(self._course.latency_s + spread, 0.02)
        self._rng = named_generator(seed, "rig spikes")
        self._mean, self._seen = np.zeros(units), 0  # mean drive of the first presentations, and how many these are

    def fire(
        self, responses: NDArray[Any], on_s: float, span_s: tuple[float, float], gain: NDArray[np.float64]
    ) -> Spikes:
        """Returns spikes of presentations.

        Args:
            responses: What the subject inside says, ``(n, units)``; below 0 counts as 0.
            on_s: Seconds that each image was shown.
            span_s: From when to when spikes are kept, in seconds from the onset.
            gain: Multiplies the drive of each presentation and unit, ``(n, units)``.
        """
        c, n, units = self._course, len(responses), len(self._scale)
        drive = np.maximum(responses, 0) * self._scale * gain
        mean = self._means(drive)
        steps = max(1, round((span_s[1] - span_s[0]) / STEP_S))
        times: NDArray[np.float64] = np.asarray(span_s[0] + STEP_S * (np.arange(steps) + 0.5), np.float64)
        transient, sustained = self._shapes(times, on_s)
        broad = (1 - c.coarse) * drive + c.coarse * mean
        rate = c.baseline_hz + broad[:, :, None] * transient + drive[:, :, None] * sustained
        counts = self._rng.poisson(rate * STEP_S)
        place = np.repeat(np.arange(counts.size), counts.ravel())
        presentation, unit, step = np.unravel_index(place, (n, units, steps))
        when = times[step] + STEP_S * (self._rng.random(len(place)) - 0.5)
        order = np.lexsort((when, presentation))
        number = counts.sum(axis=(1, 2))
        offsets = np.concatenate([[0], np.cumsum(number)]).astype(np.int64)
        return Spikes(np.round(when[order], 6), unit[order].astype(np.int32), offsets)

    def _means(self, drive: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns the mean drive of the first presentations, for each of these ``(n, units)``, and goes on with it.

        Until there are as many as it is taken over, it is that of all up to the end of this block.
        """
        new = drive[: max(0, self._course.memory - self._seen)]
        if len(new):
            self._mean = (self._seen * self._mean + new.sum(axis=0)) / (self._seen + len(new))
            self._seen += len(new)
        return np.broadcast_to(self._mean, drive.shape)

    def _shapes(self, times: NDArray[np.float64], on_s: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Returns transient and sustained part ``(units, steps)``, which add up to 1 over the window, in 1/s."""
        fine = self._window[0] + STEP_S * (np.arange(max(1, round(np.ptp(self._window) / STEP_S))) + 0.5)
        total = sum(part.sum(axis=1) for part in self._raw(fine, on_s)) * STEP_S
        scale = 1 / np.maximum(total, 1e-3)[:, None]
        transient, sustained = self._raw(times, on_s)
        return transient * scale, sustained * scale

    def _raw(self, times: NDArray[np.float64], on_s: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        c, t = self._course, times[None] - self.latency_s[:, None]
        begun = t >= 0
        transient = c.transient * np.exp(-np.maximum(t, 0) / c.decay_s) * begun
        sustained = np.where(t < on_s, 1.0, np.exp(-np.maximum(t - on_s, 0) / c.decay_s)) * begun
        return transient, sustained

    def state(self) -> State:
        """Returns the random generator, the mean drive, and over how many presentations it was taken."""
        return {"rng": generator_state(self._rng), "mean": self._mean, "seen": self._seen}

    def restore(self, state: State) -> None:
        """Goes back to a saved state; what stands in a journal of an older version has the mean that it had."""
        restore_generator(self._rng, state["rng"])
        known = state["mean"] is not None
        self._mean = np.array(state["mean"]) if known else np.zeros(len(self._scale))
        self._seen = int(state.get("seen", self._course.memory if known else 0))
