"""Objectives from text: what is read, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from closedloop.errors import InvalidArgumentError
from closedloop.objectives import (
    Contrast,
    Cosine,
    Difference,
    Direction,
    Layer,
    Linear,
    LogProbability,
    Mean,
    Probability,
    Suppression,
    TotalVariation,
    Unit,
    parse_objective,
)


def test_texts():
    assert (Unit(0) - 0.5 * Unit(3) + 2).describe() == "unit(0) - 0.5*unit(3) + 2.0"
    assert Suppression(0).describe() == "-unit(0)"
    assert Mean([0, 1]).describe() == "mean(0, 1)"
    assert parse_objective(" difference(1, 0) ") == Difference(1, 0)
    assert parse_objective("-(unit(0) + 2) * 3 / 4") == Linear({0: -0.75}, -1.5)
    assert parse_objective("direction(3, 4)") == Direction([3, 4])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected an expression such as"),
        ("unit(0", "expected an expression such as"),
        ("unit(0)\0", "expected an expression such as"),
        ("(" * 5000 + "unit(0)", "expected an expression such as"),
        ("-" * 50000 + "unit(0)", "expected an expression such as"),
        ("3 + 4", "expected at least one unit"),
        ("unti(0)", "unknown function 'unti' in 'unti(0)'. Did you mean 'unit'?"),
        ("unit", "cannot read 'unit'"),
        ("unit(0) ** 2", "cannot read 'unit(0) ** 2'"),
        ("unit(0).weights", "cannot read 'unit(0).weights'"),
        ("unit(column=0)", "cannot read 'unit(column=0)'"),
        ("unit(*[0])", "cannot read '*[0]'"),
        ("(lambda: 0)()", "cannot read '(lambda: 0)()'"),
        ("__import__('os')", "cannot read \"'os'\""),
        ("1 / unit(0)", "cannot compute '1 / unit(0)'"),
        ("unit(0) / 0", "division by zero"),
        ("unit(0) * (1 / 0)", "division by zero"),
        ("unit(0) * 1e999", "expected a finite number, got inf"),
        ("1e308 * (unit(0) * 1e308)", "expected finite weights"),
        ("(1" + "0" * 400 + " + 1.0) * unit(0)", "too large to convert to float"),
        ("unit()", "unit: "),
        ("unit(0, 1)", "unit: "),
        ("unit(-1)", "unit: expected a response column, a whole number of at least 0, got -1"),
        ("unit(1.0)", "unit: expected a response column"),
        ("unit(True)", "unit: expected a response column"),
        ("mean()", "Mean: expected one or more different units"),
        ("mean(1, 1)", "Mean: expected one or more different units, got"),
        ("direction(0, 0)", "Direction: expected finite weights"),
        ("direction(unit(0))", "weights: expected a list"),
    ],
)
def test_bad_text(text, message):
    with pytest.raises(InvalidArgumentError, match=r"objective|unit|Mean|Direction") as caught:
        parse_objective(text)
    assert message in str(caught.value)


def test_texts_of_other_terms():
    assert parse_objective("unit(3) - 0.25*tv()") == Unit(3) - 0.25 * TotalVariation()
    assert (Unit(3) - 0.25 * TotalVariation()).describe() == "unit(3) - 0.25*tv()"
    assert parse_objective("logprob(7, [7, 8], exact=False)") == LogProbability(7, (7, 8), exact=False)
    assert parse_objective("prob(7)") == Probability(7)
    assert parse_objective("layer()") == Layer()
    assert parse_objective("cosine({3: 1, 5: -2}, 2)") == Cosine({3: 1.0, 5: -2.0}, 2)
    assert parse_objective("contrast([1, 2], [3])") == Contrast((1, 2), ((3,),))
    assert parse_objective("contrast(1, [[2], [3, 4]], temperature=0.5)") == Contrast((1,), ((2,), (3, 4)), 0.5)
    assert parse_objective("-2 * unit(0) * tv()") == -2 * (Unit(0) * TotalVariation())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("logprob(7, exakt=False)", "cannot read 'logprob(7, exakt=False)'"),
        ("logprob(column=7)", "cannot read 'logprob(column=7)'"),
        ("logprob(7, **{'exact': False})", "cannot read"),
        ("logprob(7, [8])", "among: expected the unit 7 among the others, got [8]"),
        ("logprob(7, exact=2)", "exact: expected True or False, got 2"),
        ("layer(unit(0))", "Layer: expected one or more different units"),
        ("layer([])", "Layer: expected one or more different units, got []"),
        ("layer([x for x in y])", "cannot read '[x for x in y]'"),
        ("layer(open('f'))", "cannot read \"'f'\""),
        ("cosine([0, 0])", "Cosine: expected finite weights, not all zero"),
        ("cosine(3)", "Cosine: expected a finite number"),
        ("cosine([1], -1)", "power: expected a finite number above 0, got -1"),
        ("cosine({**{}})", "cannot read"),
        ("contrast([1], [2], temperature=0)", "temperature: expected a finite number above 0, got 0"),
        ("contrast([1], 'all')", "others: expected one or more different units, got 'all'"),
        ("tv('x')", "cannot read \"'x'\""),
        ("tv(0)", "beta: expected a finite number above 0, got 0"),
        ("l1(2)", "around: expected a finite number from 0 to 1, got 2"),
        ("alphanorm(0.5)", "alpha: expected 1 or more, got 0.5"),
        ("sharpnes()", "Did you mean 'sharpness'?"),
        ("1e200 * (tv() * 1e200)", "expected finite weights"),
        ("tv() * [1]", "cannot read '[1]'"),
        ("caption('', {0: 1})", "text: expected a caption such as"),
        ("caption('a dog', model='Mine')", "the model 'Mine' of a caption was a Python object"),
        ("caption('a dog', [1])", "weights: expected a weight by column"),
        ("caption('a dog', labels=['dog'])", "cannot read \"caption('a dog', labels=['dog'])\""),
        ("clip('a dog', 3)", "objective: clip: "),
    ],
)
def test_bad_texts_of_other_terms(text, message):
    with pytest.raises(InvalidArgumentError, match=r".") as caught:
        parse_objective(text)
    assert message in str(caught.value)


def test_every_text_of_the_documentation_is_read():
    rows = re.findall(
        r"^\| (`.*?`) \|", (Path(__file__).parents[2] / "docs" / "objectives.md").read_text(), re.MULTILINE
    )
    texts = [text for row in rows for text in re.findall(r"`([^`]*)`", row)]
    assert len(texts) >= 20
    for text in texts:
        again = parse_objective(text).describe()
        assert parse_objective(again).describe() == again
