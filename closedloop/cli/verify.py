"""``closedloop verify``: images that a twin promises much of, shown to the subject beside controls."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from closedloop.cli.building import load, numbers_of, read_named, subject_recipe, where_of
from closedloop.cli.console import Meter, console, say
from closedloop.cli.options import Command
from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import Generator, Subject
from closedloop.loop.parts import GeneratorPart, RunPart, SubjectPart
from closedloop.loop.settings import option, settings
from closedloop.recipes import as_recorded


@settings
class VerifyPart:
    """What is verified."""

    twin: Path | None = option(
        default=None, metavar="FOLDER", shown="RUN-twin", help="Folder of the twin; see: closedloop fit-twin."
    )
    units: str = option(
        default="all", names=("--unit",), metavar="UNITS", help="Units of the twin that get an image: 0-9, all …"
    )
    method: str = option(default="adam", metavar="NAME", help="Way of gradients that makes the images; see ascend.")
    steps: int | None = option(default=None, least=1, shown="as published", help="Gradient steps.")
    diverse: int = option(
        default=1, least=1, help="Images of each unit: the best, and others that drive it nearly as much, by the twin."
    )
    above: float = option(
        default=0.85, unit="share of the best", help="How much the twin must promise of each of several images."
    )
    apart: str = option(
        default="features",
        choices=("features", "codes", "pixels"),
        help="In what several images of a unit are to differ.",
    )


def verify(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run that the twin was fitted to.")],
    given: Mapping[str, Any],
) -> None:
    """Make images by a twin, and show them to the subject itself beside controls, in fresh presentations."""
    from closedloop.cli.show import show_run
    from closedloop.objectives.naming_units import parse_columns
    from closedloop.protocols import VerifySettings, ascend
    from closedloop.protocols import verify as show_images
    from closedloop.recipes import matched_generator
    from closedloop.recording.evolutions import experiment_of
    from closedloop.recording.reader import open_recording

    recording = open_recording(run)
    place = given.get("twin", run.resolve().with_name(f"{run.resolve().name}-twin"))
    twin = load({"name": f"twin:{place}"})
    columns = parse_columns(given.get("units", VerifyPart.units), len(twin.units), given.get("seed", 0))
    subject = load(subject_recipe(given, as_recorded(experiment_of(recording)).get("subject")))
    ids = list(subject.units.neuroid_id)
    units = [ids.index(twin.units.neuroid_id[c].removeprefix("twin.")) for c in columns]
    where = where_of(given, run.resolve().name, "verify")
    named = read_named(given.get("generator", GeneratorPart.generator))
    with console.status("Making images by the twin …"):
        generator = matched_generator(named, twin)
        if given.get("diverse", VerifyPart.diverse) > 1:
            images, of = _several(twin, generator, columns, given)
            units = [units[i] for i in of]
        else:
            made = ascend(
                twin,
                generator,
                given.get("method", VerifyPart.method),
                unit=columns,
                steps=given.get("steps"),
                seed=given.get("seed", 0),
                progress=False,
            )
            images = made["image"].transpose("unit", "rgb", "row", "col").values.astype(np.float32)
    say(f"Run: {where['save']}")
    with Meter("verifying") as meter:
        show_images(
            subject,
            images,
            units,
            twin=twin,
            twin_units=columns,
            recording=recording,
            progress=meter,
            **where,
            **numbers_of(VerifySettings, given, {}),
        )
    show_run(where["save"])


def _several(
    twin: Subject, generator: Generator, columns: list[int], given: Mapping[str, Any]
) -> tuple[NDArray[np.float32], list[int]]:
    """Returns several images of each unit, and of which of the units each is.

    Raises:
        InvalidArgumentError: A way of gradients was named, of which there is one for such images.
    """
    from closedloop.gradients.diverse import as_images, diverse_images

    if "method" in given:
        raise InvalidArgumentError("method: expected none beside --diverse, whose images have a way of their own.")
    numbers: dict[str, Any] = {name: given[name] for name in ("above", "apart", "steps") if name in given}
    sets = [
        as_images(diverse_images(twin, generator, c, count=given["diverse"], seed=given.get("seed", 0), **numbers))
        for c in columns
    ]
    return np.concatenate(sets), [i for i, images in enumerate(sets) for _ in images]


COMMAND = Command(
    verify,
    (VerifyPart, GeneratorPart, "closedloop.protocols:VerifySettings", SubjectPart, RunPart),
    without=("resolution",),
    says=dict.fromkeys(("subject", "layer", "weights", "engine", "device", "noise"), "as in the run"),
)
