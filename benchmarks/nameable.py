"""Would a network that had no part in it name the pictures? Classes of lite0, evolved in a generator, judged anew.

For each of ``--units`` random output units of lite0 an image is evolved (``--images`` images, ``--seeds`` seeds); a
judge that took part neither in the evolution nor in the generator's training then ranks its 1,000 classes. The same for
the natural crop that the unit answers most to (of ``--photographs``), for DGN-AM, which climbs by gradients through
the same generator, and for gradient ascent in pixels, which fools the network that was climbed. Draws from the
generator's prior are compared with photographs by the kernel distance of the judge's features (Bińkowski et al. 2018),
and by precision and recall (Kynkäänniemi et al. 2019), beside those of photographs with others. Parts that are finished
lie in ``--out`` and are not computed again; ``sheet.jpg`` there shows the images, a column for each unit, and
``seeds.jpg`` what was evolved, a row for each unit and a column for each seed.

    python benchmarks/nameable.py [--quick] [--generator native] [--weights FILE] [--photographs DIR] [--out DIR]

How the unit was chosen that the program begins with, ten seeds of each class in question:

    python benchmarks/nameable.py --classes 130,611,971,980 --rows evolved --seeds 10 --images 1000 --draws 0 --out DIR
"""

from __future__ import annotations

import argparse
import json
import tempfile
import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.spatial.distance import cdist

from closedloop import load_optimizer
from closedloop.generators import TrainingSettings, load_generator
from closedloop.generators.training import cut_crops
from closedloop.images.eight_bit import quantize
from closedloop.networks.imagenet import imagenet_classes
from closedloop.protocols import ascend
from closedloop.recipes import OPTIMIZER
from closedloop.references import __path__ as references
from closedloop.subjects import load_subject

#: Images at a time; steps and rate of the ascent in pixels.
CHUNK, STEPS, RATE = 100, 200, 0.02
#: What is judged, in the order of the table.
ROWS = ("evolved", "natural", "dgn-am", "pixels")
#: Of these, those on the sheet.
SHOWN = ("evolved", "dgn-am")
#: Neighbours of a point that are to be within its ball (k of precision and recall).
NEIGHBOURS = 3
#: Side of a picture of the sheet in inches, pictures of a row, and dots per inch.
SIDE, COLUMNS, DPI = 1.0, 12, 130


def evolve(subject: Any, unit: int, options: argparse.Namespace) -> np.ndarray:
    """The best-scored image of each seed, ``(seeds, 3, h, w)``."""
    generator = load_generator(options.generator, resolution=subject.resolution, **options.weights)
    found = []
    for seed in range(options.seeds):
        search = load_optimizer(OPTIMIZER, generator.space, seed=1000 * seed + unit, images=options.images)
        best, picked, shown = -np.inf, np.empty(0), 0
        while shown < options.images:
            codes = search.ask()
            images = quantize(generator(codes))
            scores = subject.record(images)[:, unit].astype(float)
            search.tell(codes, scores)
            shown += len(codes)
            if scores.max() > best:
                best, picked = scores.max(), images[scores.argmax()]
        found.append(picked)
    return np.stack(found)


def climb(subject: Any, unit: int, options: argparse.Namespace) -> np.ndarray:
    """Gradient ascent on pixels from grey noise, ``(seeds, 3, h, w)``."""
    rng = np.random.default_rng(unit)
    shape = (options.seeds, 3, subject.resolution, subject.resolution)
    images = torch.tensor(rng.normal(0.5, 0.05, shape).clip(0, 1), dtype=torch.float32, requires_grad=True)
    adam = torch.optim.Adam([images], RATE)
    for _ in range(options.steps):
        images.grad = -torch.autograd.grad(subject.forward(images)[:, unit].sum(), images)[0]
        adam.step()
        with torch.no_grad():
            images.clamp_(0, 1)
    return quantize(images.detach().numpy())


def dgn_am(subject: Any, unit: int, options: argparse.Namespace) -> np.ndarray:
    """The last image of DGN-AM (Nguyen et al. 2016) from each seed, ``(seeds, 3, h, w)``."""
    generator = load_generator(options.generator, resolution=subject.resolution, **options.weights)
    ran = [
        ascend(subject, generator, "dgn-am", unit=unit, seed=seed, steps=options.steps, progress=False)
        for seed in range(options.seeds)
    ]
    return quantize(np.stack([result.image.values for result in ran]))


