"""``closedloop pareto``: what one objective costs another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from closedloop.cli.building import load, named_parts, numbers_of, read_config, read_named, subject_recipe, where_of
from closedloop.cli.console import Meter, say
from closedloop.cli.options import Command
from closedloop.loop.parts import FilePart, GeneratorPart, ReferencePart, RunPart, SubjectPart, UnitPart
from closedloop.loop.settings import option, settings

#: Units that a bare `closedloop pareto` records: a cock and a hen.
UNITS = "7,8"


@settings
class ObjectivesPart:
    """Which two objectives."""

    objectives: tuple[str, ...] = option(
        default=("unit(0)", "-1*unit(1)"),
        shown="'unit(0)' '-1*unit(1)'",
        names=("--objective",),
        metavar="EXPRESSION",
        help="An objective; given twice. Both are maximized.",
    )


def pareto(given: Mapping[str, Any]) -> None:
    """Look for images of which none is better by both of two objectives, without a gradient."""
    from closedloop.cli.show import show_run
    from closedloop.protocols import FrontSettings
    from closedloop.protocols import pareto as search
    from closedloop.recipes import matched_generator

    content = read_config(given, "pareto")
    recipe = subject_recipe(given, content.get("subject"), UNITS)
    where = where_of(given, *named_parts(recipe), "pareto")
    subject = load(recipe)
    named = read_named(given.get("generator", content.get("generator", GeneratorPart.generator)))
    named |= {"resolution": given["resolution"]} if "resolution" in given else {}
    stored = content.get("references")
    say(f"Run: {where['save']}")
    with Meter("searching") as meter:
        search(
            subject,
            matched_generator(named, subject),
            list(given.get("objectives", content.get("objectives", ObjectivesPart.objectives))),
            references=given.get("references", ReferencePart.references if stored is None else stored),
            progress=meter,
            **where,
            **numbers_of(FrontSettings, given, content),
        )
    show_run(where["save"])


COMMAND = Command(
    pareto,
    (
        FilePart,
        ObjectivesPart,
        SubjectPart,
        UnitPart,
        GeneratorPart,
        "closedloop.protocols:FrontSettings",
        ReferencePart,
        RunPart,
    ),
    defaults={"units": UNITS},
    helps={"references": "Natural images to compare with: a folder, or 'bundled' (160 photographs)."},
)
