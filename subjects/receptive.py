"""Receptive fields of the units of a network: which pixels of the image a unit can depend on.

**Computed** where possible: the network is traced to a graph of ATen operations, and one walk along it keeps, for each
tensor, the first pixel, the extent and the step of what its elements see, as in Araujo, Norris & Sim 2019, "Computing
receptive fields of convolutional neural networks", Distill, eqs. 1 to 4. An operation that is not known here gives no
answer for all that follows from it. Then the field is **measured**: where the gradient of a unit with respect to the
image is not zero (Luo, Li, Urtasun & Zemel 2016, "Understanding the effective receptive field").

Both are kept: the walk gives all layers of lite0 in 5 s, exactly, where a measurement takes up to 17 s for each layer
and is too small where the far gradient vanishes (a ConvNeXt: 208 of 224 pixels) or wrong for units at the map's corners
(the last stages of ResNet-18 and GoogLeNet); in 3 of 24 layers of six networks; in the others both agree.

The field is that of the architecture: weights count as not zero, padding counts as image, and all channels at a
position share the field of the one that sees most.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx import Node

from closedloop.errors import InvalidArgumentError
from closedloop.networks.tokens import central_token
from closedloop.seeds import torch_seed

from .receptive_rules import Seen, Span, clip, overwrites, shape_of, walk

#: Row and column.
Pair = tuple[int, int]

#: Noise images that may pass without showing a new pixel before a measurement ends.
PATIENCE = 4


@dataclass(frozen=True)
class ReceptiveField:
    """What a unit sees, as rows and columns of the image; unit (y, x) of a map begins at ``start + stride * (y, x)``.

    Attributes:
        size: Rows, columns in pixels, not clipped by the image; those of the image where every unit sees all of it.
        stride: Pixels between the fields of neighbouring units of the map; 0 where all units see the same.
        start: First row, column seen by the unit at (0, 0); negative where it reaches into the padding.
        method: ``"computed"`` from the graph, or ``"gradient"``.
    """

    size: tuple[int, int]
    stride: tuple[int, int]
    start: tuple[int, int]
    method: str

    def box(self, y: int, x: int, resolution: tuple[int, int]) -> tuple[int, int, int, int]:
        """Returns what the unit at (y, x) sees of an image of ``resolution`` (rows, columns).

        Returns:
            ``(y0, x0, y1, x1)`` in pixels, half-open, clipped to the image. In a measured field of a network that is
            not translation-covariant (windowed attention) it is right for the middle of the map only.
        """
        if y < 0 or x < 0:
            raise InvalidArgumentError(f"y, x: expected a position in the map, 0 or more, got ({y}, {x}).")
        (y0, y1), (x0, x1) = (
            clip(start + stride * at, start + stride * at + size, length)
            for start, stride, at, size, length in zip(
                self.start, self.stride, (y, x), self.size, resolution, strict=True
            )
        )
        return y0, x0, y1, x1


def receptive_fields(module: nn.Module, example: Tensor) -> list[ReceptiveField]:
    """Returns the field of each output of ``module``: computed, or else measured.

    Args:
        module: ``module(example)`` is a tuple of tensors: maps ``(1, c, y, x)``, tokens ``(1, t, d)``, or ``(1, f)``.
        example: An image ``(1, 3, h, w)`` of the size that the module will be shown.

    Raises:
        InvalidArgumentError: An output can be neither computed nor measured, see `measured_field`.
    """
    computed = computed_fields(module, example)
    return [known or measured_field(module, example, output) for output, known in enumerate(computed)]


def computed_fields(module: nn.Module, example: Tensor) -> list[ReceptiveField | None]:
    """Computes the field of each output of ``module`` from its graph.

    Args:
        module: ``module(example)`` is a tuple of tensors. It is traced, and not changed.
        example: An image ``(1, 3, h, w)``; its values do not matter.

    Returns:
        One entry for each output; None where the graph holds an operation that is not known here, where units see
        neither the same nor a regular grid (tokens before attention), or for all if the module cannot be traced.
    """
    _check_example(example)
    program = _exported(module, example)
    if program is None:
        return [None] * len(_run(module, example))
    seen = walk(program.graph, program.graph_signature.user_inputs, _resolution(example))
    outputs = {node.name: node for node in program.graph.nodes}
    return [_published(seen, outputs.get(str(name))) for name in program.graph_signature.user_outputs]


def measured_field(
    module: nn.Module, example: Tensor, output: int, *, images: int = 32, seed: int = 0
) -> ReceptiveField:
    """Measures the field of one output of ``module`` by gradients on noise images.

    The unit is a weighted sum over channels, so that a dead channel hides nothing, and each image shows it through
    other open rectifiers and other maxima; it ends when `PATIENCE` images in a row add nothing. It is that of the
    middle of the map, with neighbours for the stride; where the image cuts its field off, units at the map's corners
    show the missing edges.

    Args:
        module: ``module(example)`` is a tuple of tensors. Neither parameters, buffers, gradients, mode nor the global
            random state change.
        example: An image ``(1, 3, h, w)``; its values do not matter.
        output: Which of the tensors. A map ``(1, c, y, x)``; tokens ``(1, t, d)``, where the central one is measured
            and `start` is its own; or ``(1, f)``.
        images: At most so many noise images, uniform in [0, 1].
        seed: Of the noise.

    Raises:
        InvalidArgumentError: No gradient reaches the image: the output does not depend on it, is not differentiable,
            or its units are dead.
    """
    _check_example(example)
    shape = _output(_run(module, example), output).shape
    grid = (shape[2], shape[3]) if len(shape) == 4 else (1, 1)
    resolution = _resolution(example)
    spans = _shown(module, example, output, _places(grid, _inner), images, seed)
    if (grid[0] // 2, grid[1] // 2) not in spans:
        raise InvalidArgumentError(f"output: no gradient of output {output} reaches the image; its units may be dead.")
    if any(_cut(pair, resolution) for pair in spans.values()):
        spans |= _shown(module, example, output, _places(grid, _outer), images, seed)
    (rows, row_step, top), (cols, col_step, left) = (
        _fitted({place[axis]: pair[axis] for place, pair in spans.items()}, grid[axis], resolution[axis])
        for axis in (0, 1)
    )
    return ReceptiveField((rows, cols), (row_step, col_step), (top, left), "gradient")


# The trace ------------------------------------------------------------------------------------------------------------


def _exported(module: nn.Module, example: Tensor) -> torch.export.ExportedProgram | None:
    """Returns the module as a graph in which no operation changes a tensor that another reads; None if it has none."""
    with _undisturbed(example), _silent():
        try:
            program = torch.export.export(module, (example,), strict=False)
            if any(map(overwrites, program.graph.nodes)):
                program = program.run_decompositions({})
        except Exception:  # noqa: BLE001 - tracing runs any module's code, which may raise anything
            return None
    return None if any(map(overwrites, program.graph.nodes)) else program


def _published(seen: Mapping[Node, Seen | None], node: Node | None) -> ReceptiveField | None:
    """Returns the field of an output; None for what does not depend on the image, or not on a regular grid."""
    found = None if node is None else seen.get(node)
    if node is None or found is None or found.scattered:
        return None
    rank = len(shape_of(node))
    grid = (2, 3) if rank == 4 else (None, None)
    channels = {1 if rank == 4 else rank - 1}
    if found.ragged - channels or any(axis.dim not in (None, dim) for axis, dim in zip(found.axes, grid, strict=True)):
        return None
    rows, cols = found.axes
    return ReceptiveField((rows.size, cols.size), (rows.stride, cols.stride), (rows.start, cols.start), "computed")


@contextmanager
def _undisturbed(example: Tensor) -> Iterator[None]:
    """Silences warnings, and leaves the global random state as it was before."""
    devices = [example.device] if example.is_cuda else []
    with warnings.catch_warnings(), torch.random.fork_rng(devices):
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _silent() -> Iterator[None]:
    """Silences the log and the listings that a failing trace writes."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)


