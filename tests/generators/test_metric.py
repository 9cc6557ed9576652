from __future__ import annotations

import numpy as np
import pytest
import torch

from closedloop.errors import InvalidArgumentError
from closedloop.generators import Fourier, Pixels, image_metric
from closedloop.interfaces import Space


class Linear:
    """Images that are a linear function of the code, around grey."""

    name, resolution = "linear", 4

    def __init__(self, dim, scale=1e-3):
        self.space = Space(dim)
        self.weights = np.random.default_rng(0).standard_normal((dim, 48)) * scale * np.linspace(0.1, 5, dim)[:, None]

    def __call__(self, codes):
        return (0.5 + codes @ self.weights).reshape(-1, 3, 4, 4).astype(np.float32)

    def forward(self, codes):
        return (0.5 + codes @ codes.new_tensor(self.weights)).reshape(-1, 3, 4, 4)


def test_a_linear_generator_has_a_known_metric():
    generator = Linear(12)
    expected = np.linalg.eigvalsh(generator.weights @ generator.weights.T / 48)[::-1]
    values, axes = image_metric(generator)
    np.testing.assert_allclose(values, expected, rtol=1e-3, atol=1e-4 * expected[0])
    np.testing.assert_allclose(axes @ axes.T, np.eye(12), atol=1e-8)
    np.testing.assert_allclose(((axes[0] @ generator.weights) ** 2).mean(), expected[0], rtol=1e-5)


def test_the_largest_of_many_dimensions():
    generator = Linear(300)
    expected = np.linalg.eigvalsh(generator.weights @ generator.weights.T / 48)[::-1][:10]
    values, axes = image_metric(generator, 10)
    np.testing.assert_allclose(values, expected, rtol=1e-3)
    assert axes.shape == (10, 300)


def test_agrees_with_differences_of_images():
    generator = Fourier(16, cutoff=2, shell=False)
    code = generator.space.sample(1, np.random.default_rng(1))
    values, axes = image_metric(generator, 5, codes=code)
    with torch.no_grad():
        steps = torch.from_numpy(code + 1e-3 * axes), torch.from_numpy(code - 1e-3 * axes)
        change = (generator.forward(steps[0]) - generator.forward(steps[1])).numpy() / 2e-3
    np.testing.assert_allclose((change**2).mean((1, 2, 3)), values, rtol=1e-3)


def test_same_seed_same_metric():
    generator = Fourier(16, cutoff=2)
    one, again, other = (image_metric(generator, 4, seed=seed)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


class NotDifferentiable:
    name, resolution, space = "plain", 4, Space(3)

    def __call__(self, codes):
        return np.zeros((len(codes), 3, 4, 4), np.float32)


@pytest.mark.parametrize(
    ("generator", "options", "message"),
    [
        (NotDifferentiable(), {}, r"generator: expected a differentiable one \(with forward\), got 'plain'"),
        (Pixels(4), {"k": 0}, "k: expected a whole number from 1 to 48, got 0"),
        (Pixels(4), {"codes": np.empty((0, 48))}, "codes: expected at least one"),
    ],
)
def test_bad_arguments(generator, options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        image_metric(generator, **options)
