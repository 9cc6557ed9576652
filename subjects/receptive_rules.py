"""What each tensor of a traced network sees of the image: one rule for each ATen operation, applied along the graph.

Along rows and along columns, element i of a map sees ``[start + i * stride, … + size)``: Araujo, Norris & Sim 2019,
"Computing receptive fields of convolutional neural networks", Distill, eqs. 1 to 4. Where a step mixes positions, what
all elements see *together* is kept, so that a later sum over them (a global pool, attention) has an answer again.
An operation without a rule has no answer, nor has anything that follows from it.

Names of operations are those of torch 2.6 to 2.13, before and after decomposition.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

Shape = tuple[int, ...]
#: First pixel and one past the last.
Span = tuple[int, int]
#: Row and column.
Pair = tuple[int, int]


# What the elements of a tensor see ------------------------------------------------------------------------------------


class _UnknownError(Exception):
    """What the operation does with positions is not known, or cannot be expressed; the answer is None."""


@dataclass(frozen=True)
class Axis:
    """Along one axis of the image, element i of dimension `dim` sees ``[start + i * stride, … + size)``.

    `dim` None: all elements see the same ``[start, start + size)``. The image has `length` pixels.
    """

    start: int
    size: int
    stride: int
    dim: int | None
    length: int

    @property
    def clipped(self) -> Span:
        """What all elements see, within the image."""
        return clip(self.start, self.start + self.size, self.length)

    def over(self, count: int) -> Axis:
        """Returns what ``count`` elements see together, within the image."""
        low, high = clip(self.start, self.start + (count - 1) * self.stride + self.size, self.length)
        return self if self.dim is None else Axis(low, high - low, 0, None, self.length)

    def covers(self, other: Axis) -> bool:
        """Tells whether all elements see the same, and no less than ``other``, where all see the same too."""
        (low, high), (other_low, other_high) = self.clipped, other.clipped
        return self.dim is None and low <= other_low and other_high <= high

    def slide(self, kernel: int, stride: int, padding: int, dilation: int = 1) -> Axis:
        """Slides a window along its dimension: Araujo et al. 2019, eqs. 1 and 2."""
        if self.dim is None:
            return self
        start = self.start - padding * self.stride
        size = self.size + (kernel - 1) * dilation * self.stride
        return replace(self, start=start, size=size, stride=self.stride * stride)


@dataclass(frozen=True)
class Seen:
    """What the elements of a tensor see of the image.

    Attributes:
        rows: Along the image's rows.
        cols: Along its columns.
        scattered: Dimensions over which the elements *together* see ``rows`` × ``cols``, each an unknown part. Then
            neither axis has a dimension.
        ragged: Dimensions along which some elements see less than stated (channels of joined branches).
    """

    rows: Axis
    cols: Axis
    scattered: frozenset[int] = frozenset()
    ragged: frozenset[int] = frozenset()

    @property
    def axes(self) -> tuple[Axis, Axis]:
        """Rows, columns."""
        return self.rows, self.cols

    @property
    def positions(self) -> frozenset[int]:
        """The dimensions along which different parts of the image are seen."""
        return self.scattered | {axis.dim for axis in self.axes if axis.dim is not None}

    def renumbered(self, new: Callable[[int], int]) -> Seen:
        """Calls dimension d of the tensor ``new(d)``."""
        rows, cols = (axis if axis.dim is None else replace(axis, dim=new(axis.dim)) for axis in self.axes)
        return Seen(rows, cols, frozenset(map(new, self.scattered)), frozenset(map(new, self.ragged)))

    def spread(self, shape: Shape, dims: Iterable[int]) -> Seen:
        """Makes each element depend on all elements along ``dims``."""
        merged = {dim % len(shape) for dim in dims}
        rows, cols = (axis.over(shape[axis.dim]) if axis.dim in merged else axis for axis in self.axes)
        return Seen(rows, cols, self.scattered - merged, self.ragged - merged)

    def without_single(self, shape: Shape) -> Seen:
        """Counts the dimensions of length 1 as no dimension."""
        return self.spread(shape, [dim for dim, count in enumerate(shape) if count == 1])

    def scatter(self, shape: Shape) -> Seen:
        """Gives the regular grid up, and keeps only what all see together."""
        merged = self.spread(shape, (axis.dim for axis in self.axes if axis.dim is not None))
        return replace(merged, scattered=self.positions, ragged=self.ragged)

    def widen(self, shape: Shape, wider: Shape) -> Seen:
        """Broadcasts from ``shape`` to ``wider``."""
        shift = len(wider) - len(shape)
        repeated = [dim for dim, count in enumerate(shape) if count == 1 and wider[dim + shift] > 1]
        return self.spread(shape, repeated).renumbered(lambda dim: dim + shift)


def _union(a: Seen, b: Seen, shape: Shape) -> Seen:
    """Returns what two tensors of one shape see together, element by element."""
    for one, other in ((a, b), (b, a)):
        together = other.spread(shape, range(len(shape)))
        covers = all(axis.covers(hull) for axis, hull in zip(one.axes, together.axes, strict=True))
        if covers and not one.scattered and not one.ragged:
            return one
    ragged = a.ragged | b.ragged
    if not (a.scattered or b.scattered):
        joined = [_joined(*pair, shape) for pair in zip(a.axes, b.axes, strict=True)]
        if joined[0] and joined[1]:
            return Seen(joined[0], joined[1], ragged=ragged)
    a, b = a.scatter(shape), b.scatter(shape)
    rows, cols = (_hull(*pair) for pair in zip(a.axes, b.axes, strict=True))
    return Seen(rows, cols, a.scattered | b.scattered, ragged)


def _joined(a: Axis, b: Axis, shape: Shape) -> Axis | None:
    """Puts two axes together; None where they have different steps."""
    if (a.dim, a.stride) == (b.dim, b.stride):
        return _hull(a, b)
    for one, other in ((a, b), (b, a)):
        if other.dim is not None and one.covers(other.over(shape[other.dim])):
            return one
    return None


def _hull(a: Axis, b: Axis) -> Axis:
    """Returns the shortest interval around two of the same step."""
    start = min(a.start, b.start)
    return replace(a, start=start, size=max(a.start + a.size, b.start + b.size) - start)


def clip(low: int, high: int, length: int) -> Span:
    """Cuts ``[low, high)`` to ``[0, length)``."""
    return min(max(low, 0), length), min(max(high, 0), length)


# The walk along the graph ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Call:
    """One operation of the graph.

    Attributes:
        args: All arguments by their name in the operation's schema, tensors as nodes.
        seen: What is known of earlier nodes; a node that is missing does not depend on the image.
        shape: Shape of the result, or of the first one.
    """

    args: Mapping[str, Any]
    seen: Mapping[Node, Seen | None]
    shape: Shape

    @property
    def tensors(self) -> list[Node]:
        flat = (value if isinstance(value, list | tuple) else [value] for value in self.args.values())
        return [value for values in flat for value in values if isinstance(value, Node)]

    def fields(self, nodes: Iterable[Node]) -> list[tuple[Seen, Shape]]:
        """Returns those of ``nodes`` that depend on the image, with their shapes."""
        return [(seen, shape_of(node)) for node in nodes if (seen := self.seen.get(node)) is not None]

    def only(self, name: str | None = None) -> tuple[Seen, Shape]:
        """Returns the first argument, or the one called ``name``, where no other one depends on the image."""
        name = next(iter(self.args)) if name is None else name
        if [node for node in self.tensors if node in self.seen] != [self.args[name]]:
            raise _UnknownError
        return self.fields([self.args[name]])[0]

    def map(self) -> tuple[Seen, Shape]:
        """Returns the first argument as a map (n, c, y, x) on a regular grid."""
        seen, shape = self.only()
        grid = seen.rows.dim in (None, 2) and seen.cols.dim in (None, 3) and seen.ragged <= {1}
        if len(shape) != 4 or seen.scattered or not grid:
            raise _UnknownError
        return seen, shape

    def dims(self, name: str, rank: int) -> list[int]:
        """Returns the dimensions in an argument, counted from 0; all where there are none."""
        given = self.args.get(name)
        dims = range(rank) if given is None or given == [] else given if isinstance(given, Sequence) else [given]
        return [dim % rank for dim in dims]


def walk(graph: torch.fx.Graph, inputs: Sequence[str], resolution: tuple[int, int]) -> dict[Node, Seen | None]:
    """Finds what each node that depends on the image sees of it, None where that is not known."""
    height, width = resolution
    pixels = Seen(Axis(0, 1, 1, 2, height), Axis(0, 1, 1, 3, width))
    seen: dict[Node, Seen | None] = {node: pixels for node in graph.nodes if node.name in inputs}
    for node in graph.nodes:
        if node.op == "call_function" and any(source in seen for source in node.all_input_nodes):
            seen[node] = _after(node, seen)
    return seen


def _after(node: Node, seen: Mapping[Node, Seen | None]) -> Seen | None:
    """Returns what the result of an operation sees."""
    if any(seen.get(source, node) is None for source in node.all_input_nodes):
        return None
    try:
        if node.target is operator.getitem:
            return _picked(node, seen)
        return _rule(node)(_Call(_arguments(node), seen, shape_of(node)))
    except _UnknownError:
        return None


def _rule(node: Node) -> Callable[[_Call], Seen]:
    """Returns how the operation of ``node`` changes what is seen."""
    target = node.target
    if not isinstance(target, torch._ops.OpOverload):
        raise _UnknownError
    rule = RULES.get(_name(target))
    if rule is None and torch.Tag.pointwise in target.tags:
        rule = _pointwise
    if rule is None:
        raise _UnknownError
    return rule


def _name(target: torch._ops.OpOverload[..., Any]) -> str:
    return target._schema.name.removeprefix("aten::")


def _arguments(node: Node) -> dict[str, Any]:
    """Returns the arguments of an operation by name, in the order of its schema, defaults filled in."""
    target: Any = node.target
    schema = target._schema.arguments
    given = dict(zip((argument.name for argument in schema), node.args, strict=False)) | node.kwargs
    return {argument.name: given.get(argument.name, argument.default_value) for argument in schema}


def shape_of(node: Node) -> Shape:
    """Returns the shape of a node's tensor, or of its first one."""
    value = node.meta.get("val")
    first = value[0] if isinstance(value, list | tuple) and value else value
    if not isinstance(first, Tensor) or not all(isinstance(count, int) for count in first.shape):
        raise _UnknownError
    return tuple(first.shape)


