"""The terminal: one console, progress, and free names for runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichBar

from closedloop.loop import notices, progress

console: Console = Console(soft_wrap=False)


class Meter(progress.Meter):
    """The same for commands: rich's bar on a terminal, plain lines elsewhere, both on standard output."""

    _task: TaskID

    def _show(self, completed: int, facts: str) -> None:
        """Draws the bar, or notes it for the lines."""
        if self._bar is None and self._lines is None:
            self._start(completed)
        if self._lines is not None:
            self._lines.move(self._description, completed, self._total, facts)
            return
        self._pace.move(completed)
        rate = self._pace.words(self._total).partition("  ")[0]  # the time left has a column of its own
        self._bar.update(
            self._task,
            completed=completed,
            total=self._total,
            description=self._description,
            facts="  ".join(text for text in (rate, facts) if text),
        )

    def _begin_bar(self, completed: int, facts: str) -> None:
        """Has the bar begin anew; one of what has no number stays as it is, under the new word."""
        if self._total is None:
            self._bar.update(self._task, description=self._description, facts=facts)
            return
        self._pace = progress.Pace(completed)
        self._bar.reset(self._task, total=self._total, completed=completed, description=self._description)
        self._show(completed, facts)

    def _start(self, completed: int) -> None:
        """Shows the bar, or makes ready for lines."""
        self._pace = progress.Pace(completed)
        notices.listen(attention)
        if not console.is_terminal:
            self._lines = progress.Lines(_write_line)
            return
        self._bar = RichBar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=28 if console.width >= 100 else 10, complete_style="cyan", finished_style="green"),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}"),
            TimeRemainingColumn(compact=True),
            console=console,
        )
        self._bar.start()
        self._task = self._bar.add_task(self._description, total=self._total, completed=completed, facts="")

    def stop(self) -> None:
        """Leaves the bar as it is."""
        notices.leave(attention)
        if self._bar is not None:
            self._bar.stop()
        if self._lines is not None:
            self._lines.stop()
        self._bar = self._lines = None


def attention(text: str) -> None:
    """Prints a notice, above the bar where there is one."""
    tell(f"{progress.ATTENTION}{text}", "yellow")
    console.file.flush()


@contextmanager
def loading(words: str) -> Iterator[None]:
    """Says on a terminal what is under way, and prints meanwhile what a person should know, such as a rig's silence."""
    notices.listen(attention)
    try:
        with console.status(words):
            yield
    finally:
        notices.leave(attention)


def _write_line(line: str) -> None:
    """Writes a line of progress at once."""
    say(line)
    console.file.flush()


def say(text: str) -> None:
    """Prints a line as it is: no wrapping, no colours."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def tell(text: str, style: str | None = None) -> None:
    """Prints a sentence: on a terminal broken between words at its edge, in a file as one line."""
    console.print(text, style=style, highlight=False, markup=False, soft_wrap=not console.is_terminal)


def free_folder(name: str) -> Path:
    """Returns a folder of this name under ``runs/`` that does not exist yet."""
    return free_path(Path("runs") / safe_name(name))


def free_path(path: Path) -> Path:
    """Returns the path, or with the first number behind it that is not taken."""
    number, free = 2, path
    while free.exists():
        free, number = path.with_name(f"{path.name}-{number}"), number + 1
    return free


def safe_name(name: str) -> str:
    """Returns a name with only what every file system takes, at most 80 characters."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name).strip("-")[:80]
