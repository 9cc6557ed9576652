"""Showing images: order, repeats, lost presentations, time limits, failing subjects."""

from __future__ import annotations

import re
import threading

import numpy as np
import pytest

from closedloop.errors import InvalidArgumentError, SubjectError, SubjectTimeoutError
from closedloop.interfaces import Units
from closedloop.loop.presenter import Presenter, Shown


def images(n):
    """Images that tell their own index: grey value i / 100."""
    return np.broadcast_to((np.arange(n) / 100)[:, None, None, None], (n, 3, 2, 2)).astype(np.float32)


class Scripted:
    """Answers the index of each image in two units; `lose(call, index)` says which presentations are lost."""

    name = "scripted"
    units = Units.numbered("scripted", 2)

    def __init__(self, lose=lambda call, index: False, time=None):
        self.lose, self.time = lose, time
        self.blocks = []

    def record(self, shown):
        index = np.rint(shown[:, 0, 0, 0] * 100).astype(int)
        self.blocks.append(index.tolist())
        responses = np.stack([index, 10 * index], axis=1).astype(float)
        responses[[self.lose(len(self.blocks) - 1, i) for i in index.tolist()]] = np.nan
        return responses if self.time is None else np.repeat(responses[..., None], self.time, axis=2)


def show(subject, n=6, repeats=1, seed=0, **options):
    return Presenter(subject, **options).show(images(n), np.full(n, repeats), np.random.default_rng(seed))


def test_order_is_shuffled_and_indices_are_right():
    shown = show(Scripted(), n=30)
    assert sorted(shown.stimulus.tolist()) == list(range(30))
    assert shown.stimulus.tolist() != list(range(30))
    np.testing.assert_array_equal(shown.responses[:, 0], shown.stimulus)
    np.testing.assert_array_equal(show(Scripted(), n=30).stimulus, shown.stimulus)
    assert show(Scripted(), n=30, seed=1).stimulus.tolist() != shown.stimulus.tolist()


def test_repeats_are_counted_and_mixed():
    repeats = np.array([3, 0, 1, 5])
    shown = Presenter(Scripted()).show(images(4), repeats, np.random.default_rng(0))
    assert np.bincount(shown.stimulus, minlength=4).tolist() == repeats.tolist()
    for stimulus in range(4):
        assert shown.repeat[shown.stimulus == stimulus].tolist() == list(range(repeats[stimulus]))
    assert (np.diff(shown.stimulus) != 0).sum() > 3


def test_the_images_are_not_changed():
    class Vandal(Scripted):
        def record(self, shown):
            answer = super().record(shown)
            shown[:] = 0
            return answer

    before = images(5).copy()
    mine = before.copy()
    Presenter(Vandal()).show(mine, np.ones(5, int), np.random.default_rng(0))
    np.testing.assert_array_equal(mine, before)


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_what_is_always_lost_is_shown_again_so_often(retries):
    subject = Scripted(lose=lambda call, index: index == 2)
    shown = show(subject, retries=retries)
    assert [len(b) for b in subject.blocks] == [6] + [1] * retries
    assert (shown.stimulus == 2).sum() == 1 + retries
    assert shown.repeat[shown.stimulus == 2].tolist() == list(range(1 + retries))
    assert np.isnan(shown.means(6)[2]).all()


def test_a_second_showing_repairs_the_loss():
    subject = Scripted(lose=lambda call, index: call == 0 and index in (1, 4))
    shown = show(subject, retries=5)
    assert [sorted(b) for b in subject.blocks] == [list(range(6)), [1, 4]]
    assert np.isnan(shown.responses).all(1).sum() == 2
    np.testing.assert_array_equal(shown.means(6), np.stack([np.arange(6), 10.0 * np.arange(6)], axis=1))


def test_partly_lost_responses_are_kept():
    class Partly(Scripted):
        def record(self, shown):
            answer = super().record(shown)
            answer[:, 1] = np.nan
            return answer

    subject = Partly()
    shown = show(subject)
    assert len(subject.blocks) == 1
    assert np.isnan(shown.means(6)[:, 1]).all()
    np.testing.assert_array_equal(shown.means(6)[:, 0], np.arange(6))


def test_time_axis():
    shown = show(Scripted(lose=lambda call, index: index == 0, time=4), repeats=2, retries=1)
    assert shown.responses.shape == (14, 2, 4)
    assert shown.means(6).shape == (6, 2, 4)
    assert np.isnan(shown.means(6)[0]).all()
    np.testing.assert_array_equal(shown.means(6)[3, 1], 30.0)


def test_means_and_sums():
    responses = np.array([[1.0], [np.nan], [3.0], [5.0]])
    shown = Shown(np.array([0, 0, 0, 2]), np.array([0, 1, 2, 0]), responses)
    total, count = shown.sums(3)
    assert total.tolist() == [[4.0], [0.0], [5.0]]
    assert count.tolist() == [[2.0], [0.0], [1.0]]
    np.testing.assert_array_equal(shown.means(3), [[2.0], [np.nan], [5.0]])


def test_a_slow_subject():
    release = threading.Event()

    class Hanging(Scripted):
        def record(self, shown):
            release.wait(10)
            return super().record(shown)

    try:
        with pytest.raises(
            SubjectTimeoutError, match=r"subject 'scripted': no answer to 6 images within timeout_s=0.05"
        ):
            show(Hanging(), timeout_s=0.05)
    finally:
        release.set()


@pytest.mark.parametrize("timeout_s", [None, 30.0, 1e30])
def test_in_time_or_without_a_limit_the_answers_are_the_same(timeout_s):
    shown = show(Scripted(lose=lambda call, index: call == 0 and index == 3), timeout_s=timeout_s)
    expected = show(Scripted(lose=lambda call, index: call == 0 and index == 3))
    np.testing.assert_array_equal(shown.stimulus, expected.stimulus)
    np.testing.assert_array_equal(shown.responses, expected.responses)


@pytest.mark.parametrize("timeout_s", [None, 30.0, 1e30])
def test_a_failing_subject(timeout_s):
    def fail(error):
        class Failing(Scripted):
            def record(self, shown):
                raise error

        return Failing()

    with pytest.raises(
        SubjectError, match="subject 'scripted' raised ZeroDivisionError: the amplifier is off"
    ) as caught:
        show(fail(ZeroDivisionError("the amplifier is off")), timeout_s=timeout_s)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    with pytest.raises(InvalidArgumentError, match="own words"):
        show(fail(InvalidArgumentError("own words")), timeout_s=timeout_s)
    with pytest.raises(KeyboardInterrupt, match="stop"):
        show(fail(KeyboardInterrupt("stop")), timeout_s=timeout_s)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda n: np.zeros((n, 3)), "expected responses of shape (6, 2)"),
        (lambda n: np.zeros((n - 1, 2)), "got (5, 2)"),
        (lambda n: np.full((n, 2), np.inf), "is infinite"),
        (lambda n: None, "expected numbers"),
    ],
)
def test_wrong_responses(answer, message):
    class Wrong(Scripted):
        def record(self, shown):
            return answer(len(shown))

    with pytest.raises(SubjectError, match="subject 'scripted': .*" + re.escape(message)):
        show(Wrong())
