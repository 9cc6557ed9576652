"""Motion energy, and the claim that nothing beats its best movie."""

import numpy as np
import pytest
import torch

from closedloop.errors import InvalidArgumentError
from closedloop.subjects import MotionEnergySubject, load_subject
from closedloop.testing import SubjectContract

ODD = {"orientation_deg": 30.0, "cycles_per_image": 2.5, "y": 7.2, "x": 9.7, "hz": -4.0, "resolution": 16}


class TestMotionEnergyContract(SubjectContract):
    resolution = 16

    def make(self):
        return MotionEnergySubject(**ODD)


class TestColourMotionContract(SubjectContract):
    resolution = 16

    def make(self):
        return MotionEnergySubject(resolution=16, channels=3, color="red-green", frames=5, count=3, root=False)


def grating(direction_deg, hz, cycles=4.0, resolution=32, frames=8, rate_hz=20.0, phase=0.0):
    """A drifting grating ``(frames, 1, h, w)``; 0 degrees is rightwards, 90 upwards."""
    y, x = np.mgrid[:resolution, :resolution]
    along = np.cos(np.radians(direction_deg)) * x - np.sin(np.radians(direction_deg)) * y
    t = np.arange(frames)[:, None, None] / rate_hz
    wave = np.cos(2 * np.pi * (cycles / resolution * along - hz * t) + phase)
    return (0.5 + 0.5 * wave).astype(np.float32)[:, None]


@pytest.mark.parametrize("hz", [5.0, -5.0])
@pytest.mark.parametrize("orientation", [0.0, 90.0, 135.0])
def test_it_prefers_the_direction_and_frequency_it_names(orientation, hz):
    subject = MotionEnergySubject(orientation_deg=orientation, hz=hz)
    direction = subject.units.coords["direction_deg"][0]
    directions = np.arange(0, 360, 45)
    tuning = subject.record(np.stack([grating(d, 5.0) for d in directions]))[:, 0]
    assert directions[tuning.argmax()] == direction
    assert tuning[directions == (direction + 180) % 360] < 0.05 * tuning.max()
    speeds = subject.record(np.stack([grating(direction, f) for f in (0.0, 2.5, 5.0, 7.5)]))[:, 0]
    assert speeds.argmax() == 2
    assert subject.units.coords["speed"][0] == pytest.approx(1.25)


def test_phase_does_not_matter():
    subject = MotionEnergySubject(orientation_deg=90)
    found = subject.record(np.stack([grating(0, 5.0, phase=p) for p in (0, 1, 2, 3)]))
    np.testing.assert_allclose(found[:, 0], found[0, 0], rtol=0.01)


@pytest.mark.parametrize("options", [{}, {"channels": 3}, {"channels": 3, "color": "red-green", "root": False}])
def test_nothing_beats_the_best_movie(options):
    subject = MotionEnergySubject(**{**ODD, **options})
    best = subject.best_image()
    assert best.shape == (8, subject.channels, 16, 16)
    assert subject.record(best[None])[0, 0] == pytest.approx(subject.best_response(), rel=1e-6)
    norm = subject.largest_norm()
    assert np.linalg.norm(best - 0.5) == pytest.approx(norm, rel=1e-6)
    rng = np.random.default_rng(0)
    for size in (0.01, 0.1, 1.0):
        other = (best - 0.5)[None] + size * np.abs(best - 0.5).max() * rng.standard_normal((50, *best.shape))
        other *= (norm / np.linalg.norm(other.reshape(50, -1), axis=1)).reshape(-1, 1, 1, 1, 1)
        weighed = subject._respond(subject._signals(0.5 + other) @ subject._weights.T)
        assert weighed.max() <= subject.best_response() * (1 + 1e-9)


def test_the_best_of_all_movies_is_a_fixed_point_of_the_gradient():
    subject = MotionEnergySubject(**ODD)
    best = subject.best_image(norm=None)
    assert set(np.unique(best)) == {0.0, 1.0}
    x = torch.tensor(best[None], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(subject.forward(x)[0, 0], x)
    assert (np.sign(gradient.numpy()) == np.sign(best[None] - 0.5)).mean() > 0.999
    assert subject.record(best[None])[0, 0] == pytest.approx(subject.best_response(norm=None), rel=1e-6)


def test_draws():
    subject = MotionEnergySubject(count=20, seed=3)
    hz = np.array(subject.units.coords["hz"])
    assert (hz < 0).any()
    assert (hz > 0).any()
    again = load_subject(**subject.recipe)
    np.testing.assert_array_equal(again.units.coords["hz"], hz)
    assert again.frames == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 2}, "frames: expected at least 3"),
        ({"rate_hz": -1.0}, "rate_hz: expected above 0"),
        ({"hz": 15.0}, "hz: expected -10 to 10"),
        ({"sigma_s": 0.0}, "sigma_s: expected seconds above 0"),
        ({"color": "red-green"}, "channels: expected 3, or 1 with color='luminance'"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        MotionEnergySubject(**options)
