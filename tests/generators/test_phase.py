"""Phases as codes: the amplitude spectrum is exactly the one that is held."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logit

from closedloop.errors import InvalidArgumentError
from closedloop.generators import Fourier, PhaseOnly, load_generator
from closedloop.generators.fourier import color_matrix
from closedloop.images.eight_bit import quantize, write_png
from closedloop.interfaces import Encoding
from closedloop.testing import GeneratorContract


def photographs(n: int = 4, size: int = 16) -> np.ndarray:
    """Coloured clouds with a spectrum of their own, in 8 bits."""
    generator = Fourier(size, cutoff=None, decay=1.5)
    return quantize(generator(generator.space.sample(n, np.random.default_rng(5))))


class TestPhaseContract(GeneratorContract):
    def make(self):
        return PhaseOnly(13, cutoff=4.0, contrast=0.7)

    def small(self):
        return PhaseOnly(5, cutoff=1.5)


PHOTOGRAPHS = photographs()


class TestPhotographsContract(GeneratorContract):
    tolerance = 1e-4

    def make(self):
        return PhaseOnly(16, cutoff=None, magnitude=PHOTOGRAPHS)


class TestStandardizedContract(GeneratorContract):
    tolerance = 1e-4

    def make(self):
        return PhaseOnly(13, cutoff=4.0, standardize=True)

    def small(self):
        return PhaseOnly(5, cutoff=1.5, standardize=True)


def channels(generator, codes):
    """Decorrelated channels before the sigmoid, ``(n, 3, h, w)``, from the images in double precision."""
    import torch

    pictures = generator.forward(torch.from_numpy(codes)).numpy()
    return np.einsum("kc,ncyx->nkyx", np.linalg.inv(color_matrix()), logit(pictures))


@pytest.mark.parametrize("resolution", [8, 9, 16])
@pytest.mark.parametrize("cutoff", [3.0, None])
@pytest.mark.parametrize("natural", [False, True])
def test_amplitudes_hold_exactly_and_phases_are_the_code(resolution, cutoff, natural):
    magnitude = photographs(size=resolution) if natural else None
    generator = PhaseOnly(resolution, cutoff, magnitude=magnitude, decay=1.3)
    codes = generator.space.sample(3, np.random.default_rng(0))
    spectrum = np.fft.fft2(channels(generator, codes))
    ky, kx = Fourier(resolution, cutoff).frequencies[1:].T
    found = spectrum[:, :, ky, kx]
    phases = codes.reshape(3, 3, -1)
    np.testing.assert_allclose(found / np.abs(found), np.exp(1j * phases), atol=1e-6)
    np.testing.assert_allclose(np.abs(found), np.broadcast_to(np.abs(found[:1]), found.shape), rtol=1e-6)
    if natural:
        wanted = np.abs(np.fft.fft2(np.einsum("kc,ncyx->nkyx", np.linalg.inv(color_matrix()), magnitude))).mean(0)
        wanted = wanted[:, ky, kx]
    else:
        wanted = np.broadcast_to(1 / np.hypot(ky, kx) ** 1.3, (3, len(ky)))
    ratio = np.abs(found[0]) / wanted
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-6)
    rest = np.ones((resolution, resolution), bool)
    rest[ky, kx] = rest[-ky, -kx] = False
    assert np.abs(spectrum[:, :, rest]).max() < 1e-6 * np.abs(found).max()


@pytest.mark.parametrize("contrast", [0.5, 1.0])
@pytest.mark.parametrize("natural", [False, True])
def test_every_image_has_the_contrast(contrast, natural):
    generator = PhaseOnly(16, 5.0, magnitude=photographs() if natural else None, contrast=contrast)
    codes = generator.space.sample(4, np.random.default_rng(0))
    rgb = np.einsum("ck,nkyx->ncyx", color_matrix(), channels(generator, codes))
    np.testing.assert_allclose(np.sqrt(rgb.var((2, 3)).mean(1)), contrast, rtol=1e-2)
    np.testing.assert_allclose(rgb.mean((2, 3)), 0, atol=1e-6)


def test_a_full_turn_changes_nothing():
    generator = PhaseOnly(16, 5.0)
    codes = generator.space.sample(2, np.random.default_rng(0))
    turns = 2 * np.pi * np.random.default_rng(1).integers(-3, 4, codes.shape)
    np.testing.assert_allclose(generator(codes + turns), generator(codes), atol=1e-4)


def test_standardized_phases_are_the_code_without_its_mean_and_length():
    plain, standard = PhaseOnly(16, 5.0), PhaseOnly(16, 5.0, standardize=True)
    codes = standard.space.sample(3, np.random.default_rng(0))
    expected = (codes - codes.mean(1, keepdims=True)) / codes.std(1, keepdims=True)
    np.testing.assert_allclose(standard(codes), plain(expected), atol=1e-6)
    np.testing.assert_allclose(standard(7 * codes + 2), standard(codes), atol=1e-6)
    assert np.isfinite(standard(np.zeros((1, standard.space.dim)))).all()
    assert load_generator(**standard.recipe).standardize
    with pytest.raises(InvalidArgumentError, match="standardize: expected False for images to be encoded"):
        standard.encode(photographs())


def test_prior_is_uniform_on_the_circle():
    drawn = PhaseOnly(16, 5.0).space.sample(2000, np.random.default_rng(0)).ravel()
    assert abs(np.exp(1j * drawn).mean()) < 0.01


def test_photographs_by_name(tmp_path):
    for i, picture in enumerate(photographs()):
        write_png(tmp_path / f"{i}.png", picture)
    by_name = PhaseOnly(16, 4.0, magnitude=tmp_path)
    by_hand = PhaseOnly(16, 4.0, magnitude=photographs())
    codes = by_name.space.sample(2, np.random.default_rng(0))
    np.testing.assert_allclose(by_name(codes), by_hand(codes), atol=1e-6)
    assert by_hand.recipe is None
    np.testing.assert_array_equal(load_generator(**by_name.recipe)(codes), by_name(codes))
    assert by_name.recipe["magnitude"] == str(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 2}, "resolution: expected at least 3 pixels, got 2"),
        ({"magnitude": np.full((2, 3, 8, 8), 0.5)}, "magnitude: expected photographs with contrast, got uniform ones"),
        ({"magnitude": "nowhere"}, "images: expected a folder of images, got nowhere"),
        ({"cutoff": 99}, "cutoff: expected 1 to 16"),
        ({"contrast": 0}, "decay, contrast: expected finite and > 0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        PhaseOnly(**{"resolution": 16, "cutoff": None, **options})


@pytest.mark.parametrize(("resolution", "cutoff"), [(16, 5.0), (15, None), (16, None)])
@pytest.mark.parametrize("natural", [False, True])
def test_phases_come_back_from_their_images(resolution, cutoff, natural):
    generator = PhaseOnly(resolution, cutoff, magnitude=photographs(size=resolution) if natural else None)
    assert isinstance(generator, Encoding)
    codes = generator.space.sample(3, np.random.default_rng(0))
    found = generator.encode(generator(codes))
    assert np.abs(found).max() <= np.pi
    turns = (found - codes) / (2 * np.pi)
    np.testing.assert_allclose(turns, np.rint(turns), atol=1e-4)
    np.testing.assert_allclose(generator(found), generator(codes), atol=1e-4)
    assert generator.encode(generator(codes[:0])).shape == (0, generator.space.dim)


def test_the_phases_of_a_photograph_are_kept():
    picture = photographs(1)
    generator = PhaseOnly(16, None)
    ky, kx = Fourier(16, None).frequencies[1:].T
    logits = np.einsum("kc,ncyx->nkyx", np.linalg.inv(color_matrix()), logit(picture.astype(float)))
    expected = np.angle(np.fft.fft2(logits)[..., ky, kx]).reshape(1, -1)
    np.testing.assert_allclose(np.exp(1j * generator.encode(picture)), np.exp(1j * expected), atol=1e-6)
