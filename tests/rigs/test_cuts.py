"""A cable that delays, and is pulled: a proxy between the experiment and a rig over ZeroMQ."""

from __future__ import annotations

import contextlib
import random
import select
import socket
import threading
import time

import numpy as np
import pytest

from closedloop.loop import notices
from closedloop.rigs.simulated import SimulatedRig
from closedloop.subjects import RigSubject
from tests.running_rigs import Running, marked, number_of, telling

pytest.importorskip("zmq")


class Proxy:
    """Hands bytes on after a delay, and sometimes loses some with the connection; cut, it refuses what comes."""

    def __init__(self, port, delay_s=0.0, loss=0.0):
        self.target, self.delay_s, self.cut = port, delay_s, threading.Event()
        self.loss, self.rng, self.lost = loss, random.Random(3), 0
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=self.run, daemon=True)]
        self.threads[0].start()

    def run(self):
        while not self.ended.is_set():
            if not select.select([self.listening], [], [], 0.05)[0]:
                continue
            one, _ = self.listening.accept()
            if self.cut.is_set():
                one.close()
                continue
            two = socket.create_connection(("127.0.0.1", self.target))
            self.threads.append(threading.Thread(target=self.carry, args=(one, two), daemon=True))
            self.threads[-1].start()

    def carry(self, one, two):
        with one, two, contextlib.suppress(OSError):
            while not self.cut.is_set() and not self.ended.is_set():
                for source in select.select([one, two], [], [], 0.02)[0]:
                    data = source.recv(2**16)
                    if not data:
                        return
                    time.sleep(self.delay_s)
                    if self.rng.random() < self.loss:
                        self.lost += 1
                        data = data[: self.rng.randrange(len(data))]  # the rest never comes
                        (two if source is one else one).sendall(data)
                        return
                    (two if source is one else one).sendall(data)

    def close(self):
        self.ended.set()
        for thread in self.threads:
            thread.join(5)
        self.listening.close()


def test_a_cable_that_is_pulled_and_put_back_changes_nothing(counted):
    running = Running(SimulatedRig(telling()), "zmq://127.0.0.1:0")
    proxy = Proxy(running.listener.port, delay_s=0.002, loss=0.05)
    told = []
    notices.listen(told.append)
    try:
        subject = RigSubject(f"zmq://127.0.0.1:{proxy.port}", resolution=12, patience_s=0.3, on_s=0.001, off_s=0.0)
        for k in range(counted(quick=4, reduced=8, full=8)):
            numbers = np.random.default_rng(k).permutation(200)[:30]
            timer = threading.Timer(counted(quick=1.0, reduced=2.0, full=30.0), proxy.cut.clear)
            if k % 2:
                proxy.cut.set()
                timer.start()
            np.testing.assert_array_equal(number_of(subject.record(marked(numbers))), numbers)
            timer.cancel()
        assert subject.told["resent"] >= 1
        assert proxy.lost >= 1
        subject.close()
    finally:
        notices.leave(told.append)
        proxy.close()
        blocks = running.stop()
    assert [entry[3] for entry in blocks] == [1] * len(blocks)
