import numpy as np
import pytest
import torch

from closedloop.errors import InvalidArgumentError
from closedloop.generators import Fourier, Native, Pixels, invert


class Blind:
    """Fourier images without gradient and without encoder."""

    name = "blind"

    def __init__(self):
        self._inner = Fourier(16, 1.5)
        self.space, self.resolution = self._inner.space, 16

    def __call__(self, codes):
        return self._inner(codes)


class Unread:
    """A generator with a gradient and without an encoder."""

    name = "unread"

    def __init__(self, inner):
        self._inner, self.space, self.resolution = inner, inner.space, inner.resolution

    def __call__(self, codes):
        return self._inner(codes)

    def forward(self, codes):
        return self._inner.forward(codes)


def images_of(generator, n=2):
    return generator(generator.space.sample(n, np.random.default_rng(3)))


def test_gradient_finds_the_image_of_a_code():
    generator = Unread(Fourier(32, 3))
    found = invert(generator, images_of(generator), steps=300)
    assert found.method == "gradient"
    assert found.error.max() < 0.04
    np.testing.assert_allclose(np.linalg.norm(found.codes, axis=1), np.sqrt(generator.space.dim), rtol=1e-5)


def test_gradient_in_a_bounded_space_reaches_the_image_itself():
    images = np.random.default_rng(0).random((2, 3, 4, 4), dtype=np.float32)
    found = invert(Unread(Pixels(4)), images, "gradient", steps=400)
    np.testing.assert_allclose(found.images, images, atol=0.01)
    assert found.codes.min() >= 0
    assert found.codes.max() <= 1


def test_evolution_needs_neither_gradient_nor_encoder():
    generator = Blind()
    image = images_of(generator, 1)
    start = np.sqrt(((generator(generator.space.center[None]) - image) ** 2).mean())
    found = invert(generator, image, steps=60)
    assert found.method == "evolution"
    assert found.error[0] < 0.4 * start
    assert np.array_equal(invert(generator, image, steps=60).codes, found.codes)


def test_an_exact_encoder_leaves_nothing_to_do():
    for generator in (Pixels(8), Fourier(16, 3), Fourier(16, 3, shell=False)):
        images = images_of(generator)
        assert invert(generator, images, "encoder").error.max() < 1e-5
        assert invert(generator, images, steps=2).error.max() < 1e-5


def test_encoder_then_gradient_then_better():
    generator = Native(engine="eager")
    images = images_of(generator)
    first = invert(generator, images, "encoder")
    better = invert(generator, images, "gradient", steps=15)
    np.testing.assert_array_equal(first.codes, generator.encode(images))
    assert (better.error < first.error).all()


def test_features_steer_the_gradient():
    generator = Unread(Fourier(16, 2))
    images = images_of(generator)

    def brightness(x):
        return x.mean(dim=(1, 2, 3))[:, None]

    plain = invert(generator, images, steps=12)
    steered = invert(generator, images, steps=12, features=brightness, feature_weight=1000.0)
    off = [np.abs(f.images.mean(axis=(1, 2, 3)) - images.mean(axis=(1, 2, 3))).max() for f in (plain, steered)]
    assert off[1] < off[0]


def test_the_error_is_that_of_the_images_it_returns():
    generator = Fourier(16, 2)
    images = np.random.default_rng(0).random((3, 3, 16, 16), dtype=np.float32)
    found = invert(generator, images, steps=2)
    np.testing.assert_allclose(found.images, generator(found.codes), atol=1e-6)
    np.testing.assert_allclose(found.error, np.sqrt(((found.images - images) ** 2).mean(axis=(1, 2, 3))), rtol=1e-5)


def test_no_image():
    found = invert(Fourier(16, 2), np.empty((0, 3, 16, 16), np.float32))
    assert found.codes.shape == (0, Fourier(16, 2).space.dim)
    assert found.error.shape == (0,)


def test_randomness_of_torch_is_left_alone():
    before = torch.get_rng_state()
    invert(Fourier(16, 2), images_of(Fourier(16, 2)), steps=2)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("method", "error"), [("encoder", "no encode"), ("gradient", "no forward")])
def test_a_method_needs_its_capability(method, error):
    with pytest.raises(InvalidArgumentError, match=error):
        invert(Blind(), np.zeros((1, 3, 16, 16), np.float32), method)


def test_bad_arguments():
    image = np.zeros((1, 3, 16, 16), np.float32)
    with pytest.raises(InvalidArgumentError, match="no method 'gradent'"):
        invert(Blind(), image, "gradent")
    with pytest.raises(InvalidArgumentError, match="steps"):
        invert(Blind(), image, steps=-1)
    with pytest.raises(InvalidArgumentError, match="images"):
        invert(Blind(), image[0])
