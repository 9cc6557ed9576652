"""The table of all runs: the numbers of `summarize`, in rows that can be chosen and ordered."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import closedloop
from closedloop.analysis import run_index
from closedloop.analysis.catalogue import COLUMNS, Wanted, as_frame, found
from closedloop.analysis.run_index import RunIndex
from closedloop.errors import InvalidArgumentError
from tests import small_runs


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    small_runs.run("evolve", folder / "b")
    small_runs.run("present", folder / "a")
    small_runs.cut_off("evolve", folder / "sub" / "cut")
    return folder


@pytest.fixture
def index(runs):
    with RunIndex(runs, "") as made:
        made.refresh()
        yield made


def paths(index, **wanted):
    rows, count = found(index, Wanted(**wanted))
    return [(row["path"], row["thread"]) for row in rows], count


def test_a_row_for_each_thread_with_the_numbers_of_summarize(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(run_index, "cache_file", lambda folder: tmp_path / "runs.sqlite")
    table = closedloop.catalogue(runs)
    assert list(table.columns) == list(COLUMNS)
    assert table[["path", "thread"]].to_numpy().tolist() == [
        ["a", ""], ["b", "cells"], ["b", "pixels"], ["sub/cut", "cells"], ["sub/cut", "pixels"],
    ]  # fmt: skip
    summary = closedloop.summarize(closedloop.open_recording(runs / "b"))[0]
    row = table.iloc[1]
    assert (row.evolved, row.evolved_sem, row.natural) == (
        summary.evolved.mean, summary.evolved.sem, summary.natural.mean,
    )  # fmt: skip
    assert (row.state, row.protocol, row.subject, row.images) == ("finished", "evolve", "gabor", 18)
    assert isinstance(row["when"], pd.Timestamp)
    assert row["when"].tzinfo is not None
    cut = table.iloc[3]
    assert cut.state == "interrupted"
    assert np.isnan(cut.evolved)
    assert cut.images < 18
    assert table.iloc[0].images is pd.NA
    assert (tmp_path / "runs.sqlite").exists()
    assert closedloop.catalogue(runs).equals(table)


def test_words_conditions_and_order(index):
    assert paths(index, words="CELLS gabor")[1] == 2
    assert paths(index, words="nothing-of-that")[0] == []
    assert paths(index, where=["path=b"])[0] == [("b", "cells"), ("b", "pixels")]
    assert paths(index, where=["path~CUT", "thread!=cells"])[0] == [("sub/cut", "pixels")]
    assert paths(index, where=["images>=18", "when>2020-01-01"])[1] == 2
    assert paths(index, where=["when<2020-01-01T00:00:00+00:00"])[1] == 0
    up = paths(index, sort="evolved", limit=2)
    assert up[1] == 5
    assert [name for name, _ in up[0]] == ["b", "b"]  # what is not known comes last
    down = [p for p, _ in found_rows(index, sort="evolved", descending=True)]
    assert down[:2] == ["b", "b"]
    assert paths(index, limit=2, offset=3)[0] == [("sub/cut", "cells"), ("sub/cut", "pixels")]


def found_rows(index, **wanted):
    return paths(index, **wanted)[0]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"sort": "evolvd"}, "sort: a catalogue has no column 'evolvd'. Did you mean 'evolved'"),
        ({"where": ["subject"]}, "where: expected a condition such as"),
        ({"where": ["x; DROP TABLE runs=1"]}, "where: expected a condition such as"),
        ({"where": ["runs=1"]}, "where: a catalogue has no column 'runs'"),
        ({"where": ["evolved>high"]}, "where: expected a number behind evolved>, got 'high'"),
        ({"where": ["when>yesterday"]}, "where: expected a number behind when>, got 'yesterday'"),
    ],
)
def test_what_is_no_column_or_condition(index, wanted, message):
    with pytest.raises(InvalidArgumentError, match=message):
        found(index, Wanted(**wanted))


def test_no_runs(tmp_path):
    with RunIndex(tmp_path, "") as made:
        made.refresh()
        table = as_frame(found(made, Wanted())[0])
    assert list(table.columns) == list(COLUMNS)
    assert len(table) == 0
