"""Reading the inside of a torch module without leaving a trace.

A `Probe` runs a module and returns what chosen layers gave. Hooks exist only while it runs; what they see is copied at
once, so an in-place operation that follows cannot change it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from closedloop.errors import InvalidArgumentError, UnknownNameError, closest
from closedloop.networks.modules import dtype_of, undisturbed

from .options import OUTPUT


class _Stop(Exception):  # noqa: N818 - not an error
    """All that was asked for is recorded; the layers above need not run."""


def as_tensor(output: Any, layer: str) -> Tensor:
    """The tensor in what a layer returned: itself, the first of a tuple, or "logits", "out" or the first of a mapping.

    Raises:
        InvalidArgumentError: There is none.
    """
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        chosen = next((output[k] for k in ("logits", "out") if k in output), next(iter(output.values()), None))
        return as_tensor(chosen, layer)
    if isinstance(output, (tuple, list)) and output:
        return as_tensor(output[0], layer)
    raise InvalidArgumentError(f"layer {layer!r}: expected an output tensor, got {type(output).__name__}.")


class Probe(nn.Module):
    """A network from images in [0, 1] to the outputs of some of its layers.

    Args:
        model: The network.
        layers: Names of its modules, or "output".
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
        self.layers = tuple(layers)
        self.calls = calls
        self.dtype = dtype_of(model)
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))
        for i, pick in enumerate(picks or ()):
            self.register_buffer(f"pick{i}", pick)
        self.picked = picks is not None
        self.training = False  # the exporter puts all modules in the mode of the outermost one when it is done

    @property
    def widths(self) -> tuple[int, ...]:
        """Number of picked units of each layer; empty where whole outputs are returned."""
        return tuple(len(self.get_buffer(f"pick{i}")) for i in range(len(self.layers))) if self.picked else ()

    def of(self, model: nn.Module) -> Probe:
        """The same of another network with these layers."""
        picks = [self.get_buffer(f"pick{i}") for i in range(len(self.layers))] if self.picked else None
        colors = (self.mean.flatten().tolist(), self.std.flatten().tolist())
        return Probe(model, self.layers, *colors, picks, self.calls)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images ``(n, 3, h, w)`` in [0, 1] -> for each layer its output ``(n, …)`` or picked units ``(n, units)``.

        A layer that is called several times in one pass gives its last output.
        """
        seen: dict[str, Tensor] = {}
        calls = None if torch.compiler.is_compiling() else self.calls  # torch.export trips over the exception
        left = None if calls is None else dict(calls)
        with ExitStack() as hooks:
            for i, layer in enumerate(self.layers):
                if layer != OUTPUT:
                    handle = self.model.get_submodule(layer).register_forward_hook(self._hook(i, layer, seen, left))
                    hooks.callback(handle.remove)
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

    def _hook(self, i: int, layer: str, seen: dict[str, Tensor], left: dict[str, int] | None) -> Any:
        def hook(module: nn.Module, arguments: Any, output: Any) -> None:
            seen[layer] = self._take(i, as_tensor(output, layer))
            if left is None:
                return
            left[layer] -= 1
            if not any(left.values()):
                raise _Stop

        return hook

    def _take(self, i: int, output: Tensor) -> Tensor:
        """A copy of an output, or of its picked units."""
        if not self.picked:
            return output.clone()
        return output.flatten(1).index_select(1, self.get_buffer(f"pick{i}"))


def find_layer(model: nn.Module, layer: str) -> str:
    """Returns ``layer`` if the model has such a module, or if it is "output".

    Raises:
        UnknownNameError: Otherwise, with the nearest names.
    """
    names = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
    if layer != OUTPUT and layer not in names:
        raise UnknownNameError(f"layer: no layer {layer!r} in this network.{closest(layer, [OUTPUT, *names])}")
    return layer


@torch.no_grad()
def survey(model: nn.Module, example: Tensor) -> dict[str, tuple[tuple[int, ...], int]]:
    """Which layers return a tensor with a batch axis for an image: its shape without that axis, and how often.

    In the order of the last calls; the shape is that of the last call.

    Args:
        model: The network.
        example: A normalized image ``(1, 3, h, w)``.
    """
    seen: dict[str, tuple[tuple[int, ...], int]] = {}

    def watch(name: str) -> Any:
        def hook(module: nn.Module, arguments: Any, output: Any) -> None:
            try:
                tensor = as_tensor(output, name)
            except InvalidArgumentError:
                return
            if tensor.ndim >= 1 and tensor.shape[0] == len(example):
                seen[name] = (tuple(tensor.shape[1:]), seen.pop(name, ((), 0))[1] + 1)

        return hook

    with ExitStack() as hooks, undisturbed(model):
        for name, module in model.named_modules(remove_duplicate=False):
            if name:
                hooks.callback(module.register_forward_hook(watch(name)).remove)
        result = model(example)
    seen.pop(OUTPUT, None)
    watch(OUTPUT)(model, (), result)
    return seen
