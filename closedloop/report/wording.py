"""Writes the numbers and sentences of a report."""

from __future__ import annotations

import numpy as np
import xarray as xr

from closedloop.analysis import evolved_vs_reference, naturalness, success
from closedloop.analysis.provenance import proposers_in_words
from closedloop.analysis.students import half_width
from closedloop.analysis.summary import Estimate, ThreadSummary, beside
from closedloop.images.naturalness import MEASURE_WORDS
from closedloop.readable import NO_NUMBER, number, with_error

#: How the bootstrap intervals are made: the defaults of `evolved_vs_reference`.
HOW_BOOTSTRAPPED = "BCa, 2,000 resamples, seed 0"


def true_minus(text: str) -> str:
    """Returns the text of a number with the sign that typographers have for it, for pages."""
    return text.replace("-", "−")


def estimate(value: Estimate) -> str:
    """Writes a re-tested mean ± its standard error."""
    return with_error(value.mean, value.sem) if value.n else "not re-tested"


def interval(value: Estimate, level: float = 0.95) -> str:
    """Writes the confidence interval of a mean, by Student's t with n − 1 degrees of freedom; a dash below n = 2."""
    if value.n < 2:
        return NO_NUMBER
    half = float(half_width(value.sem, value.n - 1, level))
    return f"{number(value.mean - half)} to {number(value.mean + half)}"


def presentations(value: Estimate) -> str:
    """Writes how often it was shown, and whether the answers differed."""
    if value.n == 0:
        return "no fresh presentation"
    same = ", all alike" if value.n > 1 and value.sem == 0 else ""
    return f"{value.n} fresh presentation{'s' * (value.n != 1)}{same}"


def verdict(summary: ThreadSummary, references: int) -> str:
    """Writes the result in one sentence, from re-tested means only."""
    if not summary.evolved.n:
        return f"No image has been re-tested for {summary.target} yet, so no response is reported."
    found = f"{estimate(summary.evolved)} ({presentations(summary.evolved)})"
    head = f"The evolved image drives {summary.target} to {found}"
    if not summary.natural.n:
        return f"{head}; no reference image was re-tested beside it."
    best = f"the best of {references} reference images ({estimate(summary.natural)}, {presentations(summary.natural)})"
    if np.isfinite(summary.ratio):
        return f"{head}: {with_error(summary.ratio, summary.ratio_sem)} times {best}."
    difference = summary.evolved.mean - summary.natural.mean
    # The two means are independent: their variances add.
    error = float(np.hypot(summary.evolved.sem, summary.natural.sem))
    return f"{head}: {with_error(abs(difference), error)} {'above' if difference >= 0 else 'below'} {best}."


def table_rows(recording: xr.Dataset, summaries: list[ThreadSummary]) -> list[tuple[str, list[str]]]:
    """Returns all that `summarize` gives and the tests beside it, a row for each measure, a column for each thread."""
    tests = [_tests(recording, s) for s in summaries]
    raw = "; without the drift correction" if any(s.drift != "none" for s in summaries) else ""
    return [
        ("target", [s.target for s in summaries]),
        ("what was maximized", [s.objective for s in summaries]),
        ("evolved image, re-tested mean ± s.e.m.", [str(s.evolved) for s in summaries]),
        ("95 % interval of the mean", [interval(s.evolved) for s in summaries]),
        ("fresh presentations", [str(s.evolved.n) for s in summaries]),
        ("best reference, re-tested mean ± s.e.m.", [str(s.natural) for s in summaries]),
        ("95 % interval of the mean", [interval(s.natural) for s in summaries]),
        ("fresh presentations", [str(s.natural.n) for s in summaries]),
        ("evolved ÷ best reference ± s.e.", [with_error(s.ratio, s.ratio_sem) for s in summaries]),
        *((name, [found[name] for found in tests]) for name in tests[0]),
        (f"highest score while evolving (optimistic{raw})", [number(s.noisy_maximum) for s in summaries]),
        ("winner’s curse of that image", [number(beside(s.curse, s.noisy_maximum)) for s in summaries]),
        ("evolved images shown", [number(s.images) for s in summaries]),
        ("generations", [number(s.generations) for s in summaries]),
        ("presentations without a response", [number(s.lost) for s in summaries]),
        *_proposers(recording, summaries),
        ("names of the two images", [_names(s) for s in summaries]),
    ]


