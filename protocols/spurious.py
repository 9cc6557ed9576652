"""Tests whether a unit is driven by something that is not the object, and what it wants to see; for `diagnose`.

What is transplanted and why: `closedloop.analysis.spurious`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from closedloop.analysis.spurious import EXCHANGED, PASTED, PREFERRED, REMOVED
from closedloop.images.eight_bit import from_bytes
from closedloop.interfaces import Layered, OpenedLayer, Subject, resolution_of
from closedloop.seeds import named_seed

from .contenders import EVOLVE, PUBLISHED, Contender, run_contender

#: Images into which windows are pasted, images from which they are cut, and pasted images that are kept as files.
RECIPIENTS, DONORS, KEPT = 32, 8, 4
#: A window's side is that of the image over this; windows lie half a side apart.
SMALLER = 4
#: Recipients below which nothing is tested.
FEWEST = 8
#: How a preferred stimulus is found: by evolution and by ascent; where images are small in fields as large as a window,
#: for in single pixels a unit's filter is seen, and not the colour of what it answers to.
EVOLVED, ASCENDED = "evolved", "ascended"


@dataclass(frozen=True)
class Part:
    """Images that are shown for one unit between two commits, and what is noted of them.

    Attributes:
        images: ``(n, 3, h, w)`` float32, multiples of 1/255.
        ids: Names of the images, ``(n,)``.
        facts: Columns ``(n,)`` by name.
        kept: Images that become files, by name.
    """

    images: NDArray[np.float32]
    ids: Sequence[str]
    facts: Mapping[str, NDArray[Any]]
    kept: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Window:
    """A square of an image: first row, first column and side, in pixels."""

    y: int
    x: int
    side: int

    @property
    def place(self) -> tuple[slice, slice, slice]:
        """Returns what indexes it in an image ``(3, h, w)``."""
        return slice(None), slice(self.y, self.y + self.side), slice(self.x, self.x + self.side)

    def paste(self, into: NDArray[np.float32], image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns an image ``(3, h, w)`` with this window of another one."""
        made = into.copy()
        made[self.place] = image[self.place]
        return made


