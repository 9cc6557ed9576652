"""What comes from a recording system while images are shown: spikes, pulses, how far its clock is, and what was lost.

A reader in a thread of its own writes (`closedloop.rigs.open_ephys`, `closedloop.rigs.intan`), and
`closedloop.rigs.collecting` looks. All times are seconds on the clock of the recording system.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import final

import numpy as np
from numpy.typing import NDArray

#: What a spike is told apart by: the name of its electrode, and the number that a sorter gave it.
Key = tuple[str, int]


@final
@dataclass(frozen=True)
class Taken:
    """What a tape holds at one moment.

    Attributes:
        spike_s: Time of each spike, ascending, ``(k,)``.
        spike_key: What it is told apart by, ``(k,)``.
        pulse_s: Time of each pulse, ascending, ``(m,)``.
        gaps_s: Begin and end of the times of which something was lost, ``(g, 2)``; the end may be infinite.
    """

    spike_s: NDArray[np.float64]
    spike_key: list[Key]
    pulse_s: NDArray[np.float64]
    gaps_s: NDArray[np.float64]


@final
@dataclass
class Tape:
    """Keeps what came last, for one reader that writes and one that looks.

    Attributes:
        damaged: How many messages or bytes could not be understood.
        restarts: How often the recording began anew.
        troubles: Why nothing comes of a stream at this moment, in words, by its name.
    """

    damaged: int = 0
    restarts: int = 0
    troubles: dict[str, str] = field(default_factory=dict)
    _latest_s: float = -np.inf
    _lag_s: float = np.inf
    _spikes: list[tuple[float, Key]] = field(default_factory=list)
    _pulses: list[float] = field(default_factory=list)
    _gaps: list[list[float]] = field(default_factory=list)
    _open: dict[str, list[float]] = field(default_factory=dict)
    _ends: dict[str, float] = field(default_factory=dict)
    _most_s: float = np.inf
    _forgot_s: float = -np.inf
    _changed: threading.Condition = field(default_factory=threading.Condition, repr=False)

    def spike(self, key: Key, time_s: float, stream: str = "") -> None:
        """Writes a spike down; `key` is the name of its electrode and its sorted number."""
        with self._changed:
            self._note(time_s, stream)
            self._spikes.append((time_s, key))

    def pulse(self, time_s: float, stream: str = "") -> None:
        """Writes a pulse down: a TTL, or light on the photodiode."""
        with self._changed:
            self._note(time_s, stream)
            self._pulses.append(time_s)

    def now(self, time_s: float, stream: str = "") -> None:
        """Says how far the recording is."""
        with self._changed:
            self._note(time_s, stream)

    def lost(self, damaged: int = 1, stream: str = "") -> None:
        """Says that something of a stream was lost between what came of it last and what comes next."""
        with self._changed:
            self.damaged += damaged
            if stream not in self._open:
                self._open[stream] = [self._ends.get(stream, self._latest_s), np.inf]
                self._gaps.append(self._open[stream])

    def _note(self, time_s: float, stream: str) -> None:
        """Takes the time of what has just come: it moves the clock on, and ends a gap."""
        # A stream whose clock goes back by more than a second has begun anew, and all others with it.
        if time_s < self._ends.get(stream, -np.inf) - 1.0:
            self.restarts += 1
            self._spikes, self._pulses, self._gaps = [], [], [[-np.inf, time_s]]
            self._latest_s, self._lag_s = time_s, np.inf
            self._open, self._ends, self._forgot_s = {}, {}, -np.inf
        if (gap := self._open.pop(stream, None)) is not None:
            gap[1] = max(time_s, gap[0])
        self._ends[stream] = max(time_s, self._ends.get(stream, -np.inf))
        self._latest_s = max(self._latest_s, time_s)
        self._lag_s = min(self._lag_s, time.monotonic() - time_s)
        if self._latest_s - self._forgot_s > 2 * self._most_s:  # now and then, for it goes through all that is kept
            self._forget(self._latest_s - self._most_s)
        self._changed.notify_all()

    @property
    def latest_s(self) -> float:
        """The latest time of which something came; minus infinity where nothing did."""
        return self._latest_s

    @property
    def lag_s(self) -> float:
        """Time of this computer minus that of the recording, plus the shortest delay so far; infinite if unknown."""
        return self._lag_s

    def wait(self, until_s: float, most_s: float) -> bool:
        """Waits until the recording has come so far, at most so many seconds; tells whether it has."""
        end = time.monotonic() + most_s
        with self._changed:
            while self._latest_s < until_s and (left := end - time.monotonic()) > 0:
                self._changed.wait(left)
            return self._latest_s >= until_s

    def taken(self) -> Taken:
        """Returns what came, in order."""
        with self._changed:
            spikes, pulses, gaps = list(self._spikes), sorted(self._pulses), [list(gap) for gap in self._gaps]
        spikes.sort(key=lambda spike: spike[0])
        times = np.array([time_s for time_s, _ in spikes], np.float64)
        return Taken(times, [key for _, key in spikes], np.array(pulses), np.array(gaps).reshape(-1, 2))

    def keep(self, most_s: float) -> None:
        """Says how many seconds are kept from now on, at least; what is twice as old is dropped. Infinite for all."""
        with self._changed:
            self._most_s = most_s

    def forget(self, before_s: float) -> None:
        """Drops what is older than this."""
        with self._changed:
            self._forget(before_s)

    def _forget(self, before_s: float) -> None:
        self._spikes = [spike for spike in self._spikes if spike[0] >= before_s]
        self._pulses = [pulse for pulse in self._pulses if pulse >= before_s]
        self._gaps = [gap for gap in self._gaps if gap[1] >= before_s]
        self._forgot_s = before_s
