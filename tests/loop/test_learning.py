"""Whatever a part of an experiment raises or returns: the error names the part, and what was recorded is safe."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from closedloop.errors import (
    ClosedLoopError,
    GeneratorError,
    InvalidArgumentError,
    ObjectiveError,
    OptimizerError,
    SubjectError,
)
from closedloop.generators import Pixels
from closedloop.interfaces import Units
from closedloop.loop.session import Session
from closedloop.loop.thread import Thread
from closedloop.objectives import Unit
from closedloop.optimizers import RandomSearch
from closedloop.recording.reader import open_recording
from tests.strategies import counted_settings, spoilt_arrays, things

SETTINGS = {"images": 12, "retest_candidates": 1, "retest_repeats": 1, "interleave": 1, "lost_blocks": 1000}


class Eye:
    name = "eye"
    units = Units(("eye.0", "eye.1"), {})

    def record(self, images):
        return images.mean((2, 3))[:, :2].astype(float)


class Spoilt:
    """A part whose method gives something else, or raises, from its second call on; all else is the part's own."""

    def __init__(self, part, method, answer, calls=1):
        self.__dict__.update(part=part, method=method, answer=answer, left=calls)
        for name in ("name", "space", "resolution", "needs_gradient", "units", "state", "restore", "describe"):
            if hasattr(part, name):
                self.__dict__[name] = getattr(part, name)
        if method in self.__dict__:
            self.__dict__[method] = lambda *given: self.go(method, *given)

    def go(self, method, *given):
        if method == self.method and self.left <= 0:
            if isinstance(self.answer, BaseException):
                raise self.answer
            return self.answer(*given) if callable(self.answer) else self.answer
        self.__dict__["left"] = self.left - (method == self.method)
        return getattr(self.part, method)(*given)

    def record(self, images):
        return self.go("record", images)

    def ask(self):
        return self.go("ask")

    def tell(self, *given):
        return self.go("tell", *given)

    def recommend(self, n):
        return self.go("recommend", n) if hasattr(self.part, "recommend") or self.method == "recommend" else []

    def __call__(self, *given):
        return self.go("__call__", *given)


def run(subject=None, generator=None, optimizer=None, objective=None, save=None, references=True, **options):
    generator = generator or Pixels(4)
    optimizer = optimizer or RandomSearch(generator.space, population=4)
    thread = Thread(generator, optimizer, objective or Unit(0), "cells")
    shown = np.random.default_rng(0).random((3, 3, 4, 4), dtype=np.float32) if references else None
    session = Session(subject or Eye(), [thread], references=shown, save=save, **SETTINGS, **options)
    return session.run()


def optimizer(method, answer, calls=1):
    return Spoilt(RandomSearch(Pixels(4).space, population=4), method, answer, calls)


@pytest.mark.parametrize(("method", "calls"), [("ask", 2), ("tell", 2), ("recommend", 0), ("state", 3)])
def test_an_optimizer_that_raises_is_named(tmp_path, method, calls):
    message = rf"thread 'cells': optimizer .*, {method}\(\) raised KeyError: 'sigma'"
    with pytest.raises(OptimizerError, match=message) as e:
        run(optimizer=optimizer(method, KeyError("sigma"), calls), save=tmp_path / "run")
    assert isinstance(e.value.__cause__, KeyError)
    assert "blocks are safe" in str(e.value)
    assert f"closedloop resume {tmp_path / 'run'}" in str(e.value)
    assert open_recording(tmp_path / "run").sizes["presentation"] > 0


@pytest.mark.parametrize(
    "codes",
    [
        None,
        "codes",
        [],
        np.full((4, 48), np.nan),
        np.full((4, 48), 2.0),
        np.zeros((4, 47)),
        np.zeros(48),
        np.zeros((4, 48), complex),
        np.zeros((4, 48), bool),
        np.ma.masked_array(np.zeros((4, 48)), mask=True),
    ],
)
def test_codes_that_are_none(codes):
    with pytest.raises(InvalidArgumentError, match=r"thread 'cells': optimizer .*, ask\(\): codes: expected"):
        run(optimizer=optimizer("ask", lambda: codes, 2))


@pytest.mark.parametrize(
    "scores",
    [
        None,
        "high",
        [],
        0.5,
        lambda r: r[:, 0] > 0.5,
        lambda r: r[:, 0] + 1j,
        lambda r: r[:-1, 0],
        lambda r: r,
        lambda r: r[:, 0] / 0.0,
        lambda r: [str(x) for x in r[:, 0]],
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_scores_that_are_none(scores):
    with pytest.raises(ObjectiveError, match=r"thread 'cells': its objective .*expected"):
        run(objective=Spoilt(Unit(0), "__call__", scores))


def test_an_objective_that_raises_is_named():
    with pytest.raises(ObjectiveError, match=r"thread 'cells': its objective .* raised ZeroDivisionError: of mine"):
        run(objective=Spoilt(Unit(0), "__call__", ZeroDivisionError("of mine")))


def test_masked_scores_are_lost():
    masked = Spoilt(Unit(0), "__call__", lambda r: np.ma.masked_array(r[:, 0] * 0 - 999, mask=True), 0)
    assert np.isnan(run(objective=masked)["score"]).all()


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (ValueError("no memory"), "raised ValueError: no memory"),
        (None, "expected shape"),
        (lambda c: np.zeros((len(c), 3, 4, 4), np.uint8), "expected floating-point RGB"),
        (lambda c: np.full((len(c), 3, 4, 4), 200.0), "divide by 255"),
        (lambda c: np.full((len(c), 3, 4, 4), np.nan), "NaN"),
        (lambda c: np.zeros((len(c), 3, 4, 8)), "expected shape"),
        (lambda c: np.ma.masked_array(np.zeros((len(c), 3, 4, 4)), mask=True), "masked"),
    ],
)
def test_a_generator_is_named(images, message):
    with pytest.raises(GeneratorError, match=f"thread 'cells': generator 'pixels': ?.*{message}|.*{message}") as caught:
        run(generator=Spoilt(Pixels(4), "__call__", images))
    assert "generator 'pixels'" in str(caught.value)
    assert "thread 'cells'" in str(caught.value)


