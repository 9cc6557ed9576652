"""``closedloop gratings``: which orientation and spatial frequency drive units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from closedloop.cli.building import DEFAULT_UNIT
from closedloop.cli.options import Command
from closedloop.cli.probing import AtFieldPart, probe
from closedloop.loop.parts import FilePart, RunPart, SubjectPart, UnitPart


def gratings(given: Mapping[str, Any]) -> None:
    """Show gratings, and fit preferred orientation and spatial frequency; tell simple from complex cells."""
    from closedloop.protocols import GratingSettings
    from closedloop.protocols import gratings as explore

    probe("gratings", explore, GratingSettings, given, "gratings")


COMMAND = Command(
    gratings,
    (FilePart, SubjectPart, UnitPart, "closedloop.protocols:GratingSettings", AtFieldPart, RunPart),
    says={"units": f"all, or {DEFAULT_UNIT} of lite0's output"},
)
