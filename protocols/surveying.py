"""What a classifier answers to labelled images, block by block, and where the channels of a layer answer most.

`diagnose` records it, and the viewer shows it while it comes in: both take it from here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, final, runtime_checkable

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.analysis.errors import EXPLAINED, LABELLED
from closedloop.capability import Capability
from closedloop.interfaces import OpenedLayer, Subject
from closedloop.networks.tokens import token_grid

from .explaining import Explanation, Means, explain

#: What part of an image a place of a map sees, ``(y0, x0, y1, x1)`` in pixels, half-open.
Box = tuple[int, int, int, int]


class Survey:
    """The answers to labelled images so far.

    Args:
        targets: Number of the true class of each image, ``(n,)``.

    Attributes:
        targets: They.
        done: Images that were shown; they are shown in their order.
        answers: Number of the class with the largest output, ``(n,)``; −1 for none yet, or a lost one.
        seconds: Number of the class with the next largest output, ``(n,)``.
    """

    def __init__(self, targets: NDArray[np.int64]) -> None:
        self.targets: NDArray[np.int64] = targets
        self.done: int = 0
        self.answers: NDArray[np.int64] = np.full(len(targets), -1, np.int64)
        self.seconds: NDArray[np.int64] = self.answers.copy()

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def over(self) -> bool:
        """Returns whether all images were shown."""
        return self.done >= len(self)

    def next(self, most: int) -> NDArray[np.int64]:
        """Returns the numbers of the images that are shown next, at most so many."""
        return np.arange(self.done, min(self.done + most, len(self)))

    def take(self, which: NDArray[np.int64], outputs: NDArray[Any]) -> None:
        """Notes outputs ``(m, classes)`` for images by number ``(m,)``; of a lost presentation, with NaN, nothing."""
        known = ~np.isnan(outputs).any(1)
        order = np.argsort(-outputs[known], axis=1, kind="stable")
        self.answers[which[known]], self.seconds[which[known]] = order[:, 0], order[:, 1]

    @property
    def wrong(self) -> NDArray[np.bool_]:
        """Returns which images were answered wrongly, ``(n,)``."""
        found: NDArray[np.bool_] = (self.answers >= 0) & (self.answers != self.targets)
        return found

    @property
    def right(self) -> NDArray[np.bool_]:
        """Returns which images were answered rightly, ``(n,)``."""
        found: NDArray[np.bool_] = self.answers == self.targets
        return found

    def rivals(self, which: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the class that each answer is held against: of an error the true one, else the second."""
        return np.where(self.answers[which] != self.targets[which], self.targets[which], self.seconds[which])

    def recording(
        self,
        ids: Sequence[str],
        classes: Sequence[str],
        outputs: NDArray[np.float32],
        why: Mapping[int, Explanation],
        layer: str,
    ) -> xr.Dataset:
        """Returns what is known as a run of `diagnose` holds it; see `closedloop.analysis.errors`.

        Args:
            ids: Name of each image.
            classes: What the outputs are called.
            outputs: ``(n, classes)``.
            why: Explanations by the image's number.
            layer: The layer by which they were explained.
        """
        survey = np.flatnonzero(self.answers >= 0)
        rows = np.array([*survey, *why], np.int64)
        coords = {
            "stimulus_id": ("presentation", np.array(ids, object)[rows]),
            "kind": ("presentation", np.array([LABELLED] * len(survey) + [EXPLAINED] * len(why), object)),
            "target": ("presentation", self.targets[rows]),
            "answer": ("presentation", self.answers[rows]),
            "number": ("presentation", rows),
            "label": ("neuroid", np.array(classes, object)),
            "diagnosed_layer": layer,
        }
        found = xr.Dataset({"responses": (("presentation", "neuroid"), outputs[rows])}, coords)
        return found if not why else found.assign(_variables(len(survey), list(why.values())))


def _variables(before: int, why: Sequence[Explanation]) -> dict[str, Any]:
    """Returns what is known of each channel, with nothing for the images as they were answered."""

    def column(name: str, fill: float) -> Any:
        values = np.stack([getattr(e, name) for e in why])
        empty = np.full((before, values.shape[1]), fill, values.dtype)
        return ("presentation", "unit"), np.concatenate([empty, values])

    names = ("attribution_wrong", "attribution_right", "ablated_difference")
    return {**{name: column(name, np.nan) for name in names}, "ablated_answer": column("ablated_answer", -1)}


@dataclass(frozen=True)
class Peaks:
    """How strongly each channel answered images at its best place.

    Attributes:
        images: Numbers of the images, ``(n,)``.
        values: Largest activation of each channel, ``(n, channels)``.
        places: Where, as an index into the layer's places, ``(n, channels)``.
    """

    images: NDArray[np.int64]
    values: NDArray[np.float32]
    places: NDArray[np.int32]


