"""Showing images to a subject: repeats, shuffled order, time limit, lost presentations shown again.

Here is the door through which every stimulus comes to a subject, and here it gets the form that the subject is shown,
by the one rule of `closedloop.images.forms`.
"""

from __future__ import annotations

import queue
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from closedloop.checks import check_responses, units_of
from closedloop.errors import SubjectError, SubjectTimeoutError, SubjectWarning, blamed
from closedloop.images.forms import shown_as
from closedloop.interfaces import FloatArray, Form, Presenting, Subject, Units, form_of
from closedloop.loop.answers import as_happened, check_answers, joined, taken
from closedloop.loop.health import Health
from closedloop.loop.stale import Watch, image_keys
from closedloop.presentations import Answers, Asked
from closedloop.recording.lean import all_nan

#: A call of the subject: images ``(n, 3, h, w)`` -> what it returns for them.
Call = Callable[[NDArray[np.float32]], Any]
#: Blocks in a row without any response of which it is warned.
SILENT_BLOCKS = 3


@dataclass(frozen=True)
class Shown:
    """Presentations in the order in which they happened.

    Attributes:
        stimulus: Index of the image, ``(n,)``.
        repeat: How many times this image had been shown before in this block, ``(n,)``.
        responses: ``(n, units[, time])``, NaN where lost.
        answers: What a rig said of each presentation; None for a subject that is none.
    """

    stimulus: NDArray[np.int64]
    repeat: NDArray[np.int64]
    responses: FloatArray
    answers: Answers | None = None

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
class Telling:
    """What a rig is told of a block, beside its images and their names.

    Attributes:
        threads: Name of the thread of each image, or "reference", ``(m,)``; empty for none.
        kinds: "evolved", "reference" or "retest" of each, ``(m,)``; empty for none.
        phase: What is under way.
        generation: Number of the block.
    """

    threads: Sequence[str] = ()
    kinds: Sequence[str] = ()
    phase: str = ""
    generation: int = -1


