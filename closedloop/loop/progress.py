"""How far an experiment is: a bar where a person looks on, plain lines in a log file, both on standard error.

A notebook shows standard error in red, as if something were wrong, so there the bar is on standard output.

A protocol takes ``progress``: True for these, False for silence, or a function that is called with what is done and
of how much.
"""

from __future__ import annotations

import sys
import threading
import time
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from closedloop.errors import InvalidArgumentError, ObserverError, blamed
from closedloop.loop import notices

if TYPE_CHECKING:
    from closedloop.loop.blocks import Generation

#: What a protocol may be told of progress: whether it is shown, or who is told it.
Progress = bool | Callable[..., None] | None
#: Stands before what a person should know at once.
ATTENTION = "Attention: "
#: What a session is doing in each phase.
_PHASES = {"survey": "surveying references", "evolve": "evolving", "select": "re-testing", "confirm": "re-testing"}


def stream() -> TextIO:
    """Returns where bars and lines go: standard error, in a notebook standard output."""
    return sys.stdout if _in_kernel() else sys.stderr


def _in_kernel() -> bool:
    """Says whether this is the kernel of a notebook."""
    return "ipykernel" in sys.modules


class Pace:
    """How fast something goes, and how long it still takes, as far as it was told of."""

    def __init__(self, completed: int = 0) -> None:
        self.first: int = completed
        self._began = self._moved = time.monotonic()
        self._completed = completed

    def move(self, completed: int) -> None:
        """Notes how much is done."""
        if completed != self._completed:
            self._completed, self._moved = completed, time.monotonic()

    def words(self, total: int | None) -> str:
        """Returns the rate, and the time that is left where the total is known; empty before anything was done.

        The rate is that of what is done, so it does not fall while a long part is under way, and the time that is left
        runs down. Where it has run out before the part is done nobody knows what is left, and nothing is said.
        """
        rate = (self._completed - self.first) / max(self._moved - self._began, 1e-9)  # per second
        if not rate > 0:
            return ""
        speed = f"{rate:.0f}/s" if rate >= 10 else f"{rate:.1f}/s" if rate >= 0.1 else f"{60 * rate:.1f}/min"
        left_s = 0.0 if total is None else (total - self._completed) / rate - (time.monotonic() - self._moved)
        return f"{speed}  {duration(left_s)} left" if left_s > 0 else speed


