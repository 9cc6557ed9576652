"""How the responses of an evolution rise over generations, and whether they do."""

from __future__ import annotations

from typing import Literal

import numpy as np
import xarray as xr
from scipy import stats

from closedloop.analysis.confirmed import confirmed_rise
from closedloop.analysis.reasons import all_nan, scalar
from closedloop.analysis.resampling import benjamini_hochberg, holm
from closedloop.analysis.runs import by_thread, check_recording
from closedloop.analysis.smoothing import smooth
from closedloop.analysis.students import informative, spread, welch
from closedloop.analysis.summary import single_scores
from closedloop.checks import check_whole, check_within, is_number
from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.interfaces import FloatArray
from closedloop.recording.layout import PROPOSED, REFERENCE
from closedloop.seeds import named_generator
from closedloop.signatures import at_door

#: Generations that are pooled at the beginning and at the end.
WINDOW = 2


@at_door
def generation_scores(recording: xr.Dataset, thread: str = "main") -> xr.Dataset:
    """Returns scores by generation of one thread's evolution, in the recording of one run.

    Returns:
        ``score (generation, image)``; over images ``mean``, ``sd``, ``best`` and ``best_id``; and ``images``, the
        number of evolved presentations up to and with the generation. Where the run says how codes were found, also
        ``proposed_by (generation, image)``.

    Raises:
        RecordingError: The thread has no evolved image.
    """
    check_recording(recording, "thread", "score", "generation")
    own = np.flatnonzero((recording["thread"].values == thread) & (recording["kind"].values == "evolved"))
    if len(own) == 0:
        raise RecordingError(f"recording: thread {thread!r} has no evolved image yet.")
    generation = recording["generation"].values[own]
    ids, score = recording["stimulus_id"].values[own], recording["score"].values[own]
    numbers, count = np.unique(generation, return_counts=True)
    first = [np.unique(ids[generation == g], return_index=True) for g in numbers]
    table = np.full((len(numbers), max(len(names) for names, _ in first)), np.nan)
    names, ways = (np.full(table.shape, "", dtype=object) for _ in range(2))
    said = recording[PROPOSED].values[own] if PROPOSED in recording.coords else None
    for row, (g, (own_names, index)) in enumerate(zip(numbers, first, strict=True)):
        table[row, : len(index)], names[row, : len(index)] = score[generation == g][index], own_names
        if said is not None:
            ways[row, : len(index)] = said[generation == g][index]
    best = np.argmax(np.where(np.isnan(table), -np.inf, table), axis=1)
    rows = np.arange(len(numbers))
    mean, spread, _ = _moments(table)
    return xr.Dataset(
        {
            "score": (("generation", "image"), table),
            "mean": ("generation", mean),
            "sd": ("generation", np.nan_to_num(spread)),
            "best": ("generation", table[rows, best]),
            "best_id": ("generation", names[rows, best]),
            "images": ("generation", np.cumsum(count)),
            **({} if said is None else {PROPOSED: (("generation", "image"), ways)}),
        },
        coords={"generation": numbers},
    )


