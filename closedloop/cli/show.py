"""What a person sees at the end: the table and the figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr
from rich.table import Table

from closedloop.analysis.quality import cautions
from closedloop.analysis.summary import ThreadSummary, is_evolution, summarize
from closedloop.cli.console import console
from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.recipes import OBJECT
from closedloop.recording.pictures import Pictures
from closedloop.recording.reader import open_recording, read_experiment, read_pointer

_FORMATS = (".png", ".pdf", ".svg")


def show_run(run: Path, figure: Path | None) -> None:
    """Prints a run's table and writes its figure.

    Raises:
        RecordingError: Not a run.
        InvalidArgumentError: The figure's format is not known.
    """
    if figure is not None and figure.suffix.lower() not in _FORMATS:
        raise InvalidArgumentError(f"figure: expected a name ending in {', '.join(_FORMATS)}, got {figure}.")
    recording = open_recording(run)
    pointer = read_pointer(run)
    if "classes" in recording.coords:
        from closedloop.cli.elites import show_elites  # which needs this file

        show_elites(run, recording, figure)
        return
    if _show_ascent(run, figure):
        return
    if not is_evolution(recording):
        console.print(_responses_table(recording))
        return
    summaries = summarize(recording)
    console.print(_table(summaries, pointer["elapsed_s"]))
    if reason := pointer.get("reason"):
        console.print(f"Ended:  {reason}", highlight=False, markup=False)
    for caution in cautions(recording, Pictures(recording), str(run)):
        console.print(str(caution), highlight=False, markup=False)
    console.print(f"Run:    {run}", highlight=False)
    for path in write_figures(run, summaries, figure):
        console.print(f"Figure: {path}", highlight=False)


def _show_ascent(run: Path, figure: Path | None) -> bool:
    """Shows a finished run of ascents; False where it is none, or its generator has no name to make images by."""
    from closedloop.cli.ascend import is_ascent, show_ascent

    if not is_ascent(run) or read_experiment(run)["generator"]["name"] == OBJECT:
        return False
    show_ascent(run, figure)
    return True


def write_figures(run: Path, summaries: list[ThreadSummary], figure: Path | None) -> list[Path]:
    """One figure for each thread; returns their paths."""
    from closedloop.figures import plot_evolution

    paths = []
    for summary in summaries:
        name = "summary.png" if len(summaries) == 1 else f"summary-{summary.thread}.png"
        path = run / name if figure is None else figure
        if figure is not None and len(summaries) > 1:
            path = figure.with_stem(f"{figure.stem}-{summary.thread}")
        try:
            plot_evolution(run, summary.thread).savefig(path)
        except OSError as error:
            raise RecordingError(f"figure: cannot write {path} ({error}).") from error
        paths.append(path)
    return paths


def _table(summaries: list[ThreadSummary], seconds: float) -> Table:
    """One column for each thread."""
    table = Table(title="Preferred stimulus, re-tested in fresh presentations", title_justify="left")
    table.add_column("")
    for s in summaries:
        table.add_column(s.thread, justify="right")
    rows = [
        ("target", [s.target for s in summaries]),
        ("evolved best ± s.e.", [str(s.evolved) for s in summaries]),
        ("best natural reference ± s.e.", [str(s.natural) for s in summaries]),
        ("evolved ÷ natural", [_pair(s.ratio, s.ratio_sem) for s in summaries]),
        ("highest score while evolving", [_finite(s.noisy_maximum) for s in summaries]),
        ("winner's curse of that image", [_finite(s.curse) for s in summaries]),
        ("images", [str(s.images) for s in summaries]),
    ]
    for name, cells in rows:
        table.add_row(name, *cells)
    table.add_row("seconds, all threads", f"{seconds:.0f}")
    return table


def _finite(value: float) -> str:
    return f"{value:.4g}" if np.isfinite(value) else "–"


def _pair(value: float, error: float) -> str:
    return f"{value:.3g} ± {error:.2g}" if np.isfinite(value) else "–"


def _responses_table(recording: xr.Dataset) -> Table:
    """For a recorded set of images: the three that each unit likes best."""
    table = Table(title="Images with the highest mean response", title_justify="left")
    for name in ("unit", "first", "second", "third"):
        table.add_column(name)
    ids = recording["stimulus_id"].values
    names = np.unique(ids)
    for i, unit in enumerate(recording["neuroid_id"].values[:20]):
        responses = recording["responses"].isel(neuroid=i).values
        means = np.array([np.nanmean(responses[ids == n]) for n in names])
        best = np.argsort(-means)[:3]
        table.add_row(str(unit), *(f"{names[j]} ({means[j]:.3g})" for j in best))
    if recording.sizes["neuroid"] > 20:
        table.caption = f"the first 20 of {recording.sizes['neuroid']} units"
    return table
