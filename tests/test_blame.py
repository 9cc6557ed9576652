"""A part that raises wherever it is looked at is named; what is none of its fault is not."""

from __future__ import annotations

import numpy as np
import pytest

from closedloop.blame import parts_named
from closedloop.errors import (
    ClosedLoopError,
    GeneratorError,
    InvalidArgumentError,
    ObjectiveError,
    ObserverError,
    OptimizerError,
    reason,
)
from closedloop.generators import Pixels
from closedloop.interfaces import Units
from closedloop.loop.session import Session
from closedloop.loop.thread import Thread
from closedloop.objectives import Unit
from closedloop.optimizers import RandomSearch
from closedloop.protocols import evolve, present
from closedloop.recording.reader import open_recording
from closedloop.subjects import FunctionSubject

SETTINGS = {"images": 6, "retest_candidates": 1, "retest_repeats": 1, "progress": False}


class Cells:
    name = "cells"
    shown = 0

    @property
    def units(self):
        if self.shown > 6:
            raise KeyError("layer4")
        return Units(("a",), {})

    def record(self, images):
        self.shown += len(images)
        return images.mean((2, 3))[:, :1].astype(float)


class Grey(Pixels):
    calls = 0

    @property
    def space(self):
        self.calls += 1
        if self.calls > 12:
            raise ZeroDivisionError("of the grid")
        return self.made

    @space.setter
    def space(self, made):
        self.made = made


class Sorting(RandomSearch):
    def proposers(self, codes):
        return {"prior", "mutation"}


class Silent:
    def __call__(self, responses):
        return responses[:, 0]

    def describe(self):
        return 1 / 0


class Asking:
    """Something with these attributes alone."""

    def __init__(self, *names):
        self.__dict__.update(dict.fromkeys(names, len))


class Loud:
    def begin(self, session):
        raise StopIteration

    def generation(self, generation): ...

    def end(self, session): ...


def grey_thread(**parts):
    generator = parts.get("generator") or Pixels(4)
    made = {"optimizer": RandomSearch(generator.space, population=2), "objective": Unit(0), **parts}
    return Thread(generator, made["optimizer"], made["objective"], "x")


def test_a_property_that_raises_names_the_part_and_says_what_is_safe(tmp_path):
    with pytest.raises(ClosedLoopError, match=r"subject 'cells': .*units.* raised KeyError: 'layer4'"):
        present(Cells(), np.zeros((8, 3, 4, 4), np.float32), progress=False)
    message = r"subject 'cells': .*units.* raised KeyError: 'layer4'.*are safe.*closedloop resume"
    with pytest.raises(ClosedLoopError, match=message):
        Session(Cells(), [grey_thread()], save=tmp_path / "run", **{**SETTINGS, "images": 20}).run()
    assert open_recording(tmp_path / "run").sizes["presentation"] >= 6


@pytest.mark.parametrize(
    ("part", "kind", "message"),
    [
        ({"objective": Silent()}, ObjectiveError, "objective Silent: describe raised ZeroDivisionError"),
        ({"generator": Grey(4)}, GeneratorError, "generator '.*': space raised ZeroDivisionError: of the grid"),
        ({"optimizer": Sorting(Pixels(4).space, population=2)}, OptimizerError, r"proposers\(\): expected a list"),
    ],
)
def test_each_part_is_named(part, kind, message):
    with pytest.raises(kind, match=message):
        Session(Cells(), [grey_thread(**part)], **SETTINGS).run()


def test_an_observer_is_named():
    with pytest.raises(ObserverError, match=r"observer Loud, begin\(\) raised StopIteration"):
        Session(Cells(), [grey_thread()], observers=[Loud()], **SETTINGS).run()


def test_a_flag_that_is_none_is_refused():
    class Asking(RandomSearch):
        needs_gradient = "no"

    with pytest.raises(InvalidArgumentError, match="needs_gradient: expected True or False, got 'no'"):
        evolve(Cells(), Pixels(4), Asking(Pixels(4).space), **SETTINGS)


def test_what_is_no_fault_of_a_part_stays_as_it_is():
    """A function of ours that was handed a part is no code of that part."""
    with pytest.raises(ZeroDivisionError, match="division"), parts_named():
        1 / 0  # noqa: B018
    subject = Cells()
    code = compile("def ours(subject):\n raise KeyError('of ours')\nours(s)", "x", "exec")
    with pytest.raises(KeyError, match="of ours"), parts_named():
        exec(code, {"__name__": "closedloop.x", "s": subject})  # noqa: S102 - as a module of ours


def test_one_of_ours_stays_of_its_kind_and_names_the_part():
    class Strict:
        name = "strict"
        units = Units(("a",), {})

        def record(self, images):
            raise InvalidArgumentError("codes: expected others.")

    with pytest.raises(InvalidArgumentError, match="subject 'strict': record: codes: expected"), parts_named():
        Strict().record(0)