def _proposers(recording: xr.Dataset, summaries: list[ThreadSummary]) -> list[tuple[str, list[str]]]:
    """Returns a row that says who proposed the images, where the run says it."""
    words = [proposers_in_words(recording, s.thread) for s in summaries]
    return [("who proposed the images", [word or NO_NUMBER for word in words])] if any(words) else []


def natural_rows(recording: xr.Dataset, summary: ThreadSummary) -> list[tuple[str, list[str]]]:
    """Returns how natural the evolved image looks, a row for each measure that was recorded.

    In each row the evolved image, the best reference, the band of the references, and where it lies.
    """
    found = naturalness(recording, summary.thread)
    rows = []
    for name, word in MEASURE_WORDS.items():
        at = found.sel(measure=name)
        if np.isfinite(at["evolved"]):
            low, high, inside = (float(at[key]) for key in ("low", "high", "inside"))
            band = f"{number(low, 3)} to {number(high, 3)}" if np.isfinite([low, high]).all() else NO_NUMBER
            place = NO_NUMBER if np.isnan(inside) else "inside" if inside else "outside"
            cells = [number(float(at["evolved"]), 3), number(float(at["best_reference"]), 3), band]
            rows.append((word, [*map(true_minus, cells), place]))
    return rows


def _tests(recording: xr.Dataset, summary: ThreadSummary) -> dict[str, str]:
    """Returns what `closedloop.analysis` says of one thread, in words by name."""
    names = (
        "95 % interval of the ratio",
        "AUC, evolved against references",
        "effect size",
        "re-tested end against first images",
        "last against first generations",
    )
    if not summary.images:
        return dict.fromkeys(names, NO_NUMBER)
    found = evolved_vs_reference(recording, summary.thread)
    cells = (_range(found, "ratio"), _measure(found, "auc"), _measure(found, "effect_size"))
    return dict(zip(names, (*cells, *_success(recording, summary)), strict=True))


def _measure(found: xr.Dataset, name: str) -> str:
    """Writes a number, with its interval where it has one."""
    interval_ = _range(found, name)
    return number(float(found[name]), 3) + (f" ({interval_})" if interval_ != NO_NUMBER else "")


def _range(found: xr.Dataset, name: str) -> str:
    """Writes the interval of a number; a dash where it has none."""
    low, high = (float(found[f"{name}_{end}"]) for end in ("low", "high"))
    return f"{number(low, 3)} to {number(high, 3)}" if np.isfinite([low, high]).all() else NO_NUMBER


def _success(recording: xr.Dataset, summary: ThreadSummary) -> tuple[str, str]:
    """Writes the two tests of the rise: of a re-tested image, and of the generations (Holm over the threads)."""
    found = success(recording, permutations=1, alternative="end").sel(thread=summary.thread)
    return _rise(found, "begin", "unchosen", "p_confirmed"), _rise(found, "first", "last", "p_adjusted")


def _rise(found: xr.Dataset, before: str, after: str, name: str) -> str:
    """Writes two means and the p-value of their difference; a dash where it has none."""
    first, last, p = (float(found[key]) for key in (before, after, name))
    if np.isnan(p):
        return NO_NUMBER
    return f"{number(first)} → {number(last)}, p {'< 0.001' if p < 0.001 else f'= {p:.2g}'}"


def _names(summary: ThreadSummary) -> str:
    """Joins the names of the evolved image and the best reference, of those that were re-tested."""
    names = [e.stimulus_id for e in (summary.evolved, summary.natural) if e.n]
    return ", ".join(names) or NO_NUMBER
