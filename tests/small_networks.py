"""A small network with everything that makes recording hard, and what tests of subjects do with it."""

import numpy as np
import torch
from torch import Tensor, nn

from closedloop.subjects import TorchSubject

SIZE = 16


class Net(nn.Module):
    """Normalization, dropout, an operation in place, a reused layer, a buffer that every pass changes, two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)
        self.twice = nn.Conv2d(6, 6, 3, padding=1)
        self.unused = nn.Linear(2, 2)
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(6, 5)
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        self.passes += 1
        x = self.relu(self.norm(self.conv(x)))
        x = self.twice(self.twice(x))
        return {"hidden": x, "logits": self.fc(self.dropout(x.mean((2, 3))) * (self.passes > 0))}


class Function(nn.Module):
    """A forward pass written in place, without a parameter."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor):
        return self.function(x)


def seeded(make, seed: int = 0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


def made() -> Net:
    net = seeded(Net)
    net.norm.running_mean.copy_(torch.linspace(-1, 1, 6))
    return net


def images(n: int = 4, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(1).random((n, 3, size, size), dtype=np.float32)


def subject(model: nn.Module, **options) -> TorchSubject:
    return TorchSubject(model, **{"resolution": SIZE, "engine": "eager", **options})


def close(actual, expected) -> None:
    expected = np.asarray(expected)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
