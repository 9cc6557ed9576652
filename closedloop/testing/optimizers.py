"""Tests what every optimizer promises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from closedloop import recipes
from closedloop.errors import CallOrderError, InvalidArgumentError
from closedloop.interfaces import Described, FloatArray, Optimizer, Recommending, Space
from closedloop.optimizers import load_optimizer
from closedloop.testing.common import streams_of_its_own, through_a_file, untouched_randomness

#: Dimensions and runs in which a control must be a null.
NULL_DIM, NULL_RUNS = 32, 16
#: Scores ``(n,)`` and their gradient ``(n, dim)`` for codes ``(n, dim)``.
Landscape = Callable[[FloatArray], tuple[FloatArray, FloatArray]]


class OptimizerContract:
    """Tests an optimizer: derive from it, name the class ``Test…``, and define `make`.

    Attributes:
        learns: Whether it must beat random search.
        control: Whether it is a control, which must go up a slope as often as down.
        seeded: Whether another seed must give other codes.
        generations: So many are compared bit by bit between units of the scores.
        level_free: Whether a constant that is added to all scores changes nothing.
        budget: Evaluations within which it must have come near the top of a smooth hill in 8 dimensions.
        spaces: Where it is tested.
        refusal: The error for codes and scores that do not answer the last `ask`.
        order_refusal: The error for `tell` without `ask`.
    """

    learns: bool = True
    control: bool = False
    seeded: bool = True
    budget: int = 400
    generations: int = 6
    level_free: bool = True
    spaces: ClassVar[dict[str, Space]] = {
        "unbounded": Space(8, scale=3.0),
        "bounded": Space(8, low=-1.0, high=2.0, scale=3 / 12**0.5),
    }
    refusal: type[Exception] = InvalidArgumentError
    order_refusal: type[Exception] = CallOrderError

    def make(self, space: Space, seed: int) -> Optimizer:
        """Makes the optimizer to test, before its first `ask`."""
        raise NotImplementedError("define make(self, space, seed), which returns the optimizer to test")

    @pytest.fixture(params=["unbounded", "bounded"])
    def space(self, request: pytest.FixtureRequest) -> Space:
        """Returns one of `spaces`."""
        return self.spaces[request.param]

    def test_is_an_optimizer(self, space: Space) -> None:
        """Checks that it has a name, says whether it needs gradients, and searches the space it was given."""
        optimizer = self.make(space, 0)
        assert isinstance(optimizer, Optimizer)
        assert isinstance(optimizer.name, str)
        assert optimizer.name
        assert isinstance(optimizer.needs_gradient, bool)
        assert optimizer.space == space

    def test_codes_are_in_the_space(self, space: Space) -> None:
        """Checks for ``(n, dim)`` floating, finite and in the bounds, also when the top lies outside of them."""
        for codes in trail(self.make(space, 0), slope, 30):
            assert isinstance(codes, np.ndarray)
            assert np.issubdtype(codes.dtype, np.floating)
            assert len(codes) >= 1
            space.check(codes)

    def test_maximizes(self, space: Space) -> None:
        """Checks that it misses less than half of what random search misses to the top; mean of three seeds."""
        if not self.learns:
            pytest.skip("does not learn")
        top = hill(space)
        found = [self._best(self.make(space, seed), top) for seed in range(3)]
        rng = np.random.default_rng(0)
        random = [top(space.sample(self.budget, rng))[0].max() for _ in range(3)]
        assert np.mean(found) > np.mean(random) / 2, f"best scores {found}; random search {random}; the top is 0"

    def _best(self, optimizer: Optimizer, landscape: Landscape) -> float:
        best, used = -np.inf, 0
        while used + len(codes := optimizer.ask()) <= self.budget:
            best = max(best, float(landscape(codes)[0].max()))
            answer(optimizer, codes, landscape)
            used += len(codes)
        return best

    def test_same_seed_same_codes(self, space: Space) -> None:
        """Checks that they are equal bit by bit, generation after generation."""
        assert_same(*(trail(self.make(space, 7), hill(space), 6) for _ in range(2)))

    def test_other_seed_other_codes(self, space: Space) -> None:
        """Checks that the seed is used."""
        if not self.seeded:
            pytest.skip("draws nothing")
        one, other = (trail(self.make(space, seed), hill(space), 2) for seed in (1, 2))
        assert not np.array_equal(one[-1], other[-1])

    @pytest.mark.parametrize("factor", [2.0**-33, 2.0**33, 2.0**500, 1e-10, 1e10], ids=str)
    def test_the_unit_of_the_scores_does_not_matter(self, space: Space, factor: float) -> None:
        """Checks for the same codes of volts or microvolts, bit by bit where a factor changes no digit of them."""
        if self.make(space, 7).needs_gradient:
            pytest.skip("climbs gradients, whose unit its rate is for")
        plain = trail(self.make(space, 7), hill(space), self.generations)
        scaled = trail(self.make(space, 7), lambda codes: (factor * hill(space)(codes)[0], codes), self.generations)
        exact = np.frexp(factor)[0] == 0.5
        for one, other in zip(plain, scaled, strict=True):
            np.testing.assert_allclose(other, one, rtol=0 if exact else 1e-5, atol=0 if exact else 1e-5 * space.scale)

    def test_the_level_of_the_scores_does_not_matter(self, space: Space) -> None:
        """Checks that a constant added to all scores changes no more than their rounding does."""
        if self.make(space, 7).needs_gradient or not self.level_free:
            pytest.skip("climbs gradients, or looks at the level")
        plain = trail(self.make(space, 7), hill(space), self.generations)
        raised = trail(self.make(space, 7), lambda codes: (1e6 + hill(space)(codes)[0], codes), self.generations)
        for one, other in zip(plain, raised, strict=True):
            np.testing.assert_allclose(other, one, rtol=0, atol=1e-3 * space.scale)

    def test_its_stream_is_its_own(self, space: Space) -> None:
        """Checks that its first codes are not what ``default_rng(seed)`` draws, for small seeds."""
        alike = []
        for seed in range(11):
            with streams_of_its_own():
                codes = self.make(space, seed).ask()
            for draw in ("standard_normal", "random"):
                user = getattr(np.random.default_rng(seed), draw)(codes.size)
                if codes.size > 1 and codes.std() > 0:
                    alike.append(np.corrcoef(user, (codes - codes.mean(0) * (len(codes) > 1)).ravel())[0, 1])
        assert not alike or np.abs(np.mean(alike)) < 0.5, "its codes are the draws of a user's default_rng(seed)"

    def test_asked_again_before_told_gives_the_same(self, space: Space) -> None:
        """Checks that a second `ask` draws nothing new, also after generations were told."""
        optimizer = self.make(space, 7)
        for _ in range(3):
            codes = optimizer.ask()
            assert np.array_equal(optimizer.ask(), codes)
            scores, gradients = hill(space)(codes)
            optimizer.tell(codes, scores, gradients if optimizer.needs_gradient else None)

    def test_arguments_are_not_changed(self, space: Space) -> None:
        """Checks that `tell` leaves codes, scores and gradients as they are."""
        optimizer, landscape = self.make(space, 0), hill(space)
        for _ in range(5):
            codes = optimizer.ask()
            given = (codes, *landscape(codes))
            before = [array.copy() for array in given]
            optimizer.tell(given[0], given[1], given[2] if optimizer.needs_gradient else None)
            for array, kept in zip(given, before, strict=True):
                np.testing.assert_array_equal(array, kept)

    def test_arguments_are_not_kept(self, space: Space) -> None:
        """Checks that the caller may write over its arrays after `tell`."""
        careless, landscape = self.make(space, 0), hill(space)
        for _ in range(4):
            codes = careless.ask()
            scores, gradients = landscape(codes)
            careless.tell(codes, scores, gradients if careless.needs_gradient else None)
            for array in (codes, scores, gradients):
                array[:] = -99.0
        careful = self.make(space, 0)
        trail(careful, landscape, 4)
        assert_same([careless.ask()], [careful.ask()])

    def test_recommends_codes_of_the_space(self, space: Space) -> None:
        """Checks for at most as many as asked for, without a trace, the same after a restore, if it recommends."""
        optimizer, other = self.make(space, 3), self.make(space, 4)
        if not isinstance(optimizer, Recommending) or not isinstance(other, Recommending):
            pytest.skip("recommends nothing")
        assert optimizer.recommend(3).shape == (0, space.dim)
        trail(optimizer, hill(space), 6)
        before = optimizer.state()
        found = optimizer.recommend(3)
        assert len(found) <= 3
        space.check(found)
        np.testing.assert_array_equal(optimizer.recommend(1), found[:1])
        other.restore(through_a_file(before))
        np.testing.assert_array_equal(other.recommend(3), found)
        assert_same([optimizer.ask()], [other.ask()])

    @pytest.mark.parametrize("lost", ["some", "all but one", "all"])
    def test_lost_presentations(self, space: Space, lost: str) -> None:
        """Checks that NaN scores are taken, and that the codes that follow are valid."""
        optimizer, rng = self.make(space, 0), np.random.default_rng(0)
        for generation in range(8):
            codes = space.check(optimizer.ask())
            scores, gradients = hill(space)(codes)
            if generation % 2 == 0:
                gone = _lost(len(codes), lost, rng)
                scores[gone], gradients[gone] = np.nan, np.nan
            optimizer.tell(codes, scores, gradients if optimizer.needs_gradient else None)
        space.check(optimizer.ask())

    def test_is_a_null_where_it_is_a_control(self) -> None:
        """Checks that what a control ends with has nothing to do with the direction in which scores rise."""
        if not self.control:
            pytest.skip("is no control")
        space, cosines = Space(NULL_DIM), []
        for seed in range(NULL_RUNS):
            direction = np.random.default_rng(1000 + seed).standard_normal(NULL_DIM)
            direction /= np.linalg.norm(direction)
            optimizer = self.make(space, seed)
            for _ in range(25):
                codes = optimizer.ask()
                optimizer.tell(codes, codes @ direction)
            end = optimizer.ask().mean(0)
            cosines.append(end @ direction / max(float(np.linalg.norm(end)), 1e-12))
        # The cosine with a direction that is drawn at random has the variance 1 / dim; a mean of n of them 1 / (n dim).
        assert abs(np.mean(cosines)) < 4 / np.sqrt(NULL_DIM * NULL_RUNS)

    def test_learns_although_some_are_lost(self, space: Space) -> None:
        """Checks that with every fifth presentation lost it still beats random search."""
        if not self.learns:
            pytest.skip("does not learn")
        top = hill(space)
        rng = np.random.default_rng(0)

        def leaky(codes: FloatArray) -> tuple[FloatArray, FloatArray]:
            scores, gradients = top(codes)
            scores[rng.random(len(codes)) < 0.2] = np.nan
            return scores, gradients

        finals = []
        for seed in range(3):
            optimizer, used = self.make(space, seed), 0
            while used < self.budget:
                codes = optimizer.ask()
                answer(optimizer, codes, leaky)
                used += len(codes)
            finals.append(top(optimizer.ask())[0].max())
        random = [top(space.sample(self.budget, rng))[0].max() for _ in range(3)]
        assert np.mean(finals) > np.mean(random), f"last scores {finals}; random search {random}; the top is 0"

    @pytest.mark.parametrize("told", range(4))
    @pytest.mark.parametrize("pending", [False, True], ids=["after tell", "between ask and tell"])
    def test_restored_state_continues_identically(self, space: Space, told: int, pending: bool) -> None:
        """Checks this from a file, at any moment: in a new object, and in the one that has gone on."""
        landscape = hill(space)
        optimizer = self.make(space, 3)
        trail(optimizer, landscape, 3 * told)
        codes = optimizer.ask() if pending else None
        state = through_a_file(optimizer.state())
        expected = _go_on(optimizer, codes, landscape)
        for again in (self.make(space, 3), optimizer):
            again.restore(state)
            assert_same(_go_on(again, codes, landscape), expected)
        uninterrupted = self.make(space, 3)
        assert_same(trail(uninterrupted, landscape, 3 * told + len(expected))[3 * told + pending :], expected[pending:])

    def test_global_random_state_is_left_alone(self, space: Space) -> None:
        """Checks that it draws from a random generator of its own."""
        with untouched_randomness():
            trail(self.make(space, 0), hill(space), 5)

    def test_refuses_tell_without_ask(self, space: Space) -> None:
        """Checks that it refuses before the first `ask`, and twice after the same one."""
        optimizer, landscape = self.make(space, 0), hill(space)
        codes = space.sample(len(self.make(space, 0).ask()), np.random.default_rng(0))
        with pytest.raises(self.order_refusal, match="ask"):
            answer(optimizer, codes, landscape)
        codes = optimizer.ask()
        answer(optimizer, codes, landscape)
        with pytest.raises(self.order_refusal, match="ask"):
            answer(optimizer, codes, landscape)

    @pytest.mark.parametrize("wrong", ["fewer scores", "a column of scores", "infinity", "other codes", "fewer codes"])
    def test_refuses_what_does_not_answer_ask(self, space: Space, wrong: str) -> None:
        """Checks that it raises `refusal`, and still takes the proper answer then, as if nothing had happened."""
        optimizer, landscape = self.make(space, 0), hill(space)
        codes = optimizer.ask()
        scores, gradients = landscape(codes)
        told_codes, told = _spoilt(codes, scores, wrong)
        with pytest.raises(self.refusal, match=r"(codes|scores): expected .*got"):
            optimizer.tell(told_codes, told, gradients if optimizer.needs_gradient else None)
        answer(optimizer, codes, landscape)
        assert_same([optimizer.ask()], [trail(self.make(space, 0), landscape, 2)[1]])

    def test_refuses_codes_changed_in_place(self, space: Space) -> None:
        """Checks that what `ask` returned is a copy: writing into it does not write into the optimizer."""
        optimizer = self.make(space, 0)
        codes = optimizer.ask()
        codes[0] = space.center + 0.01 * space.scale
        with pytest.raises(self.refusal, match=r"codes: expected .*got"):
            answer(optimizer, codes, hill(space))

    @pytest.mark.parametrize("scale", ["flat", "tiny", "huge", "growing", "shifted"])
    def test_any_scale_of_scores(self, space: Space, scale: str) -> None:
        """Checks that codes stay valid for a dead unit (all scores equal) and for scores of any magnitude."""
        top = hill(space)
        optimizer = self.make(space, 0)
        for generation in range(25):
            codes = space.check(optimizer.ask())
            factor = {"flat": 0.0, "tiny": 1e-12, "huge": 1e12, "growing": 10.0**generation, "shifted": 1.0}[scale]
            scores, gradients = top(codes)
            scores = scores * factor + (1e9 if scale == "shifted" else 0.0)
            optimizer.tell(codes, scores, gradients * factor if optimizer.needs_gradient else None)

    def test_recipe_makes_it_again(self, space: Space) -> None:
        """Checks that ``load_optimizer(space=space, **recipe)`` proposes identical codes, where it has a recipe."""
        optimizer = self.make(space, 5)
        recipe: Any = dict(optimizer.recipe or {}) if isinstance(optimizer, Described) else {}
        if not recipe:
            pytest.skip("has no recipe")
        again = recipes.build("optimizers", recipe.pop("name"), space, **recipe)
        assert_same(trail(again, hill(space), 4), trail(optimizer, hill(space), 4))

    def test_takes_a_budget(self, space: Space) -> None:
        """Checks that it takes one by name, used or not, and codes stay valid past it; where it has a recipe."""
        optimizer = self.make(space, 5)
        recipe: Any = dict(optimizer.recipe or {}) if isinstance(optimizer, Described) else {}
        if not recipe:
            pytest.skip("has no recipe")
        limited = load_optimizer(recipe.pop("name"), space, **{**recipe, "images": 30})
        for codes in trail(limited, slope, 12):
            space.check(codes)


def hill(space: Space) -> Landscape:
    """Makes a smooth concave hill with its top, score 0, inside the space and away from its middle."""
    signs = np.where(np.arange(space.dim) % 3 == 0, -1.0, 1.0)
    top = space.center + (0.9 if space.bounded else 1.5) * space.scale * signs

    def landscape(codes: FloatArray) -> tuple[FloatArray, FloatArray]:
        away = (codes - top) / space.scale
        return -(away**2).sum(1), -2 * away / space.scale

    return landscape


def slope(codes: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Makes a slope without a top: always higher in every coordinate."""
    return codes.sum(1), np.ones_like(codes)


