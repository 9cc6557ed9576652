"""Spurious units found, units called so wrongly, and treatments judged.

The numbers of docs/diagnosis.md and of docs/treatments.md:

* ``found``: share of networks trained with the watermark in which at least one unit is called spurious, and of the
  units called so those whose window covers a quarter of the watermark or more (nobody but this script knows where it
  is; windows lie two pixels apart, and a quarter is what one that is off by a step in both directions covers).
* ``false_alarms``: share of the units tested that are called spurious in networks that were trained with the watermark
  on half of all images, whatever their class: it says nothing there. Networks are stopped early, too, for a trained one
  has so few errors that hardly a unit is tested.
* the table of `closedloop judge` on the watermarked digits.

    python benchmarks/treatments.py [--quick] [--tests] [--seeds N] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from closedloop import open_recording
from closedloop.analysis import answers_of, spurious_units, success_rate
from closedloop.analysis.treatments import verdict
from closedloop.protocols import judge
from closedloop.protocols.tasks import CORNER, SIDE, UNMARKED, WATERMARKED, read_task
from closedloop.protocols.treat import TreatedSettings
from closedloop.protocols.treating import Network, diagnosed

STOPPED = (60, 120, 300)
#: Share of the watermark that a window covers which is said to lie on it.
QUARTER = 0.25
#: Seeds of networks whose units are tested: others than those with which the test was made.
FIRST = 100


def tested(data: str, steps: int, seed: int) -> dict[str, Any]:
    """Trains a network, tests its units, and counts."""
    from closedloop.networks.kept import write_network

    task, told = read_task(data, seed), TreatedSettings(data=data, steps=steps, every=1, seed=seed)
    network = Network(told.training(), task, 0.5, 2)
    network.advance(steps)
    with tempfile.TemporaryDirectory() as place:
        write_network(Path(place) / "before.safetensors", network.model, network.facts)
        run = diagnosed(Path(place), task, Path(place) / "before.safetensors", suspects=6, preferred=0, seed=seed)
        recording = open_recording(run).load()
    found = spurious_units(recording)
    called = found.isel(suspect=found["spurious"].values)
    # Rows and columns that a window shares with the watermark, which ends with the image.
    shared = [
        np.minimum(called[n].values + called["side"].values, SIDE) - np.maximum(called[n].values, SIDE - CORNER)
        for n in "yx"
    ]
    covered = np.prod(np.maximum(shared, 0), axis=0) / CORNER**2
    return {
        "wrong": float(answers_of(recording)["wrong"].mean()),
        "tested": found.sizes["suspect"],
        "called": called.sizes["suspect"],
        "on_watermark": int((covered >= QUARTER).sum()),
        "largest": float((found["turned"] - found["turned_control"]).max()) if found.sizes["suspect"] else float("nan"),
    }


def count(data: str, steps: int, seeds: int) -> dict[str, Any]:
    """Counts over seeds."""
    rows = [tested(data, steps, seed) for seed in range(FIRST, FIRST + seeds)]
    units, called = sum(r["tested"] for r in rows), sum(r["called"] for r in rows)
    rate = success_rate(np.array([1.0] * called + [0.0] * (units - called))) if units else None
    some = sum(r["called"] > 0 for r in rows)
    words = "–" if rate is None else f"{float(rate['rate']):.1%} [{float(rate['low']):.1%}, {float(rate['high']):.1%}]"
    wrong = np.mean([r["wrong"] for r in rows])
    print(
        f"{data:18} {steps:4d} steps: wrong {wrong:.1%}, units called {called} of {units} ({words}), "
        f"on the watermark {sum(r['on_watermark'] for r in rows)}, networks with one {some} of {seeds}, "
        f"largest difference {np.nanmax([r['largest'] for r in rows] + [-1]):.2f}",
        flush=True,
    )
    return {"units": units, "called": called, "networks": some, "on": sum(r["on_watermark"] for r in rows)}


def main() -> None:
    """Measures, and prints the last line as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two networks of each kind, no judgement")
    parser.add_argument("--tests", action="store_true", help="no judgement: closedloop judge makes it, too")
    parser.add_argument("--seeds", type=int, default=20, help="networks; half as many of each control")
    parser.add_argument("--out", type=Path, help="folder of the judgement's run")
    told = parser.parse_args()
    seeds = 2 if told.quick else told.seeds
    start = time.perf_counter()
    planted = count(WATERMARKED, 300, seeds)
    control = [count(UNMARKED, steps, max(1, seeds // 2)) for steps in STOPPED]
    units, called = (sum(c[name] for c in control) for name in ("units", "called"))
    found = {"found": planted["networks"] / seeds, "false_alarms": called / max(units, 1), "control_units": units}
    if not (told.quick or told.tests):
        judged = judge(seed=FIRST, save=told.out, progress=True)
        for i, name in enumerate(judged["treatment"].values):
            one = judged.isel(treatment=i)
            numbers = [float(one[f"{what}{end}"]) for what in ("worst", "worst_gain") for end in ("", "_low", "_high")]
            print(name, *(f"{100 * n:.1f}" for n in numbers), verdict(*numbers[-2:]))
            found[f"gain_{name}"] = numbers[3]
    found["seconds"] = time.perf_counter() - start
    print(json.dumps(found))


if __name__ == "__main__":
    main()
