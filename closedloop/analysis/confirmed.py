"""Whether an evolution came to images that excite more than those it began with, by fresh presentations only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.analysis.reasons import all_nan, scalar, words
from closedloop.analysis.resampling import mean_interval
from closedloop.analysis.runs import concat, evolutions
from closedloop.analysis.students import spread, students_p
from closedloop.analysis.summary import fact_of, raw_scores, single_scores, summarize_thread
from closedloop.checks import check_whole, check_within
from closedloop.interfaces import FloatArray
from closedloop.objectives import parse_objective
from closedloop.recording.render import recorded_generator
from closedloop.seeds import named_generator
from closedloop.signatures import at_door

#: Images of the beginning that are compared with, where the first generation has fewer.
BEGINNING = 40
#: How far the code may lie from the middle of the first codes, in units of their own mean distance from it, and still
#: count as one of their kind.
ALIKE = (0.8, 1.25)
#: What the names of re-tested images hold that no score of their own chose: what an optimizer takes for the best, the
#: mean code of its last generation, what a gradient method ended with; see `closedloop.loop.thread.Evolution`.
UNCHOSEN = ("recommended-000", "center", "last-000")
#: What `confirmed_rise` measures of one evolution.
RISE = ("unchosen", "begin", "begin_sd", "n_begin", "distance", "p_confirmed", "winner", "control", "n_controls")


def confirmed_rise(part: xr.Dataset, name: str, objective: str) -> xr.Dataset:
    """Ranks the re-tested image that no score of its own chose among the images with which the evolution began.

    If an optimizer learns nothing, that image is one more draw of the kind of the first: its response comes at any
    place among theirs with the same probability, p = (1 + #{first ≥ it}) / (1 + #first), whatever they follow. It is
    of their kind if its code lies as far from the middle of theirs as they do; codes that have grown, or a mean code
    in the middle of all, may drive a unit more or less by their length alone. The winner has no such p-value: it is the
    best of all that were shown, also where nothing was learnt.

    Args:
        part: One run.
        name: Its thread.
        objective: What the thread maximizes.

    Returns:
        The variables of `RISE`, with the reason where any is missing; see `closedloop.analysis.success`.
    """
    winner = summarize_thread(part, name, objective).evolved.mean
    against = [summarize_thread(part, other, objective).evolved.mean for other in _controls(part, name, objective)]
    against = [mean for mean in against if np.isfinite(mean)]
    control = {"control": float(np.mean(against)) if against else np.nan, "n_controls": len(against)}
    first, rows = _beginning(part, name, objective)
    known = {"winner": winner, **control, "n_begin": len(first)}
    lacking = {
        "winner": "" if np.isfinite(winner) else "nothing was re-tested twice",
        "control": "" if against else "no control of it (shuffled:, noise: or random) in this run",
    }
    if len(first) < 2:
        missing = dict.fromkeys((n for n in RISE if n not in known), np.nan)
        return scalar({**missing, **known}, "fewer than two scores at the beginning")
    known |= {"begin": float(first.mean()), "begin_sd": float(spread(first))}
    again = _unchosen(part, name)
    scores = single_scores(part, objective, again) if len(again) else np.empty(0)
    scores = scores[~np.isnan(scores)]
    if not len(scores):
        missing = dict.fromkeys(("unchosen", "distance", "p_confirmed"), np.nan)
        why = {"unchosen, distance, p_confirmed": "no image that its own score did not choose was re-tested"}
        return scalar({**missing, **known}, words({**why, **lacking}))
    mean = float(scores.mean())
    distance = _distance(part, name, rows, again[0])
    apart = distance < ALIKE[0] or distance > ALIKE[1]
    reasons = {"distance": "no codes" if np.isnan(distance) else "", "p_confirmed": ""}
    if apart:
        reasons["p_confirmed"] = (
            f"the re-tested code lies {distance:.2g} times as far out as those of the beginning, which alone may "
            "change what it drives; compare with a control thread, such as shuffled:NAME"
        )
    elif np.ptp(first) == 0 and mean == first[0]:
        reasons["p_confirmed"] = "scores do not vary"
    # Phipson & Smyth 2010: with the observed among them.
    p = np.nan if reasons["p_confirmed"] else (1 + int((first >= mean).sum())) / (1 + len(first))
    return scalar({"unchosen": mean, "distance": distance, "p_confirmed": p, **known}, words({**reasons, **lacking}))


def _controls(part: xr.Dataset, name: str, objective: str) -> Iterator[str]:
    """Yields the threads of a run that maximize the same without being told of it; none for a thread of their kind."""
    names = [(n, o) for _, _, n, o in evolutions(part)]
    if _is_control(fact_of(part, "optimizer", name)):
        return
    for other, own in names:
        if other != name and own == objective and _is_control(fact_of(part, "optimizer", other)):
            yield other


def _is_control(optimizer: str) -> bool:
    return optimizer == "random" or optimizer.startswith(("shuffled:", "noise:"))


def _beginning(part: xr.Dataset, name: str, objective: str) -> tuple[FloatArray, NDArray[np.intp]]:
    """Returns the scores of the images with which an evolution began, without drift correction, and their rows.

    The first generation, and as many after it as make `BEGINNING` images, but never the later half of the evolution.
    """
    rows = np.flatnonzero((part["thread"].values == name) & (part["kind"].values == "evolved"))
    if not len(rows):
        return np.empty(0), rows
    _, index = np.unique(part["stimulus_id"].values[rows], return_index=True)
    rows = rows[np.sort(index)]
    generation = part["generation"].values[rows]
    numbers, counts = np.unique(generation, return_counts=True)
    enough = int(np.searchsorted(np.cumsum(counts), BEGINNING)) + 1
    rows = rows[np.isin(generation, numbers[: max(1, min(enough, len(numbers) // 2))])]
    scores = raw_scores(part, objective, rows)
    return scores[~np.isnan(scores)], rows


def _unchosen(part: xr.Dataset, name: str) -> NDArray[np.intp]:
    """Returns the rows of the selecting re-test that show the first image of `UNCHOSEN` that there is.

    The confirming one shows it only where it won.
    """
    again = (part["thread"].values == name) & (part["kind"].values == "retest")
    generation, ids = part["generation"].values, part["stimulus_id"].values
    for end in UNCHOSEN:
        own = np.flatnonzero(again & (ids == f"{name}-{end}"))
        if len(own):
            first: NDArray[np.intp] = own[generation[own] == generation[own].min()]
            return first
    return np.empty(0, np.intp)


def _distance(part: xr.Dataset, name: str, first: NDArray[np.intp], row: np.intp) -> float:
    """Returns how far a code lies from the middle of the first ones, over their mean distance from it; NaN if unknown.

    Where images do not depend on the length of their codes, all are taken at one length.
    """
    if "latent_code" not in part:
        return float("nan")
    codes = np.nan_to_num(part["latent_code"].isel(presentation=[*first, row]).values).astype(float)
    found = _apart(codes)
    if ALIKE[0] <= found <= ALIKE[1] or not _length_is_nothing(part, name, codes[-1]):
        return found
    return _apart(codes / np.maximum(np.linalg.norm(codes, axis=1, keepdims=True), 1e-300))


def _apart(codes: FloatArray) -> float:
    """Returns the distance of the last code from the mean of the others, over their mean distance from it."""
    middle = codes[:-1].mean(0)
    usual = float(np.linalg.norm(codes[:-1] - middle, axis=1).mean())
    return float(np.linalg.norm(codes[-1] - middle)) / usual if usual > 0 else float("nan")


def _length_is_nothing(part: xr.Dataset, name: str, code: FloatArray) -> bool:
    """Tells whether a code of half the length gives the same image; False where its generator cannot be had."""
    generator = recorded_generator(part, name)
    if generator is None or generator.space.bounded:
        return False
    code = code[: generator.space.dim]
    return bool(np.ptp(generator(np.stack([code, code / 2])), axis=0).max() < 1 / 255)


@at_door
def success_over_runs(
    recordings: xr.Dataset | Sequence[xr.Dataset] | Mapping[str, xr.Dataset],
    *,
    level: float = 0.95,
    permutations: int = 9999,
    seed: int = 0,
) -> xr.Dataset:
    """Tells over several units or runs whether evolutions succeed; each unit counts once, however often it was evolved.

    Where all runs hold control threads (``shuffled:``, ``noise:``, ``random``) for what is maximized, the confirmed
    response of the winner is compared with the mean of the controls' winners, which were chosen alike. Otherwise the
    re-tested image that no score of its own chose is compared with the mean of the first images. Differences are in
    standard deviations of the first images' scores, and are averaged within a unit (of a single unit: within a run).

    Args:
        recordings: Several runs, or one of several threads; see `concat`.
        level: Confidence level of the interval (Student's t).
        permutations: Random sign flips; all 2ⁿ where those are no more.
        seed: Seed of the flips.

    Returns:
        `difference` with `low` and `high`, `p` (sign flips, one-sided), `p_t` (Student's t, one-sided), `n`, and the
        coordinate `against`: "control" or "first". NaN with the reason where fewer than two units or runs can be told.

    Raises:
        RecordingError: There is no evolution.
        InvalidArgumentError: An argument does not fit.
    """
    check_within("level", level, 0.95)
    permutations = check_whole("permutations", permutations, 99)
    whole = recordings if isinstance(recordings, xr.Dataset) else concat(recordings)
    found = []
    for label, part, name, objective in evolutions(whole):
        if not _is_control(fact_of(part, "optimizer", name)):
            found.append((label, _target(part, objective), confirmed_rise(part, name, objective)))
    controlled = bool(found) and all(float(rise["n_controls"]) > 0 for *_, rise in found)
    by_unit = len({target for _, target, _ in found}) > 1
    groups: dict[str, list[float]] = {}
    for label, target, rise in found:
        difference = rise["winner"] - rise["control"] if controlled else rise["unchosen"] - rise["begin"]
        known = controlled or np.isfinite(rise["p_confirmed"])
        if known and float(rise["begin_sd"]) > 0 and np.isfinite(difference):
            groups.setdefault(target if by_unit else label, []).append(float(difference / rise["begin_sd"]))
    values = np.array([np.mean(group) for group in groups.values()])
    against = "control" if controlled else "first"
    if len(values) < 2:
        names = ("difference", "low", "high", "p", "p_t")
        nothing = all_nan(names, f"fewer than two units or runs can be told ({len(values)})")
        return nothing.assign(n=len(values)).assign_coords(against=against, level=level)
    ends = mean_interval(values, level=level)
    result = {
        "difference": float(values.mean()),
        "low": float(ends["low"]),
        "high": float(ends["high"]),
        "p": sign_flip(values, permutations, seed),
        "p_t": float(students_p(values, alternative="greater")),
        "n": len(values),
    }
    return scalar(result, str(ends["reason"].item()), against=against, level=level)


def sign_flip(values: FloatArray, permutations: int, seed: int) -> float:
    """Returns the one-sided p-value of a mean above 0 under flips of the values' signs (Fisher 1935, chapter 21)."""
    n = len(values)
    if 2**n <= permutations + 1:
        signs = np.array(list(product((1, -1), repeat=n)))
        means = signs @ values
        return float((means >= values.sum() - 1e-12 * np.abs(values).sum()).mean())
    signs = named_generator(seed, "sign flips").choice((-1, 1), (permutations, n))
    reached = int((signs @ values >= values.sum() - 1e-12 * np.abs(values).sum()).sum())
    return (1 + reached) / (1 + permutations)


def _target(part: xr.Dataset, objective: str) -> str:
    """Returns what was maximized, by the names of the units."""
    names = part["neuroid_id"].values.tolist()
    columns = sorted(parse_objective(objective).columns or range(len(names)))
    subject = str(part["subject"].item()) if "subject" in part.coords else ""
    return f"{subject}: {objective} of {', '.join(str(names[c]) for c in columns)}"
