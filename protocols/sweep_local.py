"""Workers of a sweep on this computer: processes that each do one run at a time, on a core of their own.

A worker is a fresh Python with one compute thread, told by its environment before anything is imported. It reads a line
of JSON for each run and answers in lines; so it depends on nothing of the program that began the sweep. Where that
program dies, its workers end: a run loses at most the block that was under way. Where a worker dies, its run is done
again by another.
"""

from __future__ import annotations

import json
import os
import queue
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, Protocol, final

from .sweep_plan import PlannedRun
from .sweep_runs import Outcome, do_run

#: Variables that say to libraries how many threads they may compute with.
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)

#: What a worker said of a run: how many images it has evolved, or what became of it; or that the worker died over it.
Word = tuple[str, int | Outcome | None]


class Workers(Protocol):
    """Who does the runs of a sweep."""

    @property
    def room(self) -> int:
        """How many more runs can be handed over now."""
        ...

    def start(self, run: PlannedRun, folder: Path) -> None:
        """Hands a run over."""
        ...

    def hear(self, seconds: float) -> Sequence[Word]:
        """Returns what was heard of runs, after so many seconds at the latest."""
        ...

    def close(self) -> None:
        """Ends them; runs under way can be gone on with."""
        ...


def cores() -> list[int]:
    """Returns the numbers of the cores that this process may use; where no one can tell, as many as there are."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


@final
class LocalWorkers:
    """Processes of this computer.

    Args:
        count: How many; more than there are cores share them.
    """

    def __init__(self, count: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the workers
        places = cores()
        self._idle = [_Process(places[number % len(places)], self._log) for number in range(count)]
        self._working: dict[str, _Process] = {}
        for process in self._idle:
            self._watch(process)

    def _watch(self, process: _Process) -> None:
        self._selector.register(process.stream, selectors.EVENT_READ, process)

    @property
    def room(self) -> int:
        """How many workers have nothing to do."""
        return len(self._idle)

    def start(self, run: PlannedRun, folder: Path) -> None:
        """Hands a run to a worker, if possible to the one that did one of the same subject last."""
        subject = run.inner
        process = next((p for p in self._idle if p.subject == subject), self._idle[0])
        self._idle.remove(process)
        process.subject = subject
        self._working[run.id] = process
        process.tell({"id": run.id, "content": run.content, "folder": str(folder)})

    def hear(self, seconds: float) -> Sequence[Word]:
        """Returns what workers said; one that died is replaced."""
        words: list[Word] = []
        for key, _ in self._selector.select(seconds):
            process: _Process = key.data
            lines = process.lines()
            for line in lines or ():
                words.append(word := _word(line))
                if isinstance(word[1], Outcome):
                    del self._working[word[0]]
                    self._idle.append(process)
            if lines is None:
                words += self._replaced(process)
        return words

    def _replaced(self, process: _Process) -> list[Word]:
        """Puts a new worker in the place of one that died; returns the run that it died over."""
        self._selector.unregister(process.stream)
        process.end(0)
        over = [identity for identity, other in self._working.items() if other is process]
        for identity in over:
            del self._working[identity]
        if process in self._idle:
            self._idle.remove(process)
        time.sleep(0 if over else 0.2)  # one that cannot even begin is not begun again and again at once
        self._idle.append(fresh := _Process(process.core, self._log))
        self._watch(fresh)
        return [(identity, None) for identity in over]

    def why(self) -> str:
        """Returns the last lines that workers wrote on standard error."""
        self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, self._log.tell() - 2000))
        return self._log.read().decode(errors="replace").strip()

    def close(self) -> None:
        """Ends all workers."""
        everyone = [*self._idle, *self._working.values()]
        for process in everyone:
            process.ask_to_end()
        until = time.monotonic() + 5.0  # seconds to end
        for process in everyone:
            with suppress(KeyError, ValueError):
                self._selector.unregister(process.stream)
            process.end(max(0.0, until - time.monotonic()))
        self._selector.close()
        self._log.close()
        self._idle, self._working = [], {}


def _word(line: str) -> Word:
    said = json.loads(line)
    return (said["id"], int(said["images"])) if "state" not in said else (said["id"], Outcome(**said))


@final
class _Process:
    """One worker.

    Args:
        core: That it computes on.
        log: Where its standard error goes.
    """

    def __init__(self, core: int, log: IO[bytes]) -> None:
        self.core, self.subject = core, ""
        self._left = b""
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import main; main()", str(core)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, **dict.fromkeys(_THREADS, "1")},
            start_new_session=True,  # Ctrl-C is for the sweep, which then ends its workers
        )
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("a worker without pipes")
        self._stdin, self.stream = self._process.stdin, self._process.stdout
        os.set_blocking(self.stream.fileno(), False)

    def tell(self, task: Mapping[str, Any]) -> None:
        """Hands a run over; of a worker that has just died `lines` says so."""
        with suppress(OSError):
            self._stdin.write((json.dumps(task) + "\n").encode())
            self._stdin.flush()

    def lines(self) -> list[str] | None:
        """Returns what it has said since; None where it has ended."""
        try:
            data = os.read(self.stream.fileno(), 1 << 16)
        except BlockingIOError:
            return []
        if not data:
            return None
        *whole, self._left = (self._left + data).split(b"\n")
        return [line.decode() for line in whole if line]

    def ask_to_end(self) -> None:
        """Lets it end: what it reads from is closed."""
        with suppress(OSError):
            self._stdin.close()

    def end(self, seconds: float) -> None:
        """Waits for its end, and makes it end after so many seconds."""
        self.ask_to_end()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.stream.close()


def main() -> None:
    """Is a worker: does the runs that standard input names, until that is closed."""
    core = int(sys.argv[1])
    if hasattr(os, "sched_setaffinity"):
        with suppress(OSError):
            os.sched_setaffinity(0, {core})
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    tasks: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(tasks,), daemon=True, name="closedloop-tasks").start()
    while True:
        task = json.loads(tasks.get())
        identity = task["id"]

        def told(images: int, identity: str = identity) -> None:
            answers.write(json.dumps({"id": identity, "images": images}) + "\n")

        outcome = do_run(identity, task["content"], Path(task["folder"]), told)
        answers.write(json.dumps(asdict(outcome)) + "\n")


def _read(tasks: queue.SimpleQueue[str]) -> None:
    """Reads what is to be done; ends the worker when who began it is gone, whatever it is doing."""
    for line in sys.stdin:
        tasks.put(line)
    os._exit(0)  # a run under way loses the block that is not committed, and no more
