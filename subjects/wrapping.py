"""Subjects around a subject: what they share, lost presentations, and averages over presentations."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from closedloop import recipes
from closedloop.checks import check_number, check_responses, check_whole
from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import (
    Described,
    FloatArray,
    Located,
    Presenting,
    Resolved,
    State,
    Stateful,
    Subject,
    Units,
    form_of,
)
from closedloop.loop.answers import check_answers
from closedloop.presentations import Answers, Asked, Beginning
from closedloop.readable import ReadableSubject
from closedloop.seeds import check_seed, generator_state, named_generator, restore_generator


class Wrapper(ReadableSubject, ABC):
    """A subject that changes what another one answers. Wrappers can be put around each other.

    It records the units of the subject inside, saves its state with its own, and has a resolution and a device where
    that one has. Around a rig (`Presenting`) it presents whole blocks, too: it changes responses, and leaves status,
    onsets and spikes as the rig gave them.
    It is not differentiable: the subject inside, `subject`, may be.

    Attributes:
        kind: A short word for records.
        subject: The subject inside.

    Args:
        subject: The subject inside; or its name, or a mapping ``{"name": …, **options}``, to load it.
        seed: Of its own random generator; wrappers around each other draw independently, also with the same seed.
        **options: What makes it again.
    """

    kind: ClassVar[str]
    resolution: int
    torch_device: str
    present: Callable[[Asked], Answers]
    begin_run: Callable[[], Mapping[str, Any]]

    def __init__(self, subject: Subject | str | Mapping[str, Any], seed: int, **options: Any) -> None:
        self.subject: Subject = as_subject(subject)
        self.units: Units = self.subject.units
        self.name: str = f"{self.subject.name}+{self.kind}"
        form = form_of(self.subject)
        self.channels: int = form.channels
        self.frames: int | None = form.frames
        self.rate_hz: float | None = form.rate_hz
        if isinstance(self.subject, Resolved):
            self.resolution = self.subject.resolution
        if isinstance(self.subject, Located):
            self.torch_device = self.subject.torch_device
        if isinstance(self.subject, Presenting):
            self.present = self._present
        if isinstance(self.subject, Beginning):
            self.begin_run = self.subject.begin_run
        self._options = {**options, "seed": check_seed(seed)}
        depth = _depth(self.subject, self.kind)
        self._rng = named_generator(seed, f"{self.kind}-{depth}" if depth else self.kind)

    @property
    def recipe(self) -> Mapping[str, Any] | None:
        """How `load_subject` makes it again; None where the subject inside was built by hand."""
        inner = self.subject.recipe if isinstance(self.subject, Described) else None
        return None if inner is None else {"name": self.kind, **self._options, "subject": dict(inner)}

    @property
    def fingerprint(self) -> str:
        """SHA-256 of its options and of the fingerprint of the subject inside; empty where that one has none.

        What it measured of the subject inside follows from that, and differs in rounding from engine to engine.
        """
        inner = recipes.fingerprint(self.subject)
        options = {key: value for key, value in self._options.items() if key != "best"}
        content = json.dumps([self.kind, options, inner], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest() if inner else ""

    def record(self, images: NDArray[np.float32]) -> FloatArray:
        """Turns images as the subject inside is shown them into responses ``(n, units[, time])``, NaN where lost."""
        return self._changed(self._inner(images))

    def _present(self, asked: Asked) -> Answers:
        """Shows a block to the rig inside, and changes its responses."""
        rig, units = self.subject, self.units
        raw = rig.present(asked) if isinstance(rig, Presenting) else None
        answers = check_answers(raw, asked, len(units), rig.name, units.neuroid_id)
        return replace(answers, responses=self._changed(np.array(answers.responses, np.float64)))

    def _inner(self, images: NDArray[np.float32]) -> FloatArray:
        """Returns the responses of the subject inside, checked, as an array of our own."""
        responses = check_responses(self.subject.record(images), len(images), len(self.units), self.subject.name)
        return responses.astype(np.float64)

    @abstractmethod
    def _changed(self, responses: FloatArray) -> FloatArray:
        """Turns responses ``(n, units[, time])``, NaN where lost, into those of the wrapper."""

    def state(self) -> State:
        """Returns the random generator, and the state of the subject inside."""
        inner = self.subject.state() if isinstance(self.subject, Stateful) else None
        return {"rng": generator_state(self._rng), "subject": inner}

    def restore(self, state: State) -> None:
        """Goes back to a saved state."""
        if isinstance(self.subject, Stateful):
            self.subject.restore(state["subject"])
        restore_generator(self._rng, state["rng"])


def _depth(subject: Subject, kind: str) -> int:
    """Counts the wrappers of a kind that a subject has around it."""
    depth, inner = 0, subject
    while isinstance(inner, Wrapper):
        depth, inner = depth + (inner.kind == kind), inner.subject
    return depth


def inner_of(subject: Subject) -> Subject:
    """Returns the subject within all wrappers around it; itself where there are none."""
    while isinstance(subject, Wrapper):
        subject = subject.subject
    return subject


def as_subject(subject: Subject | str | Mapping[str, Any]) -> Subject:
    """Returns the subject itself, or the one that a name or recipe stands for."""
    if isinstance(subject, str):
        named: Subject = recipes.build("subjects", subject)
        return named
    if isinstance(subject, Mapping):
        if not isinstance(subject.get("name"), str):
            raise InvalidArgumentError(f"subject: expected a mapping with a name, got {dict(subject)!r:.80}.")
        options = {key: value for key, value in subject.items() if key != "name"}
        made: Subject = recipes.build("subjects", subject["name"], **options)
        return made
    if not isinstance(subject, Subject):
        raise InvalidArgumentError(f"subject: expected a subject, a name or a recipe, got {type(subject).__name__}.")
    return subject


@final
class Lossy(Wrapper):
    """Loses whole presentations, as a trial does that the animal aborts.

    Args:
        subject: The subject inside; or its name, or a mapping ``{"name": …, **options}``.
        rate: Probability that a presentation is lost, 0 to 1.
        seed: Of the losses.
    """

    kind = "lossy"

    def __init__(self, subject: Subject | str | Mapping[str, Any], rate: float = 0.05, seed: int = 0) -> None:
        self.rate: float = check_number("rate", rate, 0, 1)
        super().__init__(subject, seed, rate=self.rate)

    def _changed(self, responses: FloatArray) -> FloatArray:
        responses[self._rng.random(len(responses)) < self.rate] = np.nan
        return responses


@final
class Repeated(Wrapper):
    """Averages several presentations of each image; lost ones are left out of the mean.

    Each call shows all images once, then all once more, and so on. The budget of an experiment counts what it shows,
    not what is averaged here: for repeats that count, use the setting ``repeats`` of a session.

    Args:
        subject: The subject inside; or its name, or a mapping ``{"name": …, **options}``.
        n: Presentations of each image, at least 1.
    """

    kind = "repeated"

    def __init__(self, subject: Subject | str | Mapping[str, Any], n: int = 5) -> None:
        self.n: int = check_whole("n", n, 1)
        super().__init__(subject, 0, n=self.n)
        del self._options["seed"]  # it draws nothing
        if isinstance(self.subject, Presenting):
            raise InvalidArgumentError(
                f"repeated: {self.subject.name!r} is a rig, whose presentations are recorded one by one; for repeats "
                "of each image use the setting repeats."
            )

    def record(self, images: NDArray[np.float32]) -> FloatArray:
        """Answers images as the subject inside does, by mean responses ``(n, units[, time])``, NaN if all were lost."""
        return self._changed(np.stack([self._inner(images) for _ in range(self.n)]))

    def _changed(self, responses: FloatArray) -> FloatArray:
        """Averages responses ``(repeats, n, units[, time])`` over repeats."""
        count = np.sum(~np.isnan(responses), axis=0)
        total = np.nansum(responses, axis=0)
        return np.asarray(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0))
