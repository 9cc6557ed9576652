"""Nevergrad by name: the contract for one of each family, and what its replay brings back."""

from __future__ import annotations

import sys
from contextlib import contextmanager

import numpy as np
import pytest

from closedloop.errors import (
    ClosedLoopError,
    InvalidArgumentError,
    MissingExtraError,
    OptimizerError,
    UnknownNameError,
)
from closedloop.interfaces import Space
from closedloop.optimizers import load_optimizer
from closedloop.seeds import streams
from closedloop.testing import OptimizerContract
from closedloop.testing.common import through_a_file, untouched_randomness
from closedloop.testing.optimizers import assert_same, hill, trail

nevergrad = pytest.importorskip("nevergrad", reason="the extra nevergrad is not installed")


class NevergradContract(OptimizerContract):
    method = ""
    budget = 400

    def make(self, space, seed):
        return load_optimizer(f"nevergrad:{self.method}", space, seed, images=self.budget, population=8)


@pytest.mark.sampled(2)
class TestCMAContract(NevergradContract):
    method = "CMA"


@pytest.mark.sampled(1)  # what is ours is the same for all of its methods
class TestDifferentialEvolutionContract(NevergradContract):
    method = "TwoPointsDE"


@pytest.mark.sampled(1)
class TestRandomContract(NevergradContract):
    method = "RandomSearch"
    learns = False


@pytest.mark.parametrize("method", ["CMA", "TwoPointsDE"])
def test_codes_stretch_with_the_prior(method):
    narrow, wide = (load_optimizer(f"nevergrad:{method}", Space(40, scale=scale), 0).ask() for scale in (1.0, 5.0))
    np.testing.assert_allclose(wide, 5 * narrow)
    assert 0.3 < narrow[1:].std() < 2


@pytest.mark.parametrize("method", ["NGOpt", "DiagonalCMA", "PSO", "OnePlusOne", "TBPSA"])
def test_restored_state_continues_identically(method):
    """Also with lost codes, and with those that choose a method by dimension and budget."""
    space, rng = Space(12, scale=2.0), np.random.default_rng(0)
    optimizer, again = (load_optimizer(f"nevergrad:{method}", space, 3, images=100, population=6) for _ in range(2))
    told = 0
    for _ in range(8):
        codes = optimizer.ask()
        scores = np.where(rng.random(6) < 0.2, np.nan, hill(space)(codes)[0])
        optimizer.tell(codes, scores)
        told += np.sum(~np.isnan(scores))
    assert optimizer._inner.num_tell == told < 48
    optimizer.ask()
    again.restore(through_a_file(optimizer.state()))
    assert_same(trail(again, hill(space), 4), trail(optimizer, hill(space), 4))


def test_a_run_with_another_seed_is_refused():
    space = Space(5)
    optimizer = load_optimizer("nevergrad:CMA", space, 1)
    trail(optimizer, hill(space), 2)
    optimizer.ask()
    with pytest.raises(InvalidArgumentError, match="expected the pending codes of the saved state, got others"):
        load_optimizer("nevergrad:CMA", space, 2).restore(optimizer.state())


def test_the_state_holds_scores_only():
    space = Space(1000)
    optimizer = load_optimizer("nevergrad:DiagonalCMA", space, 1)
    trail(optimizer, hill(space), 3)
    assert optimizer.state()["told"].shape == (3, optimizer.population)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("nevergrad:CMB", UnknownNameError, "nevergrad: no method 'CMB'. Did you mean 'CM' or 'CMA'"),
        ("nevergrad:SPSA", InvalidArgumentError, "'SPSA' cannot be built for .* 9 at a time .*; take population=1"),
        ("nevergrad", InvalidArgumentError, "nevergrad: expected a method after the colon"),
    ],
)
def test_names_that_do_not_fit(name, error, message):
    with pytest.raises(error, match=message):
        load_optimizer(name, Space(4), population=9)


def test_what_takes_one_at_a_time():
    optimizer = load_optimizer("nevergrad:SPSA", Space(4), 0, population=1)
    asked = trail(optimizer, hill(Space(4)), 30)
    assert {len(codes) for codes in asked} == {1}
    assert len(np.unique(np.concatenate(asked), axis=0)) > 10


@pytest.mark.parametrize("method", ["CMA", "NGOpt"])
def test_goes_through_many_generations_in_many_dimensions(method):
    """Asked for less than its own population, nevergrad's CMA fails after some."""
    space = Space(320, scale=2.0)
    optimizer = load_optimizer(f"nevergrad:{method}", space, 0, images=1500)
    asked = trail(optimizer, hill(space), 30)
    assert hill(space)(asked[-1])[0].mean() > hill(space)(asked[0])[0].mean()


