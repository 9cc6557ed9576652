import numpy as np
import pytest
import torch

from closedloop.errors import InvalidArgumentError
from closedloop.images.forms import check_forms, luminance, recoloured, shown_as
from closedloop.interfaces import STILL, Form

GREY, MOVIE = Form(1), Form(3, 4, 20.0)


def images(*shape):
    return np.random.default_rng(0).random(shape, dtype=np.float32)


@pytest.mark.parametrize("as_kind", [np.asarray, torch.from_numpy])
def test_colours_become_luminance_and_grey_is_repeated(as_kind):
    colour = images(2, 3, 5, 5)
    grey = shown_as(as_kind(colour), GREY)
    expected = 0.299 * colour[:, 0] + 0.587 * colour[:, 1] + 0.114 * colour[:, 2]
    np.testing.assert_allclose(np.asarray(grey)[:, 0], expected, atol=1e-6)
    again = shown_as(grey, STILL)
    np.testing.assert_array_equal(np.asarray(again), np.repeat(np.asarray(grey), 3, axis=1))
    np.testing.assert_allclose(np.asarray(luminance(again)), np.asarray(grey), atol=1e-6)


def test_white_stays_within_bounds():
    assert luminance(np.ones((1, 3, 2, 2), np.float32)).max() <= 1


@pytest.mark.parametrize("as_kind", [np.asarray, torch.from_numpy])
def test_a_still_is_held_for_all_frames(as_kind):
    still = images(2, 1, 5, 5)
    held = np.asarray(shown_as(as_kind(still), MOVIE))
    assert held.shape == (2, 4, 3, 5, 5)
    np.testing.assert_array_equal(held, np.broadcast_to(still[:, None], held.shape))


def test_what_fits_is_handed_on_as_it_is():
    for array, form in ((images(2, 3, 5, 5), STILL), (images(2, 1, 5, 5), GREY), (images(2, 4, 3, 5, 5), MOVIE)):
        assert shown_as(array, form) is array
    assert recoloured(array, 3) is array


def test_movies_of_another_length_are_refused():
    with pytest.raises(InvalidArgumentError, match=r"subject of colour stills, got movies of 4 .*; take a"):
        shown_as(images(1, 4, 3, 5, 5), STILL)
    with pytest.raises(InvalidArgumentError, match=r"got movies of 5 frames; make them with frames=4 and rate_hz=20"):
        shown_as(images(1, 5, 3, 5, 5), MOVIE)


def test_forms_are_compared():
    check_forms("generator", STILL, MOVIE)
    check_forms("generator", GREY, STILL)
    with pytest.raises(InvalidArgumentError, match="generator: expected stimuli for a subject of grey stills"):
        check_forms("generator", MOVIE, GREY)
    with pytest.raises(InvalidArgumentError, match="make them with frames=4 and rate_hz=20"):
        check_forms("generator", Form(3, 4, 30.0), MOVIE)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((2,), r"channels: expected 3 .* got 2"),
        ((3, 4), "frames, rate_hz: expected both for a movie or none for a still, got 4 and None"),
        ((3, 0, 20.0), "frames: expected a whole number of at least 1, got 0"),
        ((3, 4, 2000.0), "rate_hz: expected above 0 and at most 1000"),
    ],
)
def test_forms_that_are_none(given, message):
    with pytest.raises(InvalidArgumentError, match=message):
        Form(*given)


def test_a_form_in_words():
    assert STILL.describe() == "colour stills"
    assert Form(1, 8, 20.0).describe() == "grey movies of 8 frames at 20 Hz"
    assert MOVIE.shape == "(n, 4, 3, h, w)"
    assert MOVIE.duration_s == 0.2
