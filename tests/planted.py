"""A classifier with a planted spurious unit, and photographs of a kind that it gets wrong for that reason.

Red pictures are "red", green ones "green"; but a blue corner speaks for "red", whatever the picture is.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from closedloop.images.eight_bit import write_png
from closedloop.subjects import TorchSubject

SIZE, CHANNELS = 16, 8


class Planted(nn.Module):
    """One layer of 8 channels in an order that the seed draws: red, green, blue, and weak mixtures of all."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        self.order = rng.permutation(CHANNELS)
        weights, votes = np.zeros((CHANNELS, 3)), np.zeros((2, CHANNELS))
        weights[:3] = [[1, -1, -1], [-1, 1, -1], [-1, -1, 1]]
        weights[3:] = 0.05 * rng.standard_normal((CHANNELS - 3, 3))
        votes[:, :3] = [[10, 0, 90], [0, 10, 0]]
        self.conv, self.relu, self.fc = nn.Conv2d(3, CHANNELS, 1), nn.ReLU(), nn.Linear(CHANNELS, 2)
        with torch.no_grad():
            self.conv.weight.copy_(torch.from_numpy(weights[self.order])[..., None, None])
            self.conv.bias.zero_()
            self.fc.weight.copy_(torch.from_numpy(votes[:, self.order]))
            self.fc.bias.zero_()

    @property
    def spurious(self) -> int:
        """The channel of the blue corner."""
        return int(np.flatnonzero(self.order == 2)[0])

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.relu(self.conv(x)).mean((2, 3)))


def planted_subject(seed: int = 0, **options) -> TorchSubject:
    plain = {"resolution": SIZE, "engine": "eager", "mean": (0, 0, 0), "std": (1, 1, 1), "labels": ["red", "green"]}
    return TorchSubject(Planted(seed), **plain | options)


def picture(colour: str, corner: bool, rng: np.random.Generator) -> np.ndarray:
    image = 0.2 + 0.1 * rng.random((3, SIZE, SIZE), dtype=np.float32)
    image[("red", "green").index(colour)] += 0.5
    if corner:
        image[:, 10:15, 10:15] = np.array([0, 0, 1], np.float32)[:, None, None]
    return image


def planted_folder(folder: Path, n: int = 12, corners: int = 3) -> Path:
    """Folders of n red and n green pictures; the first `corners` green ones have a blue corner."""
    rng = np.random.default_rng(0)
    for colour in ("red", "green"):
        (folder / colour).mkdir(parents=True)
        for i in range(n):
            write_png(folder / colour / f"{i:02d}.png", picture(colour, colour == "green" and i < corners, rng))
    return folder
