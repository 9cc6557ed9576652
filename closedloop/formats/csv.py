"""A table for spreadsheets and statistics packages: one row for each presentation."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from closedloop.files import complete
from closedloop.recording.evolutions import evolution_facts
from closedloop.recording.layout import PRESENTATION

#: Presentations that are read at once.
BLOCK = 256


def write(recording: xr.Dataset, out: Path) -> None:
    """Writes a recording as a CSV file, UTF-8, with a header.

    Columns: what is known of each presentation (`thread`, `generation`, `kind`, `stimulus_id` …), its `score`, what
    identifies the run, what is known of the thread's evolution (generator, optimizer …), and one column for each unit,
    named by its `neuroid_id` (with a time axis one for each unit and time bin, ``neuroid_id[bin]``). A number is
    written so that reading it gives the same number; a lost presentation is an empty cell. Codes are left out.

    Args:
        recording: What is to be written; it is read part by part.
        out: The file; must not exist.

    Raises:
        RecordingError: The file exists, or cannot be written.
    """
    with complete(out) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        evolving = [name for name in evolution_facts(recording.isel(presentation=[])) if name != "generator_recipe"]
        writer.writerow([*_facts(recording), *evolving, *_columns(recording)])
        writer.writerows(_rows(recording))


def _facts(recording: xr.Dataset) -> list[str]:
    """Names of the columns that come before the responses."""
    along = [str(n) for n, c in recording.coords.items() if c.dims == ("presentation",)]
    scalars = [str(n) for n, c in recording.coords.items() if c.ndim == 0]
    own = [name for name in PRESENTATION if name in along]
    return [*own, *sorted(set(along) - set(own)), "score", *sorted(scalars)]


def _columns(recording: xr.Dataset) -> list[str]:
    names = [str(n) for n in recording["neuroid_id"].values]
    bins = recording.sizes.get("time_bin")
    return names if bins is None else [f"{name}[{i}]" for name in names for i in range(bins)]


def _rows(recording: xr.Dataset) -> Iterator[list[Any]]:
    count = recording.sizes["presentation"]
    for first in range(0, count, BLOCK):
        part = recording.isel(presentation=slice(first, first + BLOCK))
        n = part.sizes["presentation"]
        facts = [np.broadcast_to(part[name].values, n) for name in _facts(recording)]
        facts += [column for name, column in evolution_facts(part).items() if name != "generator_recipe"]
        responses = part["responses"].values.reshape(n, -1)
        for i in range(n):
            yield [_cell(column[i]) for column in facts] + [_cell(value) for value in responses[i]]


def _cell(value: Any) -> Any:
    """Text, or the shortest number that reads back as the same; empty for NaN."""
    if isinstance(value, np.floating):
        return "" if np.isnan(value) else str(value)
    return value.item() if isinstance(value, np.generic) else value
