"""Kills of everything that a sweep consists of: every run ends as the same run does alone.

By plain processes the workers and the sweep's own process are killed; by Dask its scheduler, too. A kill comes at a
random moment of work: some run was committed to since the last one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from closedloop import open_recording
from closedloop.loop.protocol import protocol_of
from closedloop.protocols import sweep
from closedloop.protocols.sweep_work import read_plan, remaining, write_runs

#: Fifty small runs.
PLAN = {
    "subject": {"name": "gabor", "resolution": 16, "count": 5, "seed": 1},
    "generator": {"name": "fourier", "cutoff": 2},
    "optimizers": [{"name": "isotropic", "population": 6}, {"name": "random", "population": 5}],
    "images": 150,
    "references": "none",
    "retest_candidates": 2,
    "retest_repeats": 2,
    "units": "0-4",
    "seeds": "0-4",
}
#: What of a run is compared: all but how long it took.
SAME = ("responses", "score", "latent_code", "stimulus_id", "generation")
#: Seconds within which work goes on after a kill, and after its first commit the longest time until the next kill.
PATIENCE_S, LONGEST_S = 240.0, 1.0


def alone(plan, folder):
    """Each run done by itself, by its name."""
    for run in plan.runs:
        found = protocol_of(run.content, "").begin(run.content, folder / run.id, lambda images: None)
        yield run.id, {name: found[name].values for name in SAME}


def children(pid):
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def started(*arguments):
    return subprocess.Popen([sys.executable, *arguments], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


class Processes:
    """A sweep with two workers of its own."""

    def __init__(self, out):
        self.out, self.client = out, None

    def mend(self):
        """Begins what is not there."""
        if self.client is None or self.client.poll() is not None:
            code = f"from closedloop.protocols import sweep; sweep({str(self.out)!r}, workers=2, progress=False)"
            self.client = started("-c", code)

    def victims(self):
        """What can be killed now: pairs of what it is and its number."""
        return [("client", self.client.pid), *(("worker", pid) for pid in children(self.client.pid))]

    def end(self):
        self.client.kill()
        self.client.wait()


class Dask:
    """A sweep by a scheduler of Dask with two workers, each a process that is begun again when it is gone."""

    def __init__(self, out):
        self.out, self.file, self.address = out, out.with_suffix(".address"), ""
        self.parts = {}

    def mend(self):
        if not self._alive("scheduler"):
            self.file.unlink(missing_ok=True)
            self._start(
                "scheduler", "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0",
                "--scheduler-file", str(self.file), "--no-dashboard",
            )  # fmt: skip
            self.address = self._listening()
            for name in {"client", "worker 0", "worker 1"} & self.parts.keys():
                self.parts[name].wait(PATIENCE_S)  # without their scheduler they end by themselves
        for name in ("worker 0", "worker 1"):
            if not self._alive(name):
                self._start(
                    name, "-m", "distributed.cli.dask_worker", self.address, "--nthreads", "1",
                    "--no-nanny", "--no-dashboard", "--death-timeout", "5",
                )  # fmt: skip
        if not self._alive("client"):
            call = f"sweep({str(self.out)!r}, scheduler={self.address!r}, progress=False)"
            self._start("client", "-c", f"from closedloop.protocols import sweep; {call}")

    def _listening(self):
        """The address of the scheduler that was begun last. Whoever began before it knows another one."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            with suppress(OSError, ValueError):  # not there yet, or half of it
                return json.loads(self.file.read_text())["address"]
            time.sleep(0.05)
        raise AssertionError("no scheduler began in time")

    def _alive(self, name):
        return name in self.parts and self.parts[name].poll() is None

    def _start(self, name, *arguments):
        self.parts[name] = started(*arguments)

    def victims(self):
        return [(name.split()[0], part.pid) for name, part in self.parts.items() if part.poll() is None]

    def end(self):
        for part in self.parts.values():
            part.kill()
            part.wait()


def commits(out):
    """What changes with every commit of any run."""
    return {str(file): file.stat().st_mtime_ns for file in out.rglob("COMMITTED.json")}


def wait_for_work(kind, plan):
    """Waits until a run was committed to; tells whether there is work left."""
    before, until = commits(plan.out), time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        if commits(plan.out) != before:
            return bool(remaining(plan))
        if not remaining(plan):
            return False
        kind.mend()
        time.sleep(0.05)
    raise AssertionError("no run was committed to in time")


@pytest.mark.long
@pytest.mark.parametrize("kind", [Processes, Dask])
def test_every_run_ends_as_it_does_alone_whatever_is_killed(tmp_path, counted, tally, kind):
    if kind is Dask:
        pytest.importorskip("distributed")
    rng, kills, said, turn = np.random.default_rng(0), counted(quick=2, reduced=8, full=100), Counter(), 0
    expected = dict(alone(read_plan(PLAN, tmp_path / "none"), tmp_path / "alone"))
    while said.total() < kills:
        turn += 1
        plan = read_plan(PLAN, tmp_path / f"s{turn}")
        write_runs(plan)
        under_way = kind(plan.out)
        try:
            under_way.mend()
            while said.total() < kills and wait_for_work(under_way, plan):
                time.sleep(float(rng.uniform(0, LONGEST_S)))
                victims = under_way.victims()
                name, pid = victims[rng.integers(len(victims))]
                os.kill(pid, signal.SIGKILL)
                said[name] += 1
                tally(f"kills of a sweep’s {name}")
                time.sleep(0.05)
                under_way.mend()
        finally:
            under_way.end()
        result = sweep(plan.out, workers=2, retry=True, progress=False)
        assert (result.done, dict(result.failed)) == (len(expected), {})
        for run in plan.runs:
            found = open_recording(plan.out / run.place)
            assert found.attrs["finished"] == 1
            for part in SAME:
                np.testing.assert_array_equal(found[part].values, expected[run.id][part])
