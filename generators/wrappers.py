"""Wraps a generator: a shorter code, a code held near the prior, an image within a receptive field.

A wrapper is `Differentiable` exactly if the inner generator is, and has a `recipe` exactly if the inner one has: the
inner recipe stands within its own, under ``generator``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from closedloop import recipes
from closedloop.checks import is_whole
from closedloop.errors import InvalidArgumentError
from closedloop.images.resizing import resize_matrix
from closedloop.images.sets import read_image
from closedloop.interfaces import Described, Differentiable, FloatArray, Generator, Space, form_of
from closedloop.readable import ReadableGenerator
from closedloop.seeds import STREAM, check_seed, noted_stream, part_generator

from .pixels import check_resolution

if TYPE_CHECKING:
    from torch import Tensor

#: A generator, or how to load it: a name, or a mapping with "name" and options.
Inner = Generator | str | Mapping[str, Any]


class Wrapper(ReadableGenerator):
    """What all wrappers share: images of ``images(inner(codes(…)))``, in numpy and, where it can be, in torch.

    Args:
        name: Of the wrapper, as `load_generator` knows it.
        generator: The inner generator, or how to load it.
        resolution: For an inner generator that is loaded by a name without a resolution.
    """

    #: There only where the inner generator is differentiable.
    forward: Callable[[Tensor], Tensor]

    def __init__(self, name: str, generator: Inner, resolution: int | None) -> None:
        self.generator: Generator = load_inner(generator, resolution)
        self.space: Space = self.generator.space
        self.resolution: int = self.generator.resolution
        form = form_of(self.generator)
        self.channels: int = form.channels
        self.frames: int | None = form.frames
        self.rate_hz: float | None = form.rate_hz
        self._name, self._options = name, dict[str, Any]()
        if isinstance(self.generator, Differentiable):
            self._inner_forward = self.generator.forward
            self.forward = self._forward

    @property
    def name(self) -> str:
        """Returns the wrapper and the inner generator, for records."""
        return f"{self._name}({self.generator.name})"

    @property
    def recipe(self) -> Mapping[str, Any] | None:
        """Returns how `load_generator` makes it again; None where the inner generator was built by hand."""
        inner = self.generator.recipe if isinstance(self.generator, Described) else None
        lost = any(option is NOT_IN_RECIPE for option in self._options.values())
        return None if inner is None or lost else {"name": self._name, **self._options, "generator": dict(inner)}

    def __call__(self, codes: FloatArray) -> NDArray[np.float32]:
        """Returns images ``(n, 3, h, w)`` float32 in [0, 1], of the inner generator's form, of codes ``(n, dim)``."""
        inner = self._codes(self.space.check(codes))
        images: NDArray[np.float32] = self._images(self.generator(inner))
        return np.clip(images, 0, 1)

    def _forward(self, codes: Tensor) -> Tensor:
        """Returns the same in torch; keeps the graph and the precision of ``codes``."""
        images: Tensor = self._images(self._inner_forward(self._codes(codes)))
        return images

    def _codes(self, codes: Any) -> Any:
        """Returns codes of the inner generator for codes; the same for numpy and torch."""
        return codes

    def _images(self, images: Any) -> Any:
        """Returns images for images of the inner generator; the same for numpy and torch."""
        return images


#: Stands in the options for one that has no place in a recipe, such as an array.
NOT_IN_RECIPE: Any = object()


@final
class Truncated(Wrapper):
    """Codes held near the middle of a Gaussian prior before they are decoded: the truncation trick, as a constraint.

    Args:
        generator: The inner generator, with an unbounded space.
        bound: How far: in standard deviations of a coordinate, or of the prior's usual norm ``scale * sqrt(dim)``.
        by: "coordinate" clips each coordinate to ± `bound`; "norm" shortens codes that are longer than `bound`; "shell"
            brings every code to that length, which keeps evolved images among those that the prior draws.
        resolution: For an inner generator that is loaded by a name without a resolution.
    """

    def __init__(
        self,
        generator: Inner,
        bound: float | None = None,
        *,
        by: Literal["coordinate", "norm", "shell"] = "coordinate",
        resolution: int | None = None,
    ) -> None:
        super().__init__("truncated", generator, resolution)
        _check_unbounded(self.generator)
        if by not in ("coordinate", "norm", "shell"):
            raise InvalidArgumentError(f"by: expected 'coordinate', 'norm' or 'shell', got {by!r}.")
        self.bound: float = (2.0 if by == "coordinate" else 1.0) if bound is None else float(bound)
        self.by = by
        if not (np.isfinite(self.bound) and self.bound > 0):
            raise InvalidArgumentError(f"bound: expected a finite number above 0, got {bound!r}.")
        self._options = {"bound": self.bound, "by": by}

    def _codes(self, codes: Any) -> Any:
        space = self.space
        if self.by == "coordinate":
            return codes.clip(-self.bound * space.scale, self.bound * space.scale)
        length = self.bound * space.scale * space.dim**0.5
        norm = ((codes * codes).sum(1)[:, None] + 1e-12) ** 0.5  # a code of zeros has no direction: it stays
        factor = length / norm
        return codes * (factor.clip(None, 1.0) if self.by == "norm" else factor)