def answer(optimizer: Optimizer, codes: FloatArray, landscape: Landscape) -> None:
    """Tells the scores of the codes, with their gradient where it is needed."""
    scores, gradients = landscape(codes)
    optimizer.tell(codes, scores, gradients if optimizer.needs_gradient else None)


def trail(optimizer: Optimizer, landscape: Landscape, generations: int) -> list[FloatArray]:
    """Returns the codes of some generations, each answered."""
    asked = []
    for _ in range(generations):
        codes = optimizer.ask()
        asked.append(codes.copy())
        answer(optimizer, codes, landscape)
    return asked


def assert_same(actual: list[FloatArray], expected: list[FloatArray]) -> None:
    """Fails unless codes are equal bit by bit."""
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def _go_on(optimizer: Optimizer, pending: FloatArray | None, landscape: Landscape) -> list[FloatArray]:
    """Answers the pending codes, and returns them and those of four more generations."""
    if pending is None:
        return trail(optimizer, landscape, 5)
    answer(optimizer, pending, landscape)
    return [pending.copy(), *trail(optimizer, landscape, 4)]


def _lost(n: int, lost: str, rng: np.random.Generator) -> NDArray[np.intp]:
    """Returns indices of the presentations that gave no response."""
    count = {"some": max(n // 3, 1), "all but one": n - 1, "all": n}[lost]
    return rng.permutation(n)[:count]


def _spoilt(codes: FloatArray, scores: FloatArray, wrong: str) -> tuple[FloatArray, FloatArray]:
    """Returns an answer with one thing wrong with it."""
    codes, scores = codes.copy(), scores.copy()
    if wrong == "fewer scores":
        return codes, scores[:-1]
    if wrong == "a column of scores":
        return codes, scores[:, None]
    if wrong == "fewer codes":
        return codes[:-1], scores[:-1]
    if wrong == "infinity":
        scores[0] = np.inf
    else:
        codes[0, 0] = np.nextafter(codes[0, 0], 0.5)
    return codes, scores
