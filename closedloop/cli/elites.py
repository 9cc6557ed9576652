"""``closedloop elites``: an image for each class, without a gradient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from closedloop.cli.building import (
    columns_of,
    load,
    named_parts,
    numbers_of,
    read_config,
    read_named,
    subject_recipe,
    where_of,
)
from closedloop.cli.console import Meter, console, say
from closedloop.cli.options import Command
from closedloop.errors import InvalidArgumentError
from closedloop.loop.parts import FilePart, GeneratorPart, RunPart, SubjectPart, UnitPart
from closedloop.loop.settings import option, settings

#: Where a bare `closedloop elites` differs from the definitions.
DEFAULTS = {"generator": "cppn"}


@settings
class BreedingPart:
    """How elites have children."""

    children: int | None = option(default=None, least=1, shown="200", help="Images in a generation.")


def elites(given: Mapping[str, Any]) -> None:
    """Evolve an image for each class of a network at once (fooling images, MAP-Elites)."""
    from closedloop import recipes
    from closedloop.cli.show import show_run
    from closedloop.protocols import ElitesSettings, evolve_elites

    content = read_config(given, "elites")
    recipe = subject_recipe({k: v for k, v in given.items() if k != "units"}, content.get("subject"))
    where = where_of(given, *named_parts(recipe)[:1], "elites")
    subject = load(recipe)
    options = read_named(given.get("generator", content.get("generator", DEFAULTS["generator"])))
    if "resolution" in given:
        if not recipes.has_option("generators", options["name"], "resolution"):
            raise InvalidArgumentError(
                f"resolution: generator {options['name']!r} has one of its own; leave --resolution out."
            )
        options["resolution"] = given["resolution"]
    with console.status("Loading the generator …"):
        generator = recipes.build("generators", **options)
    say(f"Run: {where['save']}")
    breeding = {**content.get("breeding", {}), **{k: given[k] for k in ("children",) if k in given}}
    numbers = numbers_of(ElitesSettings, given, content)
    with Meter("evolving") as meter:
        evolve_elites(
            subject,
            generator,
            classes=_classes(given, content, subject),
            progress=meter,
            **where,
            **numbers,
            **breeding,
        )
    show_run(where["save"])


COMMAND = Command(
    elites,
    (
        FilePart,
        SubjectPart,
        UnitPart,
        GeneratorPart,
        "closedloop.protocols:ElitesSettings",
        BreedingPart,
        RunPart,
    ),
    defaults=DEFAULTS,
    helps={"units": "Classes that have an elite: 7, 0-9, all, random:8 …"},
    says={"resolution": "the generator's"},
)


def _classes(given: Mapping[str, Any], content: Mapping[str, Any], subject: Any) -> list[int] | None:
    """Returns the columns that have an elite; None for all."""
    text = given.get("units", "")
    if not text:
        held = str(content.get("classes", UnitPart.units))
        return None if held == UnitPart.units else [int(word) for word in held.split()]
    return None if text == UnitPart.units else columns_of(text, subject, given)
