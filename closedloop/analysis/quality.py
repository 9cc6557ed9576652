"""What a reader must know before trusting the numbers of a run, from its recording alone.

Each caution has a rule that is stated where it is computed; none is a matter of taste, and none is silent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import stats

from closedloop.analysis import holm, naturalness, reference_drift, success
from closedloop.analysis.students import welch
from closedloop.analysis.summary import ThreadSummary, is_evolution, summarize, thread_objectives
from closedloop.images.naturalness import CLIPPED_SHARE, IMAGE_MEASURES, MEASURE_WORDS, MEASURES, clipped, code_measures
from closedloop.interfaces import FloatArray
from closedloop.loop.stale import Watch
from closedloop.objectives import parse_objective
from closedloop.readable import counted, percent
from closedloop.recipes import KeptParts, keeping
from closedloop.recording.layout import REFERENCE
from closedloop.recording.lean import OWN, is_lean, lost
from closedloop.recording.pictures import Lookup
from closedloop.recording.render import recorded_generator
from closedloop.recording.titles import recorded_title

#: An evolution shorter than this many generations is too short to say whether it still rises, or at what ceiling it is.
LEAST_GENERATIONS = 10
#: Level of the tests below: one false alarm in a hundred.
LEVEL = 0.01
#: What is looked for, in words; the first three in every run, the others in evolutions.
CHECKS = (
    "an unfinished run",
    "lost presentations",
    "answers to other images",
    "drift",
    "a generator that ignores its codes",
    "a dead unit",
    "no improvement",
    "an evolution still rising",
    "a ceiling",
    "a saturated image",
    "an image unlike the references",
    "codes outside the prior",
    "a missing re-test",
    "missing references",
)


@dataclass(frozen=True)
class Caution:
    """One thing that a reader must know.

    Attributes:
        kind: A word for it: "unfinished", "lost", "stale", "drift", "same-images", "dead-unit", "not-converged",
            "not-improved", "ceiling", "saturated", "unnatural", "left-prior", "no-retest", "no-reference" or
            "deterministic".
        thread: Whom it concerns; empty for the whole run.
        text: What was seen, with numbers.
        cure: What to do.
        serious: Whether a number must not be used before this is dealt with; otherwise a note.
    """

    kind: str
    thread: str
    text: str
    cure: str = ""
    serious: bool = True

    def __str__(self) -> str:
        head = f"Thread {self.thread}: {self.text}" if self.thread else self.text[:1].upper() + self.text[1:]
        return f"{head} {self.cure}".rstrip()


def cautions(recording: xr.Dataset, pictures: Lookup | None = None, run: str = "RUN") -> list[Caution]:
    """Looks at a recording for whatever makes its numbers less than they seem.

    Args:
        recording: See `closedloop.open_recording`.
        pictures: With it, for instance ``Pictures(recording)``, the evolved images are looked at too.
        run: The run's folder as it stands in commands.

    Returns:
        The cautions: of the whole run first, then of each thread; within each, serious ones first.
    """
    found = [*_unfinished(recording, run), *_lost(recording), *_stale(recording)]
    if is_evolution(recording):
        found += _drift(recording)
        with keeping(KeptParts()):  # many threads share a generator
            for summary in summarize(recording):
                own = [*_of_thread(recording, summary), *_of_image(recording, summary, pictures)]
                found += sorted(own, key=lambda c: not c.serious)
        found += _no_reference(recording)
    return found


def _of_thread(recording: xr.Dataset, summary: ThreadSummary) -> list[Caution]:
    """Looks at one thread's evolution and re-test."""
    scores = _Scores.of(recording, summary.thread)
    if len(scores.score) == 0:
        return []  # nothing was scored: the run has just begun, or all was lost, which is said of the run
    if same := _same_images(recording, summary):
        return same
    if scores.dead:
        return [_dead(summary, scores)]
    found = [*_not_improved(recording, summary), *_not_converged(summary, scores), *_ceiling(summary, scores)]
    if bool(recording.attrs.get("finished", 1)) and summary.evolved.n == 0:
        text = "no image was re-tested, so no response is reported; scores while evolving are optimistic."
        found.append(Caution("no-retest", summary.thread, text, "Set retest_candidates above 0."))
    if summary.evolved.n > 1 and summary.evolved.sem == 0:
        text = f"all {summary.evolved.n} re-tests gave the same response: the subject is deterministic, the s.e. is 0."
        found.append(Caution("deterministic", summary.thread, text, serious=False))
    return found


