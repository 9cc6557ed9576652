"""Runs of every built-in protocol are reported and exported alike."""

import pytest

from closedloop import open_recording
from closedloop.formats import export
from closedloop.report import write_report
from tests.small_runs import RUNS, run


@pytest.mark.parametrize("name", RUNS)
def test_a_run_is_reported_and_exported(name, tmp_path):
    run(name, tmp_path / "run")
    page = write_report([tmp_path / "run"], tmp_path / "report.html").read_text(encoding="utf-8")
    assert "</html>" in page
    recording = open_recording(tmp_path / "run").load()
    for to in ("nwb", "netcdf"):
        out = export(recording, to, tmp_path / f"x.{to[:3] if to == 'nwb' else 'nc'}")
        assert open_recording(out).load().identical(recording)
    export(recording, "csv", tmp_path / "x.csv")
