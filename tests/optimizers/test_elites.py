"""MAP-Elites: what the archive promises, the operators' distributions, and exact resuming."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from closedloop import Space
from closedloop.errors import CallOrderError, InvalidArgumentError, MissingExtraError
from closedloop.optimizers.elites import MapElites, cross, mutate
from closedloop.recording.states import pack_state, unpack_state
from closedloop.testing.common import untouched_randomness

BOX, FREE = Space(6, 0.0, 1.0, 12**-0.5), Space(6, scale=2.0)


def scores_of(codes, classes=5):
    """Smooth scores of each class, ``(n, classes)``."""
    return np.sin(codes @ np.arange(1.0, 1 + 6 * classes).reshape(6, classes))


def told(space=BOX, seed=0, generations=8, score=scores_of, **options):
    optimizer = MapElites(space, 5, seed, **({"children": 10} | options))
    for _ in range(generations):
        codes = optimizer.ask()
        optimizer.tell(codes, score(codes))
    return optimizer


@settings(max_examples=50)
@given(st.integers(0, 2**32), st.sampled_from([BOX, FREE]), st.integers(2, 9), st.floats(0, 1))
def test_invariants(seed, space, children, lost):
    """An elite's score never falls, is that of its code, and is the best that any code has had for its class."""
    rng = np.random.default_rng(seed)
    optimizer = MapElites(space, 5, seed, children=children, initial=7)
    shown, all_scores = np.empty((0, 6)), np.empty((0, 5))
    before = np.full(5, -np.inf)
    for _ in range(4):
        codes = optimizer.ask()
        assert len(codes) == (7 if not len(optimizer.elites()[0]) else children)
        space.check(codes)
        scores = scores_of(codes)
        scores[rng.random(len(codes)) < lost * rng.random()] = np.nan
        optimizer.tell(codes, scores)
        shown, all_scores = np.concatenate([shown, codes]), np.concatenate([all_scores, scores])
        known = ~np.isnan(all_scores[:, 0])
        assert optimizer.told == len(shown)
        if not known.any():
            assert np.isnan(optimizer.scores).all()
            assert (optimizer.evaluations == 0).all()
            continue
        now = optimizer.scores
        assert (now >= before).all()
        np.testing.assert_array_equal(now, all_scores[known].max(0))
        cells, elites = optimizer.elites()
        np.testing.assert_array_equal(cells, np.arange(5))
        np.testing.assert_array_equal(elites, shown[optimizer.evaluations - 1])
        np.testing.assert_array_equal(np.diag(all_scores[optimizer.evaluations - 1]), now)
        np.testing.assert_allclose(np.diag(scores_of(elites)), now)
        before = now


def test_one_child_may_take_many_cells_and_equals_take_none():
    optimizer = MapElites(BOX, 5, 0, children=4)
    codes = optimizer.ask()
    scores = np.zeros((4, 5))
    scores[2], scores[3, 4] = 1.0, 2.0
    optimizer.tell(codes, scores)
    np.testing.assert_array_equal(optimizer.evaluations, [3, 3, 3, 3, 4])
    optimizer.tell(optimizer.ask(), np.ones((4, 5)))  # as good as the first four cells, no better
    np.testing.assert_array_equal(optimizer.evaluations, [3, 3, 3, 3, 4])
    optimizer.tell(optimizer.ask(), np.full((4, 5), 1.5))
    np.testing.assert_array_equal(optimizer.evaluations, [9, 9, 9, 9, 4])


def test_a_batch_is_the_same_as_its_codes_one_after_the_other():
    whole, single = MapElites(BOX, 5, 0, children=10), np.full(5, -np.inf)
    codes = whole.ask()
    scores = np.round(scores_of(codes), 1)
    which = np.zeros(5, int)
    for i, row in enumerate(scores):
        better = row > single
        single[better], which[better] = row[better], i + 1
    whole.tell(codes, scores)
    np.testing.assert_array_equal(whole.scores, single)
    np.testing.assert_array_equal(whole.evaluations, which)


