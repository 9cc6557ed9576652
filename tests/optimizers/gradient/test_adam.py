"""Adam and NAdam, step by step beside torch's own."""

import numpy as np
import pytest
import torch

from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import Space
from closedloop.optimizers import Adam
from closedloop.testing import OptimizerContract


class TestAdam(OptimizerContract):
    def make(self, space, seed):
        return Adam(space, seed, steps=400, rate=0.05)


class TestNesterov(OptimizerContract):
    def make(self, space, seed):
        return Adam(space, seed, steps=400, rate=0.05, nesterov=True, copies=2)


class TestCosine(OptimizerContract):
    def make(self, space, seed):
        return Adam(space, seed, steps=300, rate=0.1, betas=(0.5, 0.99), schedule="cosine")


def scored(x):
    """A crooked hill, for numpy and torch alike."""
    return -((x - 0.3) ** 4).sum() - (x[..., :-1] * x[..., 1:]).sum() ** 2


def with_torch(make, start, steps):
    x = torch.tensor(start, requires_grad=True)
    optimizer, path = make([x]), []
    for _ in range(steps):
        optimizer.zero_grad()
        scored(x).backward()
        optimizer.step()
        path.append(x.detach().numpy().copy())
    return np.array(path)


def ours(start, steps, **options):
    optimizer, path = Adam(Space(len(start)), steps=steps, start=start, unit=1.0, **options), []
    for _ in range(steps):
        codes = optimizer.ask()
        x = torch.tensor(codes, requires_grad=True)
        scored(x).backward()
        optimizer.tell(codes, np.zeros(1), x.grad.numpy())
        path.append(optimizer.ask()[0])
    return np.array(path)


START = np.random.default_rng(0).standard_normal(7)


def test_adam_is_torchs():
    expected = with_torch(lambda p: torch.optim.Adam(p, lr=0.05, maximize=True), START, 60)
    np.testing.assert_allclose(ours(START, 60, rate=0.05), expected, rtol=1e-9)


def test_nadam_is_torchs():
    """Up to the product of its schedule, which torch keeps in float32."""
    expected = with_torch(lambda p: torch.optim.NAdam(p, lr=0.02, maximize=True), START, 60)
    np.testing.assert_allclose(
        ours(START, 60, rate=0.02, nesterov=True), expected, rtol=1e-6
    )  # torch keeps a product in float32


def test_the_cosine_begins_at_the_rate_and_ends_near_zero():
    path = ours(START, 40, rate=0.1, schedule="cosine", betas=(0.0, 0.0))
    steps = np.abs(np.diff(np.vstack([START, path]), axis=0)).max(1)
    np.testing.assert_allclose(steps, 0.05 * (1 + np.cos(np.pi * np.arange(40) / 40)), rtol=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0}, "rate: expected a finite number above 0"),
        ({"epsilon": 0}, "epsilon: expected"),
        ({"betas": (0.9, 1.0)}, "betas: expected two numbers from 0 to below 1"),
        ({"schedule": "linear"}, "schedule: expected 'constant' or 'cosine', got 'linear'"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        Adam(Space(4), **options)
