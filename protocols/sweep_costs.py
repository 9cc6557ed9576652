"""What a sweep will take: images per second of one worker, and room on the disk."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from closedloop.loop.experiment import build_subject, build_threads, experiment_of_each, parse_experiment
from closedloop.loop.protocol import EVOLVE, protocol_of
from closedloop.recording.reader import read_pointer
from closedloop.seeds import named_generator

from .sweep_plan import Plan, PlannedRun
from .sweep_work import at_its_end, remaining

#: Finished runs that are looked at, and seconds for which a batch is timed where there are none.
_LOOKED_AT, _SECONDS = 20, 2.0
#: Images of the batch that is timed: about a generation of the default optimizer.
_BATCH = 12
#: Of a run without finished ones beside it: files that are always there, bytes of a row's other columns, and of a PNG
#: of 128 pixels.
_FILES, _ROW_BYTES, _PNG_BYTES = 24, 300, 25_000


@dataclass(frozen=True)
class KindCosts:
    """What is left of the runs of a kind.

    Attributes:
        left: About how many images, or steps, the runs that are left take.
        per_s: Of them, by one worker; 0 where that is not known.
        measured: How that was found, in words.
        whole: Whether all that a run does is in it.
        megabytes: Of all runs of this kind on the disk, about; NaN where that is not known.
        files: Likewise.
    """

    left: int = 0
    per_s: float = 0.0
    measured: str = ""
    whole: bool = True
    megabytes: float = 0.0
    files: int = 0


@dataclass(frozen=True)
class Costs:
    """What is left of a sweep.

    Attributes:
        evolved: Of the runs that evolve images.
        trained: Of the runs that train a network.
    """

    evolved: KindCosts
    trained: KindCosts


def costs(plan: Plan) -> Costs:
    """Returns what is left of a sweep: by what finished runs took, or by a batch of the first run, timed now.

    A batch is timed on generator and subject alone; optimizer, re-tests and disk come on top of it. Of trainings
    nothing is known before one is finished: what a step takes depends on the network, which it makes itself.
    """
    left = {run.id for run in remaining(plan)}
    trainings = {run.id for run in plan.runs if protocol_of(run.content, "plan").trains}
    return Costs(
        _kind_costs(Plan(plan.out, [run for run in plan.runs if run.id not in trainings]), left),
        _kind_costs(Plan(plan.out, [run for run in plan.runs if run.id in trainings]), left),
    )


def _kind_costs(plan: Plan, unfinished: Collection[str]) -> KindCosts:
    """Returns what is left of the runs of one kind."""
    left = [run for run in plan.runs if run.id in unfinished]
    ended = (run for run in plan.runs if run.id not in unfinished and at_its_end(plan.out / run.place))
    done = list(itertools.islice(ended, _LOOKED_AT))
    count = sum(run.images or run.steps for run in left)
    if done:
        rate, measured, megabytes, files = _of_finished(plan, done)
        return KindCosts(count, rate, measured, True, megabytes, files)
    evolutions = [run for run in left if run.content.get("protocol") == EVOLVE]
    if not evolutions:
        return KindCosts(count, megabytes=math.nan if plan.runs else 0.0)
    rate, measured, megabytes, files = _of_first(plan, evolutions[0])
    return KindCosts(count, rate, measured, False, megabytes, files)


def _of_finished(plan: Plan, done: Sequence[PlannedRun]) -> tuple[float, str, float, int]:
    folders = [plan.out / run.place for run in done]
    seconds = sum(float(read_pointer(folder)["elapsed_s"]) for folder in folders)
    sizes = [[file.stat().st_size for file in folder.rglob("*") if file.is_file()] for folder in folders]
    scale = len(plan.runs) / len(done)
    rate = sum(run.images or run.steps for run in done) / max(seconds, 1e-9)
    megabytes = scale * sum(map(sum, sizes)) / 1e6
    return rate, f"as {len(done)} finished runs took", megabytes, round(scale * sum(map(len, sizes)))


def _of_first(plan: Plan, run: PlannedRun) -> tuple[float, str, float, int]:
    content = {name: value for name, value in run.content.items() if name != "each"}
    experiment = parse_experiment(content, "plan")
    subject = build_subject(experiment)
    if run.content.get("each"):
        experiment = experiment_of_each(experiment, subject.units, run.content["each"])
    thread = build_threads(experiment, subject)[0]
    codes = thread.generator.space.sample(_BATCH, named_generator(0, "timed batch"))
    rate = _rate(subject, thread.generator, codes)
    own = 1 if run.content.get("each") else len(subject.units)
    row = 8 * thread.generator.space.dim + 8 * own + _ROW_BYTES
    references = 0 if experiment.references is None else 160  # stored where a plan says nothing
    pictures = run.images / _BATCH + references
    png = _PNG_BYTES * (thread.generator.resolution / 128) ** 2
    bytes_each = run.images * row + references * (8 * len(subject.units) + _ROW_BYTES) + pictures * png
    files = len(plan.runs) * (_FILES + pictures)
    return rate, "generator and subject alone, timed now", len(plan.runs) * bytes_each / 1e6, round(files)


def _rate(subject: Any, generator: Any, codes: Any) -> float:
    """Returns images per second of generator and subject, after one batch that warms them."""
    subject.record(generator(codes))
    began, batches = time.perf_counter(), 0
    while time.perf_counter() - began < _SECONDS:
        subject.record(generator(codes))
        batches += 1
    return batches * len(codes) / (time.perf_counter() - began)
