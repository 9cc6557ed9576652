"""Reading responses unit by unit: which presentations count, in pieces that fit into memory, grouped by stimulus."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import sparse

from closedloop.analysis.reasons import ROUNDING
from closedloop.analysis.runs import check_recording, contents
from closedloop.analysis.students import in_unit
from closedloop.errors import InvalidArgumentError, RecordingError, closest
from closedloop.interfaces import FloatArray
from closedloop.recording.evolutions import RUN
from closedloop.recording.layout import REFERENCE
from closedloop.recording.lean import ALL, COMMON, COMMON_ROW, CURE, is_lean

#: Which presentations: those of one kind, of several, or of all.
Kind = str | Sequence[str] | None


@dataclass(frozen=True)
class Selection:
    """Presentations that are analysed, sorted by stimulus.

    Attributes:
        rows: Their indices, ``(n,)``.
        index: Number of the stimulus of each, ``(n,)``, ascending.
        names: Names of the stimuli, ``(stimuli,)``.
    """

    rows: NDArray[np.intp]
    index: NDArray[np.intp]
    names: NDArray[Any]

    @property
    def counts(self) -> NDArray[np.intp]:
        """Presentations of each stimulus."""
        return np.bincount(self.index, minlength=len(self.names))

    def repeated(self, least: int) -> Selection:
        """Keeps only the stimuli with at least so many presentations."""
        many = self.counts >= least
        kept = many[self.index]
        return Selection(self.rows[kept], (np.cumsum(many) - 1)[self.index[kept]], self.names[many])


def stimuli(
    recording: xr.Dataset, kind: str, columns: Sequence[str], what: str, protocol: str
) -> tuple[Selection, list[NDArray[Any]]]:
    """Selects what a protocol showed, grouped by stimulus, and returns what is noted of each.

    Args:
        recording: See `closedloop.open_recording`.
        kind: Of its presentations.
        columns: Coordinates of presentations.
        what: It is, in words, for the error.
        protocol: Which records it.

    Returns:
        The selection, and each column's value for each stimulus ``(n,)``.

    Raises:
        RecordingError: It is a recording of something else.
    """
    check_recording(recording, "responses")
    if not set(columns) <= set(map(str, recording.coords)):
        raise RecordingError(
            f"recording: expected {what}, with {', '.join(columns)} on presentations; record it with "
            f"closedloop.protocols.{protocol}."
        )
    chosen = select(recording, kind)
    first = chosen.rows[np.searchsorted(chosen.index, np.arange(len(chosen.names)))]
    return chosen, [recording[name].values[first] for name in columns]


def select(recording: xr.Dataset, kind: Kind, *, by: str = "stimulus_id", natural: bool = False) -> Selection:
    """Selects the presentations of some kinds, grouped by a coordinate.

    Args:
        recording: See `closedloop.open_recording`.
        kind: "evolved", "reference", "retest" …, or several; None for all.
        by: Coordinate of presentations that groups them.
        natural: Whether None means the references, where there are any.

    Raises:
        RecordingError: No presentation of that kind.
        InvalidArgumentError: No such coordinate.
    """
    held = recording.coords.items() if isinstance(recording, xr.Dataset) else ()
    coords = [str(n) for n, c in held if c.dims == ("presentation",)]
    if "kind" not in coords or ("responses" not in recording and not is_lean(recording)):
        raise RecordingError(
            "recording: expected what closedloop.open_recording returns, with responses and kind on presentations, "
            f"got {contents(recording)}."
        )
    if by not in coords:
        raise InvalidArgumentError(f"by: expected a coordinate of presentations, got {by!r}.{closest(by, coords)}")
    kinds = recording["kind"].values.astype(str)
    if kind is None:
        wanted = kinds == "reference" if natural and (kinds == "reference").any() else np.full(len(kinds), True)
    else:
        wanted = np.isin(kinds, [kind] if isinstance(kind, str) else list(kind))
    if is_lean(recording):
        if wanted.any() and not (wanted & (recording[COMMON_ROW].values >= 0)).any():
            raise RecordingError(
                f"kind: {kind!r}: expected responses of all units, but this is a lean recording, which holds of these "
                f"images the response of one unit each. {CURE}"
            )
        wanted = wanted & (recording[COMMON_ROW].values >= 0)
    if not wanted.any():
        raise RecordingError(
            f"kind: no presentation of kind {kind!r}; the recording has {sorted(set(kinds.tolist()))}."
        )
    groups = _groups(recording, by)
    if groups.dtype.kind == "f":
        wanted &= ~np.isnan(groups)
    rows = np.flatnonzero(wanted)
    names, index = np.unique(groups[rows], return_inverse=True)
    order = np.argsort(index, kind="stable")
    return Selection(rows[order], index[order], names.astype(object) if names.dtype.kind == "U" else names)


def _groups(recording: xr.Dataset, by: str) -> NDArray[Any]:
    """Returns the values of a coordinate; of joined runs, evolved images of one name are kept apart."""
    values = recording[by].values
    if values.dtype.kind not in "OUT":
        return np.asarray(values)
    values = values.astype(str)
    if by != "stimulus_id" or RUN not in recording.coords:
        return np.asarray(values)
    threads, names = recording["thread"].values, recording[RUN].values
    pairs = zip(values, threads, names, strict=True)
    return np.array([v if thread == REFERENCE else f"{run}/{v}" for v, thread, run in pairs])


def pieces(
    recording: xr.Dataset,
    rows: NDArray[np.intp],
    time: bool = False,
    *,
    values_at_once: int = 2**20,
    most_passes: int = 16,
) -> Iterator[tuple[slice, FloatArray]]:
    """Yields responses of some presentations, a few units at a time.

    Args:
        recording: See `closedloop.open_recording`.
        rows: Indices of the presentations, ``(n,)``.
        time: Whether time bins are kept apart.
        values_at_once: Responses that are read at once; 2²⁰ are 8 MB in double precision.
        most_passes: More passes over the file, whose chunks hold all units, are not made: then more are read at once.

    Yields:
        Which units, and their responses ``(n, units)`` in double precision, averaged over time bins; with ``time``
        ``(n, units, time)``.
    """
    if is_lean(recording):  # of which `select` chose those with all units
        responses, rows = recording[ALL].rename({COMMON: "presentation"}), recording[COMMON_ROW].values[rows]
    else:
        responses = recording["responses"]
    units, bins = recording.sizes["neuroid"], recording.sizes.get("time_bin", 1)
    width = max(1, values_at_once // max(1, len(rows) * bins), -(-units // most_passes))
    for start in range(0, units, width):
        chosen = slice(start, min(start + width, units))
        values = responses.isel(presentation=rows, neuroid=chosen).values.astype(float)
        if np.isinf(values).any():
            place = int(rows[np.flatnonzero(np.isinf(values).reshape(len(values), -1).any(1))[0]])
            raise RecordingError(
                f"responses: expected numbers, or NaN for a lost presentation, got infinity in presentation {place}; "
                "set it to NaN."
            )
        yield chosen, values.mean(-1) if values.ndim == 3 and not time else values


def unit_coords(recording: xr.Dataset, dim: str = "neuroid") -> dict[str, tuple[str, NDArray[Any]]]:
    """Returns the coordinates of the units, for a result along a dimension ``dim``."""
    own = {str(n): c.values for n, c in recording.coords.items() if c.dims == ("neuroid",)}
    return {name if dim == "neuroid" else f"{name}_{dim[-1]}": (dim, values) for name, values in own.items()}


def per_unit(
    recording: xr.Dataset,
    selection: Selection,
    measure: Callable[[FloatArray], Mapping[str, NDArray[Any]]],
    responses: Sequence[str] = (),
) -> xr.Dataset:
    """Measures each unit's responses, in a unit of its own in which squares neither overflow nor vanish.

    Args:
        recording: See `closedloop.open_recording`.
        selection: Which presentations.
        measure: From responses ``(n, units)`` in the order of the selection to results ``(units,)`` by name, among them
            `reason`.
        responses: Names of the results that have the unit of responses; the others have none.

    Returns:
        The results over ``neuroid``, with the units' coordinates and `reason`.
    """
    found = []
    for _, values in pieces(recording, selection.rows):
        scaled, exponent = in_unit(values)
        known = measure(scaled)
        found.append({**known, **{name: np.ldexp(known[name], exponent[0]) for name in responses}})
    whole = {name: np.concatenate([f[name] for f in found]) for name in found[0]}
    reason = whole.pop("reason")
    coords = {**unit_coords(recording), "reason": ("neuroid", reason)}
    return xr.Dataset({name: ("neuroid", column) for name, column in whole.items()}, coords=coords)


@dataclass(frozen=True)
class Moments:
    """Responses by stimulus, all ``(stimuli, units)``; lost presentations are left out.

    Attributes:
        n: Number.
        mean: Mean, NaN where n is 0.
        squares: Sum of squared deviations from the mean, exactly 0 where all repeats are identical.
        sem: Standard error of the mean, NaN below two repeats; also where squares overflow or vanish.
        error: How large errors of rounding are, ``(units,)``.
    """

    n: FloatArray
    mean: FloatArray
    squares: FloatArray
    sem: FloatArray
    error: FloatArray

    @classmethod
    def of(cls, values: FloatArray, selection: Selection) -> Moments:
        """Computes the moments of responses ``(n, units)`` in the order of the selection."""
        starts = np.searchsorted(selection.index, np.arange(len(selection.names)))
        digits = rounding(values)
        values, exponent = in_unit(values)
        low = np.fmin.reduceat(values, starts, axis=0)  # deviations from it are exactly 0 for identical repeats
        deviation = values - low[selection.index]
        known = ~np.isnan(deviation)
        deviation[~known] = 0
        # Shifted by the lowest value: Σ (x - mean)² = Σ d² - (Σ d)² / n without cancellation of large means.
        n = np.add.reduceat(known.astype(float), starts, axis=0)
        total, squares = (np.add.reduceat(d, starts, axis=0) for d in (deviation, deviation**2))
        some = np.where(n > 0, n, np.nan)
        mean, squares = low + total / some, np.maximum(squares - total**2 / np.maximum(n, 1), 0)
        sem = np.sqrt(squares / np.where(n > 1, n - 1, np.nan) / np.maximum(n, 1))
        error = np.maximum(ROUNDING * _deviation(n, mean), digits * np.sqrt(_mean_over(n, mean**2)))
        with np.errstate(over="ignore", under="ignore"):
            mean, sem, squares = np.ldexp(mean, exponent), np.ldexp(sem, exponent), np.ldexp(squares, 2 * exponent)
            return cls(n, mean, squares, sem, np.ldexp(error, exponent[0]))

    @property
    def variance(self) -> FloatArray:
        """Unbiased variance over repeats, NaN below two."""
        return self.squares / np.where(self.n > 1, self.n - 1, np.nan)

    @property
    def noiseless(self) -> NDArray[np.bool_]:
        """Whether a unit's repeats differ by no more than rounding, ``(units,)``; False where none is repeated."""
        df = np.maximum(self.n - 1, 0).sum(0)
        noise = self.squares.sum(0) / np.maximum(df, 1)  # mean variance within images
        return np.asarray((df > 0) & (noise <= self.error**2))

    @property
    def constant(self) -> NDArray[np.bool_]:
        """Whether a unit's mean response is the same for all stimuli but for rounding, ``(units,)``."""
        known = ~np.isnan(self.mean)
        high, low = (f(np.where(known, self.mean, s), 0) for f, s in ((np.max, -np.inf), (np.min, np.inf)))
        with np.errstate(invalid="ignore"):
            flat = high - low <= ROUNDING**2 * np.maximum(np.abs(high), np.abs(low))
        return np.asarray(flat | (known.sum(0) < 2))


