"""Starts runs that a page asks for, in processes of their own, a few at a time.

A job is the command line that a person would type, without a shell: ``closedloop evolve --subject … --out FOLDER``. Its
run is a run like any other; it is followed as such, can be asked to end, and goes on after an interruption.
"""

from __future__ import annotations

import atexit
import json
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, final

from closedloop.analysis.run_index import run_id
from closedloop.interfaces import Subject
from closedloop.loop.noise import noise_word, unwrap
from closedloop.loop.progress import stream
from closedloop.loop.settings import Timing
from closedloop.recipes import OBJECT, has_option, names, recipe
from closedloop.recording.layout import is_run
from closedloop.viewer.asked import RequestError, absent, entry_whole

#: Jobs that run at the same time, and that wait at most.
AT_ONCE, WAITING = 1, 20
#: Seconds that a job is given to end when the viewer ends, which is to take 2 s at most on a busy computer, too.
_GRACE_S = 0.6
#: What a page may ask for.
ENTRIES = ("protocol", "layer", "unit", "images", "seed", "generator", "optimizer", "method", "steps")
#: What a job can be.
PROTOCOLS = ("evolve", "ascend")
#: Numbers that may be given, and between what.
_NUMBERS = {
    "evolve": {"images": (1, 1_000_000), "seed": (0, 2**62)},
    "ascend": {"steps": (1, 100_000), "seed": (0, 2**62)},
}
#: Names that may be given, and of what; those of methods are nobody's entry points.
_NAMES = {
    "evolve": {"generator": "generators", "optimizer": "optimizers"},
    "ascend": {"generator": "generators", "method": ""},
}


@dataclass
class Job:
    """One run that a page asked for.

    Attributes:
        number: Tells it from others of this viewer.
        words: Its command line, after the program's name.
        folder: Of its run.
        run: The run's id in the index.
        title: What it does, in words.
        state: "queued", "running", "finished", "failed" or "cancelled".
        error: What its process said last, where it failed.
    """

    number: int
    words: Sequence[str]
    folder: Path
    run: str
    title: str
    state: str = "queued"
    error: str = ""
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def plain(self) -> dict[str, Any]:
        """Returns what a page shows of it."""
        told = {"id": self.number, "run": self.run, "title": self.title, "state": self.state, "error": self.error}
        return {**told, "begun": is_run(self.folder)}


