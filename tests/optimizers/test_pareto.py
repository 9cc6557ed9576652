"""Fronts as they are defined, and a search that finds one that is known in closed form."""

import numpy as np
import pytest

from closedloop.errors import CallOrderError, InvalidArgumentError
from closedloop.interfaces import Space
from closedloop.optimizers.pareto import ParetoSearch, crowding, fronts


def by_definition(values):
    rank, left, number = np.full(len(values), -1), set(range(len(values))), 0
    while left:
        best = [
            i for i in left if not any((values[j] >= values[i]).all() and (values[j] > values[i]).any() for j in left)
        ]
        rank[best] = number
        left, number = left - set(best), number + 1
    return rank


@pytest.mark.parametrize("seed", range(5))
def test_fronts_are_those_of_the_definition(seed):
    rng = np.random.default_rng(seed)
    for _ in range(30):
        values = rng.integers(0, 6, (rng.integers(1, 25), 2)).astype(float)
        np.testing.assert_array_equal(fronts(values), by_definition(values))


def test_ends_have_infinite_room_and_crowded_rows_little():
    room = crowding(np.array([[0, 4], [1, 3], [1.1, 2.9], [2, 2], [4, 0]], float))
    assert np.isinf(room[[0, 4]]).all()
    assert room[2] == pytest.approx((2 - 1) / 4 + (3 - 2) / 4)
    assert room[1] > room[2] * 0.99


def climb(search, values, generations=60):
    for _ in range(generations):
        codes = search.ask()
        search.tell(codes, values(codes))
    return search


def ellipse(codes):
    """Closeness to two points: the front is the line between them."""
    a, b = np.zeros(5), np.eye(5)[0] * 2
    return -np.stack([((codes - a) ** 2).sum(1), ((codes - b) ** 2).sum(1)], 1)


@pytest.mark.parametrize("space", [Space(5), Space(5, low=-3.0, high=3.0)], ids=["unbounded", "bounded"])
def test_it_finds_a_front_that_is_known(space):
    search = climb(ParetoSearch(space, 1, population=24), ellipse)
    own = search.codes[search.front]
    assert len(own) > 15
    assert np.abs(own[:, 1:]).max() < 0.4
    # On the line √-a + √-b = 2.
    reach = np.sqrt(-search.values[search.front]).sum(1)
    assert reach.max() < 2.4
    assert np.ptp(own[:, 0]) > 1.7


def test_it_begins_around_codes_and_takes_lost_values():
    search = ParetoSearch(Space(5), 0, population=8, start=np.full((1, 5), 2.0))
    first = search.ask()
    assert np.abs(first - 2).mean() < 1
    values = ellipse(first)
    values[3] = np.nan
    search.tell(first, values)
    assert len(search.codes) == 7
    search.tell(search.ask()[:3], ellipse(search.ask()[:3]))
    assert search.told == 11


def test_it_goes_on_from_its_state():
    one, other = (ParetoSearch(Space(5), 3, population=8) for _ in range(2))
    climb(one, ellipse, 4)
    one.ask()
    other.restore(one.state())
    for _ in range(3):
        np.testing.assert_array_equal(one.ask(), other.ask())
        for search in (one, other):
            search.tell(search.ask(), ellipse(search.ask()))
    np.testing.assert_array_equal(one.values, other.values)


def test_errors():
    search = ParetoSearch(Space(5), 0, population=8)
    with pytest.raises(CallOrderError, match="ask"):
        search.tell(np.zeros((8, 5)), np.zeros((8, 2)))
    search.ask()
    with pytest.raises(InvalidArgumentError, match="codes of the last ask"):
        search.tell(np.zeros((8, 5)), np.zeros((8, 2)))
    with pytest.raises(InvalidArgumentError, match="population"):
        ParetoSearch(Space(5), 0, population=3)
