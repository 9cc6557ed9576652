"""``closedloop units``: a network's layers as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from closedloop.cli.building import in_torch, subject_recipe
from closedloop.cli.console import console
from closedloop.cli.options import Command
from closedloop.loop.parts import SubjectPart

if TYPE_CHECKING:
    from closedloop.interfaces import Subject
    from closedloop.subjects import Layer, TorchSubject


def units(
    given: Mapping[str, Any],
    depth: Annotated[int, typer.Option(help="Levels of the network's modules to list; 0 for all.")] = 2,
) -> None:
    """List a network's layers: shape, number of units, receptive field."""
    from closedloop.subjects import TorchSubject, layers_of, load_subject

    layer = given.get("layer")
    recipe = subject_recipe(given)
    with console.status("Loading the subject …"):
        subject = load_subject(**in_torch(recipe))
        if not isinstance(subject, TorchSubject):
            console.print(_unit_table(subject))
            return
        layers = layers_of(subject, None if layer is None else [layer], depth)
    console.print(_layer_table(subject, layers))
    console.print(
        "RF: receptive field, pixels, rows x columns; that of a central unit as y0:y1, x0:x1, clipped to the image.",
        style="dim",
        highlight=False,
    )
    labels = subject.units.coords["label"]
    if layer is not None and any(labels):
        console.print("  ".join(f"{i} {label}" for i, label in enumerate(labels)), style="dim", highlight=False)


COMMAND = Command(
    units,
    (SubjectPart,),
    without=("engine", "noise"),
    helps={"layer": "Only this layer, with its units' names."},
    says={"layer": "all"},
)


def _layer_table(subject: TorchSubject, layers: list[Layer]) -> Table:
    size = subject.resolution
    table = Table(title=f"{subject.name}: images of {size} x {size} pixels", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("layer", overflow="fold", min_width=12)
    for column, width in (("shape", 10), ("units", 6), ("RF size", 7), ("stride", 5), ("central RF", 8), ("by", 8)):
        table.add_column(column, justify="right", overflow="fold", min_width=width)
    for layer in layers:
        y0, x0, y1, x1 = layer.central_box
        field = layer.field
        table.add_row(
            layer.name,
            "x".join(map(str, layer.shape)),
            str(layer.units),
            f"{field.size[0]}x{field.size[1]}",
            f"{field.stride[0]}x{field.stride[1]}",
            f"{y0}:{y1}, {x0}:{x1}",
            field.method,
        )
    return table


def _unit_table(subject: Subject) -> Table:
    """The units of a subject without layers, with their coordinates."""
    table = Table(
        title=f"{subject.name}: {len(subject.units)} unit{'s' * (len(subject.units) != 1)}", title_justify="left"
    )
    columns = list(subject.units.coords)
    for column in ("unit", *columns):
        table.add_column(column)
    for i, unit in enumerate(subject.units.neuroid_id[:50]):
        table.add_row(unit, *(_short(subject.units.coords[c][i]) for c in columns))
    return table


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