class Transplants:
    """Makes the images by which suspected units are tested.

    Args:
        opened: The layer.
        read: Reads images by number ``(n,)`` -> ``(n, 3, h, w)``.
        ids: Names of all images.
        targets: Number of the true class of each, ``(n,)``.
        answers: Number of the answer to each, −1 for a lost one, ``(n,)``.
        activity: Activation of each channel for each image, summed over places, ``(n, channels)``.
        driven: For each unit and class, errors towards the class, those first that the unit's ablation lowers most.
        means: Of each channel at each place, ``(channels, places)``.
    """

    def __init__(
        self,
        opened: OpenedLayer,
        read: Callable[[NDArray[np.int64]], NDArray[np.float32]],
        ids: Sequence[str],
        targets: NDArray[np.int64],
        answers: NDArray[np.int64],
        activity: NDArray[np.float32],
        driven: Callable[[int, int], NDArray[np.int64]],
        means: NDArray[np.float32],
    ) -> None:
        self._opened, self._read, self._ids = opened, read, ids
        self._targets, self._answers, self._activity, self._means = targets, answers, activity, means
        self._driven = driven

    def donors(self, unit: int, speaks_for: int) -> NDArray[np.int64]:
        """Returns the errors towards a class that a unit drove most, at most eight: none of them is of that class."""
        return self._driven(unit, speaks_for)[:DONORS]

    def part(self, unit: int, speaks_for: int) -> Part | None:
        """Returns the images by which a unit is tested; None where there are too few in which it is quiet."""
        donors = self.donors(unit, speaks_for)
        quiet, quiet_donors = self._quiet(unit, speaks_for)
        if len(quiet) < FEWEST or not len(donors):
            return None
        taken, into, instead = self._read(donors), self._read(quiet), self._read(quiet_donors)
        windows = [self._window(unit, image, instead) for image in taken]
        which = np.arange(len(quiet)) % len(donors)
        pasted = np.stack([windows[d].paste(into[i], taken[d]) for i, d in enumerate(which)])
        control = np.stack([windows[d].paste(into[i], instead[i % len(instead)]) for i, d in enumerate(which)])
        removed = np.stack([window.paste(taken[d], instead[d % len(instead)]) for d, window in enumerate(windows)])
        images = np.concatenate([pasted, control, removed])
        order = np.concatenate([quiet, quiet, donors])
        cut = np.concatenate([which, which, np.arange(len(donors))])
        n = len(images)
        counts = {PASTED: len(quiet), EXCHANGED: len(quiet), REMOVED: len(donors)}
        facts = {
            "kind": np.repeat(list(counts), list(counts.values())),
            "recipient": np.array([self._ids[i] for i in order]),
            "target": self._targets[order],
            "suspect": np.full(n, unit),
            "speaks_for": np.full(n, speaks_for),
            "held_answer": np.concatenate([self._held(unit, pasted), np.full(n - len(quiet), -1)]),
            "nth_donor": cut,
            "donor": np.array([self._ids[donors[d]] for d in cut]),
            **{f"window_{name}": np.array([getattr(windows[d], name) for d in cut]) for name in ("y", "x", "side")},
        }
        kept = {f"unit-{unit}-{speaks_for}-donor-{i}": taken[i] for i in range(min(KEPT, len(taken)))}
        kept |= {f"unit-{unit}-{speaks_for}-into-{i}": into[i] for i in range(KEPT)}
        kept |= {f"unit-{unit}-{speaks_for}-pasted-{i}": pasted[i] for i in range(KEPT)}
        ids = [f"unit-{unit}-{speaks_for}-{kind}-{i}" for kind, count in counts.items() for i in range(count)]
        return Part(images, ids, facts, kept)

    def _quiet(self, unit: int, speaks_for: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns images, not of a class and answered rightly, in which a unit is quiet: recipients, and others."""
        right = np.flatnonzero((self._targets != speaks_for) & (self._answers == self._targets))
        order = right[np.argsort(self._activity[right, unit], kind="stable")]
        quiet = np.sort(order[: len(order) // 2])
        return spread(quiet[::2], RECIPIENTS), spread(quiet[1::2], RECIPIENTS)

    def _window(self, unit: int, image: NDArray[np.float32], instead: NDArray[np.float32]) -> Window:
        """Returns the window of an image whose loss silences a unit most: it is exchanged for those of other images."""
        side = max(1, image.shape[-1] // SMALLER)
        step = max(1, side // 2)
        starts = range(0, image.shape[-1] - side + 1, step)
        windows = [Window(y, x, side) for y in starts for x in starts]
        mean = instead.mean(0)
        seen, _ = self._opened.look(np.stack([window.paste(image, mean) for window in windows]))
        return windows[int(seen[:, unit].sum(1).argmin())]

    def _held(self, unit: int, images: NDArray[np.float32]) -> NDArray[np.int64]:
        """Returns the answers to images with a unit held at its mean, ``(n,)``."""
        channel = np.array([unit])
        return np.array([self._opened.ablated(image, self._means, channel)[0].argmax() for image in images], np.int64)

    def place(self, unit: int, speaks_for: int) -> tuple[int, int]:
        """Returns row and column of a layer's map at which images excite a unit most often."""
        seen, _ = self._opened.look(self._read(self.donors(unit, speaks_for)))
        place = int(np.bincount(seen[:, unit].argmax(1)).argmax())
        return place // self._opened.grid[1], place % self._opened.grid[1]


def spread(found: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Returns at most so many of these numbers, evenly spread."""
    return found if len(found) <= most else found[np.linspace(0, len(found) - 1, most).round().astype(np.int64)]


def preferred(
    subject: Subject, layer: str, unit: int, speaks_for: int, place: tuple[int, int], images: int, seed: int
) -> Part | None:
    """Finds what a unit wants to see, by evolution, and ascent from there; None where no other layer can be recorded.

    The ascent begins at what was evolved, for at grey a unit is often quiet, and has no gradient.

    Args:
        subject: The classifier.
        layer: Where the unit is.
        unit: Number of its channel.
        speaks_for: The class that it speaks for.
        place: Row and column of the map at which it is asked.
        images: Budget of the evolution.
        seed: Of both.
    """
    if not isinstance(subject, Layered):
        return None
    at = subject.at(layer, _spec(subject, layer, unit, place))
    coarse = {"name": "pixels", "resolution": SMALLER}
    generator = coarse if resolution_of(subject) <= 32 else {"name": "fourier"}  # small up to 32 pixels
    own = named_seed(seed, f"unit-{unit}")
    evolved = run_contender(at, Contender(EVOLVED, EVOLVE, generator), images, "forwards", own, [0])
    begin = {"steps": 200, "start": from_bytes(evolved["image"][0])}
    ascended = run_contender(at, Contender(ASCENDED, "tv", generator, options=begin), PUBLISHED, "forwards", own, [0])
    found = [evolved, ascended]
    pictures: NDArray[np.float32] = np.concatenate([from_bytes(one["image"]) for one in found])
    names = [f"unit-{unit}-{speaks_for}-{how}" for how in (EVOLVED, ASCENDED)]
    facts = {
        "kind": np.full(2, PREFERRED),
        "suspect": np.full(2, unit),
        "speaks_for": np.full(2, speaks_for),
        "excites": np.array([float(one["best_response"][0]) for one in found]),
    }
    return Part(pictures, names, facts, dict(zip(names, pictures, strict=True)))


def _spec(subject: Layered, layer: str, unit: int, place: tuple[int, int]) -> str:
    """Returns how a unit is named: its channel, with its place in a layer that has a map."""
    y = subject.at(layer, "0").units.coords.get("y", (-1,))[0]
    return f"({unit},{place[0]},{place[1]})" if y >= 0 else str(unit)
