"""Times of the presentations of a rig as one axis that rises: clocks begin anew, and some images were not shown."""

from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import xarray as xr
from numpy.typing import NDArray

#: How far the clock of a rig may be behind what the begins of sittings say, in seconds: how long a rig is waited for.
WAITED_S = 600.0


def is_of_a_rig(recording: xr.Dataset) -> bool:
    """Tells whether onsets of a recording were measured by a rig."""
    return "onset_source" in recording.coords and "day" in recording.coords


def rig_times(recording: xr.Dataset) -> tuple[NDArray[np.float64], float]:
    """Returns the begin of each presentation ``(n,)`` and the usual time to the next, in seconds, on one axis.

    Where all onsets are known and rise they are returned as they are. A presentation that was not shown stands between
    its neighbours. Where the clock of the rig began anew, time goes on one presentation after the last; in a later
    sitting so long after the first as the begins of both say, and where these do not say it, so many days as the dates
    do. It began anew in a later sitting, too, where it rises, but is far behind what the begins say.
    """
    onset = recording["onset_s"].values.astype(np.float64)
    days = [_day(text) for text in recording["day"].values.tolist()]
    sittings = recording["session"].values.tolist() if "session" in recording.coords else [""] * len(onset)
    begun = [_moment(text) for text in sittings]
    known = np.flatnonzero(np.isfinite(onset))
    if len(known) == 0:
        return np.arange(len(onset), dtype=np.float64), 1.0
    steps = np.diff(onset[known])
    usual = float(np.median(steps[steps > 0])) if (steps > 0).any() else 1.0
    times, shift, last, first, before = np.full(len(onset), np.nan), 0.0, -np.inf, int(known[0]), int(known[0])
    for i in known.tolist():
        since_s = begun[i] - begun[first]
        behind = begun[i] > begun[before] and onset[i] + shift < onset[first] + since_s - WAITED_S
        if behind or onset[i] + shift <= last:
            # A day has 86,400 s.
            shift = max(last + usual, onset[first] + (since_s or (days[i] - days[first]) * 86_400.0)) - onset[i]
        last, before = onset[i] + shift, i
        times[i] = last
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


def _moment(text: str) -> float:
    """Returns when a sitting began, in seconds; 0 where its name does not say it."""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return 0.0