@runtime_checkable
class _Seeing(Capability, Protocol):
    """A subject that knows what part of an image its layers see."""

    def receptive_fields(self, layers: Sequence[str] | None = None) -> Sequence[Any]:
        """Returns one for each layer, with ``box(y, x, size)``."""
        ...


@final
class LayerSurvey:
    """A layer, with the means and peaks of its channels over the images that it was shown. One thread calls it.

    Args:
        subject: Whose layer it is; it may know receptive fields.
        opened: The layer.
        read: Reads images by number ``(n,)`` -> ``(n, 3, h, w)``.
        resolution: Of the images in pixels.

    Attributes:
        opened: The layer.
        means: Of its channels at each place, over the images so far.
        explained: Explanations so far, by the image's number.
    """

    def __init__(
        self,
        subject: Subject,
        opened: OpenedLayer,
        read: Callable[[NDArray[np.int64]], NDArray[np.float32]],
        resolution: int,
    ) -> None:
        self._subject = subject
        self.opened: OpenedLayer = opened
        self._read = read
        self._size = resolution
        self.means: Means = Means(opened.channels, opened.grid[0] * opened.grid[1])
        self.explained: dict[int, Explanation] = {}
        self._parts: list[Peaks] = []
        self._fields: list[Any] | None = None

    def look(self, which: NDArray[np.int64], images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Takes images in, and returns the outputs ``(n, classes)``."""
        activations, outputs = self.opened.look(images)
        self.means.add(activations)
        self._parts.append(Peaks(which, activations.max(2), activations.argmax(2).astype(np.int32)))
        return outputs

    @property
    def peaks(self) -> Peaks:
        """Returns the peaks over all images so far."""
        if not self._parts:
            none = np.empty((0, self.opened.channels), np.int32)
            return Peaks(none[:, 0].astype(np.int64), none.astype(np.float32), none)
        if len(self._parts) > 1:
            columns = zip(*((part.images, part.values, part.places) for part in self._parts), strict=True)
            self._parts = [Peaks(*map(np.concatenate, columns))]
        return self._parts[0]

    def best(self, unit: int, without: int, most: int = 4) -> list[int]:
        """Returns the numbers of the images that a channel answers most, without one of them."""
        order = self.peaks.images[np.argsort(-self.peaks.values[:, unit], kind="stable")]
        return [int(i) for i in order if i != without][:most]

    def explain(self, i: int, answer: int, rival: int) -> Explanation:
        """Explains the answer to one image, held against another class; what is known is returned at once."""
        if i not in self.explained:
            image = self._read(np.array([i]))[0]
            self.explained[i] = explain(self.opened, image, answer, rival, self.means.value)
        return self.explained[i]

    def place(self, i: int, unit: int) -> int:
        """Returns where a channel answers an image most, as an index into the layer's places."""
        at = np.flatnonzero(self.peaks.images == i)
        if len(at):
            return int(self.peaks.places[at[0], unit])
        return int(self.opened.look(self._read(np.array([i])))[0][0, unit].argmax())

    def box(self, i: int, unit: int) -> Box:
        """Returns what part of an image a channel answers most.

        The receptive field at its peak; where that is more than half of the image, a window of 3 × 3 cells of the map,
        or patches, around the peak; all of the image in a layer without a map, and for a token that is no patch.
        """
        size, (rows, columns) = self._size, self.opened.grid
        if rows * columns == 1:
            return 0, 0, size, size
        place = self.place(i, unit)
        field = self._field(*divmod(place, columns))
        if field is not None and (field[2] - field[0]) * (field[3] - field[1]) <= size**2 / 2:
            return field
        extra = 0
        if rows == 1:
            rows, columns, extra = token_grid(columns)
        if rows == 1 or place < extra:
            return 0, 0, size, size
        return _window(divmod(place - extra, columns), (rows, columns), size)

    def _field(self, y: int, x: int) -> Box | None:
        """Returns the receptive field of a place of the map, or of a token (0, token); None where it is not known."""
        if self._fields is None:
            seeing = isinstance(self._subject, _Seeing)
            self._fields = list(self._subject.receptive_fields([self.opened.layer])) if seeing else []  # type: ignore[attr-defined]
        if not self._fields:
            return None
        y0, x0, y1, x1 = map(int, self._fields[0].box(y, x, (self._size, self._size)))
        return y0, x0, y1, x1


def _window(at: tuple[int, int], grid: tuple[int, int], size: int) -> Box:
    """Returns the window of some cells of a grid around one of them, within an image of so many pixels."""
    # Three cells of the map, and at least 16 pixels, where a receptive field is larger.
    sides = [min(size, round(max(3 * size / n, 16))) for n in grid]
    corner = [round((c + 0.5) * size / n - side / 2) for c, n, side in zip(at, grid, sides, strict=True)]
    y0, x0 = (min(max(c, 0), size - side) for c, side in zip(corner, sides, strict=True))
    return y0, x0, y0 + sides[0], x0 + sides[1]