@final
class Subspace(Wrapper):
    """A few directions of a generator's space: codes ``(n, dim)`` -> ``middle + codes @ directions``.

    The directions are orthonormal: drawn at random around the middle of the prior, or the principal directions of
    given codes around their mean.

    Args:
        generator: The inner generator, with an unbounded space.
        dim: Number of directions.
        codes: Codes ``(m, inner dim)`` whose principal directions are taken, for instance those of a finished
            evolution; an array, or an ``.npy`` file of one (then the wrapper has a recipe). None draws directions.
        scale: Standard deviation of the prior on each coordinate. None makes prior draws as long as those of the inner
            prior (scaled by ``sqrt(inner dim / dim)``: shorter codes give flat images), or, for given codes, takes the
            standard deviation that these have along the directions (root mean square).
        seed: Of random directions.
        stream: How they are drawn: 1 as in older recordings, see `closedloop.seeds.STREAM`.
        resolution: For an inner generator that is loaded by a name without a resolution.
    """

    def __init__(
        self,
        generator: Inner,
        dim: int = 50,
        *,
        codes: NDArray[Any] | str | Path | None = None,
        scale: float | None = None,
        seed: int = 0,
        resolution: int | None = None,
        stream: int = STREAM,
    ) -> None:
        super().__init__("subspace", generator, resolution)
        _check_unbounded(self.generator)
        inner = self.generator.space
        if not is_whole(dim) or not 1 <= dim <= inner.dim:
            raise InvalidArgumentError(f"dim: expected 1 to {inner.dim} directions, got {dim!r}.")
        if codes is None:
            self.middle, self.directions = inner.center, random_directions(dim, inner.dim, check_seed(seed), stream)
            natural = inner.scale * (inner.dim / dim) ** 0.5
        else:
            given = _read_codes(codes, inner)
            self.middle, self.directions = principal_directions(given, dim)
            natural = float(((given - self.middle) @ self.directions.T).std())
        self.space: Space = Space(int(dim), scale=natural if scale is None else scale)
        named = NOT_IN_RECIPE if codes is not None else None
        if isinstance(codes, (str, Path)):
            named = str(Path(codes).resolve())
        self._options = {"dim": int(dim), "codes": named, "scale": self.space.scale, "seed": seed}
        self._options |= noted_stream(stream)

    def _codes(self, codes: Any) -> Any:
        return _like(self.middle, codes) + codes @ _like(self.directions, codes)


