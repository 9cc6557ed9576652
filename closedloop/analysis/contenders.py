"""What a comparison of methods says, over units: medians with intervals, and how natural the images are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.special import softmax

from closedloop.analysis.ascents import classes_of, is_output
from closedloop.analysis.resampling import median_interval
from closedloop.errors import InvalidArgumentError
from closedloop.images.eight_bit import from_bytes, to_bytes
from closedloop.images.naturalness import MEASURES, band, measure
from closedloop.images.nearest import Bank, nearest
from closedloop.images.sets import ImageSet
from closedloop.interfaces import FloatArray, Units
from closedloop.recording.titles import recorded_title
from closedloop.signatures import at_door

#: What the field calls each method, and each contender of `closedloop.protocols.compare`.
METHOD_WORDS = {
    "raw": "fooling (raw pixels)",
    **{f"yosinski-{i}": f"regularized (Yosinski {i})" for i in (1, 2, 3, 4)},
    "tv": "total variation",
    "mei": "MEI (fixed contrast)",
    "deepdream": "DeepDream",
    "lucid": "Fourier (Lucid)",
    "maco": "phases (MACO)",
    "accentuate": "accentuated",
    "dgn-am": "DGN-AM",
    "ppgn": "PPGN",
    "adam": "codes (Adam)",
    **dict.fromkeys(("evolve", "evolved"), "evolved (no gradient)"),
    "twin": "by a twin",
}


def comparison_dataset(recording: xr.Dataset, content: Mapping[str, Any], naturals: ImageSet) -> xr.Dataset:
    """Returns what a comparison found, from its recording.

    Args:
        recording: Of a finished run of `closedloop.protocols.compare`.
        content: What the run's file holds: `units`, `budgets`, `seeds`.
        naturals: The natural images.

    Returns:
        See `closedloop.protocols.compare`.
    """
    columns, dims = np.array(content["units"]), ("contender", "budget", "seed", "unit")
    shape = (recording.sizes["evolution"], len(content["budgets"]), len(content["seeds"]), len(columns))
    responses, kind = recording["responses"].values.astype(float), recording["kind"].values
    rows = _last_presentations(recording, content).reshape(shape)
    first = np.flatnonzero(kind == "reference")
    ids, known = recording["stimulus_id"].values[first], responses[first]
    everything = np.stack([np.nanmean(known[ids == name], axis=0) for name in naturals.ids])  # (naturals, all units)
    own = responses[rows]
    response = own[..., np.arange(len(columns)), columns]
    natural = everything[:, columns]
    best = natural.max(0)
    flat = from_bytes(recording["image"].values[rows.ravel()])
    alike = recording["feature_distance"].values[rows]
    if np.isnan(alike).all():  # no subject of its own says which images are alike
        alike = nearest(own.reshape(-1, own.shape[-1]), everything).ratio.reshape(shape)
    measured = measure(flat) | {"natural_distance": Bank.of(naturals.images).nearest(flat).ratio}
    bands = band(naturals.images)
    numbers = ("best_response", "forwards", "forward_equivalents", "failure", "code_norm", "code_at_bound")
    result = xr.Dataset(
        {
            "response": (dims, response),
            "confidence": (dims, _confidence(recording, own, columns)),
            **{name: (dims, recording[name].values[rows]) for name in numbers},
            "image": ((*dims, "rgb", "row", "col"), recording["image"].values[rows]),
            **{n: ((*dims, "point"), recording[n].values[rows]) for n in ("curve_cost", "curve_response")},
            **{name: (dims, values.reshape(shape)) for name, values in measured.items()},
            "feature_distance": (dims, alike),
            **{f"{name}_low": ((), bands[name].low) for name in MEASURES},
            **{f"{name}_high": ((), bands[name].high) for name in MEASURES},
            "percentile": (dims, 100 * (natural < response[..., None, :]).mean(-2)),
            "ratio": (dims, np.where(best > 0, response / np.where(best > 0, best, 1), np.nan)),
            "natural_best": ("unit", best),
            "natural_image": (("unit", "rgb", "row", "col"), to_bytes(naturals.images[natural.argmax(0)])),
            "natural_n": ((), len(naturals)),
        },
        {
            "contender": recording["evolution"].values,
            "budget": [str(b) for b in content["budgets"]],
            "seed": list(content["seeds"]),
            "unit": columns,
            "neuroid_id": ("unit", recording["neuroid_id"].values[columns]),
            "title": ("unit", [recorded_title(recording, column) for column in columns]),
            "generator_sha256": ("contender", recording["generator_sha256"].values),
            **{name: recording[name].item() for name in ("subject", "count", "closedloop_version")},
        },
    )
    result.encoding["source"] = recording.encoding.get("source")
    return result


def _last_presentations(recording: xr.Dataset, content: Mapping[str, Any]) -> NDArray[np.int64]:
    """Returns the row of each image, by contender, budget, seed and unit; the last one where it was repeated."""
    place = {str(name): row for row, name in enumerate(recording["stimulus_id"].values)}
    wanted = product(recording["evolution"].values, content["budgets"], content["seeds"], content["units"])
    return np.array([place["-".join(map(str, names))] for names in wanted])


def _confidence(recording: xr.Dataset, responses: FloatArray, columns: NDArray[np.int64]) -> FloatArray:
    """Returns the softmax probability of each unit for its image; NaN where not all classes are recorded."""
    coords = {n: tuple(recording[n].values) for n in ("layer", "y", "x", "layer_channels") if n in recording.coords}
    units = Units(tuple(recording["neuroid_id"].values), coords)
    found = np.full(responses.shape[:-1], np.nan)
    for i, column in enumerate(columns.tolist()):
        classes = classes_of(units, column)
        if is_output(units, classes):
            found[..., i] = softmax(responses[..., i, list(classes)], axis=-1)[..., classes.index(column)]
    return found


def contender_failures(result: xr.Dataset) -> list[str]:
    """Says of each method that found no image, or not all, why, and of how many of its images that holds."""
    found = []
    for contender in result["contender"].values:
        failures = result["failure"].sel(contender=contender)
        reasons = Counter(str(reason) for reason in failures.values.flat if reason)
        found += [f"{contender} failed in {n} of {failures.size}: {reason}" for reason, n in reasons.most_common()]
    return found


@at_door
def contender_table(result: xr.Dataset, *, level: float = 0.95) -> xr.Dataset:
    """Returns the median over units of each measure with its interval, for each contender and budget.

    The mean over seeds is taken first, for each unit.

    Args:
        result: What `closedloop.protocols.compare` returned.
        level: Confidence level of the intervals (see `median_interval`: NaN of fewer than six units).

    Returns:
        For each measure `{name}`, `{name}_low` and `{name}_high`; `above_natural`, the share of units whose image beats
        the best natural one; `inside`, the share of images within the natural band on each of `MEASURES`; `failed`, the
        share with a failure. Dims ``contender × budget`` (and ``measure`` for `inside`).

    Raises:
        InvalidArgumentError: Not a comparison.
    """
    _check(result)
    shape = (result.sizes["contender"], result.sizes["budget"])
    found: dict[str, FloatArray] = {}
    for name in ("ratio", "response", "percentile", "confidence", *MEASURES, "feature_distance"):
        values = result[name].transpose("contender", "budget", "seed", "unit").mean("seed").values
        cells = [[_median(values[i, j], level) for j in range(shape[1])] for i in range(shape[0])]
        for k, suffix in enumerate(("", "_low", "_high")):
            found[name + suffix] = np.array([[cell[k] for cell in row] for row in cells])
    best = result["natural_best"]
    above = (result["response"].mean("seed") > best).mean("unit").transpose("contender", "budget")
    failed = (result["failure"] != "").mean(("seed", "unit")).transpose("contender", "budget")
    dims = ("contender", "budget")
    return xr.Dataset(
        {
            **{name: (dims, values) for name, values in found.items()},
            "above_natural": above,
            "failed": failed,
            "inside": natural_share(result),
            "forward_equivalents": result["forward_equivalents"].median(("seed", "unit")),
        },
        {key: result[key] for key in dims} | {"level": level, "units": result.sizes["unit"]},
    )


def natural_share(result: xr.Dataset) -> xr.DataArray:
    """Returns the share of images in each measure's natural band, ``contender × budget × measure``; NaN is outside."""
    shares = []
    for name in MEASURES:
        low, high = result[f"{name}_low"], result[f"{name}_high"]
        shares.append(((result[name] >= low) & (result[name] <= high)).mean(("seed", "unit")))
    return xr.concat(shares, dim="measure").assign_coords(measure=list(MEASURES)).transpose("contender", "budget", ...)


