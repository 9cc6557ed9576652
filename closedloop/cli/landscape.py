"""``closedloop landscape``: the tuning around what an evolution found."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from closedloop.cli.building import load, numbers_of, read_config, subject_recipe, where_of
from closedloop.cli.console import Meter, console, say
from closedloop.cli.options import Command
from closedloop.errors import InvalidArgumentError, UnknownNameError, closest
from closedloop.loop.parts import FilePart, RunPart, SubjectPart
from closedloop.loop.settings import option, settings
from closedloop.recipes import OBJECT, as_recorded


@settings
class AroundPart:
    """What a landscape lies around."""

    thread: str | None = option(
        default=None, metavar="NAME", shown="the only one", help="The evolution whose image is the center."
    )
    planes: str | None = option(
        default=None,
        metavar="PLANES",
        shown="pc1-pc2,pc1-random",
        help="Pairs of directions, separated by commas: pc1, pc2 … (principal axes of its codes) or random.",
    )


def landscape(
    given: Mapping[str, Any],
    run: Annotated[
        Path | None, typer.Argument(metavar="RUN", help="Folder of an evolution's run; none beside --config.")
    ] = None,
) -> None:
    """Record the tuning landscape around what an evolution found, plane by plane through its code."""
    from closedloop.cli.show import show_run
    from closedloop.protocols import LandscapeSettings
    from closedloop.protocols import landscape as explore

    content = read_config(given, "landscape")
    if (run is None) != bool(content):
        raise InvalidArgumentError("run: expected the folder of an evolution's run, or --config FILE, and not both.")
    around = _repeated(given, content) if run is None else _evolved(run, given)
    recipe = subject_recipe(given, around.pop("recipe"))
    where = where_of(given, run.resolve().name if run is not None else "", "landscape")
    subject = load(recipe)
    numbers = numbers_of(LandscapeSettings, given, content)
    with console.status("Loading the generator …"):
        generator = _generator(around.pop("generator"), subject)
    say(f"Run: {where['save']}")
    with Meter("recording") as meter:
        explore(subject, generator, progress=meter, **around, **where, **numbers)
    show_run(where["save"])


COMMAND = Command(
    landscape,
    (FilePart, AroundPart, "closedloop.protocols:LandscapeSettings", SubjectPart, RunPart),
    says=dict.fromkeys(("subject", "layer", "weights", "engine", "device", "noise"), "as in the run"),
)


def _evolved(run: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns center, planes, and the recipes of subject and generator, from the run of an evolution."""
    from closedloop.analysis.summary import fact_of, thread_objectives
    from closedloop.recording.evolutions import experiment_of
    from closedloop.recording.reader import open_recording

    recording = open_recording(run)
    threads = [name for name, _ in thread_objectives(recording)]
    thread = given.get("thread", threads[0])
    if "thread" not in given and len(threads) > 1:
        raise InvalidArgumentError(f"thread: {run} has several, {threads}; say which one with --thread.")
    if thread not in threads:
        raise UnknownNameError(f"thread: no thread {thread!r} in {run}.{closest(thread, threads)}")
    known = fact_of(recording, "generator_recipe", thread)
    planes = {"planes": [word.strip() for word in given["planes"].split(",")]} if "planes" in given else {}
    generator = as_recorded(json.loads(known)) if known else {}
    recipe = as_recorded(experiment_of(recording)).get("subject")
    return {"center": recording, "thread": thread, "recipe": recipe, "generator": generator, **planes}


def _repeated(given: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the same from the file of a landscape, beside which its directions lie."""
    from closedloop.protocols import stored_planes

    for name in ("thread", "planes"):
        if name in given:
            raise InvalidArgumentError(f"{name}: expected none beside --config, whose run holds its directions.")
    planes = stored_planes(Path(given["config"]).parent, content["planes"])
    first = next(iter(planes.values()))[0]
    return {"center": first, "recipe": content["subject"], "generator": content["generator"], "planes": planes}


def _generator(recipe: Mapping[str, Any], subject: Any) -> Any:
    """Loads the generator of a run for a subject.

    Raises:
        InvalidArgumentError: It was a Python object.
    """
    from closedloop.recipes import by_hand, matched_generator

    if recipe.get("name", OBJECT) == OBJECT:
        cure = "record the landscape from Python: closedloop.protocols.landscape"
        raise InvalidArgumentError(by_hand(recipe, "generator: that of the run", cure))
    return matched_generator(recipe, subject)
