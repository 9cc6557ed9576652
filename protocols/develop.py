"""Development: what units want to see while their network learns, beside their selectivity and their layer's shares.

A network is trained step by step, and every change of its loss is shared out (see `closedloop.protocols.lca`). At
chosen steps it is looked at: a fixed set of images is shown, the preferred stimulus of each chosen unit is evolved
without gradients and shown afresh, and what was evolved at earlier steps is shown once more. Looking leaves the
network as it is, so training goes on as if nobody had looked.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.analysis.developments import DEVELOP, EARLIER, development, layer_table
from closedloop.checks import check_part, whole_number
from closedloop.errors import InvalidArgumentError, RecordingError, TrainingError
from closedloop.images.eight_bit import from_bytes, quantize
from closedloop.images.forms import check_forms
from closedloop.images.sets import ImageSet, as_image_set
from closedloop.interfaces import Generator, State, Subject, form_of, resolution_of
from closedloop.loop.commits import check_fingerprints, fingerprints, is_finished, record, run_course
from closedloop.loop.parts import LookPart, RunPart
from closedloop.loop.presenter import Presenter, Shown
from closedloop.loop.progress import Progress, as_progress, begin_progress, end_progress, move_progress
from closedloop.loop.protocol import Analysis, Handed, RunFigure, RunMovie, RunProtocol, RunSummary, RunTable
from closedloop.loop.session import Session
from closedloop.loop.settings import check_options, option, read_settings, settings
from closedloop.recipes import (
    build,
    fingerprint,
    generator_of_run,
    matched_generator,
    plain,
    recipe,
    version,
)
from closedloop.recording.layout import (
    EVOLUTION,
    IMAGE_BITS,
    REFERENCE,
    Layout,
    Rows,
    Variable,
    form_scalars,
)
from closedloop.recording.reader import open_recording
from closedloop.recording.references import keep_references, source
from closedloop.recording.writer import Recording
from closedloop.seeds import generator_state, named_generator, named_seed, restore_generator
from closedloop.signatures import at_door

from .contenders import POINTS, TOGETHER, evolve_units, session_of_units
from .lca import AllocationSettings, LossChangeAllocation
from .seen import Seen
from .stored import check_complete, stored_images, stored_settings
from .sweep_trainings import swept
from .train import OF_ALLOCATION, TRAINING, Prepared, Training, TrainSettings, goes_on_alone, repeated_with

#: Stands for examples of the training itself as the fixed set of images.
EXAMPLES = LookPart.references
#: Folder, in that of the run, with the run of loss change allocation.
WITHIN = "training"
#: Layers that are followed where none are named, by network.
FOLLOWED = {
    "mlp": ("fc1", "fc3", "output"),
    "conv": ("conv1", "conv3", "output"),
    "resnet": ("block1", "block4", "output"),
}


@settings
class DevelopSettings:
    """When it is looked at what, and how closely."""

    looks: int = option(
        default=8,
        least=2,
        help="How often the network is looked at, from before the first step to after the last; the time between two "
        "looks grows, for most happens early.",
    )
    at: tuple[str, ...] = option(
        default=(),
        shown="by --looks",
        metavar="STEPS",
        help="Steps at which it is looked at instead, such as 0,10,100; after the last step in any case.",
    )
    layers: str | None = option(
        default=None,
        metavar="NAMES",
        shown="some of each depth",
        help="Layers whose units are followed, separated by commas.",
    )
    units: str = option(
        default="0-3", names=("--unit",), metavar="UNITS", help="Units of each layer: 7, 0-9, all, random:8 …"
    )
    images: int = option(default=400, least=1, help="Presentations of each evolution.")
    starts: int = option(
        default=2,
        least=1,
        help="Evolutions of each unit at each look, from different seeds: how alike they are is what likeness from "
        "look to look is held against.",
    )
    repeats: int = option(default=2, least=1, help="Fresh presentations of each image whose number is shown.")
    examples: int = option(
        default=200,
        least=2,
        help="Examples in the fixed set of images, drawn by the seed, where it is taken from the training.",
    )

    def __post_init__(self) -> None:
        check_options(self)


#: Names of the settings.
OF_DEVELOPMENT = tuple(DevelopSettings.__dataclass_fields__)


@at_door
def develop(
    training: Training | None = None,
    *,
    generator: Generator | str | Mapping[str, Any] = LookPart.generator,
    strategy: str | Mapping[str, Any] = LookPart.strategy,
    references: ImageSet | str | Path | NDArray[Any] = EXAMPLES,
    save: str | Path | None = None,
    exists: str = RunPart.exists,
    progress: Progress = False,
    **options: Any,
) -> xr.Dataset:
    """Trains a network, and follows what some of its units want to see.

    Args:
        training: One of your own; None for what the options say, see `closedloop.protocols.train`.
        generator: Turns codes into images: its name, a mapping with its name and options, or itself.
        strategy: The optimizer that proposes codes: its name, or a mapping with its name and options.
        references: The fixed set of images: "examples" of the training's further losses, or of what it is trained on
            where there are none; a folder, an array ``(n, 3, h, w)`` in [0, 1], an `ImageSet`, or "bundled".
        save: Folder of the run; within it stands the run of loss change allocation, ``training``. None for memory.
        exists: What to do if there is such a run: "fail", or "resume" it.
        progress: Whether a bar, or in a log file lines, says on standard error how far it is; or a function that is
            called after each part with the number of parts done and of all, and what was done.
        **options: Fields of `TrainSettings`, of `AllocationSettings` and of `DevelopSettings`.

    Returns:
        See `closedloop.analysis.development`.

    Raises:
        InvalidArgumentError: An argument does not fit; nothing is written.
        TrainingError: The training is not as it should be, see `LossChangeAllocation`.
        RecordingError: The folder exists, holds another run, or cannot be written.
    """
    own = {name: options[name] for name in options if name in OF_DEVELOPMENT}
    chosen = read_settings(DevelopSettings, own)
    prepared = Prepared.told({n: v for n, v in options.items() if n not in own}, training)
    images = None if isinstance(references, str) and references == EXAMPLES else references
    course = Development(prepared, chosen, generator, strategy, images, as_progress(progress, "developing"))
    content = {
        "closedloop": version(),
        "protocol": DEVELOP,
        **prepared.content,
        **{name: plain(getattr(chosen, name)) for name in OF_DEVELOPMENT},
        "subject": course.subject.name,
        "generator": recipe(course.generator),
        "strategy": course.strategy,
        "references": EXAMPLES if images is None else source(images),
        "fingerprints": course.fingerprints(),
    }
    return development(record(course, content, save, exists))


def _resume(run: Path, content: Mapping[str, Any], handed: Handed) -> xr.Dataset:
    """Goes on with a development; of a finished one returns what was found at once.

    Raises:
        RecordingError: Its training was handed over, or is a script.
    """
    if is_finished(run):
        return development(open_recording(run))
    if TRAINING not in content:
        raise RecordingError(f"{run}: its training was handed over; call develop with it again, exists='resume'.")
    check_complete(run, content, DevelopSettings, TRAINING, *OF_ALLOCATION, "generator", "strategy", "references")
    if script := content[TRAINING].get("script"):
        raise RecordingError(
            f"{run}: its training is a script, which no file may start; say closedloop develop "
            f"--config {run}/experiment.yaml --script {script} --exists resume --out {run}."
        )
    prepared = Prepared.told({**content[TRAINING], **{name: content[name] for name in OF_ALLOCATION}})
    images: Any = None if content["references"] == EXAMPLES else content["references"]
    if images is not None:
        images = stored_images(run, images) or images
    generator = generator_of_run(run, content, handed.generator)
    chosen = stored_settings(DevelopSettings, content)
    told = as_progress(handed.progress, "developing")
    course = Development(prepared, chosen, generator, content["strategy"], images, told)
    check_fingerprints(run, content, course.fingerprints())
    return development(run_course(course, Recording.reopen(run)))


def _summary(run: Path, recording: xr.Dataset) -> RunSummary:
    """Returns a table for each layer, what likeness is held against, and the filmstrip."""
    from closedloop.figures import development_movie, plot_development

    found = development(recording)
    tables = [_table(found, layer) for layer in dict.fromkeys(found["layer"].values.tolist())]
    tables[-1] = replace(tables[-1], caption=_CAPTION)
    strip = RunFigure(
        partial(plot_development, found),
        "What each unit wants to see at each look, and on the same axis how selective it is, how alike its preference "
        "stays, and what its layer came to.",
    )
    # 1.5 looks in a second
    movie = RunMovie(partial(development_movie, found), 1.5, "What each unit wants to see, look after look.")
    question = f"What do units of {recording['subject'].item()} want to see while it is trained?"
    return RunSummary(tables, _lines(found), {"development": strip}, question, {"development": movie}, steady=False)


def _table(found: xr.Dataset, layer: str) -> RunTable:
    """Returns a row for each look: medians over the layer's units."""
    table = layer_table(found, layer)
    columns = ("step", "loss", "drive (sd)", "selective", "images alike", "tuning alike", "layer’s share")
    names = ("loss", "drive", "selectivity", "image_likeness", "tuning_likeness", "allocation")
    rows = [
        [f"{int(step)}", *(f"{v:.3g}" if np.isfinite(v := float(table[name][i])) else "–" for name in names)]
        for i, step in enumerate(table["step"].values)
    ]
    units = int((found["layer"] == layer).sum())
    return RunTable(f"{layer}: medians over {units} units", columns, rows)


