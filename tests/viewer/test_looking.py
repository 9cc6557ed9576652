"""A subject as it is looked at: networks, boxes, noise around them, responses in time."""

import numpy as np
import pytest

from closedloop.errors import UnknownNameError
from closedloop.interfaces import Units
from closedloop.subjects import FunctionSubject, Gain
from closedloop.viewer.looking import BoxSight, NetworkSight, Seen, sight_of

GREY = np.full((3, 32, 32), 128, np.uint8)


def test_noise_around_a_network_leaves_its_layers(network):
    sight = sight_of(Gain(network, 0.5, seed=1))
    assert isinstance(sight, NetworkSight)
    assert [layer["name"] for layer in sight.layers()][-1] == "responses"
    once, again = (sight.see(GREY, "responses").peaks for _ in range(2))
    assert not np.array_equal(once, again)
    np.testing.assert_array_equal(sight.see(GREY, "2").maps, sight.see(GREY, "2").maps)
    assert sight.label("responses", 1) == "dog"


def test_responses_in_time_are_a_row():
    box = FunctionSubject(lambda images: np.arange(10.0).reshape(1, 2, 5), units=("a", "b"), name="timed")
    sight = sight_of(box)
    assert isinstance(sight, BoxSight)
    seen = sight.see(np.full((3, 224, 224), 9, np.uint8), "responses")
    assert seen.maps.shape == (2, 1, 5)
    assert seen.peak(1) == (0, 4)
    assert sight.label("responses", 0) == "a"
    with pytest.raises(UnknownNameError, match="no layer 'other'"):
        sight.see(GREY, "other")


def test_probabilities_are_not_made_probabilities_again(network):
    sight = sight_of(network)
    assert sight.top(np.float32([0.2, 0.7, 0.1]))[0] == ("dog", pytest.approx(0.7))
    assert sight.top(np.float32([0, 2, 1]))[0] == ("dog", pytest.approx(0.665, abs=1e-3))
    assert sight.top(np.float32([np.nan, 2, 1])) is None


def test_the_quick_graph_gives_the_same(network):
    sight = sight_of(network)
    before = sight.see(GREY, "2").maps
    assert sight.settle()
    np.testing.assert_allclose(sight.see(GREY, "2").maps, before, rtol=1e-3, atol=1e-4)


def test_selectivity_is_sparseness(gabor):
    sight = sight_of(gabor)
    found = sight.measure("responses", np.float32([[1, 0, 1], [1, 1, -1], [1, 0, -1]]))
    np.testing.assert_allclose(found, [0, 1, 1], atol=1e-6)
    maps = np.float32([[[3]], [[1]], [[2]]])
    seen = Seen(maps, np.empty((0, 3), np.float32), None, 0.0)
    assert sight.order("activation", seen, "responses").tolist() == [0, 2, 1]
    assert sight.order("selectivity", seen, "responses").tolist() == [1, 2, 0]


def test_a_unit_that_has_a_number_only_stands_for_nothing():
    plain = FunctionSubject(lambda images: images.mean((2, 3)), units=3, name="box")
    named = FunctionSubject(plain.record, units=Units(("a", "b", "c"), {"label": ("red", "", "blue")}), name="box")
    assert [sight_of(plain).label("responses", i) for i in range(3)] == ["", "", ""]
    assert [sight_of(named).label("responses", i) for i in range(3)] == ["red", "b", "blue"]