def test_parents_are_drawn_uniformly_from_the_occupied_cells():
    optimizer = MapElites(BOX, 3, 0, children=3000, initial=3, crossover_rate=0.0, mutation_rate=0.0)
    codes = optimizer.ask()
    optimizer.tell(codes, np.eye(3))
    children = optimizer.ask()
    counts = np.array([(children == code).all(1).sum() for code in codes])
    assert counts.sum() == 3000
    assert np.abs(counts - 1000).max() < 4 * np.sqrt(3000 * 2 / 9)


@pytest.mark.parametrize("eta", [10.0, 15.0])
def test_the_mutation_has_its_distribution(eta):
    codes = np.full((400, 500), 0.5)
    children = mutate(codes, 0.1, eta, (-1.0, 3.0), np.random.default_rng(0))
    changed = children != codes
    assert changed.mean() == pytest.approx(0.1, abs=0.005)
    delta = (children - codes)[changed] / 4
    assert np.abs(delta).mean() == pytest.approx(1 / (eta + 2), rel=0.03)  # E|δ| of density (η+1)/2 · (1-|δ|)^η
    assert delta.mean() == pytest.approx(0, abs=0.003)
    assert np.median(np.abs(delta)) == pytest.approx(1 - 0.5 ** (1 / (eta + 1)), rel=0.05)
    assert mutate(np.ones((50, 50)), 1.0, eta, (0.0, 1.0), np.random.default_rng(0)).max() == 1


def test_the_crossover_keeps_means_and_bounds():
    rng = np.random.default_rng(0)
    first, second = np.full((500, 400), 0.4), np.full((500, 400), 0.6)
    wide = (-1e6, 1e6)
    one, two = cross(first, second, 1.0, 10.0, wide, rng)
    np.testing.assert_allclose((one + two)[one != first], 1.0, atol=0.4)
    spread = np.abs(one - two)[one != first] / 0.2
    assert (one != first).mean() == pytest.approx(0.5, abs=0.01)
    assert (spread < 1).mean() == pytest.approx(0.5, abs=0.01)  # contracting and expanding are as likely
    # Within, β = (2u)^(1/(η+1)): the median of those below 1 is 0.5^(1/(η+1)).
    assert np.median(spread[spread < 1]) == pytest.approx(0.5 ** (1 / 11), abs=0.005)
    kept, same = cross(first, second, 0.0, 10.0, wide, rng)
    np.testing.assert_array_equal(kept, first)
    np.testing.assert_array_equal(same, second)
    close = cross(first, second, 1.0, 0.5, (0.35, 0.65), rng)
    assert 0.35 <= np.min(close) < 0.36
    assert 0.64 < np.max(close) <= 0.65


def test_pairs_not_coordinates_are_crossed():
    rng = np.random.default_rng(0)
    one, _ = cross(np.zeros((2000, 50)), np.ones((2000, 50)), 0.1, 15.0, (-9.0, 9.0), rng)
    assert (one != 0).any(1).mean() == pytest.approx(0.1, abs=0.02)


def test_it_climbs():
    def score(codes):
        return -((codes - np.linspace(0.1, 0.9, 5)[:, None, None]) ** 2).mean(-1).T

    first, last = told(generations=1, score=score).scores, told(generations=150, score=score).scores
    assert (last > 0.2 * first).all()
    assert last.min() > -0.02


def test_reach_bounds_the_codes_of_an_unbounded_space():
    def outwards(codes):
        return codes[:, :5]

    optimizer = told(FREE, generations=200, score=outwards, reach=3.0)
    assert (
        optimizer.scores.max() == np.abs(optimizer.ask()).max() == 6.0
    )  # three of the prior's standard deviations of 2
    assert optimizer.scores.min() > 5.5


