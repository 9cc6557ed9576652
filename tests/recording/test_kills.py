"""Whatever dies between any two changes of files, the committed rows are those that were committed."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from closedloop.errors import RecordingError
from closedloop.interfaces import Units
from closedloop.recording import chunks, store
from closedloop.recording.checksums import ChecksumFile
from closedloop.recording.layout import Layout, Rows
from closedloop.recording.reader import open_recording
from closedloop.recording.writer import Recording

LAYOUT = Layout(200, 3, Units(("cell",), {}), {"subject": "cell", "seed": 1})


class Killed(BaseException):
    """The process ends here."""


@dataclass
class Disk:
    """Lets a number of changes of files happen, half of one more, and none behind that.

    Attributes:
        left: Changes that still happen.
        full: Whether they fail as on a full disk; otherwise the process ends.
    """

    left: int = 10**9
    full: bool = False
    dead: bool = field(default=False, init=False)

    def allows(self):
        self.left -= 1
        return self.left >= 0 and not self.dead

    def die(self):
        self.dead = True
        raise OSError(28, "No space left on device") if self.full else Killed


def watched(monkeypatch):
    """A disk whose changes are counted from now on."""
    disk = Disk()
    rename, write, list_sums, unlink = os.replace, chunks.write_at, ChecksumFile.write, Path.unlink

    def replace(source, target):
        if not disk.allows():
            disk.die()
        rename(source, target)

    def write_at(path, offset, data):
        if not disk.allows():
            if not disk.dead:
                write(path, offset, data[: len(data) // 2])
            disk.die()
        write(path, offset, data)

    def write_sums(file, sums):
        if not disk.allows():
            if not disk.dead:
                list_sums(file, list(sums)[:1])
            disk.die()
        list_sums(file, sums)

    def remove(path, missing_ok=False):
        if path.suffix == ".npz" and not disk.allows():
            disk.die()
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: None, raising=False)
    monkeypatch.setattr(chunks, "write_at", write_at)
    monkeypatch.setattr(ChecksumFile, "write", write_sums)
    monkeypatch.setattr(Path, "unlink", remove)
    monkeypatch.setattr(store, "rows_of_chunk", lambda row_bytes, capacity: 5 if row_bytes > 30 else 7)
    return disk


@pytest.fixture
def disk(monkeypatch):
    return watched(monkeypatch)


def rows(count, number):
    rng = np.random.default_rng(number)
    coords = {
        "thread": np.full(count, "main"),
        "generation": np.full(count, number, np.int32),
        "kind": np.full(count, "evolved"),
        "stimulus_id": np.array(["ä" * int(rng.integers(0, 9)) + f"{number}-{i}" for i in range(count)]),
        "repeat": np.zeros(count, np.int32),
        "onset_s": rng.random(count),
    }
    return Rows(coords, rng.random((count, 1)), rng.random((count, 3)), rng.random(count))


def held(folder):
    """The generations that a run holds, each as it must be; how many there are."""
    if not (folder / "COMMITTED.json").exists():
        with pytest.raises(RecordingError, match="no finished generation yet"):
            open_recording(folder)
        return 0
    found = open_recording(folder).load()
    numbers = found["generation"].values
    for number in range(found.attrs["n_generations"]):
        own = found.isel(presentation=np.flatnonzero(numbers == number))
        expected = rows(own.sizes["presentation"], number)
        np.testing.assert_array_equal(own["responses"], expected.responses)
        np.testing.assert_array_equal(own["latent_code"], expected.codes)
        np.testing.assert_array_equal(own["score"], expected.scores)
        for name, values in expected.coords.items():
            assert own[name].values.tolist() == values.tolist()
    assert set(numbers.tolist()) == set(range(found.attrs["n_generations"]))
    return int(found.attrs["n_generations"])


STEPS = st.lists(
    st.tuples(st.integers(1, 12), st.one_of(st.none(), st.integers(0, 14)), st.booleans(), st.booleans()),
    min_size=1,
    max_size=8,
)


def test_killed_between_any_two_changes(tmp_path_factory, counted, tally):
    """Each step appends rows and may die at a change, or meet a full disk; then the run is opened and gone on with."""

    @settings(max_examples=counted(quick=15, reduced=200, full=1500), deadline=None)
    @given(STEPS)
    def try_steps(steps):
        append_and_die(tmp_path_factory.mktemp("kills") / "run", steps, tally)

    try_steps()


def append_and_die(folder, steps, tally):
    with pytest.MonkeyPatch.context() as patch:
        state = watched(patch)
        recording, committed = Recording.create(folder, LAYOUT, {}), 0
        for count, allowed, full, anew in steps:
            state.left, state.full, state.dead = (10**9 if allowed is None else allowed), full, False
            died = False
            try:
                recording.append(rows(count, committed), {"g": committed})
            except (Killed, RecordingError):
                died = True
                tally("full disks" if full else "deaths between two changes of files")
            state.left, state.dead = 10**9, False
            now = held(folder)
            assert now == committed + 1 if not died else now in (committed, committed + 1)
            committed = now
            if died or anew:
                recording.close()
                recording = Recording.reopen(folder)
                recording.use(LAYOUT)
                assert recording.state() == ({"g": committed - 1} if committed else None)
        recording.close()
        assert held(folder) == committed


def test_a_full_disk_in_the_middle_says_what_is_safe(tmp_path, disk):
    recording = Recording.create(tmp_path / "run", LAYOUT, {})
    recording.append(rows(4, 0), {"g": 0})
    disk.left, disk.full = 1, True
    with pytest.raises(RecordingError, match="Every finished generation is safe; make room"):
        recording.append(rows(4, 1), {"g": 1})
    disk.left, disk.dead = 10**9, False
    recording.append(rows(3, 1), {"g": 1})  # the same process goes on when there is room again
    recording.close()
    assert held(tmp_path / "run") == 2
