"""Fourier coefficients in space and time."""

import numpy as np
import pytest

from closedloop.errors import InvalidArgumentError
from closedloop.generators import FourierMovie, Masked, Placed, Subspace, Truncated, load_generator
from closedloop.generators.fourier_movie import half_space
from closedloop.interfaces import form_of
from closedloop.testing import GeneratorContract


class TestFourierMovieContract(GeneratorContract):
    def make(self):
        return FourierMovie(16, frames=5, cutoff=3)

    def small(self):
        return FourierMovie(8, frames=4, cutoff=1, channels=1)


class TestGreyMovieContract(GeneratorContract):
    def make(self):
        return FourierMovie(12, frames=6, rate_hz=30.0, cutoff=2, shell=False, channels=1)


class TestWrappedMovieContract(GeneratorContract):
    def make(self):
        inner = {"name": "fourier-movie", "resolution": 12, "frames": 5, "cutoff": 2.0, "channels": 1}
        return Masked(Placed(Subspace(Truncated(inner), 6), (2, 3, 12, 13), resolution=16))


def draws(generator, n=100):
    return generator.space.sample(n, np.random.default_rng(0))


def test_half_space_has_one_of_each_pair():
    found = half_space(3, 16, 2, 8)
    assert found[0].tolist() == [0, 0, 0]
    every = {tuple(k) for k in found.tolist()}
    assert len(every) == len(found)
    assert not {tuple(-k for k in f) for f in every} & (every - {(0, 0, 0)})
    assert np.abs(found[:, 0]).max() == 2
    assert np.hypot(found[:, 1], found[:, 2]).max() <= 3


def test_amplitudes_fall_in_space_and_time():
    generator = FourierMovie(32, frames=16, cutoff=8, channels=1)
    movies = generator(draws(generator))
    power = (np.abs(np.fft.fftn(np.log(movies / (1 - movies))[:, :, 0], axes=(1, 2, 3))) ** 2).mean(0)
    assert power[1, 0, 1] / power[2, 0, 1] == pytest.approx(4, rel=0.5)
    assert power[1, 0, 1] / power[1, 0, 2] == pytest.approx(4, rel=0.5)
    assert np.log(movies / (1 - movies)).std() == pytest.approx(1, abs=0.05)


def test_movies_repeat_without_a_jump():
    generator = FourierMovie(16, frames=12, cutoff=3, channels=1)
    movies = generator(draws(generator))
    steps = np.abs(np.diff(movies, axis=1, append=movies[:, :1])).mean((0, 2, 3, 4))
    assert steps[-1] == pytest.approx(steps.mean(), rel=0.2)


def test_temporal_cutoff_in_hertz():
    still = FourierMovie(16, frames=8, rate_hz=20, cutoff_hz=2.0)  # less than one cycle in 0.4 s
    movies = still(draws(still, 3))
    np.testing.assert_allclose(movies, np.broadcast_to(movies[:, :1], movies.shape), atol=1e-6)
    assert FourierMovie(16, frames=8, rate_hz=20, cutoff_hz=2.5).space.dim > still.space.dim


def test_encode_gives_its_own_movies_back():
    generator = FourierMovie(16, frames=6, cutoff=3, shell=False)
    movies = generator(draws(generator, 3))
    np.testing.assert_allclose(generator(generator.encode(movies)), movies, atol=1e-5)
    held = generator(generator.encode(movies[:, 0]))  # a still is held
    np.testing.assert_allclose(held, np.broadcast_to(movies[:, None, 0], movies.shape), atol=1e-5)


def test_wrappers_keep_the_form():
    for wrapper in (Truncated, Subspace, Masked):
        options = {"dim": 3} if wrapper is Subspace else {}
        wrapped = wrapper(FourierMovie(16, frames=5, rate_hz=30, channels=1), **options)
        assert (form_of(wrapped).channels, form_of(wrapped).frames, form_of(wrapped).rate_hz) == (1, 5, 30)
    with pytest.raises(InvalidArgumentError, match="background: expected a brightness in"):
        Masked(FourierMovie(16, channels=1), background=(1, 0, 0))


def test_loaded_by_name():
    assert load_generator("fourier-movie", resolution=16, frames=5).space.dim == FourierMovie(16, 5).space.dim


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 0}, "frames: expected a whole number"),
        ({"rate_hz": 0.0}, "rate_hz: expected above 0"),
        ({"cutoff": 0}, "cutoff: expected 1 to 64"),
        ({"cutoff_hz": 30.0}, "cutoff_hz: expected 0 to 20"),
        ({"contrast": 0.0}, "decay, decay_t, contrast"),
        ({"channels": 2}, "channels: expected 3"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        FourierMovie(**options)
