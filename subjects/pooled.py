"""Activations of whole layers of a network, averaged over fields of the map: features for a twin."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from closedloop import recipes
from closedloop.checks import check_images, check_whole
from closedloop.errors import InvalidArgumentError
from closedloop.images.resizing import resize_images, resize_matrix
from closedloop.interfaces import FloatArray, Units
from closedloop.loop.parts import FeaturesPart
from closedloop.networks.modules import dtype_of
from closedloop.networks.resampling import resampled
from closedloop.readable import ReadableSubject

from .options import OUTPUT
from .probe import find_layer, survey
from .torch_subject import TorchSubject
from .units import LayerShape, channels_last

#: Layers of a network of tokens that "auto" takes, evenly spaced.
TOKEN_LAYERS = 4
#: Images that are run together.
AT_ONCE = 32


@final
class Pooled(ReadableSubject):
    """Records layers of a network whole, averaged over the fields of a coarse grid, or over tokens.

    It is a subject like any other, `Differentiable`: its units are the features that a twin reads.

    Args:
        network: A `TorchSubject`, the name of one such as "lite0", or its recipe.
        layers: Names of layers; "auto" for the last one of each size of map among the network's blocks, smaller than
            the image and larger than one place, or of a network of tokens four blocks, evenly spaced.
        grid: Rows and columns to which a map is averaged, at most.

    Raises:
        UnknownNameError: No such network or layer.
        InvalidArgumentError: It is no `TorchSubject`, or "auto" finds no layer.
    """

    def __init__(
        self,
        network: str | Mapping[str, Any] | TorchSubject,
        *,
        layers: str | Sequence[str] = FeaturesPart.layers,
        grid: int = 6,
    ) -> None:
        self.network: TorchSubject = _loaded(network)
        self.grid: int = check_whole("grid", grid, 1)
        size, device = self.network.resolution, self.network.torch_device
        example = torch.zeros(1, 3, size, size, device=device, dtype=dtype_of(self.network.model))
        found = survey(self.network.model, example)
        chosen = _auto(found, size) if isinstance(layers, str) and layers == "auto" else layers
        names = [chosen] if isinstance(chosen, str) else list(chosen)
        self.layers: tuple[str, ...] = tuple(find_layer(self.network.model, name) for name in names)
        missing = [name for name in self.layers if name not in found]
        if missing:
            raise InvalidArgumentError(f"layers: {missing[0]!r} does not run, or returns no tensor with a batch axis.")
        self._shapes = [LayerShape(name, found[name][0]) for name in self.layers]
        self._probe = self.network.probe(self.layers, {name: found[name][1] for name in self.layers})
        self.name: str = f"pooled-{self.network.name}"
        self.resolution: int = size

    @property
    def torch_device(self) -> str:
        """Where it runs."""
        return self.network.torch_device

    @property
    def recipe(self) -> Mapping[str, Any] | None:
        """How `load_subject` makes it again; None for a network built by hand."""
        inner = self.network.recipe
        if inner is None:
            return None
        return {"name": "pooled", "network": dict(inner), "layers": list(self.layers), "grid": self.grid}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of what decides its features: weights, layers, grid, and the size of its images."""
        facts = [self.network.fingerprint, list(self.layers), self.grid]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    @cached_property
    def units(self) -> Units:
        """The features: layer, channel, and row and column of the field."""
        columns: dict[str, list[Any]] = {"layer": [], "channel": [], "y": [], "x": []}
        for shape in self._shapes:
            rows, across = self._places(shape)
            channel, y, x = (a.ravel().tolist() for a in np.indices((shape.channels, rows, across)))
            for name, column in (("layer", [shape.layer] * len(y)), ("channel", channel), ("y", y), ("x", x)):
                columns[name] += column
        ids = tuple(f"{lay}.{c}.{y}.{x}" for lay, c, y, x in zip(*columns.values(), strict=True))
        return Units(ids, {name: tuple(column) for name, column in columns.items()})

    def _places(self, shape: LayerShape) -> tuple[int, int]:
        """Returns rows and columns of fields of a layer; one for tokens, and for layers without places."""
        if len(shape.shape) < 3:
            return 1, 1
        rows, columns = shape.positions
        return min(rows, self.grid), min(columns, self.grid)

    def record(self, images: NDArray[np.float32]) -> FloatArray:
        """Turns images ``(n, 3, h, w)``, RGB in [0, 1], into features ``(n, features)`` float32."""
        images = resize_images(check_images(images), self.resolution)
        if not len(images):
            return np.empty((0, len(self.units)), np.float32)
        parts = []
        with torch.no_grad():
            for i in range(0, len(images), AT_ONCE):
                parts.append(self.forward(torch.from_numpy(images[i : i + AT_ONCE])).cpu().numpy())
        return np.concatenate(parts)

    def forward(self, x: Tensor) -> Tensor:
        """Turns images ``(n, 3, h, w)`` in [0, 1], on any device, into features ``(n, features)``, graph kept."""
        x = x.to(self.torch_device)
        if x.shape[2:] != (self.resolution, self.resolution):
            x = resampled(x, *(resize_matrix(side, self.resolution) for side in x.shape[2:]))
        with self.network.undisturbed():
            outputs = self._probe(x)
        return torch.cat([self._pool(o.float(), s) for o, s in zip(outputs, self._shapes, strict=True)], 1)

    def _pool(self, output: Tensor, shape: LayerShape) -> Tensor:
        """Averages the output of a layer ``(n, …)`` over fields, and returns it as ``(n, features)``."""
        if len(shape.shape) == 1:
            return output
        if len(shape.shape) == 2:
            return output.mean(1)
        maps = output.permute(0, 3, 1, 2) if channels_last(shape.shape) else output
        return adaptive_avg_pool2d(maps, self._places(shape)).flatten(1)


def _loaded(network: str | Mapping[str, Any] | TorchSubject) -> TorchSubject:
    """Returns the network that is named, without building a quick engine for it."""
    if isinstance(network, (str, Mapping)):
        named = {"name": network} if isinstance(network, str) else dict(network)
        recipes.check_name("subjects", str(named.get("name")))
        if recipes.has_option("subjects", str(named["name"]), "engine"):
            named = {**named, "engine": "eager"}
        network = recipes.build("subjects", **named)
    if not isinstance(network, TorchSubject):
        raise InvalidArgumentError(f"network: expected a TorchSubject or its name, got {type(network).__name__}.")
    return network


def _auto(found: Mapping[str, tuple[tuple[int, ...], int]], size: int) -> list[str]:
    """Returns the layers that are taken where none are named; see `Pooled`."""
    shapes = {n: s for n, (s, _) in found.items() if n != OUTPUT and "#" not in n}
    for known in ({n: s for n, s in shapes.items() if re.fullmatch(r"[^.]+\.\d+", n)}, shapes):
        maps = {n: LayerShape(n, s).positions[0] for n, s in known.items() if len(s) == 3}
        last = {side: name for name, side in maps.items() if 1 < side < size}
        if len(last) > 1:
            return list(last.values())
        tokens = [n for n, s in known.items() if len(s) == 2 and s[0] > 1]
        if len(tokens) >= TOKEN_LAYERS:
            at = np.linspace(len(tokens) / TOKEN_LAYERS, len(tokens), TOKEN_LAYERS).round().astype(int) - 1
            return [tokens[i] for i in at]
    flat = [n for n, s in shapes.items() if 1 <= len(s) <= 3]
    if not flat:
        raise InvalidArgumentError("layers: 'auto' finds no layer in this network; name some.")
    return flat[-TOKEN_LAYERS:]
