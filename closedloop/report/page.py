"""Builds a report: one HTML file that needs nothing else."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from closedloop.analysis.sweeps import is_sweep
from closedloop.errors import InvalidArgumentError
from closedloop.files import complete
from closedloop.report.frame import page_of
from closedloop.report.sweeps import sweep_page
from closedloop.report.views import Run, run_view, runs_drawings
from closedloop.report.wording import HOW_BOOTSTRAPPED
from closedloop.signatures import at_door


@at_door
def build_report(runs: Sequence[str | Path], out: str | Path = "report.html") -> str:
    """Returns one HTML page about one or more runs: what was found, what to beware of, and how to repeat it.

    It needs no network and no other file: pictures and figures stand in it. What comes from the runs (names, labels,
    the experiment) is escaped.

    Args:
        runs: Their folders; running, killed or finished.
        out: The file's name, as it stands in the command at the end of the page.

    Returns:
        The page's text.

    Raises:
        InvalidArgumentError: No run, or the same one twice.
        RecordingError: Not a run, nothing recorded yet, or damaged.
    """
    read = [Run.read(path, label) for path, label in _labelled(runs)]
    views = [run_view(run, place) for place, run in enumerate(read)]
    command = ["closedloop", "report", *(str(run.path) for run in read), "--out", str(out)]
    return page_of(
        "report.html",
        title=views[0].question if len(views) == 1 else f"{len(views)} runs of closedloop",
        runs=views,
        together=runs_drawings(read),
        command=shlex.join(command),
        bootstrap=HOW_BOOTSTRAPPED,
    )


@at_door
def write_report(runs: Sequence[str | Path], out: str | Path) -> Path:
    """Writes `build_report`, or of a sweep's folder one page about all of its runs, into a file.

    It appears under its name only when complete.

    Raises:
        InvalidArgumentError: The name does not end in ``.html``, or a folder has it; see also `build_report`.
        RecordingError: A run cannot be read, or the file cannot be written.
    """
    path = Path(out)
    sweeps = [run for run in runs if is_sweep(run)]
    if sweeps and len(runs) > 1:
        raise InvalidArgumentError(f"runs: expected the folder of one sweep alone, got {sweeps[0]} among others.")
    if path.suffix.lower() not in (".html", ".htm") or path.is_dir():
        raise InvalidArgumentError(f"out: expected the name of a file that ends in .html, got {path}.")
    page = sweep_page(Path(sweeps[0]), path) if sweeps else build_report(runs, path)
    with complete(path, replace=True) as temporary:
        # A folder's name may be no text: what cannot be read in it is shown as such.
        text = page.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        temporary.write_text(text, encoding="utf-8", newline="")
    return path


def _labelled(runs: Sequence[str | Path]) -> list[tuple[Path, str]]:
    """Returns each run's folder with a short name that no other has."""
    paths = [Path(run) for run in runs]
    if not paths:
        raise InvalidArgumentError("runs: expected the folder of at least one run, got none.")
    if len({p.resolve() for p in paths}) < len(paths):
        raise InvalidArgumentError(f"runs: expected different runs, got one twice in {', '.join(map(str, paths))}.")
    names = [p.resolve().name for p in paths]
    return [(p, name if names.count(name) == 1 else str(p)) for p, name in zip(paths, names, strict=True)]
