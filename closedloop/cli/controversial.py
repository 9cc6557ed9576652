"""``closedloop controversial``: images about which two models disagree, shown to the subject."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from closedloop.checks import whole_number
from closedloop.cli.building import DEFAULT_UNIT, asked, load, numbers_of, read_config, read_named
from closedloop.cli.console import Meter, say
from closedloop.cli.options import Command
from closedloop.errors import InvalidArgumentError
from closedloop.loop.parts import FilePart, GeneratorPart, ObjectivePart, ReferencePart, RunPart, SubjectPart, UnitPart
from closedloop.loop.settings import option, settings


@settings
class ModelsPart:
    """Which two models."""

    models: tuple[str, ...] = option(
        default=(),
        shown="required, two",
        names=("--model",),
        metavar="NAME",
        help="A model, given twice: twin:FOLDER, lite1, torchvision:NAME …; or with options, as for --subject.",
    )
    model_units: str = option(
        default="0", metavar="A,B", help="The unit of each model that predicts the subject's, counted from 0; or one."
    )


def controversial(given: Mapping[str, Any]) -> None:
    """Make images about which two models disagree, and show them to the subject: which of them is right?"""
    from closedloop.cli.show import show_run
    from closedloop.protocols import ControversialSettings
    from closedloop.protocols import controversial as dispute
    from closedloop.recipes import matched_generator

    content = read_config(given, "controversial")
    named, columns = _models(given, content)
    subject, beside = asked(given, content, "controversial")
    models = [load(read_named(name)) for name in named]
    made = read_named(given.get("generator", content.get("generator", GeneratorPart.generator)))
    made |= {"resolution": given["resolution"]} if "resolution" in given else {}
    say(f"Run: {beside['save']}")
    with Meter("making images") as meter:
        dispute(
            models,
            columns,
            subject=subject,
            generator=matched_generator(made, subject),
            references=given.get("references", content.get("references", ReferencePart.references)),
            progress=meter,
            **beside,
            **numbers_of(ControversialSettings, given, content),
        )
    show_run(beside["save"])


def _models(given: Mapping[str, Any], content: Mapping[str, Any]) -> tuple[list[Any], list[int]]:
    """Returns the recipes of two models, and the column of each."""
    held = content.get("models", {})
    named = list(given.get("models", held.get("subjects", [])))
    if len(named) != 2:
        raise InvalidArgumentError(f"models: expected two, --model NAME --model NAME, got {len(named)}.")
    if "model_units" not in given and "units" in held:
        return named, [int(c[0]) for c in held["units"]]
    words = str(given.get("model_units", ModelsPart.model_units)).split(",")
    columns = [number for word in words if (number := whole_number(word.strip())) is not None and number >= 0]
    if len(columns) < len(words) or len(words) > 2:
        raise InvalidArgumentError(
            f"model_units: expected one or two whole numbers such as 0,5, got {','.join(words)!r}."
        )
    return named, columns * (3 - len(words))


COMMAND = Command(
    controversial,
    (
        FilePart,
        ModelsPart,
        SubjectPart,
        UnitPart,
        ObjectivePart,
        GeneratorPart,
        "closedloop.protocols:ControversialSettings",
        ReferencePart,
        RunPart,
    ),
    defaults={"units": DEFAULT_UNIT},
    helps={"references": "Natural images, the scale of predictions: a folder, or 'bundled' (160 photographs)."},
    says={"objective": "the response of the only unit"},
)
