"""Rig and session on two computers: namespaces with a cable that delays, loses packets, and is pulled for a while."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

import pytest

from closedloop.rigs.journal import Journal
from tests.two_computers import RIG, Computers, possible

pytestmark = pytest.mark.long
#: What runs on the rig's computer, and on that of the session.
AT_THE_RIG = """
import sys
from closedloop.rigs.journal import Journal
from closedloop.rigs.server import RigServer
from closedloop.rigs.simulated import SimulatedRig
from closedloop.rigs.transports import listen
from tests.running_rigs import telling
RigServer(SimulatedRig(telling(), pace=1.0), listen(f"zmq://{sys.argv[1]}:5570", b"t"), Journal(sys.argv[2])).run()
"""
IN_THE_SESSION = """
import json, sys, time
import numpy as np
from closedloop.subjects import RigSubject
from tests.running_rigs import IMAGES, marked, number_of
options = {"resolution": 12, "connect_s": 60, "patience_s": 2, "on_s": 0.02, "off_s": 0.0, "token_file": sys.argv[2]}
subject = RigSubject(f"zmq://{sys.argv[1]}:5570", **options)
sys.stdout.write("begun\\n")
sys.stdout.flush()
right = wrong = 0
begun, longest = time.monotonic(), 0.0
while time.monotonic() - begun < float(sys.argv[3]):
    numbers = np.random.default_rng([3, right]).permutation(IMAGES)[:40]
    at = time.monotonic()
    found = number_of(subject.record(marked(numbers)))
    longest = max(longest, time.monotonic() - at)
    right, wrong = right + int((found == numbers).sum()), wrong + int((found != numbers).sum())
print(json.dumps({"right": right, "wrong": wrong, "longest_s": longest, **subject.told}))
"""


@pytest.mark.skipif(bool(possible()), reason=possible() or "two computers")
@pytest.mark.parametrize(("delay_s", "loss"), [(0.02, 0.02), (0.1, 0.05)])
def test_a_rig_on_another_computer(delay_s, loss, tmp_path, counted, tally):
    pytest.importorskip("zmq")
    pulled_s, length_s = counted(quick=(3, 12), reduced=(10, 25), full=(30, 60))
    token = tmp_path / "token"
    token.write_text("t")
    token.chmod(0o600)
    computers = Computers(tmp_path, delay_s, loss)
    rig = session = None
    try:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
        rig = computers.begin(0, "-c", AT_THE_RIG, RIG, str(tmp_path / "journal"), env=environment)
        words = (RIG, str(token), str(length_s))
        session = computers.begin(1, "-c", IN_THE_SESSION, *words, stdout=subprocess.PIPE, env=environment)
        assert session.stdout.readline() == b"begun\n"
        timer = threading.Timer(length_s / 4, computers.pull, [pulled_s])
        timer.start()
        out, _ = session.communicate(timeout=length_s + pulled_s + 120)
        timer.join()
        assert session.returncode == 0
    finally:
        for process in (rig, session):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait(10)
        packets, lost = computers.close()
    told = json.loads(out)
    sys.stderr.write(f"delay {delay_s} s, loss {loss}, pulled {pulled_s} s: {told}, {packets} packets, {lost} lost\n")
    assert told["wrong"] == 0
    assert told["right"] >= 80
    assert told["longest_s"] > 0.5 * pulled_s  # it was pulled while something was under way
    assert told["resent"] >= 1
    assert lost > 0
    journal = Journal(tmp_path / "journal")
    shown = journal.shown()
    journal.close()
    assert [attempt for *_, attempt, _ in shown] == [1] * len(shown)
    assert sum(done for *_, done in shown) * 40 >= told["right"]
    tally("images at a rig on another computer", told["right"])
