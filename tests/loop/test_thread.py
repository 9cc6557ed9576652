"""A thread under way: its history, its best candidates, and its saved state."""

from __future__ import annotations

import numpy as np
import pytest

from closedloop import IsotropicES, RandomSearch, Space, Thread, Unit
from closedloop.errors import GeneratorError, InvalidArgumentError
from closedloop.loop.thread import Evolution
from closedloop.recording.states import pack_state, unpack_state


class Grey:
    """Codes of one number, images of that grey."""

    name = "grey"
    resolution = 4

    def __init__(self, low=0.0):
        self.space = Space(1, low, 1.0)

    def __call__(self, codes):
        return np.broadcast_to(codes[:, :, None, None], (len(codes), 3, 4, 4)).astype(np.float32)


def evolution(candidates=2, optimizer=None, name="main"):
    generator = Grey()
    return Evolution(Thread(generator, optimizer or RandomSearch(generator.space, population=3), name=name), candidates)


def learn(found, scores, generation=0, shown=None):
    codes = found.thread.optimizer.ask()
    ids = [f"g{generation}-{i}" for i in range(len(codes))]
    found.learn(ids, codes, np.array(scores), len(codes) if shown is None else shown)
    return codes


@pytest.mark.parametrize("name", ["reference", "", "-", "a b", "../up", "a/b", "a; b"])
def test_names_that_cannot_be_files(name):
    with pytest.raises(InvalidArgumentError, match="name: expected letters, digits, '-' or '_'"):
        evolution(name=name)


def test_generator_and_optimizer_must_fit():
    with pytest.raises(InvalidArgumentError, match=r"thread 'main': the optimizer searches .*build the optimizer with"):
        Thread(Grey(), RandomSearch(Space(1)))


def test_objective_is_the_first_unit_by_default():
    assert evolution().thread.objective == Unit(0)


def test_images_are_checked():
    found = evolution()
    assert found.generate(np.array([[0.5]])).shape == (1, 3, 4, 4)
    with pytest.raises(InvalidArgumentError, match=r"thread 'main': generator 'grey': codes: expected values in"):
        found.generate(np.array([[7.0]]))
    with pytest.raises(InvalidArgumentError, match="generator 'grey': codes: expected finite numbers"):
        found.generate(np.array([[np.nan]]))

    class Short(Grey):
        def __call__(self, codes):
            return super().__call__(codes)[:1]

    object.__setattr__(found.thread, "generator", Short())
    with pytest.raises(GeneratorError, match="expected 2 images for 2 codes, got 1"):
        found.generate(np.zeros((2, 1)))


def test_history_and_the_best_over_generations():
    found = evolution()
    first = learn(found, [1.0, 5.0, 3.0])
    second = learn(found, [4.0, np.nan, 2.0], 1, shown=5)
    assert [tuple(s) for s in found.history] == [(5.0, 3.0, 3), (4.0, 3.0, 8)]
    assert found.images == 8
    assert found.top_ids == ["g0-1", "g1-0"]
    assert found.top_scores.tolist() == [5, 4]
    np.testing.assert_array_equal(found.top_codes, [first[1], second[0]])
    ids, codes = found.finalists()
    assert ids == ["g0-1", "main-center", "main-average"]
    np.testing.assert_array_equal(codes[0], first[1])
    np.testing.assert_array_equal(codes[1], second[[0, 2]].mean(0))
    np.testing.assert_allclose(codes[2], (first.mean(0) + 2 * codes[1]) / 3)  # the newer of two means counts twice
    found.candidates = 1
    assert found.finalists()[0] == ["g0-1", "main-center"]


def test_an_optimizer_that_gives_other_codes_when_it_is_asked_again():
    """It is told of those that were shown, also where the budget has no room for all of them."""

    class Restless(RandomSearch):
        def ask(self):
            self._asked = None
            return super().ask()

        def tell(self, codes, scores):
            told.append((codes, scores))
            super().tell(codes, scores)

    told = []
    found = evolution(optimizer=Restless(Grey().space, population=3))
    first = found.ask()
    np.testing.assert_array_equal(found.ask(), first)
    found.ask()[:] = 9.0
    found.learn(["a", "b"], first[:2], np.array([1.0, 2.0]), 2)
    np.testing.assert_array_equal(told[0][0], first)
    np.testing.assert_array_equal(told[0][1], [1.0, 2.0, np.nan])
    assert (found.ask() != first).any()


def test_an_optimizer_that_recommends_is_asked():
    """Its codes are finalists, and as many best-scored ones as make one more than the candidates."""

    class Sure(RandomSearch):
        def recommend(self, n):
            return np.full((min(n, 2), 1), 0.75)

    found = evolution(optimizer=Sure(Grey().space, population=3))
    first = learn(found, [1.0, 5.0, 3.0])
    ids, codes = found.finalists()
    assert ids == ["g0-1", "main-recommended-000", "main-recommended-001"]
    np.testing.assert_array_equal(codes, [first[1], [0.75], [0.75]])
    found.top_codes[0] = 0.75
    assert found.finalists()[0] == ["g0-1"]  # the same image is not shown under two names
    Sure.recommend = lambda self, n: np.full((9, 1), 0.25)
    assert len(found.finalists()[0]) == 3
    Sure.recommend = lambda self, n: np.full((1, 1), np.nan)
    with pytest.raises(InvalidArgumentError, match="codes"):
        found.finalists()
    Sure.recommend = lambda self, n: np.empty((0, 1))
    assert found.finalists()[0] == ["g0-1", "main-center", "main-average"]
    Sure.recommend = lambda self, n: np.full((1, 1), 0.25)
    assert found.finalists()[0] == ["g0-1", "g0-2", "main-recommended-000"]


def test_ties_go_to_the_first():
    found = evolution()
    learn(found, [1.0, 1.0, 1.0])
    learn(found, [1.0, 1.0, 1.0], 1)
    assert found.top_ids == ["g0-0", "g0-1"]


def test_all_lost():
    found = evolution()
    learn(found, [np.nan] * 3)
    assert found.top_ids == []
    assert np.isnan(found.history[0].best)
    assert np.isnan(found.history[0].mean)
    ids, codes = found.finalists()
    assert ids == ["main-center"]
    np.testing.assert_array_equal(codes, [[0.5]])
    learn(found, [1.0, np.nan, np.nan], 1)
    assert found.top_ids == ["g1-0"]


def test_no_candidates():
    found = evolution(candidates=0)
    learn(found, [1.0, 2.0, 3.0])
    assert found.finalists()[0] == ["main-center"]


@pytest.mark.parametrize("scores", [[1.0, 5.0, 3.0], [np.nan] * 3])
def test_a_saved_state_goes_on_identically(scores):
    def begun():
        found = evolution(optimizer=IsotropicES(Grey().space, population=4))
        learn(found, [*scores, 0.5])
        return found

    one, other = begun(), evolution(optimizer=IsotropicES(Grey().space, seed=9, population=4))
    one.winner = ("g0-1", np.array([0.25]))
    other.restore(unpack_state(pack_state(one.state())))
    for found in (one, other):
        learn(found, [0.1, 9.0, np.nan, 2.0], 1)
    assert one.top_ids == other.top_ids
    np.testing.assert_array_equal(one.history, other.history)
    for a, b in zip(one.finalists(), other.finalists(), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(one.thread.optimizer.ask(), other.thread.optimizer.ask())
    assert other.winner[0] == "g0-1"
    np.testing.assert_array_equal(other.winner[1], one.winner[1])
