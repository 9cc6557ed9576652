"""Receptive fields: a 2-D Gaussian through the responses to small stimuli at many places."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.analysis.fitting import LEVEL, Grouped, Search, error_of, search
from closedloop.analysis.units import means, stimuli, unit_coords
from closedloop.checks import check_positive
from closedloop.errors import InvalidArgumentError
from closedloop.images.patterns import Screen
from closedloop.interfaces import FloatArray
from closedloop.objectives.naming_units import UnitSpec, parse_columns
from closedloop.signatures import at_door

#: The kind of presentations of a field's mapping.
FIELD = "field"
#: What squares are.
POLARITIES = ("bright", "dark")
#: The coordinates of a mapping: middle of the stimulus, its standard deviation, and what it is.
COLUMNS = ("stimulus_y_px", "stimulus_x_px", "stimulus_sd_px", "shown")
#: Quantities of a fit that have a standard error.
_SIZED = ("y_px", "x_px", "sigma_px", "sigma_y_px", "sigma_x_px")


def gaussian(places: FloatArray, parameters: FloatArray) -> FloatArray:
    """Returns the drive of a Gaussian field by stimuli, 1 at its centre, ``(n,)``.

    A linear field of covariance Σ sums a stimulus of standard deviation s at a distance d to
    exp(−½ dᵀ (Σ + s² I)⁻¹ d), times a constant for each s.

    Args:
        places: Row and column of each stimulus in pixels, and its standard deviation (of a square w wide w ÷ √12),
            ``(3, n)``.
        parameters: Row and column of the centre, and u, v, w with Σ = L Lᵀ and L = [[eᵘ, 0], [w, eᵛ]] over row, column.
    """
    (y, x, sd), (cy, cx, u, v, w) = places, parameters
    a, b = np.exp(2 * u) + sd**2, w**2 + np.exp(2 * v) + sd**2  # the variances along rows and columns
    c = w * np.exp(u)
    dy, dx = y - cy, x - cx
    # The inverse of [[a, c], [c, b]] is [[b, -c], [-c, a]] ÷ (a b − c²).
    drive: FloatArray = np.exp(-0.5 * (b * dy**2 - 2 * c * dy * dx + a * dx**2) / (a * b - c**2))
    return drive


def _sizes(parameters: FloatArray) -> FloatArray:
    """Returns row, column, σ (geometric mean over axes), σ along rows and σ along columns, in pixels."""
    cy, cx, u, v, w = parameters
    return np.array([cy, cx, np.exp((u + v) / 2), np.exp(u), np.sqrt(w**2 + np.exp(2 * v))])


@at_door
def fit_field(recording: xr.Dataset, *, units: UnitSpec | None = None, seed: int = 0) -> xr.Dataset:
    """Fits a 2-D Gaussian to each unit's responses by place, by least squares.

    The maps of bright and dark squares, or of all pictures, are averaged first (`combined`). The model is level +
    amplitude · exp(−½ dᵀ (Σ + s² I)⁻¹ d): the size s of the stimulus is taken out, and each size of patches has a level
    and an amplitude of its own. Standard errors are those of HC3, see `closedloop.analysis.fitting`.

    Args:
        recording: Of `closedloop.protocols.map_field`.
        units: Columns of the responses; None for all.
        seed: Of the shuffles behind `p`.

    Returns:
        Over ``neuroid``: the centre at `y_px`, `x_px` (row and column); `sigma_px`, the geometric mean of the standard
        deviations along both axes, and `sigma_y_px`, `sigma_x_px`, those along rows and columns; of each a standard
        error, `…_se`; `aspect` (long ÷ short axis) and `angle_deg` of the long axis, counterclockwise from horizontal;
        `r_squared`; and `p`, by shuffling places. Where the screen is known `x_deg`, `y_deg` (right of and above the
        middle) and `sigma_deg`, with errors. NaN with the reason where responses do not depend on the place
        (p ≥ 0.01), or where the fit runs to the edge of what was shown.

    Raises:
        RecordingError: It is none of a field's mapping.
    """
    table, places, shown = field_responses(recording)
    columns = parse_columns(units, table.shape[1]) if units is not None else range(table.shape[1])
    found = [_fit(table[:, c], places, shown, seed) for c in columns]
    names = list(found[0])
    screen, whole = Screen.of_recording(recording), {n: np.array([f[n] for f in found]) for n in names}
    reason = whole.pop("reason").astype(object)
    if screen.px_per_deg is not None:
        whole |= _in_degrees(whole, screen)
    coords = {name: (dim, values[list(columns)]) for name, (dim, values) in unit_coords(recording).items()}
    return xr.Dataset(
        {name: ("neuroid", values.astype(float)) for name, values in whole.items()},
        coords={**coords, **screen.scalars(), "reason": ("neuroid", reason)},
    )


def _in_degrees(whole: dict[str, NDArray[Any]], screen: Screen) -> dict[str, NDArray[Any]]:
    """Returns centre, size and errors in degrees."""
    found = {"x_deg": screen.right(whole["x_px"]), "y_deg": screen.up(whole["y_px"])}
    found["sigma_deg"] = whole["sigma_px"] / screen.scale
    return found | {f"{n}_deg_se": whole[f"{n}_px_se"] / screen.scale for n in ("x", "y", "sigma")}


@at_door
def field_responses(recording: xr.Dataset) -> tuple[FloatArray, FloatArray, NDArray[Any]]:
    """Returns what a field's mapping recorded, by stimulus.

    Returns:
        Mean responses ``(n, units)``; row, column and standard deviation of each stimulus in pixels ``(3, n)``; and
        what each showed ``(n,)``: "bright", "dark", or the name of a picture.

    Raises:
        RecordingError: It is none of a field's mapping.
    """
    chosen, (*places, shown) = stimuli(recording, FIELD, COLUMNS, "a receptive field's mapping", "map_field")
    return means(recording, chosen), np.stack(places).astype(float), shown.astype(str).astype(object)


def combined(y: FloatArray, places: FloatArray, shown: NDArray[Any]) -> tuple[FloatArray, FloatArray, NDArray[np.intp]]:
    """Averages the maps of all that was shown in one size, so that a field shows whatever drives the unit in it.

    A simple cell answers to bright squares in some stripes of its field and to dark ones in the others; a unit of a
    network may answer to one picture alone, or fall where others rise. Each map is taken from its mean, turned upwards
    if its tail is below, and, of pictures, counts by its standard deviation. None of this changes when places are
    shuffled.

    Args:
        y: Response to each stimulus ``(n,)``, NaN where lost.
        places: Row, column and standard deviation of each, ``(3, n)``.
        shown: What each showed, ``(n,)``.

    Returns:
        Responses ``(m,)``, without those that are lost; their places ``(3, m)``; and the number of each size ``(m,)``.
    """
    sizes, size = np.unique(places[2], return_inverse=True)
    _, what = np.unique(shown.astype(str), return_inverse=True)
    weight, deviation = np.zeros(len(y)), np.zeros(len(y))
    for one in np.unique(np.stack([size, what]), axis=1).T:
        own = (size == one[0]) & (what == one[1]) & ~np.isnan(y)
        if not own.any():
            continue
        away = y[own] - y[own].mean()
        deviation[own] = away * (1.0 if (away**3).sum() >= 0 else -1.0)
        weight[own] = 1.0 if set(shown) <= set(POLARITIES) else away.std()
    at, place = np.unique(places, axis=1, return_inverse=True)
    place = place.ravel()
    total, sum_of_weights = np.bincount(place, weight * deviation), np.bincount(place, weight)
    known = np.bincount(place, ~np.isnan(y)) > 0
    value = np.divide(total, sum_of_weights, out=np.zeros(len(total)), where=sum_of_weights > 0)
    return value[known], at[:, known], np.searchsorted(sizes, at[2, known]).astype(np.intp)


def _fit(responses: FloatArray, places: FloatArray, shown: NDArray[Any], seed: int) -> dict[str, Any]:
    """Returns what `fit_field` says of one unit."""
    y, at, size = combined(responses, places, shown)
    if len(y) < 20 or len(np.unique(at[0])) < 3 or len(np.unique(at[1])) < 3:
        return _none(f"{len(y)} places have a response; the fit needs 20, in three rows and columns or more")
    data = Grouped(y, np.unique(size, return_inverse=True)[1])
    spread = data.centred(data.y)
    if float(spread @ spread) <= 1e-20 * max(float(np.nansum(responses**2)), 1e-300):
        return _none("the response is the same everywhere")
    rows, columns = (np.unique(v) for v in at[:2])
    step = float(min(np.median(np.diff(rows)), np.median(np.diff(columns))))
    sizes = np.log(step * np.array([0.75, 1.5, 3.0]))
    candidates = np.array([(cy, cx, size, size, 0.0) for cy in rows for cx in columns for size in sizes])
    share, p = data.scan(np.array([gaussian(at, c) for c in candidates]), seed)
    if p >= LEVEL:
        return _none(f"the responses do not depend on the place (p = {p:.2g})") | {"p": p}
    reach = max(np.ptp(rows), np.ptp(columns))
    low = np.array([rows[0] - step, columns[0] - step, np.log(step / 20), np.log(step / 20), -2 * reach])
    high = np.array([rows[-1] + step, columns[-1] + step, np.log(2 * reach), np.log(2 * reach), 2 * reach])
    best = [candidates[i] for i in np.argsort(-share, kind="stable")[:3]]
    found = search(data, lambda v: gaussian(at, v), best, (low, high))
    if found is None:
        return _none("the fit converged from none of its starts") | {"p": p}
    return _described(found, p, low)


def _described(found: Search, p: float, low: FloatArray) -> dict[str, Any]:
    """Returns the numbers of a fit."""
    known = {"p": p, "r_squared": found.r_squared}
    if found.at_bound[:2].any():
        return _none("the centre lies at the edge of what was shown or beyond") | known
    if found.at_bound[2:].any():
        small = bool((found.parameters[2:4] < low[2:4] + 0.1).any())
        cure = "smaller than these stimuli can tell; map a smaller area" if small else "larger than the mapped area"
        return _none(f"the field is {cure}") | known
    _, _, u, v, w = found.parameters
    lower = np.array([[np.exp(u), 0.0], [w, np.exp(v)]])
    variances, axes = np.linalg.eigh(lower @ lower.T)
    down, right = axes[:, 1]
    return {
        **dict(zip(_SIZED, _sizes(found.parameters).tolist(), strict=True)),
        **{f"{n}_se": e for n, e in zip(_SIZED, error_of(_sizes, found).tolist(), strict=True)},
        "aspect": float(np.sqrt(variances[1] / variances[0])),
        "angle_deg": float(np.rad2deg(np.arctan2(-down, right)) % 180),
        **known,
        "reason": "",
    }


def _none(reason: str) -> dict[str, Any]:
    """Returns no fit, and why."""
    names = (*_SIZED, *(f"{n}_se" for n in _SIZED), "aspect", "angle_deg", "r_squared", "p")
    return {**dict.fromkeys(names, np.nan), "reason": reason}


@at_door
def field_box(found: xr.Dataset, unit: int = 0, *, sigmas: float = 2.0) -> tuple[int, int, int, int]:
    """Returns the box around a unit's field, for `closedloop.generators.Placed`.

    Args:
        found: What `fit_field` returned.
        unit: Which of its units.
        sigmas: Half the width of the box, in standard deviations of the field.

    Returns:
        (y0, x0, y1, x1) in whole pixels, the end not included; a square where the image's edge does not cut it.

    Raises:
        InvalidArgumentError: The unit has no field; the error says why.
    """
    check_positive("sigmas", sigmas)
    if not isinstance(found, xr.Dataset) or not {"sigma_px", "reason"} <= set(map(str, found.variables)):
        raise InvalidArgumentError("found: expected what closedloop.analysis.fit_field returned.")
    (column,) = parse_columns([unit], found.sizes["neuroid"])
    one = found.isel(neuroid=column)
    if one["reason"].item():
        raise InvalidArgumentError(
            f"unit: {one['neuroid_id'].item()} has no receptive field in this mapping: {one['reason'].item()}."
        )
    side = int(found["resolution_px"])
    half = max(sigmas * float(one["sigma_px"]), 1.0)
    edges = []
    for middle in (float(one["y_px"]) + 0.5, float(one["x_px"]) + 0.5):  # pixel i covers i to i + 1 from the corner
        start = round(middle - half)
        edges.append((min(max(start, 0), side - 1), max(min(start + round(2 * half), side), 1)))
    (y0, y1), (x0, x1) = edges
    return y0, x0, y1, x1
