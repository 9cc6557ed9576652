"""Rows appended chunk by chunk are what zarr reads back."""

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from closedloop.files import replace_files
from closedloop.recording.chunks import Column


def write(column, start, values):
    """Sets rows and writes their chunk files; the checksums."""
    chunks = column.set(start, values)
    replace_files({chunk.path: chunk.data for chunk in chunks})
    return [chunk.sum for chunk in chunks]


def array(folder, dtype, shape=(), chunk=5, fill=None):
    group = zarr.open_group(folder, mode="a")
    return group.create_array(
        "x", shape=(40, *shape), chunks=(chunk, *shape), dtype=dtype, fill_value=fill, compressors=None, overwrite=True
    )


@settings(max_examples=25)
@given(blocks=st.lists(st.integers(1, 9), min_size=1, max_size=4), chunk=st.integers(1, 12))
@pytest.mark.parametrize(("dtype", "shape", "fill"), [("float32", (3,), np.nan), ("int32", (), -1), ("str", (), "")])
def test_appended_rows_are_read_back(tmp_path_factory, blocks, chunk, dtype, shape, fill):
    folder = tmp_path_factory.mktemp("columns")
    target = array(folder, dtype, shape, chunk, fill)
    column = Column(folder / "x", target)
    total = sum(blocks)
    values = np.arange(total * max(1, int(np.prod(shape)))).reshape(total, *shape)
    values = np.array([f"häß-{v}" for v in values], dtype=object) if dtype == "str" else values.astype(dtype)
    start = 0
    for block in blocks:
        write(column, start, values[start : start + block])
        start += block
    read = np.asarray(zarr.open_group(folder, mode="r")["x"][:])
    assert (read[:total] == values).all()
    rest = read[total:]
    assert np.isnan(rest).all() if dtype == "float32" else (rest == fill).all()


def test_a_new_column_keeps_what_stands_in_its_chunk(tmp_path):
    target = array(tmp_path, "float64", fill=np.nan)
    write(Column(tmp_path / "x", target), 0, np.arange(3.0))
    write(Column(tmp_path / "x", target), 3, np.arange(3.0, 7.0))
    assert np.array_equal(target[:7], np.arange(7.0))
    assert np.isnan(target[7:]).all()


def test_rows_are_written_again_after_a_failure(tmp_path):
    target = array(tmp_path, "int32", fill=-1)
    column = Column(tmp_path / "x", target)
    write(column, 0, np.array([1, 2, 9, 9]))
    write(column, 2, np.array([3]))
    assert target[:3].tolist() == [1, 2, 3]


@pytest.mark.parametrize(("dtype", "shape", "fill"), [("float32", (3,), np.nan), ("int32", (), -1), ("str", (), "")])
def test_a_checksum_stays_right_whatever_is_written_behind_its_rows(tmp_path, dtype, shape, fill):
    target = array(tmp_path, dtype, shape, 10, fill)
    long, short = (np.array([f"{word}{i}" for i in range(4)], dtype=object) for word in ("häßlich", "a"))
    if dtype != "str":
        long, short = (np.arange(4 * max(1, int(np.prod(shape)))).reshape(4, *shape).astype(dtype) + k for k in (0, 9))
    [first] = write(Column(tmp_path / "x", target), 0, long[:2])
    for behind in (long, short[:1]):  # a generation that was cut off, then another in its place
        write(Column(tmp_path / "x", target), 2, behind)
        data = (tmp_path / first.path).read_bytes()
        assert first.fits(data)
        assert not first.fits(data[: first.length - 1])
        changed = bytearray(data)
        changed[first.size - 1] ^= 1
        assert not first.fits(bytes(changed))
    write(Column(tmp_path / "x", target), 1, short[:1])
    assert not first.fits((tmp_path / first.path).read_bytes())


def test_nothing_unfinished_stays(tmp_path):
    target = array(tmp_path, "int32", fill=-1)
    write(Column(tmp_path / "x", target), 0, np.arange(12, dtype="int32"))
    assert not list(tmp_path.rglob("*.partial"))
