"""Reading the inside of a torch module without leaving a trace.

A `Probe` runs a module and returns what chosen layers gave. Hooks exist only while it runs; what they see is copied at
once, so an in-place operation that follows cannot change it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from closedloop.errors import InvalidArgumentError, UnknownNameError, closest
from closedloop.networks.modules import dtype_of, scripted, undisturbed

from .options import OUTPUT
from .units import channels_last


class _Stop(Exception):  # noqa: N818 - not an error
    """All that was asked for is recorded; the layers above need not run."""


def as_tensor(output: Any, layer: str) -> Tensor:
    """Returns the tensor in what a layer returned: itself, or one within a tuple, a mapping or an object with fields.

    Of several it is the first named "logits" or "out", else the first; but ones with a batch and a unit axis come
    before those without, such as a loss.

    Raises:
        InvalidArgumentError: There is none, or it holds no plain real numbers.
    """
    found = sorted(_tensors(output), key=lambda tensor: tensor.ndim < 2)
    if not found:
        raise InvalidArgumentError(f"layer {layer!r}: expected an output tensor, got {type(output).__name__}.")
    tensor = found[0]
    if tensor.is_complex():
        raise InvalidArgumentError(
            f"layer {layer!r}: expected real numbers, got {tensor.dtype}; wrap the network in a module that returns "
            "their size (abs), or their real and imaginary parts."
        )
    if tensor.is_nested or not (tensor.layout == torch.strided or tensor.is_mkldnn):
        what = "a nested tensor" if tensor.is_nested else f"one of layout {tensor.layout}"
        raise InvalidArgumentError(f"layer {layer!r}: expected a plain tensor, got {what}; make it dense.")
    return tensor.dequantize() if tensor.is_quantized else tensor


def _tensors(output: Any) -> Iterator[Tensor]:
    """Yields the tensors in what a layer returned, those that are meant first."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        known = [name for name in ("logits", "out") if name in output]
        for name in (*known, *(name for name in output if name not in known)):
            yield from _tensors(output[name])
    elif isinstance(output, (tuple, list)):
        for part in output:
            yield from _tensors(part)
    elif dataclasses.is_dataclass(output) or hasattr(output, "__dict__"):
        yield from _tensors(vars(output)) if hasattr(output, "__dict__") else ()


class Probe(nn.Module):
    """A network from images in [0, 1] to the outputs of some of its layers.

    Args:
        model: The network.
        layers: Names of its modules, with the number of a call where it is not the last, or "output".
        mean: Subtracted from each colour channel, RGB.
        std: Divides each colour channel after that.
        picks: For each layer, indices into its flattened output, ``(units,)``; None for the whole output.
        calls: For each layer, how often the model calls it in one pass: the pass stops after the last call. None if
            unknown.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[str],
        mean: Sequence[float],
        std: Sequence[float],
        picks: Sequence[Tensor] | None = None,
        calls: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.layers: tuple[str, ...] = tuple(layers)
        self.calls = calls
        self.dtype: torch.dtype = dtype_of(model)
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))
        for i, pick in enumerate(picks or ()):
            self.register_buffer(f"pick{i}", pick)
        self.picked: bool = picks is not None
        self.training = False  # the exporter puts all modules in the mode of the outermost one when it is done

    @property
    def widths(self) -> tuple[int, ...]:
        """Number of picked units of each layer; empty where whole outputs are returned."""
        return tuple(len(self.get_buffer(f"pick{i}")) for i in range(len(self.layers))) if self.picked else ()

    def of(self, model: nn.Module) -> Probe:
        """Makes the same of another network with these layers."""
        picks = [self.get_buffer(f"pick{i}") for i in range(len(self.layers))] if self.picked else None
        colors = (self.mean.flatten().tolist(), self.std.flatten().tolist())
        return Probe(model, self.layers, *colors, picks, self.calls)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Gives each layer's output ``(n, …)``, or picked units ``(n, units)``, to images ``(n, 3, h, w)`` in [0, 1].

        A layer that is called several times in one pass gives its last output, or that of the call that is named.
        """
        seen: dict[str, Tensor] = {}
        calls = None if torch.compiler.is_compiling() else self.calls  # torch.export trips over the exception
        left = None if calls is None else dict(calls)
        with ExitStack() as hooks:
            for i, layer in enumerate(self.layers):
                if layer != OUTPUT:
                    module, call = called(self.model, layer)
                    hook = self._hook(i, layer, call, seen, left)
                    hooks.callback(module.register_forward_hook(hook).remove)
            try:
                result = self.model(((images - self.mean) / self.std).to(self.dtype))
                if OUTPUT in self.layers:
                    seen[OUTPUT] = self._take(self.layers.index(OUTPUT), as_tensor(result, OUTPUT))
            except _Stop:
                pass
        missing = [layer for layer in self.layers if layer not in seen]
        if missing:
            raise InvalidArgumentError(f"layer {missing[0]!r}: it did not run for this image.")
        return tuple(seen[layer] for layer in self.layers)

    def _hook(self, i: int, layer: str, call: int, seen: dict[str, Tensor], left: dict[str, int] | None) -> Any:
        count = 0

        def hook(module: nn.Module, arguments: Any, output: Any) -> None:
            nonlocal count
            count += 1
            if call in (0, count):
                seen[layer] = self._take(i, as_tensor(output, layer))
            if left is None or (call and count > call):
                return
            left[layer] -= 1
            if not any(left.values()):
                raise _Stop

        return hook

    def _take(self, i: int, output: Tensor) -> Tensor:
        """Copies an output, as ``(n, channels, h, w)`` where it is a map, or its picked units."""
        if not self.picked:
            return (output.permute(0, 3, 1, 2) if channels_last(tuple(output.shape[1:])) else output).clone()
        return output.flatten(1).index_select(1, self.get_buffer(f"pick{i}"))


