"""Buffers that are not renewed or lag behind are suspected; silent, saturated or noiseless subjects never."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from closedloop.errors import SubjectWarning
from closedloop.interfaces import Units
from closedloop.loop.presenter import Presenter
from closedloop.loop.stale import Watch, image_keys

REFERENCES = 20


def blocks(rng, generations=25):
    """Numbers of images: all references, then generations of new images with three references in turn, shuffled."""
    yield rng.permutation(REFERENCES)
    for g in range(generations):
        new = 1000 + 10 * g + np.arange(10)
        yield rng.permutation([*new, *((3 * g + np.arange(3)) % REFERENCES)])


def answers(image):
    """What two tuned units answer."""
    return np.random.default_rng(int(image)).gamma(2, 10, 2)


def suspicion(answer, seed=0, generations=25):
    """What is found in a session; `answer` has the block, the images of the block before, and the last answers."""
    watch, before, last = Watch(), None, None
    for shown in blocks(np.random.default_rng(seed), generations):
        last = np.asarray(answer(shown, before, last), dtype=float).reshape(len(shown), -1)
        watch.see(shown.tolist(), last)
        before = shown
    return watch.found


def right(shown, before, last):
    return np.stack([answers(i) for i in shown])


def frozen(shown, before, last):
    """The first block for ever."""
    first = right(shown, before, last) if last is None else last
    return np.resize(first, (len(shown), 2))


def one_behind(shown, before, last):
    return np.stack([answers(i) for i in [0 if before is None else before[-1], *shown[:-1]]])


def block_behind(shown, before, last):
    return right(np.resize([500, 501, 502] if before is None else before, len(shown)), before, last)


def held(shown, before, last):
    """Every second reading comes too early."""
    return right(shown, before, last)[np.arange(len(shown)) // 2 * 2]


def first_for_all(shown, before, last):
    return np.resize(answers(shown[0]), (len(shown), 2))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (frozen, "blocks of different images have exactly the same responses"),
        (one_behind, "is answered as the image shown before it, and not as itself"),
        (block_behind, "is answered as the image in its place in the block before"),
        (held, "images have exactly the response of the image before them"),
        (first_for_all, "all images of a block have one response, which differs from block to block"),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_a_buffer_that_is_not_renewed_is_suspected(answer, words, seed):
    assert words in suspicion(answer, seed)


NOISE = np.random.default_rng(9)
HONEST = {
    "noiseless": right,
    "silent": lambda shown, *_: np.zeros((len(shown), 2)),
    "saturated": lambda shown, *_: np.full((len(shown), 2), 7.0),
    "lost": lambda shown, *_: np.full((len(shown), 2), np.nan),
    "counts": lambda shown, *_: NOISE.poisson(right(shown, 0, 0) / 10),
    "few counts": lambda shown, *_: NOISE.poisson(right(shown, 0, 0)[:, :1] / 60),
    "rounded": lambda shown, *_: np.round(right(shown, 0, 0)[:, :1] / 30),
    "binary": lambda shown, *_: right(shown, 0, 0)[:, :1] > 15,
    "rising to a ceiling": lambda shown, *_: np.minimum(np.round(np.where(shown < 1000, 1, (shown - 990) / 20)), 6),
    "only references differ": lambda shown, *_: np.where(shown < 1000, shown + 1, 5),
    "noise alone": lambda shown, *_: NOISE.standard_normal((len(shown), 2)),
    "drifting": lambda shown, before, last: right(shown, 0, 0) * (1.0 if before is None else 1 - before[0] / 1e6),
}


@pytest.mark.parametrize("kind", HONEST)
@pytest.mark.parametrize("seed", range(3))
def test_what_answers_the_images_that_are_shown_is_not_suspected(kind, seed):
    assert suspicion(HONEST[kind], seed, 60) == ""


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 3), st.floats(0, 1))
def test_no_quantized_subject_is_suspected(seed, levels, units, noise):
    rng = np.random.default_rng(seed)
    tuning = rng.random((1300, units))

    def answer(shown, *_):
        tuned = tuning[shown]
        return np.floor(levels * ((1 - noise) * tuned + noise * rng.random(tuned.shape)))

    assert suspicion(answer, seed) == ""


def test_equal_images_have_equal_answers():
    watch = Watch()
    for _ in range(20):
        assert watch.see([1, 2, 3, 4, 5], np.arange(5)[:, None] + 1.0) == ""


def test_it_is_said_once():
    watch = Watch()
    said = [watch.see(range(20 * i, 20 * i + 20), np.arange(20)[:, None] + 1.0) for i in range(5)]
    assert [bool(words) for words in said] == [False, True, False, False, False]
    assert watch.found == said[1]


def test_images_are_told_apart():
    images = np.random.default_rng(0).random((4, 3, 64, 64), dtype=np.float32)
    keys = image_keys(images[[0, 1, 2, 3, 0]])
    assert len(set(keys)) == 4
    assert keys[0] == keys[4]
    assert len(set(image_keys(np.zeros((2, 3, 1, 5, 5), np.float32)))) == 1


class Frozen:
    """A rig whose buffer is never renewed."""

    name = "rig"
    units = Units.numbered("rig", 1)

    def __init__(self, renewed: bool) -> None:
        self.renewed = renewed
        self.buffer = None

    def record(self, images):
        if self.buffer is None or self.renewed:
            self.buffer = images.mean((1, 2, 3))[:, None].astype(float)
        return self.buffer


@pytest.mark.parametrize("renewed", [True, False])
def test_the_presenter_warns_while_it_runs(renewed):
    presenter, rng = Presenter(Frozen(renewed)), np.random.default_rng(0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(4):
            presenter.show(rng.random((15, 3, 8, 8), dtype=np.float32), np.ones(15, int), rng)
    assert [w.category for w in caught] == [] if renewed else [SubjectWarning]
    if not renewed:
        assert "subject 'rig': blocks of different images have exactly the same responses" in str(caught[0].message)


def test_a_unit_that_is_nearly_always_silent_is_no_stale_buffer():
    """One answer in each block, whatever it is, tells nothing of the others."""
    watch = Watch()
    for block in range(12):
        responses = np.zeros((8, 1))
        responses[block % 8] = 1.0 + block
        assert watch.see(range(8 * block, 8 * block + 8), responses) == ""
    for block in range(12):
        responses = np.full((8, 1), np.nan)
        responses[0] = 0.5 + block
        assert watch.see(range(8 * block, 8 * block + 8), responses) == ""
