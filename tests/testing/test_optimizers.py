"""The optimizer contract: sound implementations pass, and each defect fails the test that names it."""

from __future__ import annotations

import numpy as np
import pytest

from closedloop.interfaces import Space
from closedloop.optimizers import IsotropicES
from closedloop.optimizers.base import check_tell
from closedloop.seeds import named_generator
from closedloop.testing import OptimizerContract
from closedloop.testing.optimizers import hill

FAILURES = (AssertionError, pytest.fail.Exception, ValueError, RuntimeError)
UNBOUNDED, BOUNDED = OptimizerContract.spaces["unbounded"], OptimizerContract.spaces["bounded"]


class Ascent:
    """A sound optimizer with gradients: steps of a fixed length from a random start."""

    name = "ascent"
    needs_gradient = True

    def __init__(self, space, seed):
        self.space, self.rng = space, named_generator(seed, "ascent")
        self.code, self.asked, self.step = space.sample(1, self.rng), None, 0.2 * space.scale

    def ask(self):
        self.asked = self.code.copy()
        return self.asked.copy()

    def tell(self, codes, scores, gradients=None):
        codes, scores = check_tell(self.asked, codes, scores)
        self.asked = None
        if not np.isnan(scores).any():
            length = np.linalg.norm(gradients)
            self.code = self.space.clip(codes + self.step * gradients / (length if length > 0 else 1))
            self.step *= 0.98

    def state(self):
        return {"code": self.code, "asked": self.asked, "step": self.step}

    def restore(self, state):
        self.code, self.asked, self.step = state["code"], state["asked"], state["step"]


class TestAscent(OptimizerContract):
    def make(self, space, seed):
        return Ascent(space, seed)


class TestOneSpaceOfItsOwn(OptimizerContract):
    spaces = {"unbounded": Space(8), "bounded": Space(8, low=0.0, high=1.0, scale=0.3)}  # noqa: RUF012

    def make(self, space, seed):
        return IsotropicES(space, seed)


class Wrapped:
    """An isotropic evolution strategy in which one method at a time is broken."""

    name = "broken"
    needs_gradient = False

    def __init__(self, space, seed):
        self.space, self.inner = space, IsotropicES(space, seed)

    def ask(self):
        return self.inner.ask()

    def tell(self, codes, scores, gradients=None):
        self.inner.tell(codes, scores)

    def state(self):
        return self.inner.state()

    def restore(self, state):
        self.inner.restore(state)


class Minimizes(Wrapped):
    def tell(self, codes, scores, gradients=None):
        self.inner.tell(codes, -np.asarray(scores))


class Idle(Wrapped):
    def tell(self, codes, scores, gradients=None):
        self.inner.tell(codes, np.full(len(codes), np.nan))


class IgnoresTheSeed(Wrapped):
    def __init__(self, space, seed):
        super().__init__(space, 0)


class SeedsFromTheClock(Wrapped):
    def __init__(self, space, seed):
        super().__init__(space, int(np.random.default_rng().integers(2**31)))


class LeavesTheSpace(Wrapped):
    def __init__(self, space, seed):
        super().__init__(space, seed)
        self.inner = IsotropicES(Space(space.dim, scale=space.scale), seed)


class ZerosNaN(Wrapped):
    def tell(self, codes, scores, gradients=None):
        scores[np.isnan(scores)] = 0
        codes += 0
        scores -= scores.mean()
        self.inner.tell(codes, scores)


class DiesOfNaN(Wrapped):
    def ask(self):
        return self.inner.ask() * getattr(self, "factor", 1.0)

    def tell(self, codes, scores, gradients=None):
        self.inner.tell(codes, scores)
        self.factor = scores.mean() / scores.mean()


class ForgetsItsRandomState(Wrapped):
    def restore(self, state):
        rng = np.random.default_rng(0).bit_generator.state
        self.inner.restore({**state, "rng": dict(rng)})


class ForgetsItsPath(Wrapped):
    def restore(self, state):
        self.inner.restore({**state, "p": np.zeros_like(state["p"])})


class ForgetsWhatItAsked(Wrapped):
    def restore(self, state):
        self.inner.restore({**state, "asked": None})


class SharesItsCodes(Wrapped):
    def ask(self):
        self.inner.ask()
        return self.inner._asked


