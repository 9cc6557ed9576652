"""Spikes and pulses of Intan's RHX software, by its TCP outputs. Nothing but Python's own library is needed.

Spikes (port 5002) are pieces of 14 bytes: 0x3ae2710f as 32 bits, the native name of the channel in 5 letters ("A-010"),
the sample in 32 bits, and a number: 1, 2, 4, 8 for the sorted ones, 64 for one that was not sorted, 128 for a likely
artifact. Waveforms (port 5001) are blocks: 0x2ef07a08, then 128 times the sample in 32 bits and a word of 16 bits for
each channel that is sent; the digital inputs are one word, behind all others but the digital outputs. All is
little-endian. There is no checksum: a loss of exactly 14 bytes, or a wrong sample, cannot be seen; TCP loses none.
Source: `tcpdataoutputthread.cpp` of RHX 3.0.3.

In RHX connect both outputs, and switch on for TCP: the spikes of the channels, and one digital input, or the analog
input of a photodiode.
"""

from __future__ import annotations

import re
import socket
import struct
import threading
from collections.abc import Callable
from typing import Protocol, final

import numpy as np
from numpy.typing import NDArray

from closedloop.checks import check_positive, check_whole
from closedloop.errors import InvalidArgumentError
from closedloop.rigs.places import LAST_PORT
from closedloop.rigs.tape import Tape

#: Bits of a word.
BITS = 16
#: What a piece of spikes, and a block of waveforms, begins with.
SPIKE_MAGIC, WAVEFORM_MAGIC = struct.pack("<I", 0x3AE2710F), struct.pack("<I", 0x2EF07A08)
#: What streams are called on a tape: what one has lost, the other does not make good.
SPIKES, WAVEFORMS = "spikes", "waveforms"
#: Samples of a block of waveforms.
FRAMES = 128
#: Numbers of a spike: sorted ones, one that was not sorted, an artifact.
NUMBERS, ARTIFACT = frozenset((1, 2, 4, 8, 0x40, 0x80)), 0x80
#: Seconds by which what comes next may be later than what came before, where nothing confirms it: no spike for so long.
MOST_S = 600.0
#: A piece of spikes: its magic number, the channel's name, the number of the sample, and that of the spike.
_PIECE = struct.Struct("<4s5sIB")
#: Names of channels: the port, and a number.
_NAME = re.compile(rb"[A-H]-\d{3}")


class _Bytes(Protocol):
    """Understands a stream of bytes, however it is cut."""

    def feed(self, data: bytes) -> None: ...


class _Samples:
    """Samples of 32 bits, which begin again after 2³², as a number that goes on.

    Args:
        most: How far one may be from the one before. A jump counts when the next sample confirms it: a recording that
            has begun anew, and not a wrong byte.
    """

    def __init__(self, most: float) -> None:
        self._most = most
        self._last: int | None = None
        self._doubtful: int | None = None

    def __call__(self, low: int) -> int | None:
        """Returns the number, or None for one that is in doubt."""
        last = self._last
        found = low if last is None else last + ((low - last + 2**31) % 2**32 - 2**31)
        if last is not None and abs(found - last) > self._most:
            held, self._doubtful = self._doubtful, low
            if held is None or abs(low - held) > self._most:
                return None
            found = low
        self._last, self._doubtful = found, None
        return found


@final
class SpikeBytes:
    """Understands the stream of spikes.

    Args:
        tape: Is written on.
        sample_rate_hz: Samples a second.
    """

    def __init__(self, tape: Tape, sample_rate_hz: float) -> None:
        self._tape, self._rate = tape, check_positive("sample_rate_hz", sample_rate_hz)
        self._left, self._samples = b"", _Samples(MOST_S * self._rate)

    def feed(self, data: bytes) -> None:
        """Takes what came; looks for the next whole piece where bytes are missing or wrong."""
        left, at = self._left + data, 0
        while len(left) - at >= _PIECE.size:
            magic, name, sample, number = _PIECE.unpack_from(left, at)
            if magic == SPIKE_MAGIC and _NAME.fullmatch(name) and number in NUMBERS:
                if (now := self._samples(sample)) is None:
                    self._tape.lost(_PIECE.size, SPIKES)
                else:
                    self._tape.spike((name.decode(), number), now / self._rate, SPIKES)
                at += _PIECE.size
                continue
            found = left.find(SPIKE_MAGIC, at + 1)
            skipped = (found if found >= 0 else len(left) - 3) - at
            self._tape.lost(skipped, SPIKES)
            at += skipped
        self._left = left[at:]


