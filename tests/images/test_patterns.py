"""Stimuli that a session begins with: they stand where they are asked for."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from closedloop.errors import RecordingError
from closedloop.images.patterns import Screen, grating, patch, placed, squares

PICTURE = np.random.default_rng(0).random((3, 32, 32), dtype=np.float32)


@given(st.floats(-3, 3), st.floats(-3, 3), st.sampled_from([None, 10.0, 33.3]))
def test_degrees_go_there_and_back(x, y, px_per_deg):
    screen = Screen(64, px_per_deg)
    row, column = screen.place(x, y)
    assert (screen.right(column), screen.up(row)) == (pytest.approx(x), pytest.approx(y))
    assert screen.place(0, 1)[0] < screen.place(0, 0)[0] == 31.5  # up is towards the first row


def test_a_recording_says_its_screen():
    for screen in (Screen(64), Screen(64, 12.5)):
        assert Screen.of_recording(xr.Dataset(coords=screen.scalars())) == screen
    with pytest.raises(RecordingError, match="expected resolution_px and px_per_deg"):
        Screen.of_recording(xr.Dataset())
    assert (Screen(8).unit, Screen(8).sign, Screen(8, 2.0).unit, Screen(8, 2.0).sign) == ("px", " px", "deg", "°")


def test_squares():
    images = squares(np.array([[1, 0], [2, 0], [4, 8], [3, 1]]), np.array([1.0, 0.25]), 8, 0.5)
    assert images.shape == (2, 3, 8, 8)
    assert (images[0] == 1).sum() == 3 * 3
    assert (images[0, :, 1:4, 2] == 1).all()
    assert (images[1, :, :, 0] == 0.25).all()
    assert (images[1, :, :, 1:] == 0.5).all()


def test_a_picture_in_its_own_size_is_itself():
    drawn, covered = placed(PICTURE, 15.5, 15.5, 32, 0, 32, 0.5)
    np.testing.assert_allclose(drawn, PICTURE, atol=1e-6)
    np.testing.assert_allclose(covered, 1)
    moved, _ = placed(PICTURE, 17.5, 12.5, 32, 0, 32, 0.5)
    np.testing.assert_allclose(moved[:, 2:, :-3], PICTURE[:, :-2, 3:], atol=1e-6)


@pytest.mark.parametrize("angle", [90, 180, 270])
def test_it_turns_counterclockwise(angle):
    drawn, _ = placed(PICTURE, 15.5, 15.5, 32, angle, 32, 0.5)
    np.testing.assert_allclose(drawn, np.rot90(PICTURE, angle // 90, (1, 2)), atol=1e-5)


@given(st.floats(4, 80), st.floats(10, 22), st.floats(10, 22))
def test_a_size_is_the_width_of_what_is_covered(width, y, x):
    drawn, covered = placed(np.ones((3, 32, 32), np.float32), y, x, width, 0, 256, 0.0)
    inside = placed(np.ones((3, 32, 32), np.float32), 127.5, 127.5, width, 30, 256, 0.0)[1]
    assert covered.sum() <= width**2 * 1.02 + 2 * width
    assert inside.sum() == pytest.approx(width**2, rel=0.15)
    np.testing.assert_allclose(drawn[0], covered, atol=1e-6)


def test_a_patch_is_a_gaussian_of_the_picture():
    drawn = patch(np.ones((3, 32, 32), np.float32), 30.2, 20.7, 4.0, 64, 0.5)[0] - 0.5
    rows, columns = np.mgrid[:64, :64]
    weight = drawn / drawn.sum()
    middle = (weight * rows).sum(), (weight * columns).sum()
    assert middle == (pytest.approx(30.2, abs=0.05), pytest.approx(20.7, abs=0.05))
    assert ((weight * (rows - middle[0]) ** 2).sum()) ** 0.5 == pytest.approx(4.0, rel=0.03)


def test_gratings_lie_as_the_model_neurons_have_them():
    from closedloop.subjects import GaborSubject

    neuron = GaborSubject(
        resolution=32, orientation_deg=[20.0, 110.0], cycles_per_image=4, y=14.0, x=17.0, phase_deg=90
    )
    best = grating(np.array([20.0, 110.0]), np.full(2, 4 / 32), np.full(2, 90.0), 14.0, 17.0, 32, contrast=1.0,
                   background=0.5)  # fmt: skip
    other = grating(np.array([110.0, 20.0]), np.full(2, 4 / 32), np.full(2, 90.0), 14.0, 17.0, 32, contrast=1.0,
                    background=0.5)  # fmt: skip
    assert (np.diag(neuron.record(best)) > 0.95).all()
    assert (np.diag(neuron.record(other)) < 0.05).all()


def test_a_grating_in_a_window_ends():
    image = grating(np.zeros(1), np.full(1, 0.1), np.zeros(1), 32, 32, 65, contrast=0.5, background=0.5, sd=5.0)[0]
    assert image[0, 32, 32] == pytest.approx(0.75)
    assert abs(image[0, 0] - 0.5).max() < 1e-6
