"""The genetic algorithm of XDream with its settings for each image generator, and that of the first animal experiments.

Sources: Xiao & Kreiman 2020, "XDream", PLoS Computational Biology (settings tuned for each generator); Ponce et al.
2019, "Evolving images for visual neurons", Cell (the setting ``"2019"``).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, final

import numpy as np

from closedloop.checks import check_number, check_positive, is_whole
from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import FloatArray, Space
from closedloop.optimizers.base import (
    AskTell,
    check_choice,
    check_population,
    exponent_of,
    ranked,
)
from closedloop.signatures import at_door


@final
@dataclass(frozen=True)
class Breeding:
    """Numbers of the genetic algorithm.

    Attributes:
        population: Codes for each generation.
        mutation_rate: Probability that a coordinate of a child is mutated.
        mutation_size: Standard deviation of a mutation, in units of the space's prior standard deviation.
        selectivity: Standard deviation of the scores over the temperature kT of selection.
        heritability: Probability that a coordinate comes from the first of the two parents.
        n_conserve: Best codes that live on unchanged.
    """

    population: int
    mutation_rate: float
    mutation_size: float
    selectivity: float
    heritability: float = 0.5
    n_conserve: int = 0

    def __post_init__(self) -> None:
        check_population(self.population, 2)
        check_number("mutation_rate", self.mutation_rate, 0, 1)
        check_positive("mutation_size", self.mutation_size)
        check_positive("selectivity", self.selectivity)
        check_number("heritability", self.heritability, 0, 1)
        if not (is_whole(self.n_conserve) and 0 <= self.n_conserve < self.population):
            raise InvalidArgumentError(
                f"n_conserve: expected a whole number below the population of {self.population}, "
                f"got {self.n_conserve!r}."
            )


#: By the layer that the generator inverts, as tuned by Xiao & Kreiman 2020; and the setting of Ponce et al. 2019.
SETTINGS = {
    "norm1": Breeding(15, 1.0, 1.5, 2.0),
    "norm2": Breeding(10, 0.5, 0.7, 4.0),
    "conv3": Breeding(12, 0.65, 0.75, 2.25),
    "conv4": Breeding(10, 0.9, 0.75, 2.5),
    "pool5": Breeding(10, 0.6, 1.0, 2.5, heritability=0.75),
    "fc6": Breeding(20, 0.5, 0.5, 2.0),
    "fc7": Breeding(45, 0.6, 0.3, 1.25),
    "fc8": Breeding(20, 0.2, 0.6, 2.0),
    "2019": Breeding(40, 0.25, 0.75, 0.5, heritability=0.75, n_conserve=10),
}


@final
class GeneticAlgorithm(AskTell):
    """Children of two parents each, chosen by their scores. O(population · dim) memory.

    The first generation are draws from the prior. Lost codes are shown again in the next one.

    Args:
        space: Where to search. In a bounded space mutated codes are moved to the bounds.
        seed: Seed of its own random generator.
        setting: Which numbers: "norm1", "norm2", "conv3", "conv4", "pool5", "fc6", "fc7" or "fc8" (the layer that the
            generator inverts), or "2019".
        population: Codes for each generation, if other than the setting's; likewise all that follow.
        mutation_rate: Probability that a coordinate of a child is mutated.
        mutation_size: Standard deviation of a mutation, in units of the space's prior standard deviation. The settings'
            numbers are in code units of the generators of `closedloop.generators.deepsim`, and are so there (0.5 in
            fc6, whose prior has 3); on other generators they count in units of the prior.
        selectivity: Standard deviation of the scores over the temperature of selection.
        heritability: Probability that a coordinate comes from the first of the two parents.
        n_conserve: Best codes that live on unchanged.
    """

    memory: ClassVar[tuple[str, ...]] = ("population_codes",)

    @at_door
    def __init__(
        self,
        space: Space,
        seed: int = 0,
        *,
        setting: str = "fc6",
        population: int | None = None,
        mutation_rate: float | None = None,
        mutation_size: float | None = None,
        selectivity: float | None = None,
        heritability: float | None = None,
        n_conserve: int | None = None,
    ) -> None:
        check_choice("setting", setting, tuple(SETTINGS))
        given: dict[str, Any] = {
            "population": population,
            "mutation_rate": mutation_rate,
            "mutation_size": mutation_size,
            "selectivity": selectivity,
            "heritability": heritability,
            "n_conserve": n_conserve,
        }
        published = SETTINGS[setting]
        published = replace(published, mutation_size=space.in_scale(published.mutation_size))
        self.breeding: Breeding = replace(published, **{k: v for k, v in given.items() if v is not None})
        super().__init__(space, seed, setting=setting, **asdict(self.breeding))
        self.name = "ga-2019" if setting == "2019" else "xdream-ga"
        self.population: int = int(self.breeding.population)
        self._population_codes: FloatArray | None = None

    def _propose(self) -> FloatArray:
        """Returns the next generation ``(population, dim)``; draws from the prior at first."""
        if self._population_codes is None:
            return self.space.sample(self.population, self._rng)
        return self._population_codes

    def _learn(self, codes: FloatArray, scores: FloatArray) -> None:
        """Breeds the next generation: what was lost, the best as they are, and children."""
        best, lost = ranked(scores), np.flatnonzero(np.isnan(scores))
        kept = best[: min(self.breeding.n_conserve, self.population - len(lost))]
        children = self._children(codes[best], scores[best], self.population - len(lost) - len(kept))
        self._population_codes = np.concatenate([codes[kept], codes[lost], children])

    def _children(self, codes: FloatArray, scores: FloatArray, n: int) -> FloatArray:
        """Breeds ``n`` children ``(n, dim)`` of ranked codes."""
        if n == 0:
            return np.empty((0, self.space.dim))
        b = self.breeding
        # Two parents of each child, with replacement: a code may be both.
        parents = self._rng.choice(len(codes), size=(2, n), p=_fitness(scores, b.selectivity))
        # Uniform crossover: each coordinate by itself from the first parent with probability `heritability`.
        first = self._rng.random((n, self.space.dim)) < b.heritability
        children = np.where(first, codes[parents[0]], codes[parents[1]])
        mutated = self._rng.random(children.shape) < b.mutation_rate
        mutation = b.mutation_size * self.space.scale * self._rng.standard_normal(children.shape)
        return self.space.clip(children + mutated * mutation)


def _fitness(scores: FloatArray, selectivity: float) -> FloatArray:
    """Returns the probability of being a parent: exp((s - max s) / kT), scores clipped at their 95th percentile."""
    scores = np.ldexp(scores, -exponent_of(scores))
    # kT in units of the scores, so that their unit is no matter; where all are alike, all are parents alike.
    temperature = scores.std() / selectivity or 1.0
    clipped = np.minimum(scores, np.percentile(scores, 95))
    fitness = np.exp((clipped - clipped.max()) / temperature)
    return np.asarray(fitness / fitness.sum())


def ga_2019(
    space: Space,
    seed: int = 0,
    *,
    setting: str = "2019",
    population: int | None = None,
    mutation_rate: float | None = None,
    mutation_size: float | None = None,
    selectivity: float | None = None,
    heritability: float | None = None,
    n_conserve: int | None = None,
) -> GeneticAlgorithm:
    """Makes a `GeneticAlgorithm` as in the first animal experiments: 40 codes, of which the ten best live on."""
    check_choice("setting", setting, ("2019",))
    return GeneticAlgorithm(
        space,
        seed,
        setting=setting,
        population=population,
        mutation_rate=mutation_rate,
        mutation_size=mutation_size,
        selectivity=selectivity,
        heritability=heritability,
        n_conserve=n_conserve,
    )
