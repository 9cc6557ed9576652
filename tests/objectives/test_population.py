"""Population control on linear sites with a known overlap."""

import numpy as np
import pytest
import torch

from closedloop.errors import InvalidArgumentError
from closedloop.objectives import Controversial, OneHot, Pattern, Stretch, Unit, parse_objective

#: Two sites whose preferred directions have a cosine of 0.8, and a third at right angles to both.
SITES = np.array([[1.0, 0.0, 0.0], [0.8, 0.6, 0.0], [0.0, 0.0, 1.0]])


def best_of(objective, points):
    return points[np.argmax(objective(points @ SITES.T))]


@pytest.fixture(scope="module")
def points():
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=(20000, 3))
    return 3 * drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def test_stretch_is_the_response():
    assert Stretch(2) == Unit(2)
    assert parse_objective("stretch(2)") == Unit(2)


def test_stretch_drives_the_neighbour_along_and_one_hot_does_not(points):
    stretched, alone = best_of(Stretch(0), points), best_of(OneHot(0), points)
    assert SITES @ stretched == pytest.approx([3, 2.4, 0], abs=0.15)
    apart = SITES @ alone
    assert apart[0] > 1.5
    assert apart[0] - apart[1:].max() > 1.2 > 0.8 > stretched @ (SITES[0] - SITES[1])


def test_one_hot_measures_from_baselines_in_scales():
    responses = np.array([[2.0, 10.0], [4.0, 10.0]])
    scores = OneHot(0, baselines=(2.0, 10.0), scales=(2.0, 5.0))(responses)
    np.testing.assert_allclose(scores, [np.log(0.5), 1 - np.log(np.e + 1)])


def test_a_pattern_is_met_where_responses_are_as_wanted(points):
    wanted = SITES @ points[77]
    np.testing.assert_allclose(best_of(Pattern(wanted), points), points[77])
    assert Pattern([1, 2], scales=[1, 2])(np.array([[1.0, 2.0], [2.0, 4.0]])).tolist() == [0, -1]


def test_what_is_controversial_is_high_in_one_and_low_in_the_other():
    """What drives both scores below 0, and silence of the other is no merit."""
    scores = Controversial(0, 1)(np.array([[9.0, 8.0], [1.0, -8.0], [4.0, 0.0], [4.0, -2.0]]))
    assert scores.tolist() == [-7, 1, 4, 4]
    with pytest.raises(InvalidArgumentError, match="controversial: expected one or more different units"):
        Controversial(1, 1)


@pytest.mark.parametrize(
    "text",
    [
        "onehot(1)",
        "onehot(1, [1, 2])",
        "onehot(1, [1, 2], baselines=[0.5, 1.0], scales=[2.0, 1.0])",
        "controversial(0, 1)",
        "controversial(3, 1, baselines=[0.5, 1.0], scales=[2.0, 1.0])",
        "pattern([0.5, 1.0])",
        "pattern({3: 1.0, 7: 0.0}, scales=[2.0, 1.0])",
    ],
)
def test_texts_read_back_and_torch_gives_the_same(text):
    objective = parse_objective(text)
    assert objective.describe() == text
    assert parse_objective(objective.describe()) == objective
    responses = np.random.default_rng(1).normal(size=(4, 2 if text == "pattern([0.5, 1.0])" else 8))
    x = torch.tensor(responses, requires_grad=True)
    found = objective(x)
    np.testing.assert_allclose(found.detach().numpy(), objective(responses))
    found.sum().backward()
    assert torch.isfinite(x.grad).all()
    lost = responses.copy()
    lost[0] = np.nan
    assert np.isnan(objective(lost)).tolist() == [True, False, False, False]


def test_sites_move_with_their_columns():
    responses = np.random.default_rng(2).normal(size=(5, 3))
    moved = np.zeros((5, 6))
    moved[:, [4, 1, 5]] = responses
    for objective in (OneHot(1, (0, 1), (0.1, 0.2)), Pattern([1, 2, 3]), OneHot(0, None, scales=(1.0, 2.0, 3.0))):
        np.testing.assert_allclose(objective.moved([4, 1, 5])(moved), objective(responses))


def test_errors_name_the_argument():
    with pytest.raises(InvalidArgumentError, match="scales: expected"):
        OneHot(0, (0, 1), scales=(1.0, 0.0))
    with pytest.raises(InvalidArgumentError, match="baselines: expected a finite number for each of 2 sites"):
        OneHot(0, (0, 1), baselines=(1.0,))
    with pytest.raises(InvalidArgumentError, match="pattern: expected a finite number for one or more units"):
        Pattern([])
    for wanted in (1.0, [[1.0]], {3: float("nan")}, "12", {3: "1"}):
        with pytest.raises(InvalidArgumentError, match="pattern: expected"):
            Pattern(wanted)
    for scales in (1.0, "12", [None, 1.0]):
        with pytest.raises(InvalidArgumentError, match="scales: expected"):
            OneHot(0, (0, 1), scales=scales)