@dataclass(frozen=True)
class _Scores:
    """The scores of an evolution: of each image ``(n,)`` with its generation ``(n,)``, and each generation's mean."""

    score: FloatArray
    generation: NDArray[np.int32]
    means: FloatArray

    @classmethod
    def of(cls, recording: xr.Dataset, thread: str) -> _Scores:
        own = (recording["thread"].values == thread) & (recording["kind"].values == "evolved")
        score, generation = recording["score"].values[own], recording["generation"].values[own]
        score, generation = score[np.isfinite(score)], generation[np.isfinite(score)]
        means = np.array([score[generation == g].mean() for g in np.unique(generation)])
        return cls(score, generation, means)

    @property
    def dead(self) -> bool:
        """Whether every image of two or more generations had the very same score."""
        return len(self.means) > 1 and bool((self.score == self.score[0]).all())

    def part(self, start: float, stop: float) -> FloatArray:
        """Returns the generation means of a part of the evolution, from 0 to 1."""
        n = len(self.means)
        return self.means[round(start * n) : round(stop * n)]


def together(found: Sequence[Caution], several: int = 3) -> list[Caution]:
    """Returns cautions in which those of one kind that concern many threads are one, with the first of them in full.

    Args:
        found: In their order.
        several: So many threads, or fewer, are named each by itself.
    """
    of_kind: dict[tuple[str, bool], list[Caution]] = {}
    for caution in found:
        of_kind.setdefault((caution.kind, caution.serious), []).append(caution)
    joined: list[Caution] = []
    for alike in of_kind.values():
        threads = [caution.thread for caution in alike if caution.thread]
        if len(threads) <= several:
            joined += alike
            continue
        first = alike[0]
        text = f"{len(threads)} threads ({', '.join(threads[:several])} …), the first of them: {first.text}"
        joined.append(Caution(first.kind, "", text, first.cure, first.serious))
    return joined


def _unfinished(recording: xr.Dataset, run: str) -> list[Caution]:
    if bool(recording.attrs.get("finished", 1)):
        return []
    text = f"the run is not finished: {recording.sizes['presentation']} presentations are recorded so far."
    return [Caution("unfinished", "", text, f"Go on with: closedloop resume {run}")]


def _lost(recording: xr.Dataset) -> list[Caution]:
    """Warns of lost presentations: those of which all responses are NaN."""
    gone = lost(recording)
    if not gone.any():
        return []
    threads, counts = np.unique(recording["thread"].values[gone].astype(str), return_counts=True)
    parts = ", ".join(f"{name} {count}" for name, count in zip(threads, counts, strict=True))
    share = gone.mean()
    text = f"{gone.sum()} of {len(gone)} presentations ({percent(share, 1)}) gave no response: {parts}."
    never = _never_answered(recording, gone)
    cure = "Each of their images was shown again."
    if never:
        cure = f"{counted(never, 'image')} {'has' if never == 1 else 'have'} no response at all."
    return [Caution("lost", "", text, cure, serious=bool(share > 0.05 or never))]


def _stale(recording: xr.Dataset) -> list[Caution]:
    """Warns where responses repeat and images do not, more than by chance (`closedloop.loop.stale`).

    Only of recordings made here, whose presentations stand in their random order.
    """
    if str(recording.attrs.get("reason", "")).startswith("imported"):
        return []
    names = [str(name) for name in recording["stimulus_id"].values]
    keys: list[Any] = list(names)
    if "latent_code" in recording:
        codes = recording["latent_code"].values
        keys = [name if np.isnan(c).all() else c.tobytes() for name, c in zip(names, codes, strict=True)]
    watch, responses = Watch(), recording[OWN if is_lean(recording) else "responses"].values
    generation = recording["generation"].values
    for rows in np.split(np.arange(len(names)), np.flatnonzero(np.diff(generation)) + 1):
        watch.see([keys[i] for i in rows], responses[rows])
    if not watch.found:
        return []
    text = f"responses look as though they were those to other images: {watch.found}."
    cure = "Check that the rig reads each one after its image, and counts triggers rightly."
    return [Caution("stale", "", text, cure)]


def _never_answered(recording: xr.Dataset, gone: NDArray[np.bool_]) -> int:
    """Counts the images of a block that were lost in each of their presentations."""
    block = list(zip(recording["generation"].values.tolist(), recording["stimulus_id"].values.tolist(), strict=True))
    answered = {key for key, lost in zip(block, gone, strict=True) if not lost}
    return len(set(block) - answered)


