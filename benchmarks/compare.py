"""How much of the white-box optimum does evolution reach, and what does each gradient method reach, on units of lite0?

For units of five depths, drawn by seed: ``evolved`` searches native images by the default optimizer, without gradients,
at three budgets of images; ``whitebox`` is Adam on the same codes, two codes a unit, the better one taken; the gradient
methods climb with their published generators at an equal budget of forward-equivalents (a backward pass counts 2), and
at each method's own published budget (that of MACO, 8,192 crops, for fewer units). The white-box optimum is the highest
response that Adam, DGN-AM or PPGN reached through native. What counts is the response to the last image, 8 bits, shown
afresh. The comparisons are the runs of a sweep in ``--out``: what is finished there is not run again.

    python benchmarks/compare.py [--quick] [--units 8] [--maco-units 1] [--photographs DIR] [--out DIR]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from closedloop.analysis import contender_table, median_interval
from closedloop.errors import MissingExtraError
from closedloop.figures import plot_budgets, plot_contenders
from closedloop.images.eight_bit import to_bytes
from closedloop.images.sets import natural_references
from closedloop.protocols import Contender, read_comparison, sweep, transfer
from closedloop.protocols.sweep_work import read_plan
from closedloop.subjects import load_subject

DEPTHS = ("blocks.1", "blocks.3", "blocks.4", "blocks.5", "output")
#: Images of an evolution.
BUDGETS = (1000, 3000, 10000)
#: Forward-equivalents of each gradient method.
EQUAL = 1000
EVOLVED = Contender("evolved", "evolve")
WHITEBOX = Contender("whitebox", "adam", options={"copies": 2})
GRADIENTS = ("raw", "yosinski-4", "lucid", "maco", "dgn-am", "ppgn")
#: Those whose published budget is small enough for all units.
SHORT = tuple(name for name in GRADIENTS if name != "maco")


def draw_units(depth: str, n: int) -> list[int]:
    """Channels of a depth: those of benchmarks/generators.py, so that the tables can be read together."""
    return list(load_subject("lite0", layer=depth, units=f"random:{n}", seed=7).units.coords["channel"])


def gather(options: argparse.Namespace) -> dict[str, xr.Dataset]:
    """All comparisons, a run for each part and depth; the columns are channels."""
    units = {depth: draw_units(depth, options.units) for depth in options.depths}
    parts: dict[str, tuple[Any, Any, int]] = {
        "evolved": ((EVOLVED,), options.budgets[:-1], options.units),
        "whitebox": ((WHITEBOX,), (options.white,), options.units),
        "gradients": (GRADIENTS, (options.equal,), options.gradient_units),
        "deep": ((EVOLVED,), options.budgets[-1:], options.deep_units),
        "published": (SHORT, (options.white,), options.published_units),
        "maco": (("maco",), (options.white,), options.maco_units),
    }
    chosen = [name for name in options.only or parts if parts[name][2]]
    naturals = {} if options.photographs is None else {"naturals": str(options.photographs.resolve())}
    common = {"protocol": "compare", "subject": "lite0", "together": 0, "seed": options.seed, **naturals}
    plans = {
        (name, depth): {**common, "layers": [depth], **entries(*parts[name][:2], units[depth][: parts[name][2]])}
        for name in chosen
        for depth in options.depths
    }
    result = sweep({"plans": list(plans.values())}, options.out, workers=options.workers, scheduler=options.scheduler)
    if result.failed:
        raise SystemExit("\n".join(f"{run} failed: {why}" for run, why in result.failed.items()))
    found = {}
    for name in chosen:
        runs = [one(options.out, depth, plans[name, depth]) for depth in options.depths]
        found[name] = xr.concat(runs, "unit", data_vars="minimal", coords="minimal", compat="override")
    return found


def entries(methods: Any, budgets: Any, units: list[int]) -> dict[str, Any]:
    """The entries of a plan for some units of one depth."""
    contenders = [method if isinstance(method, str) else asdict(method) for method in methods]
    return {"contenders": contenders, "budgets": list(budgets), "units": ",".join(map(str, units))}


def one(out: Path, depth: str, plan: dict[str, Any]) -> xr.Dataset:
    """The result of one run of the sweep."""
    (run,) = read_plan(plan, out).runs
    found = read_comparison(out / run.place)
    return found.assign_coords(depth=("unit", [depth] * found.sizes["unit"]))


def print_table(found: dict[str, xr.Dataset]) -> None:
    """Medians over the units of each depth."""
    depths = dict.fromkeys(next(iter(found.values()))["depth"].values.tolist())
    print(f"\n{'response ÷ best natural':28s}" + "".join(f"{d:>10s}" for d in depths) + f"{'all':>10s}")
    for part in found.values():
        for contender in part["contender"].values:
            for budget in part["budget"].values:
                ratio = part["ratio"].sel(contender=contender, budget=budget).mean("seed")
                cells = [float(ratio[ratio["depth"] == d].median()) for d in depths] + [float(ratio.median())]
                print(f"{contender + ', ' + budget:28s}" + "".join(f"{c:10.2f}" for c in cells))


def main() -> None:
    """Runs it, prints a table, draws two figures, and one JSON object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one unit of each depth and small budgets")
    parser.add_argument("--units", type=int, default=8, help="units of each depth")
    parser.add_argument("--gradient-units", type=int, default=8, help="units of each depth for the gradient methods")
    parser.add_argument("--deep-units", type=int, default=8, help="units of each depth at the largest budget, or 0")
    parser.add_argument("--published-units", type=int, default=8, help="units of each depth at published budgets, or 0")
    parser.add_argument(
        "--maco-units", type=int, default=1, help="units of each depth at MACO's published budget, or 0"
    )
    parser.add_argument("--photographs", type=Path, default=None, help="natural images; default the bundled ones")
    parser.add_argument("--out", type=Path, default=None, help="folder of the sweep; also to go on")
    parser.add_argument("--workers", type=int, help="runs at a time; default one for each core")
    parser.add_argument("--scheduler", help="address of a Dask scheduler, instead")
    parser.add_argument(
        "--only", nargs="+", default=None, help="evolved, whitebox, gradients, deep, published, maco; no last line"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.budgets, options.equal, options.white, options.depths = BUDGETS, EQUAL, "published", DEPTHS
    if options.quick:
        options.units = options.gradient_units = options.deep_units = 1
        options.published_units = options.maco_units = 0
        options.budgets, options.equal, options.white, options.depths = (90, 180, 240), 60, 80, ("blocks.3", "output")
    options.out = Path(tempfile.mkdtemp()) if options.out is None else options.out
    found = gather(options)
    print_table(found)
    if options.only is None:
        report(options, found)


def report(options: argparse.Namespace, found: dict[str, xr.Dataset]) -> None:
    """Figures, and the last line."""
    some = places(found, options.gradient_units)
    climbed = found["gradients"].assign_coords(budget=["equal"])
    evolved = found["evolved"].isel(budget=[-1], unit=some).assign_coords(budget=["equal"])
    beside = xr.concat([climbed, evolved], "contender", data_vars="minimal", coords="minimal", compat="override")
    two = [unit for depth in options.depths for unit in np.flatnonzero(beside["depth"].values == depth)[:2]]
    plot_contenders(beside_bundled(beside.isel(unit=two))).savefig(options.out / "contenders.png")
    plot_budgets(beside).figure.savefig(options.out / "budgets.png")
    print_means(beside)
    print_transfer(beside)
    white = found["whitebox"]["response"].isel(contender=0, budget=0, seed=0).values.copy()
    for name in ("dgn-am", "ppgn"):
        white[some] = np.maximum(white[some], climbed["response"].sel(contender=name).isel(budget=0, seed=0))
    shares: dict[str, list[float | None]] = {}
    for name, n in (("evolved", options.units), ("deep", options.deep_units)):
        if name not in found:
            continue
        for budget in found[name]["budget"].values:
            response = found[name]["response"].sel(budget=budget).isel(contender=0, seed=0).values
            interval = median_interval(response / white[places(found, n)])
            shares[str(budget)] = [rounded(float(interval[key])) for key in ("estimate", "low", "high")]
    print(json.dumps({"evolved_over_whitebox": shares, "units": len(white), "seed": options.seed}))


def print_means(beside: xr.Dataset) -> None:
    """Medians over all units of what is measured of the images, and how many lie in the natural band."""
    table = contender_table(beside).isel(budget=0)
    names = ("ratio", "percentile", "confidence", "tv", "spectral_slope", "natural_distance", "feature_distance")
    print("\n" + table[list(names)].to_dataframe()[list(names)].round(3).to_string())
    print("share of images in the natural band:\n" + table["inside"].to_pandas().round(2).to_string())


def print_transfer(beside: xr.Dataset) -> None:
    """What the images of output units drive in two larger networks of the family."""
    try:
        others = {name: load_subject(name, layer="output", units="all") for name in ("lite1", "lite2")}
    except MissingExtraError as error:
        print(f"no transfer: {error}")
        return
    outputs = beside.isel(unit=np.flatnonzero(beside["depth"].values == "output"))
    moved = transfer(outputs, others)["ratio"].isel(budget=0, seed=0).median("unit")
    print("output units, response ÷ best natural image of each network, medians:")
    own = outputs["response"].isel(budget=0, seed=0) / xr.DataArray(bundled_responses(outputs).max(0), dims="unit")
    print(moved.to_pandas().T.assign(lite0=own.median("unit").to_pandas()).round(2).to_string())


def bundled_responses(result: xr.Dataset) -> np.ndarray:
    """Responses of lite0 to the bundled photographs, ``(photograph, unit)``; these may be published."""
    depths = result["depth"].values.tolist()
    photographs = natural_references().images
    found = {d: load_subject("lite0", layer=d, units="all").record(photographs) for d in dict.fromkeys(depths)}
    places = zip(depths, result["unit"].values.tolist(), strict=True)
    return np.stack([found[depth][:, unit] for depth, unit in places], axis=1)


def beside_bundled(result: xr.Dataset) -> xr.Dataset:
    """The same with the bundled photographs as natural images."""
    responses, photographs = bundled_responses(result), natural_references().images
    pictures = to_bytes(photographs[responses.argmax(0)])
    result = result.assign(
        natural_best=("unit", responses.max(0)), natural_image=(result["natural_image"].dims, pictures),
        natural_n=((), len(photographs)),
    )  # fmt: skip
    return result.assign(ratio=result["response"] / result["natural_best"])


def rounded(value: float) -> float | None:
    """Three digits; None where there is no number, which JSON cannot hold."""
    return round(value, 3) if np.isfinite(value) else None


def places(found: dict[str, xr.Dataset], n: int) -> np.ndarray:
    """Places of the first ``n`` units of each depth among all units."""
    depth = found["whitebox"]["depth"].values
    return np.concatenate([np.flatnonzero(depth == d)[:n] for d in dict.fromkeys(depth.tolist())])


if __name__ == "__main__":
    main()
