"""Threads that do several things at once, also behind the end of a script."""

import subprocess
import sys

SCRIPT = """
import threading
{work}
threading.Thread(target=lambda: (threading.main_thread().join(), work())).start()
"""

POOL = """
from closedloop.workers import Workers
old = Workers(2)
old.submit(int).result()
def work():
    for pool in (old, Workers(2)):
        print(list(pool.map(abs, [-1, 2, -3])))
        print(repr(pool.submit(lambda: 1 / 0).exception()))
"""

ENGINE = """
import numpy as np
from closedloop.networks.lanes import SideBySide
def double(inputs):
    return 2 * inputs
double.name, double.runs_torch = "double", False
def work():
    print(SideBySide(double, double, 3)(np.ones((9, 1), np.float32)).sum())
"""

BESIDE = """
from closedloop.loop import sparing
sparing._cores = lambda: 2
beside = sparing.Beside()
print(beside.begin(lambda: 6)())
def work():
    print(beside.begin(lambda: 7)())
    beside.end()
    print(beside.begin(lambda: 8)())
"""


def said_by(work):
    """What a thread says that goes on when the last line of its script is done."""
    script = [sys.executable, "-c", SCRIPT.format(work=work)]
    done = subprocess.run(script, capture_output=True, text=True, timeout=100)
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_behind_the_end_of_a_script_a_pool_does_things_one_by_one():
    assert said_by(POOL) == 2 * ["[1, 2, 3]", "ZeroDivisionError('division by zero')"]


def test_an_engine_goes_on_behind_the_end_of_a_script():
    assert said_by(ENGINE) == ["18.0"]


def test_what_a_session_does_beside_the_subject_is_done_behind_the_end_of_a_script():
    assert said_by(BESIDE) == ["6", "7", "8"]
