"""Objectives: arithmetic, text, numpy and torch."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import Objective
from closedloop.objectives import Difference, Direction, Linear, Mean, Suppression, Unit, parse_objective

RESPONSES = np.random.default_rng(0).normal(size=(6, 5))
numbers = st.floats(-1e6, 1e6, allow_nan=False)
atoms = st.one_of(
    st.integers(0, 4).map(Unit),
    st.integers(0, 4).map(Suppression),
    st.lists(st.integers(0, 4), min_size=1, max_size=5, unique=True).map(Mean),
    st.lists(st.floats(-10, 10), min_size=1, max_size=5).filter(lambda w: np.linalg.norm(w) > 1e-3).map(Direction),
)
objectives = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda p: p[0] + p[1]),
        st.tuples(inner, inner).map(lambda p: p[0] - p[1]),
        st.tuples(inner, numbers).map(lambda p: p[0] * p[1]),
        st.tuples(inner, numbers).map(lambda p: p[1] - p[0]),
    ),
    max_leaves=6,
)


@given(objectives)
@settings(max_examples=150)
def test_text_reads_back_exactly(objective):
    again = parse_objective(objective.describe())
    assert again == objective
    assert again.describe() == objective.describe()


@given(objectives, st.sampled_from([(6, 5), (6, 5, 3)]))
@settings(max_examples=40)
def test_numpy_equals_torch(objective, shape):
    torch = pytest.importorskip("torch")
    responses = np.random.default_rng(1).normal(size=shape)
    scores = objective(torch.from_numpy(responses))
    np.testing.assert_allclose(scores.numpy(), objective(responses), rtol=1e-9, atol=1e-6)


def test_torch_keeps_graph_and_precision():
    torch = pytest.importorskip("torch")
    responses = torch.ones(2, 3, 4, dtype=torch.float32, requires_grad=True)
    scores = (2 * Unit(1) - 3)(responses)
    assert scores.dtype == torch.float32
    (gradient,) = torch.autograd.grad(scores.sum(), responses)
    assert gradient[:, 1].unique().tolist() == [0.5]
    assert gradient[:, [0, 2]].abs().max() == 0


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (Unit(2), RESPONSES[:, 2]),
        (Mean([0, 3]), RESPONSES[:, [0, 3]].mean(1)),
        (Direction([3, 0, 4]), RESPONSES[:, :3] @ [0.6, 0, 0.8]),
        (Difference(1, 4), RESPONSES[:, 1] - RESPONSES[:, 4]),
        (Suppression(1), -RESPONSES[:, 1]),
        (2 * Unit(0) - 0.5 * Mean([0, 1]) + 3, 1.75 * RESPONSES[:, 0] - 0.25 * RESPONSES[:, 1] + 3),
        (1 - Unit(0) / 4, 1 - RESPONSES[:, 0] / 4),
        (-(Unit(0) + 1), -RESPONSES[:, 0] - 1),
        (Unit(0) - Unit(0), np.zeros(6)),
        (Unit(0) * np.float32(0.5), RESPONSES[:, 0] / 2),
    ],
)
def test_arithmetic(objective, expected):
    assert isinstance(objective, Objective)
    np.testing.assert_allclose(objective(RESPONSES), expected, atol=1e-12)
    np.testing.assert_allclose(parse_objective(objective.describe())(RESPONSES), expected, atol=1e-12)


def test_operands_are_not_changed():
    a, b = Unit(0), Mean([0, 1])
    (a + b) * 3 - a
    assert (a, b) == (Unit(0), Mean([0, 1]))


def test_time_is_averaged_first():
    responses = np.random.default_rng(0).normal(size=(4, 2, 10))
    np.testing.assert_allclose(Unit(1)(responses), responses[:, 1].mean(-1))


def test_lost_presentations_stay_lost():
    responses = RESPONSES.copy()
    responses[1, 0], responses[2, 4] = np.nan, np.nan
    assert np.isnan((Unit(0) + Unit(1))(responses)).tolist() == [False, True, False, False, False, False]
    assert np.isnan((0 * Unit(0))(responses)[1])
    slow = np.repeat(RESPONSES[..., None], 3, axis=2)
    slow[3, 0, 1] = np.nan
    assert np.flatnonzero(np.isnan(Unit(0)(slow))).tolist() == [3]


def test_scores_are_float64():
    assert Unit(0)(RESPONSES.astype(np.float32)).dtype == np.float64
    assert Unit(0)(np.ones((2, 1), int)).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("terms", [500, 2000])
def test_long_sums_read_back(terms):
    objective = Direction(np.random.default_rng(0).normal(size=terms))
    assert len(objective.weights) == terms
    assert parse_objective(objective.describe()) == objective


@pytest.mark.parametrize("factor", ["2", None, True, np.nan, np.inf, [1.0]])
def test_bad_numbers(factor):
    with pytest.raises(InvalidArgumentError, match="objective: expected a"):
        Unit(0) * factor


def test_bad_responses():
    with pytest.raises(InvalidArgumentError, match=re.escape("'unit(5)': expected a response column 5, got 5 units")):
        Unit(5)(RESPONSES)
    with pytest.raises(InvalidArgumentError, match=r"responses: expected shape \(n, units\).*got \(5,\)"):
        Unit(0)(RESPONSES[0])


def test_weights_must_be_finite():
    with pytest.raises(InvalidArgumentError, match="expected finite weights"):
        Linear({0: np.inf})
    with pytest.raises(InvalidArgumentError, match="expected finite weights"):
        Linear({0: 1.0}, np.nan)