def _dead(summary: ThreadSummary, scores: _Scores) -> Caution:
    """Warns that every evolved image gave the same score."""
    value = scores.score[0]
    what = "the unit never responded" if value == 0 else f"the score was {value:.4g} for every image"
    text = f"{what}: {len(scores.score)} images in {len(scores.means)} generations gave no direction to evolve in."
    return Caution("dead-unit", summary.thread, text, "Try another unit, or a wider first step.")


def _same_images(recording: xr.Dataset, summary: ThreadSummary) -> list[Caution]:
    """Warns where codes differ in two or more generations, and all their images have the very same measures.

    The measures are those of `images.naturalness` that are numbers for every image; of images without contrast there
    is but one, which many greys share, and nothing is said. Nor is it where all codes are the same.
    """
    own = (recording["thread"].values == summary.thread) & (recording["kind"].values == "evolved")
    names = [name for name in IMAGE_MEASURES if name != "clipped"]
    known = set(map(str, recording.variables))
    if not {"latent_code", *names} <= known or len(np.unique(recording["generation"].values[own])) < 2:
        return []
    measured = np.stack([recording[name].values[own] for name in names])
    measured = measured[~np.isnan(measured).any(1)]
    if not len(measured) or (measured != measured[:, :1]).any():
        return []
    codes = len(np.unique(recording["latent_code"].values[own], axis=0))
    if codes < 2:
        return []
    text = f"all {codes} different codes of the evolution gave images that look the same: the generator ignores them."
    cure = "Mend the generator, or take a wider first step if codes move its images by less than a step of 8 bits."
    return [Caution("same-images", summary.thread, text, cure)]


def _not_improved(recording: xr.Dataset, summary: ThreadSummary) -> list[Caution]:
    """Warns where the images of the last two generations do not score higher than those of the first two.

    The test is that of `closedloop.analysis.success` with "end", which an evolution under way has, too.
    """
    found = success(recording, summary.thread, permutations=1, alternative="end")
    if float(found["success"]) != 0:
        return []
    text = (
        f"the evolution did not improve: last two generations {float(found['last']):.4g}, first two "
        f"{float(found['first']):.4g} (p = {float(found['p']):.2g})."
    )
    return [Caution("not-improved", summary.thread, text, "Try another generator, more images, or more repeats.")]


def _not_converged(summary: ThreadSummary, scores: _Scores) -> list[Caution]:
    """Warns where the generation means of the last fifth lie above those of the fifth before.

    By more than a twentieth of the whole rise, and significantly (Welch's t-test on the means).
    """
    if len(scores.means) < LEAST_GENERATIONS:
        return []
    last, before, first = scores.part(0.8, 1.0), scores.part(0.6, 0.8), scores.part(0.0, 0.1)
    rise, whole = last.mean() - before.mean(), last.mean() - first.mean()
    if rise <= 0.05 * whole or not stats.t.sf(*welch(last, before)) < LEVEL:
        return []
    text = (
        f"the evolution was still rising when it ended: its last fifth gained {rise:.3g}, "
        f"{percent(rise / whole)} of the whole rise."
    )
    return [Caution("not-converged", summary.thread, text, "More images would find a stronger stimulus.")]


