"""Subjects around a subject: what they pass on, what they lose, what they average."""

from __future__ import annotations

import numpy as np
import pytest

from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import Described, Differentiable, Resolved, Stateful
from closedloop.recipes import fingerprint
from closedloop.subjects import (
    EnergySubject,
    FunctionSubject,
    GaborSubject,
    Gain,
    Lossy,
    MotionEnergySubject,
    Poisson,
    Repeated,
    load_subject,
)
from closedloop.testing import SubjectContract

CELL = EnergySubject(orientation_deg=[0.0, 45.0], cycles_per_image=4.0, resolution=32)


def images(n=4):
    return np.random.default_rng(0).random((n, 3, 32, 32), dtype=np.float32)


def trace(responses):
    """A subject with time bins."""
    return FunctionSubject(lambda images: np.broadcast_to(responses, (len(images), *np.shape(responses))), units=2)


class TestLossyContract(SubjectContract):
    noisy = True

    def make(self):
        return Lossy(CELL, rate=0.3)


class TestRepeatedContract(SubjectContract):
    def make(self):
        return Repeated(CELL, 3)


class TestStackContract(SubjectContract):
    noisy = True

    def make(self):
        return Repeated(Lossy(Poisson(Gain(CELL, nu=0.3, seed=4), best=1.0), rate=0.2), 2)


def test_passes_on_units_and_resolution_and_nothing_else():
    wrapped = Lossy(CELL)
    assert wrapped.units == CELL.units
    assert isinstance(wrapped, Resolved)
    assert wrapped.resolution == 32
    assert not isinstance(Lossy(FunctionSubject(lambda i: i.mean((1, 2, 3)))), Resolved)
    assert isinstance(wrapped, Stateful)
    assert not isinstance(wrapped, Differentiable)
    assert isinstance(wrapped.subject, Differentiable)


def test_loaded_by_name_around_a_recipe():
    stack = Repeated(Lossy(Gain(CELL, nu=0.5, seed=3), rate=0.4, seed=2), 3)
    assert isinstance(stack, Described)
    recipe = dict(stack.recipe)
    again = load_subject(recipe.pop("name"), **recipe)
    np.testing.assert_array_equal(again.record(images()), stack.record(images()))
    assert again.name == stack.name == "energy+gain+lossy+repeated"
    by_name = load_subject("lossy", subject="energy", rate=0.0)
    np.testing.assert_array_equal(by_name.record(images()), load_subject("energy").record(images()))
    assert Lossy(trace(np.ones((2, 3)))).recipe is None


def test_the_state_holds_that_of_the_subject_inside():
    stack, again = (Repeated(Gain(CELL, seed=1), 2) for _ in range(2))
    stack.record(images())
    again.restore(stack.state())
    np.testing.assert_array_equal(again.record(images()), stack.record(images()))


def test_loses_whole_presentations():
    responses = Lossy(CELL, rate=0.25, seed=1).record(images(4000))
    lost = np.isnan(responses)
    np.testing.assert_array_equal(lost.all(1), lost.any(1))
    assert lost[:, 0].mean() == pytest.approx(0.25, abs=0.03)
    np.testing.assert_array_equal(responses[~lost[:, 0]], CELL.record(images(4000))[~lost[:, 0]])
    assert np.isnan(Lossy(trace(np.ones((2, 3))), rate=1.0).record(images())).all()


def test_averages_what_was_not_lost():
    answers = iter(
        [np.array([[1.0, 2.0]] * 2), np.array([[3.0, np.nan], [np.nan, 4.0]]), np.array([[5.0, np.nan]] * 2)]
    )
    found = Repeated(FunctionSubject(lambda _: next(answers), units=2), 3).record(images(2))
    np.testing.assert_array_equal(found, [[3.0, 2.0], [3.0, 3.0]])
    assert np.isnan(Repeated(Lossy(CELL, rate=1.0), 2).record(images())).all()


def test_repeats_narrow_the_noise_by_their_root():
    picture = np.repeat(images(1), 3000, axis=0)
    once, nine = Gain(CELL, nu=0.1, seed=0).record(picture), Repeated(Gain(CELL, nu=0.1, seed=1), 9).record(picture)
    assert once.std(0) / nine.std(0) == pytest.approx(3, rel=0.1)


def test_time_bins_stay():
    expected = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(Repeated(trace(expected), 2).record(images(2)), [expected, expected])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Lossy(CELL, rate=1.5), "rate: expected a finite number from 0 to 1, got 1.5"),
        (lambda: Lossy(CELL, rate="often"), "rate: expected a finite number"),
        (lambda: Lossy(CELL, seed=-1), "seed: expected a whole number of at least 0, got -1"),
        (lambda: Repeated(CELL, 0), "n: expected a whole number of at least 1, got 0"),
        (lambda: Gain(CELL, shared="no"), "shared: expected True or False, got 'no'"),
        (lambda: Lossy(3), "subject: expected a subject, a name or a recipe, got int"),
        (lambda: Lossy({"units": [1]}), "subject: expected a mapping with a name, got"),
        (lambda: Lossy("energi"), "subject: no subject named 'energi'. Did you mean 'energy'"),
        (lambda: load_subject("lossy", subject="energy", rat=0.1), "'rat'. Did you mean 'rate'"),
    ],
)
def test_bad_options(make, message):
    with pytest.raises(InvalidArgumentError, match=message):
        make()


class TestAroundMoviesContract(SubjectContract):
    noisy = True
    resolution = 16

    def make(self):
        return Lossy(Poisson(MotionEnergySubject(resolution=16), spikes=20))


def test_the_fingerprint_is_that_of_the_subject_inside_with_what_is_around_it():
    inner = FunctionSubject(lambda x: x.mean((1, 2, 3)), name="mean")
    assert fingerprint(Lossy(inner)) == ""
    inner.fingerprint = "ab" * 32
    known = Lossy(inner, 0.1).fingerprint
    assert len(known) == 64
    others = [Lossy(inner, 0.2), Lossy(inner, 0.1, seed=1), Repeated(inner), Lossy(Lossy(inner, 0.1), 0.1)]
    assert len({known, *(other.fingerprint for other in others)}) == 5
    assert Poisson(inner, best=1.0).fingerprint == Poisson(inner, best=1.0 + 1e-7).fingerprint
    assert len(Lossy(GaborSubject()).fingerprint) == 64
    inner.fingerprint = "cd" * 32
    assert Lossy(inner, 0.1).fingerprint != known
