"""What ``closedloop elites`` does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from closedloop import recipes
from closedloop.analysis import class_elites
from closedloop.cli.console import console
from closedloop.errors import RecordingError
from closedloop.figures import best_elites, plot_elites
from closedloop.protocols import evolve_elites
from closedloop.recipes import OBJECT
from closedloop.recording.reader import open_recording
from closedloop.subjects import load_subject


def run_elites(out: Path | None, given: dict[str, Any]) -> None:
    """``closedloop elites``."""
    options = {k: given[k] for k in ("layer", "weights", "engine", "device") if k in given}
    with console.status("Loading the subject …"):
        subject = load_subject(given.get("subject", "lite0"), **options)
        sized = {"resolution": given["resolution"]} if "resolution" in given else {}
        generator = recipes.build("generators", given.get("generator", "cppn"), **sized)
    folder = out or _free(Path("runs") / f"{subject.name.replace(':', '-')}-elites")
    console.print(f"Run: {folder}", highlight=False)
    settings = {k: given[k] for k in ("images", "children", "seed", "retries", "timeout_s") if k in given}
    with elites_bar() as progress:
        evolve_elites(subject, generator, save=folder, progress=progress, **settings)
    show_elites(folder, open_recording(folder), None)


def show_elites(run: Path, recording: xr.Dataset, figure: Path | None) -> None:
    """Prints what the archive holds, and writes the sheet of the best elites."""
    found = class_elites(recording)
    console.print(_table(found))
    console.print(f"Run:    {run}", highlight=False)
    recipe = json.loads(str(recording["generator_recipe"].values[0]))
    if recipe["name"] == OBJECT:
        console.print("No figure: the generator was a Python object without a name.", highlight=False)
        return
    generator = recipes.build("generators", **recipe)
    path = run / "summary.png" if figure is None else figure
    try:
        plot_elites(found, generator).savefig(path)
    except OSError as error:
        raise RecordingError(f"figure: cannot write {path} ({error}).") from error
    console.print(f"Figure: {path}", highlight=False)


@contextmanager
def elites_bar() -> Iterator[Callable[[int, int], None]]:
    """A progress bar: images shown so far and of all."""
    with Progress(
        TextColumn("evolving"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    ) as bar:
        task = bar.add_task("evolving", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _table(found: xr.Dataset) -> Table:
    retested = found["retested"].values
    title = f"{len(retested)} classes, {int(found['images'][-1]):,} images: probability of the elite"
    table = Table(title=title, title_justify="left")
    for name in ("", "when found", "re-tested, 8 bits"):
        table.add_column(name, justify="left" if not name else "right")
    pair = (found["probability"].values, retested)
    table.add_row("median over classes", *(f"{np.nanmedian(p):.4g}" if not np.isnan(p).all() else "–" for p in pair))
    for threshold in found["threshold"].values:
        table.add_row(f"classes at {threshold:g} or above", *(str(int((p >= threshold).sum())) for p in pair))
    table.add_row("different images", str(len(set(found["stimulus_id"].values) - {""})), "")
    for i in best_elites(found, 5):
        label = str(found["label"].values[i]) if "label" in found.coords else ""
        table.add_row(label or str(found["neuroid_id"].values[i]), *(f"{p[i]:.6f}" for p in pair))
    return table


def _free(path: Path) -> Path:
    """The path, or with the first number behind it that is not taken."""
    number, free = 2, path
    while free.exists():
        free, number = path.with_name(f"{path.name}-{number}"), number + 1
    return free
