"""The optimizer `twin`: the contract, a control, generators without gradient, and what it says of its codes."""

from __future__ import annotations

import numpy as np
import pytest

from closedloop.errors import CallOrderError, InvalidArgumentError, WeightsError
from closedloop.interfaces import Attributing, Sighted, Space
from closedloop.optimizers import ShuffledScores, load_optimizer
from closedloop.testing import OptimizerContract
from closedloop.testing.common import through_a_file
from closedloop.testing.optimizers import hill, trail
from closedloop.twins.proposing import TwinOptimizer, Ways
from tests.small_sights import Levels, Stripes


def seeing(space, seed=0, smooth=True, **options):
    optimizer = TwinOptimizer(space, seed, features=Levels(space.dim), **{"population": 10, "initial": 10, **options})
    optimizer.see(Stripes(space, smooth))
    return optimizer


@pytest.mark.sampled(2)
class TestTwinContract(OptimizerContract):
    level_free = False  # it asks whether noise grows with the response
    generations = 2  # the second by gradients in single precision

    def make(self, space, seed):
        return seeing(space, seed)


@pytest.mark.sampled(2)
class TestScreeningContract(OptimizerContract):
    """With a generator that cannot be differentiated."""

    level_free = False
    generations = 2

    def make(self, space, seed):
        return seeing(space, seed, smooth=False)


class Shuffled(OptimizerContract):
    control = True

    def make(self, space, seed):
        return ShuffledScores(seeing(space, seed), seed)


@pytest.mark.long
def test_shuffled_it_is_a_null():
    Shuffled().test_is_a_null_where_it_is_a_control()


def test_it_says_which_codes_are_of_the_prior_and_which_its_own():
    space = Space(20)
    optimizer = seeing(space)
    first, second = trail(optimizer, hill(space), 2)
    assert optimizer.proposers(np.concatenate([second, first])) == ["twin"] * 10 + ["prior"] * 10
    assert optimizer.proposers(optimizer.recommend(2)) == ["twin"] * 2
    pending = optimizer.ask()
    again = seeing(space)
    again.restore(through_a_file(optimizer.state()))
    assert again.proposers(np.concatenate([first[:1], pending[:1]])) == ["prior", "twin"]


def test_ways_are_kept_by_code():
    ways, codes = Ways(), np.arange(6.0).reshape(3, 2)
    ways.note(codes, ["prior", "codes", "twin"])
    again = Ways()
    again.restore(through_a_file(ways.state()))
    assert again.of(codes[::-1]) == ["twin", "codes", "prior"]
    assert again.of(codes + 1e-9) == [""] * 3


def test_a_linear_readout_of_the_right_features_goes_far_in_few_images():
    """A readout in 40 dimensions, known after 60 noiseless images: beyond any of 600 draws from the prior."""
    space = Space(40)
    top = np.random.default_rng(5).standard_normal(40)
    last = trail(seeing(space, population=20, initial=40), lambda codes: (codes @ top, codes), 5)[-1]
    drawn = space.sample(600, np.random.default_rng(0))
    assert (last @ top).mean() > 1.5 * (drawn / np.linalg.norm(drawn, axis=1, keepdims=True) * 40**0.5 @ top).max()


def test_screening_proposes_no_code_twice():
    space = Space(20)
    for codes in trail(seeing(space, smooth=False), hill(space), 4):
        assert len(np.unique(codes, axis=0)) == len(codes)


def test_it_must_see_first():
    optimizer = TwinOptimizer(Space(8), features=Levels(8))
    with pytest.raises(CallOrderError, match=r"twin: expected see\(generator\) before the first ask\(\)"):
        optimizer.ask()
    with pytest.raises(InvalidArgumentError, match=r"generator: expected one of Space\(dim=8.*got Space\(dim=9"):
        optimizer.see(Stripes(Space(9)))


def test_it_sees_colour_stills_only():
    grey = Stripes(Space(8))
    grey.channels = 1
    with pytest.raises(InvalidArgumentError, match="generator: expected one of colour stills, got grey stills"):
        TwinOptimizer(Space(8), features=Levels(8)).see(grey)


def test_another_feature_network_is_refused():
    class Marked(Levels):
        fingerprint = "a" * 64

    class Other(Levels):
        fingerprint = "b" * 64

    space = Space(8)
    one, other = (TwinOptimizer(space, features=kind(8), initial=20) for kind in (Marked, Other))
    for optimizer in (one, other):
        optimizer.see(Stripes(space))
    trail(one, hill(space), 2)
    with pytest.raises(WeightsError, match="its feature network 'levels' has other weights"):
        other.restore(one.state())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"population": 1}, "population: expected a whole number of at least 2"),
        ({"initial": 0}, "initial: expected a whole number of at least 2"),
        ({"features": "lite99"}, "no subject named 'lite99'"),
    ],
)
def test_bad_options(wrong, message):
    with pytest.raises(Exception, match=message):
        TwinOptimizer(Space(8), **{"features": Levels(8), **wrong})


def test_named_features_stand_in_its_recipe():
    pytest.importorskip("torch")
    optimizer = load_optimizer("twin", Space(8), 3, features="random", images=100)
    assert isinstance(optimizer, Sighted)
    assert isinstance(optimizer, Attributing)
    assert optimizer.recipe == {
        "name": "twin", "seed": 3, "features": "random", "layers": "auto", "population": 20, "initial": 40,
    }  # fmt: skip
    assert optimizer.name.startswith("twin+lite0")
    assert TwinOptimizer(Space(8), features=Levels(8)).recipe is None
    control = load_optimizer("shuffled:twin", Space(8), 3, features=Levels(8))
    assert isinstance(control, Sighted)
    assert not isinstance(load_optimizer("shuffled:cma", Space(8)), Sighted)