# The measurement ------------------------------------------------------------------------------------------------------


def _check_example(example: Tensor) -> None:
    if example.ndim != 4 or example.shape[0] != 1 or not example.is_floating_point():
        raise InvalidArgumentError(
            f"example: expected one image (1, 3, h, w) of floats, got {tuple(example.shape)} {example.dtype}."
        )


def _resolution(example: Tensor) -> Pair:
    return example.shape[2], example.shape[3]


def _run(module: nn.Module, images: Tensor, gradient: bool = False) -> Sequence[Tensor]:
    """Returns the module's outputs; its buffers are stood in for by copies, which a batch norm may update."""
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    with _undisturbed(images), torch.set_grad_enabled(gradient):
        outputs = functional_call(module, buffers, (images.clone(),))
    if not isinstance(outputs, tuple | list) or not all(isinstance(output, Tensor) for output in outputs):
        raise InvalidArgumentError(f"module: expected a tuple of tensors as its result, got {type(outputs).__name__}.")
    return outputs


def _output(outputs: Sequence[Tensor], output: int) -> Tensor:
    if not 0 <= output < len(outputs):
        raise InvalidArgumentError(f"output: expected 0 to {len(outputs) - 1}, got {output!r}.")
    return outputs[output]


def _inner(count: int) -> tuple[int, int, int]:
    """Returns the middle of ``count`` units, its neighbour, and one to confirm the step between them."""
    return count // 2, max(count // 2 - 1, 0), count // 4


