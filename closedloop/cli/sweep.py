"""``closedloop sweep``: many runs as one, on this computer or a cluster, or as a list of commands."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from closedloop.cli.console import Meter, console, say, tell
from closedloop.cli.options import Command
from closedloop.errors import InvalidArgumentError
from closedloop.loop.settings import option, settings

if TYPE_CHECKING:
    from closedloop.protocols import SweepResult
    from closedloop.protocols import sweep_costs as costs
    from closedloop.protocols import sweep_work as work

#: Reasons of failures that the terminal shows, and letters of each.
_REASONS, _LETTERS = 8, 300


@settings
class SweepPart:
    """Who does the runs of a sweep."""

    out: Path | None = option(default=None, metavar="FOLDER", shown="the plan's", help="Folder of the sweep.")
    workers: int | None = option(
        default=None,
        least=0,
        shown="one for each core",
        help="Processes of this computer, each pinned to a core and computing with one thread; 0 for this one.",
    )
    scheduler: str | None = option(
        default=None,
        metavar="ADDRESS",
        shown="none",
        help="A Dask scheduler, such as tls://head:8786, or 'local' for a cluster of this computer (extra sweep).",
    )
    retry: bool = option(default=False, help="Try runs that failed before once more.")
    dry_run: bool = option(default=False, help="Say how many runs, images, minutes and how much disk it takes.")
    list: bool = option(
        default=False, help="Print a command for each run that is left, for any other queue or cluster, and end."
    )
    only: str | None = option(
        default=None, metavar="RUN", shown="all", help="Do one run in this process: its name, or its number from 0."
    )


def sweep(
    plan: Annotated[
        Path, typer.Argument(metavar="SWEEP.yaml", help="The plan; or the folder of a sweep that was begun.")
    ],
    given: Mapping[str, Any],
) -> None:
    """Do many runs as one: units × seeds × generators × optimizers × noises, each begun or gone on with."""
    from closedloop.protocols import sweep_work

    asked = SweepPart(**given)
    with console.status("Reading the plan …"):
        made = sweep_work.read_plan(plan, asked.out)
    if asked.dry_run:
        _say_costs(made, sweep_work.standing(made), asked)
        return
    sweep_work.write_runs(made)
    if asked.list:
        _list(made, asked.retry)
        return
    if asked.only is not None:
        outcome = sweep_work.run_one(made, asked.only)
        say(f"{outcome.id}: {outcome.state}{f': {outcome.reason}' if outcome.reason else ''}")
        raise SystemExit(1 if outcome.reason else 0)
    count = len(sweep_work.cores()) if asked.workers is None else asked.workers
    say(f"Sweep: {made.out}, {made.work}")
    hire = partial(sweep_work.hired, asked.scheduler, count)
    result = sweep_work.drive(made, hire, asked.retry, sweep_work.SweepMeter(made, Meter))
    say_result(result, plan, ["--out", str(asked.out)] if asked.out is not None else [])
    if result.failed:
        raise SystemExit(1)


COMMAND = Command(sweep, (SweepPart,))


def say_result(result: SweepResult, plan: Path, options: Sequence[str] = ()) -> None:
    """Says how a sweep ended, why runs failed, and what to do next with the same options."""
    say(f"{result.done:,} of {result.total:,} runs done, {len(result.failed):,} failed, {result.left:,} left")
    say_reasons({result.out / identity[:2] / identity[2:4] / identity: why for identity, why in result.failed.items()})
    if result.failed:
        say(f"Again:  {shlex.join(['closedloop', 'sweep', str(plan), *options, '--retry'])}")
    say(f"Table:  {shlex.join(['closedloop', 'runs', str(result.out)])}")
    say(f"Report: {shlex.join(['closedloop', 'report', str(result.out)])}")


def say_reasons(failed: Mapping[Path, str]) -> None:
    """Says why runs failed, given the reasons by their folders; those that are alike as one."""
    reasons = Counter(_reason(folder, why) for folder, why in failed.items())
    for why, count in reasons.most_common(_REASONS):
        tell(f"  {count} × {why}")
    if len(reasons) > _REASONS:
        tell(f"  … and {len(reasons) - _REASONS} other reasons; each stands beside its run's folder, *.failed.json")


def _reason(folder: Path, why: str) -> str:
    """Returns why a run failed, without the place of its folder: so that the same reasons of several are one."""
    for place in (folder.resolve(), folder):
        why = why.replace(str(place), "its folder")
    return " ".join(why.split())[:_LETTERS]


def _list(plan: work.Plan, retry: bool) -> None:
    """Prints the command of each run that is not at its end; of those that failed before, if they are tried again."""
    from closedloop.protocols import sweep_work

    failed = sweep_work.standing(plan).failed
    left = {run.id for run in sweep_work.remaining(plan)} | (failed.keys() if retry else set())
    for run in plan.runs:
        if run.id in left:
            say(shlex.join(["closedloop", "sweep", str(plan.out), "--only", run.id]))
    # Beside the list, which others read.
    if failed and not retry:
        typer.echo(
            f"{len(failed):,} of {len(plan.runs):,} runs failed before and are not listed; with them: --list --retry",
            err=True,
        )
    elif not left:
        typer.echo(f"nothing to list: all {len(plan.runs):,} runs are done", err=True)


def _minutes(what: str, kind: costs.KindCosts, workers: int) -> str:
    """Says how long the runs of a kind take: with so many workers, or with 0 by one of those of a cluster."""
    if not kind.per_s > 0:
        return f"those of {kind.left:,} {what} are known when one run of them is finished"
    minutes = kind.left / kind.per_s / 60 / max(workers, 1)
    who = f"{workers} worker{'s' * (workers != 1)}" if workers else "a worker"
    rate = f"{kind.per_s:.0f}" if kind.per_s >= 10 else f"{kind.per_s:.2g}"
    least = "" if kind.whole else "at least "
    return f"{least}{math.ceil(10 * minutes) / 10:.1f} with {who} at {rate} {what}/s each ({kind.measured})"


def _disk(kinds: Sequence[costs.KindCosts]) -> str:
    """Returns how much room all runs take, and of which that is not known."""
    known = [kind for kind in kinds if kind.files]
    said = [f"{sum(kind.megabytes for kind in known):,.0f} MB, {sum(kind.files for kind in known):,} files"]
    unknown = "not known before one run is finished" if not known else "and more by runs of which none is finished"
    return ", ".join(said * bool(known) + [unknown] * any(math.isnan(kind.megabytes) for kind in kinds))


def _say_costs(plan: work.Plan, now: SweepResult, asked: SweepPart) -> None:
    """Says what a sweep will take, as far as that is known before."""
    from closedloop.protocols import sweep_costs, sweep_work

    if asked.list or asked.only is not None:
        raise InvalidArgumentError("dry_run: expected it alone, got it with --list or --only.")
    with console.status("Timing one batch of images …"):
        found = sweep_costs.costs(plan)
    workers = len(sweep_work.cores()) if asked.workers is None else max(asked.workers, 1)
    say(f"Sweep:   {plan.out}")
    say(f"Runs:    {len(plan.runs):,} ({now.done:,} done, {len(now.failed):,} failed before)")
    both = [("images", found.evolved), ("steps", found.trained)]
    if plan.images or not plan.steps:
        say(f"Images:  {plan.images:,}, {found.evolved.left:,} of them left")
    if plan.steps:
        say(f"Steps:   {plan.steps:,} of training, {found.trained.left:,} of them left")
    for what, kind in both:
        if kind.left or kind.per_s > 0:
            say(f"Minutes: {_minutes(what, kind, 0 if asked.scheduler else workers)}")
    say(f"Disk:    {_disk([kind for _, kind in both])}")
    axes = {name: len({run.facts.get(name, "") for run in plan.runs}) for run in plan.runs for name in run.facts}
    say("Axes:    " + (", ".join(f"{name} {count}" for name, count in axes.items()) or "none"))
