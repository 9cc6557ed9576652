"""Receptive fields that were found before: finding them takes seconds, and they do not change.

One JSON file for each network in the user's cache directory (``CLOSEDLOOP_CACHE`` names another one), under a name that
follows from its architecture, weights, image size, and the versions of what finds them. A file that cannot be read or
written is as good as none.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import platformdirs
from torch import nn

from closedloop import recipes
from closedloop.checks import is_whole
from closedloop.files import replace_file
from closedloop.networks.weights import weights_sha256

from .receptive import ReceptiveField

#: Attributes of a receptive field that are a number for each axis.
_PAIRS = ("size", "stride", "start")
#: How a field that is worth keeping was found.
_METHODS = ("computed", "gradient")
#: Fields by network and layer, found or read by this process.
_found: dict[str, dict[str, ReceptiveField]] = {}


def network_key(model: nn.Module, name: str, resolution: int, weights: str | None = None) -> str:
    """Returns the SHA-256 of all that decides the fields of a network that was made by name.

    A name of ours stands for its code; what a user's own class does with its weights cannot be told from outside.

    Args:
        model: The network.
        name: Of the subject.
        resolution: Height and width of its input in pixels.
        weights: `weights_sha256` of it, where that is known.
    """
    packages = (_version(package) for package in ("torch", "torchvision", "timm"))
    facts = [recipes.version(), *packages, name, resolution, repr(model), weights or weights_sha256(model.state_dict())]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def kept_fields(
    key: str | None, layers: Sequence[str], find: Callable[[Sequence[str]], Sequence[ReceptiveField]]
) -> list[ReceptiveField]:
    """Returns the field of each layer: as found before, or found now and kept.

    Args:
        key: Of the network, see `network_key`; None keeps nothing.
        layers: Names.
        find: Finds the fields of layers.
    """
    if key is None:
        return list(find(layers))
    known = _found.setdefault(key, _read(_file(key)))
    missing = [layer for layer in layers if layer not in known]
    now = dict(zip(missing, find(missing), strict=True)) if missing else {}
    lasting = {layer: field for layer, field in now.items() if field.method in _METHODS}
    if lasting:
        known.update(lasting)
        _write(_file(key), known)
    return [now.get(layer) or known[layer] for layer in layers]


def _file(key: str) -> Path:
    folder = os.environ.get("CLOSEDLOOP_CACHE") or platformdirs.user_cache_dir("closedloop", appauthor=False)
    return Path(folder) / "receptive-fields" / f"{key}.json"


def _read(path: Path) -> dict[str, ReceptiveField]:
    """Reads the fields in a file; none where any of it is not what was written."""
    try:
        return {layer: _field(entry) for layer, entry in json.loads(path.read_text("utf-8")).items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _field(entry: Mapping[str, Any]) -> ReceptiveField:
    pairs = {name: tuple(entry[name]) for name in _PAIRS}
    if any(len(pair) != 2 or not all(map(is_whole, pair)) for pair in pairs.values()):
        raise ValueError("not a field")
    if entry["method"] not in _METHODS:
        raise ValueError("not a method")
    return ReceptiveField(**pairs, method=entry["method"])


def _write(path: Path, fields: Mapping[str, ReceptiveField]) -> None:
    content = {
        layer: {**{name: list(getattr(field, name)) for name in _PAIRS}, "method": field.method}
        for layer, field in fields.items()
    }
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, json.dumps(content).encode())


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
