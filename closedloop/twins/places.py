"""Where a unit looks: a spatial mask that all features share, so that a readout is mask × feature weights.

A readout of maps with a weight for each place of each channel has many weights, of which few images tell little. One
that is factorized has a mask over places and a weight for each channel (Klindt et al. 2017, *NeurIPS*; Lurz et al.
2021, *ICLR*, whose mask is one position). Here the mask is one for all layers, over the image, and never negative:

1. **A Gaussian**, or the whole image. Given a mask each channel is a number, its weighted mean, and the readout of
   these numbers is Bayesian ridge regression; the mask is that of the highest marginal likelihood, less
   ½ log(images) for each of the three numbers of a Gaussian (Schwarz 1978, *Annals of Statistics*).
2. **Any mask.** Given the weights of the channels, the response is linear in the mask, too. A step of ridge regression
   in turn from the Gaussian is kept where the marginal likelihood rises by more than ½ log(images) for each effective
   number of the mask.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from closedloop.interfaces import FloatArray, Subject
from closedloop.twins.ridge import Ridge, fit_ridge

#: Images that decide about a mask, at most.
SIGHTED = 200


@dataclass(frozen=True)
class Placed:
    """A layer whose features have places.

    Attributes:
        name: Of the layer.
        at: Columns of its features, channel by channel, row by row.
        shape: Channels, rows and columns.
    """

    name: str
    at: NDArray[np.int64]
    shape: tuple[int, int, int]


@dataclass(frozen=True)
class Places:
    """Weighs the features of each channel by a mask over the image; see the module.

    Attributes:
        layers: With their places.
        gain: Of each standardized feature, its standard deviation over that of its channel, ``(features,)``: what is
            averaged over places are activations, and not numbers that each place made alike.
    """

    layers: tuple[Placed, ...]
    gain: NDArray[np.float32]

    @classmethod
    def of(cls, features: Subject, scale: NDArray[np.float32]) -> Places | None:
        """Returns the places of features; None where none has more than one.

        Args:
            features: Their coordinates `layer`, `channel`, `y` and `x` say where they lie.
            scale: 1 / standard deviation of each feature; 0 for one that does not vary.
        """
        coords = features.units.coords
        if not {"layer", "channel", "y", "x"} <= coords.keys():
            return None
        layer, *position = (np.array(coords[name]) for name in ("layer", "channel", "y", "x"))
        found, gain = [], np.zeros(len(scale))
        deviation = np.divide(1, scale, out=np.zeros(len(scale)), where=scale > 0)
        for name in dict.fromkeys(layer.tolist()):
            at = np.flatnonzero(layer == name)
            at = at[np.lexsort([p[at] for p in reversed(position)])]
            channels, rows, across = (len(np.unique(p[at])) for p in position)
            if channels * rows * across != len(at):
                return None
            found.append(Placed(str(name), at, (channels, rows, across)))
            own = deviation[at].reshape(channels, -1)
            usual = np.sqrt((own**2).mean(1, keepdims=True))
            gain[at] = np.divide(own, usual, out=np.zeros_like(own), where=usual > 0).ravel()
        made = cls(tuple(found), gain.astype(np.float32))
        return made if made.grid > 1 else None

    @property
    def grid(self) -> int:
        """Rows and columns of a mask."""
        return max(max(layer.shape[1:]) for layer in self.layers)

    @cached_property
    def columns(self) -> dict[str, NDArray[np.int64]]:
        """Columns of each layer in what `seen` returns."""
        ends = np.cumsum([layer.shape[0] for layer in self.layers]).tolist()
        return {layer.name: np.arange(end - layer.shape[0], end) for layer, end in zip(self.layers, ends, strict=True)}

    def _over(self, layer: Placed, mask: FloatArray) -> FloatArray:
        """Returns the share of each place of a layer in the mean of its channels, ``(rows, columns)``, of sum 1."""
        rows, across = (overlap(side, self.grid) for side in layer.shape[1:])
        found: FloatArray = rows @ mask @ across.T
        return found / max(float(found.sum()), 1e-300)

    def seen(self, x: NDArray[np.float32], mask: FloatArray) -> NDArray[np.float32]:
        """Returns the mean of each channel under a mask ``(grid, grid)``, ``(n, channels)``, of features ``(n, …)``."""
        parts = []
        for layer in self.layers:
            weighted = (self._over(layer, mask).ravel() * self.gain[layer.at].reshape(layer.shape[0], -1)).astype("f4")
            parts.append(np.einsum("ncp,cp->nc", x[:, layer.at].reshape(len(x), layer.shape[0], -1), weighted))
        return np.concatenate(parts, 1)

    def whole(self, weights: NDArray[np.floating], mask: FloatArray) -> NDArray[np.float32]:
        """Returns weights of standardized features ``(n, features)`` that weights of channels ``(n, channels)`` are."""
        found = np.zeros((len(weights), len(self.gain)), np.float32)
        for layer, at in zip(self.layers, self.columns.values(), strict=True):
            spread = weights[:, at, None] * self._over(layer, mask).ravel()
            found[:, layer.at] = spread.reshape(len(weights), -1) * self.gain[layer.at]
        return found

    def by_place(self, x: NDArray[np.float32], weights: FloatArray, mask: FloatArray) -> FloatArray:
        """Returns what each place of a mask would add to the response, ``(n, grid²)``; times the mask that is it all.

        Args:
            x: Standardized features ``(n, features)``.
            weights: Of the channels, ``(channels,)``.
            mask: Whose sum over each layer is 1.
        """
        total = np.zeros((len(x), self.grid, self.grid))
        for layer, at in zip(self.layers, self.columns.values(), strict=True):
            channels, *sides = layer.shape
            rows, across = (overlap(side, self.grid) for side in sides)
            values = (x[:, layer.at] * self.gain[layer.at]).reshape(len(x), channels, *sides)
            places = np.einsum("ncyx,c->nyx", values, weights[at])
            total += np.einsum("nyx,yr,xs->nrs", places, rows, across) / max(
                float((rows @ mask @ across.T).sum()), 1e-300
            )
        return total.reshape(len(x), -1)

    def masks(self) -> Iterator[FloatArray]:
        """Yields the masks that are compared: the whole image, and Gaussians at each place."""
        yield np.ones((self.grid, self.grid)) / self.grid**2
        middle = (np.arange(self.grid) + 0.5) / self.grid
        for width in (0.1, 0.22):  # standard deviations, as shares of the image's side
            bell = np.exp(-0.5 * ((middle[:, None] - middle) / width) ** 2)
            for y in bell:
                for x in bell:
                    yield np.outer(y, x) / (y.sum() * x.sum())


def overlap(side: int, grid: int) -> FloatArray:
    """Returns the mean of ``grid`` cells of a line over each of ``side`` equal parts of it, ``(side, grid)``."""
    parts, cells = np.arange(side + 1) / side, np.arange(grid + 1) / grid
    both = np.minimum(parts[1:, None], cells[1:]) - np.maximum(parts[:-1, None], cells[:-1])
    found: FloatArray = np.maximum(both, 0) * side
    return found


def find_masks(x: NDArray[np.float32], places: Places, y: FloatArray, count: FloatArray) -> FloatArray:
    """Returns the mask of each unit, ``(units, grid, grid)``, each of sum 1.

    Args:
        x: Standardized features, ``(images, features)``.
        places: Where they lie.
        y: Mean responses, ``(images, units)``.
        count: Presentations of each image.
    """
    at = np.unique(np.linspace(0, len(y) - 1, min(SIGHTED, len(y))).round().astype(int))
    x, y, count = x[at], y[at], count[at]
    units, price = y.shape[1], 0.5 * np.log(len(y))
    best, found = np.full(units, -np.inf), np.full((units, places.grid, places.grid), 1 / places.grid**2)
    for number, mask in enumerate(places.masks()):
        z = _shared(places.seen(x, mask), places)
        evidence = fit_ridge((z @ z.T)[None], y, count).evidence - 3 * price * (number > 0)
        better = evidence > best
        best, found[better] = np.where(better, evidence, best), mask
    flat = (y == y[0]).all(0)
    return np.stack(
        [mask if flat[j] else _bent(x, places, y[:, [j]], count, mask, price) for j, mask in enumerate(found)]
    )


def _shared(seen: NDArray[np.float32], places: Places) -> FloatArray:
    """Returns channels ``(n, channels)`` whose inner products are the kernel of all layers alike."""
    found = seen.astype(float)
    for at in places.columns.values():
        found[:, at] /= np.sqrt(len(at) * len(places.layers))
    return found


def _bent(
    x: NDArray[np.float32], places: Places, y: FloatArray, count: FloatArray, mask: FloatArray, price: float
) -> FloatArray:
    """Returns a better mask than a Gaussian for one unit, or the Gaussian."""
    z = _shared(places.seen(x, mask), places)
    ridge = fit_ridge((z @ z.T)[None], y, count)
    first, best, found, paid = float(ridge.evidence[0]), float(ridge.evidence[0]), mask, 0.0
    for _ in range(3):  # steps from a Gaussian towards another mask
        weights = z.T @ ridge.dual[:, 0]
        for at in places.columns.values():
            weights[at] /= np.sqrt(len(at) * len(places.layers))
        by_place = places.by_place(x, weights, mask)
        rest = y - ridge.bias - (by_place @ mask.ravel())[:, None]
        step = fit_ridge((by_place @ by_place.T)[None], rest, count)
        mask = np.maximum(mask + (by_place.T @ step.dual[:, 0]).reshape(mask.shape), 0)
        if not mask.sum() > 0:
            break
        mask, paid = mask / mask.sum(), paid + price * _effective(by_place, step, count)
        z = _shared(places.seen(x, mask), places)
        ridge = fit_ridge((z @ z.T)[None], y, count)
        if float(ridge.evidence[0]) - paid > max(best, first):
            best, found = float(ridge.evidence[0]) - paid, mask
    return found


def _effective(x: FloatArray, ridge: Ridge, count: FloatArray) -> float:
    """Returns how many numbers a ridge regression on ``(n, features)`` fits: Σ s / (s + λ)."""
    values = np.linalg.svd(x * np.sqrt(count)[:, None], compute_uv=False) ** 2
    return float((values / (values + ridge.ratio[0])).sum())
