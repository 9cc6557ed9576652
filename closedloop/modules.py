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
    modules = list(model.modules())
    modes = [module.training for module in modules]
    trained = [p for p in model.parameters() if p.requires_grad]
    buffers = [dict(module._buffers) for module in modules]
    with _random_numbers(model, random_state):
        try:
            for module in modules:
                module.training = False
            for parameter in trained:
                parameter.requires_grad_(False)
            _copy_buffers(modules)
            yield
        finally:
            for parameter in trained:
                parameter.requires_grad_(True)
            for module, mode, own in zip(modules, modes, buffers, strict=True):
                module.training = mode
                module._buffers.clear()
                module._buffers.update(own)


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
def _random_numbers(model: nn.Module, state: Tensor | None) -> Iterator[None]:
    """Torch's global random generators as a network finds them: at ``state``, or where they are. Put back after."""
    tensors = (*model.parameters(), *model.buffers())
    devices = sorted({t.device.index or 0 for t in tensors if t.is_cuda})
    with torch.random.fork_rng(devices=devices):
        if state is not None:
            torch.set_rng_state(state)
            for device in devices:
                torch.cuda.default_generators[device].manual_seed(int(torch.randint(2**62, ())))
        yield
        if state is not None:
            state.copy_(torch.get_rng_state())
