"""What the errors page knows: answers as they come, and explanations as they are asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TypeVar, final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.analysis.errors import answers_of
from closedloop.errors import InvalidArgumentError
from closedloop.images.labelled import Labelled
from closedloop.interfaces import Openable, OpenedLayer, Subject
from closedloop.protocols import DiagnoseSettings, Explanation, LayerSurvey, Study, Survey, study_of, why_closed
from closedloop.readable import counted, some
from closedloop.viewer.desk import Desk, SupersededError
from closedloop.viewer.looking import listed_layers

T = TypeVar("T")
#: Images of one call to the network: a second or so, so that other tabs are not kept waiting.
BLOCK = 8


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
        self.why_closed: str = why_closed(subject)
        self._subject, self._desk = subject, desk
        self._survey = Survey(self.study.targets)
        self._outputs = np.full((len(self.study.images), len(self.study.classes)), np.nan, np.float32)
        self.asked = False  # whether all errors are to be explained
        self.trouble: str = ""
        self._looked: dict[str, LayerSurvey] = {}
        if self.study.opened is not None:
            self._looked[self.study.layer] = self._opened(self.study.opened)
        self._task: asyncio.Task[None] | None = None
        self._known: tuple[tuple[int, int], xr.Dataset, xr.Dataset] | None = None

    def _opened(self, layer: OpenedLayer) -> LayerSurvey:
        return LayerSurvey(self._subject, layer, self.study.read, self.study.resolution)

    @property
    def layer(self) -> str:
        """The layer that is explained by default; "" for a black box."""
        return self.study.layer

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """The layers by which one can explain, as they run; ask for them at the desk."""
        return () if self.why_closed else tuple(name for name in listed_layers(self._subject) if name != "output")

    @property
    def done(self) -> int:
        """Images that were shown."""
        return self._survey.done

    def begin(self) -> None:
        """Goes on with what is to be done, in the background; call it within the server's loop."""
        if (self._task is None or self._task.done()) and self._work() is not None and not self.trouble:
            self._task = asyncio.get_running_loop().create_task(self._go_on())

    def again(self) -> str:
        """Goes on after what stopped it, which may be mended by now; returns what that was, "" where nothing was."""
        before, self.trouble = self.trouble, ""
        self.begin()
        return before

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
        if not self._survey.over:
            return self._go_on_showing
        waiting = self.waiting()
        return None if not waiting else lambda: self.explain_now(waiting[0], self.layer)

    def waiting(self) -> list[int]:
        """Numbers of the errors that are to be explained and are not yet."""
        if not self.asked or not self.layer:
            return []
        known = self._looked[self.layer].explained
        return [int(i) for i in self.errors() if int(i) not in known]

    def _go_on_showing(self) -> None:
        which = self._survey.next(BLOCK)
        images = self.study.read(which)
        looked = self._looked.get(self.layer)
        self._outputs[which] = self._subject.record(images) if looked is None else looked.look(which, images)
        self._survey.take(which, self._outputs[which])
        self._survey.done += len(which)
        if looked is not None and self._survey.over:
            looked.explained.clear()  # what was asked for before was held against the means of fewer images

    def outputs(self, i: int) -> NDArray[np.float32]:
        """Returns the outputs for an image, ``(classes,)``; NaN where it was not answered yet."""
        found: NDArray[np.float32] = self._outputs[i]
        return found

    def errors(self) -> NDArray[np.int64]:
        """Numbers of the images that were answered wrongly."""
        return np.flatnonzero(self._survey.wrong)

    def explained(self, layer: str = "") -> dict[int, Explanation]:
        """Returns the explanations so far, by the image's number."""
        looked = self._looked.get(layer or self.layer)
        return {} if looked is None else looked.explained

    def _now(self) -> tuple[xr.Dataset, xr.Dataset]:
        """Computes what is known, once for as long as nothing is added."""
        key = (self.done, len(self.explained()))
        known = self._known
        if known is None or known[0] != key:
            study = self.study
            why = dict(self.explained())
            recording = self._survey.recording(study.images.ids, study.classes, self._outputs, why, self.layer)
            known = self._known = (key, recording, answers_of(recording))
        return known[1:]

    def recording(self) -> xr.Dataset:
        """Returns what is known, as a run of `diagnose` holds it; see `closedloop.analysis.errors`."""
        return self._now()[0]

    def found(self) -> xr.Dataset:
        """Returns the answers so far; see `closedloop.analysis.answers_of`."""
        return self._now()[1]

    async def ask(self, lane: object, do: Callable[[], T]) -> T:
        """Calls something at the desk; what runs in the background waits meanwhile."""
        return await self._desk.run(lane, do)

    def known_layer(self, layer: str) -> LayerSurvey | None:
        """Returns a layer that images were shown to already; None for another one."""
        return self._looked.get(layer)

    async def explanation(self, i: int, layer: str) -> Explanation:
        """Explains one image by the channels of a layer, at once: what runs in the background waits."""
        return await self.ask(("error", i, layer), lambda: self.explain_now(i, layer))

    def explain_now(self, i: int, layer: str) -> Explanation:
        """Explains one image by the channels of a layer; what is known is returned at once."""
        if self._survey.answers[i] < 0:  # its turn has not come
            which = np.array([i])
            self._outputs[which] = self._subject.record(self.study.read(which))
            self._survey.take(which, self._outputs[which])
        answer, rival = int(self._survey.answers[i]), int(self._survey.rivals(np.array([i]))[0])
        if answer < 0:
            raise InvalidArgumentError("image: the network gave no answer to it, so there is nothing to explain.")
        return self.looked(layer).explain(i, answer, rival)

    def looked(self, layer: str) -> LayerSurvey:
        """Returns a layer that was shown images: by the survey, or another one now.

        Raises:
            ClosedLoopError: There is no such layer.
        """
        if layer not in self._looked and isinstance(self._subject, Openable):
            looked = self._opened(self._subject.opened(layer))
            # The means of a layer that is chosen later are taken over 96 images.
            every = np.linspace(0, len(self.study.images) - 1, min(96, len(self.study.images))).astype(np.int64)
            for j in range(0, len(every), BLOCK):
                looked.look(every[j : j + BLOCK], self.study.read(every[j : j + BLOCK]))
            self._looked[layer] = looked
        return self._looked[layer]


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
