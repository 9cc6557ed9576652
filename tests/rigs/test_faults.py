"""What goes wrong at a rig, by name: no trial is ever taken for that of another image."""

from __future__ import annotations

import os
import socket
import time

import numpy as np
import pytest

from closedloop.errors import InvalidArgumentError, UnknownNameError
from closedloop.protocols import present
from closedloop.rigs.faults import FAULTS, FaultyListener, parse_faults
from closedloop.rigs.simulated import SimulatedRig
from closedloop.subjects import RigSubject
from tests.rig_child import PROCESSES, rig
from tests.running_rigs import IMAGES, Running, marked, number_of, telling

#: Those that end the process; they need one of their own.
CRASHES = {"crash", "crash-after"}
#: Numbers for short runs: things go wrong soon and often.
SHORT = {
    "dead": "dead:2:20",
    "swap": "swap:2:3:20",
    "drift": "drift:-0.5:30",
    "late": "late:0.4:0.05",
    "silent": "silent:0.3:0.1",
    "mute": "mute:0.3",
    "crash": "crash:0.3",
    "crash-after": "crash-after:0.3",
}


def shown(subject, seed):
    """Presents images whose pixels say their number, and returns the recording."""
    numbers = np.random.default_rng(seed).permutation(IMAGES)[:100]  # two blocks, and what is shown again
    with np.errstate(all="ignore"):
        return present(subject, marked(numbers), resolution=12, seed=seed, progress=False), numbers


def check(ds, numbers):
    """Every response tells the image that its row names."""
    expected = np.array([numbers[int(name.rpartition("-")[2])] for name in ds.stimulus_id.values])
    found = number_of(ds.responses.values)
    ok = (ds.status == "ok").values
    np.testing.assert_array_equal(found[ok], expected[ok])
    assert (found[~ok] == -1).all()
    return int(ok.sum())


@pytest.mark.parametrize("way", ["folder", "zmq"])
@pytest.mark.parametrize("name", sorted(FAULTS.keys() - CRASHES))
def test_no_trial_is_mislabelled(name, way, tmp_path, counted, tally):
    if way == "zmq":
        pytest.importorskip("zmq")
    for seed in range(counted(quick=1, reduced=5, full=50)):
        faults = parse_faults([SHORT.get(name, name)])
        address = "zmq://127.0.0.1:0" if way == "zmq" else f"folder:{tmp_path / str(seed)}"
        shows = SimulatedRig(telling(), None, faults, seed)
        running = Running(shows, address, wrap=lambda way, f=faults, s=seed: FaultyListener(way, f, s))
        try:
            subject = RigSubject(running.address, resolution=12, patience_s=0.1, on_s=0.001, off_s=0.0)
            ds, numbers = shown(subject, seed)
            subject.close()
        finally:
            running.stop()
        assert check(ds, numbers) > 10
        tally(f"rig fault {name}")


@pytest.mark.skipif(os.name != "posix", reason="forkserver")
@pytest.mark.parametrize("name", sorted(CRASHES))
@pytest.mark.long
def test_a_rig_that_crashes_is_begun_again(name, tmp_path, counted, tally):
    for seed in range(counted(quick=1, reduced=3, full=50)):
        folder = tmp_path / str(seed)
        folder.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"zmq://127.0.0.1:{free.getsockname()[1]}"
        arguments = (address, folder / "journal", [SHORT[name]], 0.0, True)
        process = PROCESSES.Process(target=rig, args=arguments, daemon=True)
        process.start()
        asked = PROCESSES.Process(target=_ask, args=(address, folder / "run", seed), daemon=True)
        asked.start()
        while asked.exitcode is None:
            asked.join(0.05)
            if process.exitcode is not None:
                assert process.exitcode == 137
                process = PROCESSES.Process(target=rig, args=arguments, daemon=True)
                process.start()
        process.kill()
        assert asked.exitcode == 0
        tally(f"rig fault {name}")


