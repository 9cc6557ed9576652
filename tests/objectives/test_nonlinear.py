"""Objectives that are no weighted sum: known values, and gradients."""

from __future__ import annotations

import numpy as np
import pytest

from closedloop.errors import InvalidArgumentError
from closedloop.objectives import (
    Contrast,
    Cosine,
    Diversity,
    Layer,
    LogProbability,
    Mean,
    Probability,
    Unit,
)

RESPONSES = np.random.default_rng(0).normal(size=(6, 5))


def gradient(objective, responses):
    torch = pytest.importorskip("torch")
    x = torch.tensor(responses, requires_grad=True)
    (found,) = torch.autograd.grad(objective(x).sum(), x)
    return found.numpy()


def softmax(responses):
    powers = np.exp(responses)
    return powers / powers.sum(1, keepdims=True)


def test_cosine():
    along, across, against = np.array([[3.0, 4.0]]), np.array([[4.0, -3.0]]), np.array([[-3.0, -4.0]])
    assert Cosine([3, 4], 2)(along)[0] == pytest.approx(25, rel=1e-3)
    assert Cosine([3, 4], 2)(across)[0] == 0
    assert Cosine([3, 4], 2)(against)[0] == pytest.approx(-25 * 0.1**2)
    np.testing.assert_allclose(Cosine([3, 4], 0)(RESPONSES), RESPONSES[:, :2] @ [3, 4])
    cosine = RESPONSES[:, :2] @ [3, 4] / 5 / np.linalg.norm(RESPONSES[:, :2], axis=1)
    expected = RESPONSES[:, :2] @ [3, 4] * np.maximum(cosine, 0.1) ** 1.5
    np.testing.assert_allclose(Cosine([3, 4], 1.5)(RESPONSES), expected, rtol=2e-3)


@pytest.mark.parametrize("weights", [2, "12", [], [[1.0]], [0, 0], {1: float("inf")}, {"a": 1.0}, {1: "2"}])
def test_a_direction_of_no_numbers_is_refused(weights):
    with pytest.raises(InvalidArgumentError, match=r"(Cosine|unit): expected"):
        Cosine(weights)


@pytest.mark.parametrize("objective", [Cosine([1, 1]), Diversity(), Layer(), Contrast(0, 1), LogProbability(0)])
def test_silent_populations_have_finite_gradients(objective):
    assert np.isfinite(gradient(objective, np.zeros((2, 3)))).all()


def test_layer_pulls_along_the_responses_themselves():
    np.testing.assert_allclose(Layer()(RESPONSES), (RESPONSES**2).sum(1) / 2)
    np.testing.assert_allclose(gradient(Layer(), RESPONSES), RESPONSES)
    assert not gradient(Layer((0, 2)), RESPONSES)[:, [1, 3, 4]].any()


def test_probability():
    np.testing.assert_allclose(Probability(3)(RESPONSES), softmax(RESPONSES)[:, 3])
    np.testing.assert_allclose(Probability(3, (3, 1))(RESPONSES), softmax(RESPONSES[:, [1, 3]])[:, 1])
    np.testing.assert_allclose(LogProbability(0)(np.array([[1e4, 0], [-1e4, 0]])), [0, -1e4])
    np.testing.assert_allclose(sum(Probability(i) for i in range(5))(RESPONSES), 1)


def test_log_probability_and_the_shortcut_of_its_gradient():
    p, target = softmax(RESPONSES), np.eye(5)[3]
    np.testing.assert_allclose(gradient(LogProbability(3), RESPONSES), target - p)
    np.testing.assert_allclose(gradient(LogProbability(3, exact=False), RESPONSES), (1 - p[:, [3]]) * target)
    torch = pytest.importorskip("torch")
    scores = LogProbability(3, exact=False)(torch.tensor(RESPONSES))
    np.testing.assert_allclose(scores.numpy(), np.log(p[:, 3]))


def test_contrast():
    responses = np.array([[2.0, 4.0, 1.0, 5.0, 0.0]])
    value = Contrast((0, 1), ((2,), (3, 4)), 0.5)(responses)[0]
    assert value == pytest.approx(3 / 0.5 - np.log(np.mean(np.exp([3 / 0.5, 1 / 0.5, 2.5 / 0.5]))))
    assert Contrast(0, [[1], [2]])(np.full((1, 3), 7.0))[0] == pytest.approx(0)
    assert Contrast(0, [[1], [2]])(np.array([[99.0, 0.0, 0.0]]))[0] == pytest.approx(np.log(3))
    assert Contrast(0, [1, 2]) == Contrast((0,), ((1, 2),))
    small = 1e-6 * RESPONSES  # to first order it is a difference from the mean of all groups
    expected = (Mean([0, 1]) - (Mean([0, 1]) + Unit(2)) / 2)(small) / 1.6
    np.testing.assert_allclose(Contrast((0, 1), 2)(small), expected, rtol=1e-4, atol=1e-12)


def test_diversity():
    same, opposite, across = [[1.0, 1.0]] * 3, [[1.0, 0.0], [-2.0, 0.0]], [[1.0, 0.0], [0.0, 5.0]]
    np.testing.assert_allclose(Diversity()(np.array(same)), 1, rtol=1e-3)
    np.testing.assert_allclose(Diversity()(np.array(opposite)), -1, rtol=1e-3)
    np.testing.assert_allclose(Diversity()(np.array(across)), 0)
    assert Diversity()(RESPONSES[:1]).tolist() == [0.0]
    unit = RESPONSES / np.linalg.norm(RESPONSES, axis=1, keepdims=True)
    others = (unit @ unit.T - np.eye(6)).sum(1) / 5
    np.testing.assert_allclose(Diversity()(RESPONSES), others, atol=1e-3)


def test_lost_presentations_leave_the_diversity_of_others_alone():
    lost = RESPONSES.copy()
    lost[2, 1] = np.nan
    scores = Diversity()(lost)
    assert np.flatnonzero(np.isnan(scores)).tolist() == [2]
    kept = [0, 1, 3, 4, 5]
    np.testing.assert_allclose(scores[kept], Diversity()(RESPONSES[kept]))
