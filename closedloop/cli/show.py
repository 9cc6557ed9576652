"""``closedloop show``: the tables and figures of a run, as its protocol makes them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from closedloop.cli.console import console, say, tell
from closedloop.cli.options import Command, RunArgument
from closedloop.cli.tables import drawn
from closedloop.errors import InvalidArgumentError
from closedloop.files import complete

#: Endings of figures that can be written.
FIGURES = (".png", ".pdf", ".svg")
#: Ending of movies.
MOVIE = ".webp"


def show(
    run: RunArgument,
    figure: Annotated[
        Path | None, typer.Option(help="Where to write the figure (.png, .pdf, .svg).", show_default="in the run")
    ] = None,
    movie: Annotated[
        Path | None,
        typer.Option(help="Where to write the movie of a run that has one (.webp).", show_default="in the run"),
    ] = None,
) -> None:
    """Show what a run found: the table, the figure, and the movie of a network that learns."""
    show_run(run, figure, movie)


COMMAND = Command(show)


def show_run(run: Path, figure: Path | None = None, movie: Path | None = None) -> None:
    """Prints a run's tables and writes its figures and movies.

    Args:
        run: Folder of the run, or an export of one.
        figure: Where to write the figure; by default into the run's folder, under the protocol's name for it. Further
            figures get this name with their own behind it.
        movie: Likewise for its movies.

    Raises:
        RecordingError: Not a run, or a figure cannot be written.
        InvalidArgumentError: The format of figure or movie is not known, or the run has no movie.
    """
    from closedloop.analysis.days import at_a_rig
    from closedloop.figures.paper import editable
    from closedloop.loop.protocol import shown_protocol
    from closedloop.recording.evolutions import experiment_of
    from closedloop.recording.reader import open_recording

    if figure is not None and figure.suffix.lower() not in FIGURES:
        raise InvalidArgumentError(f"figure: expected a name ending in {', '.join(FIGURES)}, got {figure}.")
    if movie is not None and movie.suffix.lower() != MOVIE:
        raise InvalidArgumentError(f"movie: expected a name ending in {MOVIE}, got {movie}.")
    recording = open_recording(run)
    summary = shown_protocol(experiment_of(recording), str(run)).summary(run, recording)
    if at_a_rig(recording):
        from closedloop.figures.sittings import rig_summary

        summary = summary.beside(rig_summary(recording))
    if movie is not None and not summary.movies:
        raise InvalidArgumentError(f"movie: {run} has none; leave --movie out.")
    for table in summary.tables:
        console.print(table.title, style="bold", highlight=False, markup=False, soft_wrap=True)
        console.print(drawn(table.columns, table.rows))
        if table.caption:
            tell(table.caption, style="dim")
    for line in summary.lines:
        tell(line)
    say(f"Run:    {run}")
    for name, found in summary.figures.items():
        path = _path(run, figure, name, len(summary.figures))
        with complete(path, replace=True, argument="figure") as temporary, editable():
            found.draw().savefig(temporary)
        say(f"Figure: {path}")
    for name, moving in summary.movies.items():
        path = _path(run, movie, name, len(summary.movies), MOVIE)
        with complete(path, replace=True, argument="movie") as temporary:
            temporary.write_bytes(moving.encoded())
        say(f"Movie:  {path}")


def _path(run: Path, given: Path | None, name: str, count: int, ending: str = ".png") -> Path:
    """Returns where a figure or a movie goes."""
    if given is None:
        return run / f"{name}{ending}" if run.is_dir() else run.with_name(f"{run.stem}-{name}{ending}")
    return given if count == 1 else given.with_stem(f"{given.stem}-{name.removeprefix('summary-')}")
