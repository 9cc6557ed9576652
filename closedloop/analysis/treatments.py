"""Did a treatment help? Accuracy overall and in the worst group, and its gain over training without it, by seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.analysis.resampling import holm
from closedloop.analysis.students import students_interval, students_p
from closedloop.checks import check_within
from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import FloatArray
from closedloop.signatures import at_door

#: Stand as `protocol` in a run's file.
TREAT, JUDGE = "treat", "judge"
#: The network before its treatment, while it is under it, and, of a judgement, after it.
BEFORE, TREATED, AFTER = "before", "treated", "after"
#: Treatments that others are held against: more steps alone, and plain reweighting.
NONE, REWEIGHT = "none", "reweight"
#: Seeds below which no interval is given.
FEWEST = 3
#: What accuracies, and their differences, can be; intervals are cut there.
SHARES, GAINS = (0.0, 1.0), (-1.0, 1.0)


def group_sizes(recording: xr.Dataset) -> NDArray[np.int64]:
    """Returns the number of images in each group of the test."""
    sizes: NDArray[np.int64] = recording["group_size"].values.astype(np.int64)
    return sizes


def overall_and_worst(accuracy: FloatArray, sizes: NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
    """Returns accuracy over all images, and that of the worst group: ``(n, groups)`` -> ``(n,)`` each."""
    held = sizes > 0
    return (accuracy[:, held] * sizes[held]).sum(1) / sizes.sum(), accuracy[:, held].min(1)


@at_door
def treatment_accuracy(recording: xr.Dataset) -> xr.Dataset:
    """Returns the accuracies of a run of `closedloop.protocols.treat`.

    Args:
        recording: The run.

    Returns:
        Along the dimension ``measurement``: `step`, `phase`, `loss`, `overall`, `worst`, and `accuracy`
        ``(measurement, group)``.

    Raises:
        InvalidArgumentError: It is no such run.
    """
    if not {"phase", "step", "treatment"} <= set(recording.coords):
        raise InvalidArgumentError("recording: expected a run of treat, with the coordinates phase and step.")
    accuracy, sizes = recording["responses"].values.astype(float), group_sizes(recording)
    overall, worst = overall_and_worst(accuracy, sizes)
    columns: dict[str, Any] = {
        "step": ("measurement", recording["step"].values),
        "phase": ("measurement", recording["phase"].values),
        "loss": ("measurement", recording["loss"].values),
        "overall": ("measurement", overall),
        "worst": ("measurement", worst),
        "accuracy": (("measurement", "group"), accuracy),
    }
    found = xr.Dataset(columns, {"group": recording["neuroid_id"].values, "group_size": ("group", sizes)})
    told = {name: _scalar(recording, name) for name in ("treatment", "data", "seed", "subject")}
    return found.assign_attrs(**told, found=int(recording["found"].values[-1]))


@at_door
def judged_treatments(recording: xr.Dataset, level: float = 0.95) -> xr.Dataset:
    """Holds treatments against training without them, over seeds.

    All intervals are Student's t over seeds; differences are paired, for the same seed is the same data, the same
    network before its treatment, and the same batches.

    Args:
        recording: A run of `closedloop.protocols.judge`.
        level: Of the intervals.

    Returns:
        Along the dimension ``treatment``, of accuracy after it, with ``_low`` and ``_high`` each: `overall` and
        `worst`, of the group that is worst with this seed; `overall_gain` and `worst_gain` over "none", the same number
        of steps; `worst_over_reweight`, over plain reweighting; `p`, two-sided, that `worst_gain` is 0, and `p_holm`,
        corrected over treatments; `used`, the share of seeds in which it found something to use; ``(treatment, seed)``
        `overall_by_seed` and `worst_by_seed`, ``(treatment, group)`` `accuracy`, the mean. As scalars `overall_before`
        and `worst_before`. Intervals are cut at 0 and 1, those of gains at -1 and 1; they and p are NaN where fewer
        than three seeds are done, or where the numbers of all seeds are alike.

    Raises:
        InvalidArgumentError: It is no such run.
    """
    check_within("level", level, 0.95)
    if not {"arm", "run_seed"} <= set(recording.coords):
        raise InvalidArgumentError("recording: expected a run of judge, with the coordinates arm and run_seed.")
    sizes, kind = group_sizes(recording), recording["kind"].values
    arms = list(dict.fromkeys(recording["arm"].values[kind == AFTER].tolist()))
    whole = [s for s in dict.fromkeys(recording["run_seed"].values.tolist()) if _done(recording, s, arms)]
    by = {arm: _accuracies(recording, arm, whole) for arm in arms}
    before = _accuracies(recording, "", whole)
    pairs = {arm: overall_and_worst(values, sizes) for arm, values in by.items()}
    found: dict[str, Any] = {
        "accuracy": (("treatment", "group"), np.stack([by[arm].mean(0) for arm in arms])),
        "overall_by_seed": (("treatment", "seed"), np.stack([pairs[arm][0] for arm in arms])),
        "worst_by_seed": (("treatment", "seed"), np.stack([pairs[arm][1] for arm in arms])),
        "used": ("treatment", np.array([_used(recording, arm, whole) for arm in arms])),
    }
    for i, what in enumerate(("overall", "worst")):
        found |= _columns(what, [pairs[arm][i] for arm in arms], level, SHARES)
        if NONE in by:
            found |= _columns(f"{what}_gain", [pairs[arm][i] - pairs[NONE][i] for arm in arms], level, GAINS)
        own = _columns("", [overall_and_worst(before, sizes)[i]], level, SHARES)
        found |= {f"{what}_before{end}": float(value[0]) for end, (_, value) in own.items()}
    if REWEIGHT in by:
        found |= _columns("worst_over_reweight", [pairs[arm][1] - pairs[REWEIGHT][1] for arm in arms], level, GAINS)
    if NONE in by:
        p = students_p(np.stack([pairs[arm][1] - pairs[NONE][1] for arm in arms]), fewest=FEWEST)
        found |= {"p": ("treatment", p), "p_holm": ("treatment", holm(p))}
    coords = {"treatment": arms, "seed": whole, "group": recording["neuroid_id"].values}
    made = xr.Dataset(found, coords).assign_coords(group_size=("group", sizes))
    told = {name: _scalar(recording, name) for name in ("data", "subject")}
    return made.assign_attrs(**told, level=level, seeds=len(whole))


def _scalar(recording: xr.Dataset, name: str) -> Any:
    """Returns what a run says of itself as a plain value."""
    value = recording[name].values.ravel()[0]
    return value.item() if isinstance(value, np.generic) else value


def _done(recording: xr.Dataset, seed: int, arms: list[str]) -> bool:
    """Tells whether all treatments are done of a seed."""
    own = (recording["run_seed"].values == seed) & (recording["kind"].values == AFTER)
    return set(recording["arm"].values[own].tolist()) >= set(arms)


def _accuracies(recording: xr.Dataset, arm: str, seeds: list[int]) -> FloatArray:
    """Returns the accuracies of a treatment, ``(seeds, groups)``; those before it for no name."""
    kind = recording["kind"].values == (AFTER if arm else BEFORE)
    own = kind & (recording["arm"].values == arm)
    rows = [np.flatnonzero(own & (recording["run_seed"].values == seed))[0] for seed in seeds]
    found: FloatArray = recording["responses"].values[rows].astype(float)
    return found


def _used(recording: xr.Dataset, arm: str, seeds: list[int]) -> float:
    own = (recording["arm"].values == arm) & np.isin(recording["run_seed"].values, seeds)
    return float((recording["found"].values[own] > 0).mean()) if own.any() else float("nan")


def _columns(name: str, samples: list[FloatArray], level: float, within: tuple[float, float]) -> dict[str, Any]:
    """Returns means and intervals of samples, one for each treatment."""
    ends = students_interval(np.stack(samples), level, fewest=FEWEST, within=within)
    return {f"{name}{end}": ("treatment", values) for end, values in zip(("", "_low", "_high"), ends, strict=True)}


def verdict(low: float, high: float) -> str:
    """Says in a word whether a gain is there: "helps", "hurts", "no effect shown", or "not known"."""
    if not np.isfinite([low, high]).all():
        return "not known"
    return "helps" if low > 0 else "hurts" if high < 0 else "no effect shown"
