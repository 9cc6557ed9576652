from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from closedloop.gradients.sampling import draws, lens, resample
from closedloop.images.resizing import resize_matrix


def test_draws_take_one_number_and_pictures_do_not_depend_on_each_other():
    few, many = np.random.default_rng(0), np.random.default_rng(0)
    first = [own.random() for own in draws(few, 2)]
    second = [own.random() for own in draws(many, 5)]
    assert first == second[:2]
    assert len(set(second)) == 5
    assert few.bit_generator.state == many.bit_generator.state
    assert [own.random() for own in draws(few, 2)] != first


@given(size=st.integers(1, 40), new=st.integers(1, 40))
def test_a_lens_on_the_whole_axis_is_the_resizing_of_the_house(size, new):
    weights, first = lens(size, 0, size, new)
    assert first == 0
    np.testing.assert_allclose(weights, resize_matrix(size, new), atol=1e-6)


@given(size=st.integers(1, 30), low=st.floats(-50, 50), side=st.floats(0.1, 60), new=st.integers(1, 20))
def test_a_lens_averages_pixels_that_there_are(size, low, side, new):
    weights, first = lens(size, low, side, new)
    assert 0 <= first <= first + weights.shape[1] <= size
    centers = low + (np.arange(new) + 0.5) * side / new - 0.5
    inside = (centers >= -0.5) & (centers <= size - 0.5)
    np.testing.assert_allclose(weights.sum(1), inside, atol=1e-9)
    assert weights.min(initial=0) >= 0
    positions = weights @ np.arange(first, first + weights.shape[1])
    width = max(side / new, 1)
    middle = (centers >= width) & (centers <= size - 1 - width)
    np.testing.assert_allclose(positions[middle], centers[middle], atol=0.5 * width if width > 1 else 1e-9)


def test_a_box_of_whole_pixels_is_cut_out():
    picture = torch.from_numpy(np.random.default_rng(0).random((3, 9, 12)))
    torch.testing.assert_close(resample(picture, (2, 3, 5, 6), (5, 6)), picture[:, 2:7, 3:9])
    beyond = resample(picture, (-2, 7, 5, 8), (5, 8), 0.25)
    torch.testing.assert_close(beyond[:, 2:, :5], picture[:, :3, 7:])
    assert (beyond[:, :2] == 0.25).all()
    assert (beyond[:, :, 5:] == 0.25).all()
    assert (resample(picture, (50, 50, 5, 5), (3, 3), 0.25) == 0.25).all()


def test_shrinking_averages():
    picture = torch.zeros(3, 64, 64, dtype=torch.float64)
    picture[:, ::2] = 1  # the finest grating there is
    seen = resample(picture, (0, 0, 64, 64), (16, 16))
    assert (seen - 0.5).abs().max() < 0.05


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_type_is_kept(dtype):
    assert resample(torch.zeros(2, 3, 8, 8, dtype=dtype), (1, 1, 4, 4), (6, 6)).dtype == dtype
