"""By how much a search among natural images misses the best of all, against as many images drawn at random.

All images of a folder are shown to lite0 once, so that the best of all is known; then `search_natural` shows few of
them, with features of another network, and of lite0 with random weights as a control. The winner's noiseless score is
compared with the best of all. ``python benchmarks/search_natural.py FOLDER --out FOLDER [--quick]``; the last line is
JSON with the medians over units and seeds.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from closedloop.analysis import search_regret
from closedloop.errors import RecordingError
from closedloop.images.eight_bit import quantize
from closedloop.loop.noise import parse_noise
from closedloop.protocols import search_natural
from closedloop.subjects import load_subject
from closedloop.twins.pool import Folder

#: Outputs of lite0: tiger, cock, bubble.
UNITS = (292, 7, 971)
#: What the subject's noise is.
NOISE = ("none", "gain:0.5")
#: Networks that tell images apart: a relative of the subject, and a control.
FEATURES = ("lite1", "random")


def truth_of(folder: Folder, out: Path) -> dict[str, list[float]]:
    """Returns the noiseless responses of all units to every image, by name; found once."""
    place = out / "truth.json"
    if not place.exists():
        subject = load_subject("lite0", units=",".join(map(str, UNITS)))
        values: list[list[float]] = []
        for start in range(0, len(folder), 64):
            images = quantize(folder.read(range(start, min(start + 64, len(folder))), 224))
            values += subject.record(images).tolist()
        place.write_text(json.dumps(dict(zip(folder.ids, values, strict=True))))
    known: dict[str, list[float]] = json.loads(place.read_text())
    return known


def runs(folder: Path, out: Path, quick: bool) -> Iterator[dict[str, Any]]:
    """Yields the regret of each search."""
    pool = Folder.of(folder)
    truth = truth_of(pool, out)
    for seed, noise, features, (column, unit) in product((0,) if quick else (0, 1), NOISE, FEATURES, enumerate(UNITS)):
        subject = load_subject("lite0", units=str(unit))
        for wrapper in parse_noise((noise,), seed) if noise != "none" else []:
            subject = load_subject(**{**wrapper, "subject": subject})
        place = out / f"{unit}-{noise}-{features}-{seed}".replace(":", "-")
        run = search_natural(subject, folder, features=features, seed=seed, save=place, exists="resume", progress=False)
        found = search_regret(run, {name: values[column] for name, values in truth.items()})
        numbers = {name: float(found[name]) for name in ("relative", "relative_random", "rank", "percentile")}
        row = {"unit": unit, "noise": noise, "features": features, "seed": seed, "images": int(found["images"])}
        yield {**row, **numbers, "pool": len(pool)}


def main() -> None:
    """Runs all searches, and prints them and their medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="one seed")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for row in runs(given.folder, given.out, given.quick):
        rows.append(row)
        print(json.dumps(row), flush=True)
    medians = {}
    for noise, features in product(NOISE, FEATURES):
        own = [r for r in rows if (r["noise"], r["features"]) == (noise, features)]
        names = ("relative", "relative_random", "rank")
        found = {name: round(float(np.median([r[name] for r in own])), 4) for name in names}
        medians[f"{noise} {features}"] = {"n": len(own), **found}
    print(json.dumps({"pool": rows[0]["pool"], "medians": medians}))


if __name__ == "__main__":
    warnings.simplefilter("ignore", UserWarning)
    try:
        main()
    except RecordingError as error:
        raise SystemExit(str(error)) from None
