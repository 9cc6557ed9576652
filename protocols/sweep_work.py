"""The work of a sweep: its list of runs, who does them, how far it is, and what becomes of it."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from closedloop.errors import ClosedLoopError, InvalidArgumentError, RecordingError
from closedloop.files import replace_file
from closedloop.loop.commits import is_finished
from closedloop.loop.experiment import read_yaml
from closedloop.loop.progress import Meter
from closedloop.recording.layout import SWEEP, is_run, writing
from closedloop.signatures import check_fields

from .sweep_local import LocalWorkers, Word, Workers
from .sweep_local import cores as cores
from .sweep_plan import Plan as Plan
from .sweep_plan import PlannedRun, make_plan
from .sweep_runs import BUSY, DONE, FAILED, Outcome, do_run, failure_of, forget_failure, mark_failed

if TYPE_CHECKING:
    import pandas as pd

#: Workers that may die over a run before it counts as failed.
_DEATHS = 3
#: Seconds after which a run that another process was writing is looked at again.
_AGAIN_S = 5.0


@dataclass(frozen=True)
class SweepResult:
    """What became of a sweep.

    Attributes:
        out: Its folder.
        total: Its runs.
        done: Those that are at their end.
        failed: Why others failed, by their ids.
        left: Those that are neither.
        facts: Where each run stands on the plan's axes, by its id.
    """

    out: Path
    total: int
    done: int
    failed: Mapping[str, str] = field(default_factory=dict)
    left: int = 0
    facts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)

    def table(self) -> pd.DataFrame:
        """Returns the catalogue of its runs (`closedloop.catalogue`), with a column ``axis_NAME`` for each axis."""
        from closedloop.analysis.sweeps import sweep_table

        return sweep_table(self.out)


def read_plan(plan: Mapping[str, Any] | str | Path, out: str | Path | None = None) -> Plan:
    """Returns a plan expanded into its runs; nothing is written.

    Args:
        plan: Its entries, a YAML file, or the list of runs that a sweep keeps in its folder (``sweep.jsonl``).
        out: The folder of the sweep, if not that which the plan names.

    Raises:
        InvalidArgumentError: It cannot be read, names no folder, or a run of it does not fit.
    """
    if isinstance(plan, Mapping):
        return make_plan(plan, _folder(out, plan.get("out"), Path()))
    path = Path(plan)
    if path.is_dir():
        path = path / SWEEP
    if path.suffix == ".jsonl":
        return Plan(Path(out) if out is not None else path.parent, read_runs(path))
    content = read_yaml(path)
    return make_plan(content, _folder(out, content.get("out"), path.parent), str(path), path.parent)


def _folder(given: str | Path | None, named: Any, beside: Path) -> Path:
    if given is not None:
        return Path(given)
    if not isinstance(named, str) or not named:
        raise InvalidArgumentError(f"out: expected the folder of the sweep, such as out: runs/sweep, got {named!r}.")
    return beside / named


def read_runs(path: Path) -> list[PlannedRun]:
    """Returns the runs that a sweep's folder lists.

    Raises:
        InvalidArgumentError: There is no list, or it cannot be read.
    """
    try:
        return [PlannedRun(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError, TypeError) as error:
        raise InvalidArgumentError(f"plan: cannot read {path} as the runs of a sweep ({error}).") from error


def write_runs(plan: Plan) -> Path:
    """Lists the runs of a plan in the folder of its sweep; the same list is left as it is."""
    path = plan.out / SWEEP
    lines = (
        json.dumps(
            {"id": r.id, "content": r.content, "facts": r.facts, "images": r.images, "steps": r.steps}, sort_keys=True
        )
        for r in plan.runs
    )
    text = "".join(f"{line}\n" for line in lines).encode()
    with writing(plan.out):
        plan.out.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_bytes() != text:
            replace_file(path, text)
    return path


def hired(scheduler: Any, count: int) -> Workers:
    """Returns who does the runs."""
    if scheduler is not None:
        from .sweep_dask import DaskWorkers

        return DaskWorkers(scheduler, count)
    return LocalWorkers(count) if count else Here()


@final
class Here:
    """This process, as a worker: it does a run when it is handed one."""

    def __init__(self) -> None:
        self._words: list[Word] = []

    @property
    def room(self) -> int:
        """One run, when the last one was heard of."""
        return 0 if self._words else 1

    def start(self, run: PlannedRun, folder: Path) -> None:
        """Does a run."""
        self._words.append((run.id, do_run(run.id, run.content, folder)))

    def hear(self, seconds: float) -> Sequence[Word]:
        """Returns what became of it."""
        words, self._words = self._words, []
        if not words:
            time.sleep(seconds)
        return words

    def why(self) -> str:
        """Returns nothing: it has not died."""
        return ""

    def close(self) -> None:
        """Does nothing."""


@dataclass
class Standing:
    """How far a sweep is.

    Attributes:
        total: Its runs.
        done: Images, or steps of training, of the runs that are at their end, by id.
        failed: Why runs failed, by id.
        running: Images evolved, or steps trained, so far in the runs that are under way, by id.
        busy: When runs that others are writing were found so, in seconds of a clock, by id.
    """

    total: int
    done: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    running: dict[str, int] = field(default_factory=dict)
    busy: dict[str, float] = field(default_factory=dict)


def drive(
    plan: Plan,
    hire: Callable[[], Workers],
    retry: bool = False,
    told: Callable[[Standing], None] | None = None,
    every_s: float = 0.5,
) -> SweepResult:
    """Does the runs of a plan by some workers, until each is at its end or has failed.

    Args:
        plan: The sweep.
        hire: Returns the workers; it is not called where nothing is left to do.
        retry: Whether runs that failed before are tried again.
        told: Is called with how far it is.
        every_s: Seconds after which it is called again, at the latest.
    """
    where = Standing(len(plan.runs))
    known = {run.id: run for run in plan.runs}
    left = deque(_remaining(plan, where, retry))
    if told is not None:
        told(where)
    if left:
        workers = hire()
        try:
            _Drive(plan.out, known, left, where, workers).run(told, every_s)
        finally:
            workers.close()
            if told is not None and hasattr(told, "stop"):
                told.stop()
    elif told is not None and hasattr(told, "stop"):
        told.stop()
    return _result(plan, where)


def _result(plan: Plan, where: Standing) -> SweepResult:
    left = where.total - len(where.done) - len(where.failed)
    facts = {run.id: run.facts for run in plan.runs}
    return SweepResult(plan.out, where.total, len(where.done), dict(where.failed), left, facts)


def standing(plan: Plan) -> SweepResult:
    """Returns how far a sweep is, from its folder alone; nothing is changed."""
    where = Standing(len(plan.runs))
    _remaining(plan, where, retry=False, touch=False)
    return _result(plan, where)


def remaining(plan: Plan) -> list[PlannedRun]:
    """Returns the runs of a plan that are neither at their end nor failed; nothing is changed."""
    return _remaining(plan, Standing(len(plan.runs)), retry=False, touch=False)


def _remaining(plan: Plan, where: Standing, retry: bool, touch: bool = True) -> list[PlannedRun]:
    """Returns the runs that are neither at their end nor failed; and notes those that are."""
    left = []
    for run in plan.runs:
        folder = plan.out / run.place
        if at_its_end(folder):
            where.done[run.id] = run.images or run.steps
            continue
        if why := failure_of(folder):
            if not retry or not touch:
                where.failed[run.id] = why
                continue
            forget_failure(folder)
        left.append(run)
    return left


def at_its_end(folder: Path) -> bool:
    """Tells whether a run is finished, and not damaged."""
    try:
        return is_run(folder) and is_finished(folder)
    except ClosedLoopError:  # damaged: who goes on with it says how
        return False


class _Drive:
    """The runs that are left, between those who do them."""

    def __init__(
        self,
        out: Path,
        known: Mapping[str, PlannedRun],
        left: deque[PlannedRun],
        where: Standing,
        workers: Workers,
    ) -> None:
        self._out, self._known, self._left, self._where, self._workers = out, known, left, where, workers
        self._deaths: dict[str, int] = {}

    def run(self, told: Callable[[Standing], None] | None, every_s: float) -> None:
        """Hands runs over until none is left, and hears what becomes of them."""
        while self._left or self._where.running or self._where.busy:
            self._look_again()
            self._hand_over()
            if told is not None:
                told(self._where)
            for word in self._workers.hear(every_s):
                self._take(*word)
        if told is not None:
            told(self._where)

    def _look_again(self) -> None:
        """Takes up the runs that others were writing, some seconds ago."""
        now = time.monotonic()
        for identity in [i for i, since in self._where.busy.items() if now - since >= _AGAIN_S]:
            del self._where.busy[identity]
            run, folder = self._known[identity], self._out / self._known[identity].place
            if at_its_end(folder):
                self._where.done[identity] = run.images or run.steps
            elif why := failure_of(folder):
                self._where.failed[identity] = why
            else:
                self._left.append(run)

    def _hand_over(self) -> None:
        room = self._workers.room if self._left else 0
        for _ in range(min(room, len(self._left))):
            run = self._left.popleft()
            self._where.running[run.id] = 0
            self._workers.start(run, self._out / run.place)

    def _take(self, identity: str, said: int | Outcome | None) -> None:
        """Notes what was said of a run."""
        if isinstance(said, int):
            self._where.running[identity] = said
            return
        self._where.running.pop(identity, None)
        if said is None:
            said = self._died(identity)
        if said is None:
            return
        if said.state == BUSY:
            self._where.busy[identity] = time.monotonic()
        elif said.state == DONE:
            self._where.done[identity] = self._known[identity].images or self._known[identity].steps
        else:
            self._where.failed[identity] = said.reason

    def _died(self, identity: str) -> Outcome | None:
        """Lets a run whose worker died be done again, but not for ever."""
        self._deaths[identity] = self._deaths.get(identity, 0) + 1
        if self._deaths[identity] < _DEATHS:
            self._left.append(self._known[identity])
            return None
        why = f"{_DEATHS} workers died over it, one after the other; the last words of workers: {self._words()}"
        outcome = Outcome(identity, FAILED, why)
        mark_failed(self._out / self._known[identity].place, outcome)
        return outcome

    def _words(self) -> str:
        why = getattr(self._workers, "why", None)
        return (why() if callable(why) else "") or "none"


@final
class SweepMeter:
    """Says how far a sweep is: runs done, running and failed, images or steps per second, time left.

    Of a sweep that both evolves and trains runs are counted, since neither tells how long the other takes.

    Args:
        plan: The sweep.
        meter: Makes what shows it, given a word and the total.
    """

    def __init__(self, plan: Plan, meter: Callable[[str, int], Any] = Meter) -> None:
        kinds = {"images" if run.images else "steps" if run.steps else "runs" for run in plan.runs}
        self._by_runs = len(kinds) != 1
        self._work = {run.id: 1 if self._by_runs else run.images or run.steps or 1 for run in plan.runs}
        self._total = max(sum(self._work.values()), 1)
        said = "runs" if self._by_runs else next(iter(kinds))
        self._meter = meter("sweep" if said == "images" else f"sweep, {said}", self._total)
        self._begun = False

    def __call__(self, where: Standing) -> None:
        """Shows it."""
        done = sum(self._work.get(identity, 0) for identity in (*where.done, *where.failed))
        done += 0 if self._by_runs else sum(where.running.values())
        if not self._begun:
            self._meter.start(done)
            self._begun = True
        parts = [f"{len(where.done)} of {where.total} runs", f"{len(where.running)} running"]
        parts += [f"{len(where.busy)} elsewhere"] * bool(where.busy) + [f"{len(where.failed)} failed"] * bool(
            where.failed
        )
        self._meter.move(min(done, self._total), facts=", ".join(parts))

    def stop(self) -> None:
        """Leaves the bar as it is."""
        self._meter.stop()


def run_one(plan: Plan, identity: str) -> Outcome:
    """Does one run of a plan in this process, as a job of a cluster does.

    Args:
        plan: The sweep.
        identity: The run's name, the beginning of one, or its number in the plan, counted from 0.

    Raises:
        InvalidArgumentError: The plan has no such run, or several.
        RecordingError: Another process is writing it.
    """
    if identity.isdigit() and len(identity) < 8:
        if int(identity) >= len(plan.runs):
            raise InvalidArgumentError(f"only: expected a number below {len(plan.runs)}, got {identity}.")
        found = [plan.runs[int(identity)]]
    else:
        found = [run for run in plan.runs if run.id.startswith(identity)]
    if len(found) != 1:
        raise InvalidArgumentError(f"only: expected the name of one run, got {identity!r}, that of {len(found)}.")
    outcome = do_run(found[0].id, found[0].content, plan.out / found[0].place)
    if outcome.state == BUSY:
        raise RecordingError(f"{plan.out / found[0].place}: another process is writing this run.")
    return outcome
