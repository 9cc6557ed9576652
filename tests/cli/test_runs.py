"""``closedloop runs``: rows that were asked for, in the order that was asked for, on the terminal and in files."""

from __future__ import annotations

import json
import shutil
import sys

import pandas as pd
import pytest

from closedloop.cli import main
from closedloop.protocols.sweep_work import read_plan, write_runs
from closedloop.recording.pointer import pointer_bytes
from tests import small_runs

PLAN = {
    "subject": {"name": "gabor", "resolution": 16, "count": 2, "seed": 1},
    "generator": {"name": "fourier", "cutoff": 2},
    "images": 20,
    "units": "0-1",
}


def place(identity):
    return f"{identity[:2]}/{identity[2:4]}/{identity}"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    small_runs.run("evolve", folder / "first")
    small_runs.run("evolve", folder / "second")
    small_runs.run("present", folder / "seen")
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CLOSEDLOOP_CACHE", str(tmp_path / "cache"))


def test_the_table_says_what_was_found(made, capsys, tmp_path):
    main(["runs", str(made), "--csv", str(tmp_path / "all.csv")])
    said = capsys.readouterr()
    assert "first" in said.out
    assert "finished" in said.out
    assert "3 runs" in said.out + said.err
    table = pd.read_csv(tmp_path / "all.csv")
    assert table["path"].tolist() == ["first", "first", "second", "second", "seen"]


def test_chosen_and_ordered(made, capsys, tmp_path):
    main(
        ["runs", str(made), "--words", "cells", "--where", "state=finished", "--sort", "-path", "--rows", "1",
         "--csv", str(tmp_path / "some.csv")]
    )  # fmt: skip
    said = capsys.readouterr()
    assert "the first 1 of 2 rows" in said.out + said.err
    assert pd.read_csv(tmp_path / "some.csv")["path"].tolist() == ["second", "first"]


def test_groups_have_medians(made, tmp_path):
    main(["runs", str(made), "--group", "thread", "--csv", str(tmp_path / "groups.csv")])
    table = pd.read_csv(tmp_path / "groups.csv")
    assert table["rows"].tolist() == [1, 2, 2]
    assert table["median images"].tolist()[1:] == [18, 18]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sort", "evolvd"], "Did you mean 'evolved'"),
        (["--group", "x"], "group: a catalogue has no column 'x'"),
        (["--where", "x"], "where: expected a condition"),
    ],
)
def test_what_is_not_known(made, capsys, words, message):
    with pytest.raises(SystemExit, match="2"):
        main(["runs", str(made), *words])
    assert message in capsys.readouterr().err


def test_failed_runs_of_a_sweep_are_said(made, capsys, tmp_path):
    folder = tmp_path / "sweep"
    write_runs(read_plan(PLAN, folder))
    lines = (folder / "sweep.jsonl").read_text().splitlines()
    begun, unborn = (folder / place(json.loads(line)["id"]) for line in lines)
    shutil.copytree(made / "first", begun)
    pointer = json.loads((begun / "COMMITTED.json").read_text())
    pointer.pop("pointer_sha256", None)
    (begun / "COMMITTED.json").write_bytes(pointer_bytes({**pointer, "finished": False}))
    for run in (begun, unborn):
        run.parent.mkdir(parents=True, exist_ok=True)
        run.with_name(f"{run.name}.failed.json").write_text(json.dumps({"reason": f"{run}: no room"}))
    main(["runs", str(folder), "--where", "state=failed", "--csv", str(tmp_path / "failed.csv")])
    said = capsys.readouterr()
    assert "2 runs of sweeps failed:" in said.out
    assert "2 × its folder: no room" in said.out + said.err
    assert f"closedloop sweep {folder} --retry" in said.out
    table = pd.read_csv(tmp_path / "failed.csv")
    assert table["state"].unique().tolist() == ["failed"]
    assert table["reason"].str.contains("no room").all()
    for run in (begun, unborn):
        run.with_name(f"{run.name}.failed.json").unlink()
    main(["runs", str(folder), "--csv", str(tmp_path / "all.csv")])
    assert "of sweeps failed" not in capsys.readouterr().out
    assert pd.read_csv(tmp_path / "all.csv")["state"].unique().tolist() == ["interrupted"]


def test_parquet_holds_the_whole_table(made, tmp_path):
    pytest.importorskip("pyarrow")
    main(["runs", str(made), "--parquet", str(tmp_path / "all.parquet"), "--csv", str(tmp_path / "all.csv")])
    table = pd.read_parquet(tmp_path / "all.parquet")
    assert table["path"].tolist() == pd.read_csv(tmp_path / "all.csv")["path"].tolist()
    assert str(table["when"].dtype).startswith("datetime64")
    main(["runs", str(made), "--group", "thread", "--parquet", str(tmp_path / "groups.parquet")])
    assert pd.read_parquet(tmp_path / "groups.parquet")["rows"].tolist() == [1, 2, 2]


def test_parquet_names_the_extra_where_it_is_missing(made, capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SystemExit, match="2"):
        main(["runs", str(made), "--parquet", str(tmp_path / "all.parquet")])
    said = capsys.readouterr()
    assert "pip install 'closedloop[parquet]'" in said.err
    assert said.out == ""  # before anything was looked at
