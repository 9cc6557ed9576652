"""``closedloop runs``: rows that were asked for, in the order that was asked for, on the terminal and in files."""

from __future__ import annotations

import importlib.util

import pandas as pd
import pytest

from closedloop.cli import main
from tests import small_runs


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


def test_parquet_names_the_extra_where_it_is_missing(made, capsys, tmp_path):
    if importlib.util.find_spec("pyarrow"):
        main(["runs", str(made), "--parquet", str(tmp_path / "all.parquet")])
        assert len(pd.read_parquet(tmp_path / "all.parquet")) == 5
        return
    with pytest.raises(SystemExit, match="2"):
        main(["runs", str(made), "--parquet", str(tmp_path / "all.parquet")])
    said = capsys.readouterr()
    assert "pip install 'closedloop[parquet]'" in said.err
    assert said.out == ""  # before anything was looked at
