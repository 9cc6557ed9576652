"""What units respond to: tuning curves, sparseness, signal correlation, and the time course."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.analysis.reasons import CONSTANT, choose
from closedloop.analysis.reliability import column_correlation, correlation_table
from closedloop.analysis.runs import check_recording
from closedloop.analysis.spikes import counts
from closedloop.analysis.students import in_unit
from closedloop.analysis.units import Kind, Moments, means, pieces, select, unit_coords
from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.interfaces import FloatArray
from closedloop.signatures import at_door


@at_door
def tuning_curve(recording: xr.Dataset, by: str = "stimulus_id", *, kind: Kind = None) -> xr.Dataset:
    """Returns the mean response of each unit to each image, or along any other coordinate of presentations.

    Args:
        recording: See `closedloop.open_recording`.
        by: A coordinate of presentations: "stimulus_id", "generation", "theta_deg" … Presentations on which it is NaN
            are left out.
        kind: Which presentations: "reference", "retest" …; None for the references, or for all where there are none.

    Returns:
        Over ``by`` and ``neuroid``: `mean`, `sem` (standard error over presentations, NaN below two), `n`, and `rank`
        (1 for the highest mean). `reason` of a unit is not empty where some of its values are missing.
    """
    chosen = select(recording, kind, by=by, natural=by == "stimulus_id")
    found = [Moments.of(values, chosen) for _, values in pieces(recording, chosen.rows)]
    mean, sem, n = (np.concatenate([getattr(f, c) for f in found], axis=1) for c in ("mean", "sem", "n"))
    # The rank of each value is its place in the sorted column: argsort of argsort. Missing means come last.
    rank = np.argsort(np.argsort(np.where(np.isnan(mean), np.inf, -mean), axis=0, kind="stable"), axis=0) + 1.0
    columns = {"mean": mean, "sem": sem, "n": n, "rank": np.where(np.isnan(mean), np.nan, rank)}
    reason = choose(
        (np.isnan(mean).any(0), "every presentation of some images was lost"),
        ((n < 2).any(0), "sem: some images were presented once"),
    )
    coords = {by: chosen.names, **unit_coords(recording), "reason": ("neuroid", reason)}
    return xr.Dataset({name: ((by, "neuroid"), c) for name, c in columns.items()}, coords=coords)


@at_door
def sparseness(
    recording: xr.Dataset, over: Literal["stimuli", "units"] = "stimuli", *, kind: Kind = None
) -> xr.Dataset:
    """Measures the sparseness of mean responses: 0 where all are equal, 1 where a single one is not 0.

    S = (1 − a) ÷ (1 − 1/n) with a = (Σ r/n)² ÷ (Σ r²/n), responses rectified first: Treves & Rolls 1991 in the form of
    Vinje & Gallant 2000. Over fewer than some 50 stimuli it depends strongly on which they are.

    Args:
        recording: See `closedloop.open_recording`.
        over: "stimuli": lifetime sparseness of each unit; "units": population sparseness of each stimulus.
        kind: Which presentations: "reference", "retest" …; None for the references, or for all where there are none.

    Returns:
        Over ``neuroid`` or ``stimulus_id``: `sparseness`, `kurtosis` (excess, of the unrectified responses) and `n`;
        NaN with the reason where there are fewer than two values, or none above 0.
    """
    if over not in ("stimuli", "units"):
        raise InvalidArgumentError(f"over: expected 'stimuli' or 'units', got {over!r}.")
    chosen = select(recording, kind, natural=True)
    table = means(recording, chosen)
    columns, reason = sparseness_of(table if over == "stimuli" else table.T)
    if over == "stimuli":
        coords: dict[str, Any] = unit_coords(recording)
    else:
        coords = {"stimulus_id": chosen.names}
    dim = "neuroid" if over == "stimuli" else "stimulus_id"
    variables = {name: (dim, column) for name, column in columns.items()}
    return xr.Dataset(variables, coords={**coords, "reason": (dim, reason)})


def sparseness_of(table: FloatArray) -> tuple[dict[str, FloatArray], NDArray[Any]]:
    """Returns sparseness, kurtosis and n of columns ``(n, items)``, each ``(items,)``, and the reason for NaN."""
    known = ~np.isnan(table)
    n = known.sum(0).astype(float)
    rectified = np.where(known, np.maximum(table, 0), 0)
    reason = choose((n < 2, "fewer than two values"), (~(rectified > 0).any(0), "no response is above 0"))
    with np.errstate(divide="ignore", invalid="ignore"):
        # a = (Σ r/n)² / (Σ r²/n), from 1/n (a single response) to 1 (all equal); S maps the two to 1 and 0.
        rectified, _ = in_unit(rectified)
        a = (rectified.sum(0) / n) ** 2 / ((rectified**2).sum(0) / n)
        value = np.where(reason == "", (1 - a) / (1 - 1 / n), np.nan)
        deviation = np.where(known, table - np.nansum(table, 0) / n, 0)
        deviation, _ = in_unit(deviation)
        variance = (deviation**2).sum(0) / n
        # Fourth moment over the squared variance, less the 3 of a normal distribution.
        kurtosis = np.where(variance > 0, (deviation**4).sum(0) / n / variance**2 - 3, np.nan)
    return {"sparseness": value, "kurtosis": kurtosis, "n": n}, reason


@at_door
def signal_correlation(recording: xr.Dataset, *, kind: Kind = None) -> xr.Dataset:
    """Correlates units by their mean responses to the same images (Cohen & Kohn 2011).

    It is not corrected for noise, which lowers it, nor for noise that units share, which raises it: average over many
    repeats.

    Args:
        recording: See `closedloop.open_recording`.
        kind: Which presentations: "reference", "retest" …; None for the references, or for all where there are none.

    Returns:
        `correlation` over ``neuroid`` and ``neuroid_b``; rows and columns of a unit that does not vary are NaN, with
        the reason.
    """
    chosen = select(recording, kind, natural=True)
    table = means(recording, chosen)
    matrix = column_correlation(table)
    few = (~np.isnan(table)).sum(0) < 3
    reason = choose((few, "fewer than three images"), (np.isnan(np.diag(matrix)), CONSTANT))
    return correlation_table(recording, matrix, reason)


@at_door
def psth(
    recording: xr.Dataset, by: str = "kind", *, kind: Kind = None, bins_s: Sequence[float] | None = None
) -> xr.Dataset:
    """Makes a peristimulus time histogram: the mean response in each time bin, by group of presentations.

    Args:
        recording: A recording with a time axis, or with spikes.
        by: The coordinate of presentations that groups them: "kind", "generation", "thread", "stimulus_id" …
        kind: Which presentations: "evolved", "reference" …; None for all.
        bins_s: Of a recording with spikes, begin of the first bin, width of each in seconds from the onset, and their
            number, such as ``(-0.05, 0.01, 35)``; the mean is then in spikes per second.

    Returns:
        Over ``by``, ``time_bin`` and ``neuroid``: `mean`, `sem`, `n`. Over ``by`` and ``neuroid``: `peak_latency`, the
        bin of the highest mean; `onset_latency`, where the mean first gets half way from the first bin to the peak;
        `center_of_mass` of the response above its lowest bin. Latencies are in ms (middle of the bin) where the
        recording says `time_bin_start` and `time_bin_end`, else in bins counted from 0; `unit_of_time` says which. NaN
        with the reason where the response does not change over time.

    Raises:
        RecordingError: The recording has no time axis.
    """
    check_recording(recording, "responses")
    if bins_s is not None:
        binned = counts(recording, bins_s=bins_s) / float(bins_s[1])
        recording = recording.drop_vars("responses").drop_dims("time_bin", errors="ignore").assign(responses=binned)
    if "time_bin" not in recording.dims:
        raise RecordingError(
            "recording: expected responses with a time axis (presentation, neuroid, time_bin); this one has none, so a "
            "PSTH does not exist. Of a recording with spikes, say in which bins: bins_s=(0, 0.01, 30)."
        )
    chosen = select(recording, kind, by=by)
    bins, times = recording.sizes["time_bin"], _times(recording)
    found = []
    for _, values in pieces(recording, chosen.rows, time=True):
        moments = Moments.of(values.reshape(len(values), -1), chosen)
        found.append([m.reshape(len(chosen.names), -1, bins) for m in (moments.mean, moments.sem, moments.n)])
    mean, sem, n = (np.concatenate([f[i] for f in found], axis=1).swapaxes(1, 2) for i in range(3))
    columns = {"mean": mean, "sem": sem, "n": n}
    latencies, reason = _latencies(mean, times)
    own = {str(name): coord for name, coord in recording.coords.items() if coord.dims == ("time_bin",)}
    unit = "ms" if "time_bin_start" in own else "bins"
    return xr.Dataset(
        {
            **{name: ((by, "time_bin", "neuroid"), column) for name, column in columns.items()},
            **{name: ((by, "neuroid"), column) for name, column in latencies.items()},
        },
        coords={
            by: chosen.names,
            **own,
            **unit_coords(recording),
            "unit_of_time": unit,
            "reason": ((by, "neuroid"), reason),
        },
    )


def _times(recording: xr.Dataset) -> FloatArray:
    """Returns the middle of each bin in ms where that is known, else its number."""
    if "time_bin_start" in recording.coords and "time_bin_end" in recording.coords:
        middle: FloatArray = (recording["time_bin_start"].values + recording["time_bin_end"].values) / 2
        return middle
    return np.arange(recording.sizes["time_bin"], dtype=float)


def _latencies(mean: FloatArray, times: FloatArray) -> tuple[dict[str, FloatArray], NDArray[Any]]:
    """Returns peak, onset and centre of mass ``(groups, units)`` of ``(groups, time, units)``."""
    lost = np.isnan(mean).any(1)
    filled = np.where(np.isnan(mean), 0, mean)
    flat = np.ptp(filled, axis=1) == 0
    peak = filled.argmax(1)
    half = (filled[:, :1] + filled.max(1, keepdims=True)) / 2  # half way from the first bin to the peak
    # Above its lowest bin a response has no negative weight, and its center of mass lies within the bins.
    weight = filled - filled.min(1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        center = np.einsum("gtu,t->gu", weight, times) / weight.sum(1)
    found = {
        "peak_latency": times[peak],
        "onset_latency": times[(filled >= half).argmax(1)],
        "center_of_mass": center,
    }
    reason = choose((lost, "every presentation was lost"), (flat, "the response does not change over time"))
    return {name: np.where(reason == "", value, np.nan) for name, value in found.items()}, reason
