"""Compositional pattern-producing networks: the image is a small network's function of place, the code its weights.

Two families: the randomly wired networks of the fooling images (Nguyen, Yosinski & Clune 2015, "Deep Neural Networks
are Easily Fooled"; after Stanley 2007), and the fixed network of Lucid (Mordvintsev et al. 2018, "Differentiable Image
Parameterizations"). The same code serves numpy and torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from closedloop.checks import check_positive, check_whole
from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import FloatArray, Space
from closedloop.readable import ReadableGenerator
from closedloop.seeds import STREAM, check_seed, check_stream, noted_stream, part_generator

from .pixels import check_resolution

if TYPE_CHECKING:
    from torch import Tensor

Network = Literal["fooling", "lucid"]
Colors = Literal["hls", "rgb"]

#: Inputs of a network: x, y, distance from the middle, and a constant 1.
INPUTS = 4
#: Activations of the fooling paper. Gaussian and sigmoid are signed, from -1 to 1.
FUNCTIONS = ("sine", "gaussian", "sigmoid", "linear")
#: Lucid's hidden layers, and the channels of each.
LAYERS, HIDDEN = 8, 24


class Node(NamedTuple):
    """A unit of a randomly wired network: its activation, where its inputs come from, and where its weights stand."""

    function: str
    sources: tuple[int, ...]
    first: int


@final
class CPPN(ReadableGenerator):
    """Patterns with sharp and smooth, regular and repeated parts. Differentiable.

    "fooling": `nodes` hidden units, each with a random activation (sine, Gaussian, sigmoid, linear) and up to four
    random earlier units as inputs; what no output depends on is left out. The topology is drawn once from `seed`; the
    paper's evolution changes it too. "lucid": eight layers of 24 units, whose activation ``atan(u)`` enters the next
    layer twice, as ``atan(u) / 0.67`` and ``atan(u)² / 0.6``.

    The prior is N(0, 1) on each coordinate. A weight is the coordinate times `spread` divided by the square root of the
    number of the unit's inputs (in "lucid", a bias is the coordinate times 0.1). A code of zeros gives a uniform image.

    Args:
        resolution: Height and width in pixels. The pattern itself has none: more pixels show it finer.
        network: "fooling" or "lucid".
        colors: What the three outputs mean: "hls" (hue, lightness, saturation) as in the fooling paper, or "rgb" as in
            Lucid; None for the network's own. A sigmoid brings each to [0, 1].
        spread: Size of the weights; None for 3 ("fooling") or 1 ("lucid"). More gives finer patterns.
        nodes: Number of hidden units before those without effect are left out, for "fooling".
        seed: Of the topology, for "fooling".
        stream: How it is drawn: 1 as in older recordings, see `closedloop.seeds.STREAM`.
    """

    name = "cppn"

    def __init__(
        self,
        resolution: int = 224,
        network: Network = "fooling",
        *,
        colors: Colors | None = None,
        spread: float | None = None,
        nodes: int = 24,
        seed: int = 0,
        stream: int = STREAM,
    ) -> None:
        self.resolution: int = check_resolution(resolution)
        if network not in ("fooling", "lucid"):
            raise InvalidArgumentError(f"network: expected 'fooling' or 'lucid', got {network!r}.")
        fooling = network == "fooling"
        self.network, self.colors = network, colors or ("hls" if fooling else "rgb")
        if self.colors not in ("hls", "rgb"):
            raise InvalidArgumentError(f"colors: expected 'hls' or 'rgb', got {colors!r}.")
        self.spread: float = check_positive("spread", (3.0 if fooling else 1.0) if spread is None else spread)
        self._nodes, self._seed = check_whole("nodes", nodes, 1), check_seed(seed)
        self._stream = check_stream(stream)
        self.topology: tuple[Node, ...] | tuple[()] = draw_topology(self._nodes, self._seed, stream) if fooling else ()
        last = self.topology[-1] if fooling else None
        self.space: Space = Space(lucid_weights() if last is None else last.first + len(last.sources))
        self._places = places(self.resolution, 1.0 if fooling else 3**0.5)
        self._widest = len(self.topology) or 2 * HIDDEN

    @property
    def recipe(self) -> Mapping[str, Any]:
        """How `load_generator` makes it again."""
        return {
            "name": self.name,
            "resolution": self.resolution,
            "network": self.network,
            "colors": self.colors,
            "spread": self.spread,
            "nodes": self._nodes,
            "seed": self._seed,
            **noted_stream(self._stream),
        }

    def __call__(self, codes: FloatArray) -> NDArray[np.float32]:
        """Turns codes ``(n, dim)`` into images ``(n, 3, h, w)`` float32, RGB in [0, 1]."""
        codes = self.space.check(codes).astype(np.float32)
        images = np.empty((len(codes), 3, self.resolution, self.resolution), np.float32)
        chunk = max(1, 2**24 // (self._widest * self.resolution**2))  # 64 MB of hidden units at a time
        for i in range(0, len(codes), chunk):
            images[i : i + chunk] = self._draw(codes[i : i + chunk], self._places.astype(np.float32), np)
        return np.clip(images, 0, 1, out=images)

    def forward(self, codes: Tensor) -> Tensor:
        """Does the same in torch; keeps the graph and the precision of ``codes``."""
        import torch

        images: Tensor = self._draw(codes, codes.new_tensor(self._places), torch)
        return images

    def _draw(self, codes: Any, inputs: Any, xp: Any) -> Any:
        """Draws images of codes; ``xp`` is numpy or torch, whose functions have the same names here."""
        run = self._fooling if self.topology else self._lucid
        outputs = 0.5 + 0.5 * xp.tanh(0.5 * run(codes, inputs, xp))  # a sigmoid
        outputs = outputs.reshape(len(codes), 3, self.resolution, self.resolution)
        return hls_to_rgb(outputs, xp) if self.colors == "hls" else outputs

    def _fooling(self, codes: Any, inputs: Any, xp: Any) -> Any:
        """Returns outputs ``(n, 3, pixels)`` of the randomly wired network."""
        values = [inputs[None, i] for i in range(INPUTS)]
        for node in self.topology:
            total = 0.0
            for k, source in enumerate(node.sources):
                # A coordinate of variance 1, times spread / √inputs: the sum over inputs has variance spread².
                weight = codes[:, node.first + k, None] * (self.spread / len(node.sources) ** 0.5)
                total = total + weight * values[source]
            values.append(activate(node.function, total, xp))
        return xp.stack(values[-3:], 1)

    def _lucid(self, codes: Any, inputs: Any, xp: Any) -> Any:
        """Returns outputs ``(n, 3, pixels)`` of the layered network; its biases are each layer's constant input."""
        x, used = inputs[None], 0
        for layer, outputs in enumerate([HIDDEN] * LAYERS + [3]):
            width = INPUTS - 1 if layer == 0 else 2 * HIDDEN
            end = used + outputs * width
            weights = codes[:, used:end].reshape(-1, outputs, width) * (self.spread / width**0.5)
            bias = codes[:, end : end + outputs, None] * 0.1
            x = weights @ x[:, :width] + bias
            used = end + outputs
            if layer < LAYERS:
                x = xp.arctan(x)
                x = xp.concatenate([x / 0.67, x * x / 0.6], 1)  # Lucid's divisors, which give both unit variance
        return x


