"""What goes wrong at a rig, by name: ``lost:0.1``, ``fixation:0.05:8``, ``double:0.3`` … each with its numbers.

Faults of trials are drawn with the state of the rig, so that a rig that was killed goes on as one that was not. Those
of the way to the experiment, and crashes, are drawn apart from it: they may change no response.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from closedloop.errors import InvalidArgumentError, UnknownNameError, closest
from closedloop.rigs.messages import Message
from closedloop.rigs.transports import Listener
from closedloop.seeds import named_generator

#: Seconds between two looks whether an answer that comes late is due.
LATE_S = 0.02


@dataclass(frozen=True)
class Kind:
    """One kind of fault.

    Attributes:
        numbers: Its numbers by name, with their defaults; what each may be stands in `BOUNDS`.
        what: What happens, in a sentence.
    """

    numbers: Mapping[str, float]
    what: str


@dataclass(frozen=True)
class Bounds:
    """What a number may be.

    Attributes:
        least: The least value.
        most: The largest.
        whole: Whether it counts something.
    """

    least: float = 0.0
    most: float = 1e9
    whole: bool = False

    def __str__(self) -> str:
        end = f" from {self.least:g}" if self.most >= 1e9 else f" from {self.least:g} to {self.most:g}"
        return f"{'a whole number' if self.whole else 'a number'}{end}"


#: Bounds of the numbers of faults, by their names.
BOUNDS = {
    "rate": Bounds(most=1),
    "burst": Bounds(1),
    "change": Bounds(-0.999, 10),
    "over": Bounds(1),
    "unit": Bounds(whole=True),
    "one": Bounds(whole=True),
    "two": Bounds(whole=True),
    "from": Bounds(whole=True),
    "share": Bounds(most=1),
    "seconds": Bounds(most=86_400),
}


#: All faults by name.
FAULTS: dict[str, Kind] = {
    "lost": Kind({"rate": 0.1}, "Trials are missing from the answer."),
    "fixation": Kind(
        {"rate": 0.02, "burst": 8}, "The animal looks away: bursts of broken fixations, of a mean length."
    ),
    "artifact": Kind({"rate": 0.05}, "Trials with an artifact, for instance of a movement."),
    "frames": Kind({"rate": 0.05}, "The monitor drops a frame."),
    "aborted": Kind({"rate": 0.05}, "The task is aborted; the images after it in the trial of ten are not shown."),
    "drift": Kind({"change": -0.3, "over": 1000}, "The gain of all units changes by a share over presentations."),
    "dead": Kind({"unit": 0, "from": 500}, "A unit dies at a presentation."),
    "swap": Kind({"one": 0, "two": 1, "from": 500}, "An electrode moves: two units change places at a presentation."),
    "adaptation": Kind({"share": 0.2}, "An image that was seen is answered less by a share, and recovers slowly."),
    "late": Kind({"rate": 0.2, "seconds": 0.3}, "Answers come late."),
    "double": Kind({"rate": 0.3}, "Answers come twice."),
    "reorder": Kind({"rate": 0.3}, "Answers come again after later ones, with their trials in another order."),
    "mute": Kind({"rate": 0.2}, "Answers get lost on the way."),
    "silent": Kind({"rate": 0.05, "seconds": 8}, "The rig says nothing for some seconds before it shows a block."),
    "crash": Kind({"rate": 0.05}, "The rig's program dies while it shows a block."),
    "crash-after": Kind({"rate": 0.05}, "It dies when it has written the answer down, and before it sends it."),
}


def parse_faults(words: Sequence[str]) -> dict[str, dict[str, float]]:
    """Returns the numbers of each fault by its name, of words such as ``["lost:0.1", "fixation:0.05:8,double"]``.

    Raises:
        UnknownNameError: No such fault.
        InvalidArgumentError: Too many numbers, or what is none.
    """
    found: dict[str, dict[str, float]] = {}
    for word in (part.strip() for text in words for part in text.split(",")):
        name, *values = word.split(":")
        if name not in FAULTS:
            raise UnknownNameError(f"faults: no fault named {name!r}.{closest(name, FAULTS)}")
        if name in found:
            raise InvalidArgumentError(f"faults: {name} is named twice; expected each fault once.")
        numbers = dict(FAULTS[name].numbers)
        if len(values) > len(numbers):
            raise InvalidArgumentError(f"faults: {word!r} has too many numbers; {name} takes: {', '.join(numbers)}.")
        for place, text in zip(numbers, values, strict=False):
            numbers[place] = _number(word, place, text)
        if name == "swap" and numbers["one"] == numbers["two"]:
            raise InvalidArgumentError(f"faults: {word!r}: expected two different units, got one twice.")
        found[name] = numbers
    return found


def _number(word: str, place: str, text: str) -> float:
    """Returns a number of a fault, if it is within its bounds."""
    bounds = BOUNDS[place]
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not bounds.least <= value <= bounds.most or (bounds.whole and value != int(value)):
        raise InvalidArgumentError(f"faults: {word!r}: expected {bounds} as {place}, got {text!r:.40}.")
    return value


@final
class FaultyListener:
    """Loses, delays, doubles and repeats answers on their way to the experiment.

    Args:
        inner: The way itself.
        faults: As `parse_faults` returns them.
        seed: Of what happens to which answer.
    """

    def __init__(self, inner: Listener, faults: Mapping[str, Mapping[str, float]], seed: int = 0) -> None:
        self._inner, self._faults = inner, faults
        self._rng = named_generator(seed, f"rig way {os.getpid()}")  # another one after a crash
        self._due: list[tuple[float, Any, Message]] = []
        self._old: list[Message] = []

    def _happens(self, name: str) -> bool:
        return name in self._faults and bool(self._rng.random() < self._faults[name]["rate"])

    def receive(self, timeout_s: float) -> tuple[Any, Message] | None:
        """Returns the next message, and sends what was late meanwhile."""
        end = time.monotonic() + timeout_s
        while True:
            self._flush()
            got = self._inner.receive(min(max(0.0, end - time.monotonic()), LATE_S if self._due else timeout_s))
            if got is not None and isinstance(got[0], os.PathLike) and any(peer == got[0] for _, peer, _ in self._due):
                got = None  # a question in a folder stays until its answer lies there: it is not asked again
                time.sleep(LATE_S)
            if got is not None or time.monotonic() >= end:
                return got

    def _flush(self) -> None:
        now, waiting = time.monotonic(), self._due
        self._due = [entry for entry in waiting if entry[0] > now]
        for due, peer, sent in waiting:
            if due <= now:
                self._inner.reply(peer, sent)

    def reply(self, peer: Any, sent: Message) -> None:
        """Sends a message, or what becomes of it."""
        if sent.type != "answer":
            self._inner.reply(peer, sent)
            return
        if self._happens("crash-after"):
            die()
        if self._happens("mute"):
            return
        if self._happens("reorder"):
            if self._old and not isinstance(peer, os.PathLike):  # in a folder an answer has its place
                self._inner.reply(peer, self._old[int(self._rng.integers(len(self._old)))])
            trials = list(sent.header["trials"])
            sent = Message({**sent.header, "trials": [trials[i] for i in self._rng.permutation(len(trials))]})
        self._old = [*self._old[-7:], sent]
        for _ in range(1 + self._happens("double")):
            if self._happens("late"):
                self._due.append((time.monotonic() + self._faults["late"]["seconds"], peer, sent))
            else:
                self._inner.reply(peer, sent)

    def close(self) -> None:
        """Ends it."""
        self._inner.close()


def dies(faults: Mapping[str, Mapping[str, float]], name: str, rng: np.random.Generator) -> bool:
    """Tells whether the program dies now, by the fault of this name."""
    return name in faults and bool(rng.random() < faults[name]["rate"])


def die() -> None:
    """Ends the process at once, as a power failure does: nothing is closed, nothing is written any more."""
    os._exit(137)