#: What the columns of its tables are.
_CAPTION = (
    "drive: re-tested response to the evolved image, less the mean over the fixed set, in its standard deviations; "
    "selective: share of the variance over the fixed set that classes explain, of unlabelled images the sparseness; "
    "alike: correlation with the look before; share: change of the loss since then, below 0 helps"
)


def _lines(found: xr.Dataset) -> list[str]:
    """Returns sentences on what likeness is held against, on layers without parameters, and on how sure it is."""
    again = found["image_agreement"].isel(look=-1)
    lines = []
    if np.isfinite(again.values).any():
        lines.append(
            "Two evolutions of the same unit at the last look, from different seeds, are alike by "
            f"{float(again.median()):.2f} (correlation of pixels, median); likeness from look to look is between such "
            "pairs, too."
        )
    kept = found["carried"].isel(look=-1, made=0)
    if np.isfinite(kept.values).any() and found.sizes["look"] > 1:
        lines.append(
            f"What was evolved at step {int(found['step'][0])} drives its unit at the end by "
            f"{float(kept.median()):.2f} of what the last images do (median; 0 is the mean of the fixed set)."
        )
    lines += [f"{reason}." for reason in dict.fromkeys(found["reason"].values.tolist()) if reason]
    return [
        *lines,
        f"One training, seed {found.attrs['seed']}; all numbers of images are those of fresh presentations.",
    ]


