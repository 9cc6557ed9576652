"""What is done to codes between two steps of a gradient ascent: decay, blur, clipping, a fixed norm or contrast.

Each is a small value with ``__call__(w, g, k)``: working coordinates ``(n, dim)`` and their gradient ``(n, dim)`` after
step ``k``, counted from 0, to new coordinates. Working coordinates are distances from an origin in a unit of choice,
see `closedloop.optimizers.GradientAscent`. What works on pixels takes the code for an image ``(3, r, r)``.

Sources: Yosinski et al. 2015, "Understanding neural networks through deep visualization" (decay, blur, small norm,
small contribution); Walker et al. 2019, "Inception loops discover what excites neurons most" (fixed norm and contrast).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, final

import numpy as np

from closedloop.checks import check_flag, check_number, check_positive, check_whole
from closedloop.errors import InvalidArgumentError, closest
from closedloop.interfaces import FloatArray


class Regularizer(Protocol):
    """Changes codes between two steps."""

    def __call__(self, w: FloatArray, g: FloatArray, k: int) -> FloatArray:
        """Returns coordinates ``(n, dim)`` for those after step ``k`` and its gradient, both ``(n, dim)``."""
        ...


def as_pixels(w: FloatArray) -> FloatArray:
    """Returns codes ``(n, 3 r²)`` as images ``(n, 3, r, r)``.

    Raises:
        InvalidArgumentError: Their length is not that of a square RGB image.
    """
    side = round((w.shape[1] / 3) ** 0.5)
    if 3 * side**2 != w.shape[1]:
        raise InvalidArgumentError(
            f"regularizers: expected the codes of a square RGB image, 3 r² numbers, got {w.shape[1]}; these work on "
            "the generator 'pixels'."
        )
    return w.reshape(len(w), 3, side, side)


def blurred(w: FloatArray, radius: float) -> FloatArray:
    """Blurs each colour channel of the images in codes ``(n, 3 r²)`` by a Gaussian of ``radius`` pixels (σ)."""
    from scipy.ndimage import gaussian_filter  # slow to import, and only this needs it

    smooth = np.asarray(gaussian_filter(as_pixels(w), (0, 0, radius, radius)))
    return smooth.reshape(w.shape)


@final
@dataclass(frozen=True)
class Decay:
    """Takes a share of each coordinate away (Yosinski's θ_decay).

    Attributes:
        share: From 0 to 1.
    """

    share: float

    def __post_init__(self) -> None:
        check_number("share", self.share, 0, 1)

    def __call__(self, w: FloatArray, g: FloatArray, k: int) -> FloatArray:
        """Shrinks coordinates ``(n, dim)`` by the share."""
        return w * (1 - self.share)


@final
@dataclass(frozen=True)
class Blur:
    """Blurs the image every few steps, the first included (θ_b_width, θ_b_every).

    Attributes:
        radius: Standard deviation of the Gaussian in pixels; the authors warn of values below 0.3.
        every: Steps from one blur to the next.
    """

    radius: float
    every: int = 1

    def __post_init__(self) -> None:
        check_positive("radius", self.radius)
        check_whole("every", self.every, 1)

    def __call__(self, w: FloatArray, g: FloatArray, k: int) -> FloatArray:
        """Blurs coordinates ``(n, dim)`` in every so many steps."""
        return blurred(w, self.radius) if k % self.every == 0 else w


def _kept(w: FloatArray, size: FloatArray, percentile: float) -> FloatArray:
    """Sets the pixels of each image to 0 whose ``size (n, r, r)`` is below that percentile of the image."""
    threshold = np.percentile(size, percentile, axis=(1, 2), keepdims=True)
    return (as_pixels(w) * (size >= threshold)[:, None]).reshape(w.shape)


@final
@dataclass(frozen=True)
class SmallNorm:
    """Sets pixels to the origin whose colour has a small norm (θ_n_pct).

    Attributes:
        percentile: Share of the pixels, in percent.
    """

    percentile: float

    def __post_init__(self) -> None:
        check_number("percentile", self.percentile, 0, 100)

    def __call__(self, w: FloatArray, g: FloatArray, k: int) -> FloatArray:
        """Sets pixels of coordinates ``(n, dim)`` to 0 by the length of their colour."""
        return _kept(w, np.linalg.norm(as_pixels(w), axis=1), self.percentile)


@final
@dataclass(frozen=True)
class SmallContribution:
    """Sets pixels to the origin that contribute little to the response, by the size of Σ_c x g (θ_c_pct).

    Attributes:
        percentile: Share of the pixels, in percent.
    """

    percentile: float

    def __post_init__(self) -> None:
        check_number("percentile", self.percentile, 0, 100)

    def __call__(self, w: FloatArray, g: FloatArray, k: int) -> FloatArray:
        """Sets pixels of coordinates ``(n, dim)`` to 0 by what they contribute."""
        return _kept(w, np.abs((as_pixels(w) * as_pixels(g)).sum(1)), self.percentile)


@final
@dataclass(frozen=True)
class Clip:
    """Moves each coordinate to the nearest value between two bounds.

    Attributes:
        low: Lower bound, in working units.
        high: Upper bound.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise InvalidArgumentError(f"low, high: expected low < high, got {self.low!r} and {self.high!r}.")

    def __call__(self, w: FloatArray, g: FloatArray, k: int) -> FloatArray:
        """Clips coordinates ``(n, dim)`` to the limits."""
        return np.clip(w, self.low, self.high)


@final
@dataclass(frozen=True)
class FixedNorm:
    """Scales each code to one Euclidean norm.

    Attributes:
        norm: In working units.
    """

    norm: float

    def __post_init__(self) -> None:
        check_positive("norm", self.norm)

    def __call__(self, w: FloatArray, g: FloatArray, k: int) -> FloatArray:
        """Scales coordinates ``(n, dim)`` to the norm."""
        length = np.linalg.norm(w, axis=1, keepdims=True)
        return np.asarray(w * (self.norm / np.maximum(length, 1e-300)))


@final
@dataclass(frozen=True)
class FixedContrast:
    """Gives each image one standard deviation over all its pixels and colours; its mean stays, or goes to the origin.

    Attributes:
        std: In working units.
        centered: Whether the mean goes to the origin.
    """

    std: float
    centered: bool = True

    def __post_init__(self) -> None:
        check_positive("std", self.std)
        check_flag("centered", self.centered)

    def __call__(self, w: FloatArray, g: FloatArray, k: int) -> FloatArray:
        """Scales coordinates ``(n, dim)`` to the standard deviation."""
        mean = w.mean(1, keepdims=True)
        away = w - mean
        scaled = away * (self.std / np.maximum(away.std(1, keepdims=True), 1e-300))
        return np.asarray(scaled if self.centered else scaled + mean)


#: Regularizers by their names in files.
_NAMES: dict[str, type[Any]] = {
    "decay": Decay,
    "blur": Blur,
    "small-norm": SmallNorm,
    "small-contribution": SmallContribution,
    "clip": Clip,
    "fixed-norm": FixedNorm,
    "fixed-contrast": FixedContrast,
}


def read_regularizers(given: Sequence[Regularizer | Mapping[str, Any]]) -> tuple[Regularizer, ...]:
    """Reads regularizers from values, or from mappings ``{"name": "blur", "radius": 0.5}`` as files have them.

    Raises:
        InvalidArgumentError: No such regularizer, or it does not take an option.
    """
    return tuple(_read(dict(one)) if isinstance(one, Mapping) else one for one in given)


def _read(options: dict[str, Any]) -> Regularizer:
    name = str(options.pop("name", ""))
    if name not in _NAMES:
        raise InvalidArgumentError(f"regularizers: no regularizer {name!r}.{closest(name, _NAMES)}")
    try:
        made: Regularizer = _NAMES[name](**options)
    except TypeError as error:
        raise InvalidArgumentError(f"regularizers: {name}: {error}.") from error
    return made


def describe_regularizers(regularizers: Sequence[Regularizer]) -> list[dict[str, Any]] | None:
    """Returns mappings that `read_regularizers` reads back; None where one of them is not of this file."""
    names = {kind: name for name, kind in _NAMES.items()}
    if any(type(one) not in names for one in regularizers):
        return None
    return [{"name": names[type(one)], **asdict(one)} for one in regularizers]  # type: ignore[call-overload]
