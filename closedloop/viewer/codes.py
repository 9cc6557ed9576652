"""Images from a generator's codes: along its main directions, on a walk, and on the way from one draw to another."""

from __future__ import annotations

from functools import cached_property
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from closedloop.interfaces import Described, Differentiable, FloatArray, Generator
from closedloop.seeds import named_generator

#: How far a slider goes, in standard deviations of the prior.
REACH = 6.0
#: The largest seed, and the longest walk in draws.
MOST_SEED, MOST_STEPS = 2**31, 1e6
#: Steps of a walk from one draw to the next.
STEPS = 24


@final
class Codes:
    """A generator and its main directions.

    Args:
        generator: What makes the images.
    """

    def __init__(self, generator: Generator) -> None:
        self.generator = generator

    @cached_property
    def directions(self) -> FloatArray:
        """Directions ``(k, dim)`` of length 1, those that change an image most first.

        The coordinates of the native generator are principal components by construction; of others the axes of the
        metric are found, and where they cannot be differentiated the first coordinates stand for them.
        """
        dim = self.generator.space.dim
        k = min(8, dim)  # sliders
        recipe = self.generator.recipe if isinstance(self.generator, Described) else None
        if (recipe or {}).get("name") == "native" or not isinstance(self.generator, Differentiable):
            return np.eye(k, dim)
        from closedloop.generators import image_metric

        return image_metric(self.generator, k, codes=2)[1]

    def facts(self) -> dict[str, Any]:
        """Returns what the interface of the server says of it."""
        return {
            "generator": self.generator.name,
            "dim": self.generator.space.dim,
            "directions": len(self.directions),
            "reach": REACH,
        }

    def code(
        self, amounts: list[float], seed: int, morph: tuple[int, int, float] | None = None, step: float = 0
    ) -> FloatArray:
        """Returns a code ``(1, dim)``.

        Args:
            amounts: How far along each direction, in standard deviations of the prior; those that are missing are 0.
            seed: Of the draw from the prior that it begins with.
            morph: Instead of that, two seeds, and how far from the one to the other, 0 to 1, on the arc between them.
            step: Steps on a walk from draw to draw, which begins at the seed.
        """
        space = self.generator.space
        first, second, share = morph or (seed, seed, 0.0)
        begin = arc(self._drawn(first), self._drawn(second), share)
        if step:
            at, part = divmod(step / STEPS, 1)
            here = begin if at == 0 else self._drawn(seed, int(at))
            begin = arc(here, self._drawn(seed, int(at) + 1), part)
        moved = begin + space.scale * np.asarray(amounts, float) @ self.directions[: len(amounts)]
        return np.asarray(space.clip(moved[None]))

    def _drawn(self, seed: int, walk: int = 0) -> FloatArray:
        name = f"viewer-{walk}" if walk else "viewer"
        return np.asarray(self.generator.space.sample(1, named_generator(seed, name))[0])

    def image(self, code: FloatArray) -> NDArray[np.float32]:
        """Makes the image ``(1, channels, h, w)`` in [0, 1], or the movie, of a code."""
        return self.generator(code)


def arc(first: FloatArray, second: FloatArray, share: float) -> FloatArray:
    """Returns the point between two codes on the arc from one to the other, of a length between theirs.

    In many dimensions draws from a normal prior have nearly one length, and the straight line between two leaves it.
    """
    if share == 0:
        return first
    lengths = np.linalg.norm(first), np.linalg.norm(second)
    if min(lengths) == 0:
        return (1 - share) * first + share * second
    angle = float(np.arccos(np.clip(first @ second / (lengths[0] * lengths[1]), -1, 1)))
    if np.sin(angle) < 1e-6:
        return (1 - share) * first + share * second
    weights = np.sin((1 - share) * angle) / np.sin(angle), np.sin(share * angle) / np.sin(angle)
    direction = weights[0] * first / lengths[0] + weights[1] * second / lengths[1]
    return np.asarray(((1 - share) * lengths[0] + share * lengths[1]) * direction)