def test_a_failure_of_nevergrad_says_so(monkeypatch):
    optimizer = load_optimizer("nevergrad:CMA", Space(4), population=6)
    trail(optimizer, hill(Space(4)), 2)

    def fails():
        raise RuntimeError("Mean shift samples are expected but missing.\nThis happens if")

    monkeypatch.setattr(optimizer._inner, "ask", fails)
    with pytest.raises(
        OptimizerError, match=r"nevergrad failed after 12 codes \(RuntimeError: Mean shift .* missing.\)"
    ):
        optimizer.ask()


def test_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "nevergrad", None)
    monkeypatch.delitem(sys.modules, "closedloop.optimizers.nevergrad_names", raising=False)
    with pytest.raises(MissingExtraError, match=r"pip install 'closedloop\[nevergrad\]'"):
        load_optimizer("nevergrad:CMA", Space(4))


@pytest.mark.parametrize("method", ["CSEC", "NeuralMetaModelLogNormal", "CMAILL", "BigLognormalDiscreteOnePlusOne"])
def test_what_draws_from_the_global_state_repeats_itself_too(method):
    space = Space(5)
    with untouched_randomness():
        one, other, third = (load_optimizer(f"nevergrad:{method}", space, 3, images=60, population=6) for _ in range(3))
        asked = trail(one, hill(space), 3)
        assert_same(trail(other, hill(space), 2), asked[:2])
        third.restore(through_a_file(other.state()))
        assert_same(trail(third, hill(space), 1), asked[2:])


@pytest.mark.parametrize(
    ("method", "error", "message"),
    [
        ("AXP", MissingExtraError, "'AXP' needs the package 'ax', which is not installed"),
        ("PCABO", MissingExtraError, "'PCABO' needs the package 'bayes_optim', which is not installed"),
        ("BayesOptimBO", MissingExtraError, "needs the package 'bayes_optim'"),
        ("DS14", InvalidArgumentError, "'DS14' cannot be built for 5 dimensions, 60 codes and 6 at a time"),
        ("BAR4", InvalidArgumentError, "'BAR4' cannot be built for .*; take another method"),
        ("CmaFmin2", InvalidArgumentError, "'CmaFmin2' does not repeat itself"),
    ],
)
def test_names_that_cannot_be_used_say_why(method, error, message):
    with pytest.raises(error, match=message):
        load_optimizer(f"nevergrad:{method}", Space(5), 3, images=60, population=6)


@pytest.mark.parametrize("seed", [2**32 - 1, 2**32, 2**63, 2**100])
def test_seeds_of_any_size(seed):
    one, other = (load_optimizer("nevergrad:CMA", Space(5), s, population=6).ask() for s in (seed, seed + 1))
    assert not np.array_equal(one, other)


def test_a_failure_while_it_is_told_says_so(monkeypatch):
    optimizer = load_optimizer("nevergrad:CMA", Space(4), population=6)
    codes = optimizer.ask()

    def fails(*_):
        raise KeyError("heap")

    monkeypatch.setattr(optimizer._inner, "tell", fails)
    with pytest.raises(OptimizerError, match=r"nevergrad:CMA: nevergrad failed after 0 codes .*KeyError: 'heap'"):
        optimizer.tell(codes, np.zeros(6))


def test_a_run_whose_codes_were_others_is_refused():
    optimizer, again = (load_optimizer("nevergrad:TwoPointsDE", Space(5), seed, population=6) for seed in (1, 2))
    trail(optimizer, hill(Space(5)), 3)
    with pytest.raises(InvalidArgumentError, match="expected the codes of the saved state, got others"):
        again.restore(through_a_file(optimizer.state()))


def test_a_run_of_an_older_version_goes_on():
    """Its draws came from the plain seed, and its state does not say how."""
    with streams(1):
        older, again = (load_optimizer("nevergrad:CMA", Space(5), 3, population=6) for _ in range(2))
    trail(older, hill(Space(5)), 3)
    state = {k: v for k, v in older.state().items() if k not in ("stream", "shown")}
    now = load_optimizer("nevergrad:CMA", Space(5), 3, population=6)
    now.restore(through_a_file(state))
    again.restore(through_a_file(state))
    assert_same(trail(now, hill(Space(5)), 3), trail(older, hill(Space(5)), 3))


@pytest.mark.long
def test_every_name_works_repeats_itself_or_says_why_not(counted):
    """Of the registry's 542 names as many as asked for, from all over it."""
    names = sorted(nevergrad.optimizers.registry)
    space = Space(5)
    for name in names[:: max(1, len(names) // counted(quick=5, reduced=30, full=len(names)))]:
        with suppress_named(name):
            one, other = (load_optimizer(f"nevergrad:{name}", space, 3, images=30, population=1) for _ in range(2))
            asked = trail(one, hill(space), 8)
            trail(other, hill(space), 4)
            again = load_optimizer(f"nevergrad:{name}", space, 3, images=30, population=1)
            again.restore(through_a_file(other.state()))
            assert_same(trail(again, hill(space), 4), asked[4:])


@contextmanager
def suppress_named(name):
    """An error that names the method is fine; any other is not."""
    try:
        yield
    except ClosedLoopError as error:
        if name not in str(error):
            raise
