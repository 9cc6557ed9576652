"""Photographs and a frozen network for trainings that take no time."""

import pytest
import torch
from PIL import Image
from torch import nn

from closedloop.generators import FeatureTaps


class Small(nn.Module):
    """A network with two layers of maps, and a third that must not be needed."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 4, 2, 1), nn.Conv2d(4, 6, 4, 2, 1)
        self.calls = 0

    def forward(self, x):
        x = self.b(self.a(x).relu())
        self.calls += 1
        return x.mean((2, 3))


def small_taps():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return FeatureTaps(Small(), ("a", "b"), (0.5,) * 3, (0.5,) * 3, "small")


@pytest.fixture
def taps():
    return small_taps()


@pytest.fixture
def photographs(tmp_path):
    return four_photographs(tmp_path)


def four_photographs(place):
    """Four photographs of one colour each, 80 x 96 pixels."""
    folder = place / "photos"
    folder.mkdir()
    for i, color in enumerate([(200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30)]):
        Image.new("RGB", (96, 80), color).save(folder / f"{i}.png")
    return folder
