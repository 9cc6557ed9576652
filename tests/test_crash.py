"""Killed at any moment, a run opens, holds every finished generation, and resumes to the recording of a whole run."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from closedloop.errors import RecordingError
from closedloop.formats import FORMATS
from closedloop.images.eight_bit import write_png
from closedloop.protocols import read_ascent
from closedloop.recording.layout import is_run
from closedloop.recording.reader import open_recording, read_pointer
from tests.small_runs import RUNS

pytestmark = pytest.mark.skipif(os.name != "posix", reason="SIGKILL and fork")
#: Changes of files at which a process can kill itself: from the first file of a run to beyond its first commit.
CREATION = 26


class Server:
    """Talks to the process of `crash_child.py`."""

    def __init__(self, *arguments):
        script = Path(__file__).with_name("crash_child.py")
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, str(script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self._line() == "ready"

    def _line(self):
        line = self.process.stdout.readline()
        assert line, "the server of children died"
        return line.strip()

    def perform(self, action, folder, references, kill_after_s=None, **options):
        """How the child ended (0 well, -9 killed), and how many commits it told of."""
        command = {"action": action, "folder": str(folder), "references": str(references), **options}
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        pid = int(self._line().split()[1])
        timer = None
        if kill_after_s is not None:
            timer = threading.Timer(kill_after_s, _kill, [pid])
            timer.start()
        told = 0
        while not (line := self._line()).startswith("ended"):
            told += line == "committed"
        if timer is not None:
            timer.cancel()
        return int(line.split()[1]), told

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(30)


def _kill(pid):
    """Kills a child of the server; one that has just ended is no longer there."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def server():
    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    folder = tmp_path_factory.mktemp("natural")
    rng = np.random.default_rng(0)
    for i in range(5):
        write_png(folder / f"picture-{i}.png", rng.random((3, 16, 16), dtype=np.float32))
    return folder


