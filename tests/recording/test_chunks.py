"""Rows appended in place are what zarr reads back, and never touch those that are committed."""

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from closedloop.files import do_together
from closedloop.recording.chunks import Column, committed_chunks, rows_of_chunk

KINDS = pytest.mark.parametrize(
    ("dtype", "shape", "fill"), [("float32", (3,), np.nan), ("int32", (), -1), ("str", (2,), ""), ("uint8", (2, 3), 0)]
)


def array(folder, dtype, shape=(), chunk=5, fill=None):
    group = zarr.open_group(folder, mode="a")
    return group.create_array(
        "x",
        shape=(40, *shape),
        chunks=(chunk, *shape),
        dtype=dtype,
        fill_value=fill,
        compressors=None,
        overwrite=True,
        chunk_key_encoding={"name": "default", "separator": "."},
    )


def make(rows, dtype, shape, seed=0):
    """Rows whose texts differ in length."""
    values = np.arange(rows * int(np.prod(shape))).reshape(rows, *shape) + 7 * seed
    if dtype != "str":
        return values.astype(dtype)
    return np.vectorize(lambda v: "häß" * (v % 4) + str(v), otypes=[object])(values)


def append(column, start, values, keep=True):
    """Writes rows; the checksums of their chunks."""
    appended = column.append(start, values)
    do_together(appended.tasks)
    if keep:
        column.keep()
    return [*appended.full, *([appended.open] if appended.open else [])]


@settings(max_examples=25)
@given(
    blocks=st.lists(st.tuples(st.integers(1, 9), st.booleans(), st.booleans()), min_size=1, max_size=6),
    chunk=st.integers(1, 12),
)
@KINDS
def test_only_what_was_kept_counts(tmp_path_factory, blocks, chunk, dtype, shape, fill):
    """Whatever was appended in between and not kept, and whenever the column was opened anew."""
    folder = tmp_path_factory.mktemp("columns")
    target = array(folder, dtype, shape, chunk, fill)
    column, known, held = Column(folder / "x", target), {}, make(0, dtype, shape)
    for number, (count, kept, anew) in enumerate(blocks):
        if len(held) + count > 40:
            break
        values = make(count, dtype, shape, number)
        sums = append(column, len(held), values, kept)
        if kept:
            held = np.concatenate([held, values])
            known |= {entry.path: entry for entry in sums}
        if anew:
            column = Column(folder / "x", target, committed_chunks(list(known.values())).get("x"))
        read = np.asarray(zarr.open_group(folder, mode="r")["x"][: len(held)])
        assert (read == held).all()
        assert all(entry.fits((folder / path).read_bytes()) for path, entry in known.items())
    assert len([p for p in (folder / "x").iterdir() if p.name != "zarr.json"]) <= -(-(len(held) + 9) // chunk)


@KINDS
def test_rows_that_are_not_written_say_nothing(tmp_path, dtype, shape, fill):
    """Also where a longer generation was cut off in their place."""
    target = array(tmp_path, dtype, shape, 10, fill)
    column = Column(tmp_path / "x", target)
    append(column, 0, make(2, dtype, shape))
    append(column, 2, make(6, dtype, shape), keep=False)
    append(column, 2, make(1, dtype, shape, 3))
    read = np.asarray(target[:])
    assert (read[2:3] == make(1, dtype, shape, 3)).all()
    assert np.isnan(read[3:]).all() if dtype == "float32" else (read[3:] == fill).all()


@KINDS
def test_a_checksum_stays_right_whatever_is_written_behind_its_rows(tmp_path, dtype, shape, fill):
    target = array(tmp_path, dtype, shape, 10, fill)
    column = Column(tmp_path / "x", target)
    [first] = append(column, 0, make(2, dtype, shape))
    for behind in (make(4, dtype, shape, 9), make(1, dtype, shape, 5)):  # cut off, then another in its place
        append(column, 2, behind, keep=False)
        data = (tmp_path / first.path).read_bytes()
        assert first.fits(data)
        assert not first.fits(data[: first.length - 1])
        changed = bytearray(data)
        changed[first.size - 1] ^= 1
        assert not first.fits(bytes(changed))


def test_a_damaged_chunk_is_not_gone_on_with(tmp_path):
    target = array(tmp_path, "float64", fill=np.nan)
    [last] = append(Column(tmp_path / "x", target), 0, np.arange(3.0))
    file = tmp_path / last.path
    file.write_bytes(b"\1" + file.read_bytes()[1:])
    with pytest.raises(ValueError, match=r"x/c\.0 is damaged \(its checksum is not the recorded one\)"):
        Column(tmp_path / "x", target, last)


def test_nothing_unfinished_stays(tmp_path):
    target = array(tmp_path, "int32", fill=-1)
    append(Column(tmp_path / "x", target), 0, np.arange(12, dtype="int32"))
    assert sorted(p.name for p in (tmp_path / "x").iterdir()) == ["c.0", "c.1", "c.2", "zarr.json"]


@pytest.mark.parametrize(
    ("row_bytes", "capacity", "rows"),
    [(8, 300, 300), (8, 10_000, 512), (4096, 10_000, 256), (40_000, 10_000, 64), (150_528, 9999, 55), (2**24, 9, 1)],
)
def test_chunks_are_neither_many_nor_large(row_bytes, capacity, rows):
    assert rows_of_chunk(row_bytes, capacity) == rows
