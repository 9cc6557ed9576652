"""Recording systems that are replayed: bytes and messages by the documented formats, written without the readers.

A script is what was really there: spikes with their electrode, number and sample, and pulses with their sample.
"""

from __future__ import annotations

import json
import socket
import struct
import threading

import numpy as np

RATE = 3_000


def session(n=20, soa_s=0.2, seed=0, first_s=3.0, units=3, jitter_s=0.0, per_trial=4):
    """Pulses at each image, and spikes whose times after the onset tell the image: onset + 0.06 + number / 1000."""
    rng = np.random.default_rng(seed)
    onset = first_s + soa_s * np.arange(n) + np.cumsum(jitter_s * rng.random(n))
    onset = np.round(onset * RATE) / RATE
    spikes = [(round((t + 0.06 + (i + 1) / 1000) * RATE), unit) for i, t in enumerate(onset) for unit in range(units)]
    for _ in range(per_trial * n):  # and others, of one that is not recorded
        spikes.append((int(rng.integers(first_s * RATE, (onset[-1] + 0.5) * RATE)), 99))
    return onset, sorted(spikes)


def name_of(unit):
    """The native name of a channel, as Intan writes it."""
    return "B-077" if unit == 99 else f"A-{unit:03d}"


class OpenEphysWriter:
    """Messages as the plug-in writes them: a word that ends with a zero byte, JSON, data."""

    def __init__(self, stream="AP", line=2):
        self.number, self.stream, self.line = 0, stream, line

    def _message(self, word, kind, entries, key="content", data=None, **more):
        self.number += 1
        header = {"message_num": self.number, "type": kind, key: entries, "timestamp": 1_700_000_000_000, **more}
        return [word + b"\0", json.dumps(header).encode(), *([] if data is None else [data])]

    def spike(self, sample, electrode, number):
        entries = {
            "stream": self.stream,
            "source_node": 104,
            "electrode": electrode,
            "sample_num": sample,
            "num_channels": 1,
            "num_samples": 40,
            "sorted_id": number,
            "threshold": [-50.0],
        }
        return self._message(b"EVENT", "spike", entries, "spike", struct.pack("<40f", *range(40)))

    def ttl(self, sample, state, line=None):
        line = self.line if line is None else line
        entries = {"stream": self.stream, "source_node": 100, "type": 3, "sample_num": sample}
        data = struct.pack("<BBQ", line, state, (1 << line) * state)
        return self._message(b"EVENT", "event", entries, data=data, data_size=len(data))

    def data(self, sample, samples=64):
        entries = {
            "stream": self.stream,
            "channel_num": 0,
            "channel_name": "CH1",
            "num_samples": samples,
            "sample_num": sample,
            "sample_rate": float(RATE),
        }
        data = struct.pack(f"<{samples}f", *([0.5] * samples))
        return self._message(b"DATA", "data", entries, data=data, data_size=len(data))

    def session(self, pulses_s, spikes, until_s):
        """All messages in the order of their samples, with their times."""
        found = []
        for t in pulses_s:
            sample = round(t * RATE)
            found += [(sample, "up"), (sample + 30, "down")]
        found += [(sample, unit) for sample, unit in spikes]
        found += [(sample, "data") for sample in range(0, int(until_s * RATE), 64)]
        for sample, what in sorted(found, key=lambda entry: entry[0]):
            if what == "data":
                yield (sample + 64) / RATE, self.data(sample)
            elif what in ("up", "down"):
                yield sample / RATE, self.ttl(sample, int(what == "up"))
            else:
                yield sample / RATE, self.spike(sample, name_of(what), 1)


def intan_spikes(spikes, offset=0):
    """The bytes of the spike output."""
    return b"".join(
        struct.pack("<I5sIB", 0x3AE2710F, name_of(unit).encode(), (sample + offset) % 2**32, 1)
        for sample, unit in spikes
    )


def intan_waveforms(pulses_s, until_s, line=0, words=1, offset=0, length_s=0.01):
    """The bytes of the waveform output: one bit of the last word is high for a while at each pulse."""
    n = int(until_s * RATE) // 128 * 128
    word = np.zeros(n, np.uint16)
    for t in pulses_s:
        at = round(t * RATE)
        word[at : at + int(length_s * RATE)] |= 1 << line
    found = bytearray()
    for first in range(0, n, 128):
        found += struct.pack("<I", 0x2EF07A08)
        for k in range(first, first + 128):
            found += struct.pack("<I", (k + offset) % 2**32) + struct.pack("<H", 32768) * (words - 1)
            found += struct.pack("<H", int(word[k]))
    return bytes(found)


class Sender:
    """A TCP port that sends what it is given to whoever connects, in pieces of odd lengths."""

    def __init__(self):
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.there, self.way = threading.Event(), None
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                self.way, _ = self.listening.accept()
            except OSError:
                return
            self.there.set()

    def send(self, data, pieces=1009):
        assert self.there.wait(5)
        for at in range(0, len(data), pieces):
            self.way.sendall(data[at : at + pieces])

    def break_off(self):
        self.there.clear()
        self.way.close()

    def close(self):
        self.listening.close()
        if self.way is not None:
            self.way.close()
