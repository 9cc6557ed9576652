"""Where what an evolution found lies beside natural images."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.analysis.preferred import preferred
from closedloop.analysis.reasons import words
from closedloop.analysis.runs import by_thread
from closedloop.analysis.summary import summarize_thread
from closedloop.images.naturalness import CODE_MEASURES, MEASURES, Band
from closedloop.interfaces import FloatArray
from closedloop.recording.layout import REFERENCE
from closedloop.signatures import at_door

#: References below which nothing is said to lie inside or outside: a band of 95 % has ends only among that many.
LEAST_REFERENCES = 20


@at_door
def naturalness(recording: xr.Dataset, thread: str | None = None) -> xr.Dataset:
    """Measures how natural the evolved image looks, beside the references of its run.

    The measures are those of `closedloop.images.naturalness`, as the run recorded them. The band is where the
    references lie: their central 95 % (of `clipped` and `natural_distance` the lowest 95 %); the references' own
    distance is that to their nearest other. Codes have no natural band.

    Args:
        recording: See `trajectory`.
        thread: Which evolution; None for all, along the dimension ``thread``.

    Returns:
        Along the dimension ``measure``: `evolved`, the value of the evolved image (in a run without a re-test the
        median of the last generation); `best_reference`, that of the reference that was confirmed as the best; `low`,
        `high`, `least`, `most` and `median` of the references; `percentile`, the share of the references that lie below
        `evolved`; `inside`, whether it lies in the band (1 or 0), and `last_inside`, the share of the last generation's
        images that do. NaN with the reason in runs that were recorded without these numbers, and where there are fewer
        than 20 references.
    """
    return by_thread(recording, thread, _naturalness)


def _naturalness(part: xr.Dataset, name: str, objective: str) -> xr.Dataset:
    chosen = preferred(part, name, objective)
    best = _shown(part, part["stimulus_id"].values == summarize_thread(part, name, objective).natural.stimulus_id)
    references = _shown(part, np.full(part.sizes["presentation"], True))
    last = _last_generation(part, name)
    every = (*MEASURES, *CODE_MEASURES)
    known = [m for m in every if m in part.coords]
    columns: dict[str, list[float]] = {}
    for measure in every:
        values = part[measure].values if measure in known else np.full(part.sizes["presentation"], np.nan)
        for key, value in _beside(measure, values, chosen.rows, best, references, last).items():
            columns.setdefault(key, []).append(value)
    reason = words(
        {
            "": "" if known else "the run was recorded without these numbers",
            "low, high": "no reference image was shown" if known and len(references) == 0 else "",
            "inside": _too_few(len(references)) if known and len(references) else "",
        }
    )
    found = {key: ("measure", np.array(value)) for key, value in columns.items()}
    return xr.Dataset(found, coords={"measure": np.array(list(every), dtype=object), "reason": reason})


def _too_few(references: int) -> str:
    if references >= LEAST_REFERENCES:
        return ""
    return f"{references} references; a band needs at least {LEAST_REFERENCES}"


def _beside(
    measure: str,
    values: FloatArray,
    rows: NDArray[np.intp],
    best: NDArray[np.intp],
    references: NDArray[np.intp],
    last: NDArray[np.intp],
) -> dict[str, float]:
    """Returns one measure of the evolved image, and of the references."""
    natural = values[references]
    natural = natural[np.isfinite(natural)]
    band = Band.of(measure, natural if measure in MEASURES else np.empty(0))
    own = float(np.median(values[rows])) if len(rows) else float("nan")
    judged = len(references) >= LEAST_REFERENCES
    inside = np.asarray(band.holds(values[last]), dtype=float)
    known = judged and np.isfinite(inside).any()
    return {
        "evolved": own,
        "best_reference": float(values[best[0]]) if len(best) else float("nan"),
        "low": band.low,
        "high": band.high,
        "least": band.least,
        "most": band.most,
        "median": band.median,
        "percentile": 100 * float((natural < own).mean()) if len(natural) and np.isfinite(own) else float("nan"),
        "inside": float(band.holds(own)) if judged else float("nan"),
        "last_inside": float(np.nanmean(inside)) if known else float("nan"),
    }


def _shown(part: xr.Dataset, wanted: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Returns the first presentation of each reference among the wanted rows."""
    rows = np.flatnonzero(wanted & (part["thread"].values == REFERENCE))
    _, first = np.unique(part["stimulus_id"].values[rows].astype(str), return_index=True)
    return rows[np.sort(first)]


def _last_generation(part: xr.Dataset, name: str) -> NDArray[np.intp]:
    """Returns the presentations of a thread's last generation."""
    own = (part["thread"].values == name) & (part["kind"].values == "evolved")
    generation = part["generation"].values
    return np.flatnonzero(own & (generation == generation[own].max(initial=-1)))
