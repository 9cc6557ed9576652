"""Showing images to a subject: repeats, shuffled order, time limit, lost presentations shown again.

Here is the door through which every stimulus comes to a subject, and here it gets the form that the subject is shown,
by the one rule of `closedloop.images.forms`.
"""

from __future__ import annotations

import queue
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from closedloop.checks import check_responses, units_of
from closedloop.errors import SubjectError, SubjectTimeoutError, SubjectWarning, blamed
from closedloop.images.forms import shown_as
from closedloop.interfaces import FloatArray, Form, Subject, Units, form_of
from closedloop.loop.stale import Watch, image_keys

#: Blocks in a row without any response of which it is warned.
SILENT_BLOCKS = 3


@dataclass(frozen=True)
class Shown:
    """Presentations in the order in which they happened.

    Attributes:
        stimulus: Index of the image, ``(n,)``.
        repeat: How many times this image had been shown before in this block, ``(n,)``.
        responses: ``(n, units[, time])``, NaN where lost.
    """

    stimulus: NDArray[np.int64]
    repeat: NDArray[np.int64]
    responses: FloatArray

    def means(self, stimuli: int) -> FloatArray:
        """Averages the responses to each image that were not lost, ``(stimuli, units[, time])``."""
        total, count = self.sums(stimuli)
        with np.errstate(invalid="ignore"):
            return total / np.where(count > 0, count, np.nan)

    def sums(self, stimuli: int) -> tuple[FloatArray, FloatArray]:
        """Returns sum and number of each image's responses that were not lost, both ``(stimuli, units[, time])``."""
        total = np.zeros((stimuli, *self.responses.shape[1:]))
        count = np.zeros_like(total)
        valid = ~np.isnan(self.responses)
        np.add.at(total, self.stimulus, np.where(valid, self.responses, 0))
        np.add.at(count, self.stimulus, valid)
        return total, count


