"""Plug and play: the three forces by themselves, and both gradients of the condition."""

import inspect

import numpy as np
import pytest
import torch

from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import Space
from closedloop.objectives import LogProbability
from closedloop.optimizers import PPGN
from closedloop.testing import OptimizerContract

SPACE = Space(6)


class TestPPGN(OptimizerContract):
    def make(self, space, seed):
        return PPGN(space, seed, reconstruct=lambda codes: 0.999 * codes, rate=0.3, last_rate=1e-3, steps=350)


def step(gradient, start, **options):
    """The step that is taken from a code along a gradient."""
    options = {"reconstruct": lambda codes: codes, "steps": 5, "rate": 0.5, "regularizers": (), "unit": 1.0, **options}
    optimizer = PPGN(SPACE, start=start, **options)
    codes = optimizer.ask()
    optimizer.tell(codes, np.zeros(1), gradient[None])
    return (optimizer.ask() - codes)[0]


START = np.random.default_rng(1).standard_normal(6)
GRADIENT = np.random.default_rng(2).standard_normal(6)


def test_a_code_that_its_encoder_gives_back_feels_no_prior():
    expected = 0.5 * GRADIENT / np.abs(GRADIENT).mean()
    np.testing.assert_allclose(step(GRADIENT, START, epsilons=(7.0, 1.0, 0.0)), expected)


def test_the_prior_alone_goes_to_the_reconstruction():
    moved = step(GRADIENT, START, epsilons=(1.0, 0.0, 0.0), reconstruct=lambda codes: 0.5 * codes)
    np.testing.assert_allclose(moved, -0.5 * START / np.abs(START).mean())


def test_forces_add_before_the_step_gets_its_size():
    moved = step(GRADIENT, START, epsilons=(0.2, 1.0, 0.0), reconstruct=np.zeros_like)
    d = GRADIENT - 0.2 * START
    np.testing.assert_allclose(moved, 0.5 * d / np.abs(d).mean())


def test_only_ratios_matter_and_the_published_noise_is_none():
    one = step(GRADIENT, START, epsilons=(1e-5, 1.0, 1e-17), reconstruct=np.zeros_like)
    np.testing.assert_allclose(step(GRADIENT, START, epsilons=(1e-2, 1e3, 0.0), reconstruct=np.zeros_like), one)
    noisy = step(GRADIENT, START, epsilons=(0.0, 1.0, 1.0))
    assert not np.allclose(noisy, one)
    assert np.abs(noisy).mean() == pytest.approx(0.5)


def test_codes_are_clipped_as_published():
    published = inspect.unwrap(PPGN.__init__).__kwdefaults__["regularizers"]
    far = step(np.ones(6), np.full(6, 2.9), rate=1.0, regularizers=published)
    np.testing.assert_allclose(far, 0.1)


def test_the_exact_condition_and_the_published_shortcut():
    a = np.random.default_rng(3).standard_normal((5, 6))
    h = np.random.default_rng(4).standard_normal(6)

    def gradient(exact):
        x = torch.tensor(h, requires_grad=True)
        (back,) = torch.autograd.grad(LogProbability(2, exact=exact)((torch.tensor(a) @ x)[None]).sum(), x)
        return back.numpy()

    def score(x):
        return LogProbability(2)((a @ x)[None])[0]

    numeric = [(score(h + 1e-6 * e) - score(h - 1e-6 * e)) / 2e-6 for e in np.eye(6)]
    np.testing.assert_allclose(gradient(True), numeric, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(gradient(False), (1 - np.exp(score(h))) * a[2], rtol=1e-9)


@pytest.mark.parametrize("epsilons", [(0, 0, 0), (1, 1), (-1, 1, 0), (np.nan, 1, 0)])
def test_impossible_forces_are_refused(epsilons):
    with pytest.raises(InvalidArgumentError, match="epsilons: expected three numbers of at least 0, not all 0"):
        PPGN(SPACE, reconstruct=np.zeros_like, epsilons=epsilons)
