"""``closedloop selectivity``: which categories of images drive units."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from closedloop.cli.building import DEFAULT_UNIT
from closedloop.cli.options import Command
from closedloop.cli.probing import probe
from closedloop.errors import InvalidArgumentError
from closedloop.loop.parts import FilePart, RunPart, SubjectPart, UnitPart
from closedloop.loop.settings import option, settings


@settings
class CategoriesPart:
    """What is shown."""

    images: Path | None = option(
        default=None,
        metavar="FOLDER",
        shown="required",
        help="Folder that holds a folder of images for each category.",
    )


def selectivity(given: Mapping[str, Any]) -> None:
    """Show images of several categories, and measure which of them units prefer (d′), and how reliably."""
    from closedloop.protocols import SelectivitySettings
    from closedloop.protocols import selectivity as explore

    if "images" not in given and "config" not in given:
        raise InvalidArgumentError("images: expected a folder with a folder of images for each category; say --images.")
    probe("selectivity", explore, SelectivitySettings, given, "categories", {"images"})


COMMAND = Command(
    selectivity,
    (FilePart, CategoriesPart, SubjectPart, UnitPart, "closedloop.protocols:SelectivitySettings", RunPart),
    says={"units": f"all, or {DEFAULT_UNIT} of lite0's output"},
)
