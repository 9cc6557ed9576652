"""The loop's own arithmetic runs on one thread, and leaves libraries as they were."""

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from closedloop import IsotropicES, Session, Thread, Unit
from closedloop.generators import Fourier
from closedloop.loop.sparing import one_thread
from tests.small_runs import SIDE, cells


def threads():
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


@pytest.fixture
def two():
    with threadpool_limits(2, user_api="blas"):
        if set(threads()) != {2}:
            pytest.skip("a BLAS library that takes no second thread")
        yield


def test_one_within_and_as_before_behind(two):
    with one_thread():
        assert set(threads()) == {1}
    assert set(threads()) == {2}


def test_scipys_own_library_is_meant_too(two):
    with one_thread():
        import scipy.linalg

        scipy.linalg.cho_factor(np.eye(3))
        assert set(threads()) == {1}


def test_an_optimizer_has_one_and_the_subject_all(two):
    seen = {}

    class Watched(IsotropicES):
        def ask(self):
            seen["ask"] = set(threads())
            return super().ask()

        def tell(self, codes, scores):
            seen["tell"] = set(threads())
            super().tell(codes, scores)

    class Subject:
        def __init__(self):
            self.inner = cells()

        def __getattr__(self, name):
            return getattr(self.inner, name)

        def record(self, images):
            seen["record"] = set(threads())
            return self.inner.record(images)

    fourier = Fourier(SIDE, 2)
    thread = Thread(fourier, Watched(fourier.space, population=4), Unit(0), "main")
    Session(Subject(), [thread], images=8, progress=False).run()
    assert seen == {"ask": {1}, "tell": {1}, "record": {2}}