@final
class WaveformBytes:
    """Understands the stream of waveforms, for the pulses in it.

    Args:
        tape: Is written on.
        sample_rate_hz: Samples a second.
        words: Words of 16 bits of each sample: one for each band of each channel that is sent, one for all digital
            inputs.
        word: Which of them has the pulses, from 0; −1 is the last one.
        line: Which bit of it, from 0 (DIGITAL-IN-01 is 0); None for an analog word.
        level: Of an analog word: the value from which on there is light.
    """

    def __init__(
        self,
        tape: Tape,
        sample_rate_hz: float,
        words: int = 1,
        word: int = -1,
        line: int | None = 0,
        level: int | None = None,
    ) -> None:
        self._tape, self._rate = tape, check_positive("sample_rate_hz", sample_rate_hz)
        self._words, self._word = check_whole("words", words, 1), word
        if type(word) is not int or not -self._words <= word < self._words:
            raise InvalidArgumentError(f"word: expected one of {self._words}, from 0, got {word!r:.40}.")
        if (line is None) == (level is None):
            raise InvalidArgumentError(f"line, level: expected one of both, got {line!r:.40} and {level!r:.40}.")
        self._line = None if line is None else check_whole("line", line, 0)
        if self._line is not None and self._line >= BITS:
            raise InvalidArgumentError(f"line: expected one of the {BITS} bits of a word, from 0, got {line}.")
        self._level = None if level is None else check_whole("level", level, 1)
        self._frame = np.dtype([("sample", "<u4"), ("words", "<u2", (self._words,))])
        self._size = 4 + FRAMES * self._frame.itemsize
        self._left, self._samples, self._next, self._high = b"", _Samples(MOST_S * self._rate), -1, True

    def feed(self, data: bytes) -> None:
        """Takes what came; looks for the next whole block where bytes are missing or wrong."""
        left, at = self._left + data, 0
        while len(left) - at >= self._size:
            frames = np.frombuffer(left, self._frame, FRAMES, at + 4)
            samples = frames["sample"].astype(np.int64)
            steps = (samples[1:] - samples[:-1]) % 2**32
            behind = left[at + self._size : at + self._size + 4]  # a byte that is lost of the last word shows there
            if left.startswith(WAVEFORM_MAGIC, at) and (steps == 1).all() and WAVEFORM_MAGIC.startswith(behind):
                self._block(frames)
                at += self._size
                continue
            found = left.find(WAVEFORM_MAGIC, at + 1)
            skipped = (found if found >= 0 else len(left) - 3) - at
            self._tape.lost(skipped, WAVEFORMS)
            at += skipped
        self._left = left[at:]

    def _block(self, frames: NDArray[np.void]) -> None:
        """Finds the pulses of a block."""
        first = self._samples(int(frames["sample"][0]))
        if first is None:
            self._tape.lost(self._size, WAVEFORMS)
            self._high = True
            return
        if self._next not in (-1, first):
            self._high = True  # what was between is not known: no pulse begins here
            if first > self._next:
                self._tape.lost(0, WAVEFORMS)
        values = frames["words"][:, self._word]
        high = (values >> self._line) & 1 == 1 if self._line is not None else values >= self._level
        rises = np.flatnonzero(high & ~np.concatenate([[self._high], high[:-1]]))
        for place in rises.tolist():
            self._tape.pulse((first + place) / self._rate, WAVEFORMS)
        self._high, self._next = bool(high[-1]), first + FRAMES
        self._tape.now((first + FRAMES) / self._rate, WAVEFORMS)


@final
class Intan:
    """Reads Intan's RHX in threads of its own: a `closedloop.rigs.collecting.Source`.

    Args:
        host: The computer that RHX runs on.
        spike_port: Of its spike output.
        waveform_port: Of its waveform output; None where pulses are of no use.
        sample_rate_hz: Samples a second, as RHX is set.
        words: As in `WaveformBytes`.
        word: As in `WaveformBytes`.
        line: As in `WaveformBytes`.
        level: As in `WaveformBytes`.

    Attributes:
        tape: What came.
    """

    #: Sorted numbers that are no spikes, for `closedloop.rigs.collecting.Collector`.
    artifacts: tuple[int, ...] = (ARTIFACT,)

    def __init__(
        self,
        host: str = "127.0.0.1",
        *,
        spike_port: int = 5002,
        waveform_port: int | None = 5001,
        sample_rate_hz: float = 30_000,
        words: int = 1,
        word: int = -1,
        line: int | None = 0,
        level: int | None = None,
    ) -> None:
        self.tape: Tape = Tape()
        self._host, self._ended = str(host), threading.Event()
        makers: list[tuple[int, str, Callable[[], _Bytes]]] = [
            (_port("spike_port", spike_port), SPIKES, lambda: SpikeBytes(self.tape, sample_rate_hz))
        ]
        if waveform_port is not None:

            def waveforms() -> _Bytes:
                return WaveformBytes(self.tape, sample_rate_hz, words, word, line, level)

            makers.append((_port("waveform_port", waveform_port), WAVEFORMS, waveforms))
        for _, _, make in makers:
            make()  # wrong arguments are told here, and not in a thread
        self._threads = [
            threading.Thread(target=self._run, args=maker, daemon=True, name=f"closedloop-intan-{maker[1]}")
            for maker in makers
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, port: int, stream: str, make: Callable[[], _Bytes]) -> None:
        """Reads one output, and connects again where it breaks off; of what it does not send nothing is known."""
        while not self._ended.is_set():
            broken = 0
            try:
                with socket.create_connection((self._host, port), timeout=1.0) as way:
                    broken = 1
                    self.tape.troubles.pop(stream, None)
                    way.settimeout(0.1)
                    self._read(way, make())
                why = "it ended the connection"
            except OSError as error:
                why = error.strerror or str(error)
            if not self._ended.is_set():
                self.tape.lost(broken, stream)
                self.tape.troubles[stream] = f"no {stream} from RHX at {self._host}, port {port} ({why})"
            self._ended.wait(0.5)  # seconds between two tries to connect

    def _read(self, way: socket.socket, reading: _Bytes) -> None:
        """Reads until the other side ends it."""
        while not self._ended.is_set():
            try:
                data = way.recv(2**16)
            except TimeoutError:
                continue
            if not data:
                return
            reading.feed(data)

    def close(self) -> None:
        """Reads it no more."""
        self._ended.set()
        for thread in self._threads:
            thread.join(5)


def _port(name: str, value: int) -> int:
    """Returns the number of a port: one that is none is told here, and not in a thread."""
    if check_whole(name, value, 1) > LAST_PORT:
        raise InvalidArgumentError(f"{name}: expected a port up to {LAST_PORT}, got {value}.")
    return value
