"""What evolution reaches in each generator, against the best of many natural crops, for units of five depths of lite0.

Each row evolves every unit with ``--images`` images by ``--optimizer`` and no noise; the score is the response to the
8-bit image that was picked, shown afresh. ``random`` is random search in native; ``whitebox`` is gradient ascent in
native on the subject itself, the ceiling that a black box cannot see. Natural crops come from ``--photographs`` (a
folder; default the bundled ones), random squares of at least 0.45 of the shorter side. Parts that are finished lie in
``--out`` and are not computed again.

    python benchmarks/generators.py [--quick] [--photographs DIR] [--units 8] [--rows native fourier …]
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
from matplotlib.figure import Figure

from closedloop import load_optimizer
from closedloop.analysis import median_interval
from closedloop.generators import TrainingSettings, load_generator
from closedloop.generators.training import cut_crops
from closedloop.gradients.redirected import InwardClamp
from closedloop.images.eight_bit import quantize
from closedloop.recipes import OPTIMIZER
from closedloop.references import __path__ as references
from closedloop.subjects import load_subject

DEPTHS = ("blocks.1", "blocks.3", "blocks.4", "blocks.5", "output")
ROWS = ("native", "fourier", "pixels", "cppn", "random", "whitebox")
CHUNK = 160
#: Units of each depth on the sheet.
SHOWN = 3
#: Gradient ascent: codes from the prior of which the best begins, and steps of Adam.
STARTS, STEPS, RATE = 16, 100, 0.1


def natural(subjects: dict[str, Any], folder: Path, n: int) -> dict[str, np.ndarray]:
    """Responses to ``n`` natural crops of each depth's units."""
    files = len(list(folder.glob("*.jpg"))) or 1
    plain = TrainingSettings(resolution=224, crops=-(-n // files), saturation=1, hue=0, seed=1)
    crops = cut_crops(folder, plain)
    chosen = np.random.default_rng(1).permutation(len(crops))[:n]
    parts: dict[str, list[np.ndarray]] = {depth: [] for depth in subjects}
    for i in range(0, n, CHUNK):
        images = crops[chosen[i : i + CHUNK]].astype(np.float32) / 255
        for depth, subject in subjects.items():
            parts[depth].append(subject.record(images))
    return {depth: np.concatenate(p) for depth, p in parts.items()}


def evolve(subject: Any, generator: Any, optimizer: str, images: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Responses to each unit's picked image, and the images."""
    n = len(subject.units)
    searches = [load_optimizer(optimizer, generator.space, seed=seed + i, images=images) for i in range(n)]
    best, picked = np.full(n, -np.inf), np.zeros((n, 3, subject.resolution, subject.resolution), np.float32)
    shown = 0
    while True:
        asked = [search.ask() for search in searches]
        if shown + len(asked[0]) > images:
            break
        shown += len(asked[0])
        for i, (search, codes) in enumerate(zip(searches, asked, strict=True)):
            drawn = quantize(generator(codes))
            scores = subject.record(drawn)[:, i].astype(float)
            search.tell(codes, scores)
            if scores.max() > best[i]:
                best[i], picked[i] = scores.max(), drawn[scores.argmax()]
    return np.diag(subject.record(picked)).astype(float), picked


def ascend(subject: Any, generator: Any, steps: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The same by gradient ascent on the codes: the best image on Adam's way."""
    n = len(subject.units)
    codes = generator.space.sample(STARTS, np.random.default_rng(seed))
    first = codes[subject.record(generator(codes)).argmax(0)]
    code = torch.tensor(first, dtype=torch.float32, requires_grad=True)
    adam = torch.optim.Adam([code], lr=RATE)
    best, picked = np.full(n, -np.inf), np.zeros((n, 3, subject.resolution, subject.resolution), np.float32)
    for _ in range(steps):
        with InwardClamp():
            images = generator.forward(code)
        responses = torch.diagonal(subject.forward(images))
        code.grad = -torch.autograd.grad(responses.sum(), code)[0]
        adam.step()
        better = responses.detach().numpy() > best
        best[better], picked[better] = responses.detach().numpy()[better], images.detach().numpy()[better]
    picked = quantize(picked)
    return np.diag(subject.record(picked)).astype(float), picked


def measure(row: str, subject: Any, options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """One row for one depth: responses to the picked images, and the images."""
    name = "native" if row in ("random", "whitebox") else row
    size = 64 if name == "pixels" else subject.resolution
    generator = load_generator(name, resolution=size)
    if name == "pixels":
        generator = Enlarged(generator, subject.resolution)
    if row == "whitebox":
        return ascend(subject, generator, options.steps, options.seed)
    return evolve(subject, generator, "random" if row == "random" else options.optimizer, options.images, options.seed)


class Enlarged:
    """Pixels at the subject's resolution, so that pictures have one size."""

    def __init__(self, inner: Any, resolution: int) -> None:
        self.inner, self.space, self.resolution, self.name = inner, inner.space, resolution, inner.name

    def __call__(self, codes: np.ndarray) -> np.ndarray:
        """Each pixel as often as needed."""
        index = np.arange(self.resolution) * self.inner.resolution // self.resolution
        return self.inner(codes)[:, :, index][:, :, :, index]


def write_sheet(path: Path, pictures: dict[str, np.ndarray], ratios: dict[str, np.ndarray], ids: list[str]) -> None:
    """The first units of each depth, one column a unit, one row for each of the table; numbers are ÷ the best crop."""
    layers = [name.split(".", 1)[1].partition("@")[0] for name in ids]
    depths = [layer.rpartition(".")[0] for layer in layers]
    shown = [i for i, depth in enumerate(depths) if depths[:i].count(depth) < SHOWN]
    figure = Figure(figsize=(0.9 * len(shown), 1.08 * len(pictures) + 0.25), layout="constrained")
    axes = figure.subplots(len(pictures), len(shown), squeeze=False)
    for line, (row, images) in zip(axes, pictures.items(), strict=True):
        for ax, i in zip(line, shown, strict=True):
            ax.imshow(images[i].transpose(1, 2, 0))
            ax.spines[:].set_visible(False)
            ax.set_xlabel(f"{ratios[row][i]:.2f}", fontsize=7, labelpad=2)
            ax.set_xticks([])
            ax.set_yticks([])
        line[0].set_ylabel(row, fontsize=8)
    for ax, i in zip(axes[0], shown, strict=True):
        ax.set_title(layers[i], fontsize=7)
    figure.savefig(path, dpi=110)


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 % interval of the median over units, between order statistics."""
    found = median_interval(values)
    return float(found["low"]), float(found["high"])


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two units and 120 images, within a minute: does it run?")
    parser.add_argument("--photographs", type=Path, default=Path(references[0]))
    parser.add_argument("--crops", type=int, default=10_000)
    parser.add_argument("--units", type=int, default=8, help="of each depth")
    parser.add_argument("--images", type=int, default=3_000)
    parser.add_argument("--optimizer", default=OPTIMIZER)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    options.steps = STEPS
    depths = DEPTHS
    if options.quick:
        depths, options.units, options.images, options.crops = ("blocks.3", "output"), 1, 120, 160
        options.rows, options.steps = ["native", "fourier", "whitebox"], 6
    out = options.out or Path(tempfile.mkdtemp(prefix="generators-"))
    out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    subjects = {d: load_subject("lite0", layer=d, units=f"random:{options.units}", seed=7) for d in depths}
    ids = [name for subject in subjects.values() for name in subject.units.neuroid_id]
    cached = out / f"natural-{options.crops}.npz"
    if not cached.exists():
        np.savez(cached, **natural(subjects, options.photographs, options.crops))
    responses = np.concatenate([np.load(cached)[d] for d in depths], axis=1)
    reached, pictures = {}, {}
    for row in options.rows:
        scores, images = [], []
        for depth, subject in subjects.items():
            part = out / f"{row}-{depth}.npz"
            if not part.exists():
                result = measure(row, subject, options)
                np.savez(part, score=result[0], image=(result[1] * 255).round().astype(np.uint8))
                print(f"{time.monotonic() - began:6.0f} s  {row} {depth}", flush=True)
            stored = np.load(part)
            scores.append(stored["score"])
            images.append(stored["image"].astype(np.float32) / 255)
        reached[row], pictures[row] = np.concatenate(scores), np.concatenate(images)
    ratios = {row: values / responses.max(0) for row, values in reached.items()}
    write_sheet(out / "sheet.png", pictures, ratios, ids)
    print(f"units: {', '.join(ids)}")
    print(json.dumps(table(reached, responses, depths, options)))


def table(
    reached: dict[str, np.ndarray], responses: np.ndarray, depths: tuple[str, ...], options: argparse.Namespace
) -> dict[str, Any]:
    """Prints medians over units, and returns the numbers that others look at."""
    best = responses.max(0)
    thousand = np.median([responses[i : i + 1000].max(0) for i in range(0, len(responses), 1000)], axis=0)
    print(f"{'reached ÷ best of ' + format(len(responses), ','):28}" + "".join(f"{d:>10}" for d in depths)
          + "     all [95 %]           above natural   ÷ best of 1,000")  # fmt: skip
    for row, values in reached.items():
        ratio = values / best
        parts = [np.median(part) for part in np.split(ratio, len(depths))]
        low, high = interval(ratio)
        print(f"{row:28}" + "".join(f"{p:10.2f}" for p in parts) + f"   {np.median(ratio):5.2f} [{low:.2f}, {high:.2f}]"
              f"{(ratio > 1).mean():14.2f}{np.median(values / thousand):18.2f}")  # fmt: skip
    result: dict[str, Any] = {"images": options.images, "units": len(best), "optimizer": options.optimizer}
    if "native" in reached:
        ratio = reached["native"] / best
        result["native_over_natural_median"] = float(np.median(ratio))
        result["native_over_natural_median_interval"] = interval(ratio)
        result["native_share_above_natural"] = float((ratio > 1).mean())
        result["native_over_natural_by_depth"] = {
            d: float(np.median(p)) for d, p in zip(depths, np.split(ratio, len(depths)), strict=True)
        }
        for other in ("fourier", "pixels"):
            if other in reached:
                last = (np.log(reached["native"]) - np.log(np.maximum(reached[other], 1e-6)))[-options.units :]
                result[f"native_over_{other}_output_interval"] = [float(np.exp(v)) for v in interval(last)]
        if "whitebox" in reached:
            result["native_over_whitebox_median"] = float(np.median(reached["native"] / reached["whitebox"]))
    return result


if __name__ == "__main__":
    main()
