"""What the errors page knows: answers as they come, and explanations as they are asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, final, runtime_checkable

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.analysis.errors import EXPLAINED, LABELLED, answers_of
from closedloop.errors import InvalidArgumentError
from closedloop.images.labelled import Labelled
from closedloop.interfaces import Openable, OpenedLayer, Subject
from closedloop.protocols import DiagnoseSettings, Explanation, Means, Study, explain, study_of, why_closed
from closedloop.readable import counted, some
from closedloop.viewer.desk import Desk, SupersededError

T = TypeVar("T")
#: Images of one call to the network: a second or so, so that other tabs are not kept waiting.
BLOCK = 8
#: Images over which the means of a layer that is chosen later are taken.
SAMPLE = 96
#: The side of the window around a peak, in cells of the layer's map, where a receptive field is larger.
WINDOW = 3


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
    places: NDArray[np.int64]


@runtime_checkable
class _Seeing(Protocol):
    """A subject that knows what part of an image its layers see."""

    def receptive_fields(self, layers: Sequence[str] | None = None) -> Sequence[Any]:
        """One for each layer, with ``box(y, x, size)``."""
        ...


class Looked:
    """A layer, with the means and peaks of its channels over images that it was shown.

    Args:
        opened: The layer.
    """

    def __init__(self, opened: OpenedLayer) -> None:
        self.opened = opened
        self.means = Means(opened.channels, opened.grid[0] * opened.grid[1])
        self._parts: list[tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]] = []
        self.explained: dict[int, Explanation] = {}

    def look(self, which: NDArray[np.int64], images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Takes images in, and returns the outputs ``(n, classes)``."""
        activations, outputs = self.opened.look(images)
        self.means.add(activations)
        self._parts.append((which, activations.max(2), activations.argmax(2)))
        return outputs

    @property
    def peaks(self) -> Peaks:
        """The peaks over all images so far."""
        if not self._parts:
            none = np.empty((0, self.opened.channels), np.int64)
            return Peaks(none[:, 0], none.astype(np.float32), none)
        images, values, places = zip(*self._parts, strict=True)
        return Peaks(np.concatenate(images), np.concatenate(values), np.concatenate(places))


