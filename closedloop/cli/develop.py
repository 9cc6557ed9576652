"""``closedloop develop``: what units want to see while a small network is trained, look by look."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from closedloop.cli.building import read_config, read_named, where_of
from closedloop.cli.console import Meter
from closedloop.cli.lca import training_options
from closedloop.cli.options import Command
from closedloop.loop.parts import FilePart, LookPart, RunPart
from closedloop.recording.layout import REFERENCES


def develop(given: Mapping[str, Any]) -> None:
    """Train a small network, and follow what its units want to see, how selective they are, and what layers do."""
    from closedloop.cli.show import show_run
    from closedloop.protocols import DevelopSettings
    from closedloop.protocols import develop as follow

    content = read_config(given, "develop")
    told: dict[str, Any] = training_options(given, content, "develop")
    names = DevelopSettings.__dataclass_fields__
    told |= {name: value for name, value in {**content, **given}.items() if name in names}
    parts: dict[str, Any] = {
        name: read_named(given.get(name, content.get(name, getattr(LookPart, name))))
        for name in ("generator", "strategy")
    }
    where = where_of(given, "develop", told.get("network", "mlp"))
    with Meter("developing") as meter:
        follow(references=_references(given, content), progress=meter, **where, **parts, **told)
    show_run(where["save"])


COMMAND = Command(
    develop,
    (
        FilePart,
        "closedloop.protocols:TrainSettings",
        "closedloop.protocols:DevelopSettings",
        LookPart,
        "closedloop.protocols:AllocationSettings",
        RunPart,
    ),
)


def _references(given: Mapping[str, Any], content: Mapping[str, Any]) -> Any:
    """Returns the fixed set of images: what was said, or a file says; a run's own copy of it."""
    from closedloop.recording.references import read_references

    said = given.get("references", content.get("references", LookPart.references))
    if "references" not in given and said == REFERENCES:
        return read_references(Path(given["config"]).parent)
    return said