def _ceiling(summary: ThreadSummary, scores: _Scores) -> list[Caution]:
    """Warns where a tenth of the last quarter's images, five or more, have exactly the highest score of the evolution.

    And at least twice as many as have the score below it: counts of spikes are often equal, but thin out upwards.
    """
    if len(scores.means) < LEAST_GENERATIONS:
        return []
    numbers = np.unique(scores.generation)
    last = scores.score[scores.generation >= numbers[-len(numbers) // 4]]
    values, counts = np.unique(last, return_counts=True)
    fewest = max(5, len(last) / 10, *(2 * counts[-2:-1]))
    if values[-1] < scores.score.max() or counts[-1] < fewest:
        return []
    share = percent(counts[-1] / len(last))
    text = f"the score is at a ceiling: {share} of the last quarter's images have exactly {last.max():.4g}."
    return [Caution("ceiling", summary.thread, text, "Differences above it are invisible; record before saturation.")]


def _of_image(recording: xr.Dataset, summary: ThreadSummary, pictures: Lookup | None) -> list[Caution]:
    """Looks at the evolved image."""
    if not summary.evolved.n:
        return []
    saturated = _saturated(recording, summary, pictures)
    return [*saturated, *_unnatural(recording, summary, bool(saturated)), *_left_prior(recording, summary)]


def _saturated(recording: xr.Dataset, summary: ThreadSummary, pictures: Lookup | None) -> list[Caution]:
    """Warns where `CLIPPED_SHARE` or more of the evolved image is black or white (`naturalness.clipped`)."""
    share = _clipped_share(recording, summary.evolved.stimulus_id, pictures)
    if not share >= CLIPPED_SHARE:
        return []
    text = f"the evolved image is saturated: {percent(share)} of its values are black or white."
    return [Caution("saturated", summary.thread, text, "Bound the contrast of the generator (fourier: shell).")]


def _clipped_share(recording: xr.Dataset, name: str, pictures: Lookup | None) -> float:
    """Returns the share as it was recorded; in older runs, of the picture; NaN where there is none."""
    if "clipped" in recording.coords:
        return float(recording["clipped"].values[recording["stimulus_id"].values == name][0])
    picture = None if pictures is None else pictures(name)
    return float("nan") if picture is None else float(clipped(picture[None] / 255)[0])


def _unnatural(recording: xr.Dataset, summary: ThreadSummary, saturated: bool) -> list[Caution]:
    """Notes where a measure of `images.naturalness` puts the evolved image outside the references' central 95 %.

    A note, for a generator without a prior of photographs leaves them by its nature. Black and white values are left
    out where `_saturated` speaks of them; the length of codes is what `_left_prior` speaks of.
    """
    found = naturalness(recording, summary.thread)
    names = [m for m in MEASURES if float(found["inside"].sel(measure=m)) == 0 and not (saturated and m == "clipped")]
    if not names:
        return []
    parts = []
    for name in names:
        value, low, high = (float(found[key].sel(measure=name)) for key in ("evolved", "low", "high"))
        parts.append(f"{MEASURE_WORDS[name]} {value:.3g} ({low:.3g} to {high:.3g})")
    text = f"the evolved image lies outside 95 % of the references: {', '.join(parts)}."
    return [Caution("unnatural", summary.thread, text, serious=False)]


def _left_prior(recording: xr.Dataset, summary: ThreadSummary) -> list[Caution]:
    """Warns where the selected code is twice as long as those of the generator's prior, and its image shows it.

    A Gaussian code of many coordinates is as long as the prior's standard deviation times the root of their number.
    Where images do not depend on the length of their codes (``fourier`` on its shell), it says nothing. Bounded codes
    cannot leave their prior; their images are looked at by `_saturated`.
    """
    generator = recorded_generator(recording, summary.thread)
    if generator is None or generator.space.bounded:
        return []
    space = generator.space
    row = np.flatnonzero(recording["stimulus_id"].values == summary.evolved.stimulus_id)[0]
    code = recording["latent_code"].isel(presentation=row).values[: space.dim]
    ratio = code_measures(code, space)["code_norm"]
    if not ratio >= 2 or np.ptp(generator(np.stack([code, code / ratio])), axis=0).max() < 1 / 255:
        return []
    text = f"the evolution left the generator's prior: the selected code is {ratio:.1f} times as long as the prior's."
    cure = "Its image shows what the generator makes beyond what it was made for; bound the codes."
    return [Caution("left-prior", summary.thread, text, cure)]


def _drift(recording: xr.Dataset) -> list[Caution]:
    """Warns where responses to references change over the run by a tenth of their mean, significantly (Holm).

    Only the units that an objective counts are looked at; of them the one that changed most is named.
    """
    every = range(recording.sizes["neuroid"])
    objectives = [parse_objective(objective) for _, objective in thread_objectives(recording)]
    columns = sorted({unit for objective in objectives for unit in objective.columns or every})
    found = reference_drift(recording.isel(neuroid=columns))
    p, change = holm(found["p"].values), found["change"].values
    drifting = np.flatnonzero((p < LEVEL) & (np.abs(change) > 0.1))
    if len(drifting) == 0:
        return []
    worst = drifting[np.argmax(np.abs(change[drifting]))]
    unit = recorded_title(recording, columns[worst])
    text = (
        f"responses drifted: the answers of {unit} to the same reference images changed by "
        f"{percent(change[worst], sign='+')} in the course of the evolution (p = {p[worst]:.2g})."
    )
    cure = "Scores of different generations cannot be compared; the re-tested means, shown side by side, can."
    return [Caution("drift", "", text, cure)]


def _no_reference(recording: xr.Dataset) -> list[Caution]:
    if (recording["thread"].values == REFERENCE).any():
        return []
    text = "no reference image was shown: nothing says how strong a response is for this subject."
    return [Caution("no-reference", "", text, "Give references, a folder of natural images.", serious=False)]
