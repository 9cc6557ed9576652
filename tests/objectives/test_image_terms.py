"""Terms that look at the images: known values, any size, finite gradients."""

from __future__ import annotations

import numpy as np
import pytest

from closedloop.errors import InvalidArgumentError
from closedloop.objectives import L1, L2, AlphaNorm, Sharpness, TotalVariation

RESPONSES = np.zeros((1, 2))
TERMS = [TotalVariation(), TotalVariation(1), AlphaNorm(), L1(), L2(), Sharpness()]


def uniform(value, size=(8, 8)):
    return np.full((1, 3, *size), value)


def stripes():
    return np.tile(np.array([0.0, 1.0] * 4), (1, 3, 8, 1))


def ramp():
    return np.tile(np.linspace(0, 0.7, 8), (1, 3, 8, 1))


@pytest.mark.parametrize(
    ("term", "images", "expected"),
    [
        (TotalVariation(), uniform(0.3), 0),
        (TotalVariation(1), uniform(0.3), 0),
        (TotalVariation(), stripes(), 1),
        (TotalVariation(), ramp(), 0.1**2),
        (TotalVariation(1), ramp(), 0.1),
        (TotalVariation(3), ramp(), 0.1**3),
        (TotalVariation(1), (ramp() + ramp().swapaxes(2, 3)) / 2, np.hypot(0.05, 0.05)),
        (L1(), stripes(), 0.5),
        (L1(0), uniform(0.25), 0.25),
        (L2(), stripes(), 0.25),
        (L2(0.25), uniform(0.75), 0.25),
        (AlphaNorm(), stripes(), 1),
        (AlphaNorm(4), uniform(0.75), 0.5**4),
        (Sharpness(), uniform(0.3), 0),
        (Sharpness(), stripes(), 0.25),
        (Sharpness(), ramp(), 2 / 8 * 0.05**2),
    ],
)
def test_known_values(term, images, expected):
    assert term(RESPONSES, images)[0] == pytest.approx(expected, abs=1e-4 if term == TotalVariation(1) else 1e-8)


@pytest.mark.parametrize("term", [L1(), L2(), AlphaNorm()])
def test_weights_do_not_depend_on_the_resolution(term):
    image = np.random.default_rng(0).uniform(size=(1, 3, 8, 8))
    large = image.repeat(4, axis=2).repeat(4, axis=3)
    np.testing.assert_allclose(term(RESPONSES, large), term(RESPONSES, image))


@pytest.mark.parametrize("term", TERMS, ids=lambda term: term.describe())
@pytest.mark.parametrize("images", [uniform(0.5), uniform(0.0), stripes()])
def test_gradients_are_finite_and_right(term, images):
    torch = pytest.importorskip("torch")
    x = torch.tensor(images, requires_grad=True)
    (found,) = torch.autograd.grad(term(torch.zeros(1, 2), x).sum(), x)
    assert torch.isfinite(found).all()
    step = 1e-3 * np.random.default_rng(0).normal(size=images.shape)
    ahead = term(RESPONSES, images + step) - term(RESPONSES, images - step)
    if term != L1() or images.max() != 0.5:  # where the absolute value has its kink there is no slope
        np.testing.assert_allclose(ahead / 2, (found.numpy() * step).sum(), rtol=2e-2, atol=1e-8)


def test_odd_sizes():
    for size in ((1, 5), (5, 1), (1, 1)):
        assert Sharpness()(RESPONSES, uniform(0.5, size)).tolist() == [0]
        with pytest.raises(InvalidArgumentError, match="images: expected 2 pixels or more in height and width"):
            TotalVariation()(RESPONSES, uniform(0.5, size))


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (1, 2, 4, 4), (3, 4, 4)])
def test_bad_images(shape):
    with pytest.raises(InvalidArgumentError, match=r"images: expected shape \(1, 3, h, w\), got"):
        L1()(RESPONSES, np.zeros(shape))


def test_one_kind_of_array():
    torch = pytest.importorskip("torch")
    with pytest.raises(InvalidArgumentError, match="both as numpy arrays or both as torch tensors, got Tensor and nda"):
        L1()(RESPONSES, torch.zeros(1, 3, 4, 4))
