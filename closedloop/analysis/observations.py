"""What is observed of training over several seeds, and what a change of training does to its end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from scipy import stats

from closedloop.analysis.allocation import oscillation, step_shares
from closedloop.analysis.resampling import holm
from closedloop.analysis.students import students_interval, students_p
from closedloop.analysis.synchrony import layer_means, learning_peaks, peak_synchrony
from closedloop.checks import check_within
from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import FloatArray
from closedloop.signatures import at_door

#: What an observation can be; intervals of its mean are cut there.
WITHIN: dict[str, tuple[float, float]] = {
    "helping": (0, 1),
    "helping_of_moving": (0, 1),
    "sign_changes": (0, 1),
    "synchrony": (0, np.inf),
    "synchrony_p": (0, 1),
    "missed": (0, np.inf),
}


#: What is observed of a training.
OBSERVED = tuple(WITHIN)
#: Stands as `protocol` in the file of a run of several trainings.
TRAININGS = "lca-seeds"


@at_door
def training_observations(allocations: Sequence[xr.Dataset], level: float = 0.95) -> xr.Dataset:
    """Returns what was observed in each of several trainings, and its mean over them with Student's interval.

    Args:
        allocations: What `allocation_dataset` returned for each run, of one network with different seeds.
        level: Of the intervals.

    Returns:
        ``value`` ``(observation, run)``, ``mean``, ``low`` and ``high`` ``(observation,)``. Observations: ``helping``,
        the mean share of parameters that help in a step; ``helping_of_moving``, of those that help or hurt;
        ``sign_changes``, the mean over neurons of the part of steps from one to the next in which a share changes its
        sign; ``synchrony``, how many times more often than by chance peaks of learning coincide, and ``synchrony_p``;
        ``missed``, the part of the loss's change that the shares miss. NaN in a run where too few peaks are found. The
        intervals are cut where an observation cannot be: shares below 0 and above 1, ratios below 0.
        ``synchrony_p`` has Fisher's combined p in the place of its mean, and no interval.

    Raises:
        InvalidArgumentError: No run.
    """
    check_within("level", level, 0.95)
    if not allocations:
        raise InvalidArgumentError("allocations: expected at least one run, got none.")
    rows = [observed(one) for one in allocations]
    values = np.array([[row[name] for row in rows] for name in OBSERVED])
    return _observations(values, [one.attrs.get("seed", -1) for one in allocations], level)


def _observations(values: FloatArray, seeds: Sequence[int], level: float) -> xr.Dataset:
    """Returns what was observed in each of several trainings ``(observation, run)``, with means and intervals."""
    names = list(OBSERVED)
    mean, low, high = np.stack(
        [students_interval(row, level, within=WITHIN[name]) for name, row in zip(names, values, strict=True)]
    ).T
    p = values[names.index("synchrony_p")]
    known = p[~np.isnan(p)]
    place = names.index("synchrony_p")
    mean[place] = float(stats.combine_pvalues(known).pvalue) if len(known) else np.nan
    low[place] = high[place] = np.nan
    return xr.Dataset(
        {
            "value": (("observation", "run"), values),
            "mean": ("observation", mean),
            "low": ("observation", low),
            "high": ("observation", high),
        },
        {"observation": names, "seed": ("run", list(seeds)), "level": level},
    )


def observed(allocation: xr.Dataset) -> dict[str, float]:
    """Returns what was observed in one run, by the names in `OBSERVED`."""
    shares = step_shares(allocation)
    change = float(allocation["change"].sum())
    ratio = p = np.nan
    if int((learning_peaks(allocation["by_layer"]).sum("step") > 0).sum()) > 1:
        together = peak_synchrony(allocation["by_layer"])
        ratio, p = float(together["ratio"]), float(together["p"])
    return {
        "helping": float(shares["helping"].mean()),
        "helping_of_moving": float(shares["helping_of_moving"].mean()),
        "sign_changes": float(oscillation(allocation)["sign_changes"].mean()),
        "synchrony": ratio,
        "synchrony_p": p,
        "missed": abs(float(allocation["residual"].sum()) / change) if change else np.nan,
    }


@at_door
def training_change(plain: Sequence[xr.Dataset], changed: Sequence[xr.Dataset], level: float = 0.95) -> xr.Dataset:
    """Returns what a change of training does to its end: differences over pairs with the same seed.

    Args:
        plain: What `closedloop.protocols.train` returned, for each seed.
        changed: The same with something changed, a freeze for instance, for the same seeds in the same order.
        level: Of the intervals.

    Returns:
        Over ``measure`` (``loss_train``, ``accuracy_validation`` …): ``plain`` and ``changed``, the means; of changed
        less plain ``difference``, ``low``, ``high`` (Student's interval over pairs), ``p`` (paired t-test, two-sided)
        and ``p_holm``, corrected over the measures; ``pairs``. Interval and p are NaN where all differences are alike.

    Raises:
        InvalidArgumentError: Fewer than two pairs, or other seeds.
    """
    check_within("level", level, 0.95)
    seeds = [[one.attrs.get("seed") for one in runs] for runs in (plain, changed)]
    if len(plain) < 2 or seeds[0] != seeds[1]:
        raise InvalidArgumentError(
            f"changed: expected at least two runs with the seeds of plain, {seeds[0]}, got {seeds[1]}."
        )
    ends = [name for name in map(str, plain[0].attrs) if name.startswith(("loss_", "accuracy_"))]  # by name of the set
    both = [name for name in ends if name in changed[0].attrs]
    if not both:
        raise InvalidArgumentError("plain: expected what closedloop.protocols.train returned, with losses at the end.")
    before, after = (np.array([[run.attrs[name] for run in runs] for name in both]) for runs in (plain, changed))
    return _change(before, after, both, level)


def _change(before: FloatArray, after: FloatArray, measures: Sequence[str], level: float) -> xr.Dataset:
    """Returns what a change does to measures ``(measure, pair)``."""
    difference, low, high = students_interval(after - before, level)
    p = students_p(after - before)
    numbers = {
        "plain": before.mean(1),
        "changed": after.mean(1),
        "difference": difference,
        "low": low,
        "high": high,
        "p": p,
        "p_holm": holm(p),
    }
    return xr.Dataset(
        {name: ("measure", value) for name, value in numbers.items()},
        {"measure": list(measures), "level": level, "pairs": before.shape[1]},
    )


def changes_of(recording: xr.Dataset) -> list[str]:
    """Returns the changes that a run of `closedloop.protocols.train_seeds` compares, in their order."""
    return [words for words in dict.fromkeys(recording["change"].values.tolist()) if words]


def seeds_of(recording: xr.Dataset, change: str = "") -> list[int]:
    """Returns the seeds with which a run's trainings are done, plain or with a change."""
    found: list[int] = recording["run_seed"].values[recording["change"].values == change].tolist()
    return found


def _of(recording: xr.Dataset, sort: str, change: str, seeds: Sequence[int]) -> tuple[list[str], FloatArray]:
    """Returns measures of a sort, and their values ``(measure, seed)``."""
    if not {"change", "run_seed", "measure", "sort"} <= set(map(str, recording.coords)):
        raise InvalidArgumentError(
            "recording: expected a run of train_seeds, with the coordinates change, run_seed and measure."
        )
    own = np.flatnonzero(recording["sort"].values == sort)
    keys = zip(recording["change"].values.tolist(), recording["run_seed"].values.tolist(), strict=True)
    at = {key: row for row, key in enumerate(keys)}
    rows = np.array([at[(change, seed)] for seed in seeds], np.intp)
    return recording["measure"].values[own].tolist(), recording["responses"].values[np.ix_(rows, own)].T.astype(float)


@at_door
def trained_observations(recording: xr.Dataset, level: float = 0.95) -> xr.Dataset:
    """Returns what was observed in the plain trainings of a run of `closedloop.protocols.train_seeds`.

    Args:
        recording: The run.
        level: Of the intervals.

    Returns:
        See `training_observations`.
    """
    check_within("level", level, 0.95)
    seeds = seeds_of(recording)
    _, values = _of(recording, "observed", "", seeds)
    return _observations(values, seeds, level)


@at_door
def trained_layers(recording: xr.Dataset, level: float = 0.95) -> xr.Dataset:
    """Returns which layers hurt, net, in the plain trainings of a run of `closedloop.protocols.train_seeds`.

    Args:
        recording: The run.
        level: Of the intervals.

    Returns:
        See `closedloop.analysis.hurting_layers`; and ``by_seed`` ``(layer, seed)``.
    """
    check_within("level", level, 0.95)
    seeds = seeds_of(recording)
    layers, totals = _of(recording, "layer", "", seeds)
    return layer_means(totals, layers, level).assign(by_seed=(("layer", "seed"), totals)).assign_coords(seed=seeds)


@at_door
def trained_change(recording: xr.Dataset, change: str, level: float = 0.95) -> xr.Dataset:
    """Returns what a change does to the end of training, over the pairs of a run of `train_seeds` that are done.

    Args:
        recording: The run.
        change: As it was said, one of ``recording["change"]``.
        level: Of the intervals.

    Returns:
        See `training_change`; and ``by_seed`` ``(measure, seed)``, the differences.
    """
    check_within("level", level, 0.95)
    if change not in (known := changes_of(recording)):
        raise InvalidArgumentError(f"change: expected one of {known}, got {change!r}.")
    both = [seed for seed in seeds_of(recording, change) if seed in seeds_of(recording)]
    (measures, before), (_, after) = (_of(recording, "end", words, both) for words in ("", change))
    found = _change(before, after, measures, level)
    return found.assign(by_seed=(("measure", "seed"), after - before)).assign_coords(seed=both)
