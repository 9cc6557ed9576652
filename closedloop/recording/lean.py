"""Lean recordings: many units at once, each image recorded with the response of the one unit that it is meant for.

A session that evolves an image for each of a thousand units shows each image to all of them, and a table of all
responses would be a thousand times as long as what is asked of it. A lean recording holds ``response_own``
``(presentation)`` with the coordinate `own_neuroid`, the unit whose response it is. Reference images concern all units:
their responses are ``response_all`` ``(common, neuroid)``, and `common_row` says which row of it a presentation has (-1
for one that has an own unit; `own_neuroid` is "" for one that has a row here). NaN is a lost presentation, as
everywhere; the response of another unit to an evolved image is not there, and asking for it is an error.

What reads recordings of ordinary shape gets one by `all_units` (reference images with all units) or `of_thread`
(presentations of one thread and references, with its one unit).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from closedloop.errors import RecordingError

if TYPE_CHECKING:
    import xarray as xr

#: The response of a presentation's own unit, and the responses of all units to presentations that concern all.
OWN, ALL = "response_own", "response_all"
#: The dimension along which those are, and the coordinates of presentations that say whose response is recorded.
COMMON, COMMON_ROW, OWN_UNIT = "common", "common_row", "own_neuroid"
#: What all units are recorded by.
CURE = "A run that is to be asked for more records all units: responses='all' (--responses all)."


def responses_of(names: Iterable[Any]) -> str:
    """Returns under which name the responses of all units stand among the names of a store."""
    return ALL if ALL in set(names) else "responses"


def common_rows(own: NDArray[Any]) -> NDArray[np.int64]:
    """Returns which row of ``response_all`` each presentation has, ``(n,)``, from its own unit; -1 for none."""
    common = own == ""
    return np.where(common, np.cumsum(common) - 1, -1)


def is_lean(recording: xr.Dataset) -> bool:
    """Tells whether a recording holds of most presentations the response of one unit alone."""
    return OWN in recording.variables


def all_units(recording: xr.Dataset) -> xr.Dataset:
    """Returns the presentations whose responses are recorded of all units, as an ordinary recording.

    Of an ordinary recording that is itself.
    """
    if not is_lean(recording):
        return recording
    rows = np.flatnonzero(recording[COMMON_ROW].values >= 0)
    part = recording.isel(presentation=rows)
    found = recording[ALL].variable.isel({COMMON: part[COMMON_ROW].values})
    return _ordinary(part, found.dims[1:], found)


def of_thread(recording: xr.Dataset, thread: str, column: int) -> xr.Dataset:
    """Returns the presentations of one thread and of references, as an ordinary recording of the thread's one unit.

    Args:
        recording: A lean recording of one run.
        thread: The thread's name.
        column: The unit that its objective reads.
    """
    common, own = recording[COMMON_ROW].values, recording["thread"].values == thread
    rows = np.flatnonzero(own | (common >= 0))
    part = recording.isel(presentation=rows)
    found = responses_at(recording, rows, [column])
    dims = ("neuroid", *recording[OWN].dims[1:])
    return _ordinary(part.isel(neuroid=[column]), dims, found)


def _ordinary(part: xr.Dataset, dims: Sequence[Any], responses: Any) -> xr.Dataset:
    """Returns presentations with their responses, and without what a lean recording has instead."""
    import xarray as xr

    data = getattr(responses, "_data", responses)  # a variable may be lazy
    held = part.drop_vars([OWN, ALL, OWN_UNIT, COMMON_ROW])
    columns = {"responses": (("presentation", *dims), data), **held.data_vars}
    whole = xr.Dataset(columns, held.coords, part.attrs)
    whole.encoding = dict(part.encoding)
    return whole


def responses_at(recording: xr.Dataset, rows: NDArray[Any], columns: Sequence[int]) -> NDArray[Any]:
    """Returns the responses ``(n, units[, time])`` of some units to some presentations; NaN where lost.

    Args:
        recording: See `closedloop.open_recording`.
        rows: Numbers of the presentations, ``(n,)``.
        columns: Numbers of the units.

    Raises:
        RecordingError: The response of a unit to one of these presentations was not recorded.
    """
    if not is_lean(recording):
        found: NDArray[Any] = recording["responses"].variable.isel(presentation=rows, neuroid=columns).values
        return found
    common = recording[COMMON_ROW].values[rows]
    own = np.flatnonzero(common < 0)
    ids, held = recording["neuroid_id"].values, recording[OWN_UNIT].values[rows]
    for column in columns:
        others = own[held[own] != ids[column]]
        if len(others):
            name = recording["stimulus_id"].values[rows[others[0]]]
            raise RecordingError(
                f"recording: the response of {ids[column]} to {name} was not recorded: it is a lean recording, which "
                f"holds of each evolved image the response of its own unit alone, {held[others[0]]}. {CURE}"
            )
    single = recording[OWN].isel(presentation=rows).values
    whole = np.repeat(single[:, None], len(columns), axis=1)
    shared = np.flatnonzero(common >= 0)
    whole[shared] = recording[ALL].isel({COMMON: common[shared], "neuroid": columns}).values
    return whole


def as_lean(recording: xr.Dataset) -> xr.Dataset:
    """Returns an ordinary recording in the form of a lean one, in which each presentation has all units."""
    if is_lean(recording):
        return recording
    n = recording.sizes["presentation"]
    responses = recording["responses"]
    own = np.full((n, *responses.shape[2:]), np.nan, responses.dtype)
    shared = responses.drop_vars(list(responses.coords)).rename(presentation=COMMON)
    return (
        recording.drop_vars("responses")
        .assign({OWN: (("presentation", *responses.dims[2:]), own), ALL: shared})
        .assign_coords({OWN_UNIT: ("presentation", np.full(n, "", object)), COMMON_ROW: ("presentation", np.arange(n))})
    )


def was_recorded(recording: xr.Dataset, rows: NDArray[Any], column: int) -> bool:
    """Tells whether the responses of a unit to some presentations were recorded, lost ones among them."""
    if not is_lean(recording):
        return True
    common = recording[COMMON_ROW].values[rows] >= 0
    own = recording[OWN_UNIT].values[rows] == recording["neuroid_id"].values[column]
    return bool((common | own).all())


def complete(recording: xr.Dataset, what: str) -> xr.Dataset:
    """Returns a recording for what needs the responses of all units; of a lean one, with a warning, its references.

    Args:
        recording: See `closedloop.open_recording`.
        what: For what, in words.

    Raises:
        RecordingError: It is lean, and holds no presentation with all units.
    """
    found = all_units(recording)
    if found is recording:
        return recording
    if not found.sizes["presentation"]:
        raise RecordingError(
            f"recording: expected responses of all units for {what}, but it is lean and holds none. {CURE}"
        )
    warnings.warn(
        f"{what} takes the responses of all units: of this lean recording these are the reference images, and evolved "
        f"images are left out. {CURE}",
        UserWarning,
        stacklevel=3,
    )
    return found


def lost(recording: xr.Dataset) -> NDArray[np.bool_]:
    """Tells which presentations gave no response at all, ``(presentation,)``."""
    if not is_lean(recording):
        return all_nan(recording["responses"].values)
    found = all_nan(recording[OWN].values)
    common = recording[COMMON_ROW].values
    found[common >= 0] = all_nan(recording[ALL].values)[common[common >= 0]]
    return found


def all_nan(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Tells which rows hold no number at all, ``(n,)``: presentations that gave no response."""
    return np.asarray(np.isnan(values).all(axis=tuple(range(1, values.ndim))))