@dataclass(frozen=True)
class Presenter:
    """Shows images to one subject.

    Attributes:
        subject: The network or animal that is shown images.
        retries: How many times a lost presentation is shown again before it stays NaN.
        timeout_s: Seconds that the subject may take for one block; None waits for ever.
        lost_blocks: Blocks in a row without any response after which it gives up.
        soa_s: Nominal seconds from one presentation to the next, for a rig; None where it is left to the rig.
    """

    subject: Subject
    retries: int = 2
    timeout_s: float | None = None
    lost_blocks: int = 10
    soa_s: float | None = None
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
    def _health(self) -> Health:
        """Watches a rig."""
        return Health()

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
        telling: Telling | None = None,
    ) -> Shown:
        """Shows each image as often as asked, in random order, then what was lost again.

        Args:
            images: ``(m, 3, h, w)`` float32, RGB in [0, 1]; what has another form than the subject is shown gets it.
            repeats: Presentations of each image, ``(m,)``.
            rng: Draws the order.
            spare: How many lost presentations of each group of images may be shown again, ``(groups,)``; None for
                any number.
            group: Group of each image, ``(m,)``; None for one group.
            ids: Name of each image, ``(m,)``, for errors and for a rig.
            telling: What a rig is told of the block.

        Raises:
            SubjectError: The subject raised, returned no responses, changed what it records, or gave none at all in
                `lost_blocks` blocks in a row.
        """
        images = self.fitted(images)
        left = None if spare is None else spare.copy()
        group = np.zeros(len(images), dtype=np.int64) if group is None else group
        stimulus = rng.permutation(np.repeat(np.arange(len(images)), repeats))
        blocks = [self._present(images, stimulus, ids, telling, 0)]
        for again in range(1, self.retries + 1):
            lost = blocks[-1].stimulus[all_nan(blocks[-1].responses)]
            if left is not None:
                lost = lost[_occurrence(group[lost]) < left[group[lost]]]
                left -= np.bincount(group[lost], minlength=len(left))
            if len(lost) == 0:
                break
            blocks.append(self._present(images, rng.permutation(lost), ids, telling, again))
            if blocks[-1].responses.shape[1:] != blocks[0].responses.shape[1:]:
                raise SubjectError(
                    f"subject {self.subject.name!r}: expected responses of shape {blocks[0].responses.shape[1:]} for "
                    f"each image, as before, got {blocks[-1].responses.shape[1:]}."
                )
        order = np.concatenate([block.stimulus for block in blocks])
        self._listen(any(not all_nan(block.responses).all() for block in blocks))
        responses = np.concatenate([block.responses for block in blocks])
        told = [block.answers for block in blocks if block.answers is not None]
        whole = joined(told, self.subject.name) if told else None
        if whole is not None:
            names = _named(ids or [str(i) for i in range(len(images))], order) or []
            kinds = _named(telling.kinds, order) if telling is not None and telling.kinds else None
            self._health.see(whole, responses, names, kinds or [""] * len(order), self.units.neuroid_id)
        return Shown(order, _occurrence(order), responses, whole)

    def _present(
        self,
        images: NDArray[np.float32],
        stimulus: NDArray[np.int64],
        ids: Sequence[str] | None,
        telling: Telling | None,
        again: int,
    ) -> Shown:
        """Shows images by number, once each: here a subject is called, and nowhere else.

        Presentations of a rig come in the order in which they happened.
        """
        subject = self.subject
        if not isinstance(subject, Presenting):
            responses = self._checked(images[stimulus], _named(ids, stimulus), subject.record)
            return Shown(stimulus, np.zeros(len(stimulus), np.int64), responses)
        asked = self._asked(images, stimulus, ids, telling or Telling(), again)
        found: list[Answers] = []
        rig: Presenting = subject

        def present(_: NDArray[np.float32]) -> FloatArray:
            raw, units = rig.present(asked), self.units
            found[:] = [check_answers(raw, asked, len(units), self.subject.name, units.neuroid_id)]
            return np.asarray(found[0].responses)

        self._checked(images[stimulus], _named(ids, stimulus), present)
        order = as_happened(found[0])
        answers = taken(found[0], order)
        return Shown(stimulus[order], np.zeros(len(stimulus), np.int64), np.asarray(answers.responses), answers)

    def _asked(
        self,
        images: NDArray[np.float32],
        stimulus: NDArray[np.int64],
        ids: Sequence[str] | None,
        telling: Telling,
        again: int,
    ) -> Asked:
        """Returns what a rig is asked for, with those images alone that are shown."""
        which, order = np.unique(stimulus, return_inverse=True)
        ids, none = ids or [str(i) for i in range(len(images))], [""] * len(images)
        columns = (ids, telling.threads or none, telling.kinds or none)
        names, threads, kinds = (tuple(str(column[i]) for i in which) for column in columns)
        phase, generation = telling.phase, telling.generation
        return Asked(images[which], order.astype(np.int64), names, threads, kinds, phase, generation, again, self.soa_s)

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

    def _checked(self, images: NDArray[np.float32], ids: Sequence[str] | None, call: Call) -> FloatArray:
        """Returns what a call of the subject gives for a block of images, checked."""
        name, units = self.subject.name, self.units
        keys = image_keys(images)  # before the subject can change them
        with blamed(f"subject {name!r}", SubjectError):
            raw = call(images) if self.timeout_s is None else self._in_time(images, call)
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

    def _in_time(self, images: NDArray[np.float32], call: Call) -> Any:
        """Records in a thread of its own, so that a subject that hangs does not hang the experiment."""
        answer: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()

        def work() -> None:
            try:
                answer.put((True, call(images)))
            except BaseException as error:  # noqa: BLE001 - handed to the caller, whatever it is
                answer.put((False, error))

        threading.Thread(target=work, daemon=True, name="closedloop-subject").start()
        try:
            fine, value = answer.get(timeout=min(self.timeout_s or threading.TIMEOUT_MAX, threading.TIMEOUT_MAX))
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


def _occurrence(order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Counts, for each entry, how many equal ones came before it."""
    count: dict[int, int] = {}
    repeat = np.empty_like(order)
    for i, stimulus in enumerate(order.tolist()):
        repeat[i] = count.get(stimulus, 0)
        count[stimulus] = repeat[i] + 1
    return repeat
