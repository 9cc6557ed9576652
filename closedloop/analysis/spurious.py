"""Which units are driven by something that is not the object: read from a run of `diagnose`.

A watermark, a background or a frame may go with a class in training. A unit that answers to it speaks for the class
wherever it is seen. Nobody says in which images it is; what is known are the labels. The test is a transplant:

* a unit is suspected that drives errors towards a class k, by its ablation;
* from the errors that it drove most, the window is cut whose loss silences the unit most: it holds no object of class
  k, for an image that was wrongly called k shows none;
* it is pasted, at its place, into images that are not of class k either, that are answered rightly, and in which the
  unit is quiet. Beside it, windows at the same place of images in which the unit is quiet, too, are pasted into the
  same images.

The unit is called spurious if the first makes so many more of them k than the second that chance is no reason (exact
one-sided test of discordant pairs, McNemar 1947, corrected by Holm over the suspects), and at least a share of them.
The window covers a sixteenth of the image. What a small window with no object does to images with another object is
not what the class looks like.

In small networks that were trained without such a feature 1 of 180 units tested was called so (0.6 % [0.1, 3.0]; see
docs/diagnosis.md, and ``benchmarks/treatments.py``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import stats

from closedloop.analysis.errors import class_names, explanations
from closedloop.analysis.resampling import holm
from closedloop.checks import check_whole, check_within
from closedloop.errors import InvalidArgumentError
from closedloop.signatures import at_door

#: Kinds of rows of a diagnosis: an image with a window of one that excites the unit; with one of an image that does
#: not; an error with its own window exchanged; and what the unit wants to see.
PASTED, EXCHANGED, REMOVED, PREFERRED = "pasted", "pasted-control", "removed", "preferred"
#: Share of images by which the window that excites must turn more than the control, and level of the test.
SHARE, LEVEL = 0.4, 0.05
#: Errors towards a class from which on units are suspected, and units suspected for one class.
FEWEST, FOR_ONE = 3, 3


@at_door
def suspected_units(recording: xr.Dataset, most: int = 6) -> xr.Dataset:
    """Returns the units that drive errors towards a class, the strongest first.

    For each class that was a wrong answer at least three times, the three units whose ablation lowers it most against
    the right class, on the mean over these errors, if it lowers it.

    Args:
        recording: A run of `closedloop.protocols.diagnose`.
        most: Units at most, over all classes.

    Returns:
        Along the dimension ``suspect``: `unit`, the number of its channel; `speaks_for`, the class; `errors` towards
        it; `effect`, the mean; sorted by errors times effect.
    """
    most = check_whole("most", most, 0)
    found = explanations(recording)
    answers, effects = found["answer"].values, found["effect"].values
    rows = []
    for k in np.unique(answers):
        own = effects[answers == k]
        if len(own) >= FEWEST:
            mean = own.mean(0)
            for unit in np.argsort(-mean, kind="stable")[:FOR_ONE]:
                if mean[unit] > 0:
                    rows.append((int(unit), int(k), len(own), float(mean[unit])))
    rows.sort(key=lambda row: -row[2] * row[3])
    columns = list(zip(*rows[:most], strict=True)) if rows[:most] else [(), (), (), ()]
    kinds = (np.int64, np.int64, np.int64, np.float64)
    names = ("unit", "speaks_for", "errors", "effect")
    pairs = zip(names, columns, kinds, strict=True)
    return xr.Dataset({name: ("suspect", np.array(values, kind)) for name, values, kind in pairs})


@at_door
def spurious_units(recording: xr.Dataset, *, share: float = SHARE, level: float = LEVEL) -> xr.Dataset:
    """Tells which suspected units are driven by something that is not the object; see this module.

    Args:
        recording: A run of `closedloop.protocols.diagnose`.
        share: Of the images, by which the window must turn more than the control does.
        level: Of the test, after its correction.

    Returns:
        Along the dimension ``suspect``: `unit`; `speaks_for` and `class_name`; `spurious`; `images` into which was
        pasted; `turned` and `turned_control`, shares of them that are then answered by that class; `p` and `p_holm`;
        `carried`, the share of the turned ones that are answered otherwise when the unit is held at its mean; of the
        `errors` from which windows were cut `mended`, the share that are answered rightly with the window exchanged for
        one of another image; `y`, `x` and `side` of the most frequent window, in pixels.
    """
    check_within("share", share, SHARE)
    check_within("level", level, LEVEL)
    if "suspect" not in recording.coords:
        raise InvalidArgumentError("recording: expected a run of diagnose that tested units, with suspects.")
    kind, unit = recording["kind"].values, recording["suspect"].values
    speaks = recording["speaks_for"].values
    tested = np.isin(kind, (PASTED, EXCHANGED))
    keys = list(dict.fromkeys(zip(unit[tested].tolist(), speaks[tested].tolist(), strict=True)))
    names = class_names(recording)
    rows = [_row(recording, (unit == u) & (speaks == k), u, k, names[k]) for u, k in keys]
    columns = {name: [row[name] for row in rows] for name in _COLUMNS}
    p = np.array(columns["p"], float)
    corrected = holm(p) if len(p) else p
    more = np.array(columns["turned"], float) - np.array(columns["turned_control"], float)
    columns |= {"p_holm": list(corrected), "spurious": list((corrected < level) & (more >= share))}
    made = {name: ("suspect", np.array(values, _COLUMNS.get(name))) for name, values in columns.items()}
    return xr.Dataset(made).assign_attrs(share=share, level=level)


#: Columns of the result, and their types.
_COLUMNS: dict[str, Any] = {
    "unit": np.int64,
    "speaks_for": np.int64,
    "class_name": object,
    "images": np.int64,
    "turned": np.float64,
    "turned_control": np.float64,
    "p": np.float64,
    "carried": np.float64,
    "errors": np.int64,
    "mended": np.float64,
    "y": np.int64,
    "x": np.int64,
    "side": np.int64,
}


def _row(recording: xr.Dataset, own: NDArray[np.bool_], unit: int, speaks_for: int, name: str) -> dict[str, Any]:
    """Returns what the transplants of one suspect came to."""
    kind, answer = recording["kind"].values, recording["answer"].values
    ids = recording["recipient"].values
    known = own & (answer >= 0)
    turned = {what: _by_image(ids, known & (kind == what), answer == speaks_for) for what in (PASTED, EXCHANGED)}
    both = sorted(turned[PASTED].keys() & turned[EXCHANGED].keys())
    first, second = (np.array([turned[what][i] for i in both], bool) for what in (PASTED, EXCHANGED))
    only, other = int((first & ~second).sum()), int((second & ~first).sum())
    # McNemar, exact: under H0 a discordant pair is one or the other with probability 1/2; H1: the first is more.
    p = float(stats.binom.sf(only - 1, only + other, 0.5)) if both else float("nan")
    held = recording["held_answer"].values
    flipped = known & (kind == PASTED) & (answer == speaks_for)
    errors = known & (kind == REMOVED)
    windows = np.stack([recording[f"window_{what}"].values for what in ("y", "x", "side")], 1)
    places, counts = np.unique(windows[own & (kind == PASTED)], axis=0, return_counts=True)
    y, x, side = places[counts.argmax()].tolist()
    return {
        "unit": unit,
        "speaks_for": speaks_for,
        "class_name": name,
        "images": len(both),
        "turned": float(first.mean()) if both else np.nan,
        "turned_control": float(second.mean()) if both else np.nan,
        "p": p,
        "carried": float((held[flipped] != speaks_for).mean()) if flipped.any() else np.nan,
        "errors": int(errors.sum()),
        "mended": float((answer == recording["target"].values)[errors].mean()) if errors.any() else np.nan,
        "y": y,
        "x": x,
        "side": side,
    }


def _by_image(ids: NDArray[Any], which: NDArray[np.bool_], found: NDArray[np.bool_]) -> dict[str, bool]:
    """Returns whether it was found, by the name of the image."""
    return dict(zip(ids[which].tolist(), found[which].tolist(), strict=True))