@dataclass(frozen=True)
class Presenter:
    """Shows images to one subject.

    Attributes:
        subject: Who looks.
        retries: How many times a lost presentation is shown again before it stays NaN.
        timeout_s: Seconds that the subject may take for one block; None waits for ever.
        lost_blocks: Blocks in a row without any response after which it gives up.
    """

    subject: Subject
    retries: int = 2
    timeout_s: float | None = None
    lost_blocks: int = 10
    _silent: list[int] = field(default_factory=list, init=False, repr=False, compare=False)

    @cached_property
    def units(self) -> Units:
        """What the subject records, as it was when the first images were shown."""
        return units_of(self.subject)

    @cached_property
    def _watch(self) -> Watch:
        """Looks for answers that are those to other images."""
        return Watch()

    @cached_property
    def form(self) -> Form:
        """What the subject is shown."""
        return form_of(self.subject)

    def fitted(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns images in the form that the subject is shown; the same object if they have it."""
        fitted: NDArray[np.float32] = shown_as(images, self.form)
        return fitted

    def show(
        self,
        images: NDArray[np.float32],
        repeats: NDArray[np.int64],
        rng: np.random.Generator,
        spare: NDArray[np.int64] | None = None,
        group: NDArray[np.int64] | None = None,
        ids: Sequence[str] | None = None,
    ) -> Shown:
        """Shows each image as often as asked, in random order, then what was lost again.

        Args:
            images: ``(m, 3, h, w)`` float32, RGB in [0, 1]; what has another form than the subject is shown gets it.
            repeats: Presentations of each image, ``(m,)``.
            rng: Draws the order.
            spare: How many lost presentations of each group of images may be shown again, ``(groups,)``; None for
                any number.
            group: Group of each image, ``(m,)``; None for one group.
            ids: Name of each image, ``(m,)``, for errors.

        Raises:
            SubjectError: The subject raised, returned no responses, changed what it records, or gave none at all in
                `lost_blocks` blocks in a row.
        """
        images = self.fitted(images)
        left = None if spare is None else spare.copy()
        group = np.zeros(len(images), dtype=np.int64) if group is None else group
        stimulus = rng.permutation(np.repeat(np.arange(len(images)), repeats))
        blocks, responses = [stimulus], [self._record(images[stimulus], _named(ids, stimulus))]
        for _ in range(self.retries):
            lost = blocks[-1][_lost(responses[-1])]
            if left is not None:
                lost = lost[_occurrence(group[lost]) < left[group[lost]]]
                left -= np.bincount(group[lost], minlength=len(left))
            if len(lost) == 0:
                break
            blocks.append(rng.permutation(lost))
            responses.append(self._record(images[blocks[-1]], _named(ids, blocks[-1])))
            if responses[-1].shape[1:] != responses[0].shape[1:]:
                raise SubjectError(
                    f"subject {self.subject.name!r}: expected responses of shape {responses[0].shape[1:]} for each "
                    f"image, as before, got {responses[-1].shape[1:]}."
                )
        order = np.concatenate(blocks)
        self._listen(any(not _lost(answer).all() for answer in responses))
        return Shown(order, _occurrence(order), np.concatenate(responses))

    def _listen(self, answered: bool) -> None:
        """Warns of blocks without any response, and gives up after many in a row.

        Raises:
            SubjectError: It was the last one that is waited for.
        """
        if answered:
            self._silent.clear()
            return
        self._silent.append(1)
        silent, name = len(self._silent), self.subject.name
        if silent >= self.lost_blocks:
            self._silent.clear()  # who goes on after this has looked at the rig, and is given as many again
            raise SubjectError(
                f"subject {name!r}: not a single response in {silent} blocks in a row; expected some. Look at the rig; "
                "lost_blocks says how many are waited for."
            )
        if silent == SILENT_BLOCKS:
            warnings.warn(
                f"subject {name!r}: not a single response in {silent} blocks in a row; look at the rig. The run stops "
                f"after {self.lost_blocks} (lost_blocks).",
                SubjectWarning,
                stacklevel=3,
            )

    def _record(self, images: NDArray[np.float32], ids: Sequence[str] | None) -> FloatArray:
        """Returns responses to a block of images, checked."""
        name, units = self.subject.name, self.units
        keys = image_keys(images)  # before the subject can change them
        with blamed(f"subject {name!r}", SubjectError):
            raw = self.subject.record(images) if self.timeout_s is None else self._record_in_time(images)
        now = units_of(self.subject)
        if now is not units and now.neuroid_id != units.neuroid_id:
            raise SubjectError(
                f"subject {name!r}: expected the units that it had at the beginning, {len(units)} such as "
                f"{units.neuroid_id[0]!r}, got {len(now)} such as {now.neuroid_id[0]!r}; what it records cannot change."
            )
        responses = check_responses(raw, len(images), len(units), name, ids, units.neuroid_id)
        if suspected := self._watch.see(keys, responses):
            warnings.warn(
                f"subject {name!r}: {suspected}. Its responses may be those to other images; check that the rig reads "
                "each one after its image, and counts triggers rightly.",
                SubjectWarning,
                stacklevel=2,
            )
        return responses

    def _record_in_time(self, images: NDArray[np.float32]) -> Any:
        """Records in a thread of its own, so that a subject that hangs does not hang the experiment."""
        answer: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()

        def work() -> None:
            try:
                answer.put((True, self.subject.record(images)))
            except BaseException as error:  # noqa: BLE001 - handed to the caller, whatever it is
                answer.put((False, error))

        threading.Thread(target=work, daemon=True, name="closedloop-subject").start()
        try:
            fine, value = answer.get(timeout=self.timeout_s)
        except queue.Empty:
            raise SubjectTimeoutError(
                f"subject {self.subject.name!r}: no answer to {len(images)} images within timeout_s={self.timeout_s}; "
                "check the rig, or allow more time."
            ) from None
        if fine:
            return value
        raise value


def _named(ids: Sequence[str] | None, which: NDArray[np.int64]) -> list[str] | None:
    """Returns names of images by number; None where they have none."""
    return None if ids is None else [ids[i] for i in which]


def _lost(responses: FloatArray) -> NDArray[np.bool_]:
    """Tells which presentations gave no response at all, ``(n,)``."""
    return np.asarray(np.isnan(responses).all(axis=tuple(range(1, responses.ndim))))


def _occurrence(order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Counts, for each entry, how many equal ones came before it."""
    count: dict[int, int] = {}
    repeat = np.empty_like(order)
    for i, stimulus in enumerate(order.tolist()):
        repeat[i] = count.get(stimulus, 0)
        count[stimulus] = repeat[i] + 1
    return repeat
