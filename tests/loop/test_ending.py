"""Ending a run on request: in good order, from another process, and never by accident."""

from __future__ import annotations

import os
import signal

import pytest

from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.loop.ending import EndRequest, request_end
from closedloop.recording.layout import END
from closedloop.recording.ownership import is_written
from closedloop.recording.reader import open_recording
from tests import slow_run, small_runs


class EndsAfter:
    """Asks for the end of its own run after a generation, as any other process could."""

    def __init__(self, folder, index):
        self.folder, self.index = folder, index

    def begin(self, session):
        pass

    def generation(self, generation):
        if generation.index == self.index:
            request_end(self.folder)

    def end(self, session):
        pass


@pytest.mark.parametrize("index", [-1, 1])
def test_it_ends_after_the_generation_under_way_and_is_re_tested(tmp_path, index):
    folder, last = tmp_path / "run", max(index, 0)
    found = slow_run.run(folder, images=60, observers=[EndsAfter(folder, index)])
    assert found.attrs["finished"] == 1
    assert found.attrs["reason"] == "; ".join(f"cell-{i}: ended on request after generation {last}" for i in range(2))
    assert found["generation"].values.max() == last + 2  # selected and confirmed
    assert not (folder / END).exists()
    whole = slow_run.run(None, images=60)
    rows = int((found["generation"].values <= last).sum())
    assert (found["responses"].values[:rows] == whole["responses"].values[:rows]).all()  # as if never asked


@pytest.mark.long
def test_another_process_ends(tmp_path):
    process = slow_run.start(tmp_path / "run", 0.15, generations=3)
    assert is_written(tmp_path / "run")
    request_end(tmp_path / "run")
    assert process.wait(30) == 0
    assert open_recording(tmp_path / "run").attrs["reason"].startswith("cell-0: ended on request after generation ")


@pytest.mark.long
def test_a_run_that_is_killed_on_its_way_to_the_end_goes_on_to_the_same_end(tmp_path):
    folder = tmp_path / "run"
    process = slow_run.start(folder, 0.15, generations=3)
    os.kill(process.pid, signal.SIGSTOP)
    request_end(folder)
    process.kill()
    process.wait(30)
    committed = open_recording(folder)["generation"].values.max()
    found = slow_run.run(folder, exists="resume")
    assert found.attrs["reason"].startswith(f"cell-0: ended on request after generation {committed};")
    assert not (folder / END).exists()


def test_elites_end_with_their_re_test(tmp_path):
    from closedloop.generators import Pixels
    from closedloop.protocols import evolve_elites

    folder = tmp_path / "run"
    asked = []

    def ask(done, total):
        if done == 40 and not asked:
            asked.append(request_end(folder))

    evolve_elites(
        small_runs.classifier(), Pixels(small_runs.SIDE), images=200, children=20, seed=1, save=folder, progress=ask
    )
    found = open_recording(folder)
    assert found.attrs["reason"] == "ended on request after generation 1"
    assert set(found["kind"].values[found["generation"].values > 1]) == {"retest"}


def test_what_cannot_be_ended_says_so(tmp_path):
    with pytest.raises(RecordingError, match="expected the folder of a run that is under way, got"):
        request_end(tmp_path)
    killed = small_runs.cut_off("evolve", tmp_path / "killed")
    with pytest.raises(RecordingError, match="no process is writing it now; go on with it first: closedloop resume"):
        request_end(killed)
    assert not is_written(killed)
    plan = small_runs.cut_off("landscape", tmp_path / "plan")
    with pytest.raises(InvalidArgumentError, match="runs of 'landscape' follow a fixed plan, and cannot be ended"):
        request_end(plan)
    small_runs.run("evolve", tmp_path / "whole")
    with pytest.raises(RecordingError, match="it has come to its end already; nothing was changed"):
        request_end(tmp_path / "whole")
    assert not EndRequest()()
    assert not EndRequest(killed)()


def test_a_run_that_begins_again_forgets_the_wish(tmp_path):
    folder = small_runs.cut_off("evolve", tmp_path / "run", blocks=0)
    (folder / END).write_bytes(b"")
    small_runs.run("evolve", folder)
    assert "request" not in open_recording(folder).attrs["reason"]
