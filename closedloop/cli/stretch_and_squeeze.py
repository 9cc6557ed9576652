"""``closedloop stretch-and-squeeze``: what a response does not care for, and what breaks it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from closedloop.cli.building import load, numbers_of, read_config, subject_recipe, where_of
from closedloop.cli.console import Meter, say
from closedloop.cli.options import Command
from closedloop.errors import InvalidArgumentError
from closedloop.loop.parts import FilePart, RunPart, SubjectPart
from closedloop.loop.settings import option, settings
from closedloop.recipes import as_recorded


@settings
class AroundPart:
    """What is searched around, and where distances are taken."""

    thread: str | None = option(
        default=None, metavar="NAME", shown="the only one", help="Evolution of the run whose image is the reference."
    )
    stage: str = option(
        default="pixels",
        metavar="NAME",
        help="Where distances are taken: pixels, or a layer of the subject, such as blocks.1.",
    )


def stretch_and_squeeze(
    given: Mapping[str, Any],
    run: Annotated[
        Path | None,
        typer.Argument(metavar="RUN", help="An evolution, whose image is the reference; none beside --config."),
    ] = None,
) -> None:
    """Search around an evolved image: far at a held response, and near with the response gone."""
    from closedloop.cli.show import show_run
    from closedloop.protocols import StretchSettings
    from closedloop.protocols import stretch_and_squeeze as search

    content = read_config(given, "stretch_and_squeeze")
    if (run is None) != bool(content):
        raise InvalidArgumentError("run: expected the folder of an evolution's run, or --config FILE, and not both.")
    held, arguments = _repeated(given, content) if run is None else _evolved(run, given)
    recipe = subject_recipe(given, held)
    where = where_of(given, "" if run is None else run.resolve().name, "around")
    subject = load(recipe)
    say(f"Run: {where['save']}")
    with Meter("searching") as meter:
        search(
            subject,
            stage=given.get("stage", content.get("stage", AroundPart.stage)),
            progress=meter,
            **arguments,
            **where,
            **numbers_of(StretchSettings, given, content),
        )
    show_run(where["save"])


def _evolved(run: Path, given: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Returns the recipe of the subject, and generator, reference and objective, of the run of an evolution."""
    from closedloop.analysis.preferred import evolved_reference
    from closedloop.recording.evolutions import experiment_of
    from closedloop.recording.reader import open_recording

    recording = open_recording(run)
    generator, code, objective = evolved_reference(recording, given.get("thread"))
    subject = as_recorded(experiment_of(recording)).get("subject")
    return subject, {"generator": generator, "reference": code, "objective": objective}


def _repeated(given: Mapping[str, Any], content: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Returns the same of the run beside a file."""
    from closedloop import recipes
    from closedloop.protocols import stored_reference

    if "thread" in given:
        raise InvalidArgumentError("thread: expected none beside --config, whose run holds its reference.")
    generator = recipes.build("generators", **content["generator"])
    code = stored_reference(Path(given["config"]).parent)
    return content["subject"], {"generator": generator, "reference": code, "objective": content["objective"]}


COMMAND = Command(
    stretch_and_squeeze,
    (FilePart, AroundPart, "closedloop.protocols:StretchSettings", SubjectPart, RunPart),
    says=dict.fromkeys(("subject", "layer", "weights", "engine", "device", "noise"), "as in the run"),
)