def lucid_weights() -> int:
    """Counts the weights and biases of Lucid's network."""
    # The first layer has x, y and the distance; later ones get each unit twice; all have a bias.
    return (INPUTS - 1 + 1) * HIDDEN + (LAYERS - 1) * (2 * HIDDEN + 1) * HIDDEN + (2 * HIDDEN + 1) * 3


def places(resolution: int, reach: float) -> NDArray[np.float64]:
    """Returns inputs ``(4, pixels)``: x and y from -reach to reach, distance from the middle, 1."""
    axis = np.linspace(-reach, reach, resolution)
    y, x = (grid.ravel() for grid in np.meshgrid(axis, axis, indexing="ij"))
    return np.stack([x, y, np.hypot(x, y), np.ones_like(x)])


def draw_topology(nodes: int, seed: int, stream: int = STREAM) -> tuple[Node, ...]:
    """Draws hidden units and, last, three outputs, each of up to four earlier units, an output also of the constant.

    Args:
        nodes: Hidden units that are drawn; those that no output depends on are left out.
        seed: Of the draw.
        stream: See `closedloop.seeds.STREAM`.
    """
    rng = part_generator(seed, "cppn", stream)
    sources: list[tuple[int, ...]] = []
    for i in range(nodes):
        count = min(4, INPUTS + i)
        sources.append(tuple(int(s) for s in rng.choice(INPUTS + i, count, replace=False)))
    functions = [str(f) for f in rng.choice(FUNCTIONS, nodes)]
    for _ in range(3):
        drawn = INPUTS + rng.choice(nodes, min(4, nodes), replace=False)
        sources.append((INPUTS - 1, *(int(s) for s in drawn)))
    functions += ["linear"] * 3
    return _number(_needed(sources), sources, functions)


def _needed(sources: list[tuple[int, ...]]) -> list[int]:
    """Returns the units, in order, on which an output depends."""
    kept = set(range(len(sources) - 3, len(sources)))
    for unit in reversed(range(len(sources))):
        if unit in kept:
            kept |= {source - INPUTS for source in sources[unit] if source >= INPUTS}
    return sorted(kept)


def _number(kept: list[int], sources: list[tuple[int, ...]], functions: list[str]) -> tuple[Node, ...]:
    """Gives the kept units new numbers, and finds the place of their first weight in the code."""
    number = {**{i: i for i in range(INPUTS)}, **{INPUTS + unit: INPUTS + i for i, unit in enumerate(kept)}}
    topology: list[Node] = []
    first = 0
    for unit in kept:
        topology.append(Node(functions[unit], tuple(number[s] for s in sources[unit]), first))
        first += len(sources[unit])
    return tuple(topology)


def activate(function: str, x: Any, xp: Any) -> Any:
    """Applies one of `FUNCTIONS`, in numpy or torch."""
    if function == "sine":
        return xp.sin(x)
    if function == "gaussian":
        return 2 * xp.exp(-x * x) - 1
    # tanh(x / 2) = 2 / (1 + e⁻ˣ) - 1, the sigmoid from -1 to 1.
    return xp.tanh(0.5 * x) if function == "sigmoid" else x


def hls_to_rgb(hls: Any, xp: Any) -> Any:
    """Turns hue, lightness and saturation ``(n, 3, h, w)`` in [0, 1] into red, green and blue; in numpy or torch.

    The piecewise linear form of the CSS Color Module, level 4, section 7.
    """
    hue, lightness, saturation = hls[:, 0], hls[:, 1], hls[:, 2]
    # f(k) = l - s min(l, 1 - l) · max(-1, min(k - 3, 9 - k, 1)) with k = (n + h / 30°) mod 12; n = 0, 8, 4 for R, G, B.
    chroma = saturation * xp.minimum(lightness, 1 - lightness)
    channels = []
    for shift in (0, 8, 4):
        k = (shift + 12 * hue) % 12
        channels.append(lightness - chroma * xp.minimum(k - 3, 9 - k).clip(-1, 1))
    return xp.stack(channels, 1)
