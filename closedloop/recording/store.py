"""How a recording stands in a zarr group, and how it is read out of it.

Much is known of each presentation, and little of it is wide: an array of zarr for each would make two files each, of
which most is padding. So all narrow numbers of a presentation stand in one array, ``numbers``, float64, with a column
for each, and all texts in another, ``texts``; attributes of the group name their columns and the types that numbers
had. Responses, codes and what else is wide have arrays of their own. What is known of units, evolutions and the run
does not grow; it stands in the attributes of the group. It remains a zarr v3 group that any program opens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
import zarr
from numpy.typing import NDArray

from closedloop.errors import RecordingError
from closedloop.recording.chunks import Appended, Column, rows_of_chunk
from closedloop.recording.layout import EVOLUTION, PRESENTATION, SCHEMA, Layout, Rows, Variable

if TYPE_CHECKING:
    import xarray as xr

#: The arrays that hold narrow numbers and texts, and the names of their columns' dimensions.
NUMBERS, TEXTS = ("numbers", "number"), ("texts", "text")


def row_values(rows: Rows) -> dict[str, NDArray[Any]]:
    """Returns all that is recorded of a generation, by name; each has a row for each presentation."""
    return {
        **rows.coords,
        **rows.variables,
        "responses": rows.responses,
        "score": rows.scores,
        "latent_code": rows.codes,
    }


def columns_of(layout: Layout, rows: Rows) -> dict[str, Variable]:
    """Returns type and shape of all that is recorded of a presentation, by name, in the order of a recording."""
    time = ("time_bin",) * (rows.responses.ndim - 2)
    wide = Variable(rows.responses.dtype.name, np.nan, ("neuroid", *time), rows.responses.shape[1:])
    codes = {"latent_code": Variable("float64", np.nan, ("latent",), (layout.latent,))} if layout.latent else {}
    known = {**PRESENTATION, **layout.coords}
    coords = {name: Variable(dtype, fill) for name, (dtype, fill) in known.items()}
    return {"responses": wide, **codes, "score": Variable("float64", np.nan), **layout.variables, **coords}


def described(layout: Layout, columns: Mapping[str, Variable]) -> dict[str, Any]:
    """Returns the attributes of the group: plain values, as JSON has them."""
    texts = [name for name, column in columns.items() if _is_text(column)]
    return {
        "closedloop_schema": SCHEMA,
        "numbers": {name: column.dtype for name, column in columns.items() if _is_narrow(column)},
        "texts": texts,
        "coordinates": [*PRESENTATION, *layout.coords],
        "neuroid": {
            name: _packed(values)
            for name, values in {"neuroid_id": layout.units.neuroid_id, **layout.units.coords}.items()
        },
        EVOLUTION: {name: list(map(str, texts)) for name, texts in layout.evolutions.items()},
        "run": {name: v.item() if isinstance(v, np.generic) else v for name, v in layout.scalars.items()},
    }


def _is_text(column: Variable) -> bool:
    return column.dtype == "str"


def _is_narrow(column: Variable) -> bool:
    """Tells whether it is a number of each presentation, which float64 holds exactly."""
    exact = not _is_text(column) and np.can_cast(np.dtype(column.dtype), np.float64, "safe")
    return exact and not column.shape and np.dtype(column.dtype).name not in ("int64", "uint64")


def _packed(values: Iterable[Any]) -> dict[str, Any]:
    """Returns a column of units as JSON: text as it is, numbers as such; "nan" and "inf" are no numbers there."""
    array = np.asarray(list(values))
    if array.dtype.kind not in "biuf":
        return {"dtype": "str", "values": [str(value) for value in array.tolist()]}
    plain = array.tolist()
    finite = np.isfinite(array).tolist()
    return {"dtype": array.dtype.name, "values": [v if ok else str(v) for v, ok in zip(plain, finite, strict=True)]}


def _unpacked(column: Mapping[str, Any]) -> NDArray[Any]:
    if column["dtype"] == "str":
        return np.array([*column["values"]], dtype=object)
    return np.array([float(v) if isinstance(v, str) else v for v in column["values"]], dtype=column["dtype"])


@final
class Store:
    """The zarr group of a run, while it is written.

    Args:
        folder: The group's folder; made by `create`.
        committed: The last chunk of each array, by the array's name.

    Raises:
        ValueError: An array is missing, or a chunk is not what its checksum says.
    """

    def __init__(self, folder: Path, committed: Mapping[str, Any]) -> None:
        group = zarr.open_group(folder, mode="r")
        self.attributes: dict[str, Any] = dict(group.attrs)
        arrays: dict[str, Any] = dict(group.arrays())
        missing = {"responses", NUMBERS[0], TEXTS[0]} - arrays.keys()
        if missing:
            raise ValueError(f"no array {sorted(missing)[0]!r}")
        self.capacity = int(arrays[NUMBERS[0]].shape[0])
        self._columns = {name: Column(folder / name, array, committed.get(name)) for name, array in arrays.items()}

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the responses to one presentation."""
        return self._columns["responses"].shape[1:]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the responses."""
        return self._columns["responses"].dtype

    def append(self, start: int, values: Mapping[str, NDArray[Any]]) -> list[Appended]:
        """Returns how rows from `start` on are written; see `closedloop.recording.chunks.Column.append`.

        Raises:
            RecordingError: There is no room for them, or they have another shape than those before.
        """
        count = len(values["score"])
        shapes = {name: column.shape[1:] for name, column in self._columns.items()}
        check_rows(values, shapes, self.capacity, start + count)
        numbers, texts = (self.attributes[name] for name, _ in (NUMBERS, TEXTS))
        tables = {
            NUMBERS[0]: np.stack([np.asarray(values[name], np.float64) for name in numbers], axis=1),
            TEXTS[0]: np.stack([np.asarray(values[name], object) for name in texts], axis=1),
        }
        wide = {name: values[name] for name in self._columns if name not in tables}
        return [self._columns[name].append(start, rows) for name, rows in {**tables, **wide}.items()]

    def keep(self) -> None:
        """Takes note that what was appended is committed."""
        for column in self._columns.values():
            column.keep()


def check_rows(
    values: Mapping[str, NDArray[Any]], shapes: Mapping[str, tuple[int, ...]], capacity: int, stop: int
) -> None:
    """Raises RecordingError unless there is room for rows up to `stop`, each of the shape of those before."""
    if stop > capacity:
        raise RecordingError(f"recording: expected at most {capacity} presentations, got {stop}.")
    for name, shape in shapes.items():
        if name in values and values[name].shape[1:] != shape:
            raise RecordingError(
                f"recording: {name} had shape {shape} for each presentation before, now {values[name].shape[1:]}."
            )


def create(folder: Path, layout: Layout, columns: Mapping[str, Variable]) -> None:
    """Makes the group of a run, with arrays of their final shape and without a row."""
    attributes, n = described(layout, columns), layout.capacity
    group = zarr.open_group(folder, mode="w", attributes=attributes)
    numbers, texts = (len(attributes[name]) for name, _ in (NUMBERS, TEXTS))
    own = {name: c for name, c in columns.items() if not _is_text(c) and not _is_narrow(c)}
    tables = {
        NUMBERS[0]: Variable("float64", np.nan, NUMBERS[1:], (numbers,)),
        TEXTS[0]: Variable("str", "", TEXTS[1:], (texts,)),
    }
    for name, column in {**own, **tables}.items():
        cell = 32 if _is_text(column) else np.dtype(column.dtype).itemsize
        rows = rows_of_chunk(max(1, cell * int(np.prod(column.shape))), n)
        group.create_array(
            name,
            shape=(n, *column.shape),
            chunks=(rows, *column.shape),
            dtype=column.dtype,
            fill_value=column.fill,
            compressors=None,
            dimension_names=("presentation", *column.dims),
            chunk_key_encoding={"name": "default", "separator": "."},
        )


def read(store: Any, rows: int, group: str | None = None) -> xr.Dataset:
    """Opens the first rows of a group that `create` made; wide arrays are read when they are asked for.

    Raises:
        ValueError: There are fewer.
    """
    import xarray as xr  # slow to import, and not needed before the first images are shown

    whole: xr.Dataset = xr.open_zarr(store, group=group, chunks=None, consolidated=False, zarr_format=3)
    whole = whole.isel(presentation=slice(0, rows))
    numbers, texts = whole[NUMBERS[0]].values, whole[TEXTS[0]].values.astype(object)
    values = dict(zip(whole.attrs["numbers"], numbers.T, strict=True))
    columns = {name: np.ascontiguousarray(values[name]).astype(dtype) for name, dtype in whole.attrs["numbers"].items()}
    columns |= {name: texts[:, i].copy() for i, name in enumerate(whole.attrs["texts"])}
    if len(numbers) != rows or (columns["kind"] == "").any():
        raise ValueError(f"{rows} presentations are committed, but some of them are missing")
    wide = {n: v for n, v in whole.variables.items() if n not in (NUMBERS[0], TEXTS[0])}
    along = {name: xr.Variable("presentation", values) for name, values in columns.items()}
    return assembled({**wide, **along}, whole.attrs)


def assembled(columns: Mapping[Any, xr.Variable], attributes: Mapping[str, Any]) -> xr.Dataset:
    """Returns a recording from all that is known of its presentations, and the attributes of its group."""
    import xarray as xr

    coords: dict[Any, Any] = {name: columns[name] for name in attributes["coordinates"]}
    coords |= {name: ("neuroid", _unpacked(column)) for name, column in attributes["neuroid"].items()}
    coords |= {name: (EVOLUTION, np.array([*texts], dtype=object)) for name, texts in attributes[EVOLUTION].items()}
    coords |= {
        name: ((), np.array(value, dtype=object) if isinstance(value, str) else np.asarray(value))
        for name, value in attributes["run"].items()
    }
    first = [name for name in ("responses", "latent_code", "score") if name in columns]
    others = [name for name in columns if name not in coords and name not in first]
    return xr.Dataset({name: columns[name] for name in (*first, *others)}, coords)


def kept_columns(values: Mapping[str, NDArray[Any]], columns: Mapping[str, Variable]) -> dict[str, NDArray[Any]]:
    """Returns copies of rows in the types in which they are recorded, for a recording in memory."""
    types = {name: object if _is_text(c) else np.dtype(c.dtype) for name, c in columns.items()}
    return {name: np.array(values[name], dtype=types[name]) for name in columns}
