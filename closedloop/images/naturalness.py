"""Measures how natural images look, and the band that natural images keep to.

Every run records these numbers for each image shown, references included, so that what was evolved can be held beside
what was photographed. They say how an image looks to statistics, not to an eye: an image outside the band is unlike the
references, one inside it need not look like a photograph.

Luminance (Rec. 601) is measured on a copy of at most 64 × 64 pixels, averaged by area, so that runs of different
resolution can be compared; the whole image counts for `clipped`, and for the variance in `high_frequency`. Grey images
are their own luminance. Of a movie its middle frame is measured (of an even number of frames the later one of the two):
the mean of the frames would be blurred by what moves.

=================== ====================================================================================================
`clipped`           share of the values within 5/255 of black or white
`tv`                total variation ÷ standard deviation: mean |dx| + mean |dy| between neighbouring pixels of the
                    luminance at unit standard deviation. At 64 pixels white noise has 4/√π = 2.26; noise whose
                    amplitude falls as 1/f has 1.18, as 1/f^1.5 0.50
`spectral_slope`    slope of the power spectrum in log-log coordinates, from 2 cycles to a quarter of the side (Hann
                    window, mean over rings of one cycle): white noise 0, amplitude 1/f −2, 1/f^1.5 −3.1
`high_frequency`    share of the luminance's variance that is lost when the image is shrunk to `THUMBNAIL_PX`
`natural_distance`  distance to the nearest reference image, ÷ the references' own median distance to their nearest
                    neighbour. Euclidean, of colour thumbnails of `THUMBNAIL_PX` without their mean and of unit
                    length: √(2 − 2r) with r their correlation
`code_norm`         length of the code ÷ that of a draw from the prior, scale × √dim; of unbounded spaces
`code_at_bound`     share of the code's coordinates that lie at a bound; of bounded spaces
=================== ====================================================================================================

NaN where there is nothing to measure: an image without contrast, no reference, a reference without a code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from closedloop.checks import check_any_images
from closedloop.images.forms import REC_601
from closedloop.images.nearest import THUMBNAIL_PX, Bank, middle_frames, thumbnails
from closedloop.images.resizing import FLAT_STD, batches, shrink
from closedloop.interfaces import FloatArray, Space

#: What is measured of an image alone.
IMAGE_MEASURES = ("clipped", "tv", "spectral_slope", "high_frequency")
#: What is measured of an image, alone and beside references.
MEASURES = (*IMAGE_MEASURES, "natural_distance")
#: What is measured of an image's code.
CODE_MEASURES = ("code_norm", "code_at_bound")
#: Measures without a lower end of their band: no image is unnatural for having too little of them.
ONE_SIDED = ("clipped", "natural_distance")
#: The measures in words.
MEASURE_WORDS = {
    "clipped": "black or white values",
    "tv": "total variation ÷ s.d.",
    "spectral_slope": "spectral slope",
    "high_frequency": "fine detail",
    "natural_distance": "distance to the nearest reference",
    "code_norm": "length of the code ÷ the prior’s",
    "code_at_bound": "code at its bounds",
}
#: An image of which this share is black or white counts as clipped; 19 of 20 bundled photographs have less.
CLIPPED_SHARE = 0.25


def clipped(images: NDArray[np.floating[Any]]) -> FloatArray:
    """Returns the share of each image's values that are black or white, or within 5/255 of it.

    Args:
        images: ``(n, 3, h, w)``, RGB in [0, 1]; or grey, or movies, of which all frames count.

    Returns:
        ``(n,)``, in [0, 1].
    """
    low = (5 + 0.5) / 255  # as an 8-bit file rounds
    return np.array([(np.count_nonzero(i < low) + np.count_nonzero(i > 1 - low)) / i.size for i in images])


def measure(images: NDArray[Any]) -> dict[str, FloatArray]:
    """Measures images alone: `clipped`, `tv`, `spectral_slope` and `high_frequency`.

    Args:
        images: ``(n, 3, h, w)``, RGB in [0, 1], or grey, or movies; those that are not square are measured as if
            stretched to a square.

    Returns:
        Each ``(n,)``; NaN for images without contrast, and for a slope of images of less than 16 pixels.

    Raises:
        InvalidArgumentError: Not images.
    """
    return _measure(check_any_images(images))


def _measure(images: NDArray[np.float32]) -> dict[str, FloatArray]:
    """Returns the same of images that are known to be such."""
    parts = [_measure_batch(batch) for batch in batches(middle_frames(images))]
    return {name: np.concatenate([np.empty(0), *(part[name] for part in parts)]) for name in IMAGE_MEASURES}


def _measure_batch(images: NDArray[np.float32], side: int = 64) -> dict[str, FloatArray]:
    """Returns `IMAGE_MEASURES` of a few images, of a copy of their luminance of at most `side` pixels."""
    channels, height, width = images.shape[1:]
    full = images[:, 0] if channels == 1 else _luminance(images)
    small = shrink(full, min(side, height, width))
    mean = small.mean((1, 2), keepdims=True)
    small, full = small - mean, np.subtract(full, mean, out=None if channels == 1 else full)  # grey is not ours
    spread = small.std((1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        # mean |dx| + mean |dy|, each over the s (s - 1) pairs of neighbours, at unit standard deviation
        steps = sum(np.abs(np.diff(small, axis=axis)).sum((1, 2)) for axis in (1, 2))
        found = {
            "tv": steps / (small[0].size - len(small[0])) / spread,
            "spectral_slope": _slopes(small),
            "high_frequency": _fine_share(full, small),
        }
    seen = spread > FLAT_STD
    return {"clipped": clipped(images), **{name: np.where(seen, values, np.nan) for name, values in found.items()}}


def _luminance(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the luminance ``(n, h, w)`` of RGB images ``(n, 3, h, w)``."""
    red, green, blue = (np.float32(weight) for weight in REC_601)
    plane: NDArray[np.float32] = images[:, 0] * red
    plane += images[:, 1] * green
    plane += images[:, 2] * blue
    return plane


