"""``closedloop search-natural``: which of many photographs drive a unit most, by showing few of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from closedloop.cli.building import DEFAULT_UNIT, asked, numbers_of, read_config, read_named
from closedloop.cli.console import Meter, say
from closedloop.cli.options import Command
from closedloop.errors import InvalidArgumentError
from closedloop.loop.parts import FeaturesPart, FilePart, ObjectivePart, RunPart, SubjectPart, UnitPart
from closedloop.loop.settings import option, settings


@settings
class PoolPart:
    """What is searched."""

    images: Path | None = option(
        default=None,
        metavar="FOLDER",
        shown="required",
        help="Folder of images, up to a million; those in folders within it count, too.",
    )
    cache: Path | None = option(
        default=None, metavar="FOLDER", shown="the user's", help="Where features are kept between searches."
    )


def search_natural(given: Mapping[str, Any]) -> None:
    """Look for the photographs of a large folder that drive a unit most, and show few of them."""
    from closedloop.cli.show import show_run
    from closedloop.protocols import SearchSettings
    from closedloop.protocols import search_natural as search
    from closedloop.twins.pool import Folder

    content = read_config(given, "search_natural")
    images = given.get("images", content.get("images"))
    if images is None:
        raise InvalidArgumentError("images: expected a folder of images, got none; say which one with --images.")
    Folder.of(images)  # before the subject is loaded
    subject, beside = asked(given, content, "search")
    named = read_named(given.get("features", content.get("features", FeaturesPart.features)))
    layers = given.get("layers", FeaturesPart.layers)
    say(f"Run: {beside['save']}")
    with Meter("searching") as meter:
        search(
            subject,
            images,
            features=named if len(named) > 1 else named["name"],
            layers=layers if layers == FeaturesPart.layers else [name.strip() for name in layers.split(",")],
            cache=given.get("cache"),
            progress=meter,
            **beside,
            **numbers_of(SearchSettings, given, content),
        )
    show_run(beside["save"])


COMMAND = Command(
    search_natural,
    (
        FilePart,
        PoolPart,
        FeaturesPart,
        SubjectPart,
        UnitPart,
        ObjectivePart,
        "closedloop.protocols:SearchSettings",
        RunPart,
    ),
    defaults={"units": DEFAULT_UNIT},
    says={"objective": "the response of the only unit"},
)
