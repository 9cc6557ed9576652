"""Spikes of a recording system, handed to a rig: windows around the onsets of images, whatever was lost on the way.

A program that shows images, and knows when it flipped the screen, is a `Display`. `RecordedRig` is that with a
recording system (`closedloop.rigs.open_ephys`, `closedloop.rigs.intan`), and `closedloop.rigs.server` serves it.
Pulses are matched with images by time (`closedloop.rigs.onsets`). Where their numbers differ that is said, and never
stops a session; what cannot be told for certain is a lost trial, and never a guess.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Protocol, final

import numpy as np
from numpy.typing import NDArray

from closedloop.checks import check_flag, check_number, check_positive, is_number
from closedloop.errors import InvalidArgumentError
from closedloop.loop.notices import notice
from closedloop.presentations import STATUSES
from closedloop.rigs.onsets import Matched, match_onsets
from closedloop.rigs.server import Tell, answered
from closedloop.rigs.tape import Taken, Tape

#: Spikes that are handed over go on so long after the last window, in seconds.
AFTER_S = 0.1
#: What is kept from before a block, in seconds: its baseline, and pulses that came before they were expected.
BEFORE_S = 5.0
#: How far the clocks may seem to be apart by the delay of messages where their offset was not yet measured, in seconds.
DELAY_S = 0.25


class Source(Protocol):
    """A recording system that is read in a thread of its own."""

    @property
    def tape(self) -> Tape:
        """What came from it."""
        ...

    def close(self) -> None:
        """Reads it no more."""
        ...


class Flip(NamedTuple):
    """What a program that shows images says of one presentation.

    Attributes:
        status: One of `closedloop.presentations.STATUSES`.
        flip_s: When it was on the screen, on the program's clock; None where it was not.
    """

    status: str
    flip_s: float | None


class Display(Protocol):
    """A program that shows images."""

    def show(
        self, block: Mapping[str, Any], images: Sequence[NDArray[np.uint8]], attempt: int, tell: Tell
    ) -> Sequence[Flip]:
        """Shows the trials of a block in their order, as `closedloop.rigs.server.Shows` does; says when each was."""
        ...


@final
@dataclass(frozen=True)
class Report:
    """What was found in a block.

    Attributes:
        images: How many images were shown.
        pulses: How many pulses came meanwhile.
        matched: How many images have their pulse.
        extra: How many pulses belong to none.
        certain: Whether the pulses told which is which.
        offset_s: Time of the recording minus that of the program; None where it is not known.
        strangers: How many spikes came of units that are not recorded.
        lost: How many trials were near to what was lost, or have no onset.
        damaged: How many messages or bytes could not be understood.
        silent: Whether nothing at all came from the recording system meanwhile.
        trouble: What its reader cannot do, in words; empty where all is well.
        timeless: Of how many images the program says no time, or that of another one.
    """

    images: int
    pulses: int
    matched: int
    extra: int
    certain: bool
    offset_s: float | None
    strangers: int
    lost: int
    damaged: int
    silent: bool = False
    trouble: str = ""
    timeless: int = 0

    @property
    def text(self) -> str:
        """What a person should know; empty where all is well."""
        if self.silent and self.images:
            why = self.trouble or "is it recording?"
            return f"nothing came from the recording system while {self.images} images were shown; {why}"
        said = [self.trouble] if self.trouble else []
        if not self.certain:
            said.append(
                f"{self.pulses} pulses for {self.images} images fit in more than one way; these trials count as lost"
            )
        elif self.matched < self.images or self.extra:
            said.append(
                f"{self.pulses} pulses for {self.images} images: by their times {self.matched} belong together, "
                f"{self.images - self.matched} are missing and {self.extra} belong to no image"
            )
        if self.timeless:
            said.append(
                f"the program says no time of its own for {self.timeless} images; look at what it gives as flip"
            )
        if self.damaged:
            said.append(f"{self.damaged} messages or bytes of the recording system were lost or damaged")
        if self.lost:
            said.append(f"{self.lost} trials were lost with them")
        return "; ".join(said)


@final
class Collector:
    """Cuts what comes from a recording system into trials.

    Args:
        source: The recording system.
        units: What is recorded: of each ``{"id": name, "electrode": name at the system, "sorted_id": number}``, with
            other entries as one likes; without `sorted_id` all spikes of the electrode count that are of no other
            unit, but artifacts.
        onsets: What makes the pulses: "ttl" of the task, or a "photodiode" at the screen.
        missing: What becomes of an image without a pulse: "flip" takes the time that the program says, moved to the
            clock of the recording; "lost" takes it for a dropped frame. None for "flip" with a TTL, and "lost" with a
            photodiode, which has not seen it.
        tolerance_s: How far a pulse may be from where the flip and its neighbours say.
        dead_s: Pulses that come within this after another one are its bounces.
        wait_s: Seconds that spikes may be late; a block is waited for no longer than this after its last window.
        same_clock: Whether the program's times are those of `time.monotonic` on this computer. They tell roughly which
            pulse is which before the offset of the clocks is known, also where images come at regular times.
        artifacts: Sorted numbers that are artifacts of their system, and no spikes.

    Raises:
        InvalidArgumentError: An argument does not fit.
    """

    def __init__(
        self,
        source: Source,
        units: Sequence[Mapping[str, Any]],
        *,
        onsets: Literal["ttl", "photodiode"] = "ttl",
        missing: Literal["flip", "lost"] | None = None,
        tolerance_s: float = 0.025,
        dead_s: float = 0.005,
        wait_s: float = 0.5,
        same_clock: bool = True,
        artifacts: Sequence[int] = (),
    ) -> None:
        if onsets not in ("ttl", "photodiode"):
            raise InvalidArgumentError(f"onsets: expected 'ttl' or 'photodiode', got {onsets!r:.80}.")
        if missing not in (None, "flip", "lost"):
            raise InvalidArgumentError(f"missing: expected 'flip', 'lost' or None, got {missing!r:.80}.")
        self.source: Source = source
        self.onsets = onsets
        self.units: list[dict[str, Any]] = [dict(unit) for unit in _check_units(units)]
        self.report: Report | None = None
        self._missing = missing or ("flip" if onsets == "ttl" else "lost")
        self._tolerance_s, self._dead_s = check_positive("tolerance_s", tolerance_s), check_number("dead_s", dead_s, 0)
        self._wait_s, self._same_clock = check_positive("wait_s", wait_s), check_flag("same_clock", same_clock)
        self._artifacts = frozenset(artifacts)
        self._whose = {(unit["electrode"], unit.get("sorted_id")): i for i, unit in enumerate(self.units)}
        self._offset_s: float | None = None
        self._restarts, self._damaged = 0, 0
        self._begun: tuple[int, float] | None = None

    def begin(self) -> None:
        """Says that a block begins: what came long before it is forgotten, and all that comes now is kept."""
        tape = self.source.tape
        self._begun = (tape.restarts, tape.latest_s)
        tape.keep(np.inf)
        tape.forget(tape.latest_s - BEFORE_S)

    def rest(self) -> None:
        """Says that no block is under way: what comes is soon forgotten, however long it takes until the next one."""
        self.source.tape.keep(BEFORE_S)

    def answer(self, block: Mapping[str, Any], shown: Sequence[Flip]) -> dict[str, Any]:
        """Returns `trials`, `quality` and `rig_clock_s` of an answer, once all spikes have come.

        Args:
            block: The header of the block.
            shown: What the program says of each trial, in the order of the block.

        Raises:
            InvalidArgumentError: It says something of another number of trials, or an unknown status.
        """
        trials = [str(trial["trial"]) for trial in block["trials"]]
        shown = _check_flips(shown, len(trials))
        tape = self.source.tape
        if tape.restarts != self._restarts:  # another clock than before
            self._restarts, self._offset_s = tape.restarts, None
        begin_s, end_s = _span(block)
        there = _timed(shown)
        flips = np.array([shown[i].flip_s for i in there], np.float64)
        rank = np.argsort(flips, kind="stable")
        self._wait(flips, end_s)
        taken = tape.taken()
        matched = self._matched(flips[rank], taken)
        onset, pulse = np.full(len(trials), np.nan), np.full(len(trials), False)
        onset[np.array(there, int)[rank]], pulse[np.array(there, int)[rank]] = matched.onset_s, matched.pulse >= 0
        status = self._statuses(shown, onset, pulse, taken, (begin_s, end_s))
        known = matched.onset_s[matched.pulse >= 0]
        pulses = len(_without_bounces(taken.pulse_s, self._dead_s))
        found, strangers, counts = self._cut(trials, status, onset, pulse, taken, (begin_s, end_s))
        said = [flip.status for flip in shown]
        lost = sum(new != old for new, old in zip(status, said, strict=True))
        matching = (len(flips), pulses, len(known), matched.extra, matched.certain, matched.offset_s)
        silent = self._begun == (tape.restarts, tape.latest_s)
        trouble = "; ".join(list(tape.troubles.values()))
        timeless = sum(flip.flip_s is not None for flip in shown) - len(there)
        self.report = Report(*matching, strangers, lost, tape.damaged - self._damaged, silent, trouble, timeless)
        self._damaged = tape.damaged
        answer: dict[str, Any] = {"trials": found, "collected": _plain(self.report)}
        if text := self.report.text:
            notice(f"block {block.get('seq', '')}: {text}")
            answer["text"] = text
        if np.isfinite(tape.latest_s):
            answer["rig_clock_s"] = round(tape.latest_s, 6)
        shown_s = (end_s - begin_s) * sum(word == "ok" for word in status)
        if shown_s > 0:
            rates = np.round(counts / shown_s, 4).tolist()
            answer["quality"] = {
                str(unit["id"]): {"rate_hz": rate} for unit, rate in zip(self.units, rates, strict=True)
            }
        return answer

    def _wait(self, flips: NDArray[np.float64], end_s: float) -> None:
        """Waits until what follows the last image has come."""
        tape = self.source.tape
        if len(flips) == 0:
            return
        offset = self._offset_s
        if offset is None and self._same_clock and np.isfinite(tape.lag_s):
            offset = -tape.lag_s + DELAY_S
        until = tape.latest_s + end_s if offset is None else float(flips.max()) + offset + end_s
        if tape.wait(until if np.isfinite(until) else np.inf, end_s + self._wait_s):
            time.sleep(0.02)  # spikes that come on another way may be behind what tells the time

    def _matched(self, flips: NDArray[np.float64], taken: Taken) -> Matched:
        """Matches images with pulses: near the offset that is known, else wherever they agree."""
        pulses = _without_bounces(taken.pulse_s, self._dead_s)
        lag = self.source.tape.lag_s
        known = (
            self._offset_s if self._offset_s is not None else -lag if self._same_clock and np.isfinite(lag) else None
        )
        if len(flips) == 0:
            return match_onsets(flips, pulses, self._tolerance_s)
        half = float(np.diff(flips).min()) / 2 if len(flips) > 1 else DELAY_S
        slack = half if self._offset_s is not None else min(half, DELAY_S)
        found = match_onsets(flips, pulses, self._tolerance_s, known, slack)
        if known is not None and found.missing > len(flips) / 2:
            anew = match_onsets(flips, pulses, self._tolerance_s)
            if anew.certain and anew.missing < found.missing:
                moved = (anew.offset_s or 0.0) - known
                if self._offset_s is not None:
                    notice(f"the clock of the recording has moved by {moved:+.3f} s against that of the program")
                found = anew
        if found.certain and found.offset_s is not None:
            self._offset_s = found.offset_s
        elif found.missing == len(flips) and self._offset_s is not None and found.certain:
            return replace(found, onset_s=flips + self._offset_s, offset_s=self._offset_s)
        return found

    def _statuses(
        self,
        shown: Sequence[Flip],
        onset: NDArray[np.float64],
        pulse: NDArray[np.bool_],
        taken: Taken,
        span: tuple[float, float],
    ) -> list[str]:
        """Returns what became of each trial: what the program says, but lost where the recording cannot tell."""
        found = []
        for flip, at, seen in zip(shown, onset.tolist(), pulse.tolist(), strict=True):
            status = flip.status
            if status == "ok" and flip.flip_s is None:
                status = "not_shown"
            elif status == "ok" and np.isnan(at):
                status = "artifact"  # nobody knows when it was
            elif status == "ok" and not seen and self._missing == "lost":
                status = "dropped_frame"
            elif status == "ok" and ((taken.gaps_s[:, 0] <= at + span[1]) & (taken.gaps_s[:, 1] >= at + span[0])).any():
                status = "artifact"  # spikes may be missing
            elif status == "ok" and self.source.tape.latest_s < at + span[1] - AFTER_S:
                status = "artifact"  # the recording ended before its window did
            found.append(status)
        return found

    def _cut(
        self,
        trials: Sequence[str],
        status: Sequence[str],
        onset: NDArray[np.float64],
        pulse: NDArray[np.bool_],
        taken: Taken,
        span: tuple[float, float],
    ) -> tuple[list[dict[str, Any]], int, NDArray[np.float64]]:
        """Returns the entries of all trials, how many spikes belong to no unit, and those of each in good trials."""
        unit = np.array([self._unit_of(name, number) for name, number in taken.spike_key], np.int64)
        mine = unit >= 0
        times, unit, strangers = taken.spike_s[mine], unit[mine], int((unit == -1).sum())
        counts = np.zeros(len(self.units))
        found = []
        for name, word, at, seen in zip(trials, status, onset.tolist(), pulse.tolist(), strict=True):
            if word == "not_shown" or np.isnan(at):
                found.append(answered(name, word))
                continue
            first, last = np.searchsorted(times, (at + span[0], at + span[1]))
            values = {"spike_s": np.round(times[first:last] - at, 6).tolist(), "spike_unit": unit[first:last].tolist()}
            how = self.onsets if seen else "flip"
            found.append(answered(name, word, onset_s=round(at, 6), onset_source=how, values=values))
            if word == "ok":
                counts += np.bincount(unit[first:last], minlength=len(self.units))
        return found, strangers, counts

    def _unit_of(self, electrode: str, number: int) -> int:
        """Returns the unit of a spike; −1 for a stranger, −2 for an artifact."""
        if number in self._artifacts:
            return -2
        return self._whose.get((electrode, number), self._whose.get((electrode, None), -1))


@final
class RecordedRig:
    """A program that shows images, with a recording system: what `closedloop.rigs.server.RigServer` serves.

    Args:
        display: Shows images, and says when.
        collector: Cuts what was recorded.
        about: What else is said of the rig: ``rig_id``, ``screen`` with its ``gamma``.
    """

    def __init__(self, display: Display, collector: Collector, about: Mapping[str, Any] | None = None) -> None:
        self._display, self._collector, self._about = display, collector, dict(about or {})
        collector.rest()

    def welcome(self) -> Mapping[str, Any]:
        """Returns what is said of the rig."""
        return {"rig_id": "recorded", **self._about, "units": self._collector.units, "gives": "spikes"}

    def show(
        self, block: Mapping[str, Any], images: Sequence[NDArray[np.uint8]], attempt: int, tell: Tell
    ) -> Mapping[str, Any]:
        """Shows a block, and returns its trials with their spikes."""
        self._collector.begin()
        try:
            shown = self._display.show(block, images, attempt, tell)
            return self._collector.answer(block, shown)
        finally:
            self._collector.rest()


def _check_flips(shown: Any, n: int) -> list[Flip]:
    """Returns what a program says of `n` trials, if that can be meant."""
    fits = isinstance(shown, (list, tuple)) and len(shown) == n and all(isinstance(flip, Flip) for flip in shown)
    if not fits or any(f.status not in STATUSES or not (f.flip_s is None or is_number(f.flip_s)) for f in shown):
        raise InvalidArgumentError(
            f"shown: expected of each of {n} trials a Flip, with a status of {', '.join(STATUSES)} and a number of "
            f"seconds or None, got {shown!r:.200}."
        )
    return list(shown)


def _timed(shown: Sequence[Flip]) -> list[int]:
    """Returns the trials with a time of their own: two images are never on the screen at once."""
    known = [(float(f.flip_s), i) for i, f in enumerate(shown) if f.flip_s is not None and np.isfinite(f.flip_s)]
    known.sort()
    apart = np.diff([t for t, _ in known], prepend=-np.inf, append=np.inf)
    # Of two images that are shown within a millisecond one has a wrong time.
    return sorted(
        i for (_, i), before, after in zip(known, apart, apart[1:], strict=False) if min(before, after) > 0.001
    )


def _span(block: Mapping[str, Any]) -> tuple[float, float]:
    """Returns from when to when spikes are handed over, in seconds from the onset."""
    windows = [block.get("baseline_s") or (0.0, 0.0), block["window_s"]]
    if bins := block.get("bins_s"):
        windows.append((bins[0], bins[0] + bins[1] * bins[2]))
    return min(float(w[0]) for w in windows), max(float(w[1]) for w in windows) + AFTER_S


def _without_bounces(pulses: NDArray[np.float64], dead_s: float) -> NDArray[np.float64]:
    """Returns pulses without those that follow another one at once."""
    kept: list[float] = []
    for pulse in pulses.tolist():
        if not kept or pulse - kept[-1] > dead_s:
            kept.append(pulse)
    return np.array(kept, np.float64)


def _plain(report: Report) -> dict[str, Any]:
    offset = None if report.offset_s is None else round(report.offset_s, 6)
    numbers = {name: getattr(report, name) for name in ("images", "pulses", "matched", "extra", "strangers", "lost")}
    return {**numbers, "certain": report.certain, "offset_s": offset, "damaged": report.damaged, "text": report.text}


def _check_units(units: Any) -> Sequence[Mapping[str, Any]]:
    """Returns units if each has a name of its own and an electrode."""
    fits = isinstance(units, (list, tuple)) and units and all(isinstance(unit, Mapping) for unit in units)
    if not fits or not all(isinstance(unit.get(name), str) for unit in units for name in ("id", "electrode")):
        raise InvalidArgumentError(
            f"units: expected of each unit an id and the electrode's name at the system, got {units!r:.120}."
        )
    numbers = [unit.get("sorted_id") for unit in units]
    if not all(number is None or type(number) is int for number in numbers):
        raise InvalidArgumentError(f"units: expected whole numbers as sorted_id, got {numbers!r:.120}.")
    if len({unit["id"] for unit in units}) < len(units):
        raise InvalidArgumentError("units: expected different ids.")
    if len({(unit["electrode"], unit.get("sorted_id")) for unit in units}) < len(units):
        raise InvalidArgumentError("units: expected each electrode and sorted_id once.")
    return list(units)
