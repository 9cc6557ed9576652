from __future__ import annotations

import numpy as np
import pytest

from closedloop.errors import InvalidArgumentError
from closedloop.generators import Pixels
from closedloop.testing import GeneratorContract


class TestPixelsContract(GeneratorContract):
    def make(self):
        return Pixels(8)

    def small(self):
        return Pixels(2)

    def red_code(self):
        return np.repeat([1.0, 0.0, 0.0], 64)


def test_the_code_is_the_image():
    codes = np.random.default_rng(0).random((2, 3 * 4 * 4))
    images = Pixels(4)(codes)
    np.testing.assert_array_equal(images.ravel(), codes.astype(np.float32).ravel())
    assert images[1, 2, 3, 1] == np.float32(codes[1, 2 * 16 + 3 * 4 + 1])


def test_space():
    space = Pixels(4).space
    assert (space.dim, space.low, space.high) == (48, 0, 1)
    assert space.sample(2000, np.random.default_rng(0)).std() == pytest.approx(space.scale, rel=0.01)


@pytest.mark.parametrize("resolution", [1, 4097, 2.5, "64", None, True])
def test_bad_resolution(resolution):
    with pytest.raises(InvalidArgumentError, match="resolution: expected 2 to 4096 pixels, got"):
        Pixels(resolution)
