"""A twin that learns while it goes on: skill, intervals, forgetting, and what a restored one computes again."""

from __future__ import annotations

import numpy as np
import pytest

from closedloop.errors import CallOrderError
from closedloop.interfaces import Space
from closedloop.testing.common import through_a_file
from closedloop.twins import online
from closedloop.twins.online import OnlineTwin
from tests.small_sights import Levels, Nothing, Stripes

SPACE = Space(20)
TOP = np.random.default_rng(5).standard_normal(20)


def told(generations=6, noise=1.0, features=Levels, lost=(), size=10):
    twin, rng = OnlineTwin(SPACE, features(20)), np.random.default_rng(0)
    twin.see(Stripes(SPACE))
    for k in range(generations):
        codes = SPACE.sample(size, rng)
        scores = codes @ TOP + noise * rng.standard_normal(size)
        scores[list(lost)] = np.nan
        twin.learn(codes, scores)
        assert twin._judged <= k + 1
    return twin


def test_skill_is_held_out_and_begins_with_what_is_believed():
    assert told(0).skill == told(1).skill == online.PRIOR_SKILL
    assert told(12, noise=0.1).skill > 0.6
    assert told(12, features=Nothing).skill < 0.15


def test_a_better_twin_may_go_further():
    assert told(12, noise=0.1).steps() == online.STEPS
    assert told(30, features=Nothing).steps() < 5


def test_nine_of_ten_scores_lie_in_the_intervals():
    inside, of = told(40, noise=3.0).coverage
    assert of == 390
    assert 0.87 < inside / of < 0.93


def test_intervals_hold_their_share_from_the_beginning_and_where_scores_rise():
    """Scores and noise that double every four generations, which no width that was right stays right for."""
    inside = []
    for seed in range(4):
        twin, rng = OnlineTwin(SPACE, Levels(20)), np.random.default_rng(seed)
        twin.see(Stripes(SPACE))
        for k in range(24):
            codes = SPACE.sample(10, rng)
            twin.learn(codes, 2 ** (k / 4) * (codes @ TOP + 20 + 3 * rng.standard_normal(10)))
        inside.append(np.split(twin._covered[10:], [60, 150]))
    early, middle, late = (np.mean([one[part] for one in inside]) for part in range(3))
    assert 0.83 < early < 0.96
    assert 0.86 < middle < 0.94
    assert 0.86 < late < 0.94


def test_a_restored_twin_is_the_same_bit_by_bit(monkeypatch):
    """Also with lost presentations, and after it has forgotten images."""
    monkeypatch.setattr(online, "MOST", 60)
    twin = told(11, lost=(2, 7))
    assert len(twin._scores) < 60
    state = through_a_file(twin.state())
    assert not any(np.ndim(value) > 1 and np.shape(value)[1] != 20 for value in state.values())
    again = OnlineTwin(SPACE, Levels(20))
    again.see(Stripes(SPACE))
    again.restore(state)
    for _ in range(3):
        codes = [each.propose(5, np.random.default_rng(1)) for each in (twin, again)]
        np.testing.assert_array_equal(*codes)
        np.testing.assert_array_equal(again._x, twin._x)
        for each in (twin, again):
            each.learn(codes[0], codes[0] @ TOP)


def test_forgets_the_oldest(monkeypatch):
    monkeypatch.setattr(online, "MOST", 60)
    twin = told(7)
    assert len(twin._scores) == 50
    assert sum(twin._sizes) == len(twin._x) == 50


def test_flat_and_lost_scores_teach_nothing():
    twin = OnlineTwin(SPACE, Levels(20))
    twin.see(Stripes(SPACE))
    codes = SPACE.sample(5, np.random.default_rng(0))
    for scores in (np.full(5, np.nan), np.zeros(5), np.full(5, np.nan)):
        twin.learn(codes, scores)
        assert not twin.ready
    with pytest.raises(CallOrderError, match="expected a generation with different scores"):
        twin.top()
    twin.learn(codes, np.arange(5.0))
    assert twin.ready


def test_what_was_promised_stands_beside_the_scores():
    predicted, scores = told(5, noise=0.1).promises
    assert np.isnan(predicted[:10]).all()
    assert np.corrcoef(predicted[20:], scores[20:])[0, 1] > 0.5


def test_the_best_shown_come_once_and_in_order():
    twin = told(4, noise=0.1)
    found = twin.best_shown(5)
    assert len(np.unique(found, axis=0)) == 5
    assert (found[0] @ TOP) > (twin._codes @ TOP).mean()


def test_an_image_that_comes_again_is_remembered_and_no_skill():
    twin = told(6, features=Nothing)
    before = twin.skill
    again = twin._codes[-20:].copy()
    for codes in (again[:10], again[10:]):
        twin.learn(codes, np.arange(10.0))
    assert twin.skill == before
    assert twin._fresh.sum() == 60


def test_generations_of_high_scores_do_not_decide_alone():
    """Of ten generations whose scores double, each counts alike."""
    twin, rng = told(1, features=Nothing), np.random.default_rng(3)
    y = rng.standard_normal((10, 10))
    f = np.where(np.arange(10)[:, None] == 9, y, rng.standard_normal((10, 10)))  # the last one was foreseen
    twin._sizes = [10] * 10
    size = 2.0 ** np.arange(10)[:, None]
    twin._scores, twin._predicted = (size * y).ravel(), (size * f).ravel()
    twin._fresh = np.ones(100)
    assert twin.skill < 0.3
