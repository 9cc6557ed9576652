"""What is said of an ascent when it is over: milestones, and what went wrong."""

import numpy as np
import pytest

from closedloop.analysis.ascents import classes_of, failures, is_output, reached, rivals_of
from closedloop.interfaces import Units

GREY = np.full((3, 4, 4), 0.5, np.float32)


def units(**coords):
    count = len(coords["layer"])
    return Units(tuple(f"u.{i}" for i in range(count)), {k: tuple(v) for k, v in coords.items()})


def test_classes_are_all_channels_at_one_place():
    whole = units(layer="aab", layer_channels=(2, 2, 5), y=(-1, -1, 0), x=(-1, -1, 0))
    assert classes_of(whole, 1) == (0, 1)
    assert is_output(whole, (0, 1))
    assert classes_of(whole, 2) == (2,)
    assert not is_output(whole, (2,))


def test_channels_of_a_map_compete_at_their_place_but_are_no_output():
    mapped = units(layer="aaaa", layer_channels=(2,) * 4, y=(0, 0, 1, 1), x=(3, 3, 3, 3))
    assert classes_of(mapped, 2) == (2, 3)
    assert not is_output(mapped, (2, 3))


def test_classes_of_a_file_and_of_an_older_one():
    assert (
        rivals_of({"rivals": ["0-2,5", [0, 1, 2, 5]]}, 0)
        == rivals_of({"rivals": ["", [0, 1, 2, 5]]}, 1)
        == [0, 1, 2, 5]
    )
    assert rivals_of({"rivals": ["", []]}, 0) == rivals_of({"rivals": ["", []]}, 1) == []


def test_classes_are_unknown_where_the_layer_is_or_units_are_missing():
    assert classes_of(Units.numbered("u", 3), 1) == (1,)
    assert classes_of(units(layer="aa", layer_channels=(9, 9), y=(-1, -1), x=(-1, -1)), 0) == (0,)


def test_first_steps_of_presentations_and_of_every_step():
    trust = np.array([[0.1, 0.6, 0.995, 0.9995], [0, 1, 1, 1]])
    np.testing.assert_array_equal(reached(trust, 10), [10, 20, 30, np.nan])
    exact = np.array([0.1, 0.55, 0.991, 0.9991, 0.99995])
    np.testing.assert_array_equal(reached(trust, 10, exact), [1, 2, 3, 4])
    np.testing.assert_array_equal(reached(trust[:, :1], 10), [np.nan] * 4)


def rise(steps=40, top=1.0):
    return top * (1 - np.exp(-np.arange(steps) / 4))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({}, ""),
        ({"norm": np.zeros(40)}, "dead gradient: it was zero in every step, so the image is the one it began with"),
        ({"norm": np.where(np.arange(40) < 3, 0.0, 1.0)}, "zero gradient in 3 of 40 steps"),
        ({"score": np.where(np.arange(40) == 5, np.nan, rise())}, "score or gradient not finite in 1 of 40 steps"),
        ({"norm": np.full(40, np.inf)}, "score or gradient not finite in 40 of 40 steps"),
        ({"response": 0.1}, "did not rise: response 0.1 at the end, 0.1 at the beginning"),
        ({"response": np.nan}, "did not rise: response nan at the end"),
        ({"image": np.ones((3, 4, 4), np.float32)}, "saturated: 100 % of the pixel values are black or white"),
        ({"score": np.arange(40.0)}, "not converged: the score still rises in the last tenth of the steps"),
        ({"score": np.arange(19.0), "norm": np.ones(19)}, ""),
    ],
)
def test_every_failure_is_said(changed, message):
    given = {"image": GREY, "score": rise(), "norm": np.ones(40), "response": 1.0, "first": 0.1, **changed}
    found = "; ".join(failures(**given))
    assert found.startswith(message)
    assert bool(found) == bool(message)
