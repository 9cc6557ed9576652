"""Train a small network, see what it answers to, and train on with what was seen: the loop closes.

A network is trained on a bundled task, or one of your own. Then it is diagnosed on labelled images, of which nothing
but the class is known, and trained on under a treatment that uses what was found. Every so many steps its accuracy is
measured in each group of a test. Everything follows from the seed, so that a run that was killed goes on bit by bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from closedloop.analysis.treatments import BEFORE, NONE, TREAT, TREATED, group_sizes, treatment_accuracy
from closedloop.errors import InvalidArgumentError, require
from closedloop.interfaces import State, Units
from closedloop.loop.commits import check_fingerprints, fingerprints, is_finished, record, run_course
from closedloop.loop.parts import RunPart
from closedloop.loop.presenter import Shown
from closedloop.loop.progress import Progress, as_progress, begin_progress, end_progress, move_progress
from closedloop.loop.protocol import Handed, RunFigure, RunProtocol, RunSummary, RunTable
from closedloop.loop.settings import check_options, option, read_settings, settings
from closedloop.readable import percent
from closedloop.recipes import version
from closedloop.recording.layout import POINTER, Layout, Rows, Variable
from closedloop.recording.reader import open_recording
from closedloop.recording.writer import Recording
from closedloop.signatures import at_door

from .stored import check_complete, folder_of, naming, stored_settings
from .tasks import WATERMARKED, Task, read_task
from .train import TRAINING, TrainSettings
from .treating import (
    TREATMENTS,
    UNTREATED,
    Findings,
    Network,
    allocated,
    check_diagnosed,
    diagnosed,
    early_errors,
    hurting_layers_of,
    needs_allocation,
    needs_diagnosis,
    parse_treatments,
    read_diagnosis,
    read_group,
)


@settings
class TreatedSettings:
    """What is trained, how it is diagnosed, and how it is trained on."""

    data: str = option(
        default=WATERMARKED,
        metavar="NAME|FILE",
        help="watermarked-digits (a corner goes with a class in training alone), unmarked-digits (it goes with none), "
        "or an .npz file with x, y, x_labelled, y_labelled, x_test, y_test (images (n, 3, side, side) in [0, 1]), and "
        "group_test, groups, classes where they are known.",
    )
    network: str = option(default="conv", choices=("mlp", "conv", "resnet"), help="The network; see closedloop lca.")
    steps: int = option(default=300, least=10, help="Steps of training before the treatment.")
    more: int = option(default=300, least=1, help="Steps under the treatment.")
    batch: int = option(default=50, least=4, help="Examples of a batch.")
    optimizer: str = option(default="adam", choices=("sgd", "adam"), help="What trains it.")
    rate: float = option(default=0.005, unit="a rate", help="Rate of learning.")
    momentum: float = option(default=0.9, help="Momentum; of adam the first of its two numbers.")
    l2: float = option(default=0.0, help="Weight decay.")
    share: float = option(
        default=0.5, unit="a share", help="Share of a batch that are counter-examples, or images of the error group."
    )
    weight: int = option(default=20, least=2, help="How much more often plain reweighting draws an early error.")
    layer: str | None = option(
        default=None, metavar="NAME", shown="the last one with places", help="Layer whose units are tested."
    )
    suspects: int = option(default=6, least=1, help="Units that are tested.")
    preferred: int = option(default=1000, least=1, help="Images of the evolution of what a spurious unit wants to see.")
    every: int = option(default=50, least=1, help="Steps from one measurement, and commit, to the next.")
    seed: int = option(default=0, least=0, help="Seed of weights and batches, and of a bundled task's images.")

    def __post_init__(self) -> None:
        check_options(self)
        if self.share > 1:
            raise InvalidArgumentError(f"share: expected a share of at most 1, got {self.share}.")
        for name in ("steps", "more"):
            if getattr(self, name) % self.every:
                raise InvalidArgumentError(
                    f"{name}: expected a multiple of every={self.every}, got {getattr(self, name)}; change one of them."
                )

    def training(self) -> TrainSettings:
        """Returns the same training as `closedloop.protocols.train` is told it."""
        names = ("data", "network", "steps", "batch", "optimizer", "rate", "momentum", "l2", "seed")
        return TrainSettings(**{name: getattr(self, name) for name in names})


@settings
class TreatSettings(TreatedSettings):
    """A treatment, and what it uses."""

    treatment: tuple[str, ...] = option(
        default=("evolved",),
        metavar="NAME",
        help="; ".join(f"{name}: {words}" for name, words in TREATMENTS.items()).replace("*", "")
        + ". Several times for several at once.",
    )
    start: str | None = option(
        default=None,
        metavar="RUN|FILE",
        shown="it is trained",
        help="Run of treat, or its before.safetensors, whose network is treated; it was trained as is said here.",
    )
    diagnosis: str | None = option(
        default=None, metavar="RUN", shown="it is made", help="Run of diagnose of that network."
    )
    group: str | None = option(
        default=None,
        metavar="FILE",
        shown="all errors",
        help="The group.csv of errors that the viewer exported, for the treatment errors.",
    )
    lca: str | None = option(
        default=None,
        metavar="RUN",
        shown="it is made",
        help="Run of lca that says which layers hurt, for freeze and remove.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        treatments = parse_treatments(self.treatment)
        used = {
            "diagnosis": (needs_diagnosis(treatments, self.group is not None), "evolved, cut, ablate or errors"),
            "group": ("errors" in {name for name, _ in treatments}, "errors"),
            "lca": (needs_allocation(treatments), "freeze or remove without a layer's name"),
        }
        for name, (use, by) in used.items():
            if getattr(self, name) is not None and not use:
                raise InvalidArgumentError(
                    f"{name}: expected a treatment that uses it ({by}), got {', '.join(self.treatment)}; leave it out."
                )


@at_door
def treat(
    *,
    save: str | Path | None = None,
    exists: str = RunPart.exists,
    progress: Progress = False,
    **options: Any,
) -> xr.Dataset:
    """Trains a small network, diagnoses it, and trains it on under a treatment.

    Labels of groups have no part in diagnosis and treatment: they belong to the test, which nothing but the measurement
    sees.

    Args:
        save: Folder of the run; None keeps it in memory. There lie the networks before and after the treatment,
            ``before.safetensors`` and ``network.safetensors`` (subjects ``treated:FILE``), the labelled images, the run
            of `diagnose`, and, where the treatment asks for it, that of `train`.
        exists: What to do if there is such a run: "fail", or "resume" it.
        progress: Whether a bar, or in a log file lines, says on standard error how far it is; or a function that is
            called with steps done and of all.
        **options: Fields of `TreatSettings`.

    Returns:
        Along the dimension ``measurement``: `step`, `phase` ("before" or "treated"; the first of the treated is at
        once, before any step), `loss` on the batches since the last one, `overall`, `worst`, and `accuracy`
        ``(measurement, group)``; the attribute ``found``, of how many units, examples or layers the treatment made use.

    Raises:
        InvalidArgumentError: An option does not fit; nothing is written.
        RecordingError: The folder exists, or cannot be written.
    """
    require("torch", "networks", "treat")
    told = read_settings(TreatSettings, options)
    task = read_task(told.data, told.seed)
    used = fingerprints(images=task.fingerprint, **_named(told))
    experiment = {
        "closedloop": version(),
        "protocol": TREAT,
        "seed": told.seed,
        TRAINING: asdict(told),
        "fingerprints": used,
    }
    with folder_of(save) as folder:
        course = Treating(told, task, folder, progress)
        recording = record(course, experiment, save, exists)
        return treatment_accuracy(recording)


def _named(told: TreatSettings) -> dict[str, bytes]:
    """Returns the content of the files that a treatment is told of, by the names of their options; of runs the pointer.

    One that cannot be read is left out: whoever reads it says what it should be.
    """
    found = {}
    for name, inside in (("start", UNTREATED), ("diagnosis", POINTER), ("lca", POINTER), ("group", "")):
        if (place := getattr(told, name)) is not None:
            path = Path(place) / inside if Path(place).is_dir() else Path(place)
            with suppress(OSError):
                found[name] = path.read_bytes()
    return found


class TestGroups:
    """Stands where a subject stands: what is recorded is the accuracy in each group of a test.

    Args:
        task: Whose test it is.
    """

    __test__ = False

    def __init__(self, task: Task) -> None:
        self.name: str = task.name
        sizes = np.bincount(task.group, minlength=len(task.groups))
        self.units: Units = Units(task.groups, {"group_size": tuple(sizes.tolist())})

    def record(self, images: Any) -> Any:
        """Raises: nothing is shown to a test."""
        raise InvalidArgumentError("images: expected none; a test is measured, and not shown images.")


class Treating:
    """A network in training and treatment: the course of `treat`.

    Args:
        told: What is done.
        task: On what.
        folder: Where networks and diagnosis lie.
        progress: Whether progress is shown, or who is told it.
    """

    reason = ""

    def __init__(self, told: TreatSettings, task: Task, folder: Path, progress: Progress = None) -> None:
        self.subject: TestGroups = TestGroups(task)
        self._told, self._task, self._folder = told, task, folder
        self._treatments = parse_treatments(told.treatment)
        self._progress = as_progress(progress, "treating")
        self._network = Network(told.training(), task, told.share, told.weight)
        self._begun = False  # the treatment
        self._rows = 0
        self._group = None if told.group is None else read_group(Path(told.group), task)
        if told.start is not None:
            self._take(Path(told.start))
        self._network.check_layer(told.layer)
        self._network.check_treatments(self._treatments)
        self._read_told()

    def _read_told(self) -> None:
        """Reads the runs that were named, before anything is trained; what does not fit is an error."""
        told = self._told
        if told.lca is not None:
            with naming("lca"):
                hurting_layers_of(Path(told.lca), self._network.layers)
        if told.diagnosis is not None:
            with naming("diagnosis"):
                read_diagnosis(Path(told.diagnosis), self._task)
            if told.start is not None:
                check_diagnosed(Path(told.diagnosis), _file_of(Path(told.start)))

    def _take(self, start: Path) -> None:
        """Begins with a network that was trained."""
        from closedloop.networks.kept import read_network

        with naming("start"):
            model, facts = read_network(_file_of(start))
        told = self._told
        if facts.removed or facts.held:
            raise InvalidArgumentError(
                f"start: expected a network that was not treated yet, got {start}, of which "
                f"{'layers were removed' if facts.removed else 'units are held'}; give the {UNTREATED} of its run."
            )
        if facts.steps not in (0, told.steps):  # files of older versions do not say it
            raise InvalidArgumentError(
                f"start: expected a network that was trained for steps={told.steps}, got {start} after {facts.steps}; "
                "give the steps of its run, and its untreated network."
            )
        if (facts.network, facts.side, facts.classes) != (told.network, self._task.side, self._task.classes):
            raise InvalidArgumentError(
                f"start: expected a network {told.network!r} for {self._task.name}, got {facts.network!r} for images "
                f"of {facts.side} pixels and {len(facts.classes)} classes."
            )
        if not np.allclose((facts.mean, facts.deviation), self._task.colours, rtol=1e-6):
            raise InvalidArgumentError(
                f"start: {start} was trained on other images than those of {self._task.name} with seed {told.seed}, "
                "and may have been trained on those by which it would be judged; give the seed of its run."
            )
        if facts.seed not in (-1, told.seed):  # as steps, not known of older versions
            raise InvalidArgumentError(
                f"start: expected a network that was trained with seed={told.seed}, got {start} with {facts.seed}; "
                "give the seed of its run."
            )
        self._network.use(model, facts)
        self._network.done = told.steps

    def layout(self) -> Layout:
        """Returns the shape of the recording: a row for each measurement."""
        told = self._told
        scalars: dict[str, Any] = {
            "subject": told.network,
            "treatment": "+".join(told.treatment),
            "data": self._task.name if "/" not in self._task.name else Path(self._task.name).name,
            "seed": told.seed,
            "closedloop_version": version(),
        }
        columns = {"step": ("int64", -1), "phase": ("str", "")}
        variables = {"loss": Variable("float64", np.nan), "found": Variable("int64", 0)}
        rows = (told.steps + told.more) // told.every + 3
        return Layout(rows, 0, self.subject.units, scalars, columns, variables=variables)

    def begin(self, recording: Recording) -> None:
        """Tells whoever watches how far it is."""
        begin_progress(self._progress, *self._far())

    def _far(self) -> tuple[int, int]:
        return self._network.done, self._told.steps + self._told.more

    def show(self) -> Shown | None:
        """Trains up to the next measurement, and measures."""
        told, network = self._told, self._network
        if network.done >= told.steps + told.more:
            return None
        trained = network.done >= told.steps
        if trained and not self._begun and self._rows and self._phase == BEFORE:
            self._treat()
        elif not (trained and not self._begun):
            network.advance(told.every)
        self._phase = TREATED if self._begun else BEFORE
        none = np.zeros(1, np.int64)
        return Shown(none, none, network.accuracies()[None])

    _phase = ""

    def _treat(self) -> None:
        """Looks at the network, and begins the treatment."""
        from closedloop.networks.kept import write_network

        told, network = self._told, self._network
        self._folder.mkdir(parents=True, exist_ok=True)
        write_network(self._folder / UNTREATED, network.model, network.facts)
        early = partial(early_errors, told.training(), self._task)
        network.treat(self._treatments, self._found(), early)
        self._begun = True

    def _found(self) -> Findings:
        """Returns what the treatment asks for: units, errors, and layers that hurt."""
        told, found = self._told, Findings()
        if needs_diagnosis(self._treatments, self._group is not None):
            if told.diagnosis is not None:
                check_diagnosed(Path(told.diagnosis), self._folder / UNTREATED)
            found = read_diagnosis(diagnosis_of(told, self._task, self._folder), self._task)
        if needs_allocation(self._treatments):
            run = Path(told.lca) if told.lca is not None else allocated(self._folder, told.training(), self._task)
            found = replace(found, hurting=hurting_layers_of(run, self._network.layers))
        return found if self._group is None else replace(found, errors=self._group)

    def learn(self, shown: Shown) -> Rows:
        """Returns the row of a measurement."""
        network, step = self._network, self._network.done
        coords = {
            "thread": np.array(["training"]),
            "generation": np.array([self._rows], np.int32),
            "kind": np.array(["measurement"]),
            "stimulus_id": np.array([f"step-{step}-{self._phase}"]),
            "repeat": np.zeros(1, np.int32),
            "onset_s": np.array([float(self._rows)]),
            "step": np.array([step]),
            "phase": np.array([self._phase]),
        }
        self._rows += 1
        values = {"loss": np.array([network.loss]), "found": np.array([network.found])}
        return Rows(coords, shown.responses, np.empty((1, 0)), np.full(1, np.nan), variables=values)

    def committed(self) -> None:
        """Moves the progress on."""
        move_progress(self._progress, *self._far())

    def end(self) -> None:
        """Keeps the network, and ends the progress."""
        from closedloop.networks.kept import NETWORK, write_network

        end_progress(self._progress)
        if self._folder.is_dir() and self._network.done >= self._told.steps + self._told.more:
            write_network(self._folder / NETWORK, self._network.model, self._network.facts)

    def state(self) -> State:
        """Returns all that is needed to go on identically."""
        return {"network": self._network.state(), "begun": self._begun, "rows": self._rows, "phase": self._phase}

    def restore(self, state: State) -> None:
        """Goes back to a saved state; what the treatment uses is read, or made, again."""
        from closedloop.networks.kept import read_network

        if state["begun"]:
            self._network.use(*read_network(self._folder / UNTREATED))
            early = partial(early_errors, self._told.training(), self._task)
            self._network.treat(self._treatments, self._found(), early)
        self._network.restore(state["network"])
        self._begun, self._rows, self._phase = bool(state["begun"]), int(state["rows"]), str(state["phase"])


def _file_of(start: Path) -> Path:
    """Returns the file of the network that is begun with: of a run's folder the untreated one."""
    return start / UNTREATED if start.is_dir() else start


