"""Images that one model predicts to drive a unit and another one not, shown to the subject: which of them is right?"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.analysis.controversies import CONTROL, CONTROVERSIAL, NATURAL, PREDICTED, SYNTHESIZED, controversy
from closedloop.checks import check_part, make_images, record_images
from closedloop.errors import InvalidArgumentError
from closedloop.images.eight_bit import quantize
from closedloop.images.sets import ImageSet, as_image_set
from closedloop.interfaces import STILL, Differentiable, FloatArray, Generator, Objective, State, Subject, form_of
from closedloop.loop.commits import check_fingerprints, fingerprints, is_finished, record, run_course
from closedloop.loop.parts import ReferencePart, RunPart
from closedloop.loop.presenter import Presenter, Shown
from closedloop.loop.progress import Progress, as_progress, begin_progress, end_progress, move_progress
from closedloop.loop.protocol import Analysis, Handed, RunFigure, RunProtocol, RunSummary, RunTable
from closedloop.loop.session import Session
from closedloop.loop.settings import Timing, option, read_settings, settings
from closedloop.loop.thread import Thread, checked_scores
from closedloop.objectives import Controversial, parse_objective
from closedloop.optimizers import load_optimizer
from closedloop.readable import percent
from closedloop.recipes import build, build_again, fingerprint, generator_of_run, recipe, version
from closedloop.recording.layout import EVOLUTION, IMAGE_BITS, REFERENCE, Layout, Rows
from closedloop.recording.reader import open_recording
from closedloop.recording.references import keep_references, source
from closedloop.recording.writer import Recording
from closedloop.seeds import generator_state, named_generator, named_seed, restore_generator
from closedloop.signatures import at_door

from .ascend import ascend
from .evolve import default_objective
from .stored import check_complete, stored_images, stored_settings, subject_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: The two kinds of images: what the first model promises and the second not, and the other way round.
THREADS = ("first", "second")


@settings
class ControversialSettings(Timing):
    """The numbers of a controversy."""

    copies: int = option(default=3, least=1, help="Images of each kind; they begin at different codes.")
    steps: int = option(default=100, least=1, help="Gradient steps for an image, where both models have a gradient.")
    images: int = option(
        default=1000, least=1, help="Images that the models are shown for one, where they have no gradient."
    )
    gradient: bool = option(
        default=True, help="Whether gradients are taken where models and generator have them; else images are evolved."
    )
    optimizer: str = option(default="auto", metavar="NAME", help="What evolves images without a gradient.")
    naturals: int = option(
        default=40, least=2, help="Natural images that the subject is shown once, drawn at random: the scale."
    )
    repeats: int = option(default=10, least=2, help="Presentations of each image that was made, and of the controls.")


@at_door
def controversial(
    models: Sequence[Subject],
    units: Sequence[int] | int,
    subject: Subject,
    generator: Generator,
    *,
    objective: Objective | str | None = None,
    references: ImageSet | str | Path | NDArray[Any] = ReferencePart.references,
    save: str | Path | None = None,
    exists: str = RunPart.exists,
    progress: Progress = True,
    **numbers: Any,
) -> xr.Dataset:
    """Makes images about which two models disagree, and shows them to the subject that both are models of.

    Models that predict natural images alike can be told apart by such images (Golan, Raju & Kriegeskorte 2020, *PNAS*).
    Predictions are measured in standard deviations from the mean over natural images. Of each kind, what the first
    model promises and the second does not, and the other way round, ``copies`` images are made: by gradients where both
    models and the generator have them, else, or where gradients lead to less than a natural image, by evolution. No
    presentation of the subject is spent on that. Each image is committed when it was shown. Beside them stand the
    natural images about which the models disagree most.

    Args:
        models: Two subjects: twins, networks, or anything that answers images.
        units: The column of each model that predicts the unit; or one for both.
        subject: Who decides.
        generator: Turns codes into images.
        objective: What the models predict of the subject; default the response of its only unit.
        references: Natural images: a folder, an array ``(n, 3, h, w)`` in [0, 1], an `ImageSet`, or "bundled".
        save: Folder of the run; None keeps it in memory.
        exists: What to do if there is such a run: "fail", or "resume" it if it is of the same experiment.
        progress: Whether a bar says how far it is; or a function.
        **numbers: ``copies``, ``steps``, ``images``, ``repeats``, ``seed`` …; see `ControversialSettings`.

    Returns:
        The recording of the subject alone, with the coordinates `predicted_0` and `predicted_1` on presentations (no
        responses); see `closedloop.analysis.controversy`.

    Raises:
        InvalidArgumentError: An argument does not fit; nothing is written.
        RecordingError: The folder exists, or cannot be written.
        SubjectError: The subject, or a model, failed; what was finished is safe, and `resume` goes on.
    """
    chosen = read_settings(ControversialSettings, numbers)
    if isinstance(objective, str):
        objective = parse_objective(objective, subject.units)
    wanted = default_objective(subject) if objective is None else objective
    check_part("objective", wanted)
    if form_of(subject) != STILL or form_of(generator) != STILL:
        raise InvalidArgumentError("subject, generator: expected those of colour stills; others cannot be judged yet.")
    both = _models(models, units)
    naturals = as_image_set(references, generator.resolution, name="references")
    course = Controversy(subject, both, generator, wanted, naturals, chosen, progress)
    experiment = {
        "closedloop": version(),
        "protocol": CONTROVERSIAL,
        "subject": recipe(subject),
        "models": recipe(both),
        "generator": recipe(generator),
        "objective": wanted.describe(),
        "references": source(references),
        **asdict(chosen),
        "fingerprints": fingerprints(
            subject=subject, models=both, generator=generator, references=naturals.fingerprint
        ),
    }
    return record(course, experiment, save, exists)


def _models(models: Sequence[Subject], units: Sequence[int] | int) -> Subject:
    """Returns both models as one subject with two units.

    Raises:
        InvalidArgumentError: There are not two.
    """
    if isinstance(models, (str, Mapping)) or not hasattr(models, "__len__") or len(models) != 2:
        raise InvalidArgumentError(f"models: expected two subjects, got {models!r:.80}.")
    columns: Any = [units, units] if isinstance(units, (int, np.integer)) else units
    if isinstance(columns, str) or not hasattr(columns, "__len__") or len(columns) != 2:
        raise InvalidArgumentError(f"units: expected a column of each model, or one for both, got {units!r:.80}.")
    joined: Subject = build("subjects", "joined", list(models), units=[int(c) for c in columns])
    return joined


class Controversy:
    """Images about which two models disagree, under way: the course of `controversial`.

    Args:
        subject: Who decides.
        models: Both models, as one subject with two units.
        generator: Turns codes into images.
        objective: What they predict of the subject.
        naturals: Natural images.
        chosen: The numbers.
        progress: Whether progress is shown, or who is told it.
    """

    reason = ""

    def __init__(
        self,
        subject: Subject,
        models: Subject,
        generator: Generator,
        objective: Objective,
        naturals: ImageSet,
        chosen: ControversialSettings,
        progress: Progress,
    ) -> None:
        self.subject: Subject = subject
        self._models = models
        self._generator = generator
        self._objective = objective
        self._naturals, self._settings = naturals, chosen
        self._progress = as_progress(progress, "making images")
        self._presenter = Presenter(subject, chosen.retries, chosen.timeout_s, chosen.lost_blocks)
        self._rng = named_generator(chosen.seed, "order")
        said = record_images(models, naturals.images, "models").astype(float)
        self._mean, self._scale = said.mean(0), said.std(0, ddof=1) if len(said) > 1 else np.zeros(2)
        flat = np.flatnonzero(~(self._scale > 1e-9 * np.maximum(np.abs(self._mean), 1e-9)))
        if len(flat):
            raise InvalidArgumentError(
                f"models: expected both to tell the {len(said)} natural images apart, but "
                f"{models.units.neuroid_id[flat[0]]} predicts the same of all."
            )
        self._objectives = [
            Controversial(i, 1 - i, tuple(self._mean[[i, 1 - i]]), tuple(self._scale[[i, 1 - i]])) for i in (0, 1)
        ]
        self._said = (said - self._mean) / self._scale
        self._done = -1  # the natural images, then image by image
        self._presentations = 0
        self._ids: list[str] = []
        self._kinds: list[str] = []
        self._threads: list[str] = []
        self._codes: FloatArray = np.empty((0, generator.space.dim))
        self._predicted: FloatArray = np.empty((0, 2))
        self._images: NDArray[np.float32] = np.empty((0, 3, 1, 1), np.float32)
        #: Whether gradients are taken.
        self.climbs: bool = (
            chosen.gradient and isinstance(models, Differentiable) and isinstance(generator, Differentiable)
        )

    @property
    def handed(self) -> Mapping[str, Any]:
        """Parts that may be objects without a name."""
        return {"models": self._models, "generator": self._generator}

    @property
    def _total(self) -> int:
        return 2 * self._settings.copies

    def layout(self) -> Layout:
        """Returns the shape of the recording: room for every presentation that may come."""
        chosen = self._settings
        shown = min(chosen.naturals, len(self._naturals)) + (2 + self._total) * chosen.repeats
        scalars: dict[str, str | int | float] = {
            "subject": self.subject.name,
            "seed": chosen.seed,
            "closedloop_version": version(),
            IMAGE_BITS: 8,
            "models": self._models.name,
            "by_gradient": int(self.climbs),
        }
        evolutions = {
            EVOLUTION: list(THREADS),
            "generator": [self._generator.name] * 2,
            "generator_sha256": [fingerprint(self._generator)] * 2,
            "generator_recipe": [json.dumps(recipe(self._generator))] * 2,
        }
        coords: dict[str, tuple[str, Any]] = dict.fromkeys(PREDICTED, ("float64", np.nan))
        dim = self._generator.space.dim
        return Layout(shown * (1 + chosen.retries), dim, self.subject.units, scalars, coords, evolutions=evolutions)

    def begin(self, recording: Recording) -> None:
        """Keeps the natural images, and begins the progress."""
        keep_references(recording, self._naturals)
        begin_progress(self._progress, max(self._done, 0), self._total)

    def show(self) -> Shown | None:
        """Shows the natural images; then makes the next image, and shows it."""
        if self._done == self._total:
            return None
        repeats = self._of_naturals() if self._done < 0 else self._made()
        return self._presenter.show(self._images, repeats, self._rng, ids=self._ids)

    def _of_naturals(self) -> NDArray[np.int64]:
        """Makes the first block: the natural images that split the models most, and others drawn at random."""
        chosen, known = self._settings, self._naturals
        split = [int(np.asarray(o(self._raw())).argmax()) for o in self._objectives]
        drawn = named_generator(chosen.seed, "naturals").permutation(len(known))
        others = [int(i) for i in drawn if i not in split][: chosen.naturals]
        at = [*dict.fromkeys(split), *others]
        self._ids, self._threads = [known.ids[i] for i in at], [REFERENCE] * len(at)
        self._kinds = [CONTROL if i in split else NATURAL for i in at]
        self._codes = np.full((len(at), self._generator.space.dim), np.nan)
        self._images, self._predicted = known.images[at], self._said[at]
        return np.array([chosen.repeats if kind == CONTROL else 1 for kind in self._kinds])

    def _raw(self) -> FloatArray:
        raw: FloatArray = self._said * self._scale + self._mean
        return raw

    def _made(self) -> NDArray[np.int64]:
        """Makes the next image of each kind in turn."""
        copy, which = divmod(self._done, 2)
        seed = named_seed(self._settings.seed, f"{THREADS[which]}-{copy}")
        code = self._climbed(which, seed) if self.climbs else None
        if code is None:
            code = self._evolved(which, seed)
        self._ids, self._threads, self._kinds = [f"{THREADS[which]}-{copy:02d}"], [THREADS[which]], [SYNTHESIZED]
        self._codes = code[None]
        self._images = quantize(make_images(self._generator, self._codes))
        said = record_images(self._models, self._images, "models").astype(float)
        self._predicted = (said - self._mean) / self._scale
        return np.array([self._settings.repeats])

    def _climbed(self, which: int, seed: int) -> FloatArray | None:
        """Makes an image by gradients; returns its code ``(dim,)``, or None where a natural image splits more."""
        found = ascend(
            self._models,
            self._generator,
            "adam",
            objective=self._objectives[which],
            steps=self._settings.steps,
            copies=4,  # side by side, the best is shown: a rectified unit has no slope where it is silent
            seed=seed,
            progress=False,
        )
        code: FloatArray = found["code"].values.astype(float)[: self._generator.space.dim]
        image = quantize(make_images(self._generator, code[None]))
        reached = self._objectives[which](record_images(self._models, image, "models").astype(float))
        return code if float(reached[0]) > float(np.max(self._objectives[which](self._raw()))) else None

    def _evolved(self, which: int, seed: int) -> FloatArray:
        """Evolves an image on the models alone; returns its code ``(dim,)``."""
        optimizer = load_optimizer(self._settings.optimizer, self._generator.space, seed=seed)
        thread = Thread(self._generator, optimizer, self._objectives[which], THREADS[which])
        numbers: dict[str, Any] = {"interleave": 0, "retest_repeats": 1, "keep": "none", "seed": seed}
        session = Session(self._models, [thread], images=self._settings.images, progress=False, **numbers)
        recording = session.run()
        last = recording["generation"].values == recording["generation"].values.max()
        code: FloatArray = recording["latent_code"].values[np.flatnonzero(last)[0]].astype(float)
        return code[: self._generator.space.dim]

    def learn(self, shown: Shown) -> Rows:
        """Returns the rows, and goes on to the next image."""
        n, at = len(shown.stimulus), shown.stimulus
        coords = {
            "thread": np.array(self._threads, object)[at],
            "generation": np.full(n, self._done, np.int32),
            "kind": np.array(self._kinds, object)[at],
            "stimulus_id": np.array(self._ids, object)[at],
            "repeat": shown.repeat.astype(np.int32),
            "onset_s": (self._presentations + np.arange(n)) * self._settings.soa_s,
            **{name: self._predicted[at, i] for i, name in enumerate(PREDICTED)},
        }
        scores = checked_scores(self._objective, shown.responses, self._images[at])
        self._done += 1
        self._presentations += n
        return Rows(coords, shown.responses, self._codes[at], scores)

    def committed(self) -> None:
        """Moves the progress on."""
        move_progress(self._progress, self._done, self._total)

    def end(self) -> None:
        """Ends the progress."""
        end_progress(self._progress)

    def state(self) -> State:
        """Returns all that is needed to go on identically."""
        return {"done": self._done, "presentations": self._presentations, "order": generator_state(self._rng)}

    def restore(self, state: State) -> None:
        """Goes back to a saved state."""
        self._done, self._presentations = int(state["done"]), int(state["presentations"])
        restore_generator(self._rng, state["order"])


def _resume(run: Path, content: Mapping[str, Any], handed: Handed) -> xr.Dataset:
    """Goes on with a controversy; returns a finished one at once."""
    if is_finished(run):
        return open_recording(run)
    check_complete(run, content, ControversialSettings, "subject", "models", "generator", "objective", "references")
    subject, generator = subject_of(run, content, handed), generator_of_run(run, content, handed.generator)
    cure = f"call controversial with the arguments of {run} again, and exists='resume'"
    models: Subject = build_again("subjects", content["models"], "models: one of them", cure)
    stored = stored_images(run, content["references"])
    given = content["references"] if stored is None else stored
    naturals = as_image_set(given, generator.resolution, name="references")
    now = fingerprints(subject=subject, models=models, generator=generator, references=naturals.fingerprint)
    check_fingerprints(run, content, now)
    chosen = stored_settings(ControversialSettings, content)
    wanted = parse_objective(content["objective"], subject.units)
    course = Controversy(subject, models, generator, wanted, naturals, chosen, handed.progress)
    return run_course(course, Recording.reopen(run))


def _summary(run: Path, recording: xr.Dataset) -> RunSummary:
    """Returns what both models predict of each image, what is true, and who was right."""
    found = controversy(recording)
    rows = [
        [
            str(one["stimulus_id"].item()),
            *(f"{float(one[name]):.3g}" for name in PREDICTED),
            *(_between(one, name) for name in ("confirmed", "share")),
        ]
        for one in (found.isel(image=i) for i in range(found.sizes["image"]))
    ]
    columns = ("image", "first model", "second model", "confirmed (95 %)", "share (95 %)")
    said = (
        "In standard deviations over natural images. Share: 1 where the model that promises more is right, 0 where the "
        "other one is. Predictions are no responses."
    )
    lines = [_line(found, which) for which in (0, 1)]
    figure = RunFigure(partial(_draw, recording), "What both models predict of each image, and what is confirmed.")
    title = "Images about which the models disagree"
    return RunSummary([RunTable(title, columns, rows, said)], lines, {"controversy": figure}, "Which model is right?")


def _between(one: xr.Dataset, name: str) -> str:
    value, low, high = (float(one[n]) for n in (name, f"{name}_low", f"{name}_high"))
    if not np.isfinite(value):
        return "–"
    return f"{value:.2f}" + (f" ({low:.2f} to {high:.2f})" if np.isfinite(low) and high > low else "")


def _line(found: xr.Dataset, which: int) -> str:
    """Says how right a model was about what it alone promises."""
    own = found.isel(
        image=np.flatnonzero((found["thread"].values == THREADS[which]) & (found["kind"].values == SYNTHESIZED))
    )
    share = own["share"].values[np.isfinite(own["share"].values)]
    if not len(share):
        return f"Of what the {THREADS[which]} model alone promises nothing is confirmed yet."
    return (
        f"Of what the {THREADS[which]} model alone promises of {len(share)} images, {percent(share.mean())} is true "
        f"on average (of single images {100 * share.min():.0f} to {percent(share.max())})."
    )


def _draw(recording: xr.Dataset) -> Figure:
    from closedloop.figures import plot_controversy

    return plot_controversy(recording)


def _images(recording: xr.Dataset) -> xr.Dataset:
    """Returns what is known of each image, with its name, for a table."""
    return controversy(recording).reset_coords(["stimulus_id", "kind"])


#: What others must know of controversies.
PROTOCOL = RunProtocol(
    CONTROVERSIAL,
    _resume,
    _summary,
    command="controversial",
    analyses={"controversy": Analysis(_images, "runs")},
)