def _picked(node: Node, seen: Mapping[Node, Seen | None]) -> Seen | None:
    """Picks one of several results: parts of a division see the same, and of other operations the first is known."""
    source: Any
    source, index = node.args
    parts = isinstance(source.target, torch._ops.OpOverload) and RULES.get(_name(source.target)) in (_divided, _unbound)
    return seen[source] if parts or index == 0 else None


def overwrites(node: Node) -> bool:
    """Tells whether a node changes what another tensor sees; with one operand, as in an in-place ReLU, it cannot."""
    if not (isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable):
        return False
    return torch.Tag.pointwise not in node.target.tags or len(node.all_input_nodes) > 1


# Rules: windows -------------------------------------------------------------------------------------------------------


def _slid(seen: Seen, rows: tuple[int, int, int, int], cols: tuple[int, int, int, int]) -> Seen:
    """Slides a window of (kernel, stride, padding, dilation) along each axis."""
    return replace(seen, rows=seen.rows.slide(*rows), cols=seen.cols.slide(*cols))


def _pair(value: Any, default: Any = None) -> tuple[int, int]:
    """Reads a window's parameter for rows and columns from a number, one number in a list, two, or none."""
    values = default if value in (None, []) else value
    values = list(values) if isinstance(values, Sequence) else [values]
    return values[0], values[-1]


