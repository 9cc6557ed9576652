"""Which treatments help? Each over several seeds, against as many steps without it and against plain reweighting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from closedloop.analysis.treatments import AFTER, BEFORE, JUDGE, NONE, REWEIGHT, judged_treatments, verdict
from closedloop.errors import InvalidArgumentError, require
from closedloop.loop.commits import check_fingerprints, fingerprints, is_finished, record, run_course
from closedloop.loop.parts import RunPart
from closedloop.loop.presenter import Shown
from closedloop.loop.progress import Progress, as_progress
from closedloop.loop.protocol import Handed, RunFigure, RunProtocol, RunSummary, RunTable
from closedloop.loop.settings import option, read_settings, settings
from closedloop.readable import percent
from closedloop.recipes import version
from closedloop.recording.layout import Layout, Rows, Variable
from closedloop.recording.reader import open_recording
from closedloop.recording.writer import Recording
from closedloop.signatures import at_door

from .jobs import Jobs
from .stored import check_complete, folder_of, stored_settings
from .sweep_trainings import swept
from .tasks import Task, read_task
from .train import TRAINING
from .treat import TestGroups, TreatedSettings, TreatSettings, diagnosis_of, treat
from .treating import UNTREATED, Network, allocated, needs_allocation, needs_diagnosis, parse_treatments

#: Treatments that are judged where nothing else is said.
ARMS = (NONE, REWEIGHT, "errors", "evolved", "cut", "ablate", "evolved+ablate", "freeze", "remove")


@settings
class JudgeSettings(TreatedSettings):
    """What is judged."""

    treatments: tuple[str, ...] = option(
        default=ARMS,
        shown=", ".join(ARMS),
        metavar="NAME",
        help="Treatments, see closedloop treat; several at once with +. 'none' and 'reweight' are what others are held "
        "against.",
    )
    seeds: int = option(default=5, least=1, help="Trainings of each, with seeds from --seed on; intervals need three.")

    def __post_init__(self) -> None:
        super().__post_init__()
        arms = [frozenset(_parts(words)) for words in self.treatments]
        if len(set(arms)) < len(arms) or not arms:
            raise InvalidArgumentError(f"treatments: expected one or more, each once, got {list(self.treatments)}.")


def _parts(arm: str) -> list[tuple[str, str]]:
    """Returns the treatments that are tried together, and the layers that they name."""
    return parse_treatments(arm.split("+"))


@at_door
def judge(
    *,
    save: str | Path | None = None,
    exists: str = RunPart.exists,
    progress: Progress = False,
    **options: Any,
) -> xr.Dataset:
    """Trains a network for each seed, diagnoses it, trains on from there under each treatment, and compares.

    Args:
        save: Folder of the run; None keeps it in memory. Networks and diagnoses lie below it, a folder for each seed.
        exists: What to do if there is such a run: "fail", or "resume" it.
        progress: Whether a bar, or in a log file lines, says on standard error how far it is; or a function that is
            called with trainings done and of all.
        **options: Fields of `JudgeSettings`.

    Returns:
        See `closedloop.analysis.judged_treatments`.

    Raises:
        InvalidArgumentError: An option does not fit; nothing is written.
        RecordingError: The folder exists, or cannot be written.
    """
    require("torch", "networks", "judge")
    told = read_settings(JudgeSettings, options)
    task = read_task(told.data, told.seed)
    used = fingerprints(images=task.fingerprint)
    experiment = {
        "closedloop": version(),
        "protocol": JUDGE,
        "seed": told.seed,
        TRAINING: asdict(told),
        "fingerprints": used,
    }
    with folder_of(save) as folder:
        return judged_treatments(record(Judging(told, task, folder, progress), experiment, save, exists))


class Judging(Jobs):
    """Treatments under judgement: the course of `judge`, of which a block is one training.

    Args:
        told: What is judged.
        task: That of the first seed.
        folder: Where networks and diagnoses lie.
        progress: Whether progress is shown, or who is told it.
    """

    def __init__(self, told: JudgeSettings, task: Task, folder: Path, progress: Progress = None) -> None:
        self.subject: TestGroups = TestGroups(task)
        self._told, self._task, self._folder = told, task, folder
        network = Network(told.training(), task, told.share, told.weight)
        network.check_layer(told.layer)
        for arm in told.treatments:
            network.check_treatments(_parts(arm))
        jobs = [(told.seed + i, arm) for i in range(told.seeds) for arm in ("", *told.treatments)]
        super().__init__(jobs, as_progress(progress, "judging"))
        self._found = 0

    def layout(self) -> Layout:
        """Returns the shape of the recording: a row for each training."""
        scalars: dict[str, Any] = {
            "subject": self._told.network,
            "data": Path(self._task.name).name,
            "seed": self._told.seed,
            "closedloop_version": version(),
        }
        columns = {"arm": ("str", ""), "run_seed": ("int64", -1)}
        return Layout(
            len(self._jobs), 0, self.subject.units, scalars, columns, variables={"found": Variable("int64", 0)}
        )

    def show(self) -> Shown | None:
        """Trains the next network, or trains one on under the next treatment."""
        if self._done == len(self._jobs):
            return None
        seed, arm = self._jobs[self._done]
        accuracy = self._treated(seed, arm) if arm not in ("", NONE) else self._trained(seed, arm)
        none = np.zeros(1, np.int64)
        return Shown(none, none, accuracy[None])

    def _place(self, seed: int) -> Path:
        return self._folder / f"seed-{seed}"

    def _options(self, seed: int) -> dict[str, Any]:
        """Returns what is said of all trainings of a seed."""
        return {f.name: getattr(self._told, f.name) for f in fields(TreatedSettings)} | {"seed": seed}

    def _trained(self, seed: int, arm: str) -> Any:
        """Trains a network without any treatment, once; returns accuracies before one would begin, or at the end."""
        found = treat(treatment=(NONE,), save=self._place(seed), exists="resume", **self._options(seed))
        before = np.flatnonzero(found["phase"].values == BEFORE)[-1]
        self._found = 0
        return found["accuracy"].values[-1 if arm else before]

    def _treated(self, seed: int, arm: str) -> Any:
        """Trains the network of a seed on under a treatment; returns accuracies at the end."""
        place, options = self._place(seed), self._options(seed)
        if not (place / UNTREATED).is_file():
            self._trained(seed, "")
        treatments, task = _parts(arm), read_task(self._told.data, seed)
        used: dict[str, Any] = {}
        if needs_diagnosis(treatments):
            told = TreatSettings(treatment=(NONE,), **options)
            used["diagnosis"] = str(diagnosis_of(told, task, place))
        if needs_allocation(treatments):
            used["lca"] = str(allocated(place, TreatedSettings(**options).training(), task))
        start = str(place / UNTREATED)
        found = treat(treatment=tuple(arm.split("+")), start=start, **used, **options)
        self._found = int(found.attrs["found"])
        return found["accuracy"].values[-1]

    def learn(self, shown: Shown) -> Rows:
        """Returns the row of a training."""
        seed, arm = self._jobs[self._done]
        coords = {
            "thread": np.array(["training"]),
            "generation": np.array([self._done], np.int32),
            "kind": np.array([AFTER if arm else BEFORE]),
            "stimulus_id": np.array([f"seed-{seed}-{arm or BEFORE}"]),
            "repeat": np.zeros(1, np.int32),
            "onset_s": np.array([float(self._done)]),
            "arm": np.array([arm]),
            "run_seed": np.array([seed]),
        }
        self._done += 1
        values = {"found": np.array([self._found])}
        return Rows(coords, shown.responses, np.empty((1, 0)), np.full(1, np.nan), variables=values)


def _resume(run: Path, content: Mapping[str, Any], handed: Handed) -> xr.Dataset:
    """Goes on with a judgement; returns what a finished one came to."""
    if not is_finished(run):
        check_complete(run, content, None, TRAINING)
        told = stored_settings(JudgeSettings, content[TRAINING])
        task = read_task(told.data, told.seed)
        check_fingerprints(run, content, fingerprints(images=task.fingerprint))
        run_course(Judging(told, task, run, handed.progress), Recording.reopen(run))
    return judged_treatments(open_recording(run))


def _summary(run: Path, recording: xr.Dataset) -> RunSummary:
    """Returns a row for each treatment, sentences on those that do not help, and the figure."""
    from closedloop.figures import plot_judgement
    from closedloop.figures.style import whole_figure

    found = judged_treatments(recording)
    words = "Accuracy in the worst group after each treatment."
    figure = RunFigure(lambda: whole_figure(plot_judgement(recording)), words)
    tables = [_accuracies(found), *([_gains(found)] if "worst_gain" in found else [])]
    question = "Which treatments help?"
    return RunSummary(
        tables, _lines(found), {"judgement": figure}, question, steady=False, rows="accuracies of networks"
    )


def _accuracies(found: xr.Dataset) -> RunTable:
    """Returns a row for each treatment: accuracy overall and in the worst group."""
    rows = [["(before)", _range(found, "overall_before"), _range(found, "worst_before"), ""]]
    for i, name in enumerate(found["treatment"].values):
        one = found.isel(treatment=i)
        used = "" if name == NONE else percent(float(one["used"]))
        rows.append([str(name), _range(one, "overall"), _range(one, "worst"), used])
    told = found.attrs
    caption = (
        f"{told['data']}, {told['subject']}; per cent, means over {told['seeds']} seeds with {percent(told['level'])} "
        "t-intervals; used: seeds in which the treatment found something to use"
    )
    return RunTable("Accuracy of the test", ("treatment", "overall", "worst group", "used"), rows, caption)


def _gains(found: xr.Dataset) -> RunTable:
    """Returns a row for each treatment: what it gains in the worst group."""
    rows = []
    for i, name in enumerate(found["treatment"].values):
        one = found.isel(treatment=i)
        if name != NONE:
            other = "worst_over_reweight"
            over = "" if name == REWEIGHT or other not in one else _range(one, other, "+")
            rows.append(
                [
                    str(name),
                    _range(one, "worst_gain", "+"),
                    f"{float(one['p_holm']):.2g}",
                    over,
                    _word(one).replace("no effect", "not"),
                ]
            )
    heads = ("treatment", "over none", "p", "over reweight", "")
    caption = (
        "none: as many steps without a treatment; percentage points, paired by seed, with t-intervals; p: that the "
        "gain over none is 0, corrected for the number of treatments (Holm)"
    )
    return RunTable("Gain in the worst group", heads, rows, caption)


def _range(one: xr.Dataset, name: str, sign: str = "") -> str:
    """Returns a number in per cent with its interval."""
    middle, low, high = (100 * float(one[f"{name}{end}"]) for end in ("", "_low", "_high"))
    if not np.isfinite([low, high]).all():
        return f"{middle:{sign}.1f}"
    return f"{middle:{sign}.1f} [{low:.1f}, {high:.1f}]"


def _word(one: xr.Dataset) -> str:
    return verdict(float(one["worst_gain_low"]), float(one["worst_gain_high"]))


def _lines(found: xr.Dataset) -> list[str]:
    """Says plainly which treatments help the worst group, and which do not."""
    if "worst_gain" not in found:
        return ["Without 'none' among the treatments nothing can be said of what they gain."]
    words: dict[str, list[str]] = {}
    for i, name in enumerate(found["treatment"].values):
        if str(name) != NONE:
            words.setdefault(_word(found.isel(treatment=i)), []).append(str(name))
    said = {
        "helps": "Better in the worst group than as many steps without: {}.",
        "hurts": "Worse in the worst group than as many steps without: {}.",
        "no effect shown": "No effect on the worst group was shown: {}.",
        "not known": "It is not known whether these help, for too few seeds are done, or all gained the same: {}.",
    }
    lines = [said[word].format(", ".join(names)) for word, names in words.items()]
    lower = [str(n) for i, n in enumerate(found["treatment"].values) if float(found["overall_gain_high"][i]) < 0]
    return [*lines, *([f"Overall accuracy falls under: {', '.join(lower)}."] if lower else [])]


def _steps_of(told: JudgeSettings) -> int:
    """Returns about how many steps all trainings of a judgement take; those of diagnoses come on top of it."""
    return told.seeds * (told.steps + told.more * len({*told.treatments, NONE}))


#: What others must know of judgements.
PROTOCOL = RunProtocol(
    JUDGE, _resume, _summary, command="judge", **swept(JUDGE, judge, (JudgeSettings,), steps=_steps_of)
)
