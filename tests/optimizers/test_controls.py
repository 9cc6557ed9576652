"""Controls: what is told instead of scores, and that nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest

from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import Space
from closedloop.optimizers import IsotropicES, NoiseScores, ShuffledScores, load_optimizer
from closedloop.testing import OptimizerContract
from closedloop.testing.optimizers import hill, trail


class TestShuffledContract(OptimizerContract):
    learns, control = False, True

    def make(self, space, seed):
        return ShuffledScores(IsotropicES(space, seed), seed)


class TestNoiseContract(OptimizerContract):
    learns, control = False, True

    def make(self, space, seed):
        return NoiseScores(IsotropicES(space, seed), seed)


class Told:
    """Remembers what it is told."""

    name, needs_gradient, space = "told", False, Space(2)

    def ask(self):
        return np.zeros((6, 2))

    def tell(self, codes, scores, gradients=None):
        self.scores = scores

    def state(self):
        return {}

    def restore(self, state):
        pass


@pytest.mark.sampled(2)
class TestShuffledAutoContract(OptimizerContract):
    """An optimizer that learns from the means of generations, too."""

    learns, control, level_free = False, True, False  # noise may grow with the response

    def make(self, space, seed):
        return ShuffledScores(load_optimizer("auto", space, seed, images=300), seed)


def test_shuffled_scores_are_those_of_the_first_generation():
    inner, scores = Told(), np.array([1.0, 2.0, np.nan, 4.0, 5.0, 6.0])
    control = ShuffledScores(inner)
    control.tell(control.ask(), scores)
    np.testing.assert_array_equal(np.sort(inner.scores), np.sort(scores))
    assert np.isnan(inner.scores[2])
    told = []
    for generation in range(20):
        control.tell(control.ask(), scores + 100 * generation)
        assert np.isnan(inner.scores[2])
        told.append(inner.scores[[0, 1, 3, 4, 5]])
    assert set(np.concatenate(told)) == {1.0, 2.0, 4.0, 5.0, 6.0}
    assert len({tuple(row) for row in told}) > 15


def test_a_first_generation_that_was_lost_is_waited_for():
    inner, scores = Told(), np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    control = ShuffledScores(inner)
    for given in (np.full(6, np.nan), scores, 10 * scores):
        control.tell(control.ask(), given)
    assert set(inner.scores) <= set(scores)


def test_a_run_of_an_older_version_goes_on_with_the_order_of_each_generation():
    inner, scores = Told(), np.arange(6.0)
    control = ShuffledScores(inner)
    older = control.state()
    del older["first"]
    control.restore(older)
    for generation in range(3):
        control.tell(control.ask(), scores + 10 * generation)
        np.testing.assert_array_equal(np.sort(inner.scores), scores + 10 * generation)


def test_noise_does_not_know_the_scores():
    told = []
    for scores in (np.arange(6.0), 100 * np.ones(6)):
        inner = Told()
        control = NoiseScores(inner, seed=3)
        control.tell(control.ask(), scores)
        told.append(inner.scores)
    np.testing.assert_array_equal(*told)
    assert len(set(told[0])) == 6


@pytest.mark.parametrize("kind", ["shuffled", "noise"])
def test_it_does_not_climb(kind):
    """Where the optimizer itself climbs 10 units along a slope in every run."""
    finals = {}
    for name in ("isotropic", f"{kind}:isotropic"):
        optimizers = [load_optimizer(name, Space(10), seed) for seed in range(8)]
        finals[name] = [trail(o, lambda codes: (codes[:, 0], codes), 40)[-1][:, 0].mean() for o in optimizers]
    assert min(finals["isotropic"]) > 10
    assert abs(np.mean(finals[f"{kind}:isotropic"])) < 5


def test_by_name_with_the_options_and_the_budget_of_the_optimizer():
    control = load_optimizer("shuffled:sphere-cma", Space(8), 3, images=860, schedule="inv", control_seed=4)
    assert control.name == "shuffled:sphere-cma"
    assert control.optimizer.generations == 21
    recipe = dict(control.recipe)
    again = load_optimizer(recipe.pop("name"), Space(8), **recipe)
    for codes, other in zip(trail(control, hill(Space(8)), 4), trail(again, hill(Space(8)), 4), strict=True):
        np.testing.assert_array_equal(codes, other)
    assert load_optimizer("noise:isotropic", Space(8), images=100).name == "noise:isotropic"
    assert ShuffledScores(Told()).recipe is None


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("shuffled", {}, "optimizer: expected a name after the colon, for instance 'shuffled:cma'"),
        ("noise:cna", {}, "no optimizer named 'cna'. Did you mean 'cma'"),
        ("shuffled:isotropic", {"sgima": 1.0}, "'sgima'. Did you mean 'sigma'"),
        ("shuffled:isotropic", {"control_seed": -1}, "seed: expected a whole number of at least 0, got -1"),
    ],
)
def test_names_that_do_not_fit(name, options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        load_optimizer(name, Space(4), **options)


def test_gradients_are_no_matter_for_a_control():
    inner = Told()
    inner.needs_gradient = True
    with pytest.raises(InvalidArgumentError, match="optimizer: expected one without gradients, got 'told'"):
        ShuffledScores(inner)


@pytest.mark.parametrize("kind", ["shuffled", "noise"])
def test_it_recommends_what_the_optimizer_inside_does(kind):
    space = Space(40)
    control = load_optimizer(f"{kind}:auto", space, 0, images=200)
    assert control.recommend(3).shape == (0, 40)
    control.tell(control.ask(), np.arange(10.0))
    np.testing.assert_array_equal(control.recommend(3), control.optimizer.recommend(3))
    assert len(control.recommend(3)) == 3
    assert load_optimizer(f"{kind}:isotropic", space, 0).recommend(3).shape == (0, 40)
