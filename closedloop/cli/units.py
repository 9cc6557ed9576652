"""``closedloop units``: a network's layers as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from closedloop.cli.building import in_torch, subject_recipe
from closedloop.cli.console import console, tell
from closedloop.cli.options import Command
from closedloop.cli.tables import show_table
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
            _show_units(subject)
            return
        layers = layers_of(subject, None if layer is None else [layer], depth)
    _show_layers(subject, layers)
    labels = subject.units.coords["label"]
    if layer is not None and any(labels):
        tell("  ".join(f"{i} {label}" for i, label in enumerate(labels)), style="dim")


COMMAND = Command(
    units,
    (SubjectPart,),
    without=("engine", "noise"),
    helps={"layer": "Only this layer, with its units' names."},
    says={"layer": "all"},
)


def _show_layers(subject: TorchSubject, layers: list[Layer]) -> None:
    """Prints a row for each layer; what is said of rows and columns is said once where both are the same."""
    size = subject.resolution
    rows = [
        [
            layer.name,
            "×".join(map(str, layer.shape)),
            str(layer.units),
            _both([_extent(length, size) for length in layer.field.size]),
            _both(["–" if stride == 0 else str(stride) for stride in layer.field.stride]),
            _both(
                [f"{first}:{last}" for first, last in zip(layer.central_box[:2], layer.central_box[2:], strict=True)]
            ),
            layer.field.method,
        ]
        for layer in layers
    ]
    columns = ["layer", "shape", "units", "RF", "stride", "central RF", "found by"]
    show_table(columns, rows, f"{subject.name}: images of {size} × {size} pixels")
    tell(
        "RF: receptive field in pixels, rows × columns where they differ; in brackets the whole of one that reaches "
        "beyond the image. Central RF: what the central unit sees of the image, from:to.",
        style="dim",
    )


def _extent(length: int, size: int) -> str:
    """Returns the length of a receptive field; of one that is larger than the image what lies in it, and its own."""
    return str(length) if length <= size else f"{size} ({length})"


def _both(pair: Sequence[str]) -> str:
    """Returns what is said of rows and of columns, once where it is the same."""
    return pair[0] if pair[0] == pair[1] else " × ".join(pair)


def _show_units(subject: Subject, most: int = 50) -> None:
    """Prints the units of a subject without layers, with their coordinates."""
    columns, names = list(subject.units.coords), subject.units.neuroid_id[:most]
    rows = [[name, *(_short(subject.units.coords[c][i]) for c in columns)] for i, name in enumerate(names)]
    count = len(subject.units)
    show_table(["unit", *columns], rows, f"{subject.name}: {count} unit{'s' * (count != 1)}")
    if count > most:
        tell(f"the first {most} of {count} units", style="dim")


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
