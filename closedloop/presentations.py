"""Presentations at a rig: what is asked of a subject that takes whole blocks, and what it says became of each.

`closedloop.interfaces.Presenting` is the capability that takes an `Asked` and returns `Answers`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from closedloop.capability import Capability

#: What may become of a presentation. Every one but the first gives no response.
STATUSES = ("ok", "fixation_break", "artifact", "dropped_frame", "aborted", "not_shown")
#: What a person calls lost ones: one, and several.
_LOST_WORDS = {
    "fixation_break": ("fixation break", "fixation breaks"),
    "artifact": ("artifact", "artifacts"),
    "dropped_frame": ("dropped frame", "dropped frames"),
    "aborted": ("aborted", "aborted"),
    "not_shown": ("not shown", "not shown"),
}
#: How the onset of an image was measured, the best way first; "" where it was not shown.
ONSET_SOURCES = ("photodiode", "ttl", "flip", "nominal")
#: What a rig may say of each unit after each block: signal to noise, mean rate, and the share of artifacts in [0, 1].
QUALITIES = ("snr", "rate_hz", "artifact_fraction")


def lost_words(statuses: Iterable[str]) -> str:
    """Returns what became of lost presentations, the most frequent first: "21 artifacts, 1 dropped frame"."""
    counted = Counter(str(status) for status in statuses if status != "ok").most_common()
    return ", ".join(f"{n:,} {_LOST_WORDS.get(status, (status, status))[n > 1]}" for status, n in counted)


@runtime_checkable
class Screened(Protocol):
    """A capability of subjects: it knows how large its images are to the eye."""

    @property
    def px_per_deg(self) -> float | None:
        """Pixels of an image per degree of visual angle; None where that is not known."""
        ...


@runtime_checkable
class Sized(Protocol):
    """A capability of subjects: it shows all images equally large, whatever their number of pixels."""

    @property
    def width_deg(self) -> float | None:
        """Width of an image in degrees of visual angle; None where a pixel of it has a size instead."""
        ...


@dataclass(frozen=True)
class Asked:
    """A block of presentations, as a subject is asked for it that is `Presenting`.

    Attributes:
        images: The different images, ``(m, 3, h, w)`` float32, RGB in [0, 1]; of the form that the subject states.
        order: Which of them each presentation shows, in the order in which they are asked for, ``(n,)``.
        ids: Name of each image, ``(m,)``.
        threads: Name of the thread of each, "reference", or "" where a protocol has none, ``(m,)``.
        kinds: "evolved", "reference", "retest", or "" where a protocol does not say, ``(m,)``.
        phase: What is under way: "survey", "evolve", "select", "confirm", or "" .
        generation: Number of the block; -1 for the survey and where a protocol counts none.
        again: How many times lost presentations of this block have been asked for before.
        soa_s: Nominal seconds from one presentation to the next; None where nothing was said.
    """

    images: NDArray[np.float32]
    order: NDArray[np.int64]
    ids: tuple[str, ...]
    threads: tuple[str, ...]
    kinds: tuple[str, ...]
    phase: str = ""
    generation: int = -1
    again: int = 0
    soa_s: float | None = None

    def __len__(self) -> int:
        return len(self.order)


@dataclass(frozen=True)
class Spikes:
    """Spikes of a block, those of one presentation behind those of the one before.

    Attributes:
        time_s: Time of each spike in seconds from the onset of its presentation, ``(k,)`` float64.
        unit: Column of the unit that fired it, ``(k,)`` int32.
        offsets: Presentation i has the spikes ``offsets[i]`` to ``offsets[i + 1]``, ``(n + 1,)`` int64.
    """

    time_s: NDArray[np.float64]
    unit: NDArray[np.int32]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def presentation(self) -> NDArray[np.int64]:
        """Number of the presentation of each spike, ``(k,)``."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def taken(self, which: NDArray[np.int64]) -> Spikes:
        """Returns the spikes of these presentations, in this order."""
        number = np.diff(self.offsets)[which]
        offsets = np.concatenate([[0], np.cumsum(number)]).astype(np.int64)
        places = np.arange(offsets[-1]) + np.repeat(self.offsets[which] - offsets[:-1], number)
        return Spikes(self.time_s[places], self.unit[places], offsets)

    @classmethod
    def join(cls, parts: Sequence[Spikes]) -> Spikes:
        """Returns the spikes of several blocks, one behind the other."""
        number = np.concatenate([np.diff(part.offsets) for part in parts])
        return cls(
            np.concatenate([part.time_s for part in parts]),
            np.concatenate([part.unit for part in parts]),
            np.concatenate([[0], np.cumsum(number)]).astype(np.int64),
        )

    def counts(self, edges_s: Sequence[float] | NDArray[np.float64], units: int) -> NDArray[np.float64]:
        """Counts spikes between edges in seconds ``(b + 1,)``, from each up to the next: ``(n, units, b)``."""
        edges = np.asarray(edges_s, np.float64)
        bins = np.searchsorted(edges, self.time_s, side="right") - 1
        inside = (bins >= 0) & (bins < len(edges) - 1)
        place = (self.presentation * units + self.unit) * (len(edges) - 1) + bins
        size = len(self) * units * (len(edges) - 1)
        counted = np.bincount(place[inside], minlength=size).astype(np.float64)
        return counted.reshape(len(self), units, len(edges) - 1)


