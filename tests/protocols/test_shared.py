"""Runs of every built-in protocol are shown, reported, exported and looked at in the viewer alike."""

import pytest

from closedloop import open_recording
from closedloop.analysis.run_index import run_id
from closedloop.cli import main
from closedloop.formats import export
from closedloop.report import write_report
from tests.small_runs import RUNS, finished


@pytest.fixture(scope="module", params=RUNS)
def made(request, tmp_path_factory):
    """A protocol's name, and the folder of a finished run of it."""
    return request.param, finished(request.param, tmp_path_factory.getbasetemp())


@pytest.mark.sampled(5)
def test_a_run_is_reported_and_exported(made, tmp_path):
    _, folder = made
    page = write_report([folder], tmp_path / "report.html").read_text(encoding="utf-8")
    assert "</html>" in page
    recording = open_recording(folder).load()
    for to in ("nwb", "netcdf"):
        out = export(recording, to, tmp_path / f"x.{to[:3] if to == 'nwb' else 'nc'}")
        assert open_recording(out).load().identical(recording)
    export(recording, "csv", tmp_path / "x.csv")


@pytest.mark.sampled(12)
def test_a_run_is_shown_in_a_terminal_of_80_columns(made, tmp_path, capsys, monkeypatch):
    name, folder = made
    monkeypatch.setenv("COLUMNS", "80")
    main(["show", str(folder), "--figure", str(tmp_path / "x.png")])
    lines = capsys.readouterr().out.splitlines()
    figures = [line.removeprefix("Figure: ") for line in lines if line.startswith("Figure: ")]
    assert figures or name in ("present", "cross_units")  # which have tables alone
    assert all((tmp_path / figure).stat().st_size > 1_000 for figure in figures)
    table = [line for line in lines if line.startswith(("─", "Run: "))]
    assert any(line.startswith("─") for line in table)
    assert max(len(line) for line in lines[: lines.index(table[-1])] if line.startswith("─")) <= 80


def test_a_run_is_looked_at_in_the_viewer(made, tmp_path, monkeypatch):
    pytest.importorskip("httpx2")
    from starlette.testclient import TestClient

    from closedloop.viewer import create_app

    name, folder = made
    monkeypatch.setenv("CLOSEDLOOP_CACHE", str(tmp_path))
    client = TestClient(create_app(runs=folder.parent), base_url="http://127.0.0.1")
    rows = client.get("/api/runs").json()["rows"]
    assert {row["path"] for row in rows} == {"one"}
    assert {row["protocol"] for row in rows} == {name}
    for page in ("", "/live", "/cautions"):
        place = f"{'/api' if page else ''}/runs/{run_id('one')}{page}"
        assert client.get(place).status_code == 200, place
