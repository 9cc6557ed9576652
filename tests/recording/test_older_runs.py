"""Runs of schema 1 and 2, recorded by the versions that had them: read, gone on with, reported, exported."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from closedloop import open_recording, summarize
from closedloop.analysis.summary import is_evolution
from closedloop.errors import RecordingError
from closedloop.formats import export
from closedloop.protocols import resume
from closedloop.recording import older, pack, read_pointer
from closedloop.recording.writer import Recording
from closedloop.report import write_report

DATA = Path(__file__).parent.parent / "data" / "recordings"
RUNS = sorted(path.stem for path in DATA.glob("schema*-*.zip") if "exports" not in path.name)
KILLED = [name for name in RUNS if name.endswith("killed")]
#: What older runs had as one text for all threads.
JOINED = ("generator", "generator_sha256", "optimizer", "objective")


def unpacked(name, folder):
    """The run's folder, and what is expected of it: arrays by name."""
    with zipfile.ZipFile(DATA / f"{name}.zip") as archive:
        archive.extractall(folder)
    later = folder / "expected-72897ea.npz"
    with np.load(later if later.exists() else folder / "expected.npz", allow_pickle=False) as file:
        return folder / "run", {k: file[k] for k in file.files}


def assert_holds(found, expected, rows=None, gone_on_from=None):
    """That a recording holds the first rows of what was expected, and what identifies the run.

    What a run holds is exact. What it goes on to, from a row on, was computed on another kind of processor, whose
    libraries add in another order.
    """
    count = found.sizes["presentation"]
    assert rows in (None, count)
    for name, values in expected.items():
        if name.startswith(("attr_", "ascent_", "elites_")) or name == "generator_recipe":
            continue
        if name == "threads" or name in JOINED:
            known = found["evolution" if name == "threads" else name].values
            assert "; ".join(known) == str(values)
            continue
        got = found[name].values
        got = got.astype(str) if got.dtype.kind == "O" else got
        wanted = values[:count] if found[name].dims[:1] == ("presentation",) else values
        assert got.dtype.kind == wanted.dtype.kind, name
        if gone_on_from is not None and found[name].dims[:1] == ("presentation",) and got.dtype.kind == "f":
            after = slice(gone_on_from, None)
            np.testing.assert_allclose(got[after], wanted[after], rtol=1e-3, atol=1e-4, err_msg=name)
            got, wanted = got[:gone_on_from], wanted[:gone_on_from]
        np.testing.assert_array_equal(got, wanted, err_msg=name)


@pytest.mark.parametrize("name", RUNS)
def test_is_read_with_its_evolutions(tmp_path, name):
    run, expected = unpacked(name, tmp_path)
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    found = open_recording(run).load()
    if "two-threads" in name:
        assert found["evolution"].values.tolist() == ["fourier", "pixels"] or found.sizes["evolution"] == 2
        expected = {k: v for k, v in expected.items() if k not in ("responses", "score")}  # these go on differently
    assert_holds(found, expected)
    assert ("evolution" in found.dims) == ("threads" in expected)
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("name", KILLED)
def test_goes_on_to_what_the_old_version_came_to(tmp_path, name):
    run, expected = unpacked(name, tmp_path)
    before = open_recording(run).sizes["presentation"]
    resume(run)
    found = open_recording(run)
    assert_holds(found.load(), expected, len(expected["kind"]), before)
    assert found.attrs["finished"] == 1
    assert read_pointer(run)["schema"] == 3
    assert not (run / "data.zarr").exists()
    assert_holds(open_recording(pack(run)).load(), expected, gone_on_from=before)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", RUNS)
@pytest.mark.filterwarnings("ignore:.*cannot be made again")
def test_is_reported_and_exported(tmp_path, name):
    run, _ = unpacked(name, tmp_path)
    found = open_recording(run)
    page = write_report([run], tmp_path / "report.html").read_text()
    assert found["subject"].item() in page
    if is_evolution(found):
        assert [s.thread for s in summarize(found)] == found["evolution"].values.tolist()
    for to, file in (("netcdf", "run.nc"), ("nwb", "run.nwb")):
        read = open_recording(export(run, to, tmp_path / file)).load()
        xr.testing.assert_identical(read, found.load())
    assert len(export(run, "csv", tmp_path / "run.csv").read_text().splitlines()) == found.sizes["presentation"] + 1
    assert any(export(run, "png", tmp_path / "png", which="all").iterdir())


@pytest.mark.parametrize("file", ["run.nc", "run.nwb"])
def test_an_export_of_schema_2_is_read_as_its_run(tmp_path, file):
    run, _ = unpacked("schema2-evolve-finished", tmp_path)
    with zipfile.ZipFile(DATA / "schema2-exports.zip") as archive:
        archive.extract(file, tmp_path)
    xr.testing.assert_identical(open_recording(tmp_path / file).load(), open_recording(run).load())


@pytest.mark.parametrize("name", ["schema1-present-killed", "schema2-present-killed"])
def test_a_copy_that_was_cut_off_changes_nothing(tmp_path, name, monkeypatch):
    """At any change of a file on the way: the run is still the old one, and what was half copied is copied again."""
    run, expected = unpacked(name, tmp_path)
    genuine, left = os.replace, [0]

    def sometimes(*arguments):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        return genuine(*arguments)

    for allowed in range(4):  # four arrays, each with a chunk, before the pointer
        left[0] = allowed
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", sometimes)
            with pytest.raises(RecordingError, match="Every finished generation is safe"):
                Recording.reopen(run)
        assert read_pointer(run)["schema"] < 3
        assert_holds(open_recording(run).load(), expected)
    before = open_recording(run).sizes["presentation"]
    resume(run)
    assert_holds(open_recording(run).load(), expected, len(expected["kind"]), before)


def test_a_run_that_lacks_an_array_is_not_copied(tmp_path):
    run, _ = unpacked("schema1-present-killed", tmp_path)
    shutil.rmtree(run / "data.zarr" / "score")
    with pytest.raises(RecordingError, match=r"cannot read data\.zarr \(no array 'score'\)"):
        Recording.reopen(run)
    assert not (run / older.NEW_DATA).exists()
