"""What a comparison of methods says, over units: medians with intervals, and how natural the images are."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from closedloop.analysis.resampling import bootstrap
from closedloop.errors import InvalidArgumentError
from closedloop.images.naturalness import MEASURES
from closedloop.interfaces import FloatArray


def contender_table(result: xr.Dataset, *, level: float = 0.95, seed: int = 0) -> xr.Dataset:
    """Median over units of each measure with a bootstrap interval, for each contender and budget.

    The mean over seeds is taken first, for each unit.

    Args:
        result: What `closedloop.protocols.compare` returned.
        level: Confidence level of the intervals.
        seed: Of the resamples.

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
        cells = [[_median(values[i, j], level, seed) for j in range(shape[1])] for i in range(shape[0])]
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
    """Share of images in the natural band of each measure, ``contender × budget × measure``; NaN counts as outside."""
    shares = []
    for name in MEASURES:
        low, high = result[f"{name}_low"], result[f"{name}_high"]
        shares.append(((result[name] >= low) & (result[name] <= high)).mean(("seed", "unit")))
    return xr.concat(shares, dim="measure").assign_coords(measure=list(MEASURES)).transpose("contender", "budget", ...)


def advantage(
    result: xr.Dataset, contender: str, over: str, budget: str, *, level: float = 0.95, seed: int = 0
) -> xr.Dataset:
    """Median over units of one contender's response ÷ another's, with a paired bootstrap interval.

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
    return bootstrap(a[usable] / b[usable], np.median, method="percentile", level=level, seed=seed)


def _median(values: FloatArray, level: float, seed: int) -> tuple[float, float, float]:
    known = values[np.isfinite(values)]
    if not len(known):
        return float("nan"), float("nan"), float("nan")
    found: Any = bootstrap(known, np.median, method="percentile", level=level, seed=seed)
    return tuple(float(found[key]) for key in ("estimate", "low", "high"))  # type: ignore[return-value]


def _check(result: xr.Dataset) -> None:
    missing = {"contender", "budget", "seed", "unit"} - set(map(str, result.dims))
    if missing:
        raise InvalidArgumentError(
            f"result: expected what closedloop.protocols.compare returns, got a Dataset without {sorted(missing)[0]!r}."
        )
