"""Damage anywhere in a run's folder is noticed: when it is opened, looked at, gone on with or packed."""

from __future__ import annotations

import contextlib
import re
import shutil

import numpy as np
import pytest

from closedloop import open_recording
from closedloop.errors import ClosedLoopError, RecordingError
from closedloop.recording import pack, verify
from closedloop.recording.reader import read_state
from closedloop.recording.writer import Recording
from tests.small_runs import RUNS, cut_off, finished, go_on

#: Files of which nothing is read back.
NOT_READ = ("LOCK",)
#: The state before the last one is kept for nothing but a look.
SPARE = 1


@pytest.fixture(scope="module", params=RUNS)
def runs(request, tmp_path_factory):
    """A protocol's name, and the folders of a finished and of an unfinished run of it."""
    folder = tmp_path_factory.mktemp(request.param)
    shutil.copytree(finished(request.param, tmp_path_factory.getbasetemp()), folder / "finished")
    cut_off(request.param, folder / "unfinished")
    return request.param, folder


def files(folder):
    states = sorted((folder / "state").iterdir())
    spare = states[:-1] if len(states) > SPARE else []
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in NOT_READ and p not in spare)


def damaged(data, kind, place):
    at = min(int(place * len(data)), len(data) - 1)
    return data[:at] if kind == "cut" else data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


def covered(folder, path):
    """How much of a file counts: of a chunk the rows that are committed."""
    import json

    from closedloop.recording.checksums import Sum

    lines = (folder / "CHECKSUMS").read_text().splitlines()
    mark = json.loads((folder / "COMMITTED.json").read_text())
    name = path.relative_to(folder).as_posix()
    if name == "CHECKSUMS":
        return mark["checksums"]["bytes"]
    sums = {s.path: s for s in map(Sum.read, [*lines, *mark["open"]])}
    inside = name.removeprefix("data.zarr/")
    return sums[inside].size if inside in sums else path.stat().st_size


@pytest.mark.sampled(8)
@pytest.mark.parametrize("state", ["finished", "unfinished"])
def test_every_file_changed_cut_short_or_lost(runs, state, tmp_path, counted, tally):
    """By `verify`; and who does not ask it reads, resumes and packs the right values or meets an error."""
    name, folder = runs
    rng, copy = np.random.default_rng(7), tmp_path / "run"
    expected, silent = open_recording(folder / "finished").load().drop_attrs(), []
    assert verify(folder / state) <= expected.sizes["presentation"]
    for path in rng.permutation(files(folder / state))[: counted(quick=3, reduced=40, full=None)]:
        whole, counts = path.read_bytes(), covered(folder / state, path)
        places = [0, 1 - 1e-9, *rng.random(counted(quick=0, reduced=3, full=8))]
        for kind, place in [("lost", 0), *[(kind, place) for kind in ("cut", "flip") for place in places if counts]]:
            tally("damaged stores")
            shutil.copytree(folder / state, copy)
            target = copy / path.relative_to(folder / state)
            if kind == "lost":
                target.unlink()
            else:
                target.write_bytes(damaged(whole[:counts], kind, place) + (whole[counts:] if kind == "flip" else b""))
            if not notices(copy):
                silent.append(f"{path.relative_to(folder)}: {kind} at {place:.3f}")
            if rng.random() < counted(quick=0, reduced=0.1, full=0.5):
                assert_never_wrong(name, copy, expected)
            shutil.rmtree(copy)
    assert not silent


def notices(run):
    try:
        verify(run)
    except RecordingError:
        return True
    return False


def assert_never_wrong(name, run, expected):
    try:
        found = go_on(name, run).load()
        pack(run, run.with_name("packed.zip"))
        packed = open_recording(run.with_name("packed.zip")).load()
    except ClosedLoopError:
        return
    finally:
        run.with_name("packed.zip").unlink(missing_ok=True)
    assert found.drop_attrs().identical(expected)
    assert packed.drop_attrs().identical(expected)


