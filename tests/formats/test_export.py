"""The formats by name."""

import pytest

from closedloop import open_recording
from closedloop.errors import InvalidArgumentError, RecordingError, UnknownNameError
from closedloop.formats import FORMATS, export


def test_every_format_has_a_writer():
    assert {"netcdf", "nwb", "brainio", "csv", "png", "gif", "mp4"} == set(FORMATS)
    for chosen in FORMATS.values():
        assert chosen.write.__doc__


def test_bad_names(run, tmp_path):
    with pytest.raises(UnknownNameError, match=r"to: no format named 'netcfd'\. Did you mean 'netcdf'"):
        export(run, "netcfd", tmp_path / "x.nc")
    with pytest.raises(InvalidArgumentError, match=r"out: expected a name ending in \.nc for netcdf, got .*x\.txt"):
        export(run, "netcdf", tmp_path / "x.txt")


@pytest.mark.parametrize("to", sorted(FORMATS))
def test_nothing_is_overwritten(run, tmp_path, to):
    out = tmp_path / f"x{FORMATS[to].suffix}"
    out.write_text("mine")
    with pytest.raises(RecordingError, match="exists already; choose another name"):
        export(run, to, out)
    assert [p.read_text() for p in tmp_path.iterdir()] == ["mine"]


def test_exporting_changes_nothing_in_the_run(run, tmp_path):
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in run.rglob("*")}
    for to in ("netcdf", "csv"):
        export(run, to, tmp_path / f"x{FORMATS[to].suffix}")
    open_recording(run).load()
    assert {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in run.rglob("*")} == before


def test_a_damaged_run_is_not_exported(run, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    chunk = copy / "data.zarr" / "responses" / "c.0.0"
    data = bytearray(chunk.read_bytes())
    data[5] ^= 1
    chunk.write_bytes(data)
    for to in ("netcdf", "nwb", "csv"):
        with pytest.raises(RecordingError, match=r"responses/c\.0\.0 is damaged"):
            export(copy, to, tmp_path / f"x{FORMATS[to].suffix}")
    assert [p.name for p in tmp_path.iterdir()] == ["copy"]


@pytest.mark.parametrize("room", [0, 150, 400])
@pytest.mark.parametrize("to", sorted(FORMATS))
def test_a_full_disk_leaves_nothing(run, tmp_path, to, room, tally):
    """No file grows beyond some bytes, as on a disk without room: from the beginning, or in the middle."""
    tally("full disks")
    resource = pytest.importorskip("resource")
    out, soft = tmp_path / f"x{FORMATS[to].suffix}", resource.getrlimit(resource.RLIMIT_FSIZE)
    recording = open_recording(run).load()
    if to == "mp4":  # it is looked for once; some versions write a file as they start
        pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, soft[1]))
    try:
        with pytest.raises(
            RecordingError, match=r"out: cannot write .*; nothing was left behind\. Make room"
        ) as caught:
            export(recording, to, out, **({"images": False} if to == "nwb" else {}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, soft)
    assert list(tmp_path.iterdir()) == []
    assert str(out) in str(caught.value)


PLACES = {
    "in a file": lambda folder: (folder / "file" / "x", r"out: cannot write .*\((Not a directory|File exists)"),
    "a long name": lambda folder: (folder / ("n" * 256), r"out: .*with a name of 2\d\d"),
    "in the data": lambda folder: (folder / "run" / "data.zarr" / "x", "would lie among the files of the run"),
    "a folder": lambda folder: (folder / "run", "exists already"),
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("to", sorted(FORMATS))
def test_places_where_nothing_can_be_written(run, tmp_path, to, place):
    (tmp_path / "run" / "data.zarr").mkdir(parents=True)
    (tmp_path / "run" / "experiment.yaml").touch()
    (tmp_path / "file").touch()
    out, message = place(tmp_path)
    if out.name == "run" and FORMATS[to].suffix:
        out = out.with_name("run" + FORMATS[to].suffix)
        out.mkdir()
    elif FORMATS[to].suffix or out.name != "run":
        out = out.with_name(out.name + (FORMATS[to].suffix or ".more"))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises((RecordingError, InvalidArgumentError), match=message):
        export(run, to, out)
    assert sorted(tmp_path.rglob("*")) == before
