"""Fourier coefficients: against a slow sum of cosines, and against the statistics they promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit, logit

from closedloop.errors import InvalidArgumentError
from closedloop.generators import Fourier
from closedloop.generators.fourier import CLAMP, color_matrix, decorrelated, half_plane
from closedloop.images.resizing import resize_images
from closedloop.images.sets import natural_references
from closedloop.interfaces import Encoding
from closedloop.testing import GeneratorContract

LUCID = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]]) / 0.461952


class TestFourierContract(GeneratorContract):
    def make(self):
        return Fourier(17, cutoff=5.0, decay=1.2, contrast=0.8)

    def small(self):
        return Fourier(5, cutoff=1.5)

    def red_code(self):
        generator = self.make()
        code = np.zeros((3, generator.space.dim // 3))
        code[:, 0] = np.linalg.solve(LUCID, [1.0, -1.0, -1.0])
        return code.ravel()


class TestAllFrequencies(GeneratorContract):
    def make(self):
        return Fourier(8, cutoff=None, shell=False)


def slow(generator, code):
    """The image as a sum of cosines and sines, term by term, in float64."""
    size = generator.resolution
    if generator.shell:
        code = code * np.sqrt(len(code)) / np.linalg.norm(code)
    y, x = np.mgrid[:size, :size] / size
    waves, amplitudes = [], []
    for ky, kx in generator.frequencies:
        amplitude = 1 / max(np.hypot(ky, kx), 1.0) ** generator.decay
        waves.append([amplitude * np.cos(2 * np.pi * (ky * y + kx * x))])
        amplitudes.append(amplitude)
        if (ky, kx) != (0, 0):
            waves[-1].append(amplitude * np.sin(2 * np.pi * (ky * y + kx * x)))
    basis = np.stack([w[0] for w in waves] + [w[1] for w in waves[1:]])
    variance = np.square(amplitudes).sum() * (LUCID**2).sum() / 3
    channels = np.tensordot(code.reshape(3, -1), basis, 1) * generator.contrast / np.sqrt(variance)
    return expit(np.tensordot(LUCID, channels, 1))


@pytest.mark.parametrize(
    "options",
    [
        (16, 4.0, 1.0, 1.0),
        (17, 4.5, 1.0, 2.0),
        (9, None, 1.0, 1.0),
        (8, None, 1.5, 1.0),
        (24, 3.0, 2.0, 0.5),
        (2, None, 1.0, 1.0),
    ],
)
@pytest.mark.parametrize("shell", [True, False])
def test_against_a_slow_sum_of_cosines(options, shell):
    generator = Fourier(*options, shell=shell)
    codes = generator.space.sample(3, np.random.default_rng(0))
    np.testing.assert_allclose(generator(codes), [slow(generator, c) for c in codes], atol=1e-5)


@pytest.mark.parametrize(("resolution", "cutoff"), [(70, None), (71, None), (96, 40.0)])
def test_many_frequencies_go_through_a_fast_transform(resolution, cutoff):
    generator = Fourier(resolution, cutoff, shell=False)
    codes = generator.space.sample(2, np.random.default_rng(0))
    fast = generator.forward(torch.from_numpy(codes)).numpy()
    np.testing.assert_allclose(fast, generator(codes), atol=1e-5)


def test_color_matrix_is_lucids():
    np.testing.assert_allclose(color_matrix(), LUCID, rtol=1e-5)
    rows = [[0.562829, 0.194825, 0.043295], [0.584476, 0, -0.108236], [0.584476, -0.194825, 0.064942]]
    np.testing.assert_allclose(color_matrix(), rows, atol=1e-6)
    back = [[0.57744, 0.57744, 0.57744], [2.771714, -0.307968, -2.36109], [3.118179, -6.120869, 3.118179]]
    np.testing.assert_allclose(np.linalg.inv(color_matrix()), back, atol=2e-6)
    covariance = color_matrix() @ color_matrix().T
    spread = np.sqrt(np.diag(covariance))
    correlation = covariance / np.outer(spread, spread)
    np.testing.assert_allclose(correlation[np.triu_indices(3, 1)], [0.9135, 0.7942, 0.9086], atol=1e-4)


@pytest.mark.parametrize(("cutoff", "resolution"), [(3.0, 16), (2.5, 16), (8.0, 16), (1.0, 4)])
def test_half_plane_has_one_of_each_pair(cutoff, resolution):
    frequencies = [tuple(f) for f in half_plane(cutoff, resolution).tolist()]
    top = (resolution - 1) // 2
    disc = {(y, x) for y in range(-top, top + 1) for x in range(-top, top + 1) if np.hypot(y, x) <= cutoff}
    assert frequencies[0] == (0, 0)
    assert len(set(frequencies)) == len(frequencies)
    mirrored = {(-y, -x) for y, x in frequencies}
    assert set(frequencies) | mirrored == disc
    assert set(frequencies) & mirrored == {(0, 0)}
    assert np.all(np.diff([np.hypot(*f) for f in frequencies]) >= 0)


@pytest.mark.parametrize("resolution", [7, 8])
def test_without_a_cutoff_everything_is_covered(resolution):
    generator = Fourier(resolution, cutoff=None, shell=False)
    odd = 2 * ((resolution - 1) // 2) + 1  # an even size has no sine at its highest frequency
    assert generator.space.dim == 3 * odd**2
    if resolution == odd:
        target = np.random.default_rng(0).uniform(0.1, 0.9, (1, 3, odd, odd))
        basis = logit(generator(np.eye(generator.space.dim))).reshape(generator.space.dim, -1)
        code = np.linalg.solve(basis.T, logit(target).ravel())
        np.testing.assert_allclose(generator(code[None]), target, atol=1e-3)


@pytest.mark.parametrize("decay", [0.0, 0.85, 1.0, 1.5])
def test_prior_has_the_spectrum_of_natural_images(decay):
    generator = Fourier(64, cutoff=24.0, decay=decay)
    logits = logit(generator(generator.space.sample(60, np.random.default_rng(0))).astype(float))
    spectrum = np.sqrt((np.abs(np.fft.fft2(logits)) ** 2).mean((0, 1)))
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(64, 1 / 64), np.fft.fftfreq(64, 1 / 64)))
    inside = (frequency >= 1) & (frequency <= 24)
    slope = np.polyfit(np.log(frequency[inside]), np.log(spectrum[inside]), 1)[0]
    assert slope == pytest.approx(-decay, abs=0.03)
    assert spectrum[frequency > 24.5].max() < 1e-3 * spectrum[inside].min()


@pytest.mark.parametrize("contrast", [0.5, 1.0])
def test_prior_has_the_contrast(contrast):
    generator = Fourier(16, cutoff=6.0, contrast=contrast)
    images = generator(generator.space.sample(1500, np.random.default_rng(0)))
    logits = logit(images.astype(float))
    assert np.sqrt(logits.var(0).mean()) == pytest.approx(contrast, rel=0.03)
    assert images.mean() == pytest.approx(0.5, abs=0.02)


def test_prior_is_mostly_light_and_dark():
    generator = Fourier(16, cutoff=6.0)
    pixels = generator(generator.space.sample(300, np.random.default_rng(0))).transpose(1, 0, 2, 3).reshape(3, -1)
    red, green, _blue = np.corrcoef(pixels)
    assert red[1] > 0.8
    assert green[2] > 0.8
    assert red[2] > 0.6
    assert red[2] < red[1]


def test_on_the_shell_the_length_of_a_code_has_no_effect():
    generator = Fourier(16, cutoff=3.0)
    codes = generator.space.sample(2, np.random.default_rng(0))
    np.testing.assert_allclose(generator(100 * codes), generator(codes), atol=1e-5)
    free = Fourier(16, cutoff=3.0, shell=False)
    assert free(100 * codes).std() > 1.5 * free(codes).std()


def test_the_middle_of_the_prior_is_grey():
    generator = Fourier(8, cutoff=2.0)
    np.testing.assert_array_equal(generator(generator.space.center[None]), np.full((1, 3, 8, 8), 0.5, np.float32))


def test_resolution_changes_the_sampling_only():
    fine, coarse = Fourier(32, cutoff=5.0), Fourier(16, cutoff=5.0)
    codes = fine.space.sample(2, np.random.default_rng(0))
    np.testing.assert_allclose(fine(codes)[..., ::2, ::2], coarse(codes), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 1}, "resolution: expected 2 to 4096 pixels"),
        ({"resolution": 16, "cutoff": 0.5}, "cutoff: expected 1 to 16 cycles per image, or None, got 0.5"),
        ({"resolution": 16, "cutoff": 17}, "cutoff: expected 1 to 16"),
        ({"resolution": 16, "cutoff": np.nan}, "cutoff: expected 1 to 16"),
        ({"resolution": 16, "decay": np.inf}, "decay, contrast: expected finite"),
        ({"resolution": 16, "contrast": 0.0}, "decay, contrast: expected finite and > 0"),
        ({"resolution": 16, "contrast": np.inf}, "decay, contrast: expected finite"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        Fourier(**options)


@pytest.mark.parametrize(("resolution", "cutoff"), [(16, 4.0), (17, None), (16, None), (2, None)])
@pytest.mark.parametrize("shell", [True, False])
def test_codes_come_back_from_their_images(resolution, cutoff, shell):
    generator = Fourier(resolution, cutoff, decay=1.3, contrast=0.8, shell=shell)
    assert isinstance(generator, Encoding)
    codes = generator.space.sample(3, np.random.default_rng(0))
    images = generator(codes)
    found = generator.encode(images)
    np.testing.assert_allclose(generator(found), images, atol=1e-5)
    length = np.linalg.norm(codes, axis=1, keepdims=True) if shell else 1
    np.testing.assert_allclose(found, codes * np.sqrt(generator.space.dim) / length if shell else codes, atol=2e-3)


def test_photographs_come_back_at_odd_sizes():
    images = natural_references(33).images[:20]
    generator = Fourier(33, cutoff=None, shell=False)
    np.testing.assert_allclose(generator(generator.encode(images)), np.clip(images, CLAMP, 1 - CLAMP), atol=1e-4)
    assert np.rint(255 * CLAMP) == 0


def test_an_even_size_loses_its_nyquist_frequency_only():
    generator = Fourier(32, cutoff=None, shell=False)
    images = natural_references(32).images[:20]
    codes = generator.encode(images)
    assert 1e-3 < np.sqrt(((generator(codes) - images) ** 2).mean()) < 0.03
    channels = np.einsum("kc,ncyx->nkyx", np.linalg.inv(color_matrix()), generator.before_sigmoid(codes))
    difference = np.fft.fft2(decorrelated(images, 32) - channels)
    assert np.abs(difference[..., :16, :16]).max() < 1e-3 * np.abs(difference).max()
    assert np.abs(difference[..., 17:, 17:]).max() < 1e-3 * np.abs(difference).max()


def test_an_encoded_image_has_lost_what_is_beyond_the_cutoff():
    image = natural_references(33).images[:1]
    fine, coarse = Fourier(33, None, shell=False), Fourier(33, 5.0, shell=False)
    logits = logit(fine(fine.encode(image)).astype(float)), logit(coarse(coarse.encode(image)).astype(float))
    wide, narrow = (np.fft.fft2(values) for values in logits)
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(33, 1 / 33), np.fft.fftfreq(33, 1 / 33)))
    np.testing.assert_allclose(narrow, wide * (radius <= 5), atol=2e-3)


def test_encoding_takes_any_size_and_no_image_at_all():
    generator = Fourier(16, 3.0, shell=False)
    codes = generator.space.sample(1, np.random.default_rng(0))
    large = Fourier(64, 3.0, shell=False)(codes)
    np.testing.assert_allclose(generator(generator.encode(large)), resize_images(large, 16), atol=0.03)
    assert generator.encode(large[:0]).shape == (0, generator.space.dim)


def test_what_is_transformed_is_the_spectrum_of_a_real_image(monkeypatch):
    """cuFFT gives something else for a first column that is not its own conjugate mirror image; a CPU would forgive."""
    transform, seen = torch.fft.irfft2, []

    def watched(spectrum, **options):
        seen.append(spectrum)
        return transform(spectrum, **options)

    monkeypatch.setattr(torch.fft, "irfft2", watched)
    generator = Fourier(80, None, shell=False)
    generator.forward(torch.randn(2, generator.space.dim, generator=torch.Generator().manual_seed(0)))
    (spectrum,) = seen
    first = spectrum[..., 0]
    assert torch.allclose(first, first.flip(-1).roll(1, -1).conj())


class TestGreyFourierContract(GeneratorContract):
    def make(self):
        return Fourier(24, cutoff=3, channels=1)


def test_grey_clouds_have_the_contrast_of_coloured_ones():
    for channels in (1, 3):
        made = Fourier(32, cutoff=5, channels=channels)
        before = made.before_sigmoid(made.space.sample(200, np.random.default_rng(0)))
        assert 0.95 < before.std() < 1.05
    grey = Fourier(33, cutoff=None, shell=False, channels=1)
    images = grey(grey.space.sample(2, np.random.default_rng(1)))
    np.testing.assert_allclose(grey(grey.encode(images)), images, atol=1e-5)
