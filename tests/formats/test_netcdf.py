"""netCDF: the recording comes back bit for bit."""

import numpy as np
import pytest
import xarray as xr

from closedloop import open_recording, render
from closedloop.errors import MissingExtraError, RecordingError
from closedloop.formats import export

from .conftest import assert_same


def test_comes_back_exactly(any_run, tmp_path):
    export(any_run, "netcdf", tmp_path / "run.nc")
    assert_same(open_recording(tmp_path / "run.nc"), open_recording(any_run))


def test_is_read_lazily_and_by_xarray_alone(run, tmp_path):
    export(open_recording(run), "netcdf", tmp_path / "run.nc")
    assert not open_recording(tmp_path / "run.nc")["responses"].variable._in_memory
    with xr.open_dataset(tmp_path / "run.nc", engine="h5netcdf") as read:
        np.testing.assert_array_equal(read["latent_code"], open_recording(run)["latent_code"])


def test_images_of_an_export(run, tmp_path):
    export(run, "netcdf", tmp_path / "run.nc")
    found, recording = open_recording(tmp_path / "run.nc"), open_recording(run)
    evolved = (recording["thread"] != "reference").values
    np.testing.assert_array_equal(render(found, evolved), render(recording, evolved))
    np.testing.assert_array_equal(render(found, ~evolved, references=run), render(recording, ~evolved))
    with pytest.raises(RecordingError, match="does not say where they are"):
        render(found, ~evolved)


def test_other_and_damaged_files(run, tmp_path):
    xr.Dataset({"x": ("y", [1.0])}).to_netcdf(tmp_path / "other.nc", engine="h5netcdf")
    with pytest.raises(RecordingError, match=r"other\.nc: a netCDF file, but not a recording"):
        open_recording(tmp_path / "other.nc")
    export(run, "netcdf", tmp_path / "run.nc")
    data = (tmp_path / "run.nc").read_bytes()
    for name, content in (("half.nc", data[: len(data) // 2]), ("text.nc", b"no netCDF"), ("empty.nc", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(RecordingError, match=f"{name}: cannot read it as netCDF"):
            open_recording(tmp_path / name)


def test_a_newer_schema(run, tmp_path):
    newer = open_recording(run).assign_attrs(closedloop_schema=9)
    export(newer, "netcdf", tmp_path / "run.nc")
    with pytest.raises(RecordingError, match=r"written by a newer closedloop \(schema 9, this one knows 4\)"):
        open_recording(tmp_path / "run.nc")


def test_the_extra_is_named(run, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "h5netcdf", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'closedloop\[netcdf\]'"):
        export(run, "netcdf", tmp_path / "run.nc")
    assert not any(tmp_path.iterdir())