def test_a_packed_run_with_a_changed_byte(runs, tmp_path, counted, tally):
    """What is read is right, or an error: a zip file has bytes that say nothing."""
    _, folder = runs
    expected = open_recording(folder / "finished").load()
    content = pack(folder / "finished", tmp_path / "whole.zip").read_bytes()
    assert verify(tmp_path / "whole.zip") == expected.sizes["presentation"]
    for place in np.random.default_rng(1).random(counted(quick=3, reduced=30, full=300)):
        for kind in ("cut", "flip"):
            tally("damaged stores")
            (tmp_path / "x.zip").write_bytes(damaged(content, kind, place))
            if not notices(tmp_path / "x.zip"):
                assert kind == "flip"
                assert open_recording(tmp_path / "x.zip").load().identical(expected)


@pytest.mark.sampled(4)
def test_a_packed_run_whose_own_words_are_changed(runs, tmp_path, counted, tally):
    """The zip file's headers, and the files that are read as texts, of which it has a sum of its own."""
    _, folder = runs
    content = pack(folder / "finished", tmp_path / "whole.zip").read_bytes()
    marks = (b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", b'"n_presentations"', b'"state_sha256"')
    starts = [found.start() for mark in marks for found in re.finditer(re.escape(mark), content)]
    expected, rng = open_recording(folder / "finished").load(), np.random.default_rng(2)
    for _ in range(counted(quick=12, reduced=60, full=600)):
        tally("damaged stores")
        at, changed = min(int(rng.choice(starts) + rng.integers(46)), len(content) - 1), bytearray(content)
        changed[at] ^= 1 << int(rng.integers(8))
        (tmp_path / "x.zip").write_bytes(changed)
        notices(tmp_path / "x.zip")
        with contextlib.suppress(RecordingError):
            assert open_recording(tmp_path / "x.zip").load().identical(expected)
        with contextlib.suppress(RecordingError):
            read_state(tmp_path / "x.zip")


FOREIGN = ("references/00099_x.png", "data.zarr/more/zarr.json", "images/cells-g0000-000.png", "parameters.json",
           "basis.npz", "start.state", "references/ids.json", "earlier/raw-60-0-2.state")  # fmt: skip


@pytest.mark.sampled(20)
@pytest.mark.parametrize("state", ["finished", "unfinished"])
@pytest.mark.parametrize("added", FOREIGN)
def test_a_foreign_file_is_noticed_or_not_read(runs, state, added, tmp_path, tally):
    name, folder = runs
    shutil.copytree(folder / state, tmp_path / "run")
    target = tmp_path / "run" / added
    if target.exists():
        return
    tally("damaged stores")
    target.parent.mkdir(exist_ok=True)
    source = next(iter(sorted((folder / state).rglob(f"*{target.suffix}"))), None)
    target.write_bytes(source.read_bytes() if source is not None else b"foreign")
    expected = open_recording(folder / "finished").load()
    try:
        verify(tmp_path / "run")
        found = go_on(name, tmp_path / "run").load()
    except ClosedLoopError as error:
        assert "belong" in str(error)  # noqa: PT017 - noticed or not read, both are right
    else:
        assert found.drop_attrs().identical(expected.drop_attrs())


def test_what_describes_the_arrays_is_looked_at_before_a_run_goes_on(tmp_path, counted):
    """A flipped letter in a description is an error of ours, and no warning of zarr's, and is never gone on with."""
    folder = cut_off("evolve", tmp_path / "run")
    paths = sorted((folder / "data.zarr").rglob("zarr.json"))
    assert len(paths) > 4
    for path in paths:
        whole = path.read_bytes()
        for at in range(0, len(whole), counted(quick=97, reduced=13, full=1)):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
            with pytest.raises(RecordingError, match="data"):
                Recording.reopen(folder)
        path.write_bytes(whole)
    Recording.reopen(folder).close()
