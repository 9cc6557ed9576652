"""Rigs in a thread of this process, over each way."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from closedloop.rigs.journal import Journal
from closedloop.rigs.messages import Message
from closedloop.rigs.server import RigServer
from closedloop.rigs.transports import listen
from closedloop.subjects import FunctionSubject

SIDE = 12
#: How many images tell their number.
IMAGES = 256


def marked(numbers):
    """Images ``(n, 3, SIDE, SIDE)`` whose pixels say their number, from 0 to `IMAGES` - 1."""
    values = np.asarray(numbers) / np.float32(255)
    return np.broadcast_to(values[:, None, None, None], (len(values), 3, SIDE, SIDE)).astype(np.float32)


def number_of(responses):
    """The numbers of the images that gave these responses ``(n, 2 or more)``, at any gain; -1 for a lost one."""
    with np.errstate(invalid="ignore", divide="ignore"):
        found = responses[:, 0] / responses[:, 1] - 1
    return np.where(np.isnan(found), -1, np.rint(found)).astype(int)


def telling(units=4):
    """A subject whose responses tell which image it saw, at any gain."""

    def respond(images):
        number = np.rint(images[:, 0, 0, 0] * 255)
        return np.stack([number + 1, np.ones_like(number), *[number + k for k in range(2, units)]], axis=1)

    return FunctionSubject(respond, units, name="telling")


class Running:
    """A rig that runs in a thread until it is stopped."""

    def __init__(self, shows, address, journal=":memory:", token=None, wrap=lambda listener: listener):
        self.listener = listen(address, token)
        self.address = address if not address.endswith(":0") else f"{address[:-2]}:{self.listener.port}"
        self.server = None
        self._ended = threading.Event()
        self._began = threading.Event()
        self.error, self.stopped = None, False

        def work():
            self.journal = Journal(journal)
            self.server = RigServer(shows, wrap(self.listener), self.journal)
            step = self.server.step
            self.server.step = lambda timeout_s: step(min(timeout_s, 0.02))  # so that it ends at once
            self._began.set()
            try:
                self.server.run(self._ended.is_set)
            except BaseException as error:  # noqa: BLE001 - shown by the test
                self.error = error

        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()
        self._began.wait(10)

    def stop(self):
        if self.stopped:
            return []
        self.stopped = True
        self._ended.set()
        self._thread.join(10)
        shown = self.journal.shown()
        self.listener.close()
        self.journal.close()
        if self.error is not None:
            raise self.error
        return shown


@pytest.fixture(params=["folder", "zmq"])
def address(request, tmp_path):
    """An address of each way."""
    if request.param == "zmq":
        pytest.importorskip("zmq")
        return "zmq://127.0.0.1:0"
    return f"folder:{tmp_path / 'exchange'}"


@pytest.fixture
def running():
    """Begins rigs, and stops them at the end."""
    begun = []

    def begin(*arguments, **options):
        begun.append(Running(*arguments, **options))
        return begun[-1]

    yield begin
    for rig in begun:
        rig.stop()


class Scripted:
    """A way to a rig of which a test writes down what comes back."""

    address, encodings = "", ("rgb8", "png")

    def __init__(self, answer):
        self.answer, self.sent, self.waiting, self.renewed = answer, [], [], 0

    def send(self, sent):
        self.sent.append(sent)
        self.waiting += self.answer(sent, len(self.sent))

    def receive(self, timeout_s):
        if not self.waiting:
            return None
        got = self.waiting.pop(0)
        if isinstance(got, Exception):
            raise got
        return got

    def renew(self):
        self.renewed += 1

    def close(self):
        pass


def blank(kind, **entries):
    return Message({"proto": "closedloop-rig/1", "type": kind, **entries})
