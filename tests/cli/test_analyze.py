"""``closedloop analyze``: the numbers of the functions, as a person and as a program read them."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from closedloop import CMAES, Session, Thread, Unit, analysis, open_recording
from closedloop.cli import main
from closedloop.cli.analysis_tables import ANALYSES
from closedloop.generators import Fourier
from closedloop.protocols import landscape, present
from closedloop.subjects import GaborSubject

pytestmark = pytest.mark.usefixtures("few_figures", "warm_parts")

GENERATOR = Fourier(resolution=16, cutoff=2)


def subject():
    return GaborSubject(resolution=16, count=2, seed=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two runs of two threads, a landscape, and a set of recorded images."""
    root = tmp_path_factory.mktemp("runs")
    pictures = np.random.default_rng(0).random((6, 3, 16, 16), dtype=np.float32)
    for seed in (0, 1):
        threads = [
            Thread(GENERATOR, CMAES(GENERATOR.space, seed=seed + i, population=10), Unit(i), n)
            for i, n in enumerate("ab")
        ]
        Session(
            subject(), threads, references=pictures, interleave=2, images=60, seed=seed, retest_repeats=3,
            save=root / f"run{seed}",
        ).run()  # fmt: skip
    present(subject(), pictures, repeats=2, save=root / "shown")
    landscape(subject(), GENERATOR, open_recording(root / "run0"), thread="a", planes=["pc1-pc2"], steps=5,
              save=root / "land")  # fmt: skip
    return root


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def fails(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("what", sorted(set(ANALYSES) - {"fit_kent", "psth", "reference_days", "sittings"}))
def test_every_analysis_makes_a_table(folder, tmp_path, capsys, what):
    main(["analyze", str(folder / "run0"), "--what", what, "--csv", str(tmp_path / "table.csv")])
    out = capsys.readouterr().out
    assert what in out
    rows = table(tmp_path / "table.csv")
    assert rows
    assert list(rows[0])[-1] == "reason"


def test_numbers_are_those_of_the_function(folder, tmp_path, capsys):
    main(["analyze", str(folder / "run0"), "--what", "success", "--csv", str(tmp_path / "table.csv")])
    expected = analysis.success(open_recording(folder / "run0"))
    rows = table(tmp_path / "table.csv")
    assert [row["thread"] for row in rows] == ["a", "b"]
    for name in expected.data_vars:
        np.testing.assert_array_equal([float(row[name] or "nan") for row in rows], expected[name])
    out = capsys.readouterr().out
    assert f"{expected['t'].values[0]:.4g}" in out
    assert "alpha 0.05, alternative confirmed, permutations 1999, seed 0, window 2" in out
    assert max(map(len, out.splitlines()[:-1])) <= 80


def test_one_thread_and_hyphens(folder, tmp_path, capsys):
    main(["analyze", str(folder / "run0"), "--what", "evolved-vs-reference", "--thread", "b",
          "--csv", str(tmp_path / "table.csv")])  # fmt: skip
    (row,) = table(tmp_path / "table.csv")
    assert row["thread"] == "b"
    assert row["ratio_low"] == ""  # a deterministic unit has no interval
    assert "ratio interval: all values are equal" in row["reason"]
    assert "–  " in capsys.readouterr().out


def test_several_runs(folder, tmp_path, capsys):
    runs = [str(folder / f"run{i}") for i in (0, 1)]
    main(["analyze", *runs, "--csv", str(tmp_path / "success.csv")])
    assert [r["thread"] for r in table(tmp_path / "success.csv")] == ["run0/a", "run0/b", "run1/a", "run1/b"]
    main(["analyze", *runs, str(folder / "shown"), "--what", "sparseness", "--csv", str(tmp_path / "sparse.csv")])
    rows = table(tmp_path / "sparse.csv")
    assert [r["run"] for r in rows] == ["run0", "run0", "run1", "run1", "shown", "shown"]
    expected = analysis.sparseness(open_recording(folder / "run1"))["sparseness"].values
    assert [float(r["sparseness"]) for r in rows[2:4]] == expected.tolist()
    main(["analyze", *runs, "--what", "cross_driving", "--csv", str(tmp_path / "cross.csv")])
    assert len(table(tmp_path / "cross.csv")) == 16
    capsys.readouterr()


def test_long_tables_are_shortened_on_the_terminal_alone(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("closedloop.cli.analysis_tables.ROWS", 5)
    main(["analyze", str(folder / "run0"), "--what", "trajectory", "--csv", str(tmp_path / "table.csv")])
    rows = table(tmp_path / "table.csv")
    assert f"the first 5 of {len(rows)} rows" in capsys.readouterr().out


def test_a_landscape(folder, capsys):
    main(["analyze", str(folder / "land"), "--what", "fit_kent"])
    out = capsys.readouterr().out
    assert "pc1-pc2" in out
    assert "kappa" in out


def test_what_cannot_be_done(folder, tmp_path, capsys):
    run = str(folder / "run0")
    assert "what: no analysis named 'sucess'. Did you mean 'success'" in fails(
        ["analyze", run, "--what", "sucess"], capsys
    )
    assert "thread: no thread 'c'" in fails(["analyze", run, "--thread", "c"], capsys)
    assert "leave --thread out" in fails(["analyze", run, "--what", "sparseness", "--thread", "a"], capsys)
    assert "got one of them twice" in fails(["analyze", run, run], capsys)
    assert "not a run of closedloop" in fails(["analyze", str(tmp_path)], capsys)
    assert "expected an evolution" in fails(["analyze", str(folder / "shown")], capsys)
    assert "expected responses with a time axis" in fails(["analyze", run, "--what", "psth"], capsys)
    (tmp_path / "file").touch()
    assert "csv: cannot write" in fails(["analyze", run, "--csv", str(tmp_path / "file" / "table.csv")], capsys)
    assert "csv: expected the name of a file, got ." in fails(["analyze", run, "--csv", ""], capsys)
