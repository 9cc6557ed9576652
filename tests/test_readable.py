"""What a person sees of objects: one line, without addresses."""

import dataclasses

import numpy as np
import pytest

from closedloop import CMAES, ImageSet, RandomSearch, Session, Space, Thread, Unit, Units, load_optimizer, summarize
from closedloop.generators import CPPN, Fourier, FourierMovie, Pixels, Truncated
from closedloop.objectives import parse_objective
from closedloop.protocols import evolve
from closedloop.readable import Readable, counted, some, with_error
from closedloop.subjects import FunctionSubject, GaborSubject, MotionEnergySubject, Poisson, TorchSubject

torch = pytest.importorskip("torch")
NET = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())
SPACE = Space(7)


@pytest.mark.parametrize(
    ("made", "line"),
    [
        (lambda: GaborSubject(count=2), "<GaborSubject gabor: 2 units, images of 32 × 32 pixels>"),
        (lambda: Poisson(GaborSubject()), "<Poisson gabor+poisson: 1 unit, images of 32 × 32 pixels>"),
        (lambda: FunctionSubject(lambda images: images.mean((1, 2, 3)), name="rig"), "<FunctionSubject rig: 1 unit>"),
        (
            lambda: TorchSubject(NET, layer="0", resolution=16, engine="eager", name="net"),
            "<TorchSubject net: 4 units, images of 16 × 16 pixels, eager on cpu>",
        ),
        (lambda: Pixels(8), "<Pixels pixels: codes of 192 numbers → images of 8 × 8 pixels>"),
        (
            lambda: Truncated(Fourier(resolution=16, cutoff=2)),
            "<Truncated truncated(fourier): codes of {} numbers → images of 16 × 16 pixels>",
        ),
        (lambda: RandomSearch(SPACE, seed=3), "<RandomSearch random: 7 dimensions, seed 3>"),
        (lambda: CMAES(SPACE, seed=3), "<CMAES cma: 7 dimensions, seed 3>"),
        (
            lambda: load_optimizer("auto", SPACE, 5, images=2000),
            "<Auto auto: 7 dimensions, seed 5, budget of 2,000 codes>",
        ),
        (lambda: load_optimizer("shuffled:random", SPACE, 5), "<ShuffledScores shuffled:random: 7 dimensions, seed 5>"),
        (lambda: Unit(3), "<Linear unit(3)>"),
        (lambda: parse_objective("logprob(0) - 2*tv()"), "<Combination logprob(0) - 2.0*tv()>"),
        (lambda: SPACE, "Space(dim=7, scale=1)"),
        (lambda: Space(7, low=0, high=1), "Space(dim=7, low=0, high=1)"),
        (
            lambda: Units(("a", "b", "c", "d"), {"layer": ("x",) * 4, "y": (1,) * 4}),
            "<Units 4: a, b, c, …; with layer, y>",
        ),
        (
            lambda: ImageSet(("cat", "dog"), np.zeros((2, 3, 8, 8), np.float32)),
            "<ImageSet 2 images of 8 × 8 pixels: cat, dog>",
        ),
        (
            lambda: Thread(Pixels(8), RandomSearch(Pixels(8).space), name="a"),
            "<Thread a: random searches codes of pixels for unit(0)>",
        ),
    ],
)
def test_a_line_says_what_is_needed(made, line):
    part = made()
    assert repr(part) == line.replace("{}", str(getattr(getattr(part, "space", None), "dim", "")))


@pytest.mark.parametrize(
    "made",
    [CPPN, FourierMovie, MotionEnergySubject],
)
def test_no_line_has_an_address(made):
    assert " at 0x" not in repr(made())
    assert "\n" not in repr(made())


def test_something_half_made_has_a_line():
    assert repr(object.__new__(FunctionSubject)) == "<FunctionSubject>"
    assert repr(Readable()) == "<Readable>"
    assert (counted(1, "unit"), counted(1200, "unit")) == ("1 unit", "1,200 units")
    assert (some("ab"), some("abcd")) == ("a, b", "a, b, c, …")


def test_a_session_and_what_it_found():
    subject = FunctionSubject(lambda images: images.mean((1, 2, 3)), name="<rig>")
    generator, references = Pixels(8), np.random.default_rng(0).random((4, 3, 8, 8), dtype=np.float32)
    thread = Thread(generator, RandomSearch(generator.space, population=8))
    session = Session(subject, [thread], images=16, retest_repeats=2, references=references)
    assert repr(session) == "<Session <rig>: 1 thread (main), 16 images each, 0 presentations so far (survey)>"
    found = summarize(session.run())
    line = repr(found[0])
    assert line.startswith("<ThreadSummary main: <rig>.0: evolved 0.5")
    assert line.endswith(", 16 images>")
    assert repr(found) == f"[{line}]"
    shown = found._repr_html_()
    assert "data:image/png;base64," in shown
    assert "main: &lt;rig&gt;.0" in shown
    assert "<rig>" not in shown
    without = dataclasses.replace(found[0], recording=None)
    assert "<img" not in without._repr_html_()
    assert without == found[0]


def test_without_a_re_test_there_is_no_image():
    subject = FunctionSubject(lambda images: images.mean((1, 2, 3)), name="rig")
    generator = Pixels(8)
    optimizer = RandomSearch(generator.space, population=8)
    ds = evolve(subject, generator, optimizer, images=16, references=None, retest_candidates=0)
    assert "<img" not in summarize(ds)[0]._repr_html_()
    assert "not re-tested" in repr(summarize(ds)[0])


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (1.484, 0.0213, "1.48 ± 0.021"),
        (1.484, float("nan"), "1.48"),
        (1.484, 0.0, "1.48"),
        (float("nan"), 0.1, "–"),
        (float("inf"), 0.1, "–"),
    ],
)
def test_an_error_that_is_not_known_is_not_shown(value, error, text):
    assert with_error(value, error) == text
