"""What a run writes down at its end: the same whether it was interrupted, and never a reason to fail."""

from __future__ import annotations

import json
import shutil

import pytest

from closedloop import protocols
from closedloop.errors import RecordingError
from closedloop.loop import findings
from closedloop.loop.protocol import RunProtocol
from tests import small_runs


@pytest.mark.sampled(5)
@pytest.mark.parametrize("name", [name for name in small_runs.RUNS if name not in ("ascend", "compare")])
def test_every_protocol_leaves_one_which_an_interruption_does_not_change(name, tmp_path, tmp_path_factory):
    shutil.copytree(small_runs.finished(name, tmp_path_factory.getbasetemp()), tmp_path / "whole")
    small_runs.go_on(name, small_runs.cut_off(name, tmp_path / "killed"))
    whole, killed = ((tmp_path / run / "SUMMARY.json").read_bytes() for run in ("whole", "killed"))
    assert whole == killed
    found = json.loads(whole)
    assert found["protocol"] == name
    assert found["subject"]
    assert [t["thread"] for t in found["threads"]] == (["cells", "pixels"] if name == "evolve" else [])


def test_a_protocol_that_cannot_say_it_is_no_reason_to_fail(tmp_path, monkeypatch):
    def fails(recording):
        raise RecordingError("it lacks something.")

    unsure = RunProtocol("evolve", protocols.resume, findings=fails)
    monkeypatch.setattr(findings, "shown_protocol", lambda content, where: unsure)
    small_runs.run("evolve", tmp_path / "run")
    assert not (tmp_path / "run" / "SUMMARY.json").exists()
