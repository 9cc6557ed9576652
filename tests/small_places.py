"""Features with places, and subjects whose mask and weights, or whose spikes, are known."""

import numpy as np

from closedloop.images.sets import ImageSet
from closedloop.interfaces import Units
from closedloop.subjects import FunctionSubject
from closedloop.twins.poisson import responding

#: Rows and columns of patches, and pixels of each.
GRID, PATCH = 4, 4
SIZE = GRID * PATCH


class Patches:
    """A differentiable subject with two layers: levels of colours in patches, and their products in larger ones."""

    name = "patches"

    def __init__(self) -> None:
        columns: dict[str, list] = {"layer": [], "channel": [], "y": [], "x": []}
        for layer, side in (("fine", GRID), ("coarse", GRID // 2)):
            found = [a.ravel().tolist() for a in np.indices((3, side, side))]
            for name, values in zip(columns, ([layer] * len(found[0]), *found), strict=True):
                columns[name] += values
        ids = tuple(f"{lay}.{c}.{y}.{x}" for lay, c, y, x in zip(*columns.values(), strict=True))
        self.units = Units(ids, {name: tuple(values) for name, values in columns.items()})

    def record(self, images):
        import torch

        with torch.no_grad():
            return self.forward(torch.from_numpy(np.asarray(images, np.float32))).numpy()

    def forward(self, x):
        import torch
        from torch.nn.functional import adaptive_avg_pool2d

        fine = adaptive_avg_pool2d(x, GRID)
        coarse = adaptive_avg_pool2d(fine * fine.roll(1, 1), GRID // 2)
        return torch.cat([fine.flatten(1), coarse.flatten(1)], 1)


def shown(n: int = 200, seed: int = 0) -> ImageSet:
    """Images of random patches, in 8 bits."""
    coarse = np.round(255 * np.random.default_rng(seed).random((n, 3, GRID, GRID))).astype(np.float32) / 255
    images = np.kron(coarse, np.ones((1, 1, PATCH, PATCH), np.float32))
    return ImageSet(tuple(f"image{i}" for i in range(n)), images.astype(np.float32))


def mask(*places: tuple[int, int]) -> np.ndarray:
    """A mask that is even over some patches."""
    found = np.zeros((GRID, GRID))
    for place in places:
        found[place] = 1 / len(places)
    return found


#: One place, and two at opposite ends.
MASKS = (mask((1, 2)), mask((0, 0), (3, 3)))
#: Weights of colours.
COLOURS = np.array([2.0, -1.0, 0.5])


def drives(images) -> np.ndarray:
    """What the units are driven by, ``(n, 2)``: colours where each looks, less the mean over images."""
    levels = np.asarray(images)[:, :, ::PATCH, ::PATCH] - 0.5
    return 3 * np.stack([np.einsum("ncyx,c,yx->n", levels, COLOURS, one) for one in MASKS], 1)


def looking(noise: float = 0.1, seed: int = 2) -> FunctionSubject:
    """Two linear units, each with a mask."""
    rng = np.random.default_rng(seed)
    return FunctionSubject(
        lambda x: 5 + drives(x) + noise * rng.normal(size=(len(x), 2)), units=["one", "two"], name="looking"
    )


def spiking(mean: float = 1.0, seed: int = 2) -> FunctionSubject:
    """The same units as Poisson neurons."""
    rng = np.random.default_rng(seed)
    return FunctionSubject(
        lambda x: rng.poisson(responding(drives(x) - 1, mean)).astype(float), units=["one", "two"], name="spiking"
    )
