"""Small twins of means of colours, and of what no image says."""

import numpy as np
import xarray as xr

from closedloop.images.sets import ImageSet
from closedloop.interfaces import Units
from closedloop.protocols import present, verify
from closedloop.subjects import FunctionSubject
from closedloop.twins import fit_twin


class Means:
    """A differentiable subject: the mean of each colour, and its square."""

    name = "means"
    units = Units.numbered("means", 6)

    def record(self, images):
        means = images.mean((2, 3))
        return np.concatenate([means, means**2], 1)

    def forward(self, x):
        import torch

        means = x.mean((2, 3))
        return torch.cat([means, means**2], 1)


def shown(n: int = 40) -> ImageSet:
    levels = np.random.default_rng(0).random((n, 3, 1, 1), dtype=np.float32)
    return ImageSet(tuple(f"image{i}" for i in range(n)), np.broadcast_to(levels, (n, 3, 16, 16)).copy())


def lab() -> FunctionSubject:
    rng = np.random.default_rng(7)

    def answer(images):
        signal = images.mean((2, 3))[:, :1] + 0.05 * rng.normal(size=(len(images), 1))
        return np.concatenate([signal, rng.normal(size=(len(images), 1))], 1)

    return FunctionSubject(answer, units=["red", "none"], name="lab")


def twin(units=None):
    recording = present(lab(), shown(), repeats=2, progress=False, resolution=16)
    return fit_twin(recording, features=Means(), references=shown(), units=units)


def table() -> xr.Dataset:
    return twin().table


def verified() -> xr.Dataset:
    return verify(lab(), shown(2).images, [0, 1], repeats=3, progress=False)
