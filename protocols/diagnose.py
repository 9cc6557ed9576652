"""Show a classifier labelled images: which does it get wrong, and which channels of a layer drove it there."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.analysis.errors import CORRECT, EXPLAINED, LABELLED, explanations
from closedloop.analysis.spurious import PREFERRED, spurious_units, suspected_units
from closedloop.checks import units_of
from closedloop.errors import InvalidArgumentError
from closedloop.images.labelled import Labelled, read_labelled
from closedloop.images.sets import read_images
from closedloop.interfaces import STILL, Form, Openable, OpenedLayer, State, Subject, form_of, resolution_of
from closedloop.loop.commits import check_fingerprints, fingerprints, is_finished, record, run_course
from closedloop.loop.parts import RunPart
from closedloop.loop.presenter import Presenter, Shown
from closedloop.loop.progress import Progress, as_progress, begin_progress, end_progress, move_progress
from closedloop.loop.protocol import Handed, RunProtocol
from closedloop.loop.settings import Timing, option, read_settings, settings
from closedloop.networks.imagenet import match_classes
from closedloop.recipes import recipe, version
from closedloop.recording.layout import IMAGE_BITS, REFERENCE, Layout, Rows, Variable, form_scalars
from closedloop.recording.reader import open_recording
from closedloop.recording.writer import Recording
from closedloop.seeds import generator_state, named_generator, restore_generator
from closedloop.signatures import at_door

from .diagnosed import summarize_diagnosis
from .explaining import Explanation, Means, explain
from .spurious import DONORS, RECIPIENTS, Part, Transplants, preferred, spread
from .stored import check_complete, stored_settings, subject_of
from .surveying import Survey

#: Images that are shown, and committed, together; and those that are explained together, which takes longer.
BLOCK, EXPLAINED_BLOCK = 64, 8


@settings
class DiagnoseSettings(Timing):
    """The numbers of a diagnosis."""

    every: int = option(default=1, least=1, help="Of the folder's images, in the order of their names, each n-th.")
    explain: str = option(
        default="errors", choices=("errors", "none"), help="Whether channels are looked for that drove the errors."
    )
    most: int = option(default=0, least=0, help="Errors that are explained, evenly spread over all; 0 for all of them.")
    controls: int = option(
        default=100,
        least=0,
        help="Images answered rightly, evenly spread, that are explained against their second class: what ablation "
        "breaks.",
    )
    suspects: int = option(
        default=6,
        least=0,
        help="Units that drive errors and are tested by transplants: is it something other than the object that they "
        "answer to? See closedloop.analysis.spurious.",
        later=True,
    )
    preferred: int = option(
        default=1000,
        least=0,
        help="Images of the evolution that shows what a unit wants to see that was found to be spurious; an ascent "
        "stands beside it. 0 for none.",
        later=True,
    )


@at_door
def diagnose(
    subject: Subject,
    labelled: str | Path,
    *,
    layer: str | None = None,
    classes: Sequence[str] | None = None,
    save: str | Path | None = None,
    exists: str = RunPart.exists,
    progress: Progress = True,
    **numbers: Any,
) -> xr.Dataset:
    """Shows a classifier each labelled image once, then looks into a layer for what drove the wrong answers.

    First all images are shown in blocks of 64, and the mean of each channel of the layer, at each of its places, is
    taken over them. Then for each error every channel's attribution is computed, and its ablation to that mean; see
    `closedloop.protocols.explaining`. Units that drive errors are tested: do they answer to something that is not the
    object? See `closedloop.analysis.spurious`. Of those that do, what they want to see is evolved, and ascended. Of a
    subject that is no `Openable` network the answers alone are recorded.

    Args:
        subject: Its responses are one output for each class; the largest is its answer.
        labelled: A folder of labelled images; see `closedloop.images.labelled.read_labelled`. What a label means:
            `closedloop.networks.imagenet.match_classes`.
        layer: The layer whose channels are ablated; None for the last one with places.
        classes: What the outputs are called, in their order; None for the labels of its units.
        save: Folder of the run; None keeps it in memory.
        exists: What to do if there is such a run: "fail", or "resume" it if it is of the same experiment.
        progress: Whether a bar says how far it is, or a function that is called with images done so far and of all.
        **numbers: ``every``, ``explain``, ``most``, ``controls`` …; see `DiagnoseSettings`.

    Returns:
        The recording: `responses` ``(presentation, neuroid)``, each image once with the `kind` "labelled", and the
        coordinates `target` and `answer` (numbers of classes; an answer of −1 was lost). Rows of the kind "explained"
        (errors) and "correct" (controls) show images again; they hold ``(presentation, unit)`` `attribution_wrong`,
        `attribution_right`, `ablated_difference` and `ablated_answer`, where the wrong class is `answer` and the right
        one `target`, of a control its answer and its second class. Rows of the kinds "pasted", "pasted-control" and
        "removed" show images with an exchanged window, for the unit in the coordinate `suspect`; "preferred" what it
        wants to see. `closedloop.analysis.errors` and `closedloop.analysis.spurious` read them.

    Raises:
        InvalidArgumentError: An argument does not fit; nothing is written.
        UnknownNameError: No such layer, or labels that are no class.
        RecordingError: The folder exists, or cannot be written.
        SubjectError: The subject failed; what was finished is safe, and `resume` goes on.
    """
    chosen = read_settings(DiagnoseSettings, numbers)
    labelled = Path(labelled)
    study = study_of(subject, labelled, chosen, layer, classes)
    experiment = {
        "closedloop": version(),
        "protocol": "diagnose",
        "subject": recipe(subject),
        "images": str(labelled.resolve()),
        "layer": study.layer,
        "classes": list(map(str, classes)) if classes is not None else None,
        **asdict(chosen),
        "fingerprints": fingerprints(subject=subject, images=study.fingerprint),
    }
    return record(Diagnosis(subject, study, chosen, progress), experiment, save, exists)


def _resume(run: Path, content: Mapping[str, Any], handed: Handed) -> xr.Dataset:
    """Goes on with a diagnosis; returns a finished one at once."""
    if is_finished(run):
        return open_recording(run)
    check_complete(run, content, DiagnoseSettings, "subject", "images", "layer")
    subject = subject_of(run, content, handed)
    # Runs of older versions have no room for units that are tested.
    chosen = stored_settings(DiagnoseSettings, {"suspects": 0, **content})
    study = study_of(subject, Path(content["images"]), chosen, content["layer"] or None, content.get("classes"))
    check_fingerprints(run, content, fingerprints(subject=subject, images=study.fingerprint))
    return run_course(Diagnosis(subject, study, chosen, handed.progress), Recording.reopen(run))


@dataclass(frozen=True)
class Study:
    """A classifier and the images that it is asked about.

    Attributes:
        images: The labelled images.
        classes: What the outputs are called; those without a name by their number.
        targets: Number of the true class of each image, ``(n,)``.
        opened: The layer that is looked into; None for a subject that cannot be opened, or where nothing is explained.
        resolution: Height and width in pixels to which images are cropped and resized.
        form: What the subject is shown.
        fingerprint: SHA-256 of names, labels and contents of the images.
    """

    images: Labelled
    classes: tuple[str, ...]
    targets: NDArray[np.int64]
    opened: OpenedLayer | None
    resolution: int
    form: Form
    fingerprint: str

    @property
    def layer(self) -> str:
        """Returns the name of the layer that is looked into; "" for none."""
        return "" if self.opened is None else self.opened.layer

    def read(self, which: NDArray[np.int64]) -> NDArray[np.float32]:
        """Reads images by number ``(n,)`` -> ``(n, 3, h, w)`` float32 in [0, 1], multiples of 1/255."""
        paths = self.images.paths
        return read_images([paths[i] for i in which], self.resolution, self.form)


def study_of(
    subject: Subject,
    labelled: Path,
    chosen: DiagnoseSettings,
    layer: str | None = None,
    classes: Sequence[str] | None = None,
) -> Study:
    """Returns what is asked of which images, checked before anything is shown; see `diagnose`."""
    images = read_labelled(labelled).every(chosen.every)
    form = form_of(subject)
    opened = subject.opened(layer) if isinstance(subject, Openable) and form == STILL else None
    if layer is not None and opened is None:
        raise InvalidArgumentError(
            f"layer: {why_closed(subject)}; its errors can be told, not the channels behind them. Leave layer out."
        )
    names = _class_names(subject, opened, classes)
    numbers = match_classes(images.labels, names)
    return Study(
        images,
        names,
        np.array([numbers[label] for label in images.labels], np.int64),
        opened if chosen.explain != "none" else None,
        resolution_of(subject),
        form,
        _fingerprint(images),
    )


def why_closed(subject: Subject) -> str:
    """Returns why one cannot look into the layers of a subject; "" where one can."""
    if not isinstance(subject, Openable):
        return f"{subject.name!r} is a black box, without layers that could be looked into"
    if form_of(subject) != STILL:
        return f"{subject.name!r} is shown {form_of(subject).describe()}; layers are ablated for colour stills alone"
    return ""


def _class_names(subject: Subject, opened: OpenedLayer | None, classes: Sequence[str] | None) -> tuple[str, ...]:
    """Returns what the outputs are called, in their order.

    Raises:
        InvalidArgumentError: The subject records something else than one output for each class.
    """
    units = units_of(subject)
    columns = units.coords
    if opened is not None:
        whole = len(units) == len(opened.classes) and set(columns.get("layer", ())) == {"output"}
        if not whole or list(columns.get("channel", ())) != list(range(len(units))):
            raise InvalidArgumentError(
                f"subject: expected all {len(opened.classes)} outputs of {subject.name!r} to be recorded, got "
                f'{len(units)} units; load it with layer="output" and units="all".'
            )
    known = columns["label"] if classes is None and "label" in columns else classes
    if known is not None and len(known) != len(units):
        raise InvalidArgumentError(f"classes: expected {len(units)} names, one for each output, got {len(known)}.")
    return tuple(str(name) or str(i) for i, name in enumerate([""] * len(units) if known is None else known))


def _fingerprint(images: Labelled) -> str:
    digest = hashlib.sha256("\n".join(images.ids + images.labels).encode())
    for path in images.paths:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


class Diagnosis:
    """Labelled images under way: the course of `diagnose`.

    Args:
        subject: The classifier.
        study: What it is asked.
        chosen: The numbers.
        progress: Whether progress is shown, or who is told it.
    """

    reason = ""

    def __init__(self, subject: Subject, study: Study, chosen: DiagnoseSettings, progress: Progress = None) -> None:
        self.subject: Subject = subject
        self._study = study
        self._settings = chosen
        self._progress = as_progress(progress, "diagnosing")
        self._presenter = Presenter(subject, chosen.retries, chosen.timeout_s, chosen.lost_blocks)
        self._rng = named_generator(chosen.seed, "order")
        self._explained = self._tested = self._pictured = self._presentations = self._blocks = 0
        self._survey = Survey(study.targets)
        opened = study.opened
        self._means = None if opened is None else Means(opened.channels, opened.grid[0] * opened.grid[1])
        self._recording: Recording | None = None
        self._suspects: list[tuple[int, int]] | None = None  # units and classes, once the errors are explained
        self._spurious: list[tuple[int, int]] | None = None  # once all suspects are tested
        self._transplants: Transplants | None = None
        self._part: Part | None = None

    def layout(self) -> Layout:
        """Returns the shape of the recording: room for every presentation that may come."""
        study, chosen = self._study, self._settings
        tested = chosen.suspects * (2 * RECIPIENTS + DONORS + 2)
        shown = len(study.images) if study.opened is None else 2 * len(study.images) + tested
        scalars = {
            "subject": self.subject.name,
            **form_scalars(study.form),
            "seed": chosen.seed,
            "closedloop_version": version(),
            IMAGE_BITS: 8,
            "diagnosed_layer": study.layer,
        }
        coords: dict[str, tuple[str, Any]] = {"target": ("int64", -1), "answer": ("int64", -1)}
        coords |= _OF_SUSPECTS if self._testing else {}
        return Layout(shown * (1 + chosen.retries), 0, self.subject.units, scalars, coords, variables=self._variables())

    def _variables(self) -> dict[str, Variable]:
        """Says what is recorded of each channel."""
        if self._study.opened is None:
            return {}
        shape = (self._study.opened.channels,)
        numbers = ("attribution_wrong", "attribution_right", "ablated_difference")
        return {
            **{name: Variable("float32", np.nan, ("unit",), shape) for name in numbers},
            "ablated_answer": Variable("int32", -1, ("unit",), shape),
            **({"activity": Variable("float32", np.nan, ("unit",), shape)} if self._testing else {}),
        }

    @property
    def _testing(self) -> bool:
        """Whether units are tested that drive errors."""
        return self._study.opened is not None and self._settings.suspects > 0

    def begin(self, recording: Recording) -> None:
        """Tells whoever watches how far it is; keeps in mind where the answers are."""
        self._recording = recording
        begin_progress(self._progress, *self._far())

    def show(self) -> Shown | None:
        """Shows the next images."""
        block = self._block
        if not len(block):
            return self._show_part()
        ids = [self._study.images.ids[i] for i in block]
        return self._presenter.show(self._study.read(block), np.ones(len(block), np.int64), self._rng, ids=ids)

    @property
    def _block(self) -> NDArray[np.int64]:
        """Returns the numbers of the images that are shown next."""
        if not self._survey.over:
            return self._survey.next(BLOCK)
        return self._to_explain()[self._explained : self._explained + EXPLAINED_BLOCK]

    def _to_explain(self) -> NDArray[np.int64]:
        """Returns the numbers of the images that are explained: errors, then controls."""
        if self._study.opened is None:
            return np.empty(0, np.int64)
        known, chosen = self._survey, self._settings
        wrong, right = (np.flatnonzero(which).astype(np.int64) for which in (known.wrong, known.right))
        return np.concatenate([spread(wrong, chosen.most or len(known)), spread(right, chosen.controls)])

    def learn(self, shown: Shown) -> Rows:
        """Returns the rows of the images that were shown, and goes on to the next."""
        block = self._block
        if not len(block):
            return self._learn_part(shown)
        survey = not self._survey.over
        kinds, variables = (self._answered if survey else self._explain)(block, shown)
        which, n = block[shown.stimulus], len(shown.stimulus)
        soa_s = max(self._settings.soa_s, self._study.form.duration_s)
        coords = {
            "thread": np.full(n, REFERENCE),
            "generation": np.full(n, self._blocks, np.int32),
            "kind": kinds[shown.stimulus],
            "stimulus_id": np.array(self._study.images.ids)[which],
            "repeat": shown.repeat.astype(np.int32),
            "onset_s": self._presentations * soa_s + np.arange(n) * soa_s,
            "target": self._study.targets[which],
            "answer": self._survey.answers[which],
        }
        coords |= _missing(n, coords) if self._testing else {}
        if not survey:
            right = coords["kind"] == CORRECT
            coords["target"] = np.where(right, self._survey.seconds[which], coords["target"])
        self._presentations += n
        self._blocks += 1
        own = {name: value[shown.stimulus] for name, value in variables.items()}
        return Rows(coords, shown.responses, np.empty((n, 0)), np.full(n, np.nan), variables=own)

    def _answered(self, block: NDArray[np.int64], shown: Shown) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
        """Notes the answers to a block, and takes it into the means."""
        if shown.responses.ndim != 2 or shown.responses.shape[1] < 2:
            raise InvalidArgumentError(
                f"subject: expected one number for each of several classes, got responses {shown.responses.shape}."
            )
        self._survey.take(block[shown.stimulus], shown.responses)
        opened = self._study.opened
        values = self._empty(len(block))
        if opened is not None and self._means is not None:
            seen, _ = opened.look(self._study.read(block))
            self._means.add(seen)
            values |= {"activity": seen.sum(2)} if self._testing else {}
        self._survey.done += len(block)
        return np.full(len(block), LABELLED), values

    def _empty(self, n: int) -> dict[str, NDArray[Any]]:
        """Returns what is recorded of the channels of ``n`` images that are not explained."""
        return {name: np.full((n, *v.shape), v.fill, v.dtype) for name, v in self._variables().items()}

    def _explain(self, block: NDArray[np.int64], shown: Shown) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
        """Explains a block of images."""
        answers, rivals = self._survey.answers[block], self._survey.rivals(block)
        found = [
            self._explanation(image, int(answer), int(rival))
            for image, answer, rival in zip(self._study.read(block), answers, rivals, strict=True)
        ]
        self._explained += len(block)
        named = [name for name in self._variables() if name != "activity"]
        variables = self._empty(len(block)) | {name: np.stack([getattr(e, name) for e in found]) for name in named}
        return np.where(self._survey.wrong[block], EXPLAINED, CORRECT), variables

    def _explanation(self, image: NDArray[np.float32], answer: int, other: int) -> Explanation:
        opened, means = self._study.opened, self._means
        if opened is None or means is None:
            raise InvalidArgumentError(f"layer: {why_closed(self.subject)}.")
        return explain(opened, image, answer, other, means.value)

    def _show_part(self) -> Shown | None:
        """Shows the images by which the next suspected unit is tested, or what the next spurious one wants to see."""
        self._part = None
        if not self._testing:
            return None
        while self._part is None and (suspect := self._suspect()) is not None:
            self._part = self._transplanting().part(*suspect)
            self._tested += self._part is None  # too few images for a test
        if self._part is None:
            self._part = self._preferred()
        if self._part is None:
            return None
        ids, each = self._part.ids, np.ones(len(self._part), np.int64)
        return self._presenter.show(self._part.images, each, self._rng, ids=ids)

    def _suspect(self) -> tuple[int, int] | None:
        """Returns the unit that is tested next, and the class that it speaks for; None when all are."""
        if self._suspects is None:
            found = suspected_units(self._committed, self._settings.suspects)
            self._suspects = _pairs(found)
        return self._suspects[self._tested] if self._tested < len(self._suspects) else None

    @property
    def _committed(self) -> xr.Dataset:
        """Returns what is recorded so far."""
        if self._recording is None:
            raise InvalidArgumentError("recording: expected a diagnosis that has begun.")
        return self._recording.dataset()

    def _transplanting(self) -> Transplants:
        """Returns what makes images with exchanged windows."""
        if self._transplants is None:
            study, opened, means = self._study, self._study.opened, self._means
            if opened is None or means is None:
                raise InvalidArgumentError(f"layer: {why_closed(self.subject)}.")
            done = self._committed
            rows = np.flatnonzero((done["kind"].values == LABELLED) & ~np.isnan(done["activity"].values).any(1))
            number = {name: i for i, name in enumerate(study.images.ids)}
            activity = np.full((len(number), opened.channels), -np.inf, np.float32)
            activity[[number[name] for name in done["stimulus_id"].values[rows]]] = done["activity"].values[rows]
            errors = explanations(done)
            explained = np.array([number[name] for name in errors["image"].values], np.int64)

            def driven(unit: int, speaks_for: int) -> NDArray[np.int64]:
                own = np.flatnonzero(errors["answer"].values == speaks_for)
                order = np.argsort(-errors["effect"].values[own, unit], kind="stable")
                return explained[own[order]]

            self._transplants = Transplants(
                opened, study.read, study.images.ids, study.targets, self._survey.answers, activity, driven, means.value
            )
        return self._transplants

    def _preferred(self) -> Part | None:
        """Returns what the next spurious unit wants to see."""
        if not self._settings.preferred or self._study.opened is None:
            return None
        if self._spurious is None:
            done = self._committed
            found = spurious_units(done) if self._tested else None
            self._spurious = [] if found is None else _pairs(found.isel(suspect=found["spurious"].values))
        if self._pictured >= len(self._spurious):
            return None
        unit, speaks_for = self._spurious[self._pictured]
        place = self._transplanting().place(unit, speaks_for)
        chosen = self._settings
        return preferred(self.subject, self._study.layer, unit, speaks_for, place, chosen.preferred, chosen.seed)

    def _learn_part(self, shown: Shown) -> Rows:
        """Returns the rows of the images that were shown for one unit."""
        part = self._part
        if part is None:
            raise InvalidArgumentError("shown: expected images of a unit.")
        which, n = shown.stimulus, len(shown.stimulus)
        lost = np.isnan(shown.responses).any(1)
        coords = {
            "thread": np.full(n, REFERENCE),
            "generation": np.full(n, self._blocks, np.int32),
            "stimulus_id": np.array(part.ids)[which],
            "repeat": shown.repeat.astype(np.int32),
            "onset_s": (self._presentations + np.arange(n)) * self._settings.soa_s,
            "answer": np.where(lost, -1, np.nan_to_num(shown.responses, nan=-np.inf).argmax(1)),
            **{name: np.asarray(values)[which] for name, values in part.facts.items()},
        }
        coords |= _missing(n, coords)
        if PREFERRED in coords["kind"]:
            self._pictured += 1
        else:
            self._tested += 1
        self._presentations += n
        self._blocks += 1
        return Rows(coords, shown.responses, np.empty((n, 0)), np.full(n, np.nan), part.kept, variables=self._empty(n))

    def _far(self) -> tuple[int, int]:
        """Says how many images are done, and of how many; those to be explained are known after the survey."""
        more = len(self._to_explain()) if self._survey.over else 0
        return self._survey.done + self._explained, len(self._study.images) + more

    def committed(self) -> None:
        """Moves the progress on."""
        move_progress(self._progress, *self._far())

    def end(self) -> None:
        """Ends the progress."""
        end_progress(self._progress)

    def state(self) -> State:
        """Returns all that is needed to go on identically."""
        means = self._means
        return {
            "done": self._survey.done,
            "explained": self._explained,
            "tested": self._tested,
            "pictured": self._pictured,
            "presentations": self._presentations,
            "blocks": self._blocks,
            "answers": self._survey.answers.copy(),
            "seconds": self._survey.seconds.copy(),
            "order": generator_state(self._rng),
            "means": None if means is None else {"total": np.asarray(means.total), "count": means.count},
        }

    def restore(self, state: State) -> None:
        """Goes back to a saved state.

        Raises:
            InvalidArgumentError: It is that of other images, or of another layer.
        """
        means, held = self._means, state["means"]
        if len(state["answers"]) != len(self._survey) or (means is None) != (held is None):
            raise InvalidArgumentError("labelled: it is not the folder, or the layer, with which the run began.")
        for name in ("explained", "tested", "pictured", "presentations", "blocks"):
            setattr(self, f"_{name}", int(state.get(name, 0)))
        self._survey.done = int(state["done"])
        self._survey.answers, self._survey.seconds = np.array(state["answers"]), np.array(state["seconds"])
        if means is not None and held is not None:
            if np.shape(held["total"]) != means.total.shape:
                raise InvalidArgumentError("layer: it is not the one with which the run began.")
            means.total, means.count = np.array(held["total"]), int(held["count"])
        restore_generator(self._rng, state["order"])


#: What is noted of rows that are shown for a suspected unit.
_OF_SUSPECTS: dict[str, tuple[str, Any]] = {
    "suspect": ("int64", -1),
    "speaks_for": ("int64", -1),
    "held_answer": ("int64", -1),
    "recipient": ("str", ""),
    "donor": ("str", ""),
    "nth_donor": ("int64", -1),
    "window_y": ("int64", -1),
    "window_x": ("int64", -1),
    "window_side": ("int64", -1),
    "excites": ("float64", np.nan),
}


def _missing(n: int, coords: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Returns what else is noted of ``n`` rows, with fill values."""
    columns = {"target": ("int64", -1), **_OF_SUSPECTS}
    return {name: np.full(n, fill) for name, (_, fill) in columns.items() if name not in coords}


def _pairs(found: xr.Dataset) -> list[tuple[int, int]]:
    """Returns units, and the classes that they speak for."""
    return list(zip(found["unit"].values.tolist(), found["speaks_for"].values.tolist(), strict=True))


#: What others must know of diagnoses.
PROTOCOL = RunProtocol("diagnose", _resume, summarize_diagnosis, command="diagnose")