def duration(seconds: float) -> str:
    """Returns seconds as a person says them, such as "40 s", "2 min 40 s", "3 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


class Lines:
    """Plain lines: one at the start, one about every tenth, and one after 30 s at the latest, though nothing moves.

    Args:
        write: Writes a line at once.
        every_s: Seconds after which there is another line, at the latest.
    """

    def __init__(self, write: Callable[[str], None], every_s: float = 30.0) -> None:
        self._write, self._every_s = write, every_s
        self._description, self._completed, self._facts = "", 0, ""
        self._total: int | None = None
        self._tenth, self._said_at, self._pace = -1, 0.0, Pace()
        self._over, self._lock = threading.Event(), threading.Lock()
        self._clock: threading.Thread | None = None

    def begin(self, description: str, completed: int, total: int | None, facts: str = "") -> None:
        """Writes a line of what begins, and counts the rate from now on."""
        with self._lock:
            self._pace, self._tenth = Pace(completed), 10 * completed // total if total else -1
            self._note(description, completed, total, facts)
            self._say()

    def move(self, description: str, completed: int, total: int | None, facts: str = "") -> None:
        """Notes how far it is, and writes a line if one is due."""
        with self._lock:
            if first := self._clock is None:
                self._pace = Pace(completed)
            self._note(description, completed, total, facts)
            tenth = 10 * completed // total if total else -1
            if first or tenth > self._tenth or time.monotonic() - self._said_at >= self._every_s:
                self._tenth = tenth
                self._say()

    def _note(self, description: str, completed: int, total: int | None, facts: str) -> None:
        """Keeps what the next line says, and begins to look at the clock."""
        self._description, self._completed, self._total, self._facts = description, completed, total, facts
        self._pace.move(completed)
        if self._clock is None:
            self._clock = threading.Thread(target=self._tick, daemon=True, name="closedloop-progress")
            self._clock.start()

    def _say(self) -> None:
        """Writes where it is now; of what has no number, what it is."""
        self._said_at = time.monotonic()
        of = f" of {self._total:,}" if self._total else ""
        count = f"{self._completed:,}{of}" if of or self._completed else ""
        said = "  ".join(part for part in (count, self._pace.words(self._total), self._facts) if part)
        self._write(f"{self._description}: {said}" if said else self._description)

    def _tick(self) -> None:
        """Writes a line when none was written for long."""
        while not self._over.wait(max(self._said_at + self._every_s - time.monotonic(), 0.01)):
            with self._lock:
                if not self._over.is_set() and time.monotonic() - self._said_at >= self._every_s:
                    self._say()

    def stop(self) -> None:
        """Ends it; nothing is written any more."""
        with self._lock:
            self._over.set()


class Meter:
    """Says how far something is: a bar on a terminal or in a notebook, plain lines elsewhere. It can be called.

    Args:
        description: What is under way, in a word.
        total: Of how many; None where it is not known yet.
    """

    def __init__(self, description: str, total: int | None = None) -> None:
        self._description, self._total = description, total
        self._bar: Any = None
        self._lines: Lines | None = None

    def start(self, completed: int = 0) -> None:
        """Shows the bar, or the first line; is called by itself when it is first moved."""
        self._show(completed, "")

    def begin(self, description: str, total: int | None, completed: int = 0, facts: str = "") -> None:
        """Begins another part of the work, which has a number and a rate of its own; None for one without a number."""
        self._description, self._total = description, total
        if self._bar is not None:
            self._begin_bar(completed, facts)
        elif self._lines is not None:
            self._lines.begin(description, completed, total, facts)
        else:
            self._show(completed, facts)

    def move(self, completed: int, total: int | None = None, facts: str = "", description: str = "") -> None:
        """Moves on to a number; says a total, facts or another description from now on.

        What has another description and counts to another total is another part of the work.
        """
        word, of = description or self._description, total or self._total
        if word != self._description and of != self._total:
            self.begin(word, of, completed, facts)
            return
        self._description, self._total = word, of
        self._show(completed, facts)

    def __call__(self, completed: int, total: int | None = None, description: str = "") -> None:
        """Moves on, as protocols tell it."""
        self.move(completed, total, description=description)

    def _show(self, completed: int, facts: str) -> None:
        """Draws the bar, at most five times a second, or notes it for the lines."""
        if self._bar is None and self._lines is None:
            self._bar = _new_bar(self._description, self._total, completed)
            self._lines = Lines(_write_line) if self._bar is None else None
            notices.listen(self.attention)
        if self._lines is not None:
            self._lines.move(self._description, completed, self._total, facts)
            return
        bar = self._bar
        bar.total = self._total
        bar.set_description_str(self._description, refresh=False)
        bar.set_postfix_str(facts, refresh=False)
        bar.update(completed - bar.n)

    def _begin_bar(self, completed: int, facts: str) -> None:
        """Has the bar begin anew; one of what has no number stays as it is, under the new word."""
        self._bar.set_description_str(self._description, refresh=False)
        if self._total is not None:
            self._bar.reset(self._total)  # a widget has a length of its own, which only this sets
            self._bar.n = self._bar.initial = self._bar.last_print_n = completed
        completed, self._total = (completed, self._total) if self._total else (self._bar.n, self._bar.total)
        self._show(completed, facts)
        self._bar.refresh()

    def attention(self, text: str) -> None:
        """Prints a notice, above the bar where there is one; see `closedloop.loop.notices`."""
        if self._bar is not None:
            self._bar.write(f"{ATTENTION}{text}", file=stream())
        else:
            _write_line(f"{ATTENTION}{text}")

    def stop(self) -> None:
        """Leaves the bar as it is."""
        notices.leave(self.attention)
        if self._bar is not None:
            self._bar.refresh()
            self._bar.close()
        if self._lines is not None:
            self._lines.stop()
        self._bar = self._lines = None

    def __enter__(self) -> Meter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _new_bar(description: str, total: int | None, completed: int) -> Any:
    """Returns a bar of tqdm; None where it would be seen neither on a terminal nor in a notebook."""
    out = stream()
    if not _in_kernel() and not out.isatty():
        return None
    with warnings.catch_warnings():  # without ipywidgets the bar is of letters, which is no reason to warn
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm

    return tqdm(desc=description, total=total, initial=completed, mininterval=0.2, dynamic_ncols=True, file=out)


def _write_line(line: str) -> None:
    """Writes a line at once; a stream that is closed or full is no reason to end an experiment."""
    try:
        print(line, file=stream(), flush=True)
    except (OSError, ValueError):
        return


def as_progress(progress: Progress, description: str) -> Callable[..., None] | None:
    """Returns who is told of progress: a `Meter` for True, nobody for False or None, else the function itself.

    Raises:
        InvalidArgumentError: It is neither.
    """
    if progress is None or progress is False:
        return None
    if progress is True:
        return Meter(description)
    if not callable(progress):
        raise InvalidArgumentError(f"progress: expected True, False or a function, got {progress!r:.80}.")
    return progress


def begin_progress(progress: Callable[..., None] | None, done: int, total: int) -> None:
    """Shows the bar or the first line of a protocol that begins, or goes on, with so much done."""
    if isinstance(progress, Meter):
        progress.move(done, total)


def move_progress(progress: Callable[..., None] | None, *told: Any) -> None:
    """Tells whoever watches how much is done, of how much, and what was done last.

    Raises:
        ObserverError: A function that was handed over raised.
    """
    if progress is not None:
        with blamed("progress", ObserverError):
            progress(*told)


def end_progress(progress: Callable[..., None] | None) -> None:
    """Ends the bar or the lines of a protocol that is over."""
    if isinstance(progress, Meter):
        progress.stop()


class SessionMeter:
    """Images shown, their rate, best and mean so far, time left: an observer of a session.

    Args:
        meter: Makes what shows it, given a word and the total.
    """

    def __init__(self, meter: Callable[[str, int | None], Any] = Meter) -> None:
        self._make = meter

    def begin(self, session: Any) -> None:
        """Starts the bar where the session stands."""
        self._session, self._phase = session, session.phase
        word, total, done = self._stage()
        self._meter = self._make(word, total)
        self._meter.start(done)

    def generation(self, generation: Generation) -> None:
        """Moves it on, and says what comes next where that is something else."""
        facts = _facts(generation)
        if generation.phase == "evolve":
            self._meter.move(_evolved(self._session), facts=facts)
        before, self._phase = self._phase, self._session.phase
        if _PHASES.get(before) != (word := _PHASES.get(self._phase)) and word is not None:
            _, total, done = self._stage()
            self._meter.begin(word, total, done, facts)

    def _stage(self) -> tuple[str, int | None, int]:
        """Returns what is under way, of how many, and how many of these are done: references, or evolved images.

        How many presentations re-tests take is not said: lost ones are shown again.
        """
        session, word = self._session, _PHASES.get(self._phase, "done")
        if self._phase == "survey" and session.references is not None:
            return word, len(session.references), 0
        evolved = self._phase in ("evolve", "done")
        total = session.settings.images * len(session.evolutions)
        return word, total if evolved else None, _evolved(session) if evolved else 0

    def end(self, session: Any) -> None:
        """Stops the bar."""
        self._meter.stop()


class ImageCount:
    """Tells somebody how many images a session has evolved, after each of its blocks: an observer.

    Args:
        told: Is called with the number.
    """

    def __init__(self, told: Callable[[int], None]) -> None:
        self._told = told

    def begin(self, session: Any) -> None:
        """Tells where the session stands."""
        self._told(_evolved(session))

    def generation(self, generation: Generation) -> None:
        """Tells it."""
        self._told(sum(e.images for e in generation.evolutions))

    def end(self, session: Any) -> None:
        """Does nothing: the end is told by others."""


def _evolved(session: Any) -> int:
    """Counts the presentations of evolved images so far."""
    return sum(e.images for e in session.evolutions)


def _facts(generation: Generation) -> str:
    """Says what was best so far, and the mean of the last generation, of the first thread."""
    history = generation.evolutions[0].history
    if not history:
        return ""
    best = max((s.best for s in history if not np.isnan(s.best)), default=float("nan"))
    return f"best {best:.4g}  mean {history[-1].mean:.4g}"
