"""``closedloop invariance``: how far an image can be changed before the response falls."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from closedloop.cli.options import Command
from closedloop.cli.probing import AtFieldPart, probe
from closedloop.errors import InvalidArgumentError
from closedloop.loop.parts import FilePart, RunPart, SubjectPart, UnitPart
from closedloop.loop.settings import option, settings


@settings
class PicturePart:
    """What is shown."""

    image: Path | None = option(default=None, metavar="FILE", shown="none", help="A picture instead of a run's.")
    thread: str | None = option(
        default=None, metavar="NAME", shown="the only one", help="The evolution of the run whose image is taken."
    )


def invariance(
    given: Mapping[str, Any],
    run: Annotated[
        Path | None, typer.Argument(metavar="RUN", help="Folder of an evolution's run, whose image is shown.")
    ] = None,
) -> None:
    """Show an evolved image at other places, sizes and rotations, and measure how far the response holds."""
    from closedloop.protocols import InvarianceSettings
    from closedloop.protocols import invariance as explore

    if sum((run is not None, "image" in given, "config" in given)) != 1:
        raise InvalidArgumentError("run: expected the folder of an evolution's run, --image FILE, or --config FILE.")
    arguments: dict[str, Any] = {}
    recipe = None
    if run is not None:
        from closedloop.recording.evolutions import experiment_of
        from closedloop.recording.reader import open_recording

        arguments["image"] = recording = open_recording(run)
        recipe = experiment_of(recording).get("subject")
    probe("invariance", explore, InvarianceSettings, given, "invariance", {"image", "thread"}, arguments, recipe)


COMMAND = Command(
    invariance,
    (FilePart, PicturePart, "closedloop.protocols:InvarianceSettings", AtFieldPart, SubjectPart, UnitPart, RunPart),
    says=dict.fromkeys(("subject", "layer", "units", "weights", "engine", "device", "noise"), "as in the run"),
)
