"""Saved states as files: trees of plain values and arrays, written and read without running anything."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import numpy as np

from closedloop.errors import RecordingError
from closedloop.interfaces import State
from closedloop.recording.places import DAMAGED

#: The key of what stands for an array in the tree; its value names the array.
_ARRAY = "__array__"
#: Lists and mappings that may stand within each other. What holds itself has no end.
DEEPEST = 100


def pack_state(state: State) -> bytes:
    """Packs a state into the bytes of an ``.npz`` file: one JSON tree, and the arrays it refers to.

    Raises:
        RecordingError: It holds something that is neither a plain value nor an array.
    """
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    tree = _flatten(state, arrays, "state")
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, tree=np.array(json.dumps(tree)), **arrays)
    return buffer.getvalue()


def copied(state: State) -> State:
    """Returns a state with arrays, mappings and lists of its own: it stays as it is, whatever its owner does next.

    Raises:
        RecordingError: It holds itself.
    """
    return {key: _copied(value, f"state.{key}") for key, value in state.items()}


def _copied(value: Any, where: str, depth: int = 1) -> Any:
    if isinstance(value, np.ndarray):
        return value.copy(order="K")
    if isinstance(value, (dict, list, tuple)):
        _check_depth(depth, where)
    if isinstance(value, dict):
        return {key: _copied(each, where, depth + 1) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_copied(each, where, depth + 1) for each in value]
    return value


def _check_depth(depth: int, where: str) -> None:
    """Raises where lists and mappings hold each other without end."""
    if depth > DEEPEST:
        raise RecordingError(
            f"{where:.80}: cannot save lists and mappings more than {DEEPEST} deep; does one of them hold itself?"
        )


def unpack_state(data: bytes) -> State:
    """Reads what `pack_state` wrote, value by value and bit by bit.

    Raises:
        RecordingError: The bytes are not such a file.
    """
    try:
        if not zipfile.is_zipfile(io.BytesIO(data)):
            raise ValueError(f"{len(data)} bytes that are no .npz file")
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        state = _unflatten(json.loads(str(arrays.pop("tree"))), arrays)
    except (ValueError, KeyError, TypeError, OSError, *DAMAGED) as error:
        raise RecordingError(f"state: not a saved state of closedloop, or a damaged one ({error}).") from error
    if not isinstance(state, dict):
        raise RecordingError("state: not a saved state of closedloop (no tree).")
    return state


def _flatten(value: Any, arrays: dict[str, np.ndarray[Any, Any]], where: str, depth: int = 0) -> Any:
    if isinstance(value, (dict, list, tuple)):
        _check_depth(depth, where)
    if isinstance(value, np.ma.MaskedArray):
        raise RecordingError(f"{where}: cannot save a masked array; save its data and its mask.")
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            raise RecordingError(f"{where}: cannot save an array of Python objects.")
        arrays[f"a{len(arrays)}"] = value
        return {_ARRAY: f"a{len(arrays) - 1}"}
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str) or key == _ARRAY:
                raise RecordingError(f"{where}: cannot save the key {key!r}; expected text other than {_ARRAY!r}.")
        return {k: _flatten(v, arrays, f"{where}.{k}", depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_flatten(v, arrays, f"{where}[{i}]", depth + 1) for i, v in enumerate(value)]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise RecordingError(f"{where}: cannot save a {type(value).__name__}; expected numbers, text, lists or arrays.")


def _unflatten(value: Any, arrays: dict[str, np.ndarray[Any, Any]]) -> Any:
    if isinstance(value, dict):
        if value.keys() == {_ARRAY}:
            return arrays[value[_ARRAY]]
        return {k: _unflatten(v, arrays) for k, v in value.items()}
    if isinstance(value, list):
        return [_unflatten(v, arrays) for v in value]
    return value