def diagnosis_of(told: TreatSettings, task: Task, folder: Path) -> Path:
    """Returns the diagnosis of the network in a run's folder: that which was named, or its own, which is made."""
    if told.diagnosis is not None:
        return Path(told.diagnosis)
    numbers = {"suspects": told.suspects, "preferred": told.preferred, "seed": told.seed, "layer": told.layer}
    return diagnosed(folder, task, folder / UNTREATED, **numbers)


def _resume(run: Path, content: Mapping[str, Any], handed: Handed) -> xr.Dataset:
    """Goes on with a treatment; returns what a finished one came to."""
    if not is_finished(run):
        check_complete(run, content, None, TRAINING)
        told = stored_settings(TreatSettings, content[TRAINING])
        task = read_task(told.data, told.seed)
        check_fingerprints(run, content, fingerprints(images=task.fingerprint, **_named(told)))
        run_course(Treating(told, task, run, handed.progress), Recording.reopen(run))
    return treatment_accuracy(open_recording(run))


def _summary(run: Path, recording: xr.Dataset) -> RunSummary:
    """Returns accuracies before, at once and at the end, and the figure of their course."""
    from closedloop.figures import plot_treatment
    from closedloop.figures.style import whole_figure

    found = treatment_accuracy(recording)
    words = "Accuracy in each group of the test; the treatment begins at the line."
    figure = RunFigure(lambda: whole_figure(plot_treatment(found)), words)
    question = "Does the treatment help?"
    return RunSummary(
        [_table(found)], _lines(found), {"treatment": figure}, question, steady=False, rows="measurements of accuracy"
    )


