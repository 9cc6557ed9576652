"""What ``closedloop elites`` does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from closedloop import recipes
from closedloop.cli.console import console, free_folder
from closedloop.cli.show import show_run
from closedloop.protocols import evolve_elites
from closedloop.subjects import load_subject


def run_elites(out: Path | None, given: dict[str, Any]) -> None:
    """``closedloop elites``."""
    options = {k: given[k] for k in ("layer", "weights", "engine", "device") if k in given}
    with console.status("Loading the subject …"):
        subject = load_subject(given.get("subject", "lite0"), **options)
        sized = {"resolution": given["resolution"]} if "resolution" in given else {}
        generator = recipes.build("generators", given.get("generator", "cppn"), **sized)
    folder = out or free_folder(f"{subject.name}-elites")
    console.print(f"Run: {folder}", highlight=False)
    settings = {k: given[k] for k in ("images", "children", "seed", "retries", "timeout_s") if k in given}
    with elites_bar() as progress:
        evolve_elites(subject, generator, save=folder, progress=progress, **settings)
    show_run(folder)


@contextmanager
def elites_bar() -> Iterator[Callable[[int, int], None]]:
    """A progress bar: images shown so far and of all."""
    with Progress(
        TextColumn("evolving"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    ) as bar:
        task = bar.add_task("evolving", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
