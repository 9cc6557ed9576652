"""Model neurons whose best image is known: a simple cell, a complex cell, and a cell with divisive normalization.

They serve tests, teaching and benchmarks: what an evolution found can be compared with the true optimum. All see an
image as its deviation from mid-grey, ``d = image - 0.5``, through zero-mean Gabor filters, separable in colour and
space. A full-contrast Gabor patch in cosine phase (the largest that fits in [0, 1]) drives its own filter with 1, so
drives are contrasts.

The optimum is known over two sets of images:

* ``norm=c``: images in [0, 1] with ``‖d‖₂ <= c`` (over all ``3 * h * w`` values, or ``h * w`` of grey images). It is
  given in closed form for each c for which the best image of the ball alone, unclipped, lies in [0, 1]; the largest
  such c is `largest_norm`.
* ``norm=None``: all images in [0, 1], which is what a generator of pixels searches.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize

from closedloop.checks import check_images
from closedloop.errors import InvalidArgumentError, UnknownNameError, closest
from closedloop.images.resizing import resize_matrix
from closedloop.interfaces import Form, Units, form_of
from closedloop.readable import ReadableSubject
from closedloop.seeds import named_generator

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[np.float64]
#: One value for all units, one for each, or None for the default (with `count`: for a random draw).
PerUnit = float | Sequence[float] | None
#: A contrast norm, the largest whose best image fits in [0, 1], or None for all images in [0, 1].
Norm = float | Literal["largest"] | None

#: Weights on R, G, B by name; the three are orthogonal.
COLORS = {"luminance": (1.0, 1.0, 1.0), "red-green": (1.0, -1.0, 0.0), "blue-yellow": (-1.0, -1.0, 2.0)}
#: Up to this relative error the numerical optimum of `NormalizationSubject` over [0, 1] is accepted.
GAP = 1e-6


@dataclass(frozen=True, kw_only=True, eq=False)
class AnalyticSubject(ReadableSubject, ABC):
    """What the model neurons share: their filters, and the search for the best image.

    Lists must have one entry or as many as there are units.

    Args:
        orientation_deg: Of the stripes, counterclockwise from horizontal: 0 is horizontal (default), 90 is vertical.
        cycles_per_image: Spatial frequency, 0.25 to ``resolution / 4``; by default ``resolution / 8``.
        y: Row of the centre in pixels, 0 to ``resolution - 1``; by default the middle.
        x: Column of the centre in pixels, as `y`.
        bandwidth_octaves: Full width of the frequency tuning at half height.
        aspect: Length of the envelope across the stripes divided by that along them; 1 is round.
        color: ``"luminance"`` (equal weights), ``"red-green"``, ``"blue-yellow"``, or three weights on R, G, B. Only
            their ratios matter.
        resolution: Height and width of the images in pixels, at least 8.
        channels: 3 for colour images; 1 for grey ones, of which `color` says nothing.
        count: Number of units. Whatever is then left at None is drawn: orientation uniformly, frequency
            log-uniformly in ``resolution / [16, 6]``, phase uniformly, the centre uniformly in the middle half.
        seed: Of the draw (None is 0); without `count` there is nothing to draw.

    Raises:
        InvalidArgumentError: If a value is out of range or lists differ in length.
    """

    name: ClassVar[str]

    orientation_deg: PerUnit = None
    cycles_per_image: PerUnit = None
    y: PerUnit = None
    x: PerUnit = None
    bandwidth_octaves: float = 1.0
    aspect: float = 1.0
    color: str | Sequence[float] = "luminance"
    resolution: int = 32
    channels: int = 3
    count: int | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        if int(self.resolution) != self.resolution or self.resolution < 8:
            raise InvalidArgumentError(f"resolution: expected a whole number of at least 8, got {self.resolution!r}.")
        if self.channels not in (1, 3) or (self.channels == 1 and self.color != "luminance"):
            raise InvalidArgumentError(
                f"channels: expected 3, or 1 with color='luminance', got {self.channels!r} with {self.color!r}."
            )
        if self.count is not None and (int(self.count) != self.count or self.count < 1):
            raise InvalidArgumentError(f"count: expected a whole number of at least 1, got {self.count!r}.")
        if self.seed is not None and self.count is None:
            raise InvalidArgumentError("seed: nothing is drawn without count; give count=… or leave seed out.")
        _check_range("bandwidth_octaves", self.bandwidth_octaves, 0.1, 10)
        _check_range("aspect", self.aspect, 0.1, 10)
        self._check()
        _ = self._weights

    @cached_property
    def units(self) -> Units:
        """One entry for each unit: its tuning; ``y, x, rf_size`` in pixels, the last of ±2 s.d. of the envelope."""
        sigma = envelope_px(self._columns["cycles_per_image"], self.resolution, self.bandwidth_octaves)
        columns = {**self._columns, "rf_size": 4 * sigma / min(self.aspect, 1.0)}
        coords: dict[str, tuple[Any, ...]] = {key: tuple(column.tolist()) for key, column in columns.items()}
        ids = tuple(f"{self.name}.{i}" for i in range(self._count))
        return Units(ids, {"layer": (self.name,) * len(ids), **coords})

    @property
    def recipe(self) -> Mapping[str, Any]:
        """How `load_subject` makes it again; values that were drawn are written out."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("count", "seed")}
        color = self.color if isinstance(self.color, str) else [float(weight) for weight in self.color]
        drawn = {key: column.tolist() for key, column in self._columns.items()}
        if self.channels == 3:  # as recipes were before there were grey ones
            del plain["channels"]
        return {"name": self.name, **plain, **drawn, "color": color}

    def record(self, images: NDArray[np.float32]) -> Array:
        """Turns images ``(n, channels, resolution, resolution)`` in [0, 1] into responses ``(n, units)`` float64 ≥ 0.

        A response does not depend on the other images of its batch.
        """
        shown = check_images(images, resolution=self.resolution, form=self._form)
        signals = self._signals(shown.astype(np.float64))
        # One product for each image: that of a batch is summed in an order that depends on its size.
        drives = np.array([self._weights @ signal for signal in signals]).reshape(len(signals), len(self._weights))
        responses: Array = self._respond(drives)
        return responses

    def forward(self, x: Tensor) -> Tensor:
        """Does the same in torch; keeps the graph, the precision and the device of ``x``.

        Stills of another size, as views that pad or crop make them, are resampled as networks do it.
        """
        import torch

        from closedloop.networks.resampling import resampled

        side = self.resolution
        if x.ndim == len(self._shape) + 1 == 4 and x.shape[1] == self._shape[0] and x.shape[2:] != self._shape[1:]:
            x = resampled(x, *(resize_matrix(length, side) for length in x.shape[2:]))
        if x.shape[1:] != self._shape:
            raise InvalidArgumentError(
                f"images: expected shape (n, {', '.join(map(str, self._shape))}), got {tuple(x.shape)}."
            )
        weights = torch.as_tensor(self._weights, dtype=x.dtype, device=x.device)
        responses: Tensor = self._respond(self._signals(x) @ weights.T)
        return responses

    def largest_norm(self, unit: int = 0) -> float:
        """Returns the largest contrast norm for which the unclipped best image of ``unit`` lies in [0, 1]."""
        self._check_unit(unit)

        def excess(norm: float) -> float:
            return self._peak(unit, norm) - 0.5

        # Beyond sqrt(values) / 2 no image fits; so the peak is below 0.5 at one end and above at the other.
        return float(brentq(excess, 1e-9, math.prod(self._shape) ** 0.5, xtol=1e-13, rtol=1e-14))

    def best_image(self, unit: int = 0, norm: Norm = "largest") -> NDArray[np.float32]:
        """Returns the image that drives ``unit`` most, ``(channels, resolution, resolution)`` float32 in [0, 1].

        Of a subject of movies the movie, ``(frames, channels, resolution, resolution)``.

        Rounding to float32 moves its response by some 1e-8 of `best_response`.

        Args:
            unit: Index of the unit.
            norm: Among which images, see the module: with ``‖image - 0.5‖₂ <= norm``, where ``"largest"`` stands for
                `largest_norm`; or, with None, all images in [0, 1].

        Raises:
            InvalidArgumentError: If ``norm`` is above `largest_norm`, or ``unit`` is not known.
        """
        image = 0.5 + self._best_deviation(unit, norm)
        return np.clip(image, 0, 1).astype(np.float32)

    def best_response(self, unit: int = 0, norm: Norm = "largest") -> float:
        """Returns the response of ``unit`` to its `best_image`, which no image of the set exceeds; same arguments."""
        signals = self._signals(0.5 + self._best_deviation(unit, norm)[None])
        return float(self._respond(signals @ self._weights.T)[0, unit])

    @cached_property
    @abstractmethod
    def _weights(self) -> Array:
        """Filters ``(rows, resolution²)`` on the colour-weighted deviation."""

    @abstractmethod
    def _check(self) -> None:
        """Checks the options of the model itself."""

    @abstractmethod
    def _respond(self, drives: Any) -> Any:
        """Turns outputs of the filters ``(n, rows)`` into responses ``(n, units)``, for numpy and torch alike."""

    @abstractmethod
    def _ball_direction(self, unit: int, norm: float) -> Array:
        """Returns the pattern ``(resolution²,)`` of norm 1 whose ``norm``-fold drives ``unit`` most in that norm."""

    @abstractmethod
    def _box_pattern(self, unit: int) -> Array:
        """Returns the pattern ``(resolution²,)`` with values in [-0.5, 0.5] that drives ``unit`` most."""

    @cached_property
    def _rgb(self) -> Array:
        """Weights on R, G, B, of norm 1; of grey images ``(1,)``."""
        return _color_weights(self.color) if self.channels == 3 else np.ones(1)

    @cached_property
    def _form(self) -> Form:
        return form_of(self)

    @cached_property
    def _shape(self) -> tuple[int, ...]:
        """The shape of one stimulus."""
        return (*self._form.leading, self.resolution, self.resolution)

    @cached_property
    def _columns(self) -> dict[str, Array]:
        """The tuning by name, each ``(units,)``."""
        defaults, ranges = self._defaults(), self._ranges()
        own = {f.name for f in fields(self)}
        given = {key: getattr(self, key) for key in defaults if key in own}
        columns = {key: np.atleast_1d(defaults[key] if value is None else value) for key, value in given.items()}
        count = self.count or max(column.size for column in columns.values())
        return {key: _column(key, column, count, ranges.get(key)) for key, column in columns.items()}

    def _defaults(self) -> dict[str, Any]:
        """Returns the tuning where nothing was said, by name."""
        return _standard(self.resolution) if self.count is None else _drawn(self.count, self.resolution, self.seed)

    def _ranges(self) -> dict[str, tuple[float, float]]:
        """Returns the least and the largest value of what must lie between two."""
        within = (0.0, self.resolution - 1.0)
        return {"cycles_per_image": (0.25, self.resolution / 4), "y": within, "x": within}

    @property
    def _count(self) -> int:
        return len(self._columns["y"])

    def _signals(self, images: Any) -> Any:
        """Turns images ``(n, channels, h, w)`` into colour-weighted deviations from mid-grey ``(n, h * w)``.

        Numpy or torch; of movies those of all frames, ``(n, frames * h * w)``.
        """
        deviation = images - 0.5
        if self.channels == 1:
            return deviation.reshape(len(images), self._shape_of_signal)
        red, green, blue = self._rgb.tolist()
        signals = red * deviation[..., 0, :, :] + green * deviation[..., 1, :, :] + blue * deviation[..., 2, :, :]
        return signals.reshape(len(images), self._shape_of_signal)

    @property
    def _shape_of_signal(self) -> int:
        """How many values the filters see."""
        return math.prod(self._shape) // self.channels

    def _pairs(self, orientation_deg: Array, of: NDArray[np.int_]) -> Array:
        """Returns quadrature pairs ``(m, 2, pixels)`` at the place and frequency of the units ``of`` ``(m,)``.

        Scaled to 1 for a full-contrast patch of the first.
        """
        cycles, y, x = (self._columns[key][of] for key in ("cycles_per_image", "y", "x"))
        sigma = envelope_px(cycles, self.resolution, self.bandwidth_octaves)
        envelope, across = envelopes(orientation_deg, y, x, sigma, self.aspect, self.resolution)
        wave = np.exp(2j * np.pi * cycles[:, None] / self.resolution * across)
        return self._scaled(quadrature_pairs(envelope, wave))

    def _scaled(self, pairs: Array) -> Array:
        """Scales pairs ``(m, 2, values)``, so that a full-contrast patch of the first drives it with 1."""
        full_contrast = 0.5 / (np.abs(self._rgb).max() * np.abs(pairs[:, 0]).max(axis=1))
        scaled: Array = pairs / full_contrast[:, None, None]
        return scaled

    def _best_deviation(self, unit: int, norm: Norm) -> Array:
        self._check_unit(unit)
        if norm is None:
            # With all channels at the end that their weight asks for, the pattern alone is left to choose.
            weights, pattern = np.sign(self._rgb), self._box_pattern(unit)
        else:
            size = self._check_norm(unit, norm)
            weights, pattern = size * self._rgb, self._ball_direction(unit, size)
        frames = pattern.reshape(-1, 1, self.resolution, self.resolution)
        deviation: Array = (weights[:, None, None] * frames).reshape(self._shape)
        return deviation

    def _check_norm(self, unit: int, norm: float | str) -> float:
        if norm == "largest":
            return self.largest_norm(unit)
        if isinstance(norm, str) or not norm > 0:
            raise InvalidArgumentError(f'norm: expected a number above 0, "largest" or None, got {norm!r}.')
        if not self._peak(unit, norm) <= 0.5 * (1 + 1e-6):
            raise InvalidArgumentError(
                f"norm: expected at most {self.largest_norm(unit):.7g} for unit {unit}, got {norm:.7g}; beyond it the "
                "best image leaves [0, 1]. norm=None gives the best of all images in [0, 1]."
            )
        return float(norm)

    def _check_unit(self, unit: int) -> None:
        if unit not in range(self._count):
            raise InvalidArgumentError(f"unit: expected 0 to {self._count - 1}, got {unit!r}.")

    def _peak(self, unit: int, norm: float) -> float:
        """Returns the largest deviation in the best image of the ball, unclipped."""
        return float(norm * np.abs(self._rgb).max() * np.abs(self._ball_direction(unit, norm)).max())


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class GaborSubject(AnalyticSubject):
    """Simple cells: ``max(0, drive) ** exponent`` with the drive of one Gabor filter (Jones & Palmer 1987).

    The best image is the filter itself as a deviation from grey (Cauchy–Schwarz); over all images in [0, 1] it is the
    filter's sign, black and white (Hölder). Grey and all that drives negatively give 0.

    Args:
        phase_deg: Phase of the cosine at the centre: 0 is a bright stripe (default), 90 an edge.
        exponent: Of the output, at least 1.
        **options: Those of `AnalyticSubject`.
    """

    name: ClassVar[str] = "gabor"

    phase_deg: PerUnit = None
    exponent: float = 1.0

    def _check(self) -> None:
        _check_range("exponent", self.exponent, 1, 10)

    @cached_property
    def _weights(self) -> Array:
        pairs = self._pairs(self._columns["orientation_deg"], np.arange(self._count))
        return _rotated(pairs, self._columns["phase_deg"])

    def _respond(self, drives: Any) -> Any:
        return drives.clip(min=0) ** self.exponent

    def _ball_direction(self, unit: int, norm: float) -> Array:
        return _unit(self._weights[unit])

    def _box_pattern(self, unit: int) -> Array:
        signs: Array = np.sign(self._weights[unit])
        return 0.5 * signs