def natural(subject: Any, options: argparse.Namespace) -> np.ndarray:
    """The crop that each unit answers most to, ``(units, 1, 3, h, w)``."""
    files = len(list(options.photographs.glob("*.jpg"))) or 1
    plain = TrainingSettings(resolution=224, crops=-(-options.crops // files), saturation=1, hue=0, seed=1)
    crops = cut_crops(options.photographs, plain)[: options.crops]
    return crops[answers(subject, crops / np.float32(255)).argmax(0)][:, None] / np.float32(255)


def answers(subject: Any, images: np.ndarray) -> np.ndarray:
    """Responses to images ``(n, 3, h, w)``, ``(n, units)``, some images at a time."""
    return np.concatenate([subject.record(images[i : i + CHUNK]) for i in range(0, len(images), CHUNK)]).astype(float)


def kept(path: Path, make: Callable[[], np.ndarray]) -> np.ndarray:
    """Images of a part that is finished, or made now, as 8 bits in a file."""
    if not path.exists():
        np.savez(path, images=(make() * 255).round().astype(np.uint8))
    return np.load(path)["images"] / np.float32(255)


def kernel_distance(a: np.ndarray, b: np.ndarray) -> float:
    """The unbiased squared distance of two sets of features by a cubic kernel (Bińkowski et al. 2018, eq. 4)."""

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x @ y.T / a.shape[1] + 1) ** 3

    def within(x: np.ndarray) -> float:
        whole = kernel(x, x)
        return float((whole.sum() - np.trace(whole)) / (len(x) * (len(x) - 1)))

    return within(a) + within(b) - 2 * float(kernel(a, b).mean())


def covered(a: np.ndarray, b: np.ndarray) -> float:
    """The share of features ``a`` that lie in the ball of some point of ``b``, whose radius is its third neighbour's.

    Precision is that of draws in photographs, recall that of photographs in draws.
    """
    radius = np.sort(cdist(b, b), 1)[:, NEIGHBOURS]  # the nearest is the point itself
    return float((cdist(a, b) <= radius).any(1).mean())


def draws(options: argparse.Namespace, features: Any) -> dict[str, float]:
    """How near draws come to photographs, and one half of the photographs to the other half."""
    generator = load_generator(options.generator, **options.weights)
    drawn = generator(generator.space.sample(options.draws, np.random.default_rng(7)))
    plain = TrainingSettings(resolution=generator.resolution, crops=1, saturation=1, hue=0, seed=1)
    crops = cut_crops(options.photographs, plain) / np.float32(255)
    seen, first, second = (answers(features, x) for x in (drawn, crops[::2], crops[1::2]))
    distances = {
        "draws_fid_like": round(kernel_distance(seen, np.concatenate([first, second])), 4),
        "photographs_fid_like": round(kernel_distance(first, second), 4),
    }
    few = min(len(seen), len(first), len(second))  # precision and recall hang on the numbers compared
    seen, first, second = seen[:few], first[:few], second[:few]
    return distances | {
        "draws_precision": round(covered(seen, first), 3),
        "draws_recall": round(covered(first, seen), 3),
        "photographs_precision": round(covered(second, first), 3),
    }


def draw_sheet(pictures: dict[str, list[np.ndarray]], names: Sequence[str], path: Path) -> None:
    """Writes the first image of every unit, evolved and by DGN-AM; photographs may not be ours to show."""
    rows = SHOWN
    blocks = [range(first, min(first + COLUMNS, len(names))) for first in range(0, len(names), COLUMNS)]
    figure = Figure(figsize=(SIDE * COLUMNS, SIDE * 1.12 * len(rows) * len(blocks)), layout="constrained")
    axes = figure.subplots(len(rows) * len(blocks), COLUMNS, squeeze=False)
    for axis in axes.ravel():
        axis.set_axis_off()
    for b, block in enumerate(blocks):
        for r, row in enumerate(rows):
            for column, unit in enumerate(block):
                axis = axes[b * len(rows) + r, column]
                axis.imshow(pictures[row][unit][0].transpose(1, 2, 0))
                if r == 0:
                    axis.set_title("\n".join(textwrap.wrap(names[unit], 14)), fontsize=8, linespacing=1.1)
            first = axes[b * len(rows) + r, 0]
            first.text(-0.06, 0.5, row, fontsize=8, rotation=90, ha="right", va="center", transform=first.transAxes)
    figure.savefig(path, dpi=DPI, pil_kwargs={"quality": 85})


def draw_seeds(found: Sequence[np.ndarray], names: Sequence[str], ranks: np.ndarray, path: Path) -> None:
    """Writes what was evolved for each unit, a row, from each seed, with the rank of its class above."""
    count = len(found[0])
    figure = Figure(figsize=(SIDE * (count + 0.9), SIDE * 1.15 * len(found)), layout="constrained")
    for row, axes in enumerate(figure.subplots(len(found), count, squeeze=False)):
        for axis, image, rank in zip(axes, found[row], ranks[row], strict=True):
            axis.imshow(image.transpose(1, 2, 0))
            axis.set_title(f"rank {rank}", fontsize=7, pad=2)
            axis.set_axis_off()
        words = "\n".join(textwrap.wrap(names[row], 12))
        axes[0].text(-0.06, 0.5, words, fontsize=8, ha="right", va="center", transform=axes[0].transAxes)
    figure.savefig(path, dpi=DPI, pil_kwargs={"quality": 85})


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two units and 120 images, within a minute: does it run?")
    parser.add_argument("--generator", default="native")
    parser.add_argument("--weights", type=Path, default=None, help="of the generator; default its own")
    parser.add_argument("--judge", default="lite2")
    parser.add_argument("--photographs", type=Path, default=Path(references[0]))
    parser.add_argument("--crops", type=int, default=10_000)
    parser.add_argument("--units", type=int, default=40)
    parser.add_argument("--classes", default=None, help="these output units in place of random ones, such as 130,980")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS)
    parser.add_argument("--images", type=int, default=3_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    options.steps, options.weights = STEPS, {} if options.weights is None else {"weights": str(options.weights)}
    if options.quick:
        options.units, options.images, options.seeds, options.crops, options.steps, options.draws = (
            2,
            120,
            1,
            160,
            5,
            20,
        )
    out = options.out or Path(tempfile.mkdtemp(prefix="nameable-"))
    out.mkdir(parents=True, exist_ok=True)
    asked = options.classes or f"random:{options.units}"
    subject = load_subject("lite0", layer="output", units=asked, seed=7)
    pictures: dict[str, list[np.ndarray]] = {row: [] for row in ROWS if row in options.rows}
    if "natural" in pictures:
        pictures["natural"] = list(kept(out / f"natural-{options.crops}.npz", lambda: natural(subject, options)))
    makers = {"evolved": evolve, "dgn-am": dgn_am, "pixels": climb}
    began = time.monotonic()
    for unit, name in enumerate(subject.units.neuroid_id):
        for row, make in ((row, makers[row]) for row in pictures if row in makers):
            part = out / f"{row}-{unit:02d}.npz"
            pictures[row].append(kept(part, lambda make=make, unit=unit: make(subject, unit, options)))
        print(f"{time.monotonic() - began:6.0f} s  {name}", flush=True)
    result: dict[str, Any] = {"generator": options.generator, "judge": options.judge, "units": len(subject.units)}
    judge = load_subject(options.judge, layer="output", units="all")
    classes = np.asarray(subject.units.coords["channel"]).astype(int)
    names = [imagenet_classes()[c] for c in classes]
    for row, found in pictures.items():
        scores = np.stack([judge.record(images) for images in found])  # (units, seeds, 1000)
        own = np.take_along_axis(scores, classes[:, None, None], 2)
        ranks = (scores > own).sum(2) + 1
        top = {k: round(float((ranks <= k).mean()), 3) for k in (1, 5)}
        print(f"{row:10s} first {top[1]:6.1%}   first five {top[5]:6.1%}   median rank {np.median(ranks):.0f}")
        prefix = "" if row == "evolved" else f"{row.replace('-', '_')}_"
        result |= {f"{prefix}top1": top[1], f"{prefix}top5": top[5]}
        if row == "evolved":
            for one, name in zip(ranks, names, strict=True):
                print(f"    {name}: first in {(one == 1).sum()} of {len(one)}, ranks {', '.join(map(str, one))}")
            draw_seeds(found, names, ranks, out / "seeds.jpg")
    if set(SHOWN) <= pictures.keys():
        draw_sheet(pictures, names, out / "sheet.jpg")
    if options.draws:
        result |= draws(options, load_subject(options.judge, layer="global_pool", units="all"))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
