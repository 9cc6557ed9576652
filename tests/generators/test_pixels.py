from __future__ import annotations

import numpy as np
import pytest

from closedloop.errors import InvalidArgumentError
from closedloop.generators import Pixels
from closedloop.interfaces import Encoding
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


def test_an_image_is_encoded_exactly():
    generator, images = Pixels(8), np.random.default_rng(0).random((2, 3, 8, 8), np.float32)
    assert isinstance(generator, Encoding)
    codes = generator.space.check(generator.encode(images))
    assert codes.dtype == np.float64
    np.testing.assert_array_equal(generator(codes), images)
    np.testing.assert_array_equal(
        generator(generator.encode(np.kron(images, np.ones((1, 1, 2, 2))))).shape, images.shape
    )
    assert generator.encode(images[:0]).shape == (0, generator.space.dim)


def test_what_is_no_image_is_not_encoded():
    with pytest.raises(InvalidArgumentError, match=r"images: expected RGB in \[0, 1\]"):
        Pixels(8).encode(np.full((1, 3, 8, 8), 255.0))


class TestGreyPixelsContract(GeneratorContract):
    def make(self):
        return Pixels(5, channels=1)


def test_grey_pixels_encode_luminance():
    grey, colour = Pixels(4, channels=1), np.random.default_rng(0).random((2, 3, 4, 4), dtype=np.float32)
    np.testing.assert_allclose(
        grey(grey.encode(colour))[:, 0], np.tensordot(colour, (0.299, 0.587, 0.114), (1, 0)), atol=1e-6
    )
    assert "channels" not in Pixels(4).recipe  # runs of earlier versions know their generator by it
    with pytest.raises(InvalidArgumentError, match=r"channels: expected 3 .* got 2"):
        Pixels(4, channels=2)
