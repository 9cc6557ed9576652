"""Is lite0 fooled by images that look like nothing? Raw ascent on random classes, and how natural the images are.

Each class is climbed from faint noise without any regularizer, on its own probability (Nguyen, Yosinski & Clune 2015).
Told are the share of classes with a confidence above .99 of the last image, 8 bits and whole; the step at which the
confidence first passed .99; and on each measure of naturalness the share of images inside the band of the photographs.

    python benchmarks/fooling.py [--quick] [--classes 100] [--steps 200] [--photographs DIR] [--out DIR]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from closedloop.images.naturalness import MEASURES, band, measure
from closedloop.images.nearest import Bank
from closedloop.images.sets import as_image_set
from closedloop.protocols import ascend
from closedloop.subjects import load_subject

#: Classes that are climbed side by side.
TOGETHER = 10


def climb(options: argparse.Namespace, classes: list[int]) -> dict[str, np.ndarray]:
    """Confidence, step of .99, and last image of each class; parts that are finished lie in the folder."""
    subject = load_subject("lite0", layer="output", units="all")
    parts = []
    for i in range(0, len(classes), TOGETHER):
        file = options.out / f"raw-{options.steps}-{options.seed}-{i}.npz"
        if not file.exists():
            found = ascend(
                subject, method="raw", unit=classes[i : i + TOGETHER], steps=options.steps, every=10, seed=options.seed
            )
            np.savez(
                file, confidence=found["confidence"], step=found["reached"].sel(milestone="0.99"),
                image=(found["image"].values * 255).round().astype(np.uint8),
            )  # fmt: skip
            print(f"{time.process_time():.0f} s: {i + TOGETHER} classes", flush=True)
        parts.append(dict(np.load(file)))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def main() -> None:
    """Runs it, prints a table, and one JSON object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="four classes, 60 steps")
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--photographs", type=Path, default=None, help="natural images; default the bundled ones")
    parser.add_argument("--out", type=Path, default=None, help="folder of parts; also to go on")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.quick:
        options.classes, options.steps = 4, 60
    options.out = Path(tempfile.mkdtemp()) if options.out is None else options.out
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_flush_denormal(True)
    classes = np.random.default_rng(options.seed).permutation(1000)[: options.classes].tolist()
    found = climb(options, classes)
    naturals = as_image_set("bundled" if options.photographs is None else options.photographs, 224).images
    images = (found["image"] / 255).astype(np.float32)
    values = measure(images) | {"natural_distance": Bank.of(naturals).nearest(images).ratio}
    bands = band(naturals)
    inside: dict[str, Any] = {}
    print(f"\n{'':20s}{'fooling, median':>18s}{'natural, 95 %':>24s}{'inside':>10s}")
    for name in MEASURES:
        share = float(np.nanmean(np.nan_to_num(bands[name].holds(values[name]))))
        inside[name] = round(share, 3)
        edges = f"{bands[name].low:.3g} to {bands[name].high:.3g}"
        print(f"{name:20s}{np.nanmedian(values[name]):18.3g}{edges:>24s}{share:10.0%}")
    sure = found["confidence"] > 0.99
    steps = found["step"][np.isfinite(found["step"])]
    print(json.dumps({
        "classes": options.classes, "steps": options.steps, "seed": options.seed,
        "share_above_99": round(float(sure.mean()), 3),
        "median_confidence": round(float(np.median(found["confidence"])), 4),
        "step_of_99_median": float(np.median(steps)) if len(steps) else None,
        "step_of_99_quartiles": [float(q) for q in np.quantile(steps, [0.25, 0.75])] if len(steps) else None,
        "inside_natural_band": inside,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
