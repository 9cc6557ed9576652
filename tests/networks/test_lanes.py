"""The ways of a batch over the cores."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from closedloop.networks import lanes
from closedloop.networks.engines import build_engine, probe_batch
from closedloop.networks.lanes import InParts, SideBySide, quicker


class Clocked:
    """Counts what it is given, and takes as long as it is told for each call and each entry."""

    name, runs_torch = "clocked", False

    def __init__(self, clock, call, entry, sums=False) -> None:
        self.clock, self.call, self.entry, self.sums, self.given = clock, call, entry, sums, []

    def __call__(self, inputs):
        self.given.append(len(inputs))
        self.clock[0] += self.call + self.entry(len(inputs)) * len(inputs)
        return inputs + (inputs.sum() if self.sums else 0)


@pytest.fixture
def clock(monkeypatch):
    """A clock that only `Clocked` moves, in the place of both that are read."""
    now = [0.0]
    monkeypatch.setattr(lanes.time, "thread_time", lambda: now[0])
    monkeypatch.setattr(lanes.time, "perf_counter", lambda: now[0])
    return now


BATCH = np.random.default_rng(0).random((8, 4)).astype(np.float32)


@pytest.mark.parametrize(
    ("call", "entry", "sums", "parted"),
    [
        (0.0, lambda n: 1 + n / 8, False, True),
        (9.0, lambda n: 1.0, False, False),  # the call is dear
        (0.0, lambda n: 1 + n / 8, True, False),  # and here it would not be the same
    ],
)
def test_one_thread_takes_a_few_at_a_time_where_that_is_quicker_and_the_same(clock, call, entry, sums, parted):
    plain = Clocked(clock, call, entry, sums)
    engine = quicker(plain, BATCH, 1, None)
    assert (engine is not plain) == parted
    plain.given.clear()
    assert len(engine(BATCH[:5])) == 5
    assert plain.given == ([2, 2, 1] if parted else [5])
    assert engine.name == "clocked"
    assert len(engine(BATCH[:1])) == 1


def test_several_threads_share_each_layer_where_there_is_no_engine_of_one(clock):
    plain = Clocked(clock, 0.0, lambda n: 1 + n)
    assert quicker(plain, BATCH, 2, None) is plain


@pytest.mark.parametrize(("entry", "sums", "shared"), [(0.1, False, True), (9.0, False, False), (0.1, True, False)])
@pytest.mark.parametrize("threads", [2, 3, 16])
def test_each_core_takes_entries_of_its_own_where_that_is_quicker_and_the_same(clock, entry, sums, shared, threads):
    plain, one = Clocked(clock, 0.0, lambda n: 1.0), Clocked(clock, 0.0, lambda n: entry, sums)
    engine = quicker(plain, BATCH, threads, lambda: one)
    assert isinstance(engine, SideBySide) == shared
    assert (engine is plain) != shared


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 17])
@pytest.mark.parametrize("cores", [2, 3, 4])
def test_shares_are_put_together_in_their_order(n, cores):
    class Named:
        """Notes on which thread it is called."""

        name, runs_torch = "named", False

        def __init__(self):
            self.given, self.threads = [], set()

        def __call__(self, inputs):
            self.given.append(len(inputs))
            self.threads.add(threading.get_ident())
            return inputs * 2

    whole, one = Named(), Named()
    inputs = np.arange(4 * n, dtype=np.float32).reshape(n, 4)
    engine = SideBySide(whole, one, cores)
    assert np.array_equal(engine(inputs), inputs * 2)
    if n < cores:  # too little to be shared out: all cores work on it together
        assert (whole.given, one.given) == ([n], [])
    else:
        assert whole.given == []
        assert sum(one.given) == n
        assert max(one.given) <= lanes.FEW
        assert len(one.threads) <= cores


@pytest.mark.parametrize(("n", "cores", "sizes"), [
    (4, 2, [1, 1, 1, 1]), (9, 2, [2, 2, 1, 1, 1, 1, 1]), (10, 2, [2, 2, 2, 1, 1, 1, 1]),
    (5, 4, [1] * 5), (3, 3, [1] * 3),
])  # fmt: skip
def test_the_last_entries_come_singly_so_that_all_cores_end_together(n, cores, sizes):
    parts = lanes._cut(np.arange(n, dtype=np.float32)[:, None], cores)
    assert [len(part) for part in parts] == sizes
    assert np.concatenate(parts)[:, 0].tolist() == list(range(n))


def test_what_goes_wrong_on_another_core_is_raised():
    def broken(inputs):
        if inputs.max() > 5:
            raise ValueError("it does not like this one")
        return inputs

    broken.name, broken.runs_torch = "broken", False
    engine = SideBySide(broken, broken, 2)
    with pytest.raises(ValueError, match="does not like"):
        engine(np.arange(8, dtype=np.float32)[:, None])
    assert len(engine(np.zeros((8, 1), np.float32))) == 8  # and the next batch goes well


class Slow:
    """Takes a moment for each call, and does not like numbers above 5."""

    name, runs_torch = "slow", False

    def __init__(self):
        self.calls = 0

    def __call__(self, inputs):
        self.calls += 1
        time.sleep(0.01)
        if inputs.max() > 5:
            raise ValueError("it does not like this one")
        return inputs * 2


@pytest.mark.parametrize("bad", [0, 5])
def test_where_something_goes_wrong_all_cores_end_soon(bad):
    one, inputs = Slow(), np.zeros((200, 1), np.float32)
    inputs[bad] = 9
    with pytest.raises(ValueError, match="does not like"):
        SideBySide(one, one, 3)(inputs)
    begun = one.calls
    assert begun < 20
    time.sleep(0.1)
    assert one.calls == begun


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system forks no process")
def test_a_forked_process_has_threads_of_its_own():
    engine, inputs = SideBySide(Slow(), Slow(), 3), np.ones((12, 1), np.float32)
    engine(inputs)  # its threads are there
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer Pythons say that forking is not for programs with threads
        child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(engine(inputs), inputs * 2) else 1)
    for _ in range(500):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        time.sleep(0.02)
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert (ended, status) == (child, 0)


def test_threads_end_with_their_engine():
    before = threading.active_count()
    for _ in range(10):
        assert len(SideBySide(Slow(), Slow(), 4)(np.ones((8, 1), np.float32))) == 8
    gc.collect()
    for _ in range(100):
        if threading.active_count() <= before:
            break
        time.sleep(0.02)
    assert threading.active_count() <= before


def test_several_threads_may_use_an_engine_at_once():
    engine = SideBySide(Slow(), Slow(), 3)
    inputs = [np.full((9, 1), i / 2, np.float32) for i in range(6)]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(engine, inputs))
    assert all(np.array_equal(outputs, 2 * given) for outputs, given in zip(found, inputs, strict=True))


def test_a_network_answers_the_same_either_way(monkeypatch):
    import torch
    from torch import nn

    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 5), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 5))

    class Tupled(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = module.eval()

        def forward(self, images):
            return (self.inner(images),)

    images = probe_batch(32)
    given = {}
    for factor in (0.0, np.inf):  # each core takes its own never, or always
        monkeypatch.setattr(lanes, "ALIKE", factor)
        monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
        engine = build_engine("onnx", Tupled(), images, input_name="images", widths=(5,), device=torch.device("cpu"))
        given[factor] = [engine(images[:n]) for n in (1, 2, 3, 7, 8)]
        assert isinstance(engine, SideBySide) == (factor > 0)
        assert not isinstance(engine, InParts)
    for mine, theirs in zip(*given.values(), strict=True):
        assert np.array_equal(mine, theirs)
