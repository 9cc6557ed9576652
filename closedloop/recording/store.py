"""How a recording stands in a zarr group, and how it is read out of it.

Much is known of each presentation, and little of it is wide: an array of zarr for each would make two files each, of
which most is padding. So all narrow numbers of a presentation stand in one array, ``numbers``, float64, with a column
for each, and all texts in another, ``texts``; attributes of the group name their columns and the types that numbers
had. Responses, codes and what else is wide have arrays of their own. What is known of units, evolutions and the run
does not grow; it stands in the attributes of the group. It remains a zarr v3 group that any program opens.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
import zarr
from numpy.typing import NDArray

from closedloop.errors import RecordingError
from closedloop.recording.checksums import CheckedStore, Sum
from closedloop.recording.chunks import Appended, Column, rows_of_chunk
from closedloop.recording.layout import (
    BLOCK,
    EVOLUTION,
    PRESENTATION,
    PRESENTATIONS,
    SPIKE,
    Layout,
    Rows,
    TimeBins,
    Variable,
)
from closedloop.recording.lean import ALL, COMMON, COMMON_ROW, OWN, OWN_UNIT, common_rows, responses_of

if TYPE_CHECKING:
    import xarray as xr

#: Room for spikes, which costs nothing unwritten, and how many go into a chunk: a MiB of times.
_SPIKES, _SPIKES_OF_CHUNK = 2**40, 2**17
#: The arrays that hold narrow numbers and texts, and the names of their columns' dimensions.
NUMBERS, TEXTS = ("numbers", "number"), ("texts", "text")


def row_values(rows: Rows) -> dict[str, NDArray[Any]]:
    """Returns all that is recorded of a generation, by name; each has a row for each presentation.

    Of a lean one the responses of all units have a row for each presentation that concerns all of them.
    """
    return {
        **rows.coords,
        **rows.variables,
        **_responses(rows),
        "score": rows.scores,
        "latent_code": rows.codes,
        **_apart(rows),
    }


def _apart(rows: Rows) -> dict[str, NDArray[Any]]:
    """Returns spikes, and what is known of units after a block; `spike_start` counts from the block's first spike."""
    found: dict[str, NDArray[Any]] = {f"unit_{name}": values[None] for name, values in rows.quality.items()}
    if rows.spikes is None:
        return found
    starts, counts = rows.spikes.offsets[:-1], np.diff(rows.spikes.offsets).astype(np.int32)
    own: dict[str, NDArray[Any]] = {"spike_time_s": rows.spikes.time_s, "spike_unit": rows.spikes.unit}
    return {**found, "spike_start": starts, "spike_count": counts, **own}


def _columns_apart(rows: Rows) -> dict[str, Variable]:
    """Returns type and shape of what `_apart` returns."""
    units = rows.responses.shape[1:2]
    found = {f"unit_{name}": Variable("float64", np.nan, ("neuroid",), units, BLOCK) for name in rows.quality}
    if rows.spikes is None:
        return found
    return {
        "spike_start": Variable("int64", -1),
        "spike_count": Variable("int32", 0),
        "spike_time_s": Variable("float64", np.nan, along=SPIKE),
        "spike_unit": Variable("int32", -1, along=SPIKE),
        **found,
    }


def _responses(rows: Rows) -> dict[str, NDArray[Any]]:
    if rows.own is None:
        return {"responses": rows.responses}
    common = rows.own < 0
    own = rows.responses[np.arange(len(rows)), np.where(common, 0, rows.own)]
    own[common] = np.nan  # it has none: `own_neuroid` is empty there
    return {OWN: own, ALL: rows.responses[common]}


def columns_of(layout: Layout, rows: Rows) -> dict[str, Variable]:
    """Returns type and shape of all that is recorded of a presentation, by name, in the order of a recording."""
    time = ("time_bin",) * (rows.responses.ndim - 2)
    kind, shape = rows.responses.dtype.name, rows.responses.shape
    responses = {"responses": Variable(kind, np.nan, ("neuroid", *time), shape[1:])}
    if layout.lean:
        own = Variable(kind, np.nan, time, shape[2:])
        responses = {OWN: own, ALL: Variable(kind, np.nan, ("neuroid", *time), shape[1:], along=COMMON)}
    codes = {"latent_code": Variable("float64", np.nan, ("latent",), (layout.latent,))} if layout.latent else {}
    known = {**PRESENTATION, **layout.coords}
    coords = {name: Variable(dtype, fill) for name, (dtype, fill) in known.items()}
    known_of_rigs = _columns_apart(rows)
    score = Variable("float64", np.nan)
    return {**responses, **codes, "score": score, **layout.variables, **known_of_rigs, **coords}


