"""What a person sees of objects: one line, without addresses."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from closedloop import CMAES, ImageSet, RandomSearch, Session, Space, Thread, Unit, Units, load_optimizer, summarize
from closedloop.generators import CPPN, Fourier, FourierMovie, Pixels, Truncated
from closedloop.objectives import parse_objective
from closedloop.protocols import evolve
from closedloop.readable import NO_NUMBER, Readable, counted, number, percent, some, with_error
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
        (1.484, 0.0213, "1.484 ± 0.021"),
        (-0.3536, 2.1, "-0.4 ± 2.1"),
        (2, 0.12345, "2.00 ± 0.12"),
        (28.31623, 0.0996, "28.32 ± 0.10"),  # the error is 0.100 at two digits: 0.10
        (0.0312, 0.0998, "0.03 ± 0.10"),
        (12345.6, 151.0, "12,350 ± 150"),
        (-0.001, 3.0, "0.0 ± 3.0"),
        (9.99e-6, 1.2e-7, "(9.99 ± 0.12)e-06"),
        (3e7, 1.4e6, "(3.00 ± 0.14)e+07"),
        (12.345678, 1e-9, "12.34568 ± 1e-09"),
        (0.0, 0.5, "0.00 ± 0.50"),
        (1.484, float("nan"), "1.484"),
        (1.484, float("inf"), "1.484"),
        (1.484, None, "1.484"),
        (1.484, 0.0, "1.484"),
        (float("nan"), 0.1, "–"),
        (float("inf"), 0.1, "–"),
        (None, None, "–"),
    ],
)
def test_a_number_goes_as_far_as_its_error(value, error, text):
    assert with_error(value, error) == text


@given(
    st.floats(-1e12, 1e12).filter(lambda x: x == 0 or abs(x) > 1e-12),
    st.floats(1e-12, 1e12),
)
def test_what_is_written_is_near_what_was_measured(value, error):
    text = with_error(value, error).replace(",", "")
    inner, _, power = text.strip("(").partition(")e")
    scale = 10.0 ** int(power or 0)
    written, spread = (float(part) * scale for part in inner.split(" ± "))
    assert abs(spread - error) <= 0.051 * error
    assert abs(written - value) <= max(0.051 * error, 1e-6 * max(abs(value), error))


@pytest.mark.parametrize(
    ("value", "words"), [(1234.0, "1,234"), (12.3456, "12.35"), (0.0, "0"), (-3.0, "-3"), (math.nan, NO_NUMBER)]
)
def test_numbers(value, words):
    assert number(value) == words


@pytest.mark.parametrize(
    ("share", "words"),
    [
        ((0.25,), "25 %"),
        ((0.125, 1), "12.5 %"),
        ((-0.09, 0, "+"), "-9 %"),
        ((1.0, 0, "+"), "+100 %"),
        ((math.nan,), "–"),
    ],
)
def test_shares_are_written_alike(share, words):
    assert percent(*share) == words
