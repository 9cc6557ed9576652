"""Answers to labelled images as they come in, and where in an image a channel answers most."""

import numpy as np
import pytest

from closedloop.analysis.errors import answers_of
from closedloop.protocols.surveying import LayerSurvey, Survey

SIDE = 16


class Opened:
    """A layer whose channel 0 is the red of a patch of 4 × 4 pixels; channel 1 is red at the class token alone."""

    layer, channels, classes = "layer", 2, ("red", "other")

    def __init__(self, form):
        self.form = form
        self.grid = {"map": (4, 4), "tokens": (1, 17), "row": (1, 7), "flat": (1, 1)}[form]

    def look(self, images):
        red = images[:, 0].reshape(len(images), 4, 4, 4, 4).mean((2, 4)).reshape(len(images), 16)
        zero = np.zeros((len(images), 1), np.float32)
        places = {"map": red, "tokens": np.concatenate([zero, red], 1), "row": red[:, :7], "flat": red[:, :1]}[
            self.form
        ]
        other = np.zeros_like(places)
        other[:, 0] = 1
        outputs = np.stack([red.sum(1), np.full(len(images), 0.5)], 1)
        return np.stack([places, other], 1).astype(np.float32), outputs.astype(np.float32)


class Field:
    """A receptive field of one place, as a network's layer has it."""

    def __init__(self, size, columns):
        self.size, self.columns = size, columns

    def box(self, y, x, size):
        return (0, 0, *size) if self.size == SIDE else (4 * y, 4 * x, 4 * y + self.size, 4 * x + self.size)


class Seeing:
    """A subject that knows its receptive fields."""

    def __init__(self, size):
        self.size = size

    def receptive_fields(self, layers=None):
        return [Field(self.size, 4)]


def images(*places):
    """Black pictures with one red patch each."""
    made = np.zeros((len(places), 3, SIDE, SIDE), np.float32)
    for image, (y, x) in zip(made, places, strict=True):
        image[0, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4] = 1
    return made


def surveyed(form, subject=None, places=((2, 1), (0, 3), (3, 3))):
    shown = images(*places)
    found = LayerSurvey(subject or object(), Opened(form), lambda which: shown[which], SIDE)
    for which in (np.array([0, 1]), np.array([2])):
        found.look(which, shown[which])
    return found


def test_a_small_receptive_field_is_what_a_channel_sees():
    assert surveyed("map", Seeing(4)).box(0, 0) == (8, 4, 12, 8)


@pytest.mark.parametrize("form", ["map", "tokens"])
@pytest.mark.parametrize("subject", [None, Seeing(SIDE)])
def test_maps_and_patches_show_a_window_around_the_peak_where_a_unit_sees_all(form, subject):
    large = surveyed(form, subject, ((0, 0),) * 3)
    large._size = 8 * SIDE  # the same grid over an image of 128 pixels
    assert large.box(0, 0) == (0, 0, 96, 96)
    away = surveyed(form, subject)
    away._size = 8 * SIDE
    assert away.box(2, 0) == (32, 32, 128, 128)
    assert away.box(0, 0) == (32, 0, 128, 96)


def test_what_is_no_patch_shows_all_of_the_image():
    assert surveyed("tokens").box(0, 1) == (0, 0, SIDE, SIDE)  # the class token
    assert surveyed("row").box(1, 0) == surveyed("flat").box(1, 0) == (0, 0, SIDE, SIDE)


def test_peaks_are_those_of_all_parts_in_their_order():
    found = surveyed("map", places=((2, 1), (0, 3), (3, 3)))
    assert found.peaks.images.tolist() == [0, 1, 2]
    assert found.peaks.places[:, 0].tolist() == [9, 3, 15]
    assert found.place(1, 0) == 3
    assert found.best(0, without=1) == [0, 2]
    assert found.means.count == 3


def test_answers_are_noted_and_lost_ones_are_none():
    survey = Survey(np.array([0, 1, 0, 1]))
    assert survey.next(3).tolist() == [0, 1, 2]
    outputs = np.array([[3, 1, 2], [3, 1, 2], [np.nan, 1, 2], [1, 3, 2]], np.float32)
    survey.take(np.arange(4), outputs)
    assert survey.answers.tolist() == [0, 0, -1, 1]
    assert survey.wrong.tolist() == [False, True, False, False]
    assert survey.right.tolist() == [True, False, False, True]
    assert survey.rivals(np.array([0, 1, 3])).tolist() == [2, 1, 2]  # an error is held against the truth
    survey.take(np.array([2, 2]), np.array([[np.nan, 1, 2], [0, 1, 2]]))  # lost, and shown again
    assert survey.answers[2] == 2
    told = answers_of(survey.recording(["a", "b", "c", "d"], ["x", "y", "z"], outputs, {}, "layer"))
    assert told["image"].values.tolist() == ["a", "b", "d"]
    assert told["answer_name"].values.tolist() == ["x", "x", "y"]
