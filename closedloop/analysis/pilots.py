"""What a pilot recording says of the evolutions to come: noise, drift, losses and the rise, with their uncertainty."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.optimize import curve_fit

from closedloop.analysis.planning import EXTREMES, NoiseModel
from closedloop.analysis.runs import evolutions
from closedloop.analysis.summary import single_scores
from closedloop.checks import check_whole
from closedloop.errors import InvalidArgumentError, RecordingError, closest
from closedloop.interfaces import FloatArray
from closedloop.recording.layout import REFERENCE
from closedloop.recording.lean import lost
from closedloop.seeds import named_generator
from closedloop.signatures import at_door

#: Generations that a rise can be read from.
LEAST = 4


@at_door
def pilot_models(
    recording: xr.Dataset, thread: str | None = None, *, resamples: int = 200, seed: int = 0
) -> list[NoiseModel]:
    """Measures what `plan` needs in an evolution: the estimate first, then one model for each bootstrap resample.

    Noise and Fano factor come from images that were shown several times, drift from the references over time, re-tests
    left out (0 where they were not shown again between), the rise from an exponential that is fitted to the means of
    generations, weighted by their images. Images are resampled within their generation, presentations within their
    image.

    Args:
        recording: See `closedloop.open_recording`; of one run, with references.
        thread: Which evolution; None for the only one.
        resamples: Bootstrap resamples.
        seed: Of the resamples.

    Raises:
        RecordingError: It has no references, no image that was shown twice, or too few generations.
        InvalidArgumentError: No such thread, or several and none was named.
    """
    check_whole("resamples", resamples, 0)
    pilot = _read(recording, thread)
    rng = named_generator(seed, "pilot")
    return [_model(pilot), *(_model(pilot.resampled(rng)) for _ in range(resamples))]


@dataclass(frozen=True)
class _Pilot:
    """Single scores of a thread, and of references by the thread's objective.

    Attributes:
        score: ``(n,)``, without lost ones.
        image: Number of the image of each, ``(n,)``.
        generation: Of each; -1 for references and re-tests, ``(n,)``.
        when: Number of the presentation, ``(n,)``.
        natural: Whether each shows a reference, ``(n,)``.
        winner: Whether each shows the image that was confirmed, in a re-test, ``(n,)``.
        retest: Whether each belongs to a re-test, ``(n,)``.
        lost: Share of presentations that were lost.
    """

    score: FloatArray
    image: NDArray[np.int64]
    generation: NDArray[np.int64]
    when: FloatArray
    natural: NDArray[np.bool_]
    winner: NDArray[np.bool_]
    retest: NDArray[np.bool_]
    lost: float

    def resampled(self, rng: np.random.Generator) -> _Pilot:
        """Draws images within generations, and presentations of references and re-tests within their image.

        Of n presentations a resample has (n - 1) / n of the variance; their deviations are made larger by as much.
        """
        rows: list[NDArray[np.int64]] = []
        wider = self.score.copy()
        for generation in np.unique(self.generation[self.generation >= 0]):
            own = np.flatnonzero(self.generation == generation)
            rows.append(rng.choice(own, len(own)))
        rest = np.flatnonzero(self.generation < 0)
        for image in np.unique(self.image[rest]):
            own = rest[self.image[rest] == image]
            mean, n = self.score[own].mean(), len(own)
            wider[own] = mean + (self.score[own] - mean) * np.sqrt(n / max(n - 1, 1))
            rows.append(rng.choice(own, n))
        return replace(self, score=wider).taken(np.concatenate(rows))

    def taken(self, rows: NDArray[Any]) -> _Pilot:
        """Returns these rows."""
        names = ("score", "image", "generation", "when", "natural", "winner", "retest")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})


def _read(recording: xr.Dataset, thread: str | None) -> _Pilot:
    known = {label: (part, name, objective) for label, part, name, objective in evolutions(recording)}
    if thread is None and len(known) > 1:
        raise InvalidArgumentError(f"thread: expected one of {', '.join(known)}, got None.")
    label = next(iter(known)) if thread is None else thread
    if label not in known:
        raise InvalidArgumentError(f"thread: no thread {label!r}.{closest(label, known)}")
    part, name, objective = known[label]
    own = np.isin(part["thread"].values, [name, REFERENCE])
    rows = np.flatnonzero(own)
    scores = single_scores(part, objective, rows)
    kind, threads = part["kind"].values[rows], part["thread"].values[rows]
    ids, image = np.unique(part["stimulus_id"].values[rows].astype(str), return_inverse=True)
    natural = threads == REFERENCE
    generation = np.where((kind == "evolved") & ~natural, part["generation"].values[rows], -1)
    retest = np.flatnonzero((kind == "retest") & ~natural)
    confirmed = image == image[retest[-1]] if len(retest) else np.zeros(len(rows), bool)
    keep = ~np.isnan(scores)
    pilot = _Pilot(
        score=scores,
        image=image.astype(np.int64),
        generation=generation,
        when=rows.astype(float),
        natural=natural,
        winner=confirmed & (kind == "retest"),
        retest=kind == "retest",
        lost=float(lost(part)[rows].mean()),
    ).taken(keep)
    if not pilot.natural.any():
        raise RecordingError("recording: expected reference images to compare with, this pilot has none.")
    if not EXTREMES[0] <= (largest := float(np.abs(pilot.score).max(initial=0))) <= EXTREMES[1]:
        raise RecordingError(
            f"recording: expected responses up to {EXTREMES[1]:g}, and some above {EXTREMES[0]:g}, got {largest:.3g} "
            "as the largest; record them in another unit."
        )
    if len(np.unique(pilot.generation[pilot.generation >= 0])) < LEAST:
        raise RecordingError(
            f"recording: expected at least {LEAST} generations to read the rise from; state a NoiseModel instead."
        )
    if np.bincount(pilot.image[pilot.generation < 0], minlength=len(ids)).max() < 2:
        raise RecordingError("recording: expected images that were shown at least twice, to measure noise; none was.")
    return pilot


def _model(pilot: _Pilot) -> NoiseModel:
    """Returns the estimate from one pilot."""
    drift = _drift(pilot)
    score = pilot.score / (1 + drift) ** (pilot.when / 1000)
    best = _best_reference(pilot, score)
    fano = _fano(pilot, score)
    start, ceiling, pace, end = _rise(pilot, score / best)
    lift = float(score[pilot.winner].mean()) / best / end if pilot.winner.any() else 1.0
    signal = _signal(pilot, score, fano)
    return NoiseModel(
        spikes=best,
        fano=fano,
        drift=drift,
        lost=min(pilot.lost, 0.999),
        start=start,
        ceiling=ceiling,
        pace=pace,
        signal=signal,
        lift=max(lift, 0.01),
    )


def _drift(pilot: _Pilot) -> float:
    """Returns the relative change of the references' responses in 1,000 presentations, by least squares.

    Without re-tests: what is re-tested was chosen for its first responses, and falls back from those without any drift.
    """
    n = np.flatnonzero(pilot.natural & ~pilot.retest)
    score, image, when = pilot.score[n], pilot.image[n], pilot.when[n] / 1000
    shown = np.maximum(np.bincount(image), 1)
    expected = (np.bincount(image, score) / shown)[image]
    x = expected * (when - (np.bincount(image, when) / shown)[image])
    if (x**2).sum() <= 0:
        return 0.0  # none was shown at two times, or none drives the unit
    slope = float((x * (score - expected)).sum() / (x**2).sum())
    return float(np.clip(slope, -0.9, 2.0))


def _best_reference(pilot: _Pilot, score: FloatArray) -> float:
    """Returns the mean response to the reference that was confirmed, the one shown most often."""
    shown = np.bincount(pilot.image[pilot.natural])
    total = np.bincount(pilot.image[pilot.natural], score[pilot.natural])
    mean = np.where(shown > 0, total / np.maximum(shown, 1), -np.inf)
    often = shown == shown.max()
    best = float(np.where(often, mean, -np.inf).max())
    if best <= 0:
        raise RecordingError(
            f"recording: expected a best reference with a response above 0 to compare with, got {best:.3g}."
        )
    return best


def _fano(pilot: _Pilot, score: FloatArray) -> float:
    """Returns variance over mean, pooled over the images that were shown several times."""
    rest = pilot.generation < 0
    n = np.bincount(pilot.image[rest])
    mean = np.bincount(pilot.image[rest], score[rest]) / np.maximum(n, 1)
    squares = np.bincount(pilot.image[rest], (score[rest] - mean[pilot.image[rest]]) ** 2)
    several = (n > 1) & (mean > 0)
    noise, level = squares[several].sum(), ((n - 1) * mean)[several].sum()
    return max(float(noise / level), 1e-6) if level > 0 else 1.0


def _signal(pilot: _Pilot, score: FloatArray, fano: float) -> float:
    """Returns the coefficient of variation over the images of a generation, without that of noise."""
    found, weight = 0.0, 0.0
    for generation in np.unique(pilot.generation[pilot.generation >= 0]):
        own = pilot.generation == generation
        n = np.bincount(pilot.image[own])
        means = (np.bincount(pilot.image[own], score[own]) / np.maximum(n, 1))[n > 0]
        if len(means) > 1 and means.mean() > 0:
            noise = fano * means.mean() / n[n > 0].mean()
            found += (len(means) - 1) * (means.var(ddof=1) - noise) / means.mean() ** 2
            weight += len(means) - 1
    return max(float(np.sqrt(max(found / weight, 0.0))), 0.02) if weight else 0.25


def _rise(pilot: _Pilot, relative: FloatArray) -> tuple[float, float, float, float]:
    """Fits the exponential to the means of generations: start, ceiling, pace in images, and where the pilot ended."""
    own = pilot.generation >= 0
    number = np.unique(pilot.generation[own])
    mean = np.array([relative[pilot.generation == g].mean() for g in number])
    size = np.array([(pilot.generation == g).sum() for g in number], float)
    images = np.array([len(np.unique(pilot.image[pilot.generation == g])) for g in number], float)
    before = np.concatenate([[0.0], np.cumsum(images)[:-1]])

    def curve(i: FloatArray, start: float, ceiling: float, pace: float) -> FloatArray:
        return np.asarray(ceiling + (start - ceiling) * np.exp(-i / pace))

    top, low = max(float(mean.max()), 0.02), max(float(mean[0]), 0.01)
    total = float(images.sum())
    bounds = ([0.001, 0.01, images.mean()], [3 * top + 0.1, 3 * top + 0.1, 5 * total])
    guess = [min(low, 3 * top), top, max(total / 3, images.mean() * 1.01)]
    try:
        fitted, _ = curve_fit(curve, before, mean, guess, sigma=1 / np.sqrt(size), bounds=bounds)
    except RuntimeError:  # it did not converge: no more is known than both ends
        fitted = np.array(guess)
    start, ceiling, pace = map(float, fitted)
    return start, ceiling, pace, float(curve(before[-1:], *fitted)[0])
