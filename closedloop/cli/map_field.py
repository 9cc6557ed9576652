"""``closedloop map-field``: where receptive fields are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from closedloop.cli.building import DEFAULT_UNIT
from closedloop.cli.options import Command
from closedloop.cli.probing import probe
from closedloop.loop.parts import FilePart, RunPart, SubjectPart, UnitPart
from closedloop.loop.settings import option, settings


@settings
class PicturesPart:
    """What patches show."""

    images: Path | None = option(
        default=None,
        metavar="FOLDER",
        shown="bundled photographs",
        help="Folder of pictures that are shown in patches (--stimuli patches).",
    )


def map_field(given: Mapping[str, Any]) -> None:
    """Map receptive fields by sparse noise, or by pictures in patches."""
    from closedloop.protocols import MapFieldSettings
    from closedloop.protocols import map_field as explore

    probe("map_field", explore, MapFieldSettings, given, "field", {"images"})


COMMAND = Command(
    map_field,
    (FilePart, SubjectPart, UnitPart, "closedloop.protocols:MapFieldSettings", PicturesPart, RunPart),
    says={"units": f"all, or {DEFAULT_UNIT} of lite0's output"},
)
