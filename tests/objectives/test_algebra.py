"""Sums and products of terms: values, text, columns; numpy equals torch; NaN in, NaN out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import Objective
from closedloop.objectives import (
    L1,
    L2,
    AlphaNorm,
    CaptionDirection,
    Combination,
    Contrast,
    Cosine,
    Diversity,
    Layer,
    Linear,
    LogProbability,
    Mean,
    Probability,
    Product,
    Sharpness,
    Term,
    TotalVariation,
    Unit,
    evaluate,
    parse_objective,
)

RNG = np.random.default_rng(0)
RESPONSES, IMAGES = RNG.normal(size=(6, 5)), RNG.uniform(size=(6, 3, 8, 9))
TERMS = [
    Unit(3),
    Mean([0, 1]),
    Cosine([0.5, -1.0, 2.0], 2.0),
    Cosine({1: 1.0, 4: 3.0}, 0),
    Layer(),
    Layer((0, 2)),
    LogProbability(2),
    LogProbability(2, (1, 2), exact=False),
    Probability(0, (0, 4)),
    Contrast((0, 1), ((2,), (3, 4)), 0.5),
    Contrast(0, [1, 2]),
    Diversity(),
    Diversity((1, 2)),
    CaptionDirection('a "red; dog"\n', {0: 0.25, 3: 0.75}),
    TotalVariation(),
    TotalVariation(1.5),
    AlphaNorm(),
    AlphaNorm(4, 0.25),
    L1(),
    L2(0.25),
    Sharpness(),
]
atoms = st.sampled_from(TERMS)
terms = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda p: p[0] + p[1]),
        st.tuples(inner, inner).map(lambda p: p[0] - p[1]),
        st.tuples(inner, inner).map(lambda p: p[0] * p[1]),
        st.tuples(inner, st.floats(-9, 9)).map(lambda p: p[0] * p[1]),
        st.tuples(inner, st.floats(-9, 9)).map(lambda p: p[1] - p[0]),
    ),
    max_leaves=5,
)


@given(terms)
@settings(max_examples=200)
def test_text_reads_back_exactly(term):
    again = parse_objective(term.describe())
    assert again == term
    assert again.describe() == term.describe()
    assert "; " not in term.describe()


@given(terms)
@settings(max_examples=60)
def test_numpy_equals_torch(term):
    torch = pytest.importorskip("torch")
    expected = evaluate(term, RESPONSES, IMAGES)
    scores = evaluate(term, torch.from_numpy(RESPONSES), torch.from_numpy(IMAGES))
    assert isinstance(term, Objective)
    assert expected.shape == (6,)
    assert expected.dtype == np.float64
    np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-9, atol=1e-9)


@given(terms, terms, st.floats(-9, 9))
@settings(max_examples=60)
def test_arithmetic_is_that_of_the_scores(a, b, number):
    def score(term):
        return evaluate(term, RESPONSES, IMAGES)

    sizes = {"rtol": 1e-9, "atol": 1e-9 * (1 + abs(score(a)).max() + abs(score(b)).max())}
    np.testing.assert_allclose(score(a + b), score(a) + score(b), **sizes)
    np.testing.assert_allclose(score(a - b), score(a) - score(b), **sizes)
    np.testing.assert_allclose(score(a * b), score(a) * score(b), **sizes)
    np.testing.assert_allclose(score(-a), -score(a))
    np.testing.assert_allclose(score(number * a), number * score(a), **sizes)
    np.testing.assert_allclose(score(number - a / 2), number - score(a) / 2, **sizes)


@pytest.mark.parametrize("term", TERMS, ids=lambda term: term.describe()[:30])
def test_what_every_term_keeps(term):
    torch = pytest.importorskip("torch")
    slow = np.repeat(RESPONSES[..., None], 3, axis=2) + np.array([-1, 0, 1])
    np.testing.assert_allclose(evaluate(term, slow, IMAGES), evaluate(term, RESPONSES, IMAGES), atol=1e-12)
    lost = RESPONSES.copy()
    lost[4] = np.nan
    for scores in (evaluate(term, lost, IMAGES), evaluate(term, torch.tensor(lost), torch.tensor(IMAGES)).numpy()):
        assert np.flatnonzero(np.isnan(scores)).tolist() == [4]
    assert evaluate(term, np.empty((0, 5)), np.empty((0, 3, 8, 9))).shape == (0,)
    assert evaluate(term, RESPONSES.astype(np.float32), IMAGES.astype(np.float32)).dtype == np.float64
    single = evaluate(term, torch.tensor(RESPONSES).float(), torch.tensor(IMAGES).float())
    assert single.dtype == torch.float32
    with pytest.raises(AttributeError, match="cannot assign"):
        term.extra = 1


@pytest.mark.parametrize("term", [*TERMS, Unit(3) * Layer((1,)) - 2 * L1() + 3 * Diversity()])
def test_columns_say_what_takes_part_and_can_move(term):
    wide = RNG.normal(size=(6, 8))
    places = [6, 0, 3, 7, 1]
    wide[:, places] = RESPONSES
    expected = evaluate(term, RESPONSES, IMAGES)
    np.testing.assert_allclose(evaluate(term.moved(places), wide, IMAGES), expected, rtol=1e-12)
    others = RESPONSES.copy()
    if term.columns is not None:
        others[:, [c for c in range(5) if c not in term.columns]] = 1e3
    np.testing.assert_allclose(evaluate(term, others, IMAGES), expected)


def test_columns_of_sums_and_products():
    assert (Unit(3) + Layer((1, 3)) * Unit(0)).columns == (3, 1, 0)
    assert (Unit(3) + Layer()).columns is None
    assert TotalVariation().columns == ()


def test_sums_are_flat_and_products_put_numbers_in_front():
    assert sum([Unit(0), Unit(1)]) == Linear({0: 1.0, 1: 1.0})
    assert Mean([0, 1]) + 0 * Unit(2) - 2 == Linear({0: 0.5, 1: 0.5, 2: 0.0}, -2.0)
    assert Unit(0) + TotalVariation() - TotalVariation() == Combination(
        Unit(0), ((1.0, TotalVariation()), (-1.0, TotalVariation()))
    )
    assert 0.0 + TotalVariation() == TotalVariation()
    assert (2 * Unit(0)) * (3 * L1()) * L2() == 6 * Product((Unit(0), L1(), L2()))
    assert (Unit(0) * (Unit(1) + 1)).describe() == "unit(0)*(unit(1) + 1.0)"
    assert Linear({}, 2.0) * L1() == 2 * L1()
    assert (Mean([0, 1]) - Mean([0, 1]) * L1() / 2).describe() == "mean(0, 1) - 0.5*(mean(0, 1)*l1())"


@pytest.mark.parametrize("several", [lambda t: t, lambda t: t * Unit(1)])
def test_sums_of_500_terms(several):
    total = sum(several(LogProbability(i % 5)) for i in range(500))
    assert parse_objective(total.describe()) == total
    expected = 100 * sum(several(LogProbability(i))(RESPONSES) for i in range(5))
    np.testing.assert_allclose(total(RESPONSES), expected)


def test_operands_are_not_changed():
    a, b = Unit(0) + L1(), Layer() * 2
    texts = a.describe(), b.describe()
    (a + b) * 3 - a * b
    assert (a.describe(), b.describe()) == texts


def test_images_are_asked_for():
    objective = Unit(0) - TotalVariation()
    assert objective.needs_images
    assert (Unit(0) * L1()).needs_images
    assert not (Unit(0) * Layer()).needs_images
    with pytest.raises(InvalidArgumentError, match=r"images: expected those that were shown, since 'tv\(\)' looks"):
        objective(RESPONSES)


@pytest.mark.parametrize("other", ["2", None, True, [1.0], np.nan])
def test_bad_operands(other):
    for operation in (lambda: L1() + other, lambda: L1() * other, lambda: other * L1()):
        with pytest.raises((InvalidArgumentError, TypeError), match=r"expected a|unsupported operand|can't multiply"):
            operation()


def test_terms_are_a_base_that_is_not_made():
    with pytest.raises(TypeError, match="abstract"):
        Term()
    with pytest.raises(InvalidArgumentError, match="division by zero"):
        L1() / 0