def _convolved(call: _Call) -> Seen:
    seen, _ = call.map()
    if call.args.get("transposed"):
        raise _UnknownError
    kernel = shape_of(call.args["weight"])[2:]
    dilation = _pair(call.args["dilation"])
    padding = _conv_padding(call.args["padding"], kernel, dilation)
    slid = _slid(seen, *zip(kernel, _pair(call.args["stride"]), padding, dilation, strict=True))
    return replace(slid, ragged=frozenset()) if call.args["groups"] == 1 else slid


def _conv_padding(padding: Any, kernel: Shape, dilation: tuple[int, int]) -> tuple[int, int]:
    """Returns the pixels before the first row and column; "same" puts the odd one after the last."""
    if padding == "same":
        return _pair([step * (count - 1) // 2 for count, step in zip(kernel, dilation, strict=True)])
    return (0, 0) if padding == "valid" else _pair(padding)


def _pooled(call: _Call) -> Seen:
    args = call.args
    kernel = _pair(args["kernel_size"])
    steps = _pair(args["stride"], kernel), _pair(args["padding"]), _pair(args.get("dilation", 1))
    return _slid(call.map()[0], *zip(kernel, *steps, strict=True))


def _pooled_to_size(call: _Call) -> Seen:
    if set(call.shape[2:]) == {1}:
        seen, shape = call.only()
        return seen.spread(shape, (-2, -1))
    seen, shape = call.map()
    if any(before % after for before, after in zip(shape[2:], call.shape[2:], strict=True)):
        raise _UnknownError
    rows, cols = (before // after for before, after in zip(shape[2:], call.shape[2:], strict=True))
    return _slid(seen, (rows, rows, 0, 1), (cols, cols, 0, 1))


def _padded(call: _Call) -> Seen:
    """Puts zeros around: positions move along the image's axes, and new channels see nothing."""
    if call.args.get("mode", "constant") != "constant":
        raise _UnknownError
    seen, shape = call.only()
    before = {len(shape) - 1 - i: n for i, n in enumerate(call.args["pad"][0::2])}
    after = {len(shape) - 1 - i: n for i, n in enumerate(call.args["pad"][1::2])}
    if any(before.get(dim, 0) < 0 or after.get(dim, 0) < 0 for dim in seen.scattered | seen.ragged):
        raise _UnknownError
    rows, cols = (replace(axis, start=axis.start - before.get(axis.dim, 0) * axis.stride) for axis in seen.axes)  # type: ignore[arg-type]
    image = seen.positions | ({2, 3} if len(shape) == 4 else set())
    blind = {dim for dim in before if (before[dim] > 0 or after[dim] > 0) and dim not in image}
    return Seen(rows, cols, seen.scattered, seen.ragged | blind)


# Rules: element by element --------------------------------------------------------------------------------------------


def _same(call: _Call) -> Seen:
    return call.only()[0]


def _pointwise(call: _Call) -> Seen:
    result = _together(call.fields(call.tensors), call.shape)
    for node in call.tensors:
        if node not in call.seen and len(_varying(shape_of(node), len(call.shape)) & result.scattered) > 1:
            raise _UnknownError  # a mask may hide some positions from others
    return result


def _varying(shape: Shape, rank: int) -> set[int]:
    """Returns the dimensions along which a constant may differ, counted after broadcasting to ``rank`` dimensions."""
    return {dim + rank - len(shape) for dim, count in enumerate(shape) if count > 1}


def _together(fields: Sequence[tuple[Seen, Shape]], shape: Shape) -> Seen:
    """Returns what tensors see together after broadcasting to ``shape``."""
    first, *others = (seen.widen(before, shape) for seen, before in fields)
    for other in others:
        first = _union(first, other, shape)
    return first


def _joined_along(call: _Call) -> Seen:
    """Concatenates: along channels it joins branches, along positions the regular grid is lost."""
    nodes: list[Node] = call.args["tensors"]
    dim = call.args["dim"] % len(call.shape)
    fields = [(seen, call.shape) for seen, _ in call.fields(nodes)]
    if any(dim in seen.positions for seen, _ in fields):
        parts = [(seen.scatter(shape), call.shape) for seen, shape in call.fields(nodes)]
        together = _together(parts, call.shape)
        return replace(together, scattered=together.scattered | {dim})
    together = _together(fields, call.shape)
    alike = len(fields) == len(nodes) and all(seen == together for seen, _ in fields)
    return together if alike else replace(together, ragged=together.ragged | {dim})


# Rules: all along a dimension -----------------------------------------------------------------------------------------


def _normalized(call: _Call) -> Seen:
    """Passes a batch norm: element by element, unless it takes its statistics from the image."""
    seen, shape = call.only()
    return seen.spread(shape, [dim for dim in range(len(shape)) if dim != 1]) if call.args.get("training") else seen


def _layer_normalized(call: _Call) -> Seen:
    seen, shape = call.only()
    return seen.spread(shape, range(-len(call.args["normalized_shape"]), 0))


def _group_normalized(call: _Call) -> Seen:
    seen, shape = call.only()
    return seen.spread(shape, range(2, len(shape))) if call.args.get("use_input_stats", True) else seen


def _softmaxed(call: _Call) -> Seen:
    seen, shape = call.only()
    return seen.spread(shape, call.dims("dim", len(shape)))


def _reduced(call: _Call) -> Seen:
    seen, shape = call.only()
    dims = call.dims("dim", len(shape))
    return _dropped(seen.spread(shape, dims), [] if call.args.get("keepdim") else dims)


def _dropped(seen: Seen, dims: Sequence[int]) -> Seen:
    """Leaves out dimensions along which nothing changes."""
    return seen.renumbered(lambda dim: dim - sum(gone < dim for gone in dims))


def _linear(call: _Call) -> Seen:
    seen, shape = call.only()
    return seen.spread(shape, [-1])


def _multiplied(call: _Call) -> Seen:
    """Passes a matrix product, with a constant added or not."""
    *added, left, right = call.tensors
    if any(node in call.seen for node in added):
        raise _UnknownError
    return _together(_summed(call, left, [-1]) + _summed(call, right, [-2]), call.shape)


def _summed(call: _Call, node: Node, dims: Sequence[int]) -> list[tuple[Seen, Shape]]:
    """Returns a factor of a matrix product after the sum along ``dims``; nothing for a constant."""
    shape = list(shape_of(node))
    if len(shape) < 2:
        raise _UnknownError
    for dim in dims:
        shape[dim] = 1
    return [(seen.spread(before, dims), tuple(shape)) for seen, before in call.fields([node])]


def _attended(call: _Call) -> Seen:
    """Passes scaled dot-product attention: each query sees all keys and values, unless a mask hides some."""
    args = call.args
    masked = args.get("attn_mask") or args.get("attn_bias") or args.get("is_causal")
    if masked or len(call.tensors) != 3:
        raise _UnknownError
    query, key, value = call.tensors
    parts = _summed(call, query, [-1]) + _summed(call, key, [-2, -1]) + _summed(call, value, [-2])
    return _together(parts, call.shape)


# Rules: dimensions rearranged -----------------------------------------------------------------------------------------


def _reshaped(call: _Call) -> Seen:
    seen, shape = call.only()
    if prod(shape) != prod(call.shape):
        raise _UnknownError  # a view as another type
    groups = list(_groups(shape, call.shape))
    seen = seen.without_single(shape)
    whole = {old[0]: new[0] for old, new in groups if len(old) == len(new) == 1}
    if any(axis.dim not in (None, *whole) for axis in seen.axes):
        seen = seen.scatter(shape)
    spread = {dim: new for old, new in groups for dim in old}
    scattered, ragged = (
        frozenset(new for dim in dims for new in spread[dim]) for dims in (seen.scattered, seen.ragged)
    )
    return replace(_gridded(seen, whole), scattered=scattered, ragged=ragged)


def _gridded(seen: Seen, new: Mapping[int, int]) -> Seen:
    """Renames the dimensions of the axes."""
    rows, cols = (axis if axis.dim is None else replace(axis, dim=new[axis.dim]) for axis in seen.axes)
    return replace(seen, rows=rows, cols=cols)


def _groups(before: Shape, after: Shape) -> Iterator[tuple[list[int], list[int]]]:
    """Yields the smallest runs of dimensions longer than 1 that a reshape turns into each other."""
    old = [dim for dim, count in enumerate(before) if count > 1]
    new = [dim for dim, count in enumerate(after) if count > 1]
    while old:
        taken, given = [old.pop(0)], [new.pop(0)]
        left, right = before[taken[0]], after[given[0]]
        while left != right:
            if left < right:
                taken.append(old.pop(0))
                left *= before[taken[-1]]
            else:
                given.append(new.pop(0))
                right *= after[given[-1]]
        yield taken, given


def _permuted(call: _Call) -> Seen:
    seen, shape = call.only()
    return seen.renumbered(call.dims("dims", len(shape)).index)


def _transposed(call: _Call) -> Seen:
    seen, shape = call.only()
    a, b = (call.args.get(name, default) % len(shape) for name, default in (("dim0", 0), ("dim1", 1)))
    return seen.renumbered(lambda dim: b if dim == a else a if dim == b else dim)


def _expanded(call: _Call) -> Seen:
    seen, shape = call.only()
    return seen.widen(shape, call.shape)


def _sliced(call: _Call) -> Seen:
    seen, shape = call.only()
    dim = call.args["dim"] % len(shape)
    kept = range(shape[dim])[slice(call.args["start"], call.args["end"], call.args["step"])]
    if len(kept) == shape[dim]:
        return seen
    return _taken(seen, dim, kept)


def _selected(call: _Call) -> Seen:
    seen, shape = call.only()
    dim = call.args["dim"] % len(shape)
    chosen = call.args["index"] % shape[dim]
    return _dropped(_taken(seen, dim, range(chosen, chosen + 1)).spread((1,) * len(shape), [dim]), [dim])


def _taken(seen: Seen, dim: int, kept: range) -> Seen:
    """Keeps only some positions of a dimension."""
    if dim in seen.scattered | seen.ragged or not kept:
        raise _UnknownError
    rows, cols = (
        replace(axis, start=axis.start + kept[0] * axis.stride, stride=axis.stride * kept.step)
        if axis.dim == dim
        else axis
        for axis in seen.axes
    )
    return replace(seen, rows=rows, cols=cols)


def _divided(call: _Call) -> Seen:
    """Cuts into parts along a dimension in which all is alike."""
    seen, shape = call.only()
    if call.args["dim"] % len(shape) in seen.positions | seen.ragged:
        raise _UnknownError
    return seen


def _unbound(call: _Call) -> Seen:
    _, shape = call.only()
    return _dropped(_divided(call), [call.args["dim"] % len(shape)])


#: The rule of each ATen operation. Those tagged as pointwise need no entry.
RULES: dict[str, Callable[[_Call], Seen]] = {
    **dict.fromkeys(("conv2d", "convolution", "_convolution"), _convolved),
    **dict.fromkeys(("max_pool2d", "max_pool2d_with_indices", "avg_pool2d"), _pooled),
    **dict.fromkeys(("adaptive_avg_pool2d", "_adaptive_avg_pool2d", "adaptive_max_pool2d"), _pooled_to_size),
    **dict.fromkeys(("pad", "constant_pad_nd"), _padded),
    **dict.fromkeys(("clone", "contiguous", "to", "_to_copy", "detach", "alias", "hardswish", "prelu"), _same),
    **dict.fromkeys(("dropout", "feature_dropout", "alpha_dropout", "native_dropout"), _same),
    **dict.fromkeys(("batch_norm", "native_batch_norm", "cudnn_batch_norm", "_native_batch_norm_legit"), _normalized),
    **dict.fromkeys(("_native_batch_norm_legit_no_training", "_native_batch_norm_legit_functional"), _normalized),
    **dict.fromkeys(("layer_norm", "native_layer_norm", "rms_norm", "_fused_rms_norm"), _layer_normalized),
    **dict.fromkeys(("group_norm", "native_group_norm", "instance_norm"), _group_normalized),
    **dict.fromkeys(("softmax", "_softmax", "log_softmax", "_log_softmax"), _softmaxed),
    **dict.fromkeys(("mean", "sum", "amax", "amin", "var", "std", "linalg_vector_norm"), _reduced),
    "linear": _linear,
    **dict.fromkeys(("matmul", "mm", "bmm", "addmm", "baddbmm"), _multiplied),
    **dict.fromkeys(("scaled_dot_product_attention", "_scaled_dot_product_flash_attention_for_cpu"), _attended),
    **dict.fromkeys(("_scaled_dot_product_flash_attention", "_scaled_dot_product_efficient_attention"), _attended),
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze"), _reshaped),
    "permute": _permuted,
    **dict.fromkeys(("transpose", "t"), _transposed),
    "expand": _expanded,
    "slice": _sliced,
    "select": _selected,
    **dict.fromkeys(("split", "split_with_sizes", "chunk"), _divided),
    "unbind": _unbound,
    "cat": _joined_along,
}
