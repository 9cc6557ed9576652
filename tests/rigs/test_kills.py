"""Either side killed at any moment: no presentation lost, none of another image, none shown twice without saying so."""

from __future__ import annotations

import os
import socket
import time

import numpy as np
import pytest

from closedloop.recording.reader import open_recording
from closedloop.rigs.journal import Journal
from tests.rig_child import PROCESSES, ask, drive, hold, rig

pytestmark = [pytest.mark.long, pytest.mark.skipif(os.name != "posix", reason="SIGKILL and forkserver")]
#: What goes wrong besides.
FAULTS = ["lost:0.1", "fixation:0.02:4", "double:0.3", "mute:0.1", "late:0.1:0.1", "reorder:0.2", "adaptation", "drift"]


class Two:
    """A rig and an experiment, which can be killed and begun again."""

    def __init__(self, way, folder):
        self.folder, self.journal = folder / "run", folder / "journal.sqlite"
        self.address = f"folder:{folder / 'exchange'}"
        (folder / "exchange").mkdir()
        if way == "zmq":
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.address = f"zmq://127.0.0.1:{free.getsockname()[1]}"
        self.rig = self.asker = None
        self.begin_rig()
        self.begin_asker()

    def begin_rig(self):
        self.rig = PROCESSES.Process(target=rig, args=(self.address, self.journal, FAULTS, 0.1), daemon=True)
        self.rig.start()

    def begin_asker(self):
        self.asker = PROCESSES.Process(target=ask, args=(self.address, self.folder), daemon=True)
        self.asker.start()

    @property
    def finished(self):
        return self.asker.exitcode == 0

    def kill(self, side):
        """Kills one side and begins it anew; False where the experiment was over before."""
        process = getattr(self, side)
        process.kill()
        process.join(10)
        if side == "asker" and process.exitcode == 0:
            return False
        getattr(self, f"begin_{side}")()
        return True

    def end(self):
        self.asker.join(120)
        assert self.finished
        self.rig.kill()
        self.rig.join(10)
        with_journal = Journal(self.journal)
        shown = with_journal.shown()
        with_journal.close()
        return open_recording(self.folder).load(), shown


def check(ds, whole, shown):
    """The recording is that of a run without kills, and the journal knows each block once."""
    assert len({(s, seq) for s, seq, *_ in shown}) == len(shown)
    assert len({s for s, *_ in shown}) == 1
    assert all(done for *_, done in shown)
    again = {seq for _, seq, _, attempt, _ in shown if attempt > 1}
    for name in set(whole.variables) - {"session", "attempt", "day"}:
        np.testing.assert_array_equal(ds[name].values, whole[name].values, err_msg=str(name))
    of_block = np.array([int(name.partition("-")[0]) for name in ds.trial_id.values])
    assert len(np.unique(ds.trial_id)) == ds.sizes["presentation"]
    np.testing.assert_array_equal(ds.attempt.values > 1, np.isin(of_block, list(again)))
    return len(again)


@pytest.mark.parametrize("way", ["folder", "zmq"])
def test_killed_at_any_moment(way, tmp_path, counted, tally):
    if way == "zmq":
        pytest.importorskip("zmq")
    (tmp_path / "whole").mkdir()
    whole, shown = Two(way, tmp_path / "whole").end()
    assert check(whole, whole, shown) == 0
    assert (whole.status == "ok").mean() > 0.7
    rng, left = np.random.default_rng(11), {side: counted(quick=2, reduced=10, full=100) for side in ("rig", "asker")}
    runs = twice = 0
    while any(left.values()):
        folder = tmp_path / f"run-{runs}"
        folder.mkdir()
        two, killed = Two(way, folder), 0
        while not two.finished and any(left.values()):
            time.sleep(rng.uniform(0.05, 1.2))
            side = rng.choice([name for name, n in left.items() if n])
            if not two.finished and two.kill(side):
                left[side] -= 1
                killed += 1
        ds, shown = two.end()
        twice += check(ds, whole, shown)
        runs += 1
        tally(f"kills at a rig, {way}", killed)
    tally(f"blocks shown twice and marked, {way}", twice)


class Served:
    """A session that is held, and a rig that drives itself, which can be killed and begun again."""

    def __init__(self, folder):
        self.folder, self.notes = folder / "run", folder / "notes"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.processes = {}
        for side in ("session", "client"):
            self.begin(side)

    def begin(self, side):
        target, arguments = (hold, (self.port, self.folder)) if side == "session" else (drive, (self.port, self.notes))
        self.processes[side] = PROCESSES.Process(target=target, args=arguments, daemon=True)
        self.processes[side].start()

    @property
    def finished(self):
        return self.processes["session"].exitcode == 0

    def kill(self, side):
        """Kills one side and begins it anew; False where the session was over before."""
        self.processes[side].kill()
        self.processes[side].join(10)
        if self.processes["session"].exitcode == 0:
            return False
        self.begin(side)
        return True

    def end(self):
        self.processes["session"].join(240)
        assert self.finished
        self.processes["client"].kill()
        self.processes["client"].join(10)
        return open_recording(self.folder).load(), [line.split() for line in self.notes.read_text().splitlines()]


def check_served(ds, whole, notes):
    """The recording is that of a run without kills; what was told is never shown again, and what was says so."""
    for name in set(whole.variables) - {"session", "attempt", "day"}:
        np.testing.assert_array_equal(ds[name].values, whole[name].values, err_msg=str(name))
    told, attempts = set(), {}
    for what, seq, *attempt in notes:
        if what == "told":
            told.add(seq)
            continue
        assert seq not in told
        assert int(attempt[0]) > attempts.get(seq, 0)
        attempts[seq] = int(attempt[0])
    of_block = np.array([int(name.partition("-")[0]) for name in ds.trial_id.values])
    shown = ds.status.values == "ok"
    assert all(1 <= ds.attempt.values[i] <= attempts[str(of_block[i])] for i in np.flatnonzero(shown))
    return sum(n > 1 for n in attempts.values())


def test_served_and_killed_at_any_moment(tmp_path, counted, tally):
    (tmp_path / "whole").mkdir()
    whole, notes = Served(tmp_path / "whole").end()
    assert check_served(whole, whole, notes) == 0
    assert 0.7 < (whole.status == "ok").mean() < 1
    rng = np.random.default_rng(12)
    left = {side: counted(quick=2, reduced=10, full=100) for side in ("session", "client")}
    runs = 0
    while any(left.values()):
        folder = tmp_path / f"run-{runs}"
        folder.mkdir()
        served = Served(folder)
        while not served.finished and any(left.values()):
            time.sleep(rng.uniform(0.02, 0.8))
            side = rng.choice([name for name, n in left.items() if n])
            if not served.finished and served.kill(side):
                left[side] -= 1
                tally("kills of a session that is served, and of its client")
        twice = check_served(*((found := served.end())[0], whole, found[1]))
        tally("blocks that a driving rig showed twice and marked", twice)
        runs += 1
