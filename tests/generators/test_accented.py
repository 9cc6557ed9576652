from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit, logit

from closedloop.errors import InvalidArgumentError
from closedloop.generators import Accented, load_generator
from closedloop.generators.fourier import CLAMP, color_matrix, decorrelated
from closedloop.images.eight_bit import quantize, write_png
from closedloop.images.sets import natural_references
from closedloop.testing import GeneratorContract


def photograph(size: int = 16) -> np.ndarray:
    return natural_references(size).images[7]


class TestAccentedContract(GeneratorContract):
    tolerance = 5e-5

    def make(self):
        return Accented(photograph(17), 17)

    def small(self):
        return Accented(photograph(5), 5)


@pytest.mark.parametrize("size", [3, 8, 15, 16])
def test_code_0_is_the_photograph(size):
    picture = photograph(size)
    generator = Accented(picture, size)
    (drawn,) = generator(generator.space.center[None])
    np.testing.assert_allclose(drawn, np.clip(picture, CLAMP, 1 - CLAMP), atol=1e-6)
    np.testing.assert_array_equal(quantize(drawn), picture)
    (exact,) = generator.forward(torch.zeros(1, generator.space.dim, dtype=torch.float64)).numpy()
    np.testing.assert_allclose(exact, np.clip(picture, CLAMP, 1 - CLAMP), atol=1e-6)


def test_coordinates_are_phases_and_gains():
    generator = Accented(photograph(15), 15)
    count = (generator.space.dim // 3 - 1) // 2
    codes = 0.7 * generator.space.sample(2, np.random.default_rng(0))
    phases, gains = np.split(codes.reshape(2, 3, -1), [count], axis=2)
    ky, kx = generator._fourier.frequencies.T
    images = generator.forward(torch.from_numpy(codes)).numpy()
    spectra = np.fft.fft2(np.einsum("kc,ncyx->nkyx", np.linalg.inv(color_matrix()), logit(images)))[..., ky, kx]
    seed = np.fft.fft2(decorrelated(photograph(15)[None], 15))[..., ky, kx]
    ratio = spectra / seed
    np.testing.assert_allclose(np.abs(ratio), expit(5 + gains) / expit(5), rtol=1e-4)
    np.testing.assert_allclose(ratio[..., 1:] / np.abs(ratio[..., 1:]), np.exp(1j * phases), atol=1e-4)


def test_amplitudes_cannot_grow():
    generator = Accented(photograph(15), 15)
    code = generator.space.center.copy()[None]
    code[:, :] = 50
    gains = generator._gains(code)
    code.reshape(1, 3, -1)[..., : gains.shape[2] - 1] = 0
    before, after = (logit(generator(c).astype(float)) for c in (0 * code, code))
    np.testing.assert_allclose(after, before / expit(5), atol=1e-3)


def test_from_a_file(tmp_path):
    path = tmp_path / "photograph.png"
    write_png(path, photograph(20))
    generator = load_generator(f"accented:{path}", resolution=20)
    np.testing.assert_array_equal(quantize(generator(generator.space.center[None]))[0], photograph(20))
    again = load_generator(**generator.recipe)
    codes = generator.space.sample(1, np.random.default_rng(0))
    np.testing.assert_array_equal(again(codes), generator(codes))
    assert Accented(photograph(), 16).recipe is None


@pytest.mark.parametrize(
    ("image", "resolution", "message"),
    [
        ("nowhere.png", 16, "images: cannot read nowhere.png as a PNG image"),
        (np.zeros((2, 3, 8, 8)), 8, "image: expected one image, got 2"),
        (np.full((3, 8, 8), 255.0), 8, r"image: expected RGB in \[0, 1\]"),
        (np.zeros((8, 8)), 8, "image: expected shape"),
        (np.zeros((3, 8, 8)), 2, "resolution: expected at least 3 pixels, got 2"),
    ],
)
def test_bad_arguments(image, resolution, message):
    with pytest.raises(InvalidArgumentError, match=message):
        Accented(image, resolution)
