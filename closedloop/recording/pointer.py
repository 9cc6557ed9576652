"""The pointer of a run, ``COMMITTED.json``: how much of it counts. It holds its own SHA-256."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from closedloop.recording.layout import NEWEST, SCHEMA

#: The entry with the SHA-256 of all others.
_OWN = "sha256"
#: All entries that a pointer of today may have.
_ENTRIES = {
    *("schema", "n_presentations", "n_generations", "finished", "reason", "elapsed_s"),
    *("data", "checksums", "open", "state", "state_sha256", _OWN),
}


def pointer_bytes(pointer: Mapping[str, Any]) -> bytes:
    """Returns a pointer as its file holds it."""
    content = _text({name: value for name, value in pointer.items() if name != _OWN})
    return _text({**json.loads(content), _OWN: hashlib.sha256(content).hexdigest()})


def _text(pointer: Mapping[str, Any]) -> bytes:
    return (json.dumps(pointer, indent=1) + "\n").encode()


def parse_pointer(content: bytes) -> dict[str, Any]:
    """Returns what a pointer's file holds; of one by a newer version just that.

    Raises:
        ValueError, KeyError, TypeError: It is damaged, or none.
    """
    pointer: dict[str, Any] = json.loads(content)
    if int(pointer["schema"]) > NEWEST:
        return pointer
    _check(pointer)
    unknown = pointer.keys() - _ENTRIES
    if unknown and int(pointer["schema"]) >= SCHEMA:
        raise ValueError(f"an entry {sorted(unknown)[0]!r}")
    if _OWN in pointer or "state_sha256" in pointer:  # pointers of older versions held none
        if not _is_whole(content):
            raise ValueError("its checksum is not the one that it holds")
        del pointer[_OWN]
    return pointer


def _is_whole(content: bytes) -> bool:
    """Tells whether the bytes before the last entry, its own checksum, are those that this was taken of."""
    before, name, after = content.rpartition(f',\n "{_OWN}": "'.encode())
    digest = hashlib.sha256(before + b"\n}\n").hexdigest()
    return bool(name) and after == f'{digest}"\n}}\n'.encode()


def _check(pointer: Mapping[str, Any]) -> None:
    """Raises ValueError, KeyError or TypeError unless it holds what `Recording` writes."""
    rows, generations = int(pointer["n_presentations"]), int(pointer["n_generations"])
    if rows < 0 or generations < 0 or not np.isfinite(pointer["elapsed_s"]):
        raise ValueError(f"{rows} presentations in {generations} generations")
    if not isinstance(pointer["finished"], bool) or not isinstance(pointer["state"], str):
        raise TypeError("finished, state: expected true or false, and a file's name")
    if int(pointer["schema"]) > 2 and not all(isinstance(line, str) for line in pointer["open"]):
        raise TypeError("open: expected lines of checksums")
    if int(pointer["schema"]) > 1 and (int(pointer["checksums"]["bytes"]) < 0 or not pointer["checksums"]["sha256"]):
        raise ValueError("checksums: expected a number of bytes and their SHA-256")