#: Where spikes are counted unless a rig's subject says otherwise: begin and end in seconds from the onset.
WINDOW_S = (0.05, 0.2)


@dataclass(frozen=True)
class Answers:
    """What became of each presentation of a block, in the order in which it was asked for.

    Attributes:
        status: One of `STATUSES` each, ``(n,)``. A presentation that is not "ok" has no response, whatever came.
        responses: ``(n, units[, time])``; None where there are spikes, which are then counted in `window_s`, or in
            bins where `bins_s` says which.
        spikes: Of all presentations; None for a rig that gives responses alone.
        trial_id: Name of each presentation at the rig, unique in a block, ``(n,)``; empty for none.
        onset_s: When each image appeared, in seconds on the rig's clock; NaN for one that was not shown, ``(n,)``.
        onset_source: One of `ONSET_SOURCES` each, "" for one that was not shown, ``(n,)``.
        attempt: 1, or 2 and more where the rig died while it showed the block and showed it again, ``(n,)``.
        window_s: Where spikes are counted, in seconds from the onset.
        bins_s: Begin of the first bin, width of each in seconds from the onset, and their number; None for one count.
        quality: Of each unit, ``(units,)``, by names of `QUALITIES`; NaN where unknown.
    """

    status: Sequence[str] | NDArray[Any]
    responses: NDArray[np.floating[Any]] | None = None
    spikes: Spikes | None = None
    trial_id: Sequence[str] | NDArray[Any] = ()
    onset_s: Sequence[float] | NDArray[np.float64] = ()
    onset_source: Sequence[str] | NDArray[Any] = ()
    attempt: Sequence[int] | NDArray[np.integer[Any]] = ()
    window_s: tuple[float, float] = WINDOW_S
    bins_s: tuple[float, float, int] | None = None
    quality: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.status)

    @property
    def edges_s(self) -> NDArray[np.float64]:
        """Edges of the bins in which spikes are counted, in seconds from the onset, ``(b + 1,)``."""
        if self.bins_s is None:
            return np.array(self.window_s, np.float64)
        start, width, n = self.bins_s
        return np.asarray(start + width * np.arange(n + 1), np.float64)


@runtime_checkable
class Beginning(Capability, Protocol):
    """A capability of rigs: it is told that a new run begins, so that runs are not taken for each other."""

    def begin_run(self) -> Mapping[str, Any]:
        """Makes ready for a new run; returns what is known of the rig in plain values, which is kept with the run."""
        ...