@final
class Placed(Wrapper):
    """The image within a box, such as a receptive field, of a uniform canvas.

    The image is resized to the box; of one that is not square, the image's central part is shown, as large as fits.

    Args:
        generator: The inner generator.
        box: (y0, x0, y1, x1) in pixels of the canvas, the end not included; the columns ``rf_y0`` … of a network's
            units.
        resolution: Height and width of the canvas in pixels.
        background: Its brightness in [0, 1], or its red, green and blue.
    """

    def __init__(
        self,
        generator: Inner,
        box: Sequence[int],
        *,
        resolution: int = 224,
        background: float | Sequence[float] = 0.5,
    ) -> None:
        super().__init__("placed", generator, None)
        inner = self.generator.resolution
        self.resolution: int = check_resolution(resolution)
        self.box: tuple[int, int, int, int] = _check_box(box, self.resolution)
        self.background: NDArray[np.float64] = _check_color(background, self.channels)
        y0, x0, y1, x1 = self.box
        side = max(y1 - y0, x1 - x0)
        whole = resize_matrix(inner, side)
        self._rows, self._columns = (
            _embedded(whole[(side - end + start) // 2 :][: end - start], start, self.resolution)
            for start, end in ((y0, y1), (x0, x1))
        )
        self._options = {
            "box": list(self.box),
            "resolution": self.resolution,
            "background": self.background.ravel().tolist(),
        }

    def _images(self, images: Any) -> Any:
        grey = _like(self.background, images)
        # R (x - g) Cᵀ + g: beyond the box the rows and columns are zero, so that the background g is left.
        return grey + _like(self._rows, images) @ (images - grey) @ _like(self._columns.T, images)


@final
class Masked(Wrapper):
    """The image seen through a window, on a uniform background: ``mask * image + (1 - mask) * background``.

    Args:
        generator: The inner generator.
        mask: "disc", with a soft edge; "gaussian"; an array ``(resolution, resolution)`` in [0, 1]; or an image file,
            whose brightness is taken.
        size: Diameter of the disc, or four standard deviations of the Gaussian, as a share of the image.
        edge: Width of the disc's edge, a raised cosine, as a share of the image.
        background: Its brightness in [0, 1], or its red, green and blue.
        resolution: For an inner generator that is loaded by a name without a resolution.
    """

    def __init__(
        self,
        generator: Inner,
        mask: str | Path | NDArray[Any] = "disc",
        *,
        size: float = 1.0,
        edge: float = 0.1,
        background: float | Sequence[float] = 0.5,
        resolution: int | None = None,
    ) -> None:
        super().__init__("masked", generator, resolution)
        if not (np.isfinite(size) and size > 0 and np.isfinite(edge) and edge >= 0):
            raise InvalidArgumentError(f"size, edge: expected size > 0 and edge >= 0, got {size!r} and {edge!r}.")
        self.background: NDArray[np.float64] = _check_color(background, self.channels)
        self.mask = _mask(mask, self.resolution, float(size), float(edge))
        named: Any = mask if isinstance(mask, str) and mask in WINDOWS else NOT_IN_RECIPE
        if named is NOT_IN_RECIPE and isinstance(mask, (str, Path)):
            named = str(Path(mask).resolve())
        self._options = {
            "mask": named,
            "size": float(size),
            "edge": float(edge),
            "background": self.background.ravel().tolist(),
        }

    def _images(self, images: Any) -> Any:
        grey = _like(self.background, images)
        return grey + _like(self.mask, images) * (images - grey)


def load_inner(generator: Inner, resolution: int | None) -> Generator:
    """Returns the inner generator, loaded where it is a name or a recipe.

    Raises:
        InvalidArgumentError: It is none of these, or has another resolution than asked for.
    """
    if isinstance(generator, str):
        generator = {"name": generator}
    if isinstance(generator, Mapping):
        if not isinstance(generator.get("name"), str):
            raise InvalidArgumentError(f"generator: expected an entry 'name', got {dict(generator)!r}.")
        options = {} if resolution is None else {"resolution": resolution}
        loaded: Generator = recipes.build("generators", **{**options, **generator})
        return loaded
    if not isinstance(generator, Generator):
        raise InvalidArgumentError(
            f"generator: expected a generator, a name, or a mapping with a name, got {type(generator).__name__}."
        )
    if resolution not in (None, generator.resolution):
        raise InvalidArgumentError(
            f"resolution: expected that of the inner generator, {generator.resolution}, or none, got {resolution!r}."
        )
    return generator


def random_directions(count: int, dim: int, seed: int, stream: int = STREAM) -> NDArray[np.float64]:
    """Draws orthonormal rows ``(count, dim)``, uniform over all such.

    Mezzadri 2007, "How to generate random matrices from the classical compact groups": Q of a Gaussian
    matrix, its columns multiplied by the signs of the diagonal of R.
    """
    drawn = part_generator(seed, "subspace", stream).standard_normal((dim, count))
    q, r = np.linalg.qr(drawn)
    directions: NDArray[np.float64] = (q * np.sign(np.diag(r))).T
    return directions


def principal_directions(codes: FloatArray, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the mean ``(dim,)`` of codes and their principal directions ``(count, dim)``, by falling variance.

    Raises:
        InvalidArgumentError: The codes do not span as many.
    """
    middle = codes.mean(0, dtype=np.float64)
    _, singular, directions = np.linalg.svd(codes - middle, full_matrices=False)
    rank = int((singular > 1e-10 * max(float(singular[0]), 1e-12)).sum())
    if count > rank:
        raise InvalidArgumentError(
            f"dim: expected at most {rank} directions, which is what {len(codes)} codes span, got {count}."
        )
    # The sign of a direction is arbitrary; its largest entry is made positive, so that machines agree.
    signs = np.sign(np.take_along_axis(directions, np.abs(directions).argmax(1)[:, None], 1))
    return middle, (signs * directions)[:count]


def _like(values: NDArray[Any], other: Any) -> Any:
    """Returns values as numpy or torch, and in the precision of an array or tensor."""
    if isinstance(other, np.ndarray):
        return values.astype(other.dtype)
    return other.new_tensor(values)


def _check_unbounded(generator: Generator) -> None:
    """Raises unless a generator's codes are unbounded."""
    if generator.space.bounded:
        raise InvalidArgumentError(
            f"generator: expected one with an unbounded space, got {generator.name!r}, whose codes lie in "
            f"[{generator.space.low:g}, {generator.space.high:g}]."
        )


def _check_box(box: Sequence[int], resolution: int) -> tuple[int, int, int, int]:
    """Returns a box as whole pixels if it lies within the canvas."""
    array = np.asarray(box)
    whole = array.shape == (4,) and array.dtype.kind in "iuf" and bool((array == np.round(array)).all())
    if not whole or not (0 <= array[0] < array[2] <= resolution and 0 <= array[1] < array[3] <= resolution):
        raise InvalidArgumentError(
            f"box: expected (y0, x0, y1, x1) in whole pixels, y0 < y1 and x0 < x1, within the canvas of {resolution} "
            f"pixels, got {box!r}."
        )
    y0, x0, y1, x1 = (int(v) for v in array)
    return y0, x0, y1, x1


def _check_color(color: float | Sequence[float], channels: int) -> NDArray[np.float64]:
    """Returns a colour ``(channels, 1, 1)`` from one brightness or, for images in colour, red, green and blue."""
    array = np.asarray(color)
    known = array.shape in ((), (1,), (channels,)) and array.dtype.kind in "iuf"
    if not known or not ((array >= 0) & (array <= 1)).all():
        raise InvalidArgumentError(
            f"background: expected a brightness{' or red, green and blue' if channels == 3 else ''} in [0, 1], got "
            f"{color!r}."
        )
    return np.broadcast_to(array.astype(np.float64), (channels,)).reshape(channels, 1, 1)


def _embedded(matrix: NDArray[np.float32], start: int, resolution: int) -> NDArray[np.float32]:
    """Returns a resizing matrix whose rows stand from ``start`` on among rows of zeros."""
    rows = np.zeros((resolution, matrix.shape[1]), np.float32)
    rows[start : start + len(matrix)] = matrix
    return rows


def _read_codes(codes: NDArray[Any] | str | Path, space: Space) -> FloatArray:
    """Reads codes ``(m, dim)`` of a space, at least two, from an array or an ``.npy`` file."""
    if isinstance(codes, (str, Path)):
        try:
            codes = np.load(codes, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise InvalidArgumentError(f"codes: cannot read {codes} as an .npy file of codes ({error}).") from error
    checked = space.check(np.asarray(codes))
    if len(checked) < 2:
        raise InvalidArgumentError(f"codes: expected at least two, got {len(checked)}.")
    return checked


def _mask(mask: str | Path | NDArray[Any], resolution: int, size: float, edge: float) -> NDArray[np.float64]:
    """Returns the window ``(resolution, resolution)`` in [0, 1]."""
    if isinstance(mask, str) and mask in WINDOWS:
        # Distance of the pixels' centres from the middle, as a share of the image.
        axis = (np.arange(resolution) + 0.5) / resolution - 0.5
        return WINDOWS[mask](np.hypot(axis[:, None], axis[None]), size, edge)
    if isinstance(mask, (str, Path)):
        brightness: NDArray[np.float64] = read_image(Path(mask), resolution).mean(0, dtype=np.float64)
        return brightness / 255
    array = np.asarray(mask)
    numbers = array.dtype.kind in "biuf" and array.shape == (resolution, resolution)
    if not numbers or not ((array >= 0) & (array <= 1)).all():
        raise InvalidArgumentError(
            f"mask: expected {sorted(WINDOWS)}, an image file, or an array ({resolution}, {resolution}) in [0, 1], got "
            f"an array {array.shape} of {array.dtype}."
        )
    return array.astype(np.float64)


def _disc(distance: NDArray[np.float64], size: float, edge: float) -> NDArray[np.float64]:
    """Returns 1 within a disc and 0 beyond it, with a raised cosine between; all lengths are shares of the image."""
    outside = (distance - size / 2 + edge) / max(edge, 1e-12)  # 0 where the edge begins, 1 where it ends
    soft: NDArray[np.float64] = 0.5 + 0.5 * np.cos(np.pi * outside.clip(0, 1))
    return soft


def _gaussian(distance: NDArray[np.float64], size: float, edge: float) -> NDArray[np.float64]:
    """Returns a Gaussian of standard deviation size / 4; it has no edge."""
    bell: NDArray[np.float64] = np.exp(-0.5 * (distance / (size / 4)) ** 2)
    return bell


#: Windows by name: weights ``(h, w)`` of the distance from the middle, the size and the edge, in shares of the image.
WINDOWS: dict[str, Callable[[NDArray[np.float64], float, float], NDArray[np.float64]]] = {
    "disc": _disc,
    "gaussian": _gaussian,
}