@pytest.mark.parametrize("error", [KeyboardInterrupt("by hand"), SystemExit("ended")])
@pytest.mark.parametrize("part", ["subject", "generator", "optimizer", "objective"])
def test_an_interruption_passes(part, error):
    made = {"subject": Eye(), "generator": Pixels(4), "objective": Unit(0)}
    spoilt = (
        optimizer("tell", error)
        if part == "optimizer"
        else Spoilt(made[part], "record" if part == "subject" else "__call__", error)
    )
    with pytest.raises(type(error), match=r"by hand|ended"):
        run(**{part: spoilt})


def test_buffers_that_are_used_again():
    class Buffered(Eye):
        buffer = np.empty((200, 2))

        def record(self, images):
            out = self.buffer[: len(images)]
            out[:] = super().record(images)
            images[:] = 0  # nor may it harm what is scored and measured
            return out

    class Drawing(Pixels):
        def __call__(self, codes):
            images = super().__call__(codes)
            codes[:] = 0
            return images

    found, expected = run(Buffered(), Drawing(4)), run()
    np.testing.assert_array_equal(found["responses"], expected["responses"])
    np.testing.assert_array_equal(found["latent_code"], expected["latent_code"])


@pytest.mark.parametrize("units", [("eye.1", "eye.0"), ("eye.0", "eye.1", "eye.2"), ("eye.0",), None])
def test_units_that_change_during_a_run(units):
    class Changing(Eye):
        def record(self, images):
            self.units = None if units is None else Units(units, {})
            return super().record(images)

    with pytest.raises(ClosedLoopError, match=r"expected the units that it had at the beginning|expected Units"):
        run(Changing())


def test_an_infinite_response_names_its_presentation(tmp_path):
    class Loud(Eye):
        def record(self, images):
            responses = super().record(images)
            responses[images[:, 0, 0, 0] > 0.99] = np.inf
            return responses

    references = np.full((2, 3, 4, 4), 0.5, np.float32)
    references[1] = 1.0
    thread = Thread(Pixels(4), RandomSearch(Pixels(4).space, population=4))
    message = (
        r"the response of unit 'eye.0' to image 'image-00001'.* is infinite.*return NaN.*block 0.*closedloop resume"
    )
    with pytest.raises(SubjectError, match=message):
        Session(Loud(), [thread], references=references, save=tmp_path / "run", **SETTINGS).run()


def test_a_silent_rig_is_warned_of_and_stops(tmp_path):
    class Rig(Eye):
        on = False

        def record(self, images):
            return super().record(images) * (1.0 if self.on else np.nan)

    rig, optimizers = Rig(), [RandomSearch(Pixels(4).space, population=4) for _ in range(2)]

    def session(optimizer):
        options = {**SETTINGS, "images": 400, "lost_blocks": 5, "save": tmp_path / "run", "retries": 0}
        return Session(rig, [Thread(Pixels(4), optimizer)], exists="resume", **options)

    with (
        pytest.raises(SubjectError, match=r"not a single response in 5 blocks in a row.*4 blocks are safe"),
        pytest.warns(UserWarning, match="not a single response in 3 blocks in a row; look at the rig"),
    ):
        session(optimizers[0]).run()
    assert open_recording(tmp_path / "run").sizes["presentation"] == 16
    rig.on = True
    found = session(optimizers[1]).run()
    assert found.attrs["finished"] == 1
    assert np.isnan(found["responses"].values[:16]).all()
    assert not np.isnan(found["responses"].values[16:]).any()


@pytest.mark.parametrize("rule", [lambda history: True, lambda history: 1 / 0, lambda: None])
def test_a_stopping_rule_is_named(rule):
    with pytest.raises(InvalidArgumentError, match="stop: rule <lambda>"):
        run(stop=[rule])


def test_whatever_a_part_returns_ends_in_an_error_that_names_it_or_in_numbers(counted):
    """Of each part in turn, anything at all."""
    parts = {
        "subject": (lambda a: Spoilt(Eye(), "record", a), (3, 2), "subject 'eye'"),
        "generator": (lambda a: Spoilt(Pixels(4), "__call__", a), (4, 3, 4, 4), "generator 'pixels'"),
        "optimizer": (lambda a: optimizer("ask", a, 3), (4, 48), "optimizer "),
        "objective": (lambda a: Spoilt(Unit(0), "__call__", a), (4,), "objective "),
    }

    @counted_settings(counted, quick=60, reduced=2000)
    @given(st.sampled_from(sorted(parts)), st.data())
    def holds(part, data):
        make, shape, words = parts[part]
        _, answer = data.draw(spoilt_arrays(shape) | st.tuples(st.just("thing"), things()))
        made = make(lambda *given: answer)
        try:
            found = run(**{part: made}, references=False)
        except ClosedLoopError as error:
            assert words in str(error)  # noqa: PT017 - which error it is decides the answer
        else:
            assert not np.isinf(found["responses"].values.astype(float)).any()
            assert not np.isinf(found["score"].values).any()

    holds()