def described(layout: Layout, columns: Mapping[str, Variable], bins: TimeBins | None = None) -> dict[str, Any]:
    """Returns the attributes of the group: plain values, as JSON has them."""
    numbered = {"unit_number": range(len(layout.units))} if "spike_unit" in columns else {}
    texts = [name for name, column in columns.items() if _is_text(column)]
    return {
        "closedloop_schema": layout.schema,
        "numbers": {name: column.dtype for name, column in columns.items() if _is_narrow(column)},
        "texts": texts,
        "coordinates": [*PRESENTATION, *layout.coords],
        "neuroid": {
            name: _packed(values)
            for name, values in {"neuroid_id": layout.units.neuroid_id, **layout.units.coords, **numbered}.items()
        },
        **({} if bins is None else {"time_bin": {name: _packed(v) for name, v in bins_ms(bins).items()}}),
        EVOLUTION: {name: list(map(str, texts)) for name, texts in layout.evolutions.items()},
        "run": {name: v.item() if isinstance(v, np.generic) else v for name, v in layout.scalars.items()},
    }


def bins_ms(bins: TimeBins) -> dict[str, NDArray[np.float64]]:
    """Returns begin, end and width of time bins in milliseconds, by the names of their coordinates.

    They are rounded to a nanosecond, which is far below what any clock of a rig tells.
    """
    start, end = np.round(1e3 * bins.start_s, 6), np.round(1e3 * bins.stop_s, 6)
    return {"time_bin_start": start, "time_bin_end": end, "time_bin_width": np.round(end - start, 6)}


def _is_text(column: Variable) -> bool:
    return column.dtype == "str"


def _is_narrow(column: Variable) -> bool:
    """Tells whether it is a number of each presentation, which float64 holds exactly."""
    exact = not _is_text(column) and np.can_cast(np.dtype(column.dtype), np.float64, "safe")
    own = column.along != PRESENTATIONS or column.shape or np.dtype(column.dtype).name in ("int64", "uint64")
    return exact and not own


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
        sums: Checksums of its files, with which what describes the arrays is compared; None for a new store.

    Raises:
        ValueError: An array is missing, or a chunk is not what its checksum says.
        RecordingError: What describes an array was changed.
    """

    def __init__(self, folder: Path, committed: Mapping[str, Any], sums: Mapping[str, Sum] | None = None) -> None:
        place = folder if sums is None else CheckedStore(folder, sums)
        group = zarr.open_group(place, mode="r", use_consolidated=False)
        self.attributes: dict[str, Any] = dict(group.attrs)
        arrays: dict[str, Any] = dict(group.arrays())
        self._responses = responses_of(arrays)
        missing = {self._responses, NUMBERS[0], TEXTS[0]} - arrays.keys()
        if missing:
            raise ValueError(f"no array {sorted(missing)[0]!r}")
        self.capacity: int = int(arrays[NUMBERS[0]].shape[0])
        self._along = {name: str((array.metadata.dimension_names or [""])[0]) for name, array in arrays.items()}
        self._columns = {name: Column(folder / name, array, committed.get(name)) for name, array in arrays.items()}

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the responses to one presentation."""
        return self._columns[self._responses].shape[1:]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the responses."""
        return self._columns[self._responses].dtype

    def append(self, start: int, values: Mapping[str, NDArray[Any]]) -> list[Appended]:
        """Returns how rows from `start` on are written; see `closedloop.recording.chunks.Column.append`.

        Raises:
            RecordingError: There is no room for them, or they have another shape than those before.
        """
        count = len(values["score"])
        values = self._numbered(values)
        shapes = {name: column.shape[1:] for name, column in self._columns.items()}
        check_rows(values, shapes, self.capacity, start + count)
        numbers, texts = (self.attributes[name] for name, _ in (NUMBERS, TEXTS))
        tables = {
            NUMBERS[0]: np.stack([np.asarray(values[name], np.float64) for name in numbers], axis=1),
            TEXTS[0]: np.stack([np.asarray(values[name], object) for name in texts], axis=1),
        }
        wide = {name: values[name] for name in self._columns if name not in tables}
        first = {name: self._columns[name].count for name in self._apart}
        return [self._columns[name].append(first.get(name, start), rows) for name, rows in {**tables, **wide}.items()]

    def _numbered(self, values: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Returns rows in which `spike_start` counts from the first spike of the run.

        Raises:
            RecordingError: There are spikes, or what is known of units, and there were none before; or the reverse.
        """
        kept = {name for name, along in self._along.items() if along != PRESENTATIONS}
        new = {name for name in values if name in ("spike_time_s", "spike_unit", ALL) or name.startswith("unit_")}
        if missing := sorted(kept - new):
            raise RecordingError(f"recording: expected {missing[0]} in every block, as before, got none.")
        if "spike_start" not in self._columns:
            if "spike_start" in values:
                raise RecordingError("recording: expected no spikes, as before, got some.")
            return values
        return {**values, "spike_start": values["spike_start"] + self._columns["spike_time_s"].count}

    @property
    def _apart(self) -> list[str]:
        """Names of the arrays that do not grow with presentations."""
        return [name for name, along in self._along.items() if along != PRESENTATIONS]

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