@dataclass(frozen=True, kw_only=True, eq=False)
class EnergyModel(AnalyticSubject):
    """What the energy models share: a quadrature pair for each unit, and the energy of its outputs, or the root of it.

    The pair is orthonormal up to scale, so within a contrast norm all phases ``cos(φ) even - sin(φ) odd`` are best;
    `best_image` gives φ = 0, and `largest_norm` is that of φ = 0. Over all images in [0, 1] the pairs of drives fill a
    convex polygon with central symmetry, whose farthest corner is found by enumeration.

    Args:
        root: Whether the response is the root of the energy, which grows with contrast and not with its square.
        **options: Those of `AnalyticSubject`.
    """

    root: bool = True

    def _check(self) -> None:
        pass

    def _respond(self, drives: Any) -> Any:
        energy = (drives.reshape(len(drives), self._count, 2) ** 2).sum(-1)
        # Below this energy the gradient of a root is taken as 0; it is infinite at 0.
        return (energy > 0) * energy.clip(min=1e-30) ** 0.5 if self.root else energy

    def _ball_direction(self, unit: int, norm: float) -> Array:
        return _unit(self._weights[2 * unit])

    def _box_pattern(self, unit: int) -> Array:
        return 0.5 * _farthest_corner(self._weights[2 * unit : 2 * unit + 2])


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class EnergySubject(EnergyModel):
    """Complex cells: the energy of a quadrature pair, or its root (Adelson & Bergen 1985).

    Args:
        **options: Those of `EnergyModel`.
    """

    name: ClassVar[str] = "energy"

    @cached_property
    def _weights(self) -> Array:
        pairs = self._pairs(self._columns["orientation_deg"], np.arange(self._count))
        return pairs.reshape(2 * self._count, -1)


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class NormalizationSubject(AnalyticSubject):
    """Simple cells with divisive normalization (Heeger 1992; Carandini & Heeger 2012, equation 10).

    ``(max(0, drive) / sqrt(sigma² + mean energy of the pool)) ** exponent``: with exponent 2 the standard model. The
    pool holds quadrature pairs at the unit's place and frequency, at orientations evenly spaced from its own.

    With the drive ``f·d`` and the mean energy ``d·M d``, within a contrast norm c the best image lies along
    ``(sigma²/c² I + M)⁻¹ f``: on the sphere sigma² equals ``sigma²/c² d·d``, and the rest is Cauchy–Schwarz in the
    metric of that matrix; the response grows along each ray, so nothing inside the ball is better. Over all images in
    [0, 1] the base of the power is a linear over a convex function, so each local optimum is global; it is found
    numerically and accepted only within a relative `GAP` of an upper bound (see `_upper_bound`).

    Args:
        phase_deg: As in `GaborSubject`.
        sigma: Semi-saturation, in units of the contrast of a Gabor patch; above 0.
        pool: Number of orientations in the pool.
        exponent: Of the output, at least 1.
        **options: Those of `AnalyticSubject`.
    """

    name: ClassVar[str] = "normalization"

    phase_deg: PerUnit = None
    sigma: float = 0.2
    pool: int = 8
    exponent: float = 2.0

    def _check(self) -> None:
        _check_range("exponent", self.exponent, 1, 10)
        _check_range("sigma", self.sigma, 1e-3, 1e3)
        if int(self.pool) != self.pool or not 1 <= self.pool <= 180:
            raise InvalidArgumentError(f"pool: expected a whole number from 1 to 180, got {self.pool!r}.")

    @cached_property
    def _weights(self) -> Array:
        """For each unit its drive, then its pool, which is scaled so that the sum of squares is the mean energy."""
        steps = 180 * np.arange(self.pool) / self.pool
        orientations = self._columns["orientation_deg"][:, None] + steps
        pairs = self._pairs(orientations.ravel(), np.repeat(np.arange(self._count), self.pool))
        pools = pairs.reshape(self._count, 2 * self.pool, -1)
        drives = _rotated(pools[:, :2], self._columns["phase_deg"])
        rows = np.concatenate([drives[:, None], pools / self.pool**0.5], axis=1)
        return rows.reshape(-1, self.resolution**2)

    def _respond(self, drives: Any) -> Any:
        rows = drives.reshape(len(drives), self._count, 1 + 2 * self.pool)
        energy = (rows[..., 1:] ** 2).sum(-1)
        return (rows[..., 0].clip(min=0) / (self.sigma**2 + energy) ** 0.5) ** self.exponent

    def _filters(self, unit: int) -> tuple[Array, Array]:
        """Returns the unit's drive ``(pixels,)`` and its pool ``(2 * pool, pixels)``."""
        rows = self._weights.reshape(self._count, 1 + 2 * self.pool, -1)[unit]
        return rows[0], rows[1:]

    def _ball_direction(self, unit: int, norm: float) -> Array:
        drive, pool = self._filters(unit)
        _, s, basis = np.linalg.svd(pool, full_matrices=False)  # the drive lies in the span of its pool
        return _unit(((basis @ drive) / (self.sigma**2 / norm**2 + s**2)) @ basis)

    def _box_pattern(self, unit: int) -> Array:
        drive, pool = self._filters(unit)
        reach = np.abs(self._rgb).sum()
        return _maximize_ratio(reach * drive, reach * pool, self.sigma)