@final
class ErrorsRoom:
    """A classifier and labelled images: which are wrong, and why.

    Args:
        subject: Records one output for each class.
        labelled: The folder.
        desk: Where the subject is asked.

    Raises:
        InvalidArgumentError: The folder is no labelled one, or links in it lead out of it.
    """

    def __init__(self, subject: Subject, labelled: Path, desk: Desk) -> None:
        self.study: Study = study_of(subject, labelled, DiagnoseSettings())
        _check_links(self.study.images)
        self.why_closed = why_closed(subject)
        self._subject, self._desk = subject, desk
        self._outputs = np.full((len(self.study.images), len(self.study.classes)), np.nan, np.float32)
        self._answers = np.full(len(self.study.images), -1, np.int64)
        self.done = 0
        self.asked = False  # whether all errors are to be explained
        self.trouble = ""
        self._looked: dict[str, Looked] = {}
        if self.study.opened is not None:
            self._looked[self.study.layer] = Looked(self.study.opened)
        self._fields: dict[str, Any] = {}
        self._task: asyncio.Task[None] | None = None
        self._known: tuple[tuple[int, int], Any, Any] = ((-1, -1), None, None)

    @property
    def layer(self) -> str:
        """The layer that is explained by default; "" for a black box."""
        return self.study.layer

    def begin(self) -> None:
        """Goes on with what is to be done, in the background; call it within the server's loop."""
        if (self._task is None or self._task.done()) and self._work() is not None and not self.trouble:
            self._task = asyncio.get_running_loop().create_task(self._go_on())

    async def _go_on(self) -> None:
        while (work := self._work()) is not None:
            try:
                await self._desk.run(("errors", id(self)), work)
            except SupersededError:
                return
            except Exception as error:  # noqa: BLE001 - whoever looks at the page is told
                self.trouble = str(error) or type(error).__name__
                return

    def _work(self) -> Callable[[], object] | None:
        """Returns what is to be done next."""
        if self.done < len(self.study.images):
            return self._survey
        waiting = self.waiting()
        return None if not waiting else lambda: self.explain_now(waiting[0], self.layer)

    def waiting(self) -> list[int]:
        """Numbers of the errors that are to be explained and are not yet."""
        if not self.asked or not self.layer:
            return []
        known = self._looked[self.layer].explained
        return [int(i) for i in self.errors() if int(i) not in known]

    def _survey(self) -> None:
        which = np.arange(self.done, min(self.done + BLOCK, len(self.study.images)))
        images = self.study.read(which)
        looked = self._looked.get(self.layer)
        outputs = self._subject.record(images) if looked is None else looked.look(which, images)
        lost = np.isnan(outputs).any(1)
        self._outputs[which], self._answers[which] = outputs, np.where(lost, -1, np.nan_to_num(outputs).argmax(1))
        self.done = int(which[-1]) + 1
        if looked is not None and self.done == len(self.study.images):
            looked.explained.clear()  # what was asked for before was held against the means of fewer images

    def outputs(self, i: int) -> NDArray[np.float32]:
        """The outputs for an image, ``(classes,)``; NaN where it was not answered yet."""
        found: NDArray[np.float32] = self._outputs[i]
        return found

    def answers(self) -> NDArray[np.int64]:
        """Number of the class of each image's answer; −1 where there is none yet."""
        return self._answers.copy()

    def errors(self) -> NDArray[np.int64]:
        """Numbers of the images that were answered wrongly."""
        answers = self.answers()
        return np.flatnonzero((answers >= 0) & (answers != self.study.targets))

    def explained(self, layer: str = "") -> dict[int, Explanation]:
        """The explanations so far, by the image's number."""
        looked = self._looked.get(layer or self.layer)
        return {} if looked is None else looked.explained

    def _now(self) -> tuple[xr.Dataset, xr.Dataset]:
        """What is known, computed once for as long as nothing is added."""
        key = (self.done, len(self.explained()))
        if self._known[0] != key:
            recording = self._recording()
            self._known = (key, recording, answers_of(recording))
        return self._known[1:]

    def recording(self) -> xr.Dataset:
        """What is known, as a run of `diagnose` holds it; see `closedloop.analysis.errors`."""
        return self._now()[0]

    def found(self) -> xr.Dataset:
        """The answers so far; see `closedloop.analysis.answers_of`."""
        return self._now()[1]

    def _recording(self) -> xr.Dataset:
        answers, targets = self.answers(), self.study.targets
        survey = np.flatnonzero(answers >= 0)
        why = dict(self.explained())
        rows = np.array([*survey, *why], np.int64)
        coords = {
            "stimulus_id": ("presentation", np.array(self.study.images.ids, object)[rows]),
            "kind": ("presentation", np.array([LABELLED] * len(survey) + [EXPLAINED] * len(why), object)),
            "target": ("presentation", targets[rows]),
            "answer": ("presentation", answers[rows]),
            "number": ("presentation", rows),
            "label": ("neuroid", np.array(self.study.classes, object)),
            "diagnosed_layer": self.layer,
        }
        found = xr.Dataset({"responses": (("presentation", "neuroid"), self._outputs[rows])}, coords)
        return found if not why else found.assign(self._variables(len(survey), list(why.values())))

    def _variables(self, before: int, why: list[Explanation]) -> dict[str, Any]:
        """What is known of each channel, with nothing for the images as they were answered."""

        def column(name: str, fill: float) -> Any:
            values = np.stack([getattr(e, name) for e in why])
            empty = np.full((before, values.shape[1]), fill, values.dtype)
            return ("presentation", "unit"), np.concatenate([empty, values])

        names = ("attribution_wrong", "attribution_right", "ablated_difference")
        return {**{name: column(name, np.nan) for name in names}, "ablated_answer": column("ablated_answer", -1)}

    async def ask(self, lane: object, do: Callable[[], T]) -> T:
        """Calls something at the desk; what runs in the background waits meanwhile."""
        return await self._desk.run(lane, do)

    def known_layer(self, layer: str) -> Looked | None:
        """A layer that images were shown to already."""
        return self._looked.get(layer)

    async def explanation(self, i: int, layer: str) -> Explanation:
        """Explains one image by the channels of a layer, at once: what runs in the background waits."""
        return await self.ask(("error", i, layer), lambda: self.explain_now(i, layer))

    def explain_now(self, i: int, layer: str) -> Explanation:
        """Explains one image by the channels of a layer; what is known is returned at once."""
        looked = self.looked(layer)
        if i not in looked.explained:
            image = self.study.read(np.array([i]))
            outputs = looked.opened.look(image)[1][0]
            order = np.argsort(-outputs, kind="stable")
            target = int(self.study.targets[i])
            other = target if int(order[0]) != target else int(order[1])
            looked.explained[i] = explain(looked.opened, image[0], int(order[0]), other, looked.means.value)
        return looked.explained[i]

    def looked(self, layer: str) -> Looked:
        """A layer that was shown images: by the survey, or another one now.

        Raises:
            ClosedLoopError: There is no such layer.
        """
        if layer not in self._looked and isinstance(self._subject, Openable):
            looked = Looked(self._subject.opened(layer))
            every = np.linspace(0, len(self.study.images) - 1, min(SAMPLE, len(self.study.images))).astype(np.int64)
            for j in range(0, len(every), BLOCK):
                looked.look(every[j : j + BLOCK], self.study.read(every[j : j + BLOCK]))
            self._looked[layer] = looked
        return self._looked[layer]

    def peak(self, i: int, layer: str, unit: int) -> tuple[int, int] | None:
        """Row and column where a channel answers an image most; None where the layer has no map.

        Raises:
            ClosedLoopError: There is no such layer.
        """
        looked = self.looked(layer)
        rows, columns = looked.opened.grid
        if rows == 1:
            return None
        peaks = looked.peaks
        at = np.flatnonzero(peaks.images == i)
        if len(at):
            place = int(peaks.places[at[0], unit])
        else:
            place = int(looked.opened.look(self.study.read(np.array([i])))[0][0, unit].argmax())
        return place // columns, place % columns

    def box(self, i: int, layer: str, unit: int) -> tuple[int, int, int, int]:
        """What part of an image a channel answers most: ``(y0, x0, y1, x1)`` in pixels, half-open.

        The receptive field at its peak; where that is more than half of the image, a window of 3 × 3 cells of the map
        around the peak; and all of the image in a layer without a map.
        """
        size = self.study.resolution
        place = self.peak(i, layer, unit)
        if place is None:
            return 0, 0, size, size
        field = self._field(layer, *place)
        if field is not None and (field[2] - field[0]) * (field[3] - field[1]) <= size**2 / 2:
            return field
        rows, columns = self.looked(layer).opened.grid
        half = max(WINDOW * size / rows / 2, 8)
        y, x = ((place[0] + 0.5) * size / rows, (place[1] + 0.5) * size / columns)
        y0, x0 = (int(min(max(c - half, 0), size - 2 * half)) if size > 2 * half else 0 for c in (y, x))
        return y0, x0, min(size, int(y0 + 2 * half)), min(size, int(x0 + 2 * half))

    def _field(self, layer: str, y: int, x: int) -> tuple[int, int, int, int] | None:
        """The receptive field of a place of a layer, where it can be told."""
        if layer not in self._fields and isinstance(self._subject, _Seeing):
            self._fields[layer] = self._subject.receptive_fields([layer])[0]
        found = self._fields.get(layer)
        size = (self.study.resolution, self.study.resolution)
        return None if found is None else tuple(map(int, found.box(y, x, size)))  # type: ignore[return-value]

    def best(self, layer: str, unit: int, without: int, most: int = 4) -> list[int]:
        """Numbers of the labelled images that a channel answers most, without one of them."""
        peaks = self.looked(layer).peaks
        order = peaks.images[np.argsort(-peaks.values[:, unit], kind="stable")]
        return [int(i) for i in order if i != without][:most]


def _check_links(images: Labelled) -> None:
    """Raises for images that lie elsewhere: a viewer shows and exports what is in the folder alone."""
    within = images.folder.resolve()
    out = [
        name for name, path in zip(images.ids, images.paths, strict=True) if not path.resolve().is_relative_to(within)
    ]
    if out:
        raise InvalidArgumentError(
            f"labelled: {counted(len(out), 'image')} in {images.folder} are reached by links that lead out of it: "
            f"{some(out)}; copy them into it, or link them hard (cp -al)."
        )
