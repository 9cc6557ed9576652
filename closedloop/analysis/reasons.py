"""Why a number is missing: every result carries a text coordinate `reason`, empty where nothing is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

#: Repeats that differ by less than this share of how far responses to images differ are rounding, not noise.
ROUNDING = 1e-5
#: The reason of what needs noise, for a unit that has none.
NOISELESS = "noiseless: the repeats of an image are identical, so there is no noise to measure"
#: The reason of what needs a signal, for a unit that has none.
CONSTANT = "the response does not vary over images"


def words(reasons: Mapping[str, str]) -> str:
    """Joins the reason of each variable that is missing to ``"ratio: why; auc: why"``; "" where none is."""
    return "; ".join(f"{name}: {why}" if name else why for name, why in reasons.items() if why)


def scalar(values: Mapping[str, Any], reason: str = "", **coords: Any) -> xr.Dataset:
    """Makes a Dataset of single numbers with their reason."""
    return xr.Dataset(dict(values), coords={**coords, "reason": reason})


def all_nan(names: Sequence[str], reason: str) -> xr.Dataset:
    """Returns NaN for each name, for one reason."""
    return scalar(dict.fromkeys(names, float("nan")), reason)


def choose(*cases: tuple[Any, str]) -> NDArray[Any]:
    """Returns the first reason whose condition holds, for each element; "" where none does."""
    texts = np.full(np.shape(cases[0][0]), "", dtype=object)
    for condition, text in reversed(cases):
        texts[condition] = text
    return texts