def _outer(count: int) -> tuple[int, int, int]:
    """Returns the first units and the last."""
    return 0, min(1, count - 1), count - 1


def _places(grid: Pair, choose: Callable[[int], tuple[int, int, int]]) -> list[Pair]:
    return list(dict.fromkeys(zip(choose(grid[0]), choose(grid[1]), strict=True)))


def _cut(pair: tuple[Span, Span], resolution: Pair) -> bool:
    """Tells whether what is seen reaches the image's edge, so that there may be more of it."""
    return any(low == 0 or high == length for (low, high), length in zip(pair, resolution, strict=True))


def _shown(
    module: nn.Module, example: Tensor, output: int, places: list[Pair], images: int, seed: int
) -> dict[Pair, tuple[Span, Span]]:
    """Returns rows and columns from which a gradient reaches the units at ``places``; none for what sees nothing."""
    generator = torch.Generator().manual_seed(torch_seed(seed))
    touched = torch.zeros(len(places), *_resolution(example), dtype=torch.bool)
    whole, bounds, calm = _bounds(torch.ones_like(touched[0])), [_bounds(one) for one in touched], 0
    for _ in range(images):
        noise = torch.rand(example.shape, generator=generator).to(example)
        touched |= _touched(module, noise, output, places, generator)
        before, bounds = bounds, [_bounds(one) for one in touched]
        calm = calm + 1 if bounds == before and None not in bounds else 0
        if calm == PATIENCE or all(bound == whole for bound in bounds):
            break
    return {place: bound for place, bound in zip(places, bounds, strict=True) if bound is not None}


def _touched(module: nn.Module, noise: Tensor, output: int, places: list[Pair], generator: torch.Generator) -> Tensor:
    """Returns pixels ``(places, h, w)`` bool with a gradient; without cuDNN, whose fast algorithms blur exact zeros."""
    touched = []
    with torch.inference_mode(False), torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
        noise = noise.clone().requires_grad_()
        found = _output(_run(module, noise, gradient=True), output)
        if not found.requires_grad:
            raise InvalidArgumentError(f"output: output {output} has no gradient; it may be detached or whole numbers.")
        for place in places:
            unit = _channels(found, place)
            weighted = (unit * (0.5 + torch.rand(unit.shape, generator=generator).to(unit))).sum()
            (slope,) = torch.autograd.grad(weighted, noise, retain_graph=True, materialize_grads=True)
            touched.append((slope != 0).any(dim=1)[0].cpu())
    return torch.stack(touched)


def _channels(found: Tensor, place: Pair) -> Tensor:
    """Picks all channels at a place of ``(1, c, y, x)``, the central token of ``(1, t, d)``, or all of ``(1, f)``."""
    if found.ndim == 4:
        return found[0, :, place[0], place[1]]
    return found[0, central_token(found.shape[1])[0]] if found.ndim == 3 else found.flatten()


def _bounds(touched: Tensor) -> tuple[Span, Span] | None:
    """Returns the rows and columns around all that is true in ``(h, w)``."""
    if not touched.any():
        return None
    rows, cols = (torch.nonzero(touched.any(dim=dim)).flatten().tolist() for dim in (1, 0))
    return (rows[0], rows[-1] + 1), (cols[0], cols[-1] + 1)


def _fitted(found: Mapping[int, Span], count: int, length: int) -> tuple[int, int, int]:
    """Finds size, stride and start along an axis from what some of its ``count`` units see, the middle one first.

    An edge counts where the image does not cut it off. Where the units do not follow one step, the field is that of
    the middle unit, and the step is the mean one.
    """
    middle = count // 2
    low, high = found[middle]
    if all(span == (0, length) for span in found.values()):
        return length, 0, 0
    lows = {at: span[0] for at, span in found.items() if span[0] > 0}
    highs = {at: span[1] for at, span in found.items() if span[1] < length}
    steps = [edges[at + 1] - edges[at] for edges in (lows, highs) for at in edges if at + 1 in edges]
    if lows and highs and steps:
        start, end = (edge - steps[0] * at for edge, at in (_first(lows), _first(highs)))
        if all(clip(start + steps[0] * at, end + steps[0] * at, length) == found.get(at) for at in _inner(count)):
            return end - start, steps[0], start
    step = 0 if count == 1 or high - low == length else round(length / count)
    return high - low, step, low - step * middle


def _first(edges: Mapping[int, int]) -> tuple[int, int]:
    """Returns an edge, of the unit nearest to the middle that has one, and that unit's position."""
    at = next(iter(edges))
    return edges[at], at