def _standard(resolution: int) -> dict[str, Any]:
    """Returns the tuning of a unit about which nothing was said."""
    middle = (resolution - 1) / 2
    return {"orientation_deg": 0.0, "cycles_per_image": resolution / 8, "phase_deg": 0.0, "y": middle, "x": middle}


def _drawn(count: int, resolution: int, seed: int | None) -> dict[str, Any]:
    """Draws the tuning of ``count`` units, each column ``(count,)``."""
    rng = named_generator(seed or 0, "analytic")
    octaves = rng.uniform(np.log2(1 / 16), np.log2(1 / 6), count)
    return {
        "orientation_deg": rng.uniform(0, 180, count),
        "cycles_per_image": resolution * 2**octaves,
        "phase_deg": rng.uniform(0, 360, count),
        "y": (resolution - 1) * rng.uniform(0.25, 0.75, count),
        "x": (resolution - 1) * rng.uniform(0.25, 0.75, count),
    }


def _column(name: str, values: NDArray[Any], count: int, limits: tuple[float, float] | None) -> Array:
    """Returns one value for each unit, ``(count,)``, within the limits."""
    if values.ndim != 1 or values.size not in (1, count):
        raise InvalidArgumentError(f"{name}: expected 1 or {count} values, one for each unit, got {values.size}.")
    if values.dtype.kind not in "fiu" or not np.isfinite(values).all():
        raise InvalidArgumentError(f"{name}: expected finite numbers, got {values.tolist()}.")
    if limits and not (limits[0] <= values.min() and values.max() <= limits[1]):
        raise InvalidArgumentError(f"{name}: expected {limits[0]:g} to {limits[1]:g}, got {values.tolist()}.")
    return np.array(np.broadcast_to(values.astype(np.float64), count))


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise InvalidArgumentError(f"{name}: expected {low:g} to {high:g}, got {value!r}.")


