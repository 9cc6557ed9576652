"""Fooling images of all classes at once: how sure lite0 becomes of patterns and of pixels.

MAP-Elites over the 1,000 classes (`closedloop.protocols.evolve_elites`), CPPN against raw pixels, at 224 × 224.
Runs are kept, and gone on with; 20,000 images take some six minutes of one core.

    python benchmarks/elites.py --images 20000 --seeds 1 --runs runs/elites --figure docs/figures/elites.png
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
import xarray as xr

from closedloop.figures import plot_elites
from closedloop.generators import CPPN, Pixels
from closedloop.interfaces import Generator
from closedloop.protocols import evolve_elites, resume
from closedloop.recording.layout import is_run
from closedloop.subjects import load_subject

#: The paper's two encodings, with its number of children.
ENCODINGS: dict[str, tuple[Generator, int]] = {"cppn": (CPPN(224), 400), "pixels": (Pixels(64), 200)}


def report(done: int, total: int) -> None:
    """One line for each generation, on the same place."""
    print(f"\r{done} of {total}   ", end="", flush=True)


def found(name: str, images: int, seed: int, folder: Path) -> xr.Dataset:
    """The elites of one run, which is gone on with if it was begun."""
    subject = load_subject("lite0", engine="onnx")
    run = folder / f"{name}-{images}-{seed}"
    if is_run(run):
        return resume(run, subject=subject, progress=report)
    generator, children = ENCODINGS[name]
    return evolve_elites(
        subject, generator, images=images, children=min(children, images), seed=seed, save=run, progress=report
    )


def line(name: str, seed: int, elites: xr.Dataset) -> str:
    """A row of the table."""
    first, again = elites["probability"].values, elites["retested"].values
    shown, different = int(elites["images"][-1]), len(set(elites["stimulus_id"].values))
    numbers = [f"{np.median(p):.4f} | {(p >= 0.5).sum()} | {(p >= 0.99).sum()}" for p in (first, again)]
    return f"| {name} | {seed} | {shown} | {' | '.join(numbers)} | {first.max():.4f} | {different} |"


def main() -> None:
    """Runs what the command line asks for, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds, counted from 0")
    parser.add_argument("--encodings", nargs="*", default=list(ENCODINGS), choices=list(ENCODINGS))
    parser.add_argument("--threads", type=int, default=1, help="threads of the network")
    parser.add_argument("--runs", type=Path, help="where runs are kept; default nowhere")
    parser.add_argument("--figure", type=Path, help="sheet of the best CPPN elites of seed 0")
    parser.add_argument("--quick", action="store_true", help="800 images")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    images = 800 if given.quick else given.images
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.runs or Path(scratch)
        rows = []
        for name in given.encodings:
            for seed in range(given.seeds):
                elites = found(name, images, seed, folder)
                rows.append(line(name, seed, elites))
                print("\r" + rows[-1])
                if given.figure is not None and name == "cppn" and seed == 0:
                    plot_elites(elites, ENCODINGS[name][0], 32).savefig(given.figure, dpi=80)
    print("\n| encoding | seed | images | median | ≥ .5 | ≥ .99 | 8 bits: median | ≥ .5 | ≥ .99 | best | different |")
    print("|---" * 11 + "|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
