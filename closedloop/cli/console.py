"""The terminal: one console, progress, and free names for runs."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

console = Console(soft_wrap=False)

#: Columns of a terminal from which on a bar has its full length.
_ROOMY = 100


class Meter:
    """Says how far a run is: a bar on a terminal; in a log file a line now and then, about every tenth.

    Args:
        description: What is under way, in a word.
        total: Of how many; None where it is not known yet.
    """

    def __init__(self, description: str, total: int | None = None) -> None:
        self._description, self._total, self._facts = description, total, ""
        self._said = -1
        self._bar: Progress | None = None
        self._task: Any = None

    def start(self, completed: int = 0) -> None:
        """Shows the bar; is called by itself when it is first moved."""
        if console.is_terminal and self._bar is None:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=28 if console.width >= _ROOMY else 10),
                MofNCompleteColumn(),
                TextColumn("{task.fields[facts]}"),
                TimeRemainingColumn(compact=True),
                console=console,
            )
            self._bar.start()
            self._task = self._bar.add_task(self._description, total=self._total, completed=completed, facts="")
        if self._total:
            self._said = 10 * completed // self._total

    def move(self, completed: int, total: int | None = None, facts: str = "", description: str = "") -> None:
        """Moves on to a number; says a total, facts or another description from now on."""
        self._total, self._facts = total or self._total, facts
        self._description = description or self._description
        if console.is_terminal:
            self.start()
            if self._bar is not None:
                self._bar.update(
                    self._task,
                    completed=completed,
                    total=self._total,
                    description=self._description,
                    facts=facts,
                )
        elif self._total:
            self._say(completed, self._total)

    def _say(self, completed: int, total: int) -> None:
        """Prints a line when another tenth is done."""
        tenth = 10 * completed // total
        if tenth > self._said:
            self._said = tenth
            facts = f"  {self._facts}" if self._facts else ""
            line = f"{self._description}: {completed} of {total}{facts}"
            console.print(line, highlight=False, markup=False, soft_wrap=True)

    def stop(self) -> None:
        """Leaves the bar as it is."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def __enter__(self) -> Meter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def say(text: str) -> None:
    """Prints a line as it is: no wrapping, no colours."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def tell(text: str, style: str | None = None) -> None:
    """Prints a sentence: on a terminal broken between words at its edge, in a file as one line."""
    console.print(text, style=style, highlight=False, markup=False, soft_wrap=not console.is_terminal)


def free_folder(name: str) -> Path:
    """A folder of this name under ``runs/`` that does not exist yet."""
    return free_path(Path("runs") / safe_name(name))


def free_path(path: Path) -> Path:
    """The path, or with the first number behind it that is not taken."""
    number, free = 2, path
    while free.exists():
        free, number = path.with_name(f"{path.name}-{number}"), number + 1
    return free


def safe_name(name: str) -> str:
    """Returns a name with only what every file system takes, at most 80 characters."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name).strip("-")[:80]
