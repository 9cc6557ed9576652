"""SphereCMA: an evolution strategy on the shell on which a Gaussian code lives, with a planned decay of its step.

In thousands of dimensions the codes of a Gaussian prior lie near a sphere, and an image generator makes its most
natural images there. So codes stay on a sphere, the mean moves along great circles, and the angle between mean and
samples shrinks by a plan instead of by adaptation. Source: Wang & Ponce 2022, "High-performance evolutionary
algorithms for online neuron control", GECCO (SphereCMA; their ``exp`` and ``inv`` decays, 75 generations).
"""

from __future__ import annotations

from typing import ClassVar, final

import numpy as np

from closedloop.checks import check_positive
from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import FloatArray, Space
from closedloop.optimizers.base import (
    MeanSearch,
    check_budget,
    check_choice,
    check_population,
    check_start,
    log_weights,
    ranked,
)
from closedloop.signatures import at_door

#: Generations over which the schedules of Wang & Ponce 2022 run (some 3,000 images).
PUBLISHED_GENERATIONS = 75


@final
class SphereCMA(MeanSearch):
    """Weighted recombination on a sphere; the angle of the samples decays by a schedule. O(dim) memory.

    The first generation are random codes on the sphere; each later one is the mean's own code and ``population`` codes
    around it. The mean's own score and lost codes are left out of the ranking. Past the schedule the angle stays.

    Args:
        space: Where to search. The sphere lies around the middle of the prior; in a bounded space codes that leave
            the bounds are moved to them.
        seed: Seed of its own random generator.
        images: Budget of codes to which the schedule is tied; default the paper's 75 generations.
        schedule: ``"exp"``: angles fall from 50° to 7.33° by a constant factor; ``"inv"``: 15° + 1 / (0.0017 k +
            0.0146) in generation k of 75.
        population: Samples for each generation.
        lr: How far the mean goes, as a multiple of the angle to the weighted mean of the best half; above 1 beyond it.
        radius: Of the sphere, in code units; default scale · √dim, the shell of the space's prior. The paper's
            value for the codes of the fc6 generator is 300.
        start: A code ``(dim,)`` to begin around (moved to the sphere) instead of with random codes.
    """

    name = "sphere-cma"
    memory: ClassVar[tuple[str, ...]] = ("x", "k")

    @at_door
    def __init__(
        self,
        space: Space,
        seed: int = 0,
        *,
        images: int | None = None,
        schedule: str = "exp",
        population: int = 40,
        lr: float = 1.5,
        radius: float | None = None,
        start: FloatArray | None = None,
    ) -> None:
        if space.dim < 2:
            raise InvalidArgumentError(f"space: expected at least 2 dimensions for a sphere, got {space.dim}.")
        check_budget(images)
        check_choice("schedule", schedule, ("exp", "inv"))
        check_population(population, 2)
        check_positive("lr", lr)
        if radius is not None:
            check_positive("radius", radius)
        first = None if start is None else check_start(start, space)
        if first is not None and np.allclose(first, space.center):
            raise InvalidArgumentError(
                "start: expected a code away from the middle of the prior; the middle has no direction."
            )
        super().__init__(
            space, seed, images=images, schedule=schedule, population=int(population), lr=lr, radius=radius, start=first
        )
        self.population: int = int(population)
        self.schedule: str = schedule
        self.lr: float = float(lr)
        self.radius: float = space.scale * np.sqrt(space.dim) if radius is None else float(radius)
        self.generations: int = PUBLISHED_GENERATIONS if images is None else self._generations(images)
        self._x: FloatArray | None = None if first is None else self._to_sphere(first - space.center)
        self._k = 0

    @property
    def budget(self) -> int | None:
        """The codes that it was told it may ask for; None as long as nobody has said it."""
        images: int | None = self._options["images"]
        return images

    def plan(self, images: int) -> None:
        """Ties the schedule to a budget of `images` codes; before the first `ask`."""
        self.generations = self._generations(self._take_budget(images))

    def _generations(self, images: int) -> int:
        """Returns how many generations fit into a budget; from the second on the mean is shown, too."""
        return 1 + max(images - self.population, 0) // (self.population + 1)

    def angle_deg(self, k: int) -> float:
        """Returns the expected angle between mean and samples in generation ``k``, counted from 0, in degrees."""
        if self.schedule == "inv":
            # The paper's schedule, stretched or shrunk to this budget.
            step = PUBLISHED_GENERATIONS * min(k, self.generations) / self.generations
            return 15 + 1 / (0.0017 * step + 0.0146)
        first, last = 50.0, 7.33  # geometric between the two, as in the paper's ``exp``
        return float(first * (last / first) ** min(k / max(self.generations - 1, 1), 1.0))

    def _mean(self) -> FloatArray | None:
        """Returns x ``(dim,)``, from the middle of the prior; None before the first scores."""
        return self._x

    def _placed(self, codes: FloatArray) -> FloatArray:
        """Moves means ``(n, dim)`` from the middle of the prior out to the sphere, and within the bounds."""
        return self.space.clip(self.space.center + self._to_sphere(codes))

    def _propose(self) -> FloatArray:
        """Returns mean and codes around it, ``(population + 1, dim)``; at first random codes ``(population, dim)``."""
        u = self._rng.standard_normal((self.population, self.space.dim))
        if self._x is None:
            return self.space.clip(self.space.center + self._to_sphere(u))
        n = self._x / self.radius
        u -= np.outer(u @ n, n)  # into the tangent plane at x
        length = np.linalg.norm(u, axis=1, keepdims=True)
        # ‖u‖ is about √dim: the angle varies a little from sample to sample around that of the schedule.
        angle = np.radians(self.angle_deg(self._k)) / np.sqrt(self.space.dim) * length
        toward = self.radius * u / np.maximum(length, 1e-300)
        around = np.cos(angle) * self._x + np.sin(angle) * toward  # exponential map: along a great circle from x
        return self.space.clip(self.space.center + np.vstack([self._x, around]))

    def _learn(self, codes: FloatArray, scores: FloatArray) -> None:
        """Moves the mean along the great circle through the weighted mean of the better codes."""
        self._k += 1
        around = slice(0, None) if self._x is None else slice(1, None)  # the mean's own code comes first
        best = ranked(scores[around])
        if len(best) < 2:
            return
        w = log_weights(len(best))
        # The weighted mean lies inside the sphere; it is moved out to it. With lr > 1 x goes beyond it.
        mean = self._to_sphere(w @ (codes[around][best[: len(w)]] - self.space.center))
        self._x = mean if self._x is None else self._to_sphere(slerp(self._x, mean, self.lr))

    def _to_sphere(self, x: FloatArray) -> FloatArray:
        """Brings vectors ``(…, dim)`` from the middle to the sphere's radius."""
        return np.asarray(x * (self.radius / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-300)))


def slerp(a: FloatArray, b: FloatArray, t: float) -> FloatArray:
    """Interpolates on the sphere from ``a`` (t = 0) to ``b`` (t = 1), both ``(dim,)``; beyond ``b`` for t > 1."""
    unit_a, unit_b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    # Half the angle from the chord and from the sum: exact where the arc cosine of their product loses its digits.
    angle = 2 * np.arctan2(np.linalg.norm(unit_a - unit_b), np.linalg.norm(unit_a + unit_b))
    if np.sin(angle) < 1e-9:  # the same or opposite: no great circle is marked out
        return a if angle < 1 else b
    return np.asarray((np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle))
