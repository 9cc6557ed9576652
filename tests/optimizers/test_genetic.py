"""The genetic algorithm: the contract, the published table, and what becomes of parents."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import Space
from closedloop.optimizers import GeneticAlgorithm, load_optimizer
from closedloop.optimizers.genetic import SETTINGS, _fitness, ga_2019
from closedloop.testing import OptimizerContract


class TestXDreamContract(OptimizerContract):
    def make(self, space, seed):
        return GeneticAlgorithm(space, seed)


class Test2019Contract(OptimizerContract):
    budget = 800

    def make(self, space, seed):
        return ga_2019(space, seed)


def told(optimizer, scores):
    codes = optimizer.ask()
    optimizer.tell(codes, np.asarray(scores, dtype=float))
    return codes, optimizer.ask()


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_setting_by_name(setting):
    optimizer = load_optimizer("xdream-ga", Space(30), setting=setting)
    codes, children = told(optimizer, np.arange(SETTINGS[setting].population))
    assert len(codes) == len(children) == SETTINGS[setting].population
    assert optimizer.name == ("ga-2019" if setting == "2019" else "xdream-ga")


def test_the_published_numbers():
    fc6, old = SETTINGS["fc6"], load_optimizer("ga-2019", Space(3)).breeding
    assert (fc6.population, fc6.mutation_rate, fc6.mutation_size, fc6.selectivity) == (20, 0.5, 0.5, 2.0)
    assert (old.selectivity, old.heritability, old.n_conserve) == (0.5, 0.75, 10)


def test_a_part_of_a_setting_can_be_changed():
    optimizer = GeneticAlgorithm(Space(3), setting="fc7", n_conserve=2)
    assert (optimizer.population, optimizer.breeding.n_conserve) == (45, 2)


def test_the_best_live_on():
    optimizer = GeneticAlgorithm(Space(5), 0, n_conserve=3)
    scores = np.random.default_rng(0).permutation(20.0 * np.arange(20))
    codes, children = told(optimizer, scores)
    np.testing.assert_array_equal(children[:3], codes[np.argsort(-scores)[:3]])
    assert not (children[3:, None] == codes).all(2).any()


def test_lost_codes_are_shown_again():
    optimizer = GeneticAlgorithm(Space(5), 0, n_conserve=2)
    scores = np.arange(20.0)
    scores[[4, 19]] = np.nan
    codes, children = told(optimizer, scores)
    np.testing.assert_array_equal(children[:4], codes[[18, 17, 4, 19]])
    assert len(children) == 20
    everything, again = told(optimizer, np.full(20, np.nan))
    np.testing.assert_array_equal(everything, again)


def test_genes_come_from_the_parents_and_selection_is_by_temperature():
    """Without mutation each coordinate is a parent's; with a low temperature the better of two takes nearly all."""
    options = {"population": 2000, "mutation_rate": 0.0}
    for selectivity, share in ((0.01, 0.5), (2.0, 1 / (1 + np.exp(-2 * 2.0)))):
        optimizer = GeneticAlgorithm(Space(4), 0, selectivity=selectivity, **options)
        scores = np.where(np.arange(2000) < 1000, 1.0, -1.0)  # standard deviation 1, difference 2
        codes, children = told(optimizer, scores)
        good = np.isin(children, codes[:1000])
        assert (good | np.isin(children, codes[1000:])).all()
        assert good.mean() == pytest.approx(share, abs=0.02)


def test_heritability_and_mutation():
    optimizer = GeneticAlgorithm(Space(500, scale=3.0), 0, heritability=1.0, mutation_rate=0.3, mutation_size=0.5)
    codes, children = told(optimizer, np.zeros(20))
    nearest = np.abs(children[:, None] - codes).sum(2).argmin(1)
    change = (children - codes[nearest]).ravel()
    assert np.mean(change != 0) == pytest.approx(0.3, abs=0.02)
    assert change[change != 0].std() == pytest.approx(0.5 * 3, rel=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"setting": "fc9"}, "setting: expected 'norm1' or .*, got 'fc9'"),
        ({"n_conserve": 20}, "n_conserve: expected a whole number below the population of 20, got 20"),
        ({"mutation_rate": 1.5}, "mutation_rate: expected a finite number from 0 to 1, got 1.5"),
        ({"heritability": "half"}, "heritability: expected a finite number from 0 to 1"),
        ({"selectivity": 0}, "selectivity: expected a finite number above 0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        GeneticAlgorithm(Space(3), **options)


def test_the_setting_of_2019_is_one():
    with pytest.raises(InvalidArgumentError, match="setting: expected '2019', got 'fc6'"):
        ga_2019(Space(3), setting="fc6")


def test_published_sizes_hold_on_the_published_generator():
    """In code units of fc6, whatever its prior; in units of the prior elsewhere, and where the user says it."""
    fc6, other = Space(4096, scale=3.0, published=1.0), Space(4096, scale=3.0)
    for setting, size in (("fc6", 0.5), ("2019", 0.75)):
        there, here = (GeneticAlgorithm(space, setting=setting) for space in (fc6, other))
        assert there.breeding.mutation_size * fc6.scale == pytest.approx(size)
        assert here.breeding.mutation_size == size
        again = load_optimizer(space=fc6, **there.recipe)
        assert again.breeding == there.breeding
    assert GeneticAlgorithm(fc6, mutation_size=0.5).breeding.mutation_size == 0.5
    recorded = {"name": "xdream-ga", "seed": 0, "setting": "fc6", **asdict(SETTINGS["fc6"])}  # of an older run
    assert load_optimizer(space=fc6, **recorded).breeding.mutation_size == 0.5


@pytest.mark.parametrize("factor", [1e-300, 1e-10, 1.0, 1e10, 1e300])
def test_selection_does_not_know_the_unit_of_the_scores(factor):
    scores = np.array([3.0, 1.0, 2.0, 5.0])
    np.testing.assert_allclose(_fitness(factor * scores, 2.0), _fitness(scores, 2.0), rtol=1e-9)
    np.testing.assert_array_equal(_fitness(np.full(4, factor), 2.0), np.full(4, 0.25))
