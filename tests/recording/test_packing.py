"""A packed run is opened, shown, reported and exported as its folder is."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest
import xarray as xr

from closedloop import IsotropicES, open_recording, render
from closedloop.cli import main
from closedloop.errors import RecordingError
from closedloop.formats import export
from closedloop.generators import Fourier
from closedloop.protocols import evolve, resume
from closedloop.recording import Recording, pack
from closedloop.recording.pictures import Pictures
from closedloop.recording.pointer import pointer_bytes
from closedloop.report import write_report
from closedloop.subjects import GaborSubject


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run with references and kept images; its folder."""
    folder = tmp_path_factory.mktemp("packing") / "run"
    generator = Fourier(resolution=16, cutoff=2)
    natural = np.random.default_rng(0).random((4, 3, 16, 16), dtype=np.float32)
    evolve(
        GaborSubject(resolution=16, count=2, seed=1),
        generator,
        IsotropicES(generator.space, 1, population=6),
        objective="unit(0)",
        images=30,
        references=natural,
        retest_repeats=2,
        save=folder,
    )
    return folder


@pytest.fixture
def packed(run, tmp_path):
    return pack(run, tmp_path / "run.zip")


def test_all_values_are_those_of_the_folder(run, packed):
    found = open_recording(packed)
    assert not found["responses"].variable._in_memory
    xr.testing.assert_identical(found.load(), open_recording(run).load())
    assert found.attrs == open_recording(run).attrs


def test_images_and_references_are_inside(run, packed):
    found, expected = open_recording(packed), open_recording(run)
    np.testing.assert_array_equal(render(found), render(expected))
    pictures, known = Pictures(found), Pictures(expected)
    evolved = str(found["stimulus_id"].values[(found["kind"] == "evolved").values][0])
    reference = str(found["stimulus_id"].values[(found["kind"] == "reference").values][0])
    np.testing.assert_array_equal(pictures(evolved), known(evolved))
    np.testing.assert_array_equal(pictures.reference(reference), known.reference(reference))
    assert pictures("../experiment") is None
    kept = next((run / "images").glob("*.png")).stem
    np.testing.assert_array_equal(pictures(kept), known(kept))


def test_shown_reported_exported_and_resumed(packed, tmp_path, capsys):
    main(["show", str(packed)])
    assert (tmp_path / "run-summary.png").is_file()
    assert "gabor" in write_report([packed], tmp_path / "report.html").read_text()
    for to, name in (("netcdf", "a.nc"), ("nwb", "a.nwb")):
        again = open_recording(export(packed, to, tmp_path / name))
        xr.testing.assert_identical(again.load(), open_recording(packed).load())
    xr.testing.assert_identical(resume(packed).load(), open_recording(packed).load())
    with pytest.raises(RecordingError, match="a packed run is only read; unpack it"):
        Recording.reopen(packed)


def test_unpacked_it_is_the_run_again(run, packed, tmp_path):
    with zipfile.ZipFile(packed) as archive:
        assert all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())
        archive.extractall(tmp_path / "again")
    xr.testing.assert_identical(open_recording(tmp_path / "again").load(), open_recording(run).load())
    direct = xr.open_zarr(tmp_path / "again" / "data.zarr", consolidated=False)
    assert direct.sizes["presentation"] >= open_recording(run).sizes["presentation"]


def test_the_command_leaves_the_folder_alone_or_removes_it(run, tmp_path, capsys):
    folder = tmp_path / "copy"
    with zipfile.ZipFile(pack(run, tmp_path / "first.zip")) as archive:
        archive.extractall(folder)
    main(["pack", str(folder), "--out", str(tmp_path / "second.zip")])
    assert folder.is_dir()
    main(["pack", str(folder), "--remove"])
    assert not folder.exists()
    assert open_recording(tmp_path / "copy.zip").attrs["finished"] == 1
    assert "Packed" in capsys.readouterr().out


def test_what_cannot_be_packed(run, packed, tmp_path):
    for given, out, message in (
        (packed, None, "this is packed already"),
        (run, tmp_path / "run.tar", r"expected a name ending in \.zip"),
        (run, packed, "exists already"),
        (tmp_path, None, "not a run of closedloop"),
    ):
        with pytest.raises(RecordingError, match=message):
            pack(given, out)


def test_damage_is_found_while_packing_and_while_reading(run, packed, tmp_path):
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(tmp_path / "copy")
    chunk = tmp_path / "copy" / "data.zarr" / "responses" / "c.0.0"
    data = bytearray(chunk.read_bytes())
    data[3] ^= 1
    chunk.write_bytes(data)
    with pytest.raises(RecordingError, match=r"responses/c\.0\.0 is damaged"):
        pack(tmp_path / "copy", tmp_path / "bad.zip")
    assert not (tmp_path / "bad.zip").exists()
    with zipfile.ZipFile(packed) as archive:
        name = "data.zarr/responses/c.0.0"
        place = archive.getinfo(name).header_offset + 30 + len(name) + 3  # behind the member's header
    content = bytearray(packed.read_bytes())
    content[place] ^= 1
    packed.write_bytes(content)
    with pytest.raises(RecordingError, match=r"responses/c\.0\.0 .*(CRC|damaged)"):
        open_recording(packed)["responses"].load()
    packed.write_bytes(content[:50])
    with pytest.raises(RecordingError, match="cannot read"):
        open_recording(packed)


def test_an_unfinished_run_is_gone_on_with_first(run, tmp_path):
    with zipfile.ZipFile(pack(run, tmp_path / "run.zip")) as archive:
        archive.extractall(tmp_path / "copy")
    pointer = tmp_path / "copy" / "COMMITTED.json"
    pointer.write_bytes(pointer_bytes({**json.loads(pointer.read_bytes()), "finished": False}))
    with pytest.raises(RecordingError, match="expected a finished run; go on with it first: closedloop resume"):
        pack(tmp_path / "copy")
