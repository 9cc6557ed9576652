"""The same training with several seeds, and once more with something changed: what is observed over all of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from closedloop.analysis.observations import (
    OBSERVED,
    TRAININGS,
    changes_of,
    observed,
    seeds_of,
    trained_change,
    trained_layers,
    trained_observations,
)
from closedloop.errors import InvalidArgumentError, closest
from closedloop.interfaces import Units
from closedloop.loop.commits import is_finished, record, run_course
from closedloop.loop.parts import RunPart
from closedloop.loop.presenter import Shown
from closedloop.loop.progress import Progress, as_progress
from closedloop.loop.protocol import Handed, RunFigure, RunProtocol, RunSummary, RunTable
from closedloop.loop.settings import check_options, option, option_types, read_settings, settings
from closedloop.recipes import plain, version
from closedloop.recording.layout import Layout, Rows
from closedloop.recording.reader import open_recording
from closedloop.recording.writer import Recording
from closedloop.signatures import at_door

from .jobs import Jobs
from .stored import check_complete, folder_of, naming, stored_settings
from .train import (
    OF_ALLOCATION,
    TRAINING,
    Prepared,
    TrainSettings,
    check_training,
    goes_on_alone,
    repeated_with,
    train,
)

#: Level of p, corrected, below which a sentence says that something is there.
LEVEL = 0.05


@settings
class SeedsSettings:
    """How often a training is repeated, and with what changed."""

    seeds: int = option(
        default=1,
        least=1,
        help="Runs, with seeds from --seed on, each in a folder of its own: what is observed over all of them, with "
        "intervals, and which layers hurt.",
    )
    against: tuple[str, ...] = option(
        default=(),
        shown="none",
        metavar="'OPTION=VALUE …'",
        help="The same trainings with something changed, several times for several: freeze=output, remove=block4, "
        "'layer_momentum=output=0 l2=0.001' …; what that does to losses and accuracies, over the same seeds.",
    )

    def __post_init__(self) -> None:
        check_options(self)


def changed_option(words: str, said: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what is said of a training, with some of it changed.

    Args:
        words: Such as ``freeze=output``, or several with spaces between them.
        said: Options by name; to those that may be given several times one is added.

    Raises:
        InvalidArgumentError: It is no option of training, or no number where one is expected.
    """
    types, found = option_types(TrainSettings), dict(said)
    if not words.split():
        raise InvalidArgumentError(f"against: expected OPTION=VALUE, such as freeze=output, got {words!r}.")
    for word in words.split():
        name, sign, value = word.partition("=")
        name = name.replace("-", "_")
        if name not in types or name in ("seed", "script") or not sign:
            raise InvalidArgumentError(
                f"against: expected OPTION=VALUE, an option of training such as freeze=output, got {word!r}."
                f"{closest(name, [known for known in types if known not in ('seed', 'script')])}"
            )
        kind = types[name][0]
        held = found.get(name) or ()
        several = (held,) if isinstance(held, str) else held
        try:
            found[name] = kind(value) if kind in (int, float, str) else (*several, value)
        except ValueError:
            raise InvalidArgumentError(f"against: expected a number for {name}, got {value!r}.") from None
    return found


def place_of_change(words: str) -> str:
    """Returns the name of the folder in which trainings with a change lie."""
    return "".join(c if c.isalnum() or c in "=-._@" else "-" for c in words)


@at_door
def train_seeds(
    *,
    save: str | Path | None = None,
    exists: str = RunPart.exists,
    progress: Progress = False,
    **options: Any,
) -> xr.Dataset:
    """Does the same training with several seeds, and once more with each change.

    Args:
        save: Folder of the run; None keeps it in memory. Within it lies a run of `train` for each seed, ``seed-0`` …,
            and a folder of such runs for each change.
        exists: What to do if there is such a run: "fail", or "resume" it.
        progress: Whether a bar, or in a log file lines, says on standard error how far it is; or a function that is
            called with trainings done and of all.
        **options: Fields of `SeedsSettings`, and those that `train` takes.

    Returns:
        A row of `responses` ``(presentation, neuroid)`` for each training, with its `run_seed` and its `change` ("" for
        none): the columns are losses and accuracies at its end, what was observed, and what layers came to (`sort`
        "end", "observed" and "layer", by the name `measure`); NaN where a changed network lacks a layer.
        `closedloop.analysis.trained_observations` and its neighbours read it.

    Raises:
        InvalidArgumentError: An option does not fit, also of a change; nothing is written, and nothing is trained.
        RecordingError: The folder exists, or cannot be written.
    """
    own = {name: value for name, value in options.items() if name in SeedsSettings.__dataclass_fields__}
    chosen = read_settings(SeedsSettings, own)
    said = {name: value for name, value in options.items() if name not in own}
    with folder_of(save) as folder:
        course = Trainings(chosen, said, folder, progress)
        return record(course, course.content, save, exists)


