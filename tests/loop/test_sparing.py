"""The loop's own arithmetic runs on one thread, and leaves libraries as they were."""

import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from closedloop import IsotropicES, Session, Thread, Unit
from closedloop.generators import Fourier
from closedloop.images.naturalness import Looked
from closedloop.loop import sparing
from closedloop.loop.sparing import Beside, one_thread
from tests.small_runs import SIDE, cells


def threads():
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


class Noticing:
    """Cells with which something is done whenever they are shown images."""

    def __init__(self, notice):
        self._inner, self._notice = cells(), notice

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def record(self, images):
        self._notice()
        return self._inner.record(images)


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

    subject = Noticing(lambda: seen.update(record=set(threads())))
    fourier = Fourier(SIDE, 2)
    thread = Thread(fourier, Watched(fourier.space, population=4), Unit(0), "main")
    Session(subject, [thread], images=8, progress=False).run()
    assert seen == {"ask": {1}, "tell": {1}, "record": {2}}


def test_one_within_another_lifts_nothing(two):
    with one_thread():
        with one_thread():
            pass
        assert set(threads()) == {1}
    assert set(threads()) == {2}


@pytest.mark.parametrize("cores", [1, 2])
def test_work_beside_has_a_core_of_its_own_where_there_is_one(monkeypatch, cores):
    monkeypatch.setattr(sparing, "_cores", lambda: cores)
    beside, seen = Beside(), []
    with np.errstate(divide="raise"):
        found = beside.begin(lambda: (seen.append(threading.get_ident()), np.geterr()["divide"])[1])
        if cores > 1:
            beside.end()
            assert seen  # it did not wait to be asked
        assert found() == "raise"  # with what holds where it was begun
    assert (seen == [threading.get_ident()]) == (cores == 1)
    beside.end()
    assert beside.begin(lambda: 7)() == 7  # it can be begun again behind its end
    beside.end()


@pytest.mark.parametrize("cores", [1, 2])
def test_what_goes_wrong_beside_is_raised_when_it_is_asked_for(monkeypatch, cores):
    monkeypatch.setattr(sparing, "_cores", lambda: cores)
    beside = Beside()
    found = beside.begin(lambda: 1 / 0)
    beside.end()
    with pytest.raises(ZeroDivisionError, match="division"):
        found()


def test_naturalness_is_measured_while_the_subject_is_shown_images(monkeypatch):
    monkeypatch.setattr(sparing, "_cores", lambda: 2)
    looking, showing = threading.Event(), []
    real = Looked.at.__func__

    def look(cls, images, bank):
        looking.set()
        return real(cls, images, bank)

    monkeypatch.setattr(Looked, "at", classmethod(look))

    def wait():
        showing.append(looking.wait(10))
        looking.clear()

    fourier = Fourier(SIDE, 2)
    thread = Thread(fourier, IsotropicES(fourier.space, population=4), Unit(0), "main")
    Session(Noticing(wait), [thread], images=8, progress=False).run()
    assert len(showing) > 2
    assert all(showing)


def test_a_thread_beside_ends_with_its_run():
    before = threading.active_count()
    fourier = Fourier(SIDE, 2)
    thread = Thread(fourier, IsotropicES(fourier.space, population=4), Unit(0), "main")
    session = Session(cells(), [thread], images=8, progress=False)
    session.run()
    assert threading.active_count() == before


def test_a_run_has_the_same_bits_with_naturalness_beside_and_before(monkeypatch):
    found = []
    for cores in (1, 2):
        monkeypatch.setattr(sparing, "_cores", lambda cores=cores: cores)
        fourier = Fourier(SIDE, 2)
        thread = Thread(fourier, IsotropicES(fourier.space, seed=1, population=4), Unit(0), "main")
        images = np.random.default_rng(0).random((6, 3, SIDE, SIDE)).astype(np.float32)
        found.append(Session(cells(), [thread], images=24, references=images, progress=False).run())
    assert found[0].equals(found[1])
