"""Evolve one image for each class at once, without a gradient: fooling images by MAP-Elites."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.analysis.elites import ELITES, class_elites, class_probabilities
from closedloop.checks import check_whole, make_images
from closedloop.errors import InvalidArgumentError, OptimizerError, blamed
from closedloop.images.eight_bit import quantize
from closedloop.images.forms import check_forms
from closedloop.interfaces import FloatArray, Generator, State, Subject, form_of
from closedloop.loop.commits import check_fingerprints, fingerprints, is_finished, record, run_course
from closedloop.loop.ending import EndRequest, ended_on_request
from closedloop.loop.parts import RunPart
from closedloop.loop.presenter import Presenter, Shown
from closedloop.loop.progress import Progress, as_progress, begin_progress, end_progress, move_progress
from closedloop.loop.protocol import Analysis, Handed, RunFigure, RunProtocol, RunSummary, RunTable
from closedloop.loop.settings import Timing, option, read_settings, settings
from closedloop.recipes import OBJECT, as_recorded, build, fingerprint, generator_of_run, recipe, version
from closedloop.recording.layout import EVOLUTION, IMAGE_BITS, Layout, Rows, form_scalars
from closedloop.recording.reader import open_recording
from closedloop.recording.titles import recorded_title
from closedloop.recording.writer import Recording
from closedloop.seeds import generator_state, named_generator, named_seed, restore_generator
from closedloop.signatures import at_door

from .stored import check_complete, stored_settings, subject_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from closedloop.optimizers.elites import MapElites


@settings
class ElitesSettings(Timing):
    """The numbers of an evolution of elites."""

    images: int = option(
        default=20_000,
        least=1,
        help="Images to be shown, but for those that are shown again; a generation that does not fit is not begun.",
    )
    retest: bool = option(default=True, help="Whether the elites are shown again, as files and screens hold them.")


@at_door
def evolve_elites(
    subject: Subject,
    generator: Generator,
    *,
    classes: Sequence[int] | None = None,
    save: str | Path | None = None,
    exists: str = RunPart.exists,
    progress: Progress = True,
    **numbers: Any,
) -> xr.Dataset:
    """Evolves the image that each class of a classifier is surest of (Nguyen, Yosinski & Clune 2015).

    All recorded units are classes; an image's score for a class is the softmax over them. Each image is shown once,
    and may become the elite of any number of classes. At the end the elites' images are rounded to 8 bits, as files
    and screens hold them, and shown again.

    The paper's program shows 200 children in a generation for pixels and 400 for pattern-producing networks, over 5,000
    generations: one and two million images.

    Args:
        subject: The network that is shown images; its units must be the outputs of a classifier before the softmax.
        generator: Turns codes into images.
        classes: Columns of the responses that have an elite; None for all. The softmax is over all units anyway.
        save: Folder of the run, which `closedloop.open_recording` reads and `resume` goes on with; None keeps it in
            memory. Every image's code is recorded: 20,000 of ``Pixels(64)`` take 2 GB.
        exists: What to do if there is such a run: "fail", or "resume" it if it is of the same experiment.
        progress: Whether a bar, or in a log file lines, says on standard error how far it is; or a function that is
            called after each generation with the number of images shown so far and of all.
        **numbers: ``images``, ``retest``, ``seed`` …, see `ElitesSettings`; and those of the breeding, ``children``,
            ``mutation_rate`` …, see `closedloop.optimizers.elites.MapElites`.

    Returns:
        See `closedloop.analysis.class_elites`.

    Raises:
        MissingExtraError: pyribs is not installed.
        InvalidArgumentError: An argument does not fit; nothing is written.
        RecordingError: The folder exists, or cannot be written.
        SubjectError: The subject failed; what was finished is safe, and `resume` goes on.
    """
    own = {name: numbers[name] for name in numbers if name in ElitesSettings.__dataclass_fields__}
    breeding = {name: value for name, value in numbers.items() if name not in own}
    chosen = read_settings(ElitesSettings, own)
    columns = _check_classes(classes, len(subject.units))
    check_forms("generator", form_of(generator), form_of(subject))
    course = Breeding(subject, generator, columns, chosen, _optimizer(generator, len(columns), chosen.seed, breeding))
    course.progress = as_progress(progress, "evolving")
    experiment = {
        "closedloop": version(),
        "protocol": ELITES,
        "subject": recipe(subject),
        "generator": recipe(generator),
        "classes": _text(columns, len(subject.units)),
        "breeding": breeding,
        **asdict(chosen),
        "fingerprints": fingerprints(subject=subject, generator=generator),
    }
    return class_elites(record(course, experiment, save, exists))


def _resume(run: Path, content: Mapping[str, Any], handed: Handed) -> xr.Dataset:
    """Goes on with an evolution of elites; returns the elites, of a finished run at once."""
    if is_finished(run):
        return class_elites(open_recording(run))
    check_complete(run, content, ElitesSettings, "subject", "generator", "classes", "breeding")
    generator = generator_of_run(run, content, handed.generator)
    subject = subject_of(run, content, handed)
    check_fingerprints(run, content, fingerprints(subject=subject, generator=generator))
    units, text = len(subject.units), content["classes"]
    columns = _check_classes(None if text == "all" else [int(c) for c in str(text).split()], units)
    chosen = stored_settings(ElitesSettings, content)
    optimizer = _optimizer(generator, len(columns), chosen.seed, content["breeding"])
    course = Breeding(subject, generator, columns, chosen, optimizer)
    course.progress = as_progress(handed.progress, "evolving")
    return class_elites(run_course(course, Recording.reopen(run)))


def _summary(run: Path, recording: xr.Dataset) -> RunSummary:
    """Returns what the archive holds, and the sheet of the best elites."""
    from closedloop.figures import best_elites

    found = class_elites(recording)
    known = as_recorded(json.loads(str(recording["generator_recipe"].values[0])))
    if known["name"] == OBJECT:
        line = "No figure: the generator was a Python object without a name."
        return RunSummary([_table(found, best_elites(found, 5))], [line])
    sheet = RunFigure(partial(_sheet, found, known), "The elites of which the network is surest, and how sure it is.")
    return RunSummary([_table(found, best_elites(found, 5))], [], {"summary": sheet})


def _sheet(found: xr.Dataset, known: Mapping[str, Any]) -> Figure:
    """Draws the best elites, made again by their generator."""
    from closedloop.figures import plot_elites

    return plot_elites(found, build("generators", **known))


def _table(found: xr.Dataset, best: NDArray[np.int64]) -> RunTable:
    """Returns how sure the network is of the elites, over all classes and for the best of them."""
    retested, probability = found["retested"].values, found["probability"].values
    pair = (probability, retested)
    medians = [f"{np.nanmedian(p):.4g}" if not np.isnan(p).all() else "–" for p in pair]
    rows = [["median over classes", *medians]]
    for threshold in found["threshold"].values:
        rows.append([f"classes at {threshold:g} or above", *(str(int((p >= threshold).sum())) for p in pair)])
    rows.append(["different images", str(len(set(found["stimulus_id"].values) - {""})), ""])
    for i in best:
        label = str(found["label"].values[i]) if "label" in found.coords else ""
        rows.append([label or recorded_title(found, int(i)), *(f"{p[i]:.6f}" for p in pair)])
    title = f"{len(retested)} classes, {int(found['images'][-1]):,} images: probability of the elite"
    return RunTable(title, ("", "when found", "re-tested, 8 bits"), rows)


#: What others must know of evolutions of elites.
PROTOCOL = RunProtocol(
    ELITES,
    _resume,
    _summary,
    command="elites",
    ends=True,
    budget=lambda experiment: experiment.get("images"),
    analyses={"elites": Analysis(class_elites, "unit", {}, ("code",), "probability")},
)


def _check_classes(classes: Sequence[int] | None, units: int) -> NDArray[np.int64]:
    """Checks the classes, and returns the columns that have an elite."""
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
    """Returns ``"all"``, or the columns in their order."""
    return "all" if np.array_equal(classes, np.arange(units)) else " ".join(map(str, classes.tolist()))


def _optimizer(generator: Generator, classes: int, seed: int, breeding: dict[str, Any]) -> MapElites:
    from closedloop.optimizers.elites import MapElites  # pyribs is an extra

    try:
        return MapElites(generator.space, classes, named_seed(seed, ELITES), **breeding)
    except TypeError as error:
        raise InvalidArgumentError(f"breeding: {error}; see closedloop.optimizers.elites.MapElites.") from error


@dataclass
class Breeding:
    """An evolution of elites under way: the course that `closedloop.loop.commits` follows.

    Attributes:
        subject: The network that is shown images.
        generator: Turns codes into images.
        classes: Columns of the responses that have an elite, ``(classes,)``.
        settings: See `ElitesSettings`.
        optimizer: The archive.
        generation: Number of the next block.
        presentations: Images shown so far, with all repeats.
        retested: Elites shown again so far.
        progress: Is called after each generation with the number of images shown so far and of all.
    """

    subject: Subject
    generator: Generator
    classes: NDArray[np.int64]
    settings: ElitesSettings
    optimizer: MapElites
    generation: int = 0
    presentations: int = 0
    retested: int = 0
    progress: Callable[..., None] | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        if self.optimizer.initial > self.settings.images:
            raise InvalidArgumentError(
                f"images: expected at least the {self.optimizer.initial} of the first generation, got "
                f"{self.settings.images}; show more, or lower children."
            )
        self._order = named_generator(self.settings.seed, "order")
        self._presenter = Presenter(
            self.subject, self.settings.retries, self.settings.timeout_s, self.settings.lost_blocks
        )
        self._names: list[str] = []
        self._codes: FloatArray = np.empty((0, 0))
        self._again, self._eight_bit = False, True
        self._asked = EndRequest()

    def layout(self) -> Layout:
        """Returns the shape of the recording: room for every presentation that may come."""
        again = min(len(self.classes), self.settings.images) if self.settings.retest else 0
        capacity = (self.settings.images + again) * (1 + self.settings.retries)
        scalars: dict[str, str | int | float] = {
            "subject": self.subject.name,
            **form_scalars(self._presenter.form),
            "classes": _text(self.classes, len(self.subject.units)),
            "seed": self.settings.seed,
            "closedloop_version": version(),
            IMAGE_BITS: 8,
        }
        evolutions = {
            EVOLUTION: [ELITES],
            "generator": [self.generator.name],
            "generator_sha256": [fingerprint(self.generator)],
            "generator_recipe": [json.dumps(recipe(self.generator))],
        }
        return Layout(capacity, self.generator.space.dim, self.subject.units, scalars, evolutions=evolutions)

    def begin(self, recording: Recording) -> None:
        """Begins the progress; the run needs no further files."""
        self._asked = EndRequest(recording.path)
        begin_progress(self.progress, self.optimizer.told, self.settings.images)

    def show(self) -> Shown | None:
        """Shows the next generation, or, when no other fits into the budget, elites again."""
        size = self.optimizer.children if self.optimizer.told else self.optimizer.initial
        if self.generation and not self._again and self._asked():
            self.reason = ended_on_request(self.generation - 1)
        self._again = bool(self.retested or self.reason) or self.optimizer.told + size > self.settings.images
        if self._again:
            return self._show_elites() if self.settings.retest else None
        with blamed("optimizer of the elites, ask()", OptimizerError):
            self._codes = self.generator.space.check(self.optimizer.ask())
        self._names = [f"{ELITES}-g{self.generation:05d}-{i:05d}" for i in range(len(self._codes))]
        images = make_images(self.generator, self._codes)
        return self._shown(quantize(self._presenter.fitted(images)) if self._eight_bit else images)

    def _show_elites(self) -> Shown | None:
        """Shows the next elites again, rounded to 8 bits; None when all were shown."""
        unique = np.unique(self.optimizer.evaluations)
        again = unique[unique > 0][self.retested : self.retested + self.optimizer.children]
        if not len(again):
            return None
        cells, codes = self.optimizer.elites()
        place = {int(e): i for i, e in enumerate(self.optimizer.evaluations[cells])}
        self._codes = codes[[place[int(e)] for e in again]]
        self._names = [self._name(int(e)) for e in again]
        images = make_images(self.generator, self._codes)
        return self._shown(quantize(self._presenter.fitted(images)))

    def _shown(self, images: NDArray[np.float32]) -> Shown:
        return self._presenter.show(images, np.ones(len(images), np.int64), self._order, ids=self._names)

    def learn(self, shown: Shown) -> Rows:
        """Tells the archive how sure the network is of each class, and returns the rows."""
        n = len(shown.stimulus)
        scores = class_probabilities(shown.means(len(self._codes)), self.classes)
        if self._again:
            self.retested += len(self._codes)
        else:
            with blamed("optimizer of the elites, tell()", OptimizerError):
                self.optimizer.tell(self._codes, scores)
        coords = {
            "thread": np.full(n, ELITES),
            "generation": np.full(n, self.generation, np.int32),
            "kind": np.full(n, "retest" if self._again else ELITES),
            "stimulus_id": np.array(self._names)[shown.stimulus],
            "repeat": shown.repeat.astype(np.int32),
            "onset_s": (self.presentations + np.arange(n)) * max(self.settings.soa_s, self._presenter.form.duration_s),
        }
        self.generation += 1
        self.presentations += n
        return Rows(coords, shown.responses, self._codes[shown.stimulus], scores.max(1)[shown.stimulus])

    def _name(self, evaluation: int) -> str:
        """Returns the name that an image was shown under, given its number among all that were shown."""
        first, size = self.optimizer.initial, self.optimizer.children
        later = evaluation - 1 - first
        generation, number = (0, evaluation - 1) if later < 0 else (1 + later // size, later % size)
        return f"{ELITES}-g{generation:05d}-{number:05d}"

    def committed(self) -> None:
        """Moves the progress on."""
        if not self._again:
            move_progress(self.progress, self.optimizer.told, self.settings.images)

    def end(self) -> None:
        """Ends the progress."""
        end_progress(self.progress)

    def state(self) -> State:
        """Returns all that is needed to go on identically."""
        return {
            "optimizer": self.optimizer.state(),
            "generation": self.generation,
            "presentations": self.presentations,
            "retested": self.retested,
            "order": generator_state(self._order),
            "eight_bit": self._eight_bit,
        }

    def restore(self, state: State) -> None:
        """Goes back to a saved state."""
        self.optimizer.restore(state["optimizer"])
        self.generation, self.presentations = int(state["generation"]), int(state["presentations"])
        self.retested = int(state["retested"])
        restore_generator(self._order, state["order"])
        self._eight_bit = bool(state.get("eight_bit", False))  # runs of older versions were not rounded
