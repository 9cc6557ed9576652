"""``closedloop diagnose``: which labelled images a network gets wrong, and which units drove it there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from closedloop.cli.building import in_torch, load, named_parts, numbers_of, read_config, subject_recipe, where_of
from closedloop.cli.console import Meter, say
from closedloop.cli.options import Command
from closedloop.errors import InvalidArgumentError
from closedloop.loop.parts import FilePart, RunPart, SubjectPart
from closedloop.loop.settings import option, settings


@settings
class LabelledPart:
    """What is shown, and where it is looked into."""

    labelled: Path | None = option(
        default=None,
        metavar="FOLDER",
        shown="required",
        help="Images in folders named by class or WordNet id, or with a labels.csv (path, label), or files whose names "
        "begin with a WordNet id.",
    )
    layer: str | None = option(
        default=None,
        metavar="NAME",
        shown="the last one with places",
        help="Layer whose channels are attributed and ablated; see: closedloop units.",
    )


def diagnose(given: Mapping[str, Any]) -> None:
    """Find the labelled images that a network gets wrong, and the units that drove the answers."""
    from closedloop.cli.show import show_run
    from closedloop.images.labelled import read_labelled
    from closedloop.protocols import DiagnoseSettings
    from closedloop.protocols import diagnose as find_errors

    content = read_config(given, "diagnose")
    labelled = given.get("labelled", content.get("images"))
    if labelled is None:
        raise InvalidArgumentError("labelled: expected a folder of labelled images; say which one with --labelled.")
    read_labelled(labelled)  # before the subject is loaded
    said = {name: value for name, value in given.items() if name != "layer"}
    recipe = in_torch(subject_recipe(said, content.get("subject")))
    where = where_of(given, *named_parts(recipe)[:1], "errors")
    subject = load(recipe)
    with Meter("diagnosing") as meter:
        find_errors(
            subject,
            labelled,
            layer=given.get("layer", content.get("layer") or None),
            classes=content.get("classes"),
            progress=meter,
            **where,
            **numbers_of(DiagnoseSettings, given, content),
        )
    show_run(where["save"])
    say(f"Pages: closedloop view --subject {recipe['name']} --labelled {labelled}")


COMMAND = Command(
    diagnose,
    (FilePart, SubjectPart, LabelledPart, "closedloop.protocols:DiagnoseSettings", RunPart),
    without=("noise",),
)
