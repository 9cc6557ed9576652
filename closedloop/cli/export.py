"""``closedloop export``: a run in another format of the field."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from closedloop.cli.console import console, say
from closedloop.cli.options import Command
from closedloop.errors import InvalidArgumentError, UnknownNameError, closest
from closedloop.loop.settings import option, settings


@settings
class ExportOptions:
    """What some formats are told besides the run."""

    which: str | None = option(default=None, shown="best", help="png: best (of each generation) or all.")
    images: bool | None = option(default=None, shown="images", help="nwb: write the images too.")
    experimenter: str | None = option(default=None, shown="none", help="nwb: 'Last name, first name'.")
    institution: str | None = option(default=None, shown="none", help="nwb: where it was done.")
    identifier: str | None = option(
        default=None, shown="that of the run", help="brainio: of the assembly, 'lab.AuthorYear'."
    )
    references: Path | None = option(
        default=None, shown="in the run", metavar="FOLDER", help="Where the reference images are."
    )


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, or a .nc or .nwb file of one.")],
    to: Annotated[str, typer.Option(help="netcdf, nwb, brainio, csv, png, gif or mp4.", show_default=False)],
    given: Mapping[str, Any],
    out: Annotated[
        Path | None, typer.Option(help="File or folder to write; must be new.", show_default="named after the run")
    ] = None,
) -> None:
    """Write a run in another format of the field."""
    from closedloop.formats import FORMATS
    from closedloop.formats import export as write
    from closedloop.recording.reader import open_recording

    if to not in FORMATS:
        raise UnknownNameError(f"to: no format named {to!r}.{closest(to, FORMATS)}")
    chosen = FORMATS[to]
    known = inspect.signature(chosen.write).parameters
    pictures = any(p.kind is p.VAR_KEYWORD for p in known.values())
    wrong = [name for name in given if name not in known and not (pictures and name == "references")]
    if wrong:
        raise InvalidArgumentError(f"{wrong[0]}: the format {to} has no such option.")
    recording = open_recording(run)
    path = out or run.with_name(f"{run.name if run.is_dir() else run.stem}{chosen.suffix or '-' + to}")
    with console.status(f"Writing {path} …"):
        write(recording, to, path, **given)
    say(f"Wrote {path}: {chosen.what}.")


COMMAND = Command(export, (ExportOptions,))