def _color_weights(color: str | Sequence[float]) -> Array:
    """Returns weights on R, G, B, ``(3,)`` of norm 1."""
    if isinstance(color, str) and color not in COLORS:
        raise UnknownNameError(f"color: {color!r} is not known.{closest(color, COLORS)}")
    weights = np.array(COLORS[color] if isinstance(color, str) else color, dtype=np.float64)
    if weights.shape != (3,) or not np.isfinite(weights).all() or not weights.any():
        raise InvalidArgumentError(f"color: expected a name or three weights on R, G, B, not all 0, got {color!r}.")
    return _unit(weights)


def _unit(vector: Array) -> Array:
    """Returns the vector's direction: the same with norm 1."""
    return vector / float(np.linalg.norm(vector))


def envelope_px(cycles_per_image: Array, resolution: int, bandwidth_octaves: float) -> Array:
    """Returns the envelope's standard deviation in pixels for a bandwidth at half height (Daugman 1985)."""
    ratio = (2**bandwidth_octaves + 1) / (2**bandwidth_octaves - 1)
    sigma: Array = resolution / cycles_per_image * (ratio * math.sqrt(math.log(2) / 2) / math.pi)
    return sigma


def envelopes(
    orientation_deg: Array, y: Array, x: Array, sigma: Array, aspect: float, resolution: int
) -> tuple[Array, Array]:
    """Returns Gaussian envelopes and distances across the stripes from their centre in pixels; both ``(m, pixels)``."""
    rows, columns = np.mgrid[:resolution, :resolution].reshape(2, 1, -1)
    dy, dx = rows - y[:, None], columns - x[:, None]
    cos, sin = np.cos(np.radians(orientation_deg))[:, None], np.sin(np.radians(orientation_deg))[:, None]
    across, along = sin * dx + cos * dy, cos * dx - sin * dy
    return np.exp(-(across**2 + (aspect * along) ** 2) / (2 * sigma[:, None] ** 2)), across