def _fine_share(full: NDArray[np.float32], small: NDArray[np.float32]) -> FloatArray:
    """Returns the share ``(n,)`` of luminance's variance that its coarsest copy has lost; all without their mean."""
    coarse = shrink(small, max(min(THUMBNAIL_PX, small.shape[-1] // 2), 1))
    whole = np.array([np.square(plane).mean() for plane in full])
    share: FloatArray = np.clip(1 - (coarse**2).mean((1, 2)) / whole, 0, 1)
    return share


def _slopes(small: NDArray[np.float32]) -> FloatArray:
    """Returns the slope ``(n,)`` of the log power of luminance ``(n, s, s)`` without its mean over log frequency."""
    side = small.shape[-1]
    if side < 16:
        return np.full(len(small), np.nan)
    window, rings, fit = _spectrum(side)
    from scipy import fft  # which keeps float32; not needed before the first images are shown

    spectrum = np.abs(fft.rfft2(small * window)).reshape(len(small), -1) ** 2
    power = np.einsum("nf,fr->nr", spectrum, rings)
    power = np.log(np.maximum(power, 1e-9 * power.max(1, keepdims=True)))  # rounding has no slope
    slopes: FloatArray = np.einsum("nr,r->n", power, fit)
    return slopes


@cache
def _spectrum(side: int) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Returns the Hann window ``(s, s)``, weights of the mean over each ring, and those of a slope over log frequency.

    Frequencies in cycles per side; the rings are those of 2 to s/4 cycles, beyond which the resizing has dimmed.
    """
    profile = np.hanning(side + 2)[1:-1]
    vertical, horizontal = np.fft.fftfreq(side, 1 / side), np.fft.rfftfreq(side, 1 / side)
    ring = np.rint(np.hypot(vertical[:, None], horizontal[None])).ravel()
    twice = np.broadcast_to(np.where((horizontal > 0) & (horizontal < side / 2), 2.0, 1.0), (side, len(horizontal)))
    frequencies = np.arange(2, side // 4 + 1)
    rings = (ring[:, None] == frequencies) * twice.ravel()[:, None]
    # Least squares: the slope of y over x is Σ (x - x̄) y / Σ (x - x̄)².
    x = np.log(frequencies) - np.log(frequencies).mean()
    return (
        np.outer(profile, profile).astype(np.float32),
        (rings / rings.sum(0)).astype(np.float32),
        (x / (x**2).sum()).astype(np.float32),
    )


def code_measures(code: FloatArray | None, space: Space | None) -> dict[str, float]:
    """Returns `code_norm` and `code_at_bound` of one code ``(dim,)``; NaN where there is none."""
    found = dict.fromkeys(CODE_MEASURES, float("nan"))
    if code is None or space is None:
        return found
    if space.bounded:
        return {**found, "code_at_bound": float(((code <= space.low) | (code >= space.high)).mean())}
    return {**found, "code_norm": float(np.linalg.norm(code)) / (space.scale * space.dim**0.5)}


def coords_of(spaces: Sequence[Space]) -> dict[str, tuple[str, Any]]:
    """Returns coordinates of each presentation, as a layout takes them: name -> (dtype, value of an unwritten row).

    Of the codes only what the spaces of the threads can have.
    """
    bounded = {space.bounded for space in spaces}
    codes = [name for name, kind in zip(CODE_MEASURES, (False, True), strict=True) if kind in bounded]
    return dict.fromkeys((*MEASURES, *codes), ("float64", np.nan))


@dataclass(frozen=True)
class Looked:
    """What is measured of a block's images alone.

    It takes no product of matrices, for which other libraries and threads share a number of threads: so it can be
    measured in a thread beside anything else, and both give the same bits as one after the other.

    Attributes:
        measures: Each of `IMAGE_MEASURES`, ``(n,)``.
        thumbnails: See `closedloop.images.nearest.thumbnails`; None where there are no references.
    """

    measures: dict[str, FloatArray]
    thumbnails: NDArray[np.float32] | None

    @classmethod
    def at(cls, images: NDArray[np.float32], bank: Bank | None) -> Looked:
        """Looks at images ``(n, 3, h, w)``, RGB in [0, 1], or grey, or movies, which are trusted to be such.

        Args:
            images: The images.
            bank: The references; None where there are none.
        """
        return cls(_measure(images), None if bank is None else thumbnails(images))


def presentation_coords(
    looked: Looked,
    codes: Sequence[FloatArray | None],
    spaces: Sequence[Space | None],
    bank: Bank | None,
    own: Sequence[int] | NDArray[np.integer[Any]],
) -> dict[str, FloatArray]:
    """Returns what a run records of the images of a block.

    Args:
        looked: What was measured of the n images alone.
        codes: The code that made each; None for a reference.
        spaces: The space of each code; None for a reference.
        bank: The references; None where there are none.
        own: Which reference each image is; −1 for none.

    Returns:
        For each of `MEASURES` and `CODE_MEASURES` the values ``(n,)``.
    """
    found, points = dict(looked.measures), looked.thumbnails
    known = None if bank is None or points is None else bank.find(points, np.asarray(own, dtype=int))
    found["natural_distance"] = np.full(len(codes), np.nan) if known is None else known.ratio
    of_codes = [code_measures(code, space) for code, space in zip(codes, spaces, strict=True)]
    return found | {name: np.array([each[name] for each in of_codes], dtype=float) for name in CODE_MEASURES}


@dataclass(frozen=True)
class Band:
    """The band in which natural images lie on one measure.

    Attributes:
        low: Where 2.5 % of them lie below; 0 for `ONE_SIDED`.
        high: Where 2.5 % of them lie above; 5 % for `ONE_SIDED`.
        least: The lowest of them.
        most: The highest of them.
        median: The middle of them.
        n: How many they are.
    """

    low: float
    high: float
    least: float
    most: float
    median: float
    n: int

    @classmethod
    def of(cls, name: str, values: FloatArray) -> Band:
        """Returns the band of values ``(n,)``; NaN is left out, and of fewer than two nothing is known."""
        known = np.asarray(values, dtype=float)
        known = known[np.isfinite(known)]
        if len(known) < 2:
            nan = float("nan")
            return cls(nan, nan, nan, nan, nan, len(known))
        low, middle, high = (float(q) for q in np.quantile(known, [0.025, 0.5, 0.975]))
        if name in ONE_SIDED:
            low, high = 0.0, float(np.quantile(known, 0.95))
        return cls(low, high, float(known.min()), float(known.max()), middle, len(known))

    def holds(self, value: Any) -> Any:
        """Tells whether values lie in the central 95 %: 1, 0, or NaN where that is not known."""
        known = np.isfinite(value) & np.isfinite(self.high)
        return np.where(known, (value >= self.low) & (value <= self.high), np.nan)


def band(images: NDArray[Any]) -> dict[str, Band]:
    """Returns the natural band: where images ``(n, 3, h, w)``, RGB in [0, 1], or grey, or movies, lie on `MEASURES`.

    Each is held beside the others for `natural_distance`.

    Raises:
        InvalidArgumentError: Not images.
    """
    checked = check_any_images(images)
    bank, none = Bank.of(checked), [None] * len(checked)
    found = presentation_coords(Looked.at(checked, bank), none, none, bank, range(len(checked)))
    return {name: Band.of(name, found[name]) for name in MEASURES}


def inside(values: Mapping[str, Any], bands: Mapping[str, Band]) -> dict[str, Any]:
    """Tells whether values lie in the bands, for each measure that both name: 1, 0, or NaN where that is not known.

    Args:
        values: By measure, numbers or arrays; for instance `measure` of images.
        bands: By measure, see `band`.
    """
    return {name: bands[name].holds(np.asarray(value)) for name, value in values.items() if name in bands}