def _ask(address, folder, seed):
    ds, numbers = shown(RigSubject(address, resolution=12, patience_s=0.3, connect_s=30, on_s=0.001, off_s=0.0), seed)
    check(ds, numbers)
    os._exit(0)


def test_bursts_of_broken_fixations():
    rig = SimulatedRig(telling(), None, parse_faults(["fixation:0.02:10"]), 0)
    status = np.concatenate([rig._statuses(50) for _ in range(100)]) == "fixation_break"
    changes = np.flatnonzero(np.diff(status.astype(int)) == 1)
    assert 6 < status.sum() / len(changes) < 14
    assert 0.05 < status.mean() < 0.35


@pytest.mark.parametrize("burst", [1, 2, 8])
def test_bursts_are_as_long_as_they_are_said_to_be(burst):
    rig = SimulatedRig(telling(), None, parse_faults([f"fixation:0.002:{burst}"]), 0)
    status = np.concatenate([rig._statuses(1000) for _ in range(200)]) == "fixation_break"
    bursts = np.count_nonzero(np.diff(status.astype(int)) == 1)
    assert status.sum() / bursts == pytest.approx(burst, rel=0.12)


def test_a_state_goes_on_alike():
    def make():
        return SimulatedRig(telling(), None, parse_faults(["fixation", "adaptation", "drift:-0.5:50", "lost"]), 3)

    def block(k):
        trials = [{"trial": f"{k}-{i}", "image": i % 5} for i in range(12)]
        times = {"show": {"on_s": 0.1, "off_s": 0.1}, "window_s": [0.05, 0.2]}
        return {"session": "s", "seq": k, "trials": trials, **times}

    pixels = [np.full((12, 12, 3), 5 * k + 2, np.uint8) for k in range(5)]
    one, two = make(), make()
    one.show(block(1), pixels, 1, print)
    two.restore(one.state())
    assert one.show(block(2), pixels, 1, print) == two.show(block(2), pixels, 1, print)


def test_words():
    assert parse_faults(["lost:0.2", "fixation:0.1,double"]) == {
        "lost": {"rate": 0.2},
        "fixation": {"rate": 0.1, "burst": 8},
        "double": {"rate": 0.3},
    }
    with pytest.raises(UnknownNameError, match=r"no fault named 'losst'. Did you mean 'lost'"):
        parse_faults(["losst"])
    with pytest.raises(InvalidArgumentError, match=r"'lost:1:2' has too many numbers; lost takes: rate"):
        parse_faults(["lost:1:2"])
    with pytest.raises(InvalidArgumentError, match=r"'lost:2': expected a number from 0 to 1 as rate"):
        parse_faults(["lost:2"])
    with pytest.raises(InvalidArgumentError, match=r"expected a number from 0 to 1 as rate, got 'x'"):
        parse_faults(["lost:x"])
    with pytest.raises(InvalidArgumentError, match=r"dead: expected a unit from 0 to 3, got 7"):
        SimulatedRig(telling(), None, parse_faults(["dead:7"]))


def test_late_answers_come_when_they_are_due():
    sent = []

    class Way:
        def receive(self, timeout_s):
            time.sleep(min(timeout_s, 0.01))

        def reply(self, peer, message):
            sent.append(message)

    from tests.running_rigs import blank

    way = FaultyListener(Way(), parse_faults(["late:1:0.05"]))
    way.reply("x", blank("answer", trials=[]))
    assert not sent
    way.receive(0.2)
    assert len(sent) == 1


def test_a_question_in_a_folder_is_not_answered_before_its_late_answer_is_due(tmp_path):
    sent = []

    class Folder:
        def receive(self, timeout_s):
            return None if sent else (tmp_path / "000001", blank("block"))

        def reply(self, peer, message):
            sent.append(peer)

    from tests.running_rigs import blank

    way, asked = FaultyListener(Folder(), parse_faults(["late:1:0.2"])), 0
    while not sent:
        if (got := way.receive(0.02)) is not None:
            asked += 1
            way.reply(got[0], blank("answer", trials=[]))
    assert (asked, sent) == (1, [tmp_path / "000001"])
