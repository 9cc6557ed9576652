"""Batch norms multiplied into the convolutions before them: the same responses, and quicker gradients on a CPU."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from closedloop.networks.efficientnet_lite import NormAct
from closedloop.networks.modules import undisturbed


def version(model: nn.Module) -> tuple[tuple[int, int], ...]:
    """Returns another value once weights or buffers were replaced or changed in place (but not behind torch's back)."""
    tensors = chain(model.parameters(), model.buffers())
    return tuple((t.data_ptr(), 0 if t.is_inference() else t._version) for t in tensors)


def folded(model: nn.Module, layers: Sequence[str], example: Tensor) -> nn.Module | None:
    """Copies a network with its batch norms folded into the convolutions before them.

    A batch norm is folded where it is the plain one, or one of timm's or of ours with an activation, keeps running
    statistics, and gets exactly what a convolution returned, each of them called once. Whether anything else looks at
    what the convolution returns is not known: the caller compares the responses.

    Args:
        model: The network.
        layers: Names of modules whose outputs must stay what they are.
        example: A batch that it can be run on.

    Returns:
        The copy; None where nothing can be folded or the network cannot be copied.
    """
    names = {module: name for name, module in model.named_modules()}
    pairs = [
        (names[convolution], names[norm])
        for convolution, norm in _followed(model, example)
        if not any(_touches(names[convolution], layer) or layer.startswith(f"{names[norm]}.") for layer in layers)
    ]
    if not pairs:
        return None
    try:
        twin = copy.deepcopy(model)
    except (TypeError, RuntimeError, AttributeError, NotImplementedError):  # such as of an open file that it holds
        return None
    for convolution, norm in pairs:
        _fold(twin, convolution, norm)
    return twin


def _touches(name: str, layer: str) -> bool:
    """Tells whether a layer is this module or a part of it."""
    return layer == name or layer.startswith(f"{name}.")


def _followed(model: nn.Module, example: Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Returns convolutions that were called once, with the batch norms that were called once, on what they returned."""
    made: dict[int, nn.Conv2d] = {}
    calls: dict[nn.Module, int] = {}
    kept: list[Any] = []  # holds what was returned, so that no id is given twice
    found: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def returned(module: nn.Module, arguments: Any, output: Any) -> None:
        calls[module] = calls.get(module, 0) + 1
        if isinstance(module, nn.Conv2d):
            made[id(output)] = module
            kept.append(output)

    def given(module: nn.Module, arguments: Any) -> None:
        if isinstance(module, nn.BatchNorm2d) and arguments and id(arguments[0]) in made:
            found.append((made[id(arguments[0])], module))

    wanted = [m for m in model.modules() if isinstance(m, nn.Conv2d) or (isinstance(m, nn.BatchNorm2d) and _plain(m))]
    wanted = [m for m in wanted if not (m._forward_hooks or m._forward_pre_hooks)]
    with ExitStack() as hooks, undisturbed(model), torch.no_grad():
        for module in wanted:
            hooks.callback(module.register_forward_hook(returned).remove)
            hooks.callback(module.register_forward_pre_hook(given).remove)
        model(example)
    return [(conv, norm) for conv, norm in found if calls[conv] == calls[norm] == 1]


def _plain(norm: nn.BatchNorm2d) -> bool:
    """Tells whether all that it does is known."""
    known = type(norm) is nn.BatchNorm2d or _activation(norm) is not None
    return known and norm.running_mean is not None


def _activation(norm: nn.BatchNorm2d) -> nn.Module | None:
    """Returns what timm's batch norm, or our own networks', does after the normalization; None for another one."""
    kind = type(norm)
    known = kind is NormAct or (kind.__module__ == "timm.layers.norm_act" and kind.__name__ == "BatchNormAct2d")
    return nn.Sequential(norm.get_submodule("drop"), norm.get_submodule("act")) if known else None


def _fold(model: nn.Module, convolution: str, norm: str) -> None:
    """Puts a norm's scale and shift into the weights of a convolution, and what is left of it in its place."""
    conv: Any = model.get_submodule(convolution)
    bn: Any = model.get_submodule(norm)
    weight, bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias
    )
    kind = conv.weight.dtype
    conv.weight, conv.bias = (nn.Parameter(p.detach().to(kind), requires_grad=False) for p in (weight, bias))
    left = _activation(bn)
    model.set_submodule(norm, nn.Identity() if left is None else left.eval())