class Measures:
    """Stands where a subject stands: what is recorded are numbers of trainings.

    Args:
        name: What is trained.
        columns: What is measured: sort and name.
    """

    def __init__(self, name: str, columns: list[tuple[str, str]]) -> None:
        self.name = name
        sorts, measures = zip(*columns, strict=True)
        names = tuple(f"{sort}: {measure}" for sort, measure in columns)
        self.units: Units = Units(names, {"sort": sorts, "measure": measures})

    def record(self, images: Any) -> Any:
        """Raises: nothing is shown to a training."""
        raise InvalidArgumentError("images: expected none; trainings are measured, and not shown images.")


class Trainings(Jobs):
    """Trainings under way: the course of `train_seeds`, of which a block is one training.

    Args:
        chosen: How many, and what is changed.
        said: Options of the training.
        folder: Where the runs lie.
        progress: Whether progress is shown, or who is told it.
    """

    def __init__(self, chosen: SeedsSettings, said: Mapping[str, Any], folder: Path, progress: Progress = None) -> None:
        self._chosen, self._folder = chosen, folder
        self._prepared = prepared = Prepared.told(said)
        first = prepared.settings.seed
        self._said = {"": dict(said), **{words: changed_option(words, said) for words in chosen.against}}
        self._check_changes()
        jobs = [(first + i, words) for words in self._said for i in range(chosen.seeds)]
        super().__init__(jobs, as_progress(progress, "training"))
        lca = prepared.allocation(None, "fail")
        layers, ends = lca.layers, [f"loss_{name}" for name in lca.losses]
        lca.close()
        if prepared.settings.script is None:
            ends += [f"accuracy_{name}" for name in lca.losses]
        columns = [*(("end", e) for e in ends), *(("observed", o) for o in OBSERVED), *(("layer", n) for n in layers)]
        self.subject: Measures = Measures(prepared.label, columns)

    def _check_changes(self) -> None:
        """Looks whether every change can be trained, before anything is.

        Raises:
            InvalidArgumentError: One cannot, there is nothing to compare over, or two have one folder.
        """
        if self._chosen.against and self._chosen.seeds < 2:
            raise InvalidArgumentError(
                f"against: expected seeds of at least 2 to compare over, got {self._chosen.seeds}."
            )
        places = [place_of_change(words) for words in self._chosen.against]
        if twice := [words for words, p in zip(self._chosen.against, places, strict=True) if places.count(p) > 1]:
            raise InvalidArgumentError(f"against: expected changes that differ, got {twice[0]!r} twice, or nearly so.")
        for words, options in self._said.items():
            if words:
                with naming(f"against {words!r}"):
                    check_training(options)

    @property
    def content(self) -> dict[str, Any]:
        """What repeats it, for the run's file."""
        told = {name: plain(getattr(self._chosen, name)) for name in SeedsSettings.__dataclass_fields__}
        seed = self._prepared.settings.seed
        return {"closedloop": version(), "protocol": TRAININGS, "seed": seed, **told, **self._prepared.content}

    def layout(self) -> Layout:
        """Returns the shape of the recording: a row for each training."""
        scalars: dict[str, Any] = {
            "subject": self._prepared.label,
            "seed": self._prepared.settings.seed,
            "closedloop_version": version(),
        }
        columns = {"change": ("str", ""), "run_seed": ("int64", -1)}
        return Layout(len(self._jobs), 0, self.subject.units, scalars, columns)

    def show(self) -> Shown | None:
        """Does the next training."""
        if self._done == len(self._jobs):
            return None
        seed, words = self._jobs[self._done]
        place = self._folder / place_of_change(words) / f"seed-{seed}" if words else self._folder / f"seed-{seed}"
        found = train(save=place, exists="resume", **self._said[words] | {"seed": seed})
        units = self.subject.units.coords
        known = {("end", name): value for name, value in found.attrs.items()}
        known |= {("observed", name): value for name, value in observed(found).items()}
        totals = found["by_layer"].sum("step")
        known |= {("layer", str(n)): v for n, v in zip(totals["layer"].values, totals.values, strict=True)}
        row = [float(known.get(key, np.nan)) for key in zip(units["sort"], units["measure"], strict=True)]
        none = np.zeros(1, np.int64)
        return Shown(none, none, np.array([row]))

    def learn(self, shown: Shown) -> Rows:
        """Returns the row of a training."""
        seed, words = self._jobs[self._done]
        coords = {
            "thread": np.array(["training"]),
            "generation": np.array([self._done], np.int32),
            "kind": np.array(["training"]),
            "stimulus_id": np.array([f"seed-{seed}" + (f", {words}" if words else "")]),
            "repeat": np.zeros(1, np.int32),
            "onset_s": np.array([float(self._done)]),
            "change": np.array([words]),
            "run_seed": np.array([seed]),
        }
        self._done += 1
        return Rows(coords, shown.responses, np.empty((1, 0)), np.full(1, np.nan))