def _moments(table: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Returns mean, standard deviation and number of each row's known values; NaN below one and two values."""
    n = (~np.isnan(table)).sum(1)
    mean = np.nansum(table, 1) / np.where(n > 0, n, np.nan)
    return mean, spread(table), n


@at_door
def trajectory(recording: xr.Dataset, thread: str | None = None) -> xr.Dataset:
    """Returns scores by generation: mean, standard error, maximum, and the references beside (Ponce et al. 2019).

    Args:
        recording: See `closedloop.open_recording`; of one run, or of several that `concat` joined.
        thread: Which evolution; None for all, along the dimension ``thread``.

    Returns:
        Over ``generation``: `mean`, `sem` (standard error over images), `maximum` and `n` of the images' scores;
        `smoothed`, the posterior mean of a Gaussian process through the means (constant × squared exponential of 1 to 5
        generations + white noise); `baseline` and `baseline_sem` of the references shown in that generation, by the
        thread's objective; and `images`, the evolved presentations up to and with the generation. `reason` says why
        values are missing.

    Raises:
        RecordingError: The recording holds no evolution, or its thread no evolved image yet.
    """
    return by_thread(recording, thread, _trajectory)


def _trajectory(part: xr.Dataset, name: str, objective: str) -> xr.Dataset:
    scores = generation_scores(part, name)
    generation = scores["generation"].values
    mean, sd, n = _moments(scores["score"].values)
    baseline, baseline_sem, reason = _baseline(part, objective, generation)
    columns = {
        "mean": mean,
        "sem": sd / np.sqrt(n),
        "maximum": scores["best"].values,
        "smoothed": smooth(generation.astype(float), mean),
        "baseline": baseline,
        "baseline_sem": baseline_sem,
        "n": n,
        "images": scores["images"].values,
    }
    coords = {"generation": generation, "reason": reason}
    return xr.Dataset({name: ("generation", column) for name, column in columns.items()}, coords=coords)


def _baseline(part: xr.Dataset, objective: str, generation: FloatArray) -> tuple[FloatArray, FloatArray, str]:
    """Returns mean and standard error of the references' single scores in each generation."""
    numbers = part["generation"].values
    shown = (part["thread"].values == REFERENCE) & (part["kind"].values == "reference")
    rows = np.flatnonzero(shown & np.isin(numbers, generation))
    empty = np.full(len(generation), np.nan)
    if len(rows) == 0:
        return empty, empty, "baseline: no reference was shown during the evolution"
    try:
        scores = single_scores(part, objective, rows)
    except InvalidArgumentError as error:
        return empty, empty, f"baseline: {error}"
    tables = [scores[numbers[rows] == g] for g in generation]
    padded = np.full((len(generation), max(map(len, tables))), np.nan)
    for row, values in enumerate(tables):
        padded[row, : len(values)] = values
    mean, sd, n = _moments(padded)
    lacking = "baseline: no reference in some generations" if np.isnan(mean).any() else ""
    return mean, sd / np.sqrt(np.maximum(n, 1)), lacking


@at_door
def generations_to(recording: xr.Dataset, share: float = 0.63, thread: str | None = None) -> xr.Dataset:
    """Counts the generations until an evolution has made a share of its rise.

    The rise goes from the smoothed mean of the first generation to the highest smoothed mean; 63 % of it is the time
    constant of an exponential approach.

    Args:
        recording: See `trajectory`.
        share: Share of the rise, above 0 and at most 1.
        thread: Which evolution; None for all, along the dimension ``thread``.

    Returns:
        `generations`, counted from the first and interpolated linearly; NaN with the reason where nothing rises.
    """
    _check_share(share)

    def measure(part: xr.Dataset, name: str, objective: str) -> xr.Dataset:
        found = _trajectory(part, name, objective)
        height = found["smoothed"].values
        top = float(np.nanmax(height)) if np.isfinite(height).any() else np.nan
        return _crossing("generations", found["generation"].values.astype(float), height, top, share)

    return by_thread(recording, thread, measure)


@at_door
def images_to(recording: xr.Dataset, share: float = 0.9, thread: str | None = None) -> xr.Dataset:
    """Counts the evolved images shown until an evolution has made a share of the way to its final response.

    The way goes from the smoothed mean of the first generation to the mean of the last two generations.

    Args:
        recording: See `trajectory`.
        share: Share of the way, above 0 and at most 1; usual are 0.5 and 0.9.
        thread: Which evolution; None for all, along the dimension ``thread``.

    Returns:
        `images`, interpolated linearly between generations; NaN with the reason where nothing rises.
    """
    _check_share(share)

    def measure(part: xr.Dataset, name: str, objective: str) -> xr.Dataset:
        found = _trajectory(part, name, objective)
        height, final = found["smoothed"].values, found["mean"].values[-WINDOW:]
        top = float(np.nanmean(final)) if np.isfinite(final).any() else np.nan
        return _crossing("images", found["images"].values.astype(float), height, top, share, count_first=True)

    return by_thread(recording, thread, measure)


def _check_share(share: float) -> None:
    if not (is_number(share) and 0 < share <= 1):
        raise InvalidArgumentError(f"share: expected a number above 0 and at most 1 such as 0.9, got {share!r}.")


def _crossing(
    name: str, x: FloatArray, height: FloatArray, top: float, share: float, count_first: bool = False
) -> xr.Dataset:
    """Finds where a curve first reaches ``height[0] + share (top - height[0])``, a straight line between its points."""
    if np.isnan(height).any() or np.isnan(top):
        return all_nan((name,), "fewer than three generations with a score").assign_coords(share=share)
    if top <= height[0] or not np.ptp(height) > 0:
        return all_nan((name,), "the trajectory does not rise").assign_coords(share=share)
    level = height[0] + share * (top - height[0])
    above = np.flatnonzero(height >= level)
    if len(above) == 0:
        return all_nan((name,), "the smoothed trajectory does not get that high").assign_coords(share=share)
    i = int(above[0])
    at = x[i] if i == 0 else x[i - 1] + (x[i] - x[i - 1]) * (level - height[i - 1]) / (height[i] - height[i - 1])
    return scalar({name: float(at - (0 if count_first else x[0]))}, share=share)


@at_door
def success(
    recording: xr.Dataset,
    thread: str | None = None,
    *,
    window: int = WINDOW,
    alpha: float = 0.05,
    permutations: int = 1999,
    alternative: Literal["confirmed", "end", "maximum"] = "confirmed",
    seed: int = 0,
) -> xr.Dataset:
    """Tells whether an evolution succeeded, by a re-tested image that no score of its own chose.

    "confirmed" ranks the fresh presentations of that image (what the optimizer takes for the best, or the mean code of
    its last generation) among the images of the beginning: the first generation, and those after it until there are 40.
    Without learning it is one more image of their kind, so p = (1 + #{first ≥ it}) / (1 + #first) holds for shuffled
    scores, noise and random codes whatever the unit. It is NaN where the code lies much further out than the first
    ones, and length changes images: length alone may drive a unit. The *winner* is no such image: the best of all that
    were shown exceeds the first ones without learning, too. It is compared with controls, by `success_over_runs`.

    "end" is the test of Ponce et al. (2019) and Wang & Ponce: scores of the last two generations against the first two
    (Welch's t-test, two-sided, with t above 0). It shows that late images are answered otherwise than early ones, and
    does not show that anything was learnt: images of one generation lie around one place, so they are no independent
    replicates, and of optimizers that were told nonsense 17 to 45 % pass. "maximum": the best two consecutive
    generations against the first two would be selected on the very data; its p-value comes from permutations of the
    images over all generations that repeat the selection, and has the same replicates. Permutation p-values are
    (1 + b) / (1 + permutations), Phipson & Smyth 2010.

    Args:
        recording: See `trajectory`.
        thread: Which evolution; None for all, along the dimension ``thread``.
        window: Generations at the beginning and at the end, of "end" and "maximum".
        alpha: Level of the test after correction over the evolutions.
        permutations: Number of random permutations.
        alternative: Which test decides: "confirmed" (corrected by Benjamini & Hochberg, for a rank among 40 never is
            below .024), "end" or "maximum" (by Holm).
        seed: Seed of the permutations.

    Returns:
        `unchosen`, the mean of that image in the selecting re-test, `begin`, `begin_sd` and `n_begin` of the first
        images' scores, `distance` of the code from the middle of the first ones, over theirs; `p_confirmed`; `winner`,
        the winner's confirmed mean, `control`, the mean of those of control threads (``shuffled:``, ``noise:``,
        ``random``) in the same run, `n_controls`; `first`, `last`, `maximum` (mean scores of the windows), `decline`
        (maximum − last), `t`, `df`, `p`, `p_permutation` (last > first), `p_maximum`; `p_adjusted` of the test that
        decides, and `success` (1 or 0); NaN
        with the reason where there are too few generations, scores do not vary, or nothing was re-tested.
    """
    window, permutations = check_whole("window", window, 1), check_whole("permutations", permutations, 1)
    check_within("alpha", alpha, 0.05)
    if alternative not in ("confirmed", "end", "maximum"):
        raise InvalidArgumentError(f"alternative: expected 'confirmed', 'end' or 'maximum', got {alternative!r}.")

    def measure(part: xr.Dataset, name: str, objective: str) -> xr.Dataset:
        ends, rise = _success(part, name, window, permutations, seed), confirmed_rise(part, name, objective)
        reason = "; ".join(filter(None, (str(rise["reason"].item()), str(ends["reason"].item()))))
        return rise.drop_vars("reason").merge(ends.drop_vars("reason")).assign_coords(reason=reason)

    found = by_thread(recording, thread, measure)
    decides = {"confirmed": "p_confirmed", "end": "p", "maximum": "p_maximum"}[alternative]
    adjusted = (benjamini_hochberg if alternative == "confirmed" else holm)(found[decides].values)
    after, before = {"confirmed": ("unchosen", "begin"), "end": ("last", "first"), "maximum": ("maximum", "first")}[
        alternative
    ]
    verdict = np.where(np.isnan(adjusted), np.nan, (adjusted < alpha) & (found[after] > found[before]).values)
    dims = found["p"].dims
    found = found.assign(p_adjusted=(dims, adjusted), success=(dims, verdict))
    return found.assign_coords(
        alpha=alpha, window=window, permutations=permutations, seed=seed, alternative=alternative
    )


#: What `success` measures of one evolution.
_SUCCESS = ("first", "last", "maximum", "decline", "t", "df", "p", "p_permutation", "p_maximum")


def _success(part: xr.Dataset, name: str, window: int, permutations: int, seed: int) -> xr.Dataset:
    table = generation_scores(part, name)["score"].values
    if len(table) < 2 * window:
        return all_nan(_SUCCESS, f"{len(table)} generations; the test needs at least {2 * window}")
    blocks = [row[~np.isnan(row)] for row in table]
    first, last = np.concatenate(blocks[:window]), np.concatenate(blocks[-window:])
    if min(len(first), len(last)) < 2:
        return all_nan(_SUCCESS, "fewer than two scores at the beginning or at the end")
    best = float(_window_means(np.concatenate(blocks), [len(b) for b in blocks], window).max())
    means = {"first": first.mean(), "last": last.mean(), "maximum": best, "decline": best - last.mean()}
    if not (informative(first) or informative(last)):
        missing = dict.fromkeys(("t", "df", "p", "p_permutation", "p_maximum"), np.nan)
        return scalar({**means, **missing}, "scores within the first and the last generations do not vary")
    t, df = welch(last, first)
    rng = named_generator(seed, f"success {name}")
    ends = _permutation(np.concatenate([first, last]), [len(first), len(last)], 1, permutations, rng)
    whole = _permutation(np.concatenate(blocks), [len(b) for b in blocks], window, permutations, rng)
    p = 2 * stats.t.sf(np.abs(t), df)
    tests = {"t": t, "df": df, "p": p, "p_permutation": ends, "p_maximum": whole}
    return scalar({**means, **{key: float(value) for key, value in tests.items()}})


def _window_means(scores: FloatArray, sizes: list[int], window: int) -> FloatArray:
    """Returns the mean score of every ``window`` consecutive generations of given sizes; -inf where all were lost."""
    ends = np.concatenate([[0], np.cumsum(sizes)])
    sums = np.concatenate([[0.0], np.cumsum(scores)])[ends]
    total, count = sums[window:] - sums[:-window], ends[window:] - ends[:-window]
    means: FloatArray = np.where(count > 0, total / np.maximum(count, 1), -np.inf)
    return means


def _permutation(
    scores: FloatArray, sizes: list[int], window: int, permutations: int, rng: np.random.Generator
) -> float:
    """Returns the p-value of the highest later window's mean minus the first's, under exchange of the images."""

    def rise(values: FloatArray) -> float:
        means = _window_means(values, sizes, window)
        return float(means[window:].max() - means[0])

    observed = rise(scores)
    tolerance = 1e-12 * max(abs(observed), 1e-300)
    reached = sum(rise(rng.permutation(scores)) >= observed - tolerance for _ in range(permutations))
    return (1 + reached) / (1 + permutations)