def quadrature_pairs(envelope: Array, wave: NDArray[np.complex128]) -> Array:
    """Makes even and odd Gabor filters, ``(m, 2, values)``: zero-mean, orthogonal, of norm 1.

    The zero-mean Gabors are not quite orthonormal where the image cuts them off; they are replaced by the
    orthonormal pair that is nearest to them (the polar factor).

    Args:
        envelope: ``(m, values)``.
        wave: Carriers of norm 1 at each value, ``(m, values)``.
    """
    mean = (envelope * wave).sum(axis=1, keepdims=True) / envelope.sum(axis=1, keepdims=True)
    gabor = envelope * (wave - mean)
    left, s, right = np.linalg.svd(np.stack([gabor.real, gabor.imag], axis=1), full_matrices=False)
    if (s[:, 1] < 1e-3 * s[:, 0]).any():
        raise InvalidArgumentError(
            "bandwidth_octaves, aspect: the envelope covers too few pixels for an even and an odd filter; lower them, "
            "or lower cycles_per_image."
        )
    pairs: Array = left @ right
    return pairs


def _rotated(pairs: Array, phase_deg: Array) -> Array:
    """Turns pairs ``(m, 2, pixels)`` into filters ``(m, pixels)`` with the phases: cos(2πft + φ) of cos and sin."""
    phase = np.radians(phase_deg)[:, None]
    return np.cos(phase) * pairs[:, 0] - np.sin(phase) * pairs[:, 1]