def rounding(values: FloatArray) -> FloatArray:
    """Returns what part of responses ``(n, units)`` is rounding by the type in which they were measured, ``(units,)``.

    Numbers that single precision holds came in it, whole numbers such as counts aside: those are exact.
    """
    with np.errstate(over="ignore", under="ignore"):
        single = ((values == values.astype(np.float32)) | np.isnan(values)).all(0)
    whole = ((values == np.round(values)) | np.isnan(values)).all(0)
    return 16 * np.where(single & ~whole, np.finfo(np.float32).eps, np.finfo(np.float64).eps)


def _mean_over(n: FloatArray, values: FloatArray) -> FloatArray:
    """Returns means over presentations ``(units,)`` of what each of ``n`` presentations of a stimulus has."""
    found: FloatArray = np.nansum(n * values, 0) / np.maximum(n.sum(0), 1)
    return found


def _deviation(n: FloatArray, mean: FloatArray) -> FloatArray:
    """Returns the standard deviation of means over presentations, ``(units,)``."""
    return np.sqrt(_mean_over(n, (mean - _mean_over(n, mean)) ** 2))


def means(recording: xr.Dataset, selection: Selection) -> FloatArray:
    """Returns the mean response of each unit to each stimulus, ``(stimuli, units)``."""
    return np.concatenate([Moments.of(v, selection).mean for _, v in pieces(recording, selection.rows)], axis=1)


def averaging(index: NDArray[np.intp], chosen: NDArray[np.bool_], stimuli: int) -> sparse.csr_array:
    """Returns the matrix ``(stimuli, n)`` that sums the chosen presentations of each stimulus."""
    rows = np.flatnonzero(chosen)
    return sparse.csr_array((np.ones(len(rows)), (index[rows], rows)), shape=(stimuli, len(index)))


def correlations(a: FloatArray, b: FloatArray) -> FloatArray:
    """Returns Pearson's correlation of the columns of ``a`` and ``b`` ``(n, units)``, over the rows that both have.

    Returns ``(units,)``; NaN where a column does not vary, or has fewer than three rows.
    """
    known = ~(np.isnan(a) | np.isnan(b))
    n = known.sum(0)
    # Both centred over the rows they share: r = Σ x y / √(Σ x² Σ y²).
    x, y = (np.where(known, v - np.nansum(np.where(known, v, 0), 0) / np.maximum(n, 1), 0) for v in (a, b))
    (x, _), (y, _) = in_unit(x), in_unit(y)
    size = np.sqrt((x**2).sum(0) * (y**2).sum(0))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((n > 2) & (size > 0), (x * y).sum(0) / size, np.nan)