def _table(found: xr.Dataset) -> RunTable:
    """Returns a row for each group."""
    phase = found["phase"].values
    before, treated = np.flatnonzero(phase == BEFORE), np.flatnonzero(phase == TREATED)
    points = [before[-1] if len(before) else None, *(treated[[0, -1]] if len(treated) else (None, None))]
    rows = []
    groups = [f"{g} ({n})" for g, n in zip(found["group"].values, group_sizes(found), strict=True)]
    columns = np.concatenate([found["accuracy"].values.T, found["overall"].values[None], found["worst"].values[None]])
    for name, values in zip([*groups, "overall", "worst"], columns, strict=True):
        rows.append([name, *("–" if p is None else percent(values[p], 1) for p in points)])
    title = f"Accuracy under the treatment {found.attrs['treatment']}"
    caption = f"{found.attrs['data']}, seed {found.attrs['seed']}; the numbers of images in brackets"
    return RunTable(title, ("group", "before", "at once", "at the end"), rows, caption)


def _lines(found: xr.Dataset) -> list[str]:
    """Says what the treatment made use of."""
    if TREATED not in found["phase"].values or found.attrs["treatment"] == NONE:
        return []
    count, names = int(found.attrs["found"]), [word.partition(":")[0] for word in found.attrs["treatment"].split("+")]
    what = " or ".join(kind for kind, own in _USED.items() if own & set(names))
    if not count:
        return [f"Nothing was found that the treatment could use: no {what}. It changed nothing."]
    return [f"The treatment made use of {count} {what}."]


#: What treatments make use of.
_USED = {
    "spurious units": {"evolved", "cut", "ablate"},
    "errors": {"reweight", "errors"},
    "layers": {"freeze", "remove"},
}


#: What others must know of treatments.
PROTOCOL = RunProtocol(TREAT, _resume, _summary, command="treat")