def _farthest_corner(pair: Array) -> Array:
    """Returns signs ``(pixels,)`` that maximize the length of ``pair @ signs``, for a pair ``(2, pixels)``.

    The sums form a zonogon. With all vectors turned into the upper half-plane and sorted by angle, its corners are
    the sum of all, and what remains after the first, the first two … have changed their sign.
    """
    vectors = pair[0] + 1j * pair[1]
    signs = np.where((vectors.imag < 0) | ((vectors.imag == 0) & (vectors.real < 0)), -1.0, 1.0)
    order = np.argsort(np.angle(signs * vectors))
    turned = np.cumsum((signs * vectors)[order])
    corners = turned[-1] - 2 * turned
    signs[order[: np.abs(corners).argmax() + 1]] *= -1
    return signs


def _maximize_ratio(drive: Array, pool: Array, sigma: float) -> Array:
    """Finds the d in [-0.5, 0.5] ``(pixels,)`` of the largest ``drive·d / sqrt(sigma² + ‖pool d‖²)``, within `GAP`."""

    def loss(d: Array) -> tuple[float, Array]:
        outputs = pool @ d
        root = float(sigma**2 + outputs @ outputs) ** 0.5
        ratio = float(drive @ d / root)
        return -ratio, (ratio / root * (outputs @ pool) - drive) / root

    limits = {"maxiter": 20_000, "maxfun": 40_000, "ftol": 1e-16, "gtol": 1e-12, "maxcor": 20}
    bounds = [(-0.5, 0.5)] * drive.size
    found = minimize(loss, 0.5 * np.sign(drive), jac=True, method="L-BFGS-B", bounds=bounds, options=limits)
    gap = _upper_bound(found.x, drive, pool, sigma) / -found.fun - 1
    if gap > GAP:
        raise InvalidArgumentError(
            f"norm: the best of all images in [0, 1] is known only to a relative {gap:.2g} for sigma={sigma}; "
            "give a norm, or a larger sigma."
        )
    return np.array(found.x)


def _upper_bound(d: Array, drive: Array, pool: Array, sigma: float) -> float:
    """Returns what no pattern in [-0.5, 0.5] exceeds, tight if ``d`` is the best.

    For every w, ``drive·d = w·(pool d) + (drive - w pool)·d <= ‖w‖ ‖pool d‖ + h`` with h half the 1-norm of
    ``drive - w pool``; by Cauchy–Schwarz that is at most ``sqrt(‖w‖² + h²/sigma²) sqrt(‖pool d‖² + sigma²)``.
    """
    outputs = pool @ d
    w = (drive @ d) / (sigma**2 + outputs @ outputs) * outputs
    return float((w @ w + (0.5 * np.abs(drive - w @ pool).sum() / sigma) ** 2) ** 0.5)
