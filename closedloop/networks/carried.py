"""States of torch objects (optimizers, schedulers, generators of random numbers) as plain values, and back, exactly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from closedloop.errors import InvalidArgumentError

#: Keys that tell what a mapping stands for: a tensor, a mapping of other keys than texts, a tuple, a large number.
_TENSOR, _PAIRS, _TUPLE, _BIG = "tensor of torch", "pairs", "tuple", "whole number"


def plain_state(value: Any, where: str = "state") -> Any:
    """Returns a tree of plain values and numpy arrays, as a run's state may hold.

    Args:
        value: What ``state_dict()`` returned.
        where: What it is, for the error.

    Raises:
        InvalidArgumentError: It holds something else than tensors, arrays, numbers, texts, and lists and mappings of
            them.
    """
    if isinstance(value, Tensor):
        return {_TENSOR: str(value.dtype).removeprefix("torch."), "values": tensor_array(value)}
    if isinstance(value, Mapping):
        return {_PAIRS: [[plain_state(k, where), plain_state(v, where)] for k, v in value.items()]}
    if isinstance(value, (list, tuple)):
        found = [plain_state(entry, where) for entry in value]
        return {_TUPLE: found} if isinstance(value, tuple) else found
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str, np.ndarray)):
        return value
    raise InvalidArgumentError(
        f"{where}: expected a state of tensors, numbers and texts, got a {type(value).__name__} in it; leave it out, "
        "or hand over an object whose state_dict() returns its numbers."
    )


def torch_state(value: Any) -> Any:
    """Returns what `plain_state` was given; tensors are on the CPU, where ``load_state_dict`` fetches them."""
    if isinstance(value, Mapping):
        if _TENSOR in value:
            return array_tensor(value["values"], value[_TENSOR])
        if _TUPLE in value:
            return tuple(torch_state(entry) for entry in value[_TUPLE])
        return {torch_state(k): torch_state(v) for k, v in value[_PAIRS]}
    return [torch_state(entry) for entry in value] if isinstance(value, list) else value


def tensor_array(tensor: Tensor) -> np.ndarray[Any, Any]:
    """Returns a tensor's values, of a tensor on the CPU the very ones; of types that numpy lacks, their bits."""
    found = tensor.detach().cpu()
    if found.dtype == torch.bfloat16:
        found = found.view(torch.int16)
    values: np.ndarray[Any, Any] = found.numpy()
    return values


def array_tensor(values: Any, dtype: str) -> Tensor:
    """Returns the tensor of which `tensor_array` made an array.

    Args:
        values: That array.
        dtype: The tensor's type, such as "float32".
    """
    found = torch.from_numpy(np.array(values))
    return found.view(torch.bfloat16) if dtype == "bfloat16" else found


def save_part(name: str, part: Any) -> Any:
    """Returns the state of something that a training loop draws on, as plain values.

    Args:
        name: Its name, for the error.
        part: What has ``state_dict()``, a generator of torch, or one of numpy.

    Raises:
        InvalidArgumentError: It is nothing of these.
    """
    if isinstance(part, torch.Generator):
        return plain_state(part.get_state(), name)
    if isinstance(part, np.random.Generator):
        return _big(part.bit_generator.state)
    if callable(getattr(part, "state_dict", None)) and callable(getattr(part, "load_state_dict", None)):
        return plain_state(part.state_dict(), name)
    raise InvalidArgumentError(
        f"{name}: expected something with state_dict() and load_state_dict(), a torch.Generator or a numpy Generator, "
        f"got {type(part).__name__}."
    )


def restore_part(part: Any, saved: Any) -> None:
    """Puts a part back to what `save_part` returned of it."""
    if isinstance(part, torch.Generator):
        part.set_state(torch_state(saved))
    elif isinstance(part, np.random.Generator):
        part.bit_generator.state = _small(saved)
    else:
        part.load_state_dict(torch_state(saved))


def _big(value: Any) -> Any:
    """Keeps whole numbers as texts: those of numpy's generators have 128 bits."""
    if isinstance(value, Mapping):
        return {name: _big(entry) for name, entry in value.items()}
    return {_BIG: str(value)} if isinstance(value, int) else value


def _small(value: Any) -> Any:
    if isinstance(value, Mapping):
        return int(value[_BIG]) if _BIG in value else {name: _small(entry) for name, entry in value.items()}
    return value