@at_door
def advantage(result: xr.Dataset, contender: str, over: str, budget: str, *, level: float = 0.95) -> xr.Dataset:
    """Returns the median over units of one contender's response ÷ another's, with its `median_interval`.

    Units whose response to the other's image is not above 0 are left out.

    Raises:
        InvalidArgumentError: Not a comparison, or without such a contender or budget.
    """
    _check(result)
    for name, dim in ((contender, "contender"), (over, "contender"), (budget, "budget")):
        if name not in result[dim].values:
            raise InvalidArgumentError(f"{dim}: expected one of {result[dim].values.tolist()}, got {name!r}.")
    values = result["response"].mean("seed").sel(budget=budget)
    a, b = values.sel(contender=contender).values, values.sel(contender=over).values
    usable = b > 0
    return median_interval(a[usable] / b[usable], level=level)


def _median(values: FloatArray, level: float) -> tuple[float, float, float]:
    known = values[np.isfinite(values)]
    if not len(known):
        return float("nan"), float("nan"), float("nan")
    found: Any = median_interval(known, level=level)
    return tuple(float(found[key]) for key in ("estimate", "low", "high"))  # type: ignore[return-value]


def _check(result: xr.Dataset) -> None:
    missing = {"contender", "budget", "seed", "unit"} - set(map(str, result.dims))
    if missing:
        raise InvalidArgumentError(
            "result: expected what closedloop.protocols.compare returns, got a Dataset without "
            f"{sorted(missing)[0]!r}; closedloop.protocols.read_comparison(RUN) gives that of a run."
        )


def reached_in_words(result: xr.Dataset, budget: str) -> str:
    """Writes in one sentence how far each contender of a comparison got at a budget, the furthest first."""
    table = contender_table(result).sel(budget=budget)
    return reached_words(table, budget, result.sizes["unit"], int(result["natural_n"]))


def reached_words(table: xr.Dataset, budget: str, units: int, naturals: int) -> str:
    """Writes the same from the part of the table (`contender_table`) that is of the budget."""
    ratios = {str(name): float(table.sel(contender=name)["ratio"]) for name in table["contender"].values}
    known = sorted((name for name in ratios if np.isfinite(ratios[name])), key=lambda name: -ratios[name])
    words = f"with a budget of {int(budget):,}" if budget.isdecimal() else "with the budgets that were published"
    if not known:
        return f"No best natural image was answered with more than 0, so {words} nothing can be set in relation to it."
    reached = ", ".join(f"{name} {ratios[name]:.3g}" for name in known)
    middle = "" if units == 1 else f", in the median of {units} units"
    return f"Responses ÷ that of the best of {naturals} natural images {words}{middle}: {reached}."
