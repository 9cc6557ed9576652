"""Evolve one image for each class at once, without a gradient: fooling images by MAP-Elites."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.analysis.elites import ELITES, class_elites, class_probabilities
from closedloop.checks import check_generated, check_whole
from closedloop.errors import InvalidArgumentError
from closedloop.images.eight_bit import quantize
from closedloop.images.forms import check_forms
from closedloop.interfaces import FloatArray, Generator, State, Stateful, Subject, form_of
from closedloop.loop.presenter import Presenter, Shown
from closedloop.loop.settings import Settings
from closedloop.recipes import fingerprint, plain, recipe, version
from closedloop.recording.layout import EVOLUTION, Layout, Rows, form_scalars
from closedloop.recording.writer import Recording
from closedloop.seeds import generator_state, named_generator, named_seed, restore_generator

if TYPE_CHECKING:
    from closedloop.optimizers.elites import MapElites

#: What is stored of the arguments, besides subject, generator, classes and the numbers of the breeding.
ELITES_SETTINGS = ("images", "retest", "retries", "timeout_s", "soa_s", "seed")


def evolve_elites(
    subject: Subject,
    generator: Generator,
    *,
    classes: Sequence[int] | None = None,
    images: int = 20_000,
    retest: bool = True,
    retries: int = 2,
    timeout_s: float | None = None,
    soa_s: float = 0.2,
    seed: int = 0,
    save: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    **breeding: Any,
) -> xr.Dataset:
    """The image that each class of a classifier is surest of (Nguyen, Yosinski & Clune 2015).

    All recorded units are classes; an image's score for a class is the softmax over them. Each image is shown once,
    and may become the elite of any number of classes. At the end the elites' images are rounded to 8 bits, as files
    and screens hold them, and shown again.

    The paper's program shows 200 children in a generation for pixels and 400 for pattern-producing networks, over 5,000
    generations: one and two million images.

    Args:
        subject: Who looks; its units must be the outputs of a classifier before the softmax.
        generator: Turns codes into images.
        classes: Columns of the responses that have an elite; None for all. The softmax is over all units anyway.
        images: Images to be shown, but for those that are shown again; a generation that does not fit is not begun.
        retest: Whether the elites are shown again.
        retries: How often a lost presentation is shown again.
        timeout_s: Seconds that the subject may take for one generation; None waits for ever.
        soa_s: Nominal seconds from one presentation to the next.
        seed: Seed of codes and order.
        save: Folder of the run, which `closedloop.open_recording` reads and `resume` goes on with; None keeps it in
            memory. Every image's code is recorded: 20,000 of ``Pixels(64)`` take 2 GB.
        progress: Called after each generation with the number of images shown so far and of all.
        **breeding: ``children``, ``mutation_rate`` …; see `closedloop.optimizers.elites.MapElites`.

    Returns:
        See `closedloop.analysis.class_elites`.

    Raises:
        MissingExtraError: pyribs is not installed.
        InvalidArgumentError: An argument does not fit; nothing is written.
        RecordingError: The folder exists, or cannot be written.
        SubjectError: The subject failed; what was finished is safe, and `resume` goes on.
    """
    Settings(images=images, retries=retries, timeout_s=timeout_s, soa_s=soa_s, seed=seed)  # checks them
    settings = dict(zip(ELITES_SETTINGS, (images, bool(retest), retries, timeout_s, soa_s, seed), strict=True))
    chosen = _check_classes(classes, len(subject.units))
    check_forms("generator", form_of(generator), form_of(subject))
    run = Run(subject, generator, chosen, settings, _optimizer(generator, len(chosen), seed, breeding))
    experiment = {
        "closedloop": version(), "protocol": ELITES, "subject": recipe(subject), "generator": recipe(generator),
        "classes": _text(chosen, len(subject.units)), "breeding": breeding, **settings,
    }  # fmt: skip
    return run.go_on(Recording.create(save, run.layout(), plain(experiment)), progress)


def _check_classes(classes: Sequence[int] | None, units: int) -> NDArray[np.int64]:
    """The columns that have an elite."""
    if units < 2:
        raise InvalidArgumentError(
            f"subject: expected the two or more outputs of a classifier, got {units} unit; record its "
            "whole output layer."
        )
    if classes is None:
        return np.arange(units)
    chosen = [check_whole("classes", c, 0) for c in classes]
    if not chosen or len(set(chosen)) < len(chosen) or max(chosen) >= units:
        raise InvalidArgumentError(
            f"classes: expected one or more different columns of the {units} recorded units, got {chosen!r:.200}."
        )
    return np.array(chosen, dtype=np.int64)


def _text(classes: NDArray[np.int64], units: int) -> str:
    """``"all"``, or the columns in their order."""
    return "all" if np.array_equal(classes, np.arange(units)) else " ".join(map(str, classes.tolist()))


def _optimizer(generator: Generator, classes: int, seed: int, breeding: dict[str, Any]) -> MapElites:
    from closedloop.optimizers.elites import MapElites  # pyribs is an extra

    try:
        return MapElites(generator.space, classes, named_seed(seed, ELITES), **breeding)
    except TypeError as error:
        raise InvalidArgumentError(f"breeding: {error}; see closedloop.optimizers.elites.MapElites.") from error


def stored_elites(content: dict[str, Any], subject: Subject, generator: Generator) -> Run:
    """The run that an experiment file describes, at its beginning."""
    units, text = len(subject.units), content["classes"]
    chosen = _check_classes(None if text == "all" else [int(c) for c in str(text).split()], units)
    settings = {name: content[name] for name in ELITES_SETTINGS}
    optimizer = _optimizer(generator, len(chosen), settings["seed"], content["breeding"])
    return Run(subject, generator, chosen, settings, optimizer)


@dataclass
class Run:
    """An evolution of elites under way.

    Attributes:
        subject: Who looks.
        generator: Turns codes into images.
        classes: Columns of the responses that have an elite, ``(classes,)``.
        settings: See `ELITES_SETTINGS`.
        optimizer: The archive.
        generation: Number of the next block.
        presentations: Images shown so far, with all repeats.
        retested: Elites shown again so far.
    """

    subject: Subject
    generator: Generator
    classes: NDArray[np.int64]
    settings: dict[str, Any]
    optimizer: MapElites
    generation: int = 0
    presentations: int = 0
    retested: int = 0

    def __post_init__(self) -> None:
        if self.optimizer.initial > self.settings["images"]:
            raise InvalidArgumentError(
                f"images: expected at least the {self.optimizer.initial} of the first generation, got "
                f"{self.settings['images']}; show more, or lower children."
            )
        self._order = named_generator(self.settings["seed"], "order")

    def go_on(self, recording: Recording, progress: Callable[[int, int], None] | None = None) -> xr.Dataset:
        """Shows what has not been shown yet; a new recording begins at the beginning."""
        try:
            recording.check_units(self.subject.units)
            state = recording.state()
            if state is None:
                recording.use(self.layout())
            else:
                self._restore(state)
            presenter = Presenter(self.subject, self.settings["retries"], self.settings["timeout_s"])
            while self._fits():
                recording.append(self._breed(presenter, recording), self._state())
                if progress is not None:
                    progress(self.optimizer.told, self.settings["images"])
            while self.settings["retest"] and len(again := self._next_elites()):
                recording.append(self._show_again(presenter, again), self._state())
            recording.finish(self._state())
            return class_elites(recording.dataset())
        finally:
            recording.close()

    def _fits(self) -> bool:
        """Whether there is room for another generation."""
        size = self.optimizer.children if self.optimizer.told else self.optimizer.initial
        return bool(self.optimizer.told + size <= self.settings["images"])

    def _breed(self, presenter: Presenter, recording: Recording) -> Rows:
        """One generation: ask, show, tell."""
        codes = self.optimizer.ask()
        images = check_generated(self.generator(codes), len(codes), self.generator)
        shown = presenter.show(images, np.ones(len(codes), np.int64), self._order)
        recording.check(shown.responses)
        scores = class_probabilities(shown.means(len(codes)), self.classes)
        self.optimizer.tell(codes, scores)
        names = [f"{ELITES}-g{self.generation:05d}-{i:05d}" for i in range(len(codes))]
        return self._rows(ELITES, shown, names, codes, scores.max(1))

    def _next_elites(self) -> NDArray[np.int64]:
        """The next images to be shown again, by their number among all that were shown, counted from 1."""
        unique = np.unique(self.optimizer.evaluations)
        return unique[unique > 0][self.retested : self.retested + self.optimizer.children]

    def _show_again(self, presenter: Presenter, again: NDArray[np.int64]) -> Rows:
        """Shows elites again, rounded to 8 bits."""
        cells, codes = self.optimizer.elites()
        place = {int(e): i for i, e in enumerate(self.optimizer.evaluations[cells])}
        chosen = codes[[place[int(e)] for e in again]]
        images = quantize(presenter.fitted(check_generated(self.generator(chosen), len(chosen), self.generator)))
        shown = presenter.show(images, np.ones(len(chosen), np.int64), self._order)
        scores = class_probabilities(shown.means(len(chosen)), self.classes)
        self.retested += len(chosen)
        return self._rows("retest", shown, [self._name(int(e)) for e in again], chosen, scores.max(1))

    def _name(self, evaluation: int) -> str:
        """The name that an image was shown under."""
        first, size = self.optimizer.initial, self.optimizer.children
        later = evaluation - 1 - first
        generation, number = (0, evaluation - 1) if later < 0 else (1 + later // size, later % size)
        return f"{ELITES}-g{generation:05d}-{number:05d}"

    def _rows(self, kind: str, shown: Shown, names: list[str], codes: FloatArray, scores: FloatArray) -> Rows:
        n = len(shown.stimulus)
        coords = {
            "thread": np.full(n, ELITES),
            "generation": np.full(n, self.generation, np.int32),
            "kind": np.full(n, kind),
            "stimulus_id": np.array(names)[shown.stimulus],
            "repeat": shown.repeat.astype(np.int32),
            "onset_s": (self.presentations + np.arange(n))
            * max(self.settings["soa_s"], form_of(self.subject).duration_s),
        }
        self.generation += 1
        self.presentations += n
        return Rows(coords, shown.responses, codes[shown.stimulus], scores[shown.stimulus])

    def layout(self) -> Layout:
        """The shape of the recording: room for every presentation that may come."""
        again = min(len(self.classes), self.settings["images"]) if self.settings["retest"] else 0
        capacity = (self.settings["images"] + again) * (1 + self.settings["retries"])
        scalars: dict[str, str | int | float] = {
            "subject": self.subject.name,
            **form_scalars(form_of(self.subject)),
            "classes": _text(self.classes, len(self.subject.units)),
            "seed": self.settings["seed"],
            "closedloop_version": version(),
        }
        evolutions = {
            EVOLUTION: [ELITES],
            "generator": [self.generator.name],
            "generator_sha256": [fingerprint(self.generator)],
            "generator_recipe": [json.dumps(recipe(self.generator))],
        }
        return Layout(capacity, self.generator.space.dim, self.subject.units, scalars, evolutions=evolutions)

    def _state(self) -> State:
        return {
            "optimizer": self.optimizer.state(),
            "generation": self.generation,
            "presentations": self.presentations,
            "retested": self.retested,
            "order": generator_state(self._order),
            "subject": self.subject.state() if isinstance(self.subject, Stateful) else None,
        }

    def _restore(self, state: State) -> None:
        """Goes back to a saved state, or says that it is another run's."""
        try:
            self.optimizer.restore(state["optimizer"])
            self.generation, self.presentations = int(state["generation"]), int(state["presentations"])
            self.retested = int(state["retested"])
            restore_generator(self._order, state["order"])
            if isinstance(self.subject, Stateful):
                self.subject.restore(state["subject"])
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise InvalidArgumentError(
                f"subject, generator: the saved state does not fit them ({type(error).__name__}: {error}); hand over "
                "those of the run."
            ) from error
