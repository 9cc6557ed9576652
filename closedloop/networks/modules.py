"""Torch modules, made and run without leaving a trace in them or in torch's global random state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from closedloop.errors import InvalidArgumentError
from closedloop.seeds import torch_seed

Module = TypeVar("Module", bound=nn.Module)


def born(make: Callable[[], Module], seed: int) -> Module:
    """Makes a new network whose random weights come from ``seed``; leaves torch's global random state alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(torch_seed(seed))
        return make()


def dtype_of(model: nn.Module) -> torch.dtype:
    """Returns the floating-point type that a network computes in: its first weight's, float32 without weights."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


def as_network(model: Any) -> nn.Module:
    """Returns the network in what people hand over for one: what ``torch.compile`` or a parallel wrapper is around.

    They compute the same, and the names of layers are then those of the network. What compiled parts there are within
    it run as they were written, see `undisturbed`. A program of ``torch.export`` becomes its module.

    Raises:
        InvalidArgumentError: It is no network, or one that holds no numbers.
    """
    if isinstance(model, torch.export.ExportedProgram):
        model = model.module()
    while isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)) or hasattr(model, "_orig_mod"):
        model = model._orig_mod if hasattr(model, "_orig_mod") else model.module
    if not isinstance(model, nn.Module):
        raise InvalidArgumentError(
            f"model: expected a torch.nn.Module, got {type(model).__name__}; wrap a function in FunctionSubject."
        )
    held = [*model.named_parameters(), *model.named_buffers()]
    empty = next((name for name, tensor in held if nn.parameter.is_lazy(tensor)), None)
    if empty is not None:
        raise InvalidArgumentError(
            f"model: {empty!r} has no shape and no values yet; run the network once on a batch of images, or load its "
            "weights, before it is recorded."
        )
    shape = next((name for name, tensor in held if tensor.is_meta), None)
    if shape is not None:
        raise InvalidArgumentError(
            f"model: {shape!r} is on the device 'meta', which holds shapes and no values; make the network on a real "
            'one: model.to_empty(device="cpu"), then model.load_state_dict(…).'
        )
    return model


def scripted(module: nn.Module) -> bool:
    """Tells whether a module is TorchScript, which keeps its tensors and runs its parts out of Python's reach."""
    return isinstance(module, torch.jit.ScriptModule)


@contextmanager
def undisturbed(model: nn.Module, random_state: Tensor | None = None) -> Iterator[None]:
    """Runs a network in evaluation mode, and puts everything back, also after an exception.

    Each module's mode, the buffers, `requires_grad`, and torch's global random state are as before. Meanwhile no
    parameter asks for a gradient, so a backward pass through what was computed leaves their `.grad` alone; and the
    buffers are copies, so that a graph which holds one stays valid (those of TorchScript get their values back). Parts
    that ``torch.compile`` was called on run as they were written, so that their layers can be seen.

    Args:
        model: The network.
        random_state: State of a CPU random generator that the network draws from instead of the global one; it moves
            on.
    """
    modules = _modules(model)
    modes = [getattr(module, "training", False) for module in modules]  # a frozen TorchScript module has none
    trained = [p for m in modules for p in m._parameters.values() if p is not None and p.requires_grad]
    trained = [p for p in trained if not p.is_inference()]
    with _random_numbers(modules, random_state), _as_written(modules), _same_buffers(modules):
        try:
            _set_modes(modules, [False] * len(modules))
            for parameter in trained:
                parameter.requires_grad_(False)
            yield
        finally:
            for parameter in trained:
                parameter.requires_grad_(True)
            _set_modes(modules, modes)


def same_buffers(model: nn.Module) -> AbstractContextManager[None]:
    """Runs a network with copies of its buffers, and puts its own back; part of `undisturbed`."""
    return _same_buffers(_modules(model))


@contextmanager
def _same_buffers(modules: Sequence[nn.Module]) -> Iterator[None]:
    buffers = [_buffers(module) for module in modules]
    try:
        _copy_buffers(modules)
        yield
    finally:
        for module, own in zip(modules, buffers, strict=True):
            _put_back(module, own)


def _modules(model: nn.Module) -> list[nn.Module]:
    """Returns a network's modules, each once; what ``list(model.modules())`` takes five times as long for."""
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
        if getattr(module, "training", mode) != mode:
            module.training = mode


def _buffers(module: nn.Module) -> dict[str, Tensor | None]:
    """Returns a module's own buffers; of TorchScript, which cannot exchange them, copies of their values."""
    own: dict[str, Tensor | None] = dict(module._buffers.items())
    if not scripted(module):
        return own
    return {name: None if buffer is None else buffer.detach().clone() for name, buffer in own.items()}


def _put_back(module: nn.Module, own: dict[str, Tensor | None]) -> None:
    """Gives a module the buffers that it had, see `_buffers`."""
    if not scripted(module):
        module._buffers.clear()
        module._buffers.update(own)
        return
    with torch.no_grad():
        for name, buffer in module._buffers.items():
            before = own[name]
            if buffer is not None and before is not None and not torch.equal(buffer, before):
                buffer.copy_(before)


@contextmanager
def _as_written(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Takes away the compiled code that ``module.compile()`` or ``torch.compile(part)`` put in modules' place."""
    own = {module: module._compiled_call_impl for module in modules if getattr(module, "_compiled_call_impl", None)}
    parts: list[tuple[nn.Module, str, Any]] = [
        (m, name, part) for m in modules for name, part in m._modules.items() if hasattr(part, "_orig_mod")
    ]
    try:
        for module in own:
            module._compiled_call_impl = None
        for module, name, part in parts:
            module._modules[name] = part._orig_mod
        yield
    finally:
        for module, compiled in own.items():
            module._compiled_call_impl = compiled
        for module, name, part in parts:
            module._modules[name] = part


def _copy_buffers(modules: Sequence[nn.Module]) -> None:
    """Puts a copy in the place of each buffer; one that several modules share stays shared."""
    copies: dict[int, Tensor] = {}
    for module in modules:
        for name, buffer in () if scripted(module) else module._buffers.items():
            if buffer is not None:
                if id(buffer) not in copies:
                    copies[id(buffer)] = buffer.detach().clone()
                module._buffers[name] = copies[id(buffer)]


@contextmanager
def _random_numbers(modules: Sequence[nn.Module], state: Tensor | None) -> Iterator[None]:
    """Sets torch's global random generators to ``state``, or leaves them where they are; puts them back after."""
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
