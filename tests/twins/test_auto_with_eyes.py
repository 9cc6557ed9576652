"""`auto` with eyes: the contract, a control, who asks for codes, and what it does with a twin that knows nothing."""

from __future__ import annotations

import numpy as np
import pytest

from closedloop.errors import CallOrderError
from closedloop.interfaces import Attributing, Sighted, Space
from closedloop.loop.notices import leave, listen
from closedloop.optimizers import Auto, ShuffledScores, load_optimizer
from closedloop.testing import OptimizerContract
from closedloop.testing.optimizers import trail
from closedloop.twins.auto_with_eyes import SightedAuto
from tests.small_sights import Levels, Nothing, Stripes


def seeing(space, seed=0, features=Levels, **options):
    optimizer = load_optimizer("auto", space, seed, features=features(space.dim), **options)
    optimizer.see(Stripes(space))
    return optimizer


@pytest.mark.sampled(2)
class TestSightedAutoContract(OptimizerContract):
    level_free = False  # it asks whether noise grows with the response
    generations = 2  # the second by gradients in single precision

    def make(self, space, seed):
        return seeing(space, seed, images=self.budget, population=20)


class Shuffled(OptimizerContract):
    control = True

    def make(self, space, seed):
        return ShuffledScores(seeing(space, seed, images=self.budget), seed)


def test_shuffled_it_is_a_null():
    Shuffled().test_is_a_null_where_it_is_a_control()


def slope_of(dim, noise=0.0, seed=0):
    rng, top = np.random.default_rng(seed), np.random.default_rng(5).standard_normal(dim)
    return lambda codes: (codes @ top + noise * rng.standard_normal(len(codes)), codes)


def test_the_parts_of_a_generation():
    """`auto`'s codes, what it takes for the best, and the twin's; the words of a recording beside."""
    space = Space(40)
    optimizer = seeing(space, images=200)
    assert isinstance(optimizer, Sighted)
    assert isinstance(optimizer, Attributing)
    trail(optimizer, slope_of(40), 1)
    best = optimizer.recommend(9)
    codes = optimizer.ask()
    words = optimizer.proposers(codes)
    assert words == ["codes"] * 7 + ["twin"] * 3
    own = optimizer.auto.recommend(1)[0]
    np.testing.assert_array_equal(codes[6], own)
    assert own.tolist() in best.tolist()
    assert optimizer.proposers(best)[best.tolist().index(own.tolist())] == "codes"
    assert optimizer.proposers(optimizer.twin.top()[None]) == ["twin"]


@pytest.mark.parametrize(("ahead", "codes"), [(1.0, 6), (0.0, 3), (-1.0, 0)])
def test_who_is_ahead_asks_for_more_and_both_learn_from_all(ahead, codes):
    space = Space(40)
    optimizer = seeing(space, images=300)
    trail(optimizer, slope_of(40), 2)
    if ahead:
        optimizer._duels = np.array([[ahead * duel, 0] for duel in (2.0, 3.0, 2.0, 3.0)])
    assert optimizer.proposers(optimizer.ask()).count("twin") == codes
    trail(optimizer, slope_of(40), 1)
    assert len(optimizer.auto.state()["y"]) >= 28  # a code that came twice is one
    assert len(optimizer.twin.state()["scores"]) == 30


def test_a_twin_that_predicts_nothing_is_left_out_and_it_is_said():
    space, heard = Space(40), []
    listen(heard.append)
    try:
        optimizer = seeing(space, features=Nothing, images=400)
        codes = trail(optimizer, slope_of(40, 4.0), 16)
    finally:
        leave(heard.append)
    assert "the twin that reads nothing does not predict (skill 0." in heard[0]
    assert "codes alone from here" in heard[0]
    assert optimizer.proposers(codes[-1]) == ["codes"] * 10
    assert optimizer.auto.population == 10
    np.testing.assert_array_equal(optimizer.recommend(2), optimizer.auto.recommend(2))


def test_who_is_ahead_is_what_fresh_presentations_say():
    optimizer = seeing(Space(8))
    assert optimizer.share == 0.5
    optimizer._duels = np.array([[3.0, 1], [1, 2], [np.nan, 1], [4, 2], [5, 2]])
    assert 0.8 < optimizer.share < 1
    optimizer._duels = -optimizer._duels
    assert 0 < optimizer.share < 0.2
    optimizer._duels = np.array([[2.0, 1]] * 3)
    assert optimizer.share == 1.0
    optimizer._duels = np.array([[1.0, 1]] * 3)
    assert optimizer.share == 0.5


def test_off_unless_asked_for():
    assert type(load_optimizer("auto", Space(8))) is Auto
    with pytest.raises(CallOrderError, match=r"auto: expected see\(generator\)"):
        load_optimizer("auto", Space(8), features=Levels(8)).ask()
    assert SightedAuto(Space(8), features=Levels(8)).recipe is None
    assert SightedAuto(Space(8), features=Levels(8)).name == "auto+levels"


def test_named_features_stand_in_its_recipe():
    pytest.importorskip("torch")
    optimizer = load_optimizer("auto", Space(20), 3, features="random")
    assert optimizer.recipe == {"name": "auto", "seed": 3, "images": None, "population": 10, "features": "random"}
    optimizer.plan(70)
    assert (optimizer.budget, optimizer.auto.images, optimizer.recipe["images"]) == (70, 70, 70)
