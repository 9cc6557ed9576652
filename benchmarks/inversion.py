"""How well native draws photographs that it was not trained on, by its encoder alone and after gradient descent.

The photographs are the last ``--count`` of the sorted names of ``--photographs`` (their central square, 128 pixels).
For each way: the root mean square difference of the pixels, beside that of a plain square in the photograph's mean
colour; and for each layer of EfficientNet-Lite2 (not the network whose features steered the training) the distance of
the features, in units of the mean distance between two different photographs: 1 is no nearer than another photograph.
Means over photographs with 95 % intervals (Student's t).

The figure shows bundled photographs, which are openly licensed: original, encoder, gradient.

    python benchmarks/inversion.py --photographs DIR [--quick] [--figure docs/figures/inversion.png]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from closedloop.analysis import mean_interval
from closedloop.generators import FeatureTaps, invert, load_generator
from closedloop.images.eight_bit import from_bytes, to_bytes
from closedloop.images.sets import folder_images, natural_references, read_image
from closedloop.references import __path__ as references
from closedloop.subjects import load_subject

LAYERS = ("bn1", "blocks.1", "blocks.3", "blocks.5")
CHUNK = 20
#: The bundled photographs that the figure shows: all in the public domain or CC0.
SHOWN = (
    "005_giraffe-head", "026_panda", "039_macaw", "054_clownfish", "081_citrus-slices", "083_coffee", "122_cathedral",
    "143_canyon",
)  # fmt: skip


def features(taps: FeatureTaps, images: np.ndarray) -> list[np.ndarray]:
    """Features of images ``(n, 3, h, w)`` in [0, 1], each layer's ``(n, values)``."""
    parts = []
    with torch.no_grad():
        for i in range(0, len(images), CHUNK):
            found = taps(torch.from_numpy(images[i : i + CHUNK]) * 2 - 1)
            parts.append([f.flatten(1).numpy() for f in found])
    return [np.concatenate(layer) for layer in zip(*parts, strict=True)]


def between(layer: np.ndarray) -> float:
    """Mean distance of the features of two different photographs."""
    return float(np.mean([np.linalg.norm(np.roll(layer, k, 0) - layer, axis=1).mean() for k in range(1, 8)]))


def interval(values: np.ndarray) -> list[float]:
    """Mean with its 95 % interval by Student's t over photographs."""
    found = mean_interval(values)
    return [round(float(found[name]), 4) for name in ("estimate", "low", "high")]


def measure(taps: FeatureTaps, images: np.ndarray, drawn: dict[str, np.ndarray]) -> dict[str, Any]:
    """Pixels and features of what was drawn, against the photographs."""
    wanted = features(taps, images)
    typical = [between(layer) for layer in wanted]
    table: dict[str, Any] = {}
    for name, made in drawn.items():
        table[name] = {"pixels": interval(np.sqrt(((made - images) ** 2).mean((1, 2, 3), dtype=float)))}
        for layer, mine, theirs, unit in zip(LAYERS, features(taps, made), wanted, typical, strict=True):
            table[name][layer] = interval(np.linalg.norm(mine - theirs, axis=1) / unit)
    return table


def write_figure(path: Path, rows: list[np.ndarray], gap: int = 6) -> None:
    """Rows of images ``(n, 3, h, w)`` on white, one above the other; in 256 colours, so that the file is small."""
    n, _, side, _ = rows[0].shape
    sheet = np.full((len(rows) * (side + gap) - gap, n * (side + gap) - gap, 3), 255, np.uint8)
    for r, images in enumerate(rows):
        for c, image in enumerate(to_bytes(images)):
            y, x = r * (side + gap), c * (side + gap)
            sheet[y : y + side, x : x + side] = image.transpose(1, 2, 0)
    Image.fromarray(sheet).quantize(256, Image.Quantize.MEDIANCUT).save(path, optimize=True)


def both(native: Any, images: np.ndarray, steps: int) -> dict[str, Any]:
    """Inversions by encoder, and by gradient."""
    return {"encoder": invert(native, images, "encoder"), "gradient": invert(native, images, "gradient", steps=steps)}


def main() -> None:
    """See the module; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, default=Path(references[0]))
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--figure", type=Path, default=None)
    parser.add_argument("--quick", action="store_true", help="twelve photographs, ten steps: does it run?")
    options = parser.parse_args()
    if options.quick:
        options.count, options.steps = 12, 10
    native = load_generator("native")
    subject: Any = load_subject("lite2", engine="eager")
    taps = FeatureTaps(subject.model, LAYERS, (0.5,) * 3, (0.5,) * 3, "lite2")
    files = folder_images(options.photographs)[1][-options.count :]
    images = from_bytes(np.stack([read_image(file, native.resolution) for file in files]))
    began = time.monotonic()
    found = both(native, images, options.steps)
    plain = np.broadcast_to(images.mean((2, 3), keepdims=True), images.shape)
    drawn = {"mean colour": np.ascontiguousarray(plain), **{name: each.images for name, each in found.items()}}
    table = measure(taps, images, drawn)
    print(f"{'':12}" + "".join(f"{name:>26}" for name in ("pixels", *LAYERS)))
    for name, row in table.items():
        print(f"{name:12}" + "".join(f"{m:10.3f} [{low:.3f}, {high:.3f}]" for m, low, high in row.values()))
    if options.figure is not None:
        bundled = natural_references(native.resolution)
        shown = bundled.images[[bundled.ids.index(name) for name in SHOWN]]
        write_figure(options.figure, [shown, *(each.images for each in both(native, shown, options.steps).values())])
    print(json.dumps({"photographs": len(images), "steps": options.steps, "seconds": round(time.monotonic() - began, 1),
                      **table}))  # fmt: skip


if __name__ == "__main__":
    main()
