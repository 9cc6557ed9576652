"""``closedloop pack``: a finished run in one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from closedloop.cli.console import console, say
from closedloop.cli.options import Command, RunArgument


def pack(
    run: RunArgument,
    out: Annotated[
        Path | None, typer.Option(help="The .zip file to write; must be new.", show_default="named after the run")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Remove the folder once the file is complete.")] = False,
) -> None:
    """Pack a finished run into one zip file, which opens as its folder does."""
    from closedloop.recording.packing import pack as write

    with console.status(f"Packing {run} …"):
        path = write(run, out, remove=remove)
    say(f"Packed {run} into {path}.")


COMMAND = Command(pack)
