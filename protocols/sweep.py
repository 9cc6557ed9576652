"""Many runs as one: units × seeds × generators × optimizers × noises × protocols, on one computer or on many."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from closedloop.checks import check_flag, check_whole
from closedloop.signatures import at_door

from .sweep_work import SweepMeter, SweepResult, cores, drive, hired, read_plan, write_runs


@at_door
def sweep(
    plan: Mapping[str, Any] | str | Path,
    out: str | Path | None = None,
    *,
    workers: int | None = None,
    scheduler: Any = None,
    retry: bool = False,
    progress: bool = True,
) -> SweepResult:
    """Does all runs of a plan: each is begun, or gone on with where it stands, and left alone where it is finished.

    The same call goes on after anything: a killed worker, a lost scheduler, a full disk. Several may work on one plan
    at once, on one computer or many; the lock of a run's folder decides who does it. A run that fails does not end the
    sweep: its reason stands beside its folder, and `retry` tries it again.

    Args:
        plan: Its entries, or the YAML file that holds them; see `protocols/sweep_plan.py` and docs/scale.md.
        out: The folder of the sweep; default that which the plan names, relative to its file.
        workers: Processes of this computer, each pinned to a core and computing with one thread; default one for each
            core, 0 for this process.
        scheduler: Address of a Dask scheduler, "local" for a cluster of this computer, or a cluster of Dask itself,
            such as that of examples/slurm.py; None for plain processes.
        retry: Whether runs that failed before are tried again.
        progress: Whether a bar, or in a log file lines, says on standard error how far it is.

    Raises:
        InvalidArgumentError: The plan cannot be read, a run of it does not fit, or the scheduler is lost.
        RecordingError: The folder cannot be written.
        MissingExtraError: `scheduler` needs the extra "sweep".
    """
    made = read_plan(plan, out)
    check_flag("retry", retry)
    count = len(cores()) if workers is None else check_whole("workers", workers, 0)
    write_runs(made)
    meter = SweepMeter(made) if check_flag("progress", progress) else None
    return drive(made, lambda: hired(scheduler, count), retry, meter)
