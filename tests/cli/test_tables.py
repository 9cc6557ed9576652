"""Tables as a terminal of 80 columns shows them."""

import pytest

from closedloop.cli import main
from closedloop.cli.console import console
from closedloop.cli.tables import drawn, folded, show_table, width_of, without_constants


@pytest.fixture
def lines(monkeypatch, capsys):
    monkeypatch.setattr(console, "_width", 80)
    return lambda: capsys.readouterr().out.splitlines()


def test_what_all_rows_share_is_said_once_below(lines):
    show_table(["unit", "mean_score", "n"], [["a", "1", "3"], ["b", "2", "3"], ["c", "2", "3"]], "responses")
    found = lines()
    assert found[0] == "responses"
    assert found[1].split() == ["unit", "mean", "score"]
    assert found[-1] == "in all rows: n 3"
    assert without_constants(["x", "n"], [["a", "3"], ["b", "3"]]) == (["x", "n"], [["a", "3"], ["b", "3"]], "")
    assert without_constants(["x", "y"], [["a", "b"]] * 3, keys=0) == ([], [[], [], []], "x a, y b")


def test_headings_give_way_before_rows_are_broken(lines):
    columns, rows = ["contender", *["a long heading"] * 6], [["evolved", *["0.98–1.23"] * 5, "5 of 7"]]
    assert width_of(columns, rows) > 80
    assert folded(columns, rows)[1:] == ["a long\nheading"] * 6
    console.print(drawn(columns, rows[:1]))
    assert lines()[-1].split() == [*rows[0][:-1], "5", "of", "7"]


def test_a_table_that_is_too_wide_is_turned(lines):
    show_table(["unit", *(f"measure number{i}" for i in range(12))], [["rig.7", *["0.1234"] * 12]])
    found = lines()
    assert found[0].split() == ["unit", "rig.7"]
    assert found[2].split() == ["measure", "number0", "0.1234"]
    assert max(map(len, found)) <= 80


@pytest.mark.parametrize(
    "words", [["--subject", "motion-energy"], ["--subject", "gabor"], ["--subject", "{name: energy, count: 4}"]]
)
def test_units_of_model_neurons_fit(lines, words):
    main(["units", *words])
    found = lines()
    assert max(map(len, found)) <= 80
    assert any("orientation" in line for line in found)
    assert not any("_" in line for line in found)


def test_layers_take_one_line_each(lines):
    main(["units"])
    found = lines()
    rows = [line for line in found if line.startswith(("blocks", "conv", "bn", "global", "classifier", "output"))]
    assert len(rows) == 21
    named = {line.split()[0]: line.split() for line in rows}
    assert named["blocks.2"] == ["blocks.2", "40×28×28", "31360", "67", "8", "86:153"]
    assert named["blocks.6"][3:] == ["224", "(851)", "32", "0:224"]
    assert named["output"][3:] == ["224", "–", "0:224"]
    assert "in all rows: found by computed" in found
