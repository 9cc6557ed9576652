"""Which presentations show what an evolution found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.analysis.summary import ThreadSummary, summarize_thread
from closedloop.interfaces import FloatArray


@dataclass(frozen=True)
class Preferred:
    """The evolved image of a thread, or in a run without a re-test its last generation.

    Attributes:
        rows: Presentations that had no part in choosing it, ``(n,)``; of a last generation all its images.
        basis: "re-test", or "last generation".
        code: ``(latent,)`` without padding: of the image, or the mean of the last generation; None where codes are not
            recorded.
    """

    rows: NDArray[np.intp]
    basis: str
    code: FloatArray | None


def preferred(part: xr.Dataset, name: str, objective: str) -> Preferred:
    """Returns what a thread of a single run found."""
    summary = summarize_thread(part, name, objective)
    thread, kind, generation = (part[c].values for c in ("thread", "kind", "generation"))
    if summary.evolved.n:
        rows = confirmed_rows(part, summary)
        return Preferred(rows, "re-test", _code(part, rows[:1]))
    own = (thread == name) & (kind == "evolved")
    rows = np.flatnonzero(own & (generation == generation[own].max())) if own.any() else np.empty(0, np.intp)
    return Preferred(rows, "last generation", _code(part, rows))


def confirmed_rows(part: xr.Dataset, summary: ThreadSummary) -> NDArray[np.intp]:
    """Returns the presentations ``(n,)`` of the last re-test that show a thread's evolved image."""
    kind, generation = part["kind"].values, part["generation"].values
    last = generation[kind == "retest"].max(initial=-1)
    again = (part["thread"].values == summary.thread) & (kind == "retest") & (generation == last)
    return np.flatnonzero(again & (part["stimulus_id"].values == summary.evolved.stimulus_id))


def evolved_codes(part: xr.Dataset, name: str) -> tuple[FloatArray, NDArray[np.intp]]:
    """Returns an evolution's codes ``(n, latent)`` in order of presentation, without padding, and their rows.

    Each image comes once, also where it was shown several times.
    """
    rows = np.flatnonzero((part["thread"].values == name) & (part["kind"].values == "evolved"))
    _, first = np.unique(part["stimulus_id"].values[rows], return_index=True)
    rows = rows[np.sort(first)]
    codes = part["latent_code"].isel(presentation=rows).values
    return codes[:, ~np.isnan(codes).all(0)], rows


def _code(part: xr.Dataset, rows: NDArray[np.intp]) -> FloatArray | None:
    if "latent_code" not in part or len(rows) == 0:
        return None
    code: FloatArray = part["latent_code"].isel(presentation=rows).values.mean(0)
    return code[~np.isnan(code)]
