"""Torch modules, made and run without leaving a trace in them or in torch's global random state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def born(make: Callable[[], Module], seed: int) -> Module:
    """A new network whose random weights come from ``seed``; torch's global random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return make()


def dtype_of(model: nn.Module) -> torch.dtype:
    """The floating-point type that a network computes in: that of its first weight, float32 without weights."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


@contextmanager
def undisturbed(model: nn.Module, random_state: Tensor | None = None) -> Iterator[None]:
    """Runs a network in evaluation mode, and puts everything back, also after an exception.

    Each module's mode, the buffers, `requires_grad`, and torch's global random state are as before. Meanwhile no
    parameter asks for a gradient, so a backward pass through what was computed leaves their `.grad` alone; and the
    buffers are copies, so that a graph which holds one stays valid.

    Args:
        model: The network.
        random_state: State of a CPU random generator that the network draws from instead of the global one; it moves
            on.
    """
    modules = _modules(model)
    modes = [module.training for module in modules]
    trained = [p for m in modules for p in m._parameters.values() if p is not None and p.requires_grad]
    buffers = [dict(module._buffers) for module in modules]
    with _random_numbers(modules, random_state):
        try:
            _set_modes(modules, [False] * len(modules))
            for parameter in trained:
                parameter.requires_grad_(False)
            _copy_buffers(modules)
            yield
        finally:
            for parameter in trained:
                parameter.requires_grad_(True)
            _set_modes(modules, modes)
            for module, own in zip(modules, buffers, strict=True):
                module._buffers.clear()
                module._buffers.update(own)


def _modules(model: nn.Module) -> list[nn.Module]:
    """A network's modules, each once; what ``list(model.modules())`` takes five times as long for."""
    found: dict[int, nn.Module] = {}
    left = [model]
    while left:
        module = left.pop()
        if id(module) not in found:
            found[id(module)] = module
            left.extend(child for child in module._modules.values() if child is not None)
    return list(found.values())


def _set_modes(modules: Sequence[nn.Module], modes: Sequence[bool]) -> None:
    """Sets the mode of those that are in another one; a module's setter is slow."""
    for module, mode in zip(modules, modes, strict=True):
        if module.training != mode:
            module.training = mode


def _copy_buffers(modules: Sequence[nn.Module]) -> None:
    """Puts a copy in the place of each buffer; one that several modules share stays shared."""
    copies: dict[int, Tensor] = {}
    for module in modules:
        for name, buffer in module._buffers.items():
            if buffer is not None:
                if id(buffer) not in copies:
                    copies[id(buffer)] = buffer.detach().clone()
                module._buffers[name] = copies[id(buffer)]


@contextmanager
def _random_numbers(modules: Sequence[nn.Module], state: Tensor | None) -> Iterator[None]:
    """Torch's global random generators as a network finds them: at ``state``, or where they are. Put back after."""
    tensors = (t for module in modules for t in (*module._parameters.values(), *module._buffers.values()))
    devices = sorted({t.device.index or 0 for t in tensors if t is not None and t.is_cuda})
    with torch.random.fork_rng(devices=devices):
        if state is not None:
            torch.set_rng_state(state)
            for device in devices:
                torch.cuda.default_generators[device].manual_seed(int(torch.randint(2**62, ())))
        yield
        if state is not None:
            state.copy_(torch.get_rng_state())
