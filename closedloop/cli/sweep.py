"""``closedloop sweep``: many runs as one, on this computer or a cluster, or as a list of commands."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping
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
        _list(made)
        return
    if asked.only is not None:
        outcome = sweep_work.run_one(made, asked.only)
        say(f"{outcome.id}: {outcome.state}{f': {outcome.reason}' if outcome.reason else ''}")
        raise SystemExit(1 if outcome.reason else 0)
    count = len(sweep_work.cores()) if asked.workers is None else asked.workers
    say(f"Sweep: {made.out}, {len(made.runs):,} runs, {made.images:,} images")
    hire = partial(sweep_work.hired, asked.scheduler, count)
    result = sweep_work.drive(made, hire, asked.retry, sweep_work.SweepMeter(made, Meter))
    say_result(result, plan)
    if result.failed:
        raise SystemExit(1)


COMMAND = Command(sweep, (SweepPart,))


def say_result(result: SweepResult, plan: Path) -> None:
    """Says how a sweep ended, why runs failed, and what to do next."""
    say(f"{result.done:,} of {result.total:,} runs done, {len(result.failed):,} failed, {result.left:,} left")
    reasons = Counter(" ".join(why.split())[:_LETTERS] for why in result.failed.values())
    for why, count in reasons.most_common(_REASONS):
        tell(f"  {count} × {why}")
    if len(reasons) > _REASONS:
        tell(f"  … and {len(reasons) - _REASONS} other reasons; each stands beside its run's folder, *.failed.json")
    if result.failed:
        say(f"Again:  {shlex.join(['closedloop', 'sweep', str(plan), '--retry'])}")
    say(f"Table:  {shlex.join(['closedloop', 'runs', str(result.out)])}")
    say(f"Report: {shlex.join(['closedloop', 'report', str(result.out)])}")


def _list(plan: work.Plan) -> None:
    """Prints the command of each run that is neither at its end nor failed."""
    from closedloop.protocols import sweep_work

    for run in sweep_work.remaining(plan):
        say(shlex.join(["closedloop", "sweep", str(plan.out), "--only", run.id]))


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
    say(f"Images:  {plan.images:,}, {found.images_left:,} of them left")
    if found.images_per_s > 0:
        minutes = found.images_left / found.images_per_s / 60
        who = "a worker" if asked.scheduler else f"{workers} worker{'s' * (workers != 1)}"
        each = minutes if asked.scheduler else minutes / workers
        say(f"Minutes: {each:.1f} with {who} at {found.images_per_s:.0f} images/s each ({found.measured})")
    say(f"Disk:    {found.megabytes:,.0f} MB, {found.files:,} files")
    axes = {name: len({run.facts.get(name, "") for run in plan.runs}) for run in plan.runs for name in run.facts}
    say("Axes:    " + (", ".join(f"{name} {count}" for name, count in axes.items()) or "none"))