def _resume(run: Path, content: Mapping[str, Any], handed: Handed) -> xr.Dataset:
    """Goes on with trainings; returns finished ones at once."""
    if not is_finished(run):
        check_complete(run, content, SeedsSettings, TRAINING, *OF_ALLOCATION)
        chosen = stored_settings(SeedsSettings, content)
        said = {**content[TRAINING], **{name: content[name] for name in OF_ALLOCATION}}
        run_course(Trainings(chosen, said, run, handed.progress), Recording.reopen(run))
    return open_recording(run)


def _summary(run: Path, recording: xr.Dataset) -> RunSummary:
    """Returns what is observed over all seeds, which layers hurt, what changes of training do, and the figure."""
    from closedloop.figures import plot_trainings

    seeds = f"{recording['subject'].item()}, {len(seeds_of(recording))} seeds"
    said = f"{seeds}; means with Student’s 95 % intervals over seeds"
    tables = [_observed_table(recording, said), _layer_table(recording)]
    tables += [_change_table(recording, words) for words in changes_of(recording)]
    words = (
        "What layers came to, and what changes of training do to its end: a dot for each seed, mean and Student’s "
        "interval over seeds."
    )
    figure = RunFigure(lambda: plot_trainings(recording), words)
    asked = "Which layers hurt, whatever the seed" + (", and does it help to change it?" if len(tables) > 2 else "?")
    return RunSummary(tables, _lines(recording), {"trainings": figure}, asked, steady=False, rows="trainings")


#: Words for what is observed.
_OBSERVED = {
    "helping": "parameters that help in a step",
    "helping_of_moving": "of those that help or hurt",
    "sign_changes": "signs of neurons’ shares that change",
    "synchrony": "peaks that coincide, ÷ by chance",
    "synchrony_p": "its p, all seeds (Fisher)",
    "missed": "of the change of the loss missed",
}


def _observed_table(recording: xr.Dataset, said: str) -> RunTable:
    seen = trained_observations(recording)
    rows = [
        [_OBSERVED[str(name)], *(_number(seen[what][i]) for what in ("mean", "low", "high"))]
        for i, name in enumerate(seen["observation"].values)
    ]
    return RunTable("Observed", ("observed", "mean", "low", "high"), rows, said)


def _layer_table(recording: xr.Dataset) -> RunTable:
    found = trained_layers(recording)
    rows = [
        [str(layer), *(_number(found[name][i]) for name in ("mean", "low", "high", "p", "p_holm"))]
        for i, layer in enumerate(found["layer"].values)
    ]
    columns = ("layer", "mean change", "low", "high", "p (hurts)", "p (Holm)")
    caption = "p: one-sided t-test that the layer hurts, corrected for the number of layers (Holm)"
    return RunTable("Change of the loss by each layer", columns, rows, caption)


def _change_table(recording: xr.Dataset, words: str) -> RunTable:
    one = trained_change(recording, words)
    names = ("plain", "changed", "difference", "low", "high", "p_holm")
    rows = [[str(m), *(_number(one[name][i]) for name in names)] for i, m in enumerate(one["measure"].values)]
    caption = f"changed less plain, paired by seed ({int(one['pairs'])} pairs); p: paired t-test, corrected (Holm)"
    return RunTable(f"{words}: what it does", ("at the end", *names[:5], "p (Holm)"), rows, caption)


def _lines(recording: xr.Dataset) -> list[str]:
    """Says which layers hurt for certain, and which changes do something to which measure."""
    layers = trained_layers(recording)
    own = [str(n) for n, p in zip(layers["layer"].values, layers["p_holm"].values, strict=True) if p < LEVEL]
    lines = [f"Layers that hurt, net, beyond chance (p < {LEVEL}, corrected): {', '.join(own) or 'none'}."]
    for words in changes_of(recording):
        one = trained_change(recording, words)
        said = [
            f"{measure} {'rises' if d > 0 else 'falls'} by {abs(d):.3g}"
            for measure, d, p in zip(*(one[n].values for n in ("measure", "difference", "p_holm")), strict=True)
            if p < LEVEL
        ]
        lines.append(f"With {words}: {', '.join(said) or 'no difference was shown'}.")
    return lines


def _number(value: Any) -> str:
    """Returns a number with three digits; a dash where there is none."""
    known = float(value)
    return "–" if known != known else f"{known:.3g}"


#: What others must know of trainings with several seeds.
PROTOCOL = RunProtocol(TRAININGS, _resume, _summary, command="lca", repeats=repeated_with, resumes=goes_on_alone)