def create(folder: Path, layout: Layout, columns: Mapping[str, Variable], bins: TimeBins | None = None) -> None:
    """Makes the group of a run, with arrays of their final shape and without a row.

    What describes the arrays stands once more with the group, where `xarray.open_zarr` looks first.
    """
    attributes, n = described(layout, columns, bins), layout.capacity
    group = zarr.open_group(folder, mode="w", attributes=attributes)
    numbers, texts = (len(attributes[name]) for name, _ in (NUMBERS, TEXTS))
    own = {name: c for name, c in columns.items() if not _is_text(c) and not _is_narrow(c)}
    tables = {
        NUMBERS[0]: Variable("float64", np.nan, NUMBERS[1:], (numbers,)),
        TEXTS[0]: Variable("str", "", TEXTS[1:], (texts,)),
    }
    for name, column in {**own, **tables}.items():
        cell = 32 if _is_text(column) else np.dtype(column.dtype).itemsize
        room, rows = n, rows_of_chunk(max(1, cell * int(np.prod(column.shape))), n)
        if column.along == SPIKE:
            room, rows = _SPIKES, _SPIKES_OF_CHUNK
        group.create_array(
            name,
            shape=(room, *column.shape),
            chunks=(rows, *column.shape),
            dtype=column.dtype,
            fill_value=column.fill,
            compressors=None,
            dimension_names=(column.along, *column.dims),
            chunk_key_encoding={"name": "default", "separator": "."},
        )
    with warnings.catch_warnings():  # zarr's readers know it, its specification does not yet
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(folder)


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
    if ALL in whole:
        whole = whole.isel({COMMON: slice(0, int((columns[OWN_UNIT] == "").sum()))})
    if len(numbers) != rows or (columns["kind"] == "").any():
        raise ValueError(f"{rows} presentations are committed, but some of them are missing")
    grown = {}
    if SPIKE in whole.sizes:
        start = int(whole["spike_start"].values[-1]) if rows else 0
        grown[SPIKE] = slice(0, start + int(columns["spike_count"][-1]) if rows else 0)
    if BLOCK in whole.sizes:
        grown[BLOCK] = slice(0, int(columns["block_number"][-1]) + 1 if rows else 0)
    whole = whole.isel(grown)
    wide = {n: v for n, v in whole.variables.items() if n not in (NUMBERS[0], TEXTS[0])}
    along = {name: xr.Variable("presentation", values) for name, values in columns.items()}
    return assembled({**wide, **along}, whole.attrs)


def assembled(columns: Mapping[Any, xr.Variable], attributes: Mapping[str, Any]) -> xr.Dataset:
    """Returns a recording from all that is known of its presentations, and the attributes of its group."""
    import xarray as xr

    coords: dict[Any, Any] = {name: columns[name] for name in attributes["coordinates"]}
    coords |= {name: ("neuroid", _unpacked(column)) for name, column in attributes["neuroid"].items()}
    coords |= {name: ("time_bin", _unpacked(column)) for name, column in attributes.get("time_bin", {}).items()}
    coords |= {name: (EVOLUTION, np.array([*texts], dtype=object)) for name, texts in attributes[EVOLUTION].items()}
    coords |= {
        name: ((), np.array(value, dtype=object) if isinstance(value, str) else np.asarray(value))
        for name, value in attributes["run"].items()
    }
    if OWN in columns:
        coords[COMMON_ROW] = ("presentation", common_rows(columns[OWN_UNIT].values))
    first = [name for name in ("responses", OWN, ALL, "latent_code", "score") if name in columns]
    others = [name for name in columns if name not in coords and name not in first]
    return xr.Dataset({name: columns[name] for name in (*first, *others)}, coords)


def kept_columns(values: Mapping[str, NDArray[Any]], columns: Mapping[str, Variable]) -> dict[str, NDArray[Any]]:
    """Returns copies of rows in the types in which they are recorded, for a recording in memory."""
    types = {name: object if _is_text(c) else np.dtype(c.dtype) for name, c in columns.items()}
    return {name: np.array(values[name], dtype=types[name]) for name in columns}
