"""``closedloop cross-units``: which unit's image drives which unit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from closedloop.cli.building import load, numbers_of, subject_recipe, where_of
from closedloop.cli.console import Meter, say
from closedloop.cli.options import Command
from closedloop.errors import InvalidArgumentError
from closedloop.loop.parts import RunPart, SubjectPart, UnitPart


def cross_units(
    given: Mapping[str, Any],
    runs: Annotated[list[Path], typer.Argument(metavar="RUN…", help="Folders of evolutions that excite a unit each.")],
) -> None:
    """Show the image that was evolved for each unit to all units, in fresh presentations."""
    from closedloop.cli.show import show_run
    from closedloop.protocols import CrossUnitsSettings
    from closedloop.protocols import cross_units as explore
    from closedloop.recording.evolutions import experiment_of
    from closedloop.recording.reader import open_recording

    if len({path.resolve() for path in runs}) < len(runs):
        raise InvalidArgumentError("runs: expected different folders, got one of them twice.")
    recordings = {path.resolve().name: open_recording(path) for path in runs}
    if len(recordings) < len(runs):
        raise InvalidArgumentError("runs: expected folders of different names.")
    recipe = subject_recipe(given, _together([experiment_of(r).get("subject") for r in recordings.values()]))
    where = where_of(given, recipe["name"], "cross-units")
    subject = load(recipe)
    say(f"Run: {where['save']}")
    one = next(iter(recordings.values()))
    with Meter("recording") as meter:
        explore(
            subject,
            one if len(runs) == 1 else recordings,
            progress=meter,
            **where,
            **numbers_of(CrossUnitsSettings, given, {}),
        )
    show_run(where["save"])


COMMAND = Command(
    cross_units,
    ("closedloop.protocols:CrossUnitsSettings", SubjectPart, UnitPart, RunPart),
    says=dict.fromkeys(("subject", "layer", "weights", "engine", "device", "noise"), "as in the runs")
    | {"units": "those of all runs"},
)


def _together(recipes: list[Any]) -> Any:
    """Returns the recipe of a subject that records the units of several.

    Raises:
        InvalidArgumentError: They differ in more than their units.
    """
    from closedloop.recipes import same_recipe

    first = dict(recipes[0])
    rest = [{k: v for k, v in dict(r).items() if k != "units"} for r in recipes]
    if not all(same_recipe(rest[0], other) for other in rest[1:]):
        raise InvalidArgumentError(
            "runs: expected runs of one subject, but they differ in more than their units; say which with --subject "
            "and --units."
        )
    units = [r["units"] for r in recipes if "units" in dict(r)]
    if not units:
        return first
    words = [unit for spec in units for unit in (spec if isinstance(spec, list) else [spec])]
    return {**first, "units": list(dict.fromkeys(words)) if len(words) > 1 else words[0]}