@pytest.fixture(scope="module")
def whole(server, references, tmp_path_factory):
    """An uninterrupted run: its folder, its recording, its duration in seconds and its number of commits."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    start = time.monotonic()
    code, commits = server.perform("run", folder, references)
    assert code == 0
    seconds = time.monotonic() - start
    recording = open_recording(folder).load()
    assert recording.attrs["n_generations"] == commits > 7
    assert set(recording["kind"].values) == {"evolved", "reference", "retest"}
    assert np.isnan(recording["responses"]).any()
    return folder, recording, seconds, commits


def assert_equal(found: xr.Dataset, expected: xr.Dataset):
    """Every variable and coordinate, its type and its bits; NaN equals NaN."""
    assert set(found.variables) == set(expected.variables)
    for name in expected.variables:
        one, other = found[name], expected[name]
        assert one.dims == other.dims
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one.values, other.values, err_msg=name)


def files(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def assert_same_run(folder, whole):
    expected_folder, expected, _, commits = whole
    found = open_recording(folder)
    assert_equal(found.load(), expected)
    assert (found.attrs["finished"], found.attrs["n_generations"]) == (1, commits)
    for name in ("images", "references"):
        assert files(folder / name) == files(expected_folder / name)


def committed(folder, whole):
    """How many generations a killed run holds; whatever it holds is what the uninterrupted run holds."""
    if not (folder / "COMMITTED.json").exists():
        with pytest.raises(RecordingError, match=r"no finished generation yet|not a run"):
            open_recording(folder)
        return 0
    found = open_recording(folder)
    assert_equal(found.load(), whole[1].isel(presentation=slice(0, found.sizes["presentation"])))
    return found.attrs["n_generations"]


def go_on(server, folder, references, **options):
    """Resumes a run; one that was killed before its folder was complete begins again in the same place."""
    return server.perform("resume" if is_run(folder) else "run", folder, references, **options)


def test_killed_at_random_moments(server, references, whole, tmp_path, counted, tally):
    """Runs that are killed five times each, wherever that is, and go on."""
    for chain in range(counted(quick=1, reduced=4, full=20)):
        tally("kills", 5)
        killed_five_times(server, references, whole, tmp_path / f"{chain}", np.random.default_rng(chain))


def killed_five_times(server, references, whole, folder, rng):
    held, killed = 0, 0
    while killed < 5:
        code, told = go_on(server, folder, references, kill_after_s=rng.uniform(0, 0.45 * whole[2]))
        assert code in (0, -signal.SIGKILL)
        before, held = held, committed(folder, whole)
        assert held >= before + told
        killed += code != 0
        if code == 0:
            assert_same_run(folder, whole)
            shutil.rmtree(folder)
            held = 0
    assert go_on(server, folder, references)[0] == 0
    assert_same_run(folder, whole)


@pytest.fixture(scope="module")
def networks():
    """A server of children that have torch."""
    pytest.importorskip("torch")
    server = Server("torch")
    yield server
    server.close()


def killed(server, seconds, rng, tally, *words, **options):
    """Performs something and kills it at a random moment; returns whether it was before its end."""
    code, _ = server.perform(*words, kill_after_s=rng.uniform(0, seconds), **options)
    assert code in (0, -signal.SIGKILL)
    if code:
        tally("kills")
    return bool(code)


def timed(server, *words, **options):
    """Performs something to its end; returns its seconds."""
    start = time.monotonic()
    assert server.perform(*words, **options)[0] == 0
    return time.monotonic() - start


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.long] * (name not in ("present", "map_field", "search_natural")))
        for name in RUNS
    ],
)
def test_killed_at_random_moments_in_every_protocol(networks, name, tmp_path, counted, tally):
    """The same call goes on; what was committed is right after every kill, and the end is that of a whole run."""
    rng, folder, kills = np.random.default_rng(len(name)), tmp_path / "run", 0
    seconds = timed(networks, "small", tmp_path / "whole", "", name=name)
    expected = open_recording(tmp_path / "whole").load()
    while kills < counted(quick=2, reduced=15, full=130):
        was_killed = killed(networks, seconds, rng, tally, "small", folder, "", name=name)
        kills += was_killed
        if (folder / "COMMITTED.json").exists():
            found = open_recording(folder).load()
            assert_equal(found, expected.isel(presentation=slice(0, found.sizes["presentation"])))
        if not was_killed:
            assert found.attrs["finished"]
            assert found.sizes == expected.sizes
            shutil.rmtree(folder)
    assert networks.perform("small", folder, "", name=name)[0] == 0
    assert_equal(open_recording(folder).load(), expected)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("to", [*sorted(FORMATS), "pack"])
def test_an_export_that_is_killed_leaves_nothing_half_written(networks, whole, to, tmp_path, counted, tally):
    rng, kills, suffix = np.random.default_rng(len(to)), 0, ".zip" if to == "pack" else FORMATS[to].suffix
    words = ("pack" if to == "pack" else "export", whole[0], "")
    complete = tmp_path / "whole" / f"x{suffix}"
    try:
        seconds = timed(networks, *words, to=to, out=str(complete))
    except AssertionError:
        pytest.skip("needs an extra")
    while kills < counted(quick=1, reduced=4, full=13):
        out = tmp_path / f"{kills}" / f"x{suffix}"
        was_killed = killed(networks, seconds, rng, tally, *words, to=to, out=str(out))
        assert was_killed or out.exists()
        if not out.exists():
            assert networks.perform(*words, to=to, out=str(out))[0] == 0
        assert_same_export(out, complete)
        kills += was_killed
        shutil.rmtree(out.parent)


def assert_same_export(out, complete):
    if out.suffix in (".nc", ".nwb", ".zip"):
        assert open_recording(out).load().identical(open_recording(complete).load())
    elif out.is_dir():
        names = sorted(p.relative_to(complete) for p in complete.rglob("*") if p.is_file())
        assert sorted(p.relative_to(out) for p in out.rglob("*") if p.is_file()) == names
        assert all((out / n).stat().st_size == (complete / n).stat().st_size for n in names)
    else:
        assert out.read_bytes() == complete.read_bytes()


@pytest.mark.long
def test_the_training_of_a_generator_is_killed(networks, tmp_path, counted, tally):
    from closedloop.networks.weights import read_weights

    (tmp_path / "photos").mkdir()
    for i in range(3):
        picture = np.random.default_rng(i).random((3, 80, 80), dtype=np.float32)
        write_png(tmp_path / "photos" / f"{i}.png", picture)
    words, out = ("train", tmp_path / "x.safetensors", tmp_path / "photos"), tmp_path / "x.safetensors"
    seconds = timed(networks, "train", tmp_path / "whole.safetensors", tmp_path / "photos")
    expected = read_weights(tmp_path / "whole.safetensors")
    rng, kills = np.random.default_rng(0), 0
    for before in (True, False):  # in the middle of its commit, and behind it
        code, _ = networks.perform(*words, die_at=1, before=before, ending=".training.pt")
        assert code == -signal.SIGKILL
        tally("kills")
    while kills < counted(quick=1, reduced=3, full=14) or not out.exists():
        more = kills < counted(quick=1, reduced=3, full=14)
        if more:
            kills += killed(networks, seconds, rng, tally, *words)
        else:
            assert networks.perform(*words)[0] == 0
        if out.exists():
            found = read_weights(out)
            assert found.keys() == expected.keys()
            assert all((found[name] == expected[name]).all() for name in expected)
            if more:
                out.unlink()


@pytest.mark.long
def test_a_reader_in_another_process_polls_through_kills(server, references, whole, tmp_path, counted, tally):
    """It opens the newest run again and again, while that one is killed and goes on, without one error."""
    rng, kills, number, reading = np.random.default_rng(3), 0, 0, Server()
    ended = []
    poller = threading.Thread(target=lambda: ended.append(reading.perform("poll", tmp_path, "")))
    poller.start()
    while kills < counted(quick=3, reduced=20, full=200):
        folder = tmp_path / f"{number:03d}"
        kills += (code := go_on(server, folder, references, kill_after_s=rng.uniform(0, 0.4 * whole[2]))[0]) != 0
        number += code == 0
        tally("kills", int(code != 0))
    assert go_on(server, tmp_path / f"{number:03d}", references)[0] == 0
    (tmp_path / "done").touch()
    poller.join(60)
    reading.close()
    assert ended[0][0] == 0
    assert ended[0][1] > 0  # readings, of which a busy computer makes few


@pytest.mark.long
def test_killed_while_the_store_is_created(server, references, whole, tmp_path, counted, tally):
    for count in range(0, CREATION, counted(quick=5, reduced=3, full=1)):
        folder = tmp_path / f"run-{count}"
        code, told = server.perform("run", folder, references, die_at=count, before=count % 2 == 0)
        assert code == -signal.SIGKILL
        tally("kills")
        assert committed(folder, whole) >= told
        if count % 3 == 0:
            assert go_on(server, folder, references)[0] == 0
            assert_same_run(folder, whole)


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    "ending", ["COMMITTED.json", ".npz", "numbers/c.0.0", "texts/c.0.0", "responses/c.0.0", ".png"]
)
@pytest.mark.parametrize("before", [True, False])
def test_killed_around_each_step_of_a_commit(server, references, whole, tmp_path, ending, before):
    folder, count = tmp_path / "run", 20 if ending == ".png" else 4
    code, told = server.perform("run", folder, references, die_at=count, before=before, ending=ending)
    assert code == -signal.SIGKILL
    assert committed(folder, whole) == told + (ending == "COMMITTED.json" and not before)
    assert told >= 1
    assert go_on(server, folder, references)[0] == 0
    assert_same_run(folder, whole)


@pytest.mark.long
def test_killed_at_every_kind_of_write_in_turn(server, references, whole, tmp_path):
    """One run, killed again and again some writes further on, in each of its phases."""
    rng = np.random.default_rng(9)
    folder, held, code, kills = tmp_path / "run", 0, -signal.SIGKILL, 0
    while code:
        count = int(rng.integers(6, 36) if held else rng.integers(16, 36))  # the creation comes in one go
        code, told = go_on(server, folder, references, die_at=count, before=bool(kills % 2))
        before, held = held, committed(folder, whole)
        assert held >= before + told
        kills += code != 0
    assert kills > 5
    assert_same_run(folder, whole)


def test_killed_while_presenting(server, references, tmp_path):
    assert server.perform("present", tmp_path / "whole", references)[0] == 0
    expected = open_recording(tmp_path / "whole").load()
    assert server.perform("present", tmp_path / "run", references, die_at=10, before=True)[0] == -signal.SIGKILL
    with pytest.raises(RecordingError, match="no finished generation yet"):
        open_recording(tmp_path / "run")
    assert server.perform("resume", tmp_path / "run", references)[0] == 0
    assert_equal(open_recording(tmp_path / "run").load(), expected)


@pytest.mark.long
def test_killed_while_climbing_by_gradients(references, tmp_path):
    server = Server("torch")
    try:
        assert server.perform("climb", tmp_path / "whole", references)[0] == 0
        expected = read_ascent(tmp_path / "whole")
        folder, action = tmp_path / "run", "climb"
        for ending, before in (("COMMITTED.json", False), (".npz", True), ("numbers/c.0.0", True)):
            code, told = server.perform(action, folder, references, die_at=2, before=before, ending=ending)
            assert code == -signal.SIGKILL
            assert open_recording(folder).attrs["n_generations"] >= told
            with pytest.raises(RecordingError, match="not finished"):
                read_ascent(folder)
            action = "climb on"
        assert server.perform(action, folder, references)[0] == 0
        assert_equal(read_ascent(folder), expected)
        assert_equal(open_recording(folder).load(), open_recording(tmp_path / "whole").load())
    finally:
        server.close()


def test_killed_while_a_twin_proposes(references, tmp_path):
    """The state holds no features: the process that goes on looks at all images again."""
    server = Server("torch")
    try:
        assert server.perform("see", tmp_path / "whole", references)[0] == 0
        folder, action = tmp_path / "run", "see"
        for number in (3, 2):
            code, _ = server.perform(action, folder, references, die_at=number, before=False, ending="COMMITTED.json")
            assert code == -signal.SIGKILL
            action = "see on"
        assert server.perform(action, folder, references)[0] == 0
        found = open_recording(folder).load()
        assert_equal(found, open_recording(tmp_path / "whole").load())
        assert {"prior", "codes", "twin"} <= set(found["proposed_by"].values)
    finally:
        server.close()


def test_a_reader_never_meets_an_error(server, references, whole, tmp_path):
    """Opens the run again and again while it is written; lengths only grow, and every value is already right."""
    folder, lengths, problems, done = tmp_path / "run", [], [], threading.Event()

    def read():
        while not done.is_set():
            if not lengths and not (folder / "COMMITTED.json").exists():
                time.sleep(0.002)
                continue
            try:
                found = open_recording(folder).load()
                n = found.sizes["presentation"]
                assert n == read_pointer(folder)["n_presentations"] or n < whole[1].sizes["presentation"]
                assert_equal(found, whole[1].isel(presentation=slice(0, n)))
                lengths.append(n)
            except Exception as error:  # noqa: BLE001 - any error at all is what is looked for
                problems.append(error)
                return

    reader = threading.Thread(target=read)
    reader.start()
    assert server.perform("run", folder, references)[0] == 0
    done.set()
    reader.join(30)
    assert not problems, problems
    assert len(set(lengths)) > 2
    assert lengths == sorted(lengths)
