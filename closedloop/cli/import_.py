"""``closedloop import``: a run of what another system recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from closedloop.cli.console import say
from closedloop.cli.options import Command
from closedloop.errors import UnknownNameError, closest


def import_(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Result folder of another system.")],
    system: Annotated[str, typer.Option("--from", help="xdream or p-xdream.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder of the run to make; must be new.", show_default=False)],
) -> None:
    """Make a run of what another system recorded."""
    from closedloop.formats.importers import SYSTEMS

    if system not in SYSTEMS:
        raise UnknownNameError(f"from: no system named {system!r}.{closest(system, SYSTEMS)}")
    recording = SYSTEMS[system](folder, out)
    say(f"Imported {recording.sizes['presentation']} presentations × {recording.sizes['neuroid']} units into {out}.")


COMMAND = Command(import_)
