"""A network that reads digits is fooled by raw ascent: sure of images that are unlike any digit."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import nn

from closedloop.images.naturalness import band, measure
from closedloop.networks.modules import born
from closedloop.protocols import ascend
from closedloop.subjects import TorchSubject

SIDE = 24
GREY = {"mean": (0.48,) * 3, "std": (0.23,) * 3}


def digits(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Digits of several sizes, places and brightnesses: images ``(n, 3, SIDE, SIDE)``, and which they are."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(10, size=n)
    images = np.empty((n, 3, SIDE, SIDE), np.float32)
    for image, label in zip(images, labels, strict=True):
        drawn = Image.new("L", (SIDE, SIDE))
        font = ImageFont.load_default(int(rng.integers(14, 20)))
        place = tuple(rng.uniform(1, 8, 2))
        ImageDraw.Draw(drawn).text(place, str(label), fill=int(rng.integers(140, 256)), font=font)
        image[:] = np.asarray(drawn) / 255
    return images, labels


@pytest.fixture(scope="module")
def reader() -> TorchSubject:
    """A small network that was trained to read them."""
    net = born(
        lambda: nn.Sequential(
            nn.Conv2d(3, 16, 5, stride=2), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2), nn.ReLU(), nn.Flatten(),
            nn.Linear(512, 10),
        ), 1,
    )  # fmt: skip
    images, labels = digits(1200, seed=0)
    pictures, classes = (torch.tensor(images) - GREY["mean"][0]) / GREY["std"][0], torch.tensor(labels)
    adam = torch.optim.Adam(net.parameters(), 3e-3)
    for batch in np.random.default_rng(0).integers(1200, size=(150, 64)):
        loss = nn.functional.cross_entropy(net(pictures[batch]), classes[batch])
        adam.zero_grad()
        loss.backward()
        adam.step()
    return TorchSubject(net, resolution=SIDE, engine="eager", labels=list("0123456789"), **GREY)


def test_it_reads(reader):
    images, labels = digits(300, seed=1)
    assert (reader.record(images).argmax(1) == labels).mean() > 0.7


def test_raw_ascent_makes_it_sure_of_what_is_no_digit(reader):
    fooled = ascend(reader, method="raw", unit=[3, 7], steps=120, every=10)
    assert (fooled["confidence"] > 0.99).all()
    largest, sure, surer, _ = fooled["reached"].values.T
    assert (largest <= sure).all()
    assert (sure <= surer).all()
    robust = ascend(reader, method="lucid", unit=[3, 7], steps=60, every=20)
    own = band(digits(300, seed=1)[0])
    raw, fourier = (measure(found["image"].values.astype(np.float32)) for found in (fooled, robust))
    for name in ("tv", "high_frequency"):
        assert raw[name].min() > own[name].high  # unlike any digit
        away = [np.maximum(v[name] - own[name].high, own[name].low - v[name]).max() for v in (raw, fourier)]
        assert away[1] < 0.8 * away[0]  # nearer to the digits, or among them
