"""Writes a table for spreadsheets and statistics packages: one row for each presentation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from closedloop.files import complete
from closedloop.recording.evolutions import evolution_facts
from closedloop.recording.layout import PRESENTATION
from closedloop.recording.lean import OWN, is_lean


def write(recording: xr.Dataset, out: Path, *, block: int = 256) -> None:
    """Writes a recording as a CSV file, UTF-8, with a header.

    Columns: what is known of each presentation (`thread`, `generation`, `kind`, `stimulus_id` …), its `score`, what
    identifies the run, what is known of the thread's evolution (generator, optimizer …), and one column for each unit,
    named by its `neuroid_id` (with a time axis one for each unit and time bin, ``neuroid_id[bin]``). A number is
    written so that reading it gives the same number; a lost presentation is an empty cell. Codes are left out. Of a
    lean recording there is one column of responses, ``response_own`` of the unit in ``own_neuroid``; where that is
    empty the presentation is of a reference, whose responses netCDF and NWB hold.

    Args:
        recording: What is to be written; it is read part by part.
        out: The file; must not exist.
        block: Presentations that are held in memory at once.

    Raises:
        RecordingError: The file exists, or cannot be written.
    """
    with complete(out) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        for first in range(0, max(recording.sizes["presentation"], 1), block):
            part = recording.isel(presentation=slice(first, first + block))
            _table(part).to_csv(file, header=first == 0, index=False, lineterminator="\r\n")


def _table(part: xr.Dataset) -> pd.DataFrame:
    """Returns a row for each presentation. pandas writes the shortest text that reads back as the same number."""
    n = part.sizes["presentation"]
    facts = [pd.Series(np.broadcast_to(part[name].values, n), name=name) for name in _facts(part)]
    evolving = evolution_facts(part)
    facts += [pd.Series(column, name=name) for name, column in evolving.items() if name != "generator_recipe"]
    columns = _columns(part)
    values = part[OWN if is_lean(part) else "responses"].values
    responses = pd.DataFrame(values.reshape(n, len(columns)), columns=columns)
    return pd.concat([*facts, responses], axis=1)


def _facts(recording: xr.Dataset) -> list[str]:
    """Returns the names of the columns that come before the facts of evolutions and the responses."""
    along = [str(n) for n, c in recording.coords.items() if c.dims == ("presentation",)]
    scalars = [str(n) for n, c in recording.coords.items() if c.ndim == 0]
    own = [name for name in PRESENTATION if name in along]
    return [*own, *sorted(set(along) - set(own)), "score", *sorted(scalars)]


def _columns(recording: xr.Dataset) -> list[str]:
    """Returns the names of the columns of responses, one for each unit (and time bin)."""
    names = [OWN] if is_lean(recording) else [str(n) for n in recording["neuroid_id"].values]
    bins = recording.sizes.get("time_bin")
    return names if bins is None else [f"{name}[{i}]" for name in names for i in range(bins)]
