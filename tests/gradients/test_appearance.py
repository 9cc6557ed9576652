from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from closedloop.errors import InvalidArgumentError
from closedloop.gradients.appearance import Blur, ColorJitter, ColorOffset, Noise


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(("std", "uniform"), [(0.2, 0.0), (0.0, 0.3), (0.04, 0.02)])
def test_noise_has_its_size_and_no_mean(std, uniform):
    noise = (Noise(std, uniform)(torch.full((4, 3, 80, 80), 0.5), 0, rng()) - 0.5).double()
    wanted = np.sqrt(std**2 + uniform**2 / 3)
    assert noise.std().item() == pytest.approx(wanted, rel=0.02)
    assert abs(noise.mean().item()) < 0.02 * wanted
    if std == 0:
        assert noise.abs().max().item() == pytest.approx(uniform, rel=0.01)
    values = noise.flatten(2).reshape(12, -1).numpy()
    assert np.abs(np.corrcoef(values)[np.triu_indices(12, 1)]).max() < 0.06


def test_color_jitter_is_one_line_for_each_channel():
    seen = ColorJitter(0.5, 0.7)(torch.tensor([0.0, 1.0]).repeat(500, 3, 4, 1).double(), 0, rng())
    scale = seen[:, :, 0, 1] - seen[:, :, 0, 0]
    shift = -seen[:, :, 0, 0] / scale
    assert torch.equal(seen, seen[:, :, :1].expand_as(seen))
    for values, limit in ((shift, 0.5), (scale.log(), 0.7)):
        assert values.abs().max() <= limit + 1e-9
        assert values.std().item() == pytest.approx(limit / 3**0.5, rel=0.05)
        assert abs(values.mean().item()) < 0.1 * limit
    together = torch.corrcoef(torch.cat([shift, scale.log()], 1).T)
    assert (together - torch.eye(6)).abs().max() < 0.15


@pytest.mark.parametrize(("step", "left"), [(0, 1.0), (100, 0.75), (400, 0.0), (900, 0.0)])
def test_color_offset_fades(step, left):
    seen = ColorOffset(0.5, 400)(torch.zeros(800, 3, 2, 2), step, rng())
    assert torch.equal(seen, seen[:, :, :1, :1].expand_as(seen))
    assert seen[:, :, 0, 0].std().item() == pytest.approx(0.5 * left, rel=0.06, abs=1e-12)


@pytest.mark.parametrize("sigma", [0.6, 2.0, 30.0])
def test_blur_is_scipys(sigma):
    images = rng().random((2, 3, 9, 14))
    expected = gaussian_filter(images, (0, 0, sigma, sigma), mode="reflect")
    np.testing.assert_allclose(Blur(sigma)(torch.from_numpy(images), 0, rng()), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Noise(-0.1), "std: expected a finite number of at least 0, got -0.1"),
        (lambda: Noise(0.1, "much"), "uniform: expected a finite number of at least 0, got 'much'"),
        (lambda: ColorJitter(float("inf")), "shift: expected a finite number of at least 0, got inf"),
        (lambda: ColorOffset(0.5, 0), "steps: expected a whole number of at least 1, got 0"),
        (lambda: Blur(True), "sigma: expected a finite number of at least 0, got True"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(InvalidArgumentError, match=message):
        make()
