"""Spikes and pulses of the Open Ephys GUI, by its plug-in "ZMQ Interface" (extra `rig`).

It publishes messages of several frames: a word, a header in JSON, and binary data. What is read of them here:

``data``    in ``content``: ``sample_num`` of the first sample, ``num_samples``, ``sample_rate``: how far the clock is.
``event``   in ``content``: ``type`` 3 for a TTL, ``sample_num``; the data are the line, from 0, its state, and all
            lines as 64 bits.
``spike``   in ``spike``: ``electrode`` (a name), ``sorted_id``, ``sample_num``.

All have ``message_num``, which grows by one, so that what was lost is known, and ``stream`` within. On the port above
the plug-in wants to hear every two seconds that somebody is there. Source: the plug-in's source, version 1.0.0 (2025).
A photodiode becomes a TTL there by the plug-in "Crossing Detector".
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, final

from closedloop.checks import check_positive, check_whole, is_number
from closedloop.errors import InvalidArgumentError, require
from closedloop.loop.notices import notice
from closedloop.rigs.places import LAST_PORT, joined_place, parse_place
from closedloop.rigs.tape import Tape

#: What a TTL's type is.
TTL = 3
#: Seconds between two signs of life, and after which one that was not answered is given up.
HEARTBEAT_S, UNANSWERED_S = 2.0, 6.0
#: What signs of life are called among troubles.
LIFE = "life"


@final
class OpenEphysReader:
    """Understands messages, and writes on a tape what they say.

    Args:
        tape: Is written on.
        line: The TTL line of the pulses, from 0 as in the messages (1 in the GUI is 0).
        sample_rate_hz: Of the clock, until continuous data say it.
        stream: Name of the stream that is read; None for the first that comes.
    """

    def __init__(self, tape: Tape, line: int, sample_rate_hz: float, stream: str | None = None) -> None:
        self._tape, self._line, self._stream = tape, check_whole("line", line, 0), stream
        self._rate = check_positive("sample_rate_hz", sample_rate_hz)
        self._last: int | None = None

    def feed(self, frames: Sequence[bytes]) -> None:
        """Takes one message; what cannot be understood is counted, and marked as lost."""
        try:
            header = json.loads(frames[1])
            number = header["message_num"]
            if type(number) is not int:
                raise ValueError("no number")
            kind = header["type"]
            content = header["spike" if kind == "spike" else "content"]
            sample = content["sample_num"]
            if not is_number(sample) or sample < 0:
                raise ValueError("no sample")
            stream = content.get("stream")
        except (IndexError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self._tape.lost()
            return
        if self._last is not None and number > self._last + 1:
            self._tape.lost(number - self._last - 1)
        self._last = number
        if self._stream is None and isinstance(stream, str):
            self._stream = stream
        if stream != self._stream:
            return
        try:
            self._write(kind, content, float(sample), frames[2] if len(frames) > 2 else b"")
        except (ValueError, KeyError, TypeError, OverflowError):
            self._tape.lost()

    def _write(self, kind: str, content: Mapping[str, Any], sample: float, data: bytes) -> None:
        """Writes down what a message says."""
        if kind == "data":
            rate = content["sample_rate"]
            if rate > 0 and rate != self._rate:
                notice(f"Open Ephys says {rate:g} samples a second, and not {self._rate:g}; that is taken")
                self._rate = float(rate)
            self._tape.now((sample + max(0.0, float(content["num_samples"]))) / self._rate)
        elif kind == "event":
            ttl = content["type"] == TTL
            if ttl and len(data) < 2:
                raise ValueError("a TTL without its line")
            if ttl and data[0] == self._line and data[1]:
                self._tape.pulse(sample / self._rate)
            else:
                self._tape.now(sample / self._rate)
        elif kind == "spike":
            electrode, number = content["electrode"], content["sorted_id"]
            if not isinstance(electrode, str) or type(number) is not int:
                raise TypeError("an unnamed spike")
            self._tape.spike((electrode, number), sample / self._rate)


@final
class OpenEphys:
    """Reads the Open Ephys GUI in a thread of its own: a `closedloop.rigs.collecting.Source`.

    Args:
        place: ``HOST:PORT`` of the plug-in's data; its port is 5556 where nothing else was set.
        line: The TTL line of the pulses, from 0 as in the messages (1 in the GUI is 0).
        sample_rate_hz: Of the clock; continuous data, where some channel is sent, say it better.
        stream: Name of the stream that is read; None for the first that comes. Clocks of streams differ.

    Attributes:
        tape: What came.

    Raises:
        MissingExtraError: ZeroMQ needs the extra `rig`.
    """

    def __init__(
        self, place: str = "127.0.0.1:5556", *, line: int = 0, sample_rate_hz: float = 30_000, stream: str | None = None
    ) -> None:
        host, port = parse_place("place", place, "127.0.0.1:5556")
        if not 0 < port < LAST_PORT:
            raise InvalidArgumentError(
                f"place: expected HOST:PORT, such as 127.0.0.1:5556, with a port from 1 to {LAST_PORT - 1}, got "
                f"{place!r:.80}."
            )
        self._zmq = require("zmq", "rig", "Open Ephys over ZeroMQ")
        self.tape: Tape = Tape()
        self._reader = OpenEphysReader(self.tape, line, sample_rate_hz, stream)
        self._data, self._life = (f"tcp://{joined_place(host, number)}" for number in (port, port + 1))
        self._context = self._zmq.Context()
        self._socket = self._context.socket(self._zmq.SUB)
        self._socket.setsockopt(self._zmq.RCVHWM, 100_000)  # messages: some seconds of a few channels
        self._socket.setsockopt(self._zmq.SUBSCRIBE, b"")
        self._socket.setsockopt(self._zmq.LINGER, 0)
        self._socket.setsockopt(self._zmq.IPV6, ":" in host)
        try:
            self._socket.connect(self._data)
        except self._zmq.ZMQError as error:
            self._context.destroy()
            raise InvalidArgumentError(f"place: cannot connect to {place} ({error}).") from error
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="closedloop-open-ephys")
        self._thread.start()

    def _run(self) -> None:
        zmq, context, data = self._zmq, self._context, self._socket
        life: Any = None
        sent_s, waits = 0.0, False
        name = {"application": "closedloop", "uuid": str(uuid.uuid4()), "type": "heartbeat"}
        while not self._ended.is_set():
            now = time.monotonic()
            if waits and life.poll(0):
                life.recv()
                waits = False
                self.tape.troubles.pop(LIFE, None)
            if life is None or (waits and now - sent_s > UNANSWERED_S):  # a REQ that is not answered is of no more use
                if life is not None:
                    self.tape.troubles[LIFE] = f"Open Ephys does not answer at {self._life}"
                    life.close(linger=0)
                life, waits = context.socket(zmq.REQ), False
                life.setsockopt(zmq.LINGER, 0)
                life.setsockopt(zmq.IPV6, "[" in self._life)
                life.connect(self._life)
            if not waits and now - sent_s >= HEARTBEAT_S:
                with contextlib.suppress(zmq.ZMQError):
                    life.send(json.dumps(name).encode(), zmq.NOBLOCK)
                    waits = True
                sent_s = now
            if data.poll(50):
                self._reader.feed(data.recv_multipart())
        data.close(linger=0)
        if life is not None:
            life.close(linger=0)
        context.term()

    def close(self) -> None:
        """Reads it no more."""
        self._ended.set()
        self._thread.join(5)