class DrawsGlobally(Wrapped):
    def ask(self):
        np.random.rand()  # noqa: NPY002 - the defect
        return self.inner.ask()


class Permissive(Wrapped):
    def tell(self, codes, scores, gradients=None):
        asked = self.inner._asked if self.inner._asked is not None else self.inner.ask()
        scores = np.resize(np.nan_to_num(scores), len(asked))
        self.inner.tell(asked, scores)


class Kept(Wrapped):
    last = None

    def ask(self):
        codes = self.inner.ask()
        if self.last is not None:
            codes[0] = self.last[0]
            self.inner._asked = codes.copy()
        return codes

    def tell(self, codes, scores, gradients=None):
        self.inner.tell(codes, scores)
        self.last = codes


class Explodes(Wrapped):
    def tell(self, codes, scores, gradients=None):
        self.inner.tell(codes, scores)
        with np.errstate(all="ignore"):
            self.inner._m = self.inner._m * (scores.max() / scores.max())


class WrongRecipe(Wrapped):
    recipe = {"name": "isotropic", "seed": 99}  # noqa: RUF012


class UnknownName(Wrapped):
    recipe = {"name": "isotropik", "seed": 5}  # noqa: RUF012


@pytest.mark.parametrize(
    ("broken", "test", "arguments"),
    [
        (Minimizes, "test_maximizes", (UNBOUNDED,)),
        (Minimizes, "test_maximizes", (BOUNDED,)),
        (Idle, "test_maximizes", (UNBOUNDED,)),
        (Minimizes, "test_learns_although_some_are_lost", (UNBOUNDED,)),
        (IgnoresTheSeed, "test_other_seed_other_codes", (UNBOUNDED,)),
        (SeedsFromTheClock, "test_same_seed_same_codes", (UNBOUNDED,)),
        (LeavesTheSpace, "test_codes_are_in_the_space", (BOUNDED,)),
        (ZerosNaN, "test_arguments_are_not_changed", (UNBOUNDED,)),
        (DiesOfNaN, "test_lost_presentations", (UNBOUNDED, "some")),
        (ForgetsItsRandomState, "test_restored_state_continues_identically", (UNBOUNDED, 1, False)),
        (ForgetsItsPath, "test_restored_state_continues_identically", (UNBOUNDED, 2, True)),
        (ForgetsWhatItAsked, "test_restored_state_continues_identically", (UNBOUNDED, 0, True)),
        (SharesItsCodes, "test_refuses_codes_changed_in_place", (UNBOUNDED,)),
        (DrawsGlobally, "test_global_random_state_is_left_alone", (UNBOUNDED,)),
        (Permissive, "test_refuses_tell_without_ask", (UNBOUNDED,)),
        (Permissive, "test_refuses_what_does_not_answer_ask", (UNBOUNDED, "fewer scores")),
        (Permissive, "test_refuses_what_does_not_answer_ask", (UNBOUNDED, "infinity")),
        (Permissive, "test_refuses_what_does_not_answer_ask", (UNBOUNDED, "other codes")),
        (Kept, "test_arguments_are_not_kept", (UNBOUNDED,)),
        (Explodes, "test_any_scale_of_scores", (UNBOUNDED, "flat")),
        (WrongRecipe, "test_recipe_makes_it_again", (UNBOUNDED,)),
        (UnknownName, "test_takes_a_budget", (UNBOUNDED,)),
    ],
)
def test_a_defect_is_found(broken, test, arguments):
    class Contract(OptimizerContract):
        def make(self, space, seed):
            return broken(space, seed)

    with pytest.raises(FAILURES, match=r"\S"):
        getattr(Contract(), test)(*arguments)


def test_the_hill_has_its_top_inside():
    for space in (UNBOUNDED, BOUNDED):
        landscape = hill(space)
        scores, gradients = landscape(space.center[None])
        top = space.center + gradients[0] * space.scale**2 / 2
        space.check(top[None])
        assert landscape(top[None])[0][0] == pytest.approx(0, abs=1e-12)
        assert scores[0] < -5


def test_make_must_be_defined():
    with pytest.raises(NotImplementedError, match=r"define make\(self, space, seed\)"):
        OptimizerContract().make(UNBOUNDED, 0)
