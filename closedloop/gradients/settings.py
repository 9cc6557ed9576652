"""How a gradient is taken, and what it tells a method."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, final

import numpy as np

from closedloop.checks import check_whole
from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import FloatArray, Generator, Objective, View
from closedloop.seeds import check_seed, check_stream, current_stream


@final
@dataclass(frozen=True, eq=False)
class Anchor:
    """A code near whose image an ascent is held, by what other units answer to it (Hamblin et al. 2024, accentuation).

    The distance is the length of the difference of the responses of `columns` to image and anchor under one view, mean
    over the pictures. Its weight is `alpha` ‖g‖₁ / ‖h‖₁, where g and h are the gradients of the objective and of the
    distance, measured once: in the first step in which h is not zero (at the anchor itself it is).

    Attributes:
        code: ``(dim,)``.
        columns: Units whose responses are compared.
        alpha: See above; at least 0.
    """

    code: FloatArray
    columns: tuple[int, ...]
    alpha: float = 1.0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.alpha) and self.alpha >= 0):
            raise InvalidArgumentError(f"alpha: expected a finite number of at least 0, got {self.alpha!r}.")
        if len(self.columns) == 0:
            raise InvalidArgumentError(
                "columns: expected one or more units whose responses are compared, got none; record a layer beside the "
                "unit, or leave the anchor out (alpha=0)."
            )


@final
@dataclass(frozen=True)
class GradientSettings:
    """How a gradient is taken; for threads whose optimizer needs one.

    Attributes:
        view: What the subject is shown of an image meanwhile, see `closedloop.gradients.views`; None for the image.
        every: Steps from one presentation of the image itself to the next; only presentations are recorded.
        redirected: In so many first steps, rectifiers that let no gradient of an image through are opened, see
            `closedloop.gradients.redirected`.
        seed: Of the view's random numbers.
        anchor: What the images are held to; None for nothing.
        stream: How the view draws, see `closedloop.seeds.STREAM`; that of the run which it belongs to.
    """

    view: View | None = None
    every: int = 1
    redirected: int = 0
    seed: int = 0
    anchor: Anchor | None = None
    stream: int = field(default_factory=current_stream)

    def __post_init__(self) -> None:
        check_whole("every", self.every, 1)
        check_whole("redirected", self.redirected, 0)
        check_seed(self.seed)
        check_stream(self.stream)


@dataclass(frozen=True)
class Slope:
    """What a gradient method is told of the codes of one thread.

    Attributes:
        scores: ``(n,)``, mean over the pictures that the view makes of an image.
        gradients: Of the scores with respect to the codes, ``(n, dim)``.
        pictures: How many pictures the subject was shown for it; each costs a forward and a backward pass.
        distances: From the anchor, ``(n,)``; None without one.
        pulls: Their gradients, ``(n, dim)``.
    """

    scores: FloatArray
    gradients: FloatArray
    pictures: int
    distances: FloatArray | None = None
    pulls: FloatArray | None = None


class Climbing(Protocol):
    """A thread as the way of gradients sees it: what is climbed, in whose codes, and how."""

    @property
    def name(self) -> str:
        """Its name, for errors."""
        ...

    @property
    def generator(self) -> Generator:
        """Turns codes into images; differentiable."""
        ...

    @property
    def objective(self) -> Objective:
        """What is climbed."""
        ...

    @property
    def gradient(self) -> GradientSettings:
        """How gradients are taken."""
        ...
