"""What evolution reaches in each generator, against the best of many natural crops, for units of five depths of lite0.

Each row evolves every unit with ``--images`` images by ``--optimizer`` and no noise; the score is the response to the
8-bit image that was picked, shown afresh. ``random`` is random search in native; ``whitebox`` is gradient ascent in
native on the subject itself, the ceiling that a black box cannot see: that of benchmarks/compare.py, Adam on the codes,
two codes a unit, the better one taken. Natural crops come from ``--photographs`` (a folder; default the bundled ones),
random squares of at least 0.45 of the shorter side. Evolutions and ascents are the runs of a sweep in ``--out``: what
is finished there is not run again, and responses to natural crops are kept beside them.

    python benchmarks/generators.py [--quick] [--photographs DIR] [--units 8] [--rows native fourier …]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from compare import draw_units  # benchmarks/compare.py, which lies beside this file
from matplotlib.figure import Figure

from closedloop import catalogue, open_recording
from closedloop.analysis import median_interval
from closedloop.generators import TrainingSettings
from closedloop.generators.training import cut_crops
from closedloop.images.resizing import resize_images
from closedloop.protocols import sweep
from closedloop.protocols.sweep_work import read_plan
from closedloop.recipes import OPTIMIZER
from closedloop.recording.pictures import Pictures
from closedloop.references import __path__ as references
from closedloop.subjects import load_subject

DEPTHS = ("blocks.1", "blocks.3", "blocks.4", "blocks.5", "output")
ROWS = ("native", "fourier", "pixels", "cppn", "random", "whitebox")
#: Rows that are run where they are named.
ON_REQUEST = ("native-1", "native-2")
CHUNK = 160
#: Units of each depth on the sheet.
SHOWN = 3
#: The generator of each row, where it is not the row's name.
MADE_BY = {"random": "native", "whitebox": "native", "pixels": {"name": "pixels", "resolution": 64}}
#: Side in pixels of the pictures on the sheet.
SIDE = 224


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


def plans(row: str, units: dict[str, list[int]], options: argparse.Namespace) -> list[dict[str, Any]]:
    """The plans of one row, one for each depth."""
    made = {"subject": "lite0", "generator": MADE_BY.get(row, row), "seed": options.seed, "references": "none"}
    if row == "whitebox":
        how = {
            "protocol": "ascend",
            "method": "adam",
            "copies": 2,
            **({"steps": options.steps} if options.steps else {}),
        }
    else:
        optimizer = "random" if row == "random" else options.optimizer
        how = {"optimizer": optimizer, "images": options.images, "keep": "none"}
    return [{**made, **how, "layers": [depth], "units": ",".join(map(str, some))} for depth, some in units.items()]


def run_rows(units: dict[str, list[int]], options: argparse.Namespace) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Does the runs of all rows; returns responses to the picked images ``(units,)``, and the images, of each row."""
    parts = {row: plans(row, units, options) for row in options.rows}
    whole = {"plans": [plan for some in parts.values() for plan in some]}
    result = sweep(whole, options.out, workers=options.workers, scheduler=options.scheduler)
    if result.failed:
        raise SystemExit("\n".join(f"{run} failed: {why}" for run, why in result.failed.items()))
    table = catalogue(options.out).set_index("path")
    found = {}
    for row, some in parts.items():
        places = [run.place for plan in some for run in in_order(plan, options.out)]
        pictures = [Pictures(open_recording(options.out / place))(table["evolved_image"][place]) for place in places]
        images = [
            resize_images(picture[None].astype(np.float32).transpose(0, 3, 1, 2) / 255, SIDE) for picture in pictures
        ]
        found[row] = table["evolved"][places].to_numpy(float), np.concatenate(images)
    return found


def in_order(plan: dict[str, Any], out: Path) -> list[Any]:
    """The runs of a plan of one depth, in the order of its units."""
    runs = {run.facts["unit"]: run for run in read_plan(plan, out).runs}
    return [runs[unit] for unit in plan["units"].split(",")]


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
    parser.add_argument("--rows", nargs="+", choices=(*ROWS, *ON_REQUEST), default=list(ROWS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, help="runs at a time; default one for each core")
    parser.add_argument("--scheduler", help="address of a Dask scheduler, instead")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    options.steps = None  # as published
    depths = DEPTHS
    if options.quick:
        depths, options.units, options.images, options.crops = ("blocks.3", "output"), 1, 120, 160
        options.rows, options.steps = ["native", "fourier", "whitebox"], 6
    options.out = out = options.out or Path(tempfile.mkdtemp(prefix="generators-"))
    out.mkdir(parents=True, exist_ok=True)
    units = {depth: draw_units(depth, options.units) for depth in depths}
    subjects = {depth: load_subject("lite0", layer=depth, units=some) for depth, some in units.items()}
    ids = [name for subject in subjects.values() for name in subject.units.neuroid_id]
    cached = out / f"natural-{options.crops}.npz"
    if not cached.exists():
        np.savez(cached, **natural(subjects, options.photographs, options.crops))
    responses = np.concatenate([np.load(cached)[d] for d in depths], axis=1)
    found = run_rows(units, options)
    reached = {row: scores for row, (scores, _) in found.items()}
    ratios = {row: values / responses.max(0) for row, values in reached.items()}
    write_sheet(out / "sheet.png", {row: images for row, (_, images) in found.items()}, ratios, ids)
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
