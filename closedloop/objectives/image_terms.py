"""Terms that look at the images ``(n, 3, h, w)`` in [0, 1], numpy or torch: priors, to be subtracted.

They take grey images and movies ``(n, frames, channels, h, w)`` too. All are means over pixels, colours and frames, so
that their weights do not depend on the resolution. A presentation that was lost scores NaN here too.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from closedloop.checks import check_number, check_positive
from closedloop.errors import InvalidArgumentError
from closedloop.objectives.algebra import Term
from closedloop.objectives.selecting import lost


class ImageTerm(Term):
    """A term that depends on the images; responses only say what was lost."""

    @property
    def needs_images(self) -> bool:
        """Always."""
        return True

    def __call__(self, responses: Any, images: Any = None) -> Any:
        """Turns images ``(n, 3, h, w)`` in [0, 1] into scores ``(n,)``, NaN where the presentation was lost."""
        scores = self.of_images(given_images(images, responses, self.describe))
        return without_lost(scores, responses)

    @abstractmethod
    def of_images(self, images: Any) -> Any:
        """Turns images ``(n, 3, h, w)`` into scores ``(n,)``."""


@final
@dataclass(frozen=True)
class TotalVariation(ImageTerm):
    """Mean over pixels and colours of (dx² + dy²)^(β/2) (Mahendran & Vedaldi 2015, who sum), 0 for a uniform image.

    Attributes:
        beta: β. 2 punishes edges most, 1 is classical total variation.
    """

    beta: float = 2.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "beta", check_positive("beta", self.beta))

    def of_images(self, images: Any) -> Any:
        """Turns images ``(n, 3, h, w)``, at least 2 pixels high and wide, into scores ``(n,)``."""
        if min(images.shape[-2:]) < 2:
            raise InvalidArgumentError(f"images: expected 2 pixels or more in height and width, got {images.shape}.")
        corner = images[..., :-1, :-1]
        squares = (images[..., 1:, :-1] - corner) ** 2 + (images[..., :-1, 1:] - corner) ** 2
        if self.beta == 2:
            return _mean(squares)
        tiny = 1e-8  # keeps the root differentiable where neighbouring pixels are equal
        return _mean((squares + tiny) ** (self.beta / 2) - tiny ** (self.beta / 2))

    def describe(self) -> str:
        """Writes ``tv()``, or ``tv(1.5)``."""
        return "tv()" if self.beta == 2 else f"tv({self.beta!r})"


@final
@dataclass(frozen=True)
class AlphaNorm(ImageTerm):
    """Mean of (distance from a grey / 0.5)^α: 1 for black or white around grey (Mahendran & Vedaldi 2015, who sum).

    Attributes:
        alpha: α, 1 or more; 6 is the paper's.
        around: The grey, in [0, 1].
    """

    alpha: float = 6.0
    around: float = 0.5

    def __post_init__(self) -> None:
        if check_positive("alpha", self.alpha) < 1:
            raise InvalidArgumentError(f"alpha: expected 1 or more, got {self.alpha!r}.")
        object.__setattr__(self, "alpha", float(self.alpha))
        _settle_around(self)

    def of_images(self, images: Any) -> Any:
        """Turns images ``(n, 3, h, w)`` into scores ``(n,)``."""
        return _mean((abs(images - self.around) / 0.5) ** self.alpha)

    def describe(self) -> str:
        """Writes ``alphanorm()``, ``alphanorm(4.0)``, or ``alphanorm(6.0, 0.4)``."""
        shown = () if self == AlphaNorm() else (self.alpha,) if self.around == AlphaNorm.around else _values(self)
        return f"alphanorm({', '.join(map(repr, shown))})"


@final
@dataclass(frozen=True)
class L1(ImageTerm):
    """Mean absolute distance of the pixels from a grey.

    Attributes:
        around: The grey, in [0, 1].
    """

    around: float = 0.5

    def __post_init__(self) -> None:
        _settle_around(self)

    def of_images(self, images: Any) -> Any:
        """Turns images ``(n, 3, h, w)`` into scores ``(n,)``."""
        return _mean(abs(images - self.around))

    def describe(self) -> str:
        """Writes ``l1()``, or ``l1(0.4)``."""
        return f"l1({'' if self.around == L1.around else repr(self.around)})"


@final
@dataclass(frozen=True)
class L2(ImageTerm):
    """Mean squared distance of the pixels from a grey.

    Attributes:
        around: The grey, in [0, 1].
    """

    around: float = 0.5

    def __post_init__(self) -> None:
        _settle_around(self)

    def of_images(self, images: Any) -> Any:
        """Turns images ``(n, 3, h, w)`` into scores ``(n,)``."""
        return _mean((images - self.around) ** 2)

    def describe(self) -> str:
        """Writes ``l2()``, or ``l2(0.4)``."""
        return f"l2({'' if self.around == L2.around else repr(self.around)})"


@final
@dataclass(frozen=True)
class Sharpness(ImageTerm):
    """Mean squared difference between an image and a copy blurred by [1 2 1]/4 along both axes: high frequencies.

    To be subtracted; the blur penalty of Lucid with a binomial filter whose borders are mirrored.
    """

    def of_images(self, images: Any) -> Any:
        """Turns images ``(n, 3, h, w)`` into scores ``(n,)``."""
        return _mean((images - _blurred(images)) ** 2)

    def describe(self) -> str:
        """Writes ``sharpness()``."""
        return "sharpness()"


def given_images(images: Any, responses: Any, describe: Callable[[], str]) -> Any:
    """Returns the images, one for each response.

    Raises:
        InvalidArgumentError: There are none, or they have another shape.
    """
    if images is None:
        raise InvalidArgumentError(
            f"images: expected those that were shown, since {describe()!r} looks at them, got None; score with "
            "closedloop.objectives.evaluate(objective, responses, images)."
        )
    if isinstance(images, np.ndarray) is not isinstance(responses, np.ndarray):
        raise InvalidArgumentError(
            "images, responses: expected both as numpy arrays or both as torch tensors, got "
            f"{type(images).__name__} and {type(responses).__name__}."
        )
    if images.ndim not in (4, 5) or images.shape[-3] not in (1, 3) or len(images) != len(responses):
        raise InvalidArgumentError(f"images: expected shape ({len(responses)}, 3, h, w), got {tuple(images.shape)}.")
    return images


def without_lost(scores: Any, responses: Any) -> Any:
    """Returns the scores with NaN where the presentation was lost."""
    if isinstance(scores, np.ndarray):
        return np.where(lost(responses), np.nan, scores)
    return scores.masked_fill(lost(responses), float("nan"))


def _mean(values: Any) -> Any:
    """Returns the mean over colours, pixels and frames, ``(n,)``; of numpy in float64."""
    axes = tuple(range(1, values.ndim))
    if isinstance(values, np.ndarray):
        return values.mean(axes, dtype=np.float64)
    return values.mean(axes)


def _blurred(images: Any) -> Any:
    """Blurs images along height, then width."""
    for axis in (-2, -1):
        before, after = _shifted(images, axis)
        images = (before + 2 * images + after) / 4
    return images


def _shifted(images: Any, axis: int) -> tuple[Any, Any]:
    """Returns each pixel's neighbours along an axis; beyond the border the image is mirrored."""
    last = images.shape[axis] - 1
    place = np.arange(last + 1)
    before, after = abs(place - 1).clip(0, last), (last - abs(last - place - 1)).clip(0, last)
    if axis == -2:
        return images[..., before.tolist(), :], images[..., after.tolist(), :]
    return images[..., before.tolist()], images[..., after.tolist()]


def _settle_around(term: Any) -> None:
    object.__setattr__(term, "around", check_number("around", term.around, 0, 1))


def _values(term: AlphaNorm) -> tuple[float, float]:
    return term.alpha, term.around
