"""The layers of a network: shape, number of units, receptive field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from closedloop.signatures import at_door

from .options import OUTPUT
from .probe import called, find_layer, survey
from .receptive import ReceptiveField
from .torch_subject import TorchSubject
from .units import LayerShape


@dataclass(frozen=True)
class Layer:
    """One layer of a network.

    Attributes:
        name: As `TorchSubject` takes it.
        kind: Class of the module.
        shape: What it returns for one image: ``(units,)``, ``(channels, h, w)`` or ``(tokens, channels)``.
        units: How many numbers that is.
        field: Its receptive field.
        central_box: What the unit at the central position sees: ``(y0, x0, y1, x1)`` in pixels, half-open.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    units: int
    field: ReceptiveField
    central_box: tuple[int, int, int, int]


@at_door
def layers_of(subject: TorchSubject, only: Sequence[str] | None = None, depth: int = 2) -> list[Layer]:
    """Returns the layers of a subject's network in the order in which they run, and its output.

    Args:
        subject: The subject.
        only: Names of the layers wanted; None for all down to `depth`.
        depth: Levels of modules to list: 1 for ``blocks``, 2 for ``blocks.3`` …; 0 for all.

    Raises:
        UnknownNameError: No such layer.
    """
    size = subject.resolution
    example = torch.full((1, 3, size, size), 0.5, device=next(subject.model.parameters(), torch.empty(0)).device)
    shapes = {name: shape for name, (shape, _) in survey(subject.model, example).items() if 1 <= len(shape) <= 3}
    if only is None:
        names = [n for n in shapes if "#" not in n and (n == OUTPUT or depth == 0 or n.count(".") < depth)]
    else:
        names = [find_layer(subject.model, name) for name in only]
    fields = subject.receptive_fields(names)
    return [_layer(subject, name, shapes[name], field) for name, field in zip(names, fields, strict=True)]


def _layer(subject: TorchSubject, name: str, shape: tuple[int, ...], field: ReceptiveField) -> Layer:
    module = subject.model if name == OUTPUT else called(subject.model, name)[0]
    known = LayerShape(name, shape)
    center = known.central(0)
    box = field.box(max(center.y, 0), max(center.x, 0), (subject.resolution, subject.resolution))
    return Layer(name, type(module).__name__, shape, int(torch.Size(shape).numel()), field, box)
