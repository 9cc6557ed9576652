"""Controls of an evolution, one call each: what comes out where nothing can be learnt.

The fourth control needs no evolution: show natural images with `present`, and compare with the best of as many of them
as the evolution showed.
"""

from __future__ import annotations

from typing import Any

import xarray as xr

from closedloop.interfaces import Generator, Optimizer, Subject
from closedloop.optimizers import NoiseScores, RandomSearch, ShuffledScores
from closedloop.signatures import at_door

from .evolve import evolve


@at_door
def shuffled_scores(
    subject: Subject, generator: Generator, optimizer: Optimizer, *, seed: int = 0, **options: Any
) -> xr.Dataset:
    """Does as `evolve`, but the optimizer is told the scores of each generation in random order.

    The recording holds the true scores.

    Args:
        subject: The network or animal that is shown images.
        generator: Turns codes into images.
        optimizer: Proposes codes.
        seed: Of the shuffling, and of the presentation order.
        **options: Those of `evolve`.

    Returns:
        The recording.

    Raises:
        InvalidArgumentError: An argument does not fit; nothing is written.
    """
    return evolve(subject, generator, ShuffledScores(optimizer, seed), seed=seed, **options)


@at_door
def pure_noise(
    subject: Subject, generator: Generator, optimizer: Optimizer, *, seed: int = 0, **options: Any
) -> xr.Dataset:
    """Does as `evolve`, but the optimizer is told standard normal noise; arguments as for `shuffled_scores`."""
    return evolve(subject, generator, NoiseScores(optimizer, seed), seed=seed, **options)


@at_door
def random_codes(
    subject: Subject, generator: Generator, *, population: int = 40, seed: int = 0, **options: Any
) -> xr.Dataset:
    """Does as `evolve`, by independent draws from the generator's prior.

    Args:
        subject: The network or animal that is shown images.
        generator: Turns codes into images.
        population: Codes for each generation.
        seed: Of the codes, and of the presentation order.
        **options: Those of `evolve`.

    Returns:
        The recording.
    """
    optimizer = RandomSearch(generator.space, seed, population=population)
    return evolve(subject, generator, optimizer, seed=seed, **options)
