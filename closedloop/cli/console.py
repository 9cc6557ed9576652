"""The terminal: one console, progress bars, and free names for runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

console = Console(soft_wrap=False)


def progress_bar() -> Progress:
    """A bar of steps or images done, with a field for facts."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TextColumn("{task.fields[facts]}"),
        TimeRemainingColumn(compact=True),
        console=console,
    )


@contextmanager
def present_bar() -> Iterator[Callable[[int, int], None]]:
    """Shows a progress bar of images; yields what is called with images shown so far and of all."""
    bar = Progress(TextColumn("recording"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console)
    task = bar.add_task("recording", total=None)

    def move(done: int, total: int) -> None:
        bar.start()  # with the first image, for sessions have a bar of their own
        bar.update(task, completed=done, total=total)

    try:
        yield move
    finally:
        bar.stop()


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
