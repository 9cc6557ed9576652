"""Times of the presentations of a rig as one axis that rises: clocks begin anew, and some images were not shown."""

from __future__ import annotations

from datetime import date

import numpy as np
import xarray as xr
from numpy.typing import NDArray

#: Seconds of a day.
DAY_S = 86_400.0


def is_of_a_rig(recording: xr.Dataset) -> bool:
    """Tells whether onsets of a recording were measured by a rig."""
    return "onset_source" in recording.coords and "day" in recording.coords


def rig_times(recording: xr.Dataset) -> tuple[NDArray[np.float64], float]:
    """Returns the begin of each presentation ``(n,)`` and the usual time to the next, in seconds, on one axis.

    Where all onsets are known and rise they are returned as they are. A presentation that was not shown stands between
    its neighbours. Where the clock of the rig began anew, time goes on one presentation after the last; on a later day
    so many days after the first as the dates say.
    """
    onset = recording["onset_s"].values.astype(np.float64)
    days = [_day(text) for text in recording["day"].values.tolist()]
    known = np.flatnonzero(np.isfinite(onset))
    if len(known) == 0:
        return np.arange(len(onset), dtype=np.float64), 1.0
    steps = np.diff(onset[known])
    usual = float(np.median(steps[steps > 0])) if (steps > 0).any() else 1.0
    times, shift, last, first_day = np.full(len(onset), np.nan), 0.0, -np.inf, days[known[0]]
    for i in known.tolist():
        if onset[i] + shift <= last:
            shift = max(last + usual, onset[known[0]] + (days[i] - first_day) * DAY_S) - onset[i]
        last = times[i] = onset[i] + shift
    return _filled(times, known, usual), usual


def _filled(times: NDArray[np.float64], known: NDArray[np.int64], usual: float) -> NDArray[np.float64]:
    """Puts presentations that were not shown evenly between those before and behind them."""
    places = np.arange(len(times))
    filled = np.interp(places, known, times[known])
    first, last = known[0], known[-1]
    filled[:first] = times[first] + usual * (places[:first] - first)
    filled[last:] = times[last] + usual * (places[last:] - last)
    return filled


def _day(text: str) -> int:
    try:
        return date.fromisoformat(text).toordinal()
    except ValueError:
        return 0
