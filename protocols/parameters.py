"""Reads what is known of each image that is presented: columns that become coordinates of the recording."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from closedloop.arrays import as_numbers, is_plain
from closedloop.checks import is_whole
from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.interfaces import RECORDED, Units
from closedloop.recording.reader import read_kept
from closedloop.signatures import at_door


class Table(Protocol):
    """A table of columns, such as a DataFrame of pandas."""

    @property
    def columns(self) -> Any:
        """Names of its columns."""
        ...

    def __getitem__(self, name: Any) -> Any:
        """Returns a column."""
        ...


#: Columns with a value for each image, a table of them, a CSV file, or nothing.
Parameters = Mapping[str, Sequence[Any] | NDArray[Any]] | Table | str | Path | None

#: The file of a run that holds the columns.
PARAMETERS = "parameters.json"
#: The column of names, which says which row is of which image.
IMAGE_NAMES = "stimulus_id"


def read_parameters(given: Any, ids: Sequence[str], units: Units) -> dict[str, NDArray[Any]]:
    """Returns the columns, each ``(images,)`` in the order of the images: text, whole or other numbers, NaN for none.

    Args:
        given: A mapping, a DataFrame, the path of a CSV file, or None.
        ids: Names of the images.
        units: What is recorded; a column cannot have the name of one of its coordinates.

    Raises:
        InvalidArgumentError: It is something else, a column has a name that is taken, or not one value for each image.
    """
    if given is None:
        return {}
    table = _read_csv(Path(given)) if isinstance(given, (str, Path)) else given
    if not isinstance(table, Mapping) and not hasattr(table, "columns"):
        raise InvalidArgumentError(
            "parameters: expected a mapping from names to one value for each image, a DataFrame, or a CSV file, got "
            f"{type(given).__name__}."
        )
    names = table if isinstance(table, Mapping) else table.columns
    columns = {str(name): _as_column(table[name]) for name in names}
    for name, column in columns.items():
        if column.shape != (len(ids),):
            raise InvalidArgumentError(
                f"parameters: column {name!r}: expected {len(ids)} values, one for each image, got shape "
                f"{column.shape}."
            )
    order = _order(columns.pop(IMAGE_NAMES, None), ids)
    return {name: _checked(name, column, units)[order] for name, column in columns.items()}


def _as_column(values: Any) -> NDArray[Any]:
    """Returns values as an array; those of a list keep their types, and masked numbers are missing ones, NaN."""
    if isinstance(values, np.ma.MaskedArray) and np.ma.getmaskarray(values).any():
        return as_numbers("parameters", values, lost=True, booleans=True)
    return np.asarray(values, None if hasattr(values, "dtype") else object)


def _order(names: NDArray[Any] | None, ids: Sequence[str]) -> NDArray[np.int64]:
    """Returns the row of each image, ``(images,)``."""
    if names is None:
        return np.arange(len(ids))
    rows = {str(name): row for row, name in enumerate(names.tolist())}
    missing = [name for name in ids if name not in rows]
    if missing:
        cure = f"; images are named as their files are, without the ending: {missing[0]}" if rows else ""
        raise InvalidArgumentError(
            f"parameters: column {IMAGE_NAMES!r}: expected the name of each image once, got none that is "
            f"{missing[0]!r} but {', '.join(map(repr, list(rows)[:3]))} …{cure}."
        )
    return np.array([rows[name] for name in ids], dtype=np.int64)


def _checked(name: str, column: NDArray[Any], units: Units) -> NDArray[Any]:
    """Returns a column in the type in which it is recorded."""
    if not is_plain(name) or not name or name in RECORDED or name in units.coords:
        raise InvalidArgumentError(
            f"parameters: column {name!r}: a recording has something else of that name, or cannot hold it; "
            "choose another."
        )
    if column.dtype.kind not in "biufUTO":
        raise InvalidArgumentError(
            f"parameters: column {name!r}: expected texts or real numbers, got {column.dtype}; times as seconds."
        )
    values = column.tolist()
    if column.dtype.kind in "iu" or all(is_whole(v) for v in values):
        return _whole(name, values)
    if column.dtype.kind in "bUT" or all(isinstance(v, (str, bool)) for v in values):
        return _texts(name, [str(v) for v in values])
    try:
        numbers = np.array([np.nan if v is None else v for v in values], dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidArgumentError(
            f"parameters: column {name!r}: expected text throughout or numbers throughout, got a mixture ({error})."
        ) from error
    if np.isinf(numbers).any():
        raise InvalidArgumentError(
            f"parameters: column {name!r}: expected finite numbers, or NaN for none, got infinity."
        )
    return numbers


def _texts(name: str, values: Sequence[str]) -> NDArray[Any]:
    """Returns texts as they are recorded."""
    for text in values:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidArgumentError(
                f"parameters: column {name!r}: expected texts that a file can hold, got {text!r:.80} with half a "
                "character of UTF-16 in it; give it another."
            ) from error
    return np.array(values, dtype=object)


def _whole(name: str, values: Sequence[int]) -> NDArray[np.int64]:
    """Returns whole numbers as they are recorded."""
    try:
        return np.array(values, dtype=np.int64)
    except OverflowError as error:
        raise InvalidArgumentError(
            f"parameters: column {name!r}: expected whole numbers of at most 64 bits, got larger ones; give texts."
        ) from error


def _read_csv(path: Path) -> dict[str, NDArray[Any]]:
    """Reads the columns of a CSV file with a header; those in which every cell is a number or empty are numbers."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header, *rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise InvalidArgumentError(f"parameters: cannot read {path} as CSV with a header ({error}).") from error
    if len(set(header)) < len(header):
        raise InvalidArgumentError(f"parameters: {path}: two columns have the same name in {header}.")
    bad = [i for i, row in enumerate(rows) if len(row) != len(header)]
    if bad:
        raise InvalidArgumentError(
            f"parameters: {path}: expected {len(header)} cells in each row, got {len(rows[bad[0]])} in row "
            f"{bad[0] + 2}."
        )
    return {name: _typed([row[i] for row in rows], name == IMAGE_NAMES) for i, name in enumerate(header)}


def _typed(cells: list[str], text: bool) -> NDArray[Any]:
    """Returns cells as whole numbers, as numbers (empty ones are NaN), or as text."""
    if not text:
        for kind, empty in ((int, ""), (float, "nan")):
            try:
                return np.array([kind(cell.strip() or empty) for cell in cells])
            except ValueError:
                continue
    return np.array(cells, dtype=object)


def pack_parameters(columns: Mapping[str, NDArray[Any]]) -> bytes:
    """Returns the columns as a run's folder keeps them; each value reads back as it was."""
    return json.dumps({name: column.tolist() for name, column in columns.items()}).encode()


@at_door
def stored_parameters(run: str | Path, content: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Returns the columns of a run that was begun; none where it has none.

    Raises:
        RecordingError: The run should have some, but they are missing or damaged.
    """
    names = content.get("parameters") or []
    if not names:
        return {}
    try:
        stored = json.loads(read_kept(run, PARAMETERS) or b"")
        return {name: _column(stored[name]) for name in names}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordingError(
            f"{run}: it ended before its parameters were stored, or {PARAMETERS} is damaged ({error}); "
            "begin it again, in the same folder."
        ) from error


def _column(values: list[Any]) -> NDArray[Any]:
    """Returns a stored column; text as objects."""
    return np.array(values, dtype=object if values and isinstance(values[0], str) else None)
