"""A small atlas without torch: two layers with names that addresses must escape, photographs of three classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from closedloop import Units
from closedloop.images.movies import encode_image
from closedloop.protocols import Contender, atlas

SIDE = 16
LAYERS = ("a/b.c", "odd#1?")
#: Two ways to evolve, so that a unit has two images.
METHODS = tuple(
    Contender(label, "evolve", {"name": "fourier", "resolution": SIDE, "cutoff": cutoff}, "isotropic")
    for label, cutoff in (("evolved", 2), ("coarse", 1))
)


class Layers:
    """Linear units, of which each sees a part of the image; the last is dead, and one lies away from the centre."""

    name = "layers"
    resolution = SIDE
    units = Units(
        tuple(f"layers.{i}" for i in range(5)),
        {
            "layer": (LAYERS[0],) * 3 + (LAYERS[1],) * 2,
            "channel": (0, 1, 10, 0, 1),
            "y": (2, 2, 1, -1, -1),
            "x": (2, 2, 3, -1, -1),
            "position": ("central", "central", "given", "none", "none"),
            "label": ("", "", "", "<b>bold</b>", ""),
            "rf_y0": (4, 4, 0, 0, 0),
            "rf_x0": (4, 4, 8, 0, 0),
            "rf_y1": (12, 12, 8, SIDE, SIDE),
            "rf_x1": (12, 12, 16, SIDE, SIDE),
        },
    )

    def __init__(self):
        self._weights = np.random.default_rng(5).standard_normal((5, 3, SIDE, SIDE)).astype(np.float32)
        fields = np.array([self.units.coords[f"rf_{edge}"] for edge in ("y0", "x0", "y1", "x1")]).T
        for i, (y0, x0, y1, x1) in enumerate(fields):
            seen = np.zeros((SIDE, SIDE), bool)
            seen[y0:y1, x0:x1] = True
            self._weights[i][:, ~seen] = 0
        self._weights[4] = 0

    def record(self, images):
        return np.array([[(i * w).sum() for w in self._weights] for i in images])


def photographs(folder: Path, seed: int = 1) -> Path:
    """Puts pictures of three classes into a folder."""
    images = np.random.default_rng(seed).integers(0, 256, (30, 3, SIDE, SIDE)).astype(np.float32) / np.float32(255)
    for i, image in enumerate(images):
        place = folder / ("cat", "dog", "red fox")[i % 3]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{i:02d} <i>.png").write_bytes(encode_image(image, None)[1])
    return folder


def fill(run: Path, naturals: Path, **more):
    """Fills a small atlas; returns its recording."""
    return atlas(Layers(), None, METHODS, naturals=naturals, budget=60, top=3, save=run, progress=False, **more)
