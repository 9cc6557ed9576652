"""Weights of torch networks from local files, read without running anything that a file holds."""

from __future__ import annotations

import hashlib
import pickle
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from closedloop.errors import WeightsError, reason

#: The option `weights` that leaves a network as it is born; it must be asked for by this word.
RANDOM = "random"


def read_weights(path: str | Path) -> Mapping[str, Tensor]:
    """Reads a state dictionary from a file, ``.safetensors`` or torch's own; runs nothing that the file holds.

    Raises:
        WeightsError: There is no such file, or it is not a state dictionary.
    """
    try:
        path = Path(path)
    except TypeError:
        raise WeightsError(f'weights: expected a file or "{RANDOM}", got {path!r}.') from None
    if not path.is_file():
        what = "is a folder" if path.is_dir() else f'does not exist; an untrained network is asked for by "{RANDOM}"'
        raise WeightsError(f"weights: expected a file, got {path}, which {what}.")
    try:
        state = _safetensors(path) if path.suffix == ".safetensors" else _torch_file(path)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"weights: {path} holds something other than tensors, such as Python objects, which could run code, and is "
            "refused. Save the state dictionary alone: torch.save(model.state_dict(), FILE), or as .safetensors."
        ) from error
    except Exception as error:
        raise WeightsError(f"weights: cannot read {path} as weights ({reason(error)}).") from error
    # Training scripts keep the state dictionary under such names, among other things.
    for wrapped in ("state_dict", "model", "generator", "netG_state_dict", "g_ema"):
        if isinstance(state, Mapping) and isinstance(state.get(wrapped), Mapping):
            state = state[wrapped]
    if not isinstance(state, Mapping) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(f"weights: expected a dictionary of tensors in {path}, got {type(state).__name__}.")
    return state


def _safetensors(path: Path) -> Any:
    from safetensors.torch import load_file

    return load_file(path)


def _torch_file(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of formats that it then refuses
        return torch.load(path, map_location="cpu", weights_only=True)


def weights_sha256(state: Mapping[str, Any]) -> str:
    """Returns SHA-256 of the names, types, shapes and values of weights, whatever device holds them.

    Quantized networks keep tuples, types and numbers beside their tensors, which count, too.
    """
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        for data in _content(name, value):
            digest.update(data)
    return digest.hexdigest()


def _content(name: str, value: Any) -> Iterator[Any]:
    """Yields bytes that tell an entry of a state dictionary from others."""
    if isinstance(value, (tuple, list)):
        for i, part in enumerate(value):
            yield from _content(f"{name}.{i}", part)
    elif not isinstance(value, Tensor):
        yield f"{name} {value if isinstance(value, (torch.dtype, int, float, str)) else type(value)};".encode()
    elif value.is_quantized:
        yield from _content(name, value.int_repr())
        yield from _content(name, value.dequantize())
    else:
        yield f"{name} {value.dtype} {tuple(value.shape)};".encode()
        yield value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Fills a network from a file; every tensor must find its place.

    Only the counters of batch normalization may be missing, which old files lack and evaluation does not need.

    Raises:
        WeightsError: The file cannot be read, or keys or shapes do not fit.
    """
    state = {key.removeprefix("module."): value for key, value in read_weights(path).items()}
    fill(model, state, path, spare=lambda key: key.endswith("num_batches_tracked"))


def fill(
    model: nn.Module,
    state: Mapping[str, Tensor],
    path: str | Path,
    *,
    spare: Callable[[str], bool],
) -> None:
    """Fills a network from a state dictionary, all or nothing.

    Args:
        model: The network.
        state: Tensors by their names in the network.
        path: Where they come from, for the error.
        spare: Names that may be missing; the network keeps what it has.

    Raises:
        WeightsError: Keys or shapes do not fit.
    """
    own = model.state_dict()
    missing = sorted(k for k in own.keys() - state.keys() if not spare(k))
    surplus = sorted(state.keys() - own.keys())
    shapes = [k for k in own.keys() & state.keys() if own[k].shape != state[k].shape]
    if missing or surplus or shapes:
        raise WeightsError(
            f"weights: {path} does not fit this network, which has {len(own)} tensors: "
            + "; ".join(
                f"{len(keys)} {what} ({', '.join(keys[:3])}{', …' if len(keys) > 3 else ''})"
                for what, keys in (("missing", missing), ("surplus", surplus), ("of another shape", sorted(shapes)))
                if keys
            )
            + "."
        )
    model.load_state_dict(state, strict=False)