def test_same_seed_same_codes():
    with untouched_randomness():
        one, same, other = (told(seed=s).ask() for s in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("generations", [0, 1, 5])
@pytest.mark.parametrize("pending", [False, True])
def test_a_saved_state_goes_on_identically(generations, pending):
    optimizer = told(generations=generations)
    if pending:
        optimizer.ask()
    state = unpack_state(pack_state(optimizer.state()))
    again = MapElites(BOX, 5, 77, children=10)
    again.restore(state)
    for _ in range(3):
        codes = optimizer.ask()
        np.testing.assert_array_equal(again.ask(), codes)
        for one in (optimizer, again):
            one.tell(codes, scores_of(codes))
        np.testing.assert_array_equal(again.scores, optimizer.scores)
        np.testing.assert_array_equal(again.evaluations, optimizer.evaluations)
        assert again.told == optimizer.told


def test_a_state_holds_each_code_once():
    optimizer = MapElites(BOX, 5, 0, children=10)
    optimizer.tell(optimizer.ask(), np.tile(np.arange(10.0)[:, None], (1, 5)))
    assert optimizer.state()["codes"].shape == (1, 6)


def test_what_it_is_told_stays_as_it_was():
    optimizer = MapElites(BOX, 5, 0, children=10)
    codes = optimizer.ask()
    scores = scores_of(codes)
    kept = codes.copy(), scores.copy()
    optimizer.tell(codes, scores)
    codes[:] = 9
    np.testing.assert_array_equal(scores, kept[1])
    np.testing.assert_array_equal(optimizer.elites()[1], kept[0][optimizer.evaluations - 1])


def test_settings_follow_the_space():
    assert (MapElites(BOX, 5).crossover_rate, MapElites(BOX, 5).crossover_eta) == (0.5, 10.0)
    assert (MapElites(FREE, 5).crossover_rate, MapElites(FREE, 5).crossover_eta) == (0.1, 15.0)
    recipe = dict(MapElites(BOX, 5, 3, children=8).recipe)
    assert recipe.pop("name") == "map-elites"
    np.testing.assert_array_equal(MapElites(BOX, **recipe).ask(), MapElites(BOX, 5, 3, children=8).ask())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 0}, "classes: expected a whole number of at least 1, got 0"),
        ({"children": 1}, "children: expected a whole number of at least 2, got 1"),
        ({"initial": 0}, "initial: expected a whole number of at least 1"),
        ({"crossover_rate": 2.0}, "crossover_rate: expected a finite number from 0 to 1, got 2.0"),
        ({"mutation_rate": -1.0}, "mutation_rate: expected a finite number from 0 to 1"),
        ({"mutation_eta": 0.0}, "mutation_eta: expected a finite number above 0"),
        ({"reach": np.inf}, "reach: expected a finite number above 0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        MapElites(FREE, **({"classes": 5} | options))


def test_calls_are_checked():
    optimizer = MapElites(BOX, 5, 0, children=10)
    with pytest.raises(CallOrderError, match="expected a call of ask"):
        optimizer.tell(np.zeros((10, 6)), np.zeros((10, 5)))
    codes = optimizer.ask()
    with pytest.raises(InvalidArgumentError, match="codes: expected the 10 codes of the last ask"):
        optimizer.tell(codes + 1e-9, np.zeros((10, 5)))
    with pytest.raises(
        InvalidArgumentError, match=r"scores: expected finite numbers .* of shape \(10, 5\), one for each"
    ):
        optimizer.tell(codes, np.zeros(10))
    with pytest.raises(InvalidArgumentError, match="with infinity"):
        optimizer.tell(codes, np.full((10, 5), np.inf))


def test_without_pyribs_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ribs.archives", None)
    monkeypatch.delitem(sys.modules, "closedloop.optimizers.elites")
    with pytest.raises(MissingExtraError, match=r"pip install 'closedloop\[elites\]'"):
        import closedloop.optimizers.elites  # noqa: F401
