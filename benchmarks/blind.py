"""Can a person name the pictures? Four-way choices among classes, made without knowing which is right.

From the parts of one or more runs of nameable.py (each in its ``--out``) this draws numbered sheets of pictures in
random order, with four classes below each: that of the evolved unit, and three that were drawn from the other units'.
Which picture is whose stands in ``key.json`` alone. The chooser writes a file with a line for each picture, its number
and a letter; then ``--choices`` says how many were right, with intervals (Wilson), for each run and way to the picture.

    python benchmarks/blind.py --out DIR native-1=PARTS native-2=PARTS      # sheets and key
    python benchmarks/blind.py --out DIR --choices FILE                     # how many were right
    python benchmarks/blind.py --quick                                      # pictures of noise: does it run?
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from statsmodels.stats.proportion import proportion_confint

from closedloop.networks.imagenet import imagenet_classes
from closedloop.subjects import load_subject

#: Rows of nameable.py that are shown, and pictures of a sheet.
ROWS, SHEET, COLUMNS = ("evolved", "dgn-am"), 24, 6
LETTERS = "abcd"


def draw(runs: dict[str, Path], out: Path, seed: int) -> None:
    """Writes the sheets, and the key."""
    rng = np.random.default_rng(seed)
    items = []
    for name, parts in runs.items():
        units = len(list(parts.glob("evolved-*.npz")))
        subject = load_subject("lite0", layer="output", units=f"random:{units}", seed=7)  # as nameable.py draws them
        classes = [imagenet_classes()[int(c)] for c in subject.units.coords["channel"]]
        for row in ROWS:
            for unit, right in enumerate(classes):
                others = [c for c in classes if c != right]
                asked = [right, *rng.choice(others, len(LETTERS) - 1, replace=False)]
                with np.load(parts / f"{row}-{unit:02d}.npz") as kept:
                    image = kept["images"][0].transpose(1, 2, 0)
                items.append((image, [str(asked[i]) for i in rng.permutation(len(asked))], right, f"{name}, {row}"))
    items = [items[i] for i in rng.permutation(len(items))]
    out.mkdir(parents=True, exist_ok=True)
    for first in range(0, len(items), SHEET):
        page = items[first : first + SHEET]
        figure = Figure(figsize=(2.2 * COLUMNS, 2.9 * -(-len(page) // COLUMNS)), layout="constrained")
        axes = figure.subplots(-(-len(page) // COLUMNS), COLUMNS, squeeze=False).ravel()
        for place, axis in enumerate(axes):
            axis.set_axis_off()
            if place < len(page):
                image, asked, _, _ = page[place]
                axis.imshow(image)
                axis.set_title(f"{first + place + 1}", fontsize=9)
                said = "\n".join(f"{letter}) {name}" for letter, name in zip(LETTERS, asked, strict=True))
                axis.text(0, 1.02 * len(image), said, va="top", fontsize=8)
        figure.savefig(out / f"sheet-{first // SHEET + 1}.png", dpi=110)
    key = [{"right": LETTERS[asked.index(right)], "group": group} for _, asked, right, group in items]
    (out / "key.json").write_text(json.dumps(key), encoding="utf-8")


def judge(out: Path, choices: Path) -> None:
    """Prints how many choices were right."""
    key = json.loads((out / "key.json").read_text(encoding="utf-8"))
    chosen = dict(line.split() for line in choices.read_text(encoding="utf-8").splitlines() if line.strip())
    groups = defaultdict(list)
    for number, entry in enumerate(key, 1):
        groups[entry["group"]].append(chosen[str(number)] == entry["right"])
    result = {}
    for group, right in sorted(groups.items()):
        low, high = proportion_confint(sum(right), len(right), method="wilson")
        print(f"{group:24s} {sum(right):3d} of {len(right)}  [{low:.0%}, {high:.0%}], by chance 25%")
        result[group] = [sum(right), len(right)]
    print(json.dumps(result))


def try_out(out: Path) -> None:
    """Draws sheets of noise, and judges a chooser who always says a."""
    rng = np.random.default_rng(0)
    (out / "noise").mkdir()
    for row in ROWS:
        for unit in range(len(LETTERS)):
            np.savez(out / "noise" / f"{row}-{unit:02d}.npz", images=rng.integers(0, 256, (1, 3, 32, 32), np.uint8))
    draw({"noise": out / "noise"}, out, 0)
    (out / "choices.txt").write_text("".join(f"{i + 1} a\n" for i in range(len(ROWS) * len(LETTERS))), encoding="utf-8")
    judge(out, out / "choices.txt")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", metavar="NAME=PARTS")
    parser.add_argument("--quick", action="store_true", help="pictures of noise: does it run?")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--choices", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.quick:
        try_out(options.out or Path(tempfile.mkdtemp(prefix="blind-")))
        return
    if options.out is None:
        parser.error("out: expected a folder for sheets and key")
    if options.choices is not None:
        judge(options.out, options.choices)
        return
    if not options.runs or not all("=" in run for run in options.runs):
        parser.error("runs: expected NAME=PARTS for each, a name and the --out of nameable.py")
    draw(
        {name: Path(parts) for name, _, parts in (run.partition("=") for run in options.runs)},
        options.out,
        options.seed,
    )


if __name__ == "__main__":
    main()