def called(model: nn.Module, layer: str) -> tuple[nn.Module, int]:
    """Returns the module that a name stands for, and which of its calls is meant; 0 for the last.

    ``"layer1.0.relu#1"`` is the first call of ``layer1.0.relu``.

    Raises:
        AttributeError: There is no such module.
    """
    name, _, number = layer.rpartition("#")
    if name and number.isdecimal() and int(number) > 0:
        return _part(model, name), int(number)
    return _part(model, layer), 0


def _part(model: nn.Module, name: str) -> nn.Module:
    return dict(model.named_modules(remove_duplicate=False))[name] if scripted(model) else model.get_submodule(name)


def find_layer(model: nn.Module, layer: str) -> str:
    """Returns ``layer`` if the model has such a module, or if it is "output".

    Raises:
        UnknownNameError: Otherwise, with the nearest names.
    """
    names = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
    name, _, number = layer.rpartition("#")
    known = layer in names or (number.isdecimal() and int(number) > 0 and name in names)
    if layer != OUTPUT and not known and name in names:
        raise UnknownNameError(
            f"layer: {layer!r}: behind the # expected the number of a call, 1 for the first, got {number!r}; {name!r} "
            "alone is the last one."
        )
    if layer != OUTPUT and not known:
        raise UnknownNameError(
            f"layer: no layer {layer!r} in this network.{closest(layer, [OUTPUT, *names])} closedloop units lists all, "
            "and closedloop.subjects.layers_of those of a network of yours."
        )
    return layer


def check_one_call(model: nn.Module, layer: str, calls: int) -> None:
    """Raises if a name does not say which of a module's calls is meant: one with several names, or too few calls.

    Args:
        model: The network.
        layer: A known name.
        calls: How often its module is called in one pass.

    Raises:
        InvalidArgumentError: With the names of the calls.
    """
    if layer == OUTPUT:
        return
    module, call = called(model, layer)
    name = layer.rpartition("#")[0] if call else layer
    choices = ", ".join(repr(f"{name}#{i}") for i in range(1, min(calls, 12) + 1)) + (", …" if calls > 12 else "")
    if call > calls:
        raise InvalidArgumentError(f"layer: {layer!r}: expected one of the calls {choices} of {name!r}.")
    names = [known for known, other in model.named_modules(remove_duplicate=False) if other is module]
    if not call and calls > 1 and len(names) > 1:
        raise InvalidArgumentError(
            f"layer: {' and '.join(map(repr, names))} are one module, which runs {calls} times for an image; say which "
            f"time is meant, in the order of the pass: {choices}."
        )


@torch.no_grad()
def survey(
    model: nn.Module, example: Tensor, why: dict[str, str] | None = None
) -> dict[str, tuple[tuple[int, ...], int]]:
    """Finds the layers that return a tensor with a batch axis for an image: its shape without that axis, and how often.

    In the order of the last calls; the shape is that of the last call. A module that is called more than once has an
    entry for each of its calls, too, such as ``"relu#1"``, with its number.

    Args:
        model: The network.
        example: A normalized image ``(1, 3, h, w)``.
        why: Is filled with what layers gave that is of no use, in words.
    """
    seen: dict[str, tuple[tuple[int, ...], int]] = {}
    counts: dict[str, int] = {}
    useless = {} if why is None else why

    def watch(name: str) -> Any:
        def hook(module: nn.Module, arguments: Any, output: Any) -> None:
            count = counts[name] = counts.get(name, 0) + 1
            try:
                tensor = as_tensor(output, name)
            except InvalidArgumentError as error:
                useless[name] = str(error)
                return
            if tensor.ndim < 1 or tensor.shape[0] != len(example):
                useless[name] = f"it returns {tuple(tensor.shape)} for {len(example)} image."
                return
            if count == 2 and name in seen:
                seen[f"{name}#1"] = seen[name]
            if count > 1:
                seen[f"{name}#{count}"] = (tuple(tensor.shape[1:]), count)
            seen.pop(name, None)
            seen[name] = (tuple(tensor.shape[1:]), count)

        return hook

    with ExitStack() as hooks, undisturbed(model):
        for name, module in model.named_modules(remove_duplicate=False):
            if name and not scripted(module):
                hooks.callback(module.register_forward_hook(watch(name)).remove)
        result = model(example)
    own = seen.pop(OUTPUT, None), counts.pop(OUTPUT, 0)
    watch(OUTPUT)(model, (), result)
    if own[0] is not None:  # a module of that name has its calls alone
        seen[f"{OUTPUT}#{own[1]}"] = own[0]
    return seen


def absent(model: nn.Module, layer: str, why: Mapping[str, str]) -> str:
    """Says why a layer gave nothing that can be recorded, as a sentence for an error."""
    name = layer.rpartition("#")[0] or layer
    if layer in why or name in why:
        return why.get(layer) or why[name]
    whole = layer == OUTPUT or not scripted(called(model, layer)[0])
    if not whole or scripted(model) or isinstance(model, torch.fx.GraphModule):
        return (
            "the parts of a network that was scripted or exported are not called one by one; record its 'output', or "
            "hand over the network that it was made from."
        )
    return "it is not called; a network may hold a module for its parts, or use its weights in another way."