@final
class Jobs:
    """The jobs of a viewer.

    Args:
        subject: What the viewer shows; runs are of this one alone.
        folder: Where runs go; it is made when the first begins.
        program: What starts the command line.
    """

    def __init__(
        self, subject: Subject | None, folder: Path, program: Sequence[str] = (sys.executable, "-m", "closedloop")
    ) -> None:
        self._subject, self._folder, self._program = subject, folder, tuple(program)
        self._jobs: list[Job] = []
        self._changed = threading.Condition()
        self._closed = False

    def start(self, asked: Mapping[str, Any]) -> Job:
        """Puts a job into the queue.

        Args:
            asked: ``protocol``, ``layer``, ``unit`` and what else stands in `ENTRIES`.

        Raises:
            RequestError: Something in it is not known, or there are too many.
        """
        words, title = command(self._subject, asked)
        with self._changed:
            if is_run(self._folder):
                raise RequestError("this viewer shows one run; start it with a folder of runs to begin others.", 409)
            if self._closed:
                raise RequestError("the viewer is ending; nothing is started any more.", 409)
            if sum(job.state == "queued" for job in self._jobs) >= WAITING:
                raise RequestError(f"{WAITING} runs wait already; try again when some are over.", 429)
            number = len(self._jobs) + 1
            folder = _new_folder(self._folder, title, {job.folder for job in self._jobs})
            job = Job(number, (*words, "--out", str(folder)), folder, run_id(folder.name), title)
            self._jobs.append(job)
            if number == 1:
                atexit.register(self.close)
        threading.Thread(target=self._work, args=(job,), name=f"closedloop job {number}", daemon=True).start()
        return job

    def _work(self, job: Job) -> None:
        """Waits for its turn, and for its process."""
        with tempfile.TemporaryFile() as said:
            with self._changed:
                self._changed.wait_for(lambda: job.state != "queued" or self._turn(job))
                process = self._begin(job, said) if job.state == "queued" else None
            code = None if process is None else process.wait()
            with self._changed:
                if job.state == "running":
                    job.state, job.error = ("finished", "") if code == 0 else ("failed", _last_words(said, code))
                self._changed.notify_all()

    def _turn(self, job: Job) -> bool:
        """Returns whether a job is the next, and there is room for it."""
        waiting = [other for other in self._jobs if other.state == "queued"]
        running = sum(j.process is not None and j.process.returncode is None for j in self._jobs)  # cancelled ones, too
        return running < AT_ONCE and bool(waiting) and waiting[0] is job

    def _begin(self, job: Job, said: IO[bytes]) -> subprocess.Popen[bytes] | None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            process = subprocess.Popen(
                [*self._program, *job.words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                start_new_session=True,  # Ctrl-C is for the viewer, which ends them itself
            )
        except OSError as error:
            job.state, job.error = "failed", str(error)
            return None
        job.state, job.process = "running", process
        return process

    def find(self, number: int) -> Job:
        """Returns a job.

        Raises:
            RequestError: There is none of this number; status 404.
        """
        found = next((job for job in self._jobs if job.number == number), None)
        if found is None:
            raise absent(f"job: there is no job {number}.")
        return found

    def of_run(self, run: str) -> Job | None:
        """Returns the job that makes a run, by the run's id; None for a run of others."""
        return next((job for job in self._jobs if job.run == run), None)

    def all(self) -> list[dict[str, Any]]:
        """Returns all jobs, the newest first."""
        return [job.plain() for job in reversed(self._jobs)]

    def cancel(self, job: Job) -> None:
        """Takes a job out of the queue, or interrupts it; what its run has committed is safe."""
        with self._changed:
            if job.state in ("queued", "running"):
                job.state = "cancelled"
                if job.process is not None:
                    job.process.terminate()
                self._changed.notify_all()

    def close(self) -> None:
        """Interrupts all that run, and says how they go on."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
        running = [job for job in self._jobs if job.state == "running"]
        for job in self._jobs:
            self.cancel(job)
        for job in running:
            _ended(job)
        atexit.unregister(self.close)
        if running:
            lines = "".join(f"\n  closedloop resume {job.folder}" for job in running)
            count = f"{len(running)} run{'s' * (len(running) > 1)}"
            stream().write(
                f"The viewer ended {count} that it had started; what is finished is safe. Go on with:{lines}\n"
            )


def _ended(job: Job) -> None:
    """Waits until the process of a job has ended; a stubborn one is killed, which its run survives."""
    if job.process is not None:
        try:
            job.process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            job.process.kill()
            job.process.wait()


def command(subject: Subject | None, asked: Mapping[str, Any]) -> tuple[list[str], str]:
    """Returns the command line of a job, but for its folder, and what it does in words.

    Raises:
        RequestError: Something that was asked for is not known.
    """
    protocol = asked.get("protocol", PROTOCOLS[0])
    if protocol not in PROTOCOLS:
        raise RequestError(f"protocol: expected one of {', '.join(PROTOCOLS)}, got {str(protocol)[:40]!r}.")
    known = ("protocol", "layer", "unit", *_NUMBERS[protocol], *_NAMES[protocol])
    for name in asked:
        if name not in known:
            raise RequestError(f"{str(name)[:40]}: {protocol} takes no such entry; it takes {', '.join(known)}.")
    where, place = _where(subject, asked)
    words = [protocol, *where]
    for name, (least, most) in _NUMBERS[protocol].items():
        if name in asked:
            words += [f"--{name}", str(entry_whole(asked, name, least, least, most))]
    for name, kind in _NAMES[protocol].items():
        if name in asked:
            words += [f"--{name}", _named(name, asked[name], kind)]
    return words, f"{protocol} {place}"


def _where(subject: Subject | None, asked: Mapping[str, Any]) -> tuple[list[str], str]:
    """Returns the options that name subject, layer and unit, and words for the last two."""
    if subject is None:
        raise RequestError("subject: this viewer shows none; start it with --subject.", 409)
    if recipe(subject)["name"] == OBJECT:
        raise RequestError("subject: it is a Python object without a name, which no other process can load.", 409)
    inner, noise = unwrap(recipe(subject))
    own = {option: value for option, value in inner.items() if option not in ("name", "layer", "units", "engine")}
    name = str(inner["name"])
    words = ["--subject", json.dumps({"name": name, **own}) if own else name]  # JSON is YAML
    layered = has_option("subjects", name, "units")
    for wrapper in noise:  # as a person would: with the run's seed, and of a layer's units measured for these
        left = [*(["best"] if layered else []), *(["seed"] if wrapper.get("seed") == Timing.seed else [])]
        words += ["--noise", noise_word(wrapper, left)]
    numbers = r"\d{1,7}|\(\d{1,6}(, ?\d{1,6}){1,2}\)"
    unit = _matching("unit", asked.get("unit"), numbers, "the number of a unit, or (channel, y, x)")
    if not layered:
        if not unit.isdecimal():
            raise RequestError(f"unit: expected the number of a unit of {name}, got {unit!r}.")
        return [*words, "--objective", f"unit({unit})"], f"unit {unit}"
    layer = _matching("layer", asked.get("layer"), r"[\w.#@:/-]{1,200}", "the name of a layer")
    return [*words, "--layer", layer, "--units", unit], f"{layer} {unit}"


def _matching(name: str, value: Any, pattern: str, what: str) -> str:
    text = str(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else ""
    if not re.fullmatch(pattern, text) or text.startswith("-"):
        raise RequestError(f"{name}: expected {what}, got {str(value)[:60]!r}.")
    return text


def _named(name: str, value: Any, kind: str) -> str:
    if not kind:
        return _matching(name, value, r"[a-z0-9-]{1,40}", "a name such as 'lucid'")
    known = names(kind)
    if not isinstance(value, str) or value not in known:
        raise RequestError(f"{name}: expected one of {', '.join(sorted(known))}; got {str(value)[:60]!r}.")
    return value


def _new_folder(runs: Path, title: str, taken: set[Path]) -> Path:
    """Returns a folder of runs that is not there yet, named after what is done in it."""
    name = re.sub(r"[^\w.]+", "-", title).strip("-.")[:80]
    number = 1
    while (folder := runs / f"{name}-{number}").exists() or folder in taken:
        number += 1
    return folder


def _last_words(said: IO[bytes], code: int | None) -> str:
    """Returns the last line that a process said."""
    said.seek(0, 2)
    said.seek(max(0, said.tell() - 4000))
    lines = said.read().decode(errors="replace").strip().splitlines()
    if lines:
        return lines[-1].removeprefix("Error: ")[:600]
    return f"its process ended with status {code} without a word; it may have been killed, or the disk may be full"