def test_a_reason_has_words_for_any_exception():
    class MuteError(Exception):
        def __str__(self):
            raise TypeError

    assert reason(MuteError()) == "MuteError"
    assert reason(ValueError("a\x1b[31m\ud83d é\nmore")) == r"ValueError: a\x1b[31m\ud83d é"
    assert reason(KeyError()) == "KeyError"


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"optimizer": Asking("ask", "tell", "space", "name", "needs_gradient")}, "it has no restore, state"),
        ({"generator": Asking("name", "resolution")}, "it has no __call__, space"),
        ({"objective": len}, r"write a class with __call__\(responses\) and describe\(\), or a text"),
    ],
)
def test_what_falls_short_of_a_part_is_told_what_it_lacks(part, words):
    with pytest.raises(InvalidArgumentError, match=f"{next(iter(part))}: expected an? .*{words}"):
        evolve(**{"subject": Cells(), "generator": Pixels(4), "optimizer": RandomSearch(Pixels(4).space), **part})


def test_functions_and_networks_are_told_how_they_become_subjects():
    torch = pytest.importorskip("torch")
    with pytest.raises(InvalidArgumentError, match=r"expected a Subject, got .*; a function .* FunctionSubject"):
        present(lambda images: images, np.zeros((2, 3, 4, 4), np.float32))
    with pytest.raises(
        InvalidArgumentError, match=r"Sequential\( \(0\): Flatten.*; a network of torch .* TorchSubject"
    ):
        present(torch.nn.Sequential(torch.nn.Flatten()), np.zeros((2, 3, 4, 4), np.float32))


def test_a_generator_is_named_once():
    class Tanh(Pixels):
        def __call__(self, codes):
            return super().__call__(codes) * 2 - 1

    with pytest.raises(GeneratorError, match=r"^thread 'x': generator 'pixels': expected RGB in \[0, 1\]"):
        Session(Cells(), [grey_thread(generator=Tanh(4))], **SETTINGS).run()


def test_a_generator_of_images_that_no_memory_holds_is_named():
    generator = Pixels(4)
    generator.resolution = 10**400
    with pytest.raises(InvalidArgumentError, match="generator 'pixels': resolution: an array of 3 x 1000"):
        grey_thread(generator=generator)


class Both(Pixels):
    """A generator that proposes codes, too."""

    def ask(self): ...

    def tell(self, codes, scores): ...

    def __call__(self, codes):
        return self.drawn(codes)

    def drawn(self, codes):
        raise ValueError("no ink")


def test_a_part_of_two_kinds_is_named_as_what_it_was_asked():
    with pytest.raises(GeneratorError, match=r"^thread 'x': generator 'pixels' raised ValueError: no ink"):
        Session(Cells(), [grey_thread(generator=Both(4))], **SETTINGS).run()
    with pytest.raises(GeneratorError, match=r"^generator 'pixels': drawn raised ValueError: no ink"), parts_named():
        Both(4)(0)


@pytest.mark.parametrize("length", [1, 2])
def test_an_error_that_is_its_own_cause_is_named(length):
    def draws(images):
        errors = [KeyError("a"), ValueError("b")][:length]
        for error, cause in zip(errors, [*errors[1:], errors[0]], strict=True):
            error.__cause__ = cause
        raise errors[0]

    with pytest.raises(ClosedLoopError, match=r"subject 'own' raised KeyError: 'a'"):
        present(FunctionSubject(draws, units=1, name="own"), np.zeros((2, 3, 4, 4), np.float32), progress=False)


def test_an_error_of_ours_that_speaks_of_a_kind_names_the_part_all_the_same():
    class Vague(Silent):
        def describe(self):
            raise InvalidArgumentError("no objective fits a generator")

    with pytest.raises(InvalidArgumentError, match=r"^objective Vague: describe: no objective fits"), parts_named():
        Vague().describe()


def test_a_property_that_looks_up_what_is_not_there_says_so():
    """It is there itself: an AttributeError within reads as though it were not."""

    class Lost(Cells):
        @property
        def units(self):
            return self.mapped

    class Unsure(RandomSearch):
        needs_gradient = property(lambda self: self.slope)

    class Adrift(Pixels):
        space = property(lambda self: self.grid, lambda self, made: None)

    with pytest.raises(InvalidArgumentError, match=r"^subject: units raised AttributeError: 'Lost' .*'mapped'"):
        present(Lost(), np.zeros((2, 3, 4, 4), np.float32), progress=False)
    with pytest.raises(
        InvalidArgumentError, match=r"^generator: space raised AttributeError: 'Adrift' .*'grid'"
    ) as raised:
        evolve(Cells(), Adrift(4), RandomSearch(Pixels(4).space), **SETTINGS)
    assert isinstance(raised.value.__cause__, AttributeError)
    with pytest.raises(InvalidArgumentError, match=r"^optimizer: needs_gradient raised AttributeError: .*'slope'"):
        evolve(Cells(), Pixels(4), Unsure(Pixels(4).space), **SETTINGS)
