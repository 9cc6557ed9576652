"""Small differentiable subjects, in double precision where numbers are compared."""

import numpy as np
import pytest
import torch
from torch import nn

from closedloop.interfaces import Space, Units
from closedloop.networks.modules import born
from closedloop.subjects import TorchSubject

SIDE = 8


class Tensors:
    """A subject of one torch function from images ``(n, 3, h, w)`` to responses ``(n, units)``."""

    name = "tensors"

    def __init__(self, function, units=2):
        self.function, self.units = function, Units.numbered("tensors", units)

    def record(self, images):
        with torch.no_grad():
            return self.forward(torch.tensor(np.asarray(images, dtype=float))).numpy()

    def forward(self, x):
        return self.function(x.double())


class Plain:
    """A generator of pixels in double precision, which can encode."""

    name = "plain"

    def __init__(self, side=SIDE):
        self.resolution, self.space = side, Space(3 * side**2, low=0.0, high=1.0, scale=12**-0.5)

    def __call__(self, codes):
        return np.asarray(codes, np.float32).reshape(-1, 3, self.resolution, self.resolution)

    def forward(self, codes):
        return codes.reshape(-1, 3, self.resolution, self.resolution)

    def encode(self, images):
        return np.asarray(images, dtype=float).reshape(len(images), -1)


def filters(units=2, seed=0):
    return torch.tensor(np.random.default_rng(seed).standard_normal((3 * SIDE**2, units)) / SIDE)


def linear(units=2):
    """Linear units."""
    return Tensors(lambda x: (x - 0.5).flatten(1) @ filters(units), units)


def network(seed=0, classes=4):
    """A small network with every kind of thing that could be left changed."""
    return born(
        lambda: nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(), nn.Flatten(), nn.Linear(6 * 36, classes)
        ),
        seed,
    )


@pytest.fixture
def classifier():
    """All outputs of a small network."""
    return TorchSubject(network(), resolution=SIDE, engine="eager")
