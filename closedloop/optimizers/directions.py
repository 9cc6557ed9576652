"""What FDGD and NES share: random directions, in mirrored pairs, and scores without their scale."""

from __future__ import annotations

import numpy as np

from closedloop.checks import check_flag
from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import FloatArray
from closedloop.optimizers.base import exponent_of


def check_pairs(population: int, antithetic: bool) -> None:
    """Raises unless ``population`` can be split into pairs, where it must be."""
    if check_flag("antithetic", antithetic) and population % 2:
        raise InvalidArgumentError(f"population: expected an even number for antithetic pairs, got {population}.")


def draw_directions(rng: np.random.Generator, n: int, dim: int, antithetic: bool) -> FloatArray:
    """Draws standard normal directions ``(n, dim)``; if antithetic the second half mirrors the first."""
    if not antithetic:
        return rng.standard_normal((n, dim))
    half = rng.standard_normal((n // 2, dim))
    return np.concatenate([half, -half])


def score_weights(scores: FloatArray, antithetic: bool) -> FloatArray:
    """Returns weights ``(n,)`` whose sum with directions is their mean, each times its standardized score.

    The scores count less their mean and over their standard deviation. A lost code, and where antithetic its mirror
    image, has no part in the mean.
    """
    lost = np.isnan(scores)
    if antithetic:
        lost = lost | np.roll(lost, len(scores) // 2)
    kept = scores[~lost]
    # Without at least two different scores there is no slope: all weights are 0, and nothing moves.
    if len(kept) < 2 or np.ptp(kept) == 0:
        return np.zeros(len(scores))
    unit = exponent_of(kept)
    scores, kept = np.ldexp(scores, -unit), np.ldexp(kept, -unit)
    return np.where(lost, 0.0, (scores - kept.mean()) / kept.std() / len(kept))