class Job(NamedTuple):
    """What is evolved between two commits: images for a few units."""

    columns: list[int]
    start: int


@dataclass
class _Place:
    """Where a development stands.

    Attributes:
        look: Number of the look.
        part: Number of its next part: the fixed set, the jobs, and last the images of earlier looks.
        presentations: Images shown so far, with all repeats.
    """

    look: int = 0
    part: int = 0
    presentations: int = 0


class Development:
    """A development under way: the course that `closedloop.loop.commits` follows.

    Args:
        prepared: The training.
        chosen: When it is looked at what.
        generator: Turns codes into images; its name, or a mapping, for one that fits the network.
        strategy: Name of the optimizer, or a mapping with its name and options.
        references: The fixed set of images; None for examples of the training.
        progress: Is called after each part with the number of parts done and of all, and what was done.

    Raises:
        InvalidArgumentError: Something does not fit.
    """

    reason = ""

    def __init__(
        self,
        prepared: Prepared,
        chosen: DevelopSettings,
        generator: Generator | str | Mapping[str, Any],
        strategy: str | Mapping[str, Any],
        references: Any = None,
        progress: Callable[..., None] | None = None,
    ) -> None:
        from closedloop.networks.tensors import layers_of

        self._prepared, self._settings, self._progress = prepared, chosen, progress
        self.moments: tuple[int, ...] = moments(chosen, prepared.settings.steps)
        self.subject: Subject = prepared.training.subject or _subject(prepared, chosen)
        check_part("subject", self.subject)
        self.references, self._classes = _fixed_set(prepared, chosen, self.subject, references)
        self.generator: Generator = _generator(generator, self.subject)
        self.strategy: dict[str, str] | Any = {"name": strategy} if isinstance(strategy, str) else plain(dict(strategy))
        self._layers = layers_of(prepared.training.model)
        self._presenter = Presenter(self.subject)
        self._order = named_generator(prepared.settings.seed, "order")
        columns = list(range(len(self.subject.units)))
        groups = [columns[i : i + TOGETHER] for i in range(0, len(columns), TOGETHER)]
        self._jobs = [Job(group, start) for start in range(chosen.starts) for group in groups]
        self._at = _Place()
        self._first = self._session(self._jobs[0])
        self._first.plan()  # what does not fit into the images is said before anything is trained
        self._made: dict[str, NDArray[np.uint8]] = {}
        self._part: State = {}
        self._facts: dict[str, Any] = {}
        self._folder: Path | None = None
        self._lca: LossChangeAllocation | None = None
        self._answers: NDArray[Any] | None = None

    def fingerprints(self) -> dict[str, str]:
        """Returns SHA-256 of the untrained network, of the fixed set of images, and of the generator."""
        return fingerprints(subject=self.subject, references=self.references.fingerprint, generator=self.generator)

    def layout(self) -> Layout:
        """Returns the shape of the recording: at each look the fixed set, images of each unit, and earlier ones."""
        looks, chosen = len(self.moments), self._settings
        made = len(self.subject.units) * chosen.starts
        shown = looks * (len(self.references) + made * chosen.repeats) + made * looks * (looks - 1) // 2
        side, channels = resolution_of(self.subject), form_of(self.subject).channels
        return Layout(
            capacity=shown * (1 + self._presenter.retries),
            latent=0,
            units=self.subject.units,
            scalars={
                "subject": self.subject.name,
                **form_scalars(form_of(self.subject)),
                "seed": self._prepared.settings.seed,
                "closedloop_version": version(),
                "allocation_layers": " ".join(self._layers),
                "starts": chosen.starts,
                IMAGE_BITS: 8,
            },
            coords={
                "training_step": ("int64", -1),
                "made_at": ("int64", -1),
                "unit": ("int64", -1),
                "start": ("int64", -1),
                "category": ("str", ""),
                "loss": ("float64", np.nan),
            },
            evolutions={
                EVOLUTION: [DEVELOP],
                "generator": [self.generator.name],
                "generator_sha256": [fingerprint(self.generator)],
                "method": ["evolve"],
            },
            variables={
                "image": Variable("uint8", 0, ("channel_of_image", "row", "col"), (channels, side, side)),
                "curve_cost": Variable("float64", np.nan, ("point",), (POINTS,)),
                "curve_response": Variable("float64", np.nan, ("point",), (POINTS,)),
                "allocated": Variable("float64", np.nan, ("allocation_layer",), (len(self._layers),)),
            },
        )

    def begin(self, recording: Recording) -> None:
        """Keeps the fixed set beside the data, takes the training up, and reads what was evolved so far."""
        keep_references(recording, self.references)
        if self._done:
            self._read_back(recording.dataset())
        self._folder = None if recording.path is None else recording.path / WITHIN
        try:
            self._lca = self._prepared.allocation(self._folder, "fail" if self._folder is None else "resume")
        except BaseException:
            self._leave_nothing()
            raise
        begin_progress(self._progress, self._done, self._all)  # last, for what does not begin is not ended

    def _read_back(self, committed: xr.Dataset) -> None:
        """Takes the images that were evolved so far, at this look too, from what is committed."""
        rows = np.flatnonzero((committed["kind"].values == "retest") & (committed["repeat"].values == 0))
        names, images = committed["stimulus_id"].values[rows], committed["image"].values[rows]
        self._made = dict(zip(names.tolist(), images, strict=True))

    @property
    def _parts(self) -> int:
        """Parts of a look."""
        return 2 + len(self._jobs)

    @property
    def _done(self) -> int:
        return self._at.look * self._parts + self._at.part

    @property
    def _block(self) -> int:
        """Number of the next commit: the first look has one part less, for no images are earlier."""
        return self._done - (self._at.look > 0)

    @property
    def _all(self) -> int:
        return len(self.moments) * self._parts

    def show(self) -> Shown | None:
        """Trains up to the next look, and shows its next part."""
        if self._at.look == len(self.moments):
            return None
        self._train()
        if self._at.part == 0:
            return self._shown(self.references.images, 1, list(self.references.ids))
        if self._at.part <= len(self._jobs):
            return self._show_evolved(self._jobs[self._at.part - 1])
        names = [name for step in self.moments[: self._at.look] for name in self._names(step)]
        return self._shown(from_bytes(np.stack([self._made[name] for name in names])), 1, names)

    def _show_evolved(self, job: Job) -> Shown:
        step = self.moments[self._at.look]
        self._part = evolve_units(self._first if (self._at.look, self._at.part) == (0, 1) else self._session(job))
        images = from_bytes(self._part["image"])
        return self._shown(images, self._settings.repeats, [image_name(step, c, job.start) for c in job.columns])

    def _session(self, job: Job) -> Session:
        """Returns the session that evolves images for the units of a job at this look."""
        seed = named_seed(self._prepared.settings.seed, f"look {self.moments[self._at.look]} start {job.start}")
        return session_of_units(self.subject, self.generator, self.strategy, self._settings.images, seed, job.columns)

    def _shown(self, images: NDArray[np.float32], repeats: int, ids: Sequence[str]) -> Shown:
        self._ids = list(ids)
        return self._presenter.show(images, np.full(len(images), repeats), self._order, ids=ids)

    def _names(self, step: int) -> list[str]:
        """Returns the names of all images that are evolved at a look."""
        starts, units = range(self._settings.starts), range(len(self.subject.units))
        return [image_name(step, unit, start) for start in starts for unit in units]

    def _train(self) -> None:
        """Trains up to the step of this look, once, and notes loss and shares."""
        step = self.moments[self._at.look]
        if self._facts.get("training_step") == step or self._lca is None:
            return
        lca = self._lca
        if not lca.finished:
            self._prepared.go(lca, step)
            lca.commit()
            if step == self.moments[-1]:
                lca.finish()
        shares = np.zeros(len(self._layers))
        if self._at.look:
            found = lca.dataset()["by_layer"]
            since = (found["step"] >= self.moments[self._at.look - 1]) & (found["step"] < step)
            shares = found.isel(step=np.flatnonzero(since.values)).sum("step").sel(layer=self._layers).values
        self._facts = {"training_step": step, "loss": lca.losses["train"], "allocated": shares}

    def learn(self, shown: Shown) -> Rows:
        """Returns the rows of what was shown, and goes on to the next part."""
        arrays: Mapping[str, NDArray[Any]] = {}
        if self._at.part == 0:
            facts = self._of_references(shown)
        elif self._at.part <= len(self._jobs):
            facts, arrays = self._of_evolved(self._jobs[self._at.part - 1])
        else:
            facts = self._of_earlier()
        rows = self._rows(shown, facts, arrays)
        self._at.presentations += len(shown.stimulus)
        self._at.part += 1
        if self._at.part == self._parts - (self._at.look == 0):  # nothing is earlier than the first look
            self._at.part, self._at.look = 0, self._at.look + 1
        return rows

    def _of_references(self, shown: Shown) -> dict[str, Any]:
        answers = shown.responses[np.argsort(shown.stimulus, kind="stable")]
        if self._answers is not None and self._answers.shape == answers.shape and (answers == self._answers).all():
            raise TrainingError(
                f"subject {self.subject.name!r}: expected other responses than before the last "
                f"{self.moments[self._at.look] - self.moments[self._at.look - 1]} steps of training, got exactly the "
                "same; record the network that is trained, with engine='eager', for others hold the weights that they "
                "were made with."
            )
        self._answers = answers
        return {
            "thread": [REFERENCE] * len(self._ids),
            "kind": ["reference"] * len(self._ids),
            "category": self._classes,
        }

    def _of_evolved(self, job: Job) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        n, step, part = len(job.columns), self.moments[self._at.look], self._part
        self._made |= dict(zip(self._ids, part["image"], strict=True))
        facts = {
            "thread": [DEVELOP] * n,
            "kind": ["retest"] * n,
            "made_at": [step] * n,
            "unit": job.columns,
            "start": [job.start] * n,
        }
        return facts, {name: part[name] for name in ("image", "curve_cost", "curve_response")}

    def _of_earlier(self) -> dict[str, Any]:
        n = len(self._ids)
        before, units, starts = self.moments[: self._at.look], len(self.subject.units), self._settings.starts
        return {
            "thread": [DEVELOP] * n,
            "kind": [EARLIER] * n,
            "made_at": np.repeat(before, units * starts),
            "unit": np.tile(np.arange(units), starts * len(before)),
            "start": np.tile(np.repeat(np.arange(starts), units), len(before)),
        }

    def _rows(self, shown: Shown, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Rows:
        """Returns rows with what is known of each image, and fill values for the rest."""
        layout, which, n = self.layout(), shown.stimulus, len(shown.stimulus)
        known = {"stimulus_id": self._ids, **facts}
        columns = {name: np.asarray(values)[which] for name, values in known.items()}
        columns |= {name: np.full(n, self._facts[name]) for name in ("training_step", "loss")}
        missing = {name: np.full(n, fill) for name, (_, fill) in layout.coords.items() if name not in columns}
        coords = {
            "generation": np.full(n, self._block, np.int32),
            "repeat": shown.repeat.astype(np.int32),
            "onset_s": self._at.presentations + np.arange(n, dtype=float),
            **columns,
            **missing,
        }
        variables = {
            name: arrays[name][which] if name in arrays else np.full((n, *kind.shape), kind.fill, kind.dtype)
            for name, kind in layout.variables.items()
        }
        variables["allocated"] = np.tile(self._facts["allocated"], (n, 1))
        nothing = np.full(n, np.nan)
        return Rows(coords, shown.responses, np.empty((n, 0)), nothing, variables=variables)

    def committed(self) -> None:
        """Moves the progress on."""
        move_progress(self._progress, self._done, self._all, f"step {self._facts['training_step']}")

    def end(self) -> None:
        """Gives the training back, and ends the progress."""
        end_progress(self._progress)
        if self._lca is not None:
            self._lca.close(commit=False)  # it is finished, or something stopped it in the middle of a step
        self._leave_nothing()

    def _leave_nothing(self) -> None:
        """Removes the training of a run that holds nothing yet."""
        if self._folder is not None and not self._block:
            shutil.rmtree(self._folder, ignore_errors=True)

    def state(self) -> State:
        """Returns all that is needed to go on identically; the network's is in the run of its training."""
        return {"place": vars(self._at).copy(), "order": generator_state(self._order), "answers": self._answers}

    def restore(self, state: State) -> None:
        """Goes back to a saved state."""
        self._at = _Place(**{name: int(state["place"][name]) for name in vars(self._at)})
        self._answers = state.get("answers")  # older versions did not keep them
        restore_generator(self._order, state["order"])


def image_name(step: int, unit: int, start: int) -> str:
    """Returns the name of an image: for which unit it was evolved at which step, by which of several evolutions."""
    return f"step{step}-unit{unit}-{start}"


def moments(chosen: DevelopSettings, steps: int) -> tuple[int, ...]:
    """Returns the steps at which the network is looked at, in ascending order, the last one among them.

    Raises:
        InvalidArgumentError: Steps cannot be read, or are more than are taken.
    """
    if not chosen.at:
        between = np.linspace(0, 1, chosen.looks) ** 2  # the time between two looks grows
        return tuple(dict.fromkeys(int(step) for step in np.rint(steps * between)))
    words = [word.strip() for entry in chosen.at for word in str(entry).split(",") if word.strip()]
    named = [number for word in words if (number := whole_number(word)) is not None and 0 <= number <= steps]
    if len(named) < len(words):
        raise InvalidArgumentError(f"at: expected steps from 0 to {steps}, such as 0,10,100, got {chosen.at!r}.")
    return tuple(sorted({*named, steps}))


def _subject(prepared: Prepared, chosen: DevelopSettings) -> Subject:
    """Returns the network that is trained as a subject."""
    told, seen = prepared.settings, Seen.by(prepared.training)
    if chosen.layers is not None:
        layers = [word.strip() for word in chosen.layers.split(",") if word.strip()]
    elif not prepared.handed and told.script is None:
        layers = list(FOLLOWED[told.network])
    else:
        layers = ["output"]
    subject: Subject = build(
        "subjects",
        "trained",
        model=prepared.training.model,
        layer=layers,
        units=chosen.units,
        resolution=seen.side,
        channels=seen.channels,
        mean=seen.mean,
        std=seen.std,
        seed=told.seed,
        called=prepared.label.rpartition(":")[2],
    )
    return subject


def _fixed_set(
    prepared: Prepared, chosen: DevelopSettings, subject: Subject, references: Any
) -> tuple[ImageSet, list[str]]:
    """Returns the fixed set of images, and the class of each; "" where it is not known."""
    if references is not None:
        found = as_image_set(references, resolution_of(subject), form_of(subject), "references")
        return found, [""] * len(found)
    training, seen = prepared.training, Seen.by(prepared.training)
    inputs, targets = next(iter(training.losses.values()), training.data)
    rows = np.sort(named_generator(prepared.settings.seed, "examples").permutation(len(inputs))[: chosen.examples])
    named = [str(int(t)) for t in targets[rows]] if _are_classes(targets) else [""] * len(rows)
    return ImageSet(tuple(f"example-{i:05d}" for i in rows), quantize(seen.images(inputs[rows]))), named


def _are_classes(targets: Any) -> bool:
    """Tells whether targets are numbers of classes."""
    return len(getattr(targets, "shape", ())) == 1 and not targets.is_floating_point()


def _generator(given: Generator | str | Mapping[str, Any], subject: Subject) -> Generator:
    """Returns the generator, matched to the subject's size and colours where it was named."""
    if isinstance(given, (str, Mapping)):
        given = matched_generator({"name": given} if isinstance(given, str) else given, subject)
    check_forms("generator", form_of(given), form_of(subject))
    return given


#: What others must know of developments.
PROTOCOL = RunProtocol(
    DEVELOP,
    _resume,
    _summary,
    command="develop",
    repeats=repeated_with,
    resumes=goes_on_alone,
    analyses={"development": Analysis(development, "unit", {}, ("image", "carried"))},
    **swept(
        DEVELOP, develop, (TrainSettings, AllocationSettings, DevelopSettings), ("generator", "strategy", "references")
    ),
)
