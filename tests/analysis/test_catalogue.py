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


@pytest.fixture(scope="module")
def many():
    """An index of 600 runs with one to three threads or none, of which some numbers and texts are not known."""
    rng = np.random.default_rng(0)
    run = {**dict.fromkeys(run_index.RUN), "state": "finished", "known": 1, "problem": ""}
    with RunIndex(".", "") as made:
        for number in range(600):
            here = {**run, "path": f"r{rng.integers(10**9)}", "when_s": float(rng.integers(300)), "id": str(number)}
            numbers = rng.integers(0, 50, size=(number % 4, 2)).tolist()
            threads = [{"evolved": float(e) if e else None, "unit": str(u) if u else ""} for e, u in numbers]
            made._put([({**here, "subject": "gabor" if number % 3 else ""}, threads)])
        yield made


@pytest.mark.parametrize("sort", ["path", "when", "evolved", "unit", "subject"])
@pytest.mark.parametrize("descending", [False, True])
def test_pages_are_parts_of_the_whole(many, sort, descending):
    whole, count = found(many, Wanted(sort=sort, descending=descending))
    assert len(whole) == count == 1050
    for offset in (0, 30, 500, 530, 1000, 1049, 1050, 2000):
        page = Wanted(sort=sort, descending=descending, limit=50, offset=offset)
        assert found(many, page) == (whole[offset : offset + 50], 1050)
    assert found(many, Wanted(sort=sort, descending=descending, offset=900))[0] == whole[900:]


@pytest.mark.parametrize(("offset", "passed_over"), [(0, 0), (500, 500), (600, 400), (1000, 0), (1049, 0)])
def test_a_page_is_counted_from_the_nearer_end(many, offset, passed_over):
    asked = []
    many._table.set_trace_callback(asked.append)
    found(many, Wanted(sort="evolved", limit=50, offset=offset))
    many._table.set_trace_callback(None)
    assert [text.split("OFFSET ")[1].split(")")[0] for text in asked if "OFFSET" in text] == [str(passed_over)]


@pytest.mark.parametrize(("sort", "index"), [("path", "sqlite_autoindex_runs_1"), ("when", "of_when")])
def test_an_index_has_the_order_of_paths_and_times(many, sort, index):
    """Nothing is ordered but what is alike in it."""
    for wanted in (Wanted(sort=sort), Wanted(sort=sort, descending=True)):
        for backwards in (False, True):
            order = wanted.order(backwards)
            plan = many.rows(
                "EXPLAIN QUERY PLAN SELECT runs.number, threads.rowid FROM runs LEFT JOIN threads "
                f"ON threads.run = runs.number ORDER BY {order} LIMIT 50"
            )
            said = " ".join(row["detail"] for row in plan)
            assert f"INDEX {index}" in said
            assert "USE TEMP B-TREE FOR ORDER BY" not in said


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
