"""What a session learns from a block: scores without drift, told to the optimizers, and steps along gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, final

import numpy as np

from closedloop.interfaces import FloatArray, State, Subject
from closedloop.loop.blocks import Block
from closedloop.loop.drift_correction import DriftCorrection
from closedloop.loop.failing import Failing
from closedloop.loop.presenter import Shown
from closedloop.loop.reference_pool import ReferencePool
from closedloop.loop.sequential import Naturals
from closedloop.loop.settings import Settings
from closedloop.loop.thread import Evolution, Thread
from closedloop.objectives.evaluating import looks_at_images
from closedloop.recording.layout import REFERENCE

if TYPE_CHECKING:
    from closedloop.gradients.path import GradientPath


@final
class Learning:
    """Tells the threads what their images brought.

    Args:
        subject: The network or animal that is shown images.
        evolutions: The threads under way.
        references: The reference images.
        settings: The session's numbers.
        failing: What becomes of threads that fail.
        compares: Whether a stopping rule compares threads' images with the references.
    """

    def __init__(
        self,
        subject: Subject,
        evolutions: Sequence[Evolution],
        references: ReferencePool,
        settings: Settings,
        failing: Failing,
        compares: bool = False,
    ) -> None:
        self._compares = compares and len(references) > 0
        self._evolutions, self._references, self._failing = evolutions, references, failing
        self._path = _gradient_path(subject, [e.thread for e in evolutions])
        self._drift = DriftCorrection(settings.drift, settings.drift_memory)

    def score(self, phase: str, block: Block, shown: Shown) -> tuple[FloatArray, list[Evolution]]:
        """Returns the score of each image of a block ``(m,)``, NaN for references, and the threads that have some."""
        means = shown.means(len(block.ids))
        scores = np.full(len(block.ids), np.nan)
        self._references.count(block, shown)
        if self._drift.method != "none" and phase in ("survey", "evolve"):
            means = self._without_drift(phase, block, means)
        if self._compares and phase in ("survey", "evolve"):
            self._compare(block, shown)
        scored: list[Evolution] = []
        for evolution in self._evolutions:
            if own := block.of(evolution.thread.name):
                with self._failing.of(evolution):
                    looks = looks_at_images(evolution.thread.objective)
                    scores[own] = evolution.thread.score(means[own], block.images[own if looks else []])
                    scored.append(evolution)
        return scores, scored

    def learn(self, phase: str, block: Block, shown: Shown, scores: FloatArray, scored: Sequence[Evolution]) -> None:
        """Tells threads the scores of a block; of linear algebra nothing is called but by their optimizers."""
        times = np.bincount(shown.stimulus, minlength=len(block.ids))
        for evolution in scored:
            own = block.of(evolution.thread.name)
            with self._failing.of(evolution):
                self._tell(evolution, phase, block, own, scores[own], int(times[own].sum()))

    def climb(self, phase: str, block: Block) -> None:
        """Takes the steps of gradient methods that follow a block."""
        if self._path is not None and phase == "evolve":
            climb(self._path, [e for e in self._evolutions if e.climbs and block.of(e.thread.name)])

    def _tell(
        self, evolution: Evolution, phase: str, block: Block, own: list[int], scores: FloatArray, shown: int
    ) -> None:
        """Hands a thread its scores: to learn from while it evolves, to select by afterwards."""
        ids, codes = [block.ids[i] for i in own], np.stack([c for i in own if (c := block.codes[i]) is not None])
        if phase == "evolve":
            evolution.learn(ids, codes, scores, shown)
        elif phase == "select":
            best = int(np.argmax(np.where(np.isnan(scores), -np.inf, scores)))
            evolution.winner = (ids[best], codes[best])

    def _compare(self, block: Block, shown: Shown) -> None:
        """Scores each presentation of a reference for each thread, for rules that compare with them."""
        places = block.of(REFERENCE)
        rows = np.flatnonzero(np.isin(shown.stimulus, places))
        which = dict(zip(places, self._references.numbers(block, places), strict=True))
        numbers = np.array([which[i] for i in shown.stimulus[rows].tolist()], np.int64)
        responses = self._drift.correct(shown.responses[rows]) if self._drift.begun else shown.responses[rows]
        for evolution in self._evolutions:
            with self._failing.of(evolution):
                looks = looks_at_images(evolution.thread.objective)
                scores = evolution.thread.score(responses, block.images[shown.stimulus[rows] if looks else []])
                known = evolution.naturals or Naturals.none(len(self._references))
                evolution.naturals = known.with_scores(numbers, scores)

    def _without_drift(self, phase: str, block: Block, means: FloatArray) -> FloatArray:
        """Corrects mean responses by what the block's references tell; a re-test compares within one block."""
        own = block.of(REFERENCE)
        if phase == "survey" and not self._drift.begun:
            self._drift.begin(means[own])
            return means
        self._drift.learn(self._references.numbers(block, own), means[own])
        return self._drift.correct(means)

    def state(self) -> State:
        """Returns the state of the drift correction."""
        return self._drift.state()

    def restore(self, state: State) -> None:
        """Goes back to a saved state."""
        self._drift.restore(state)


def _gradient_path(subject: Subject, threads: Sequence[Thread]) -> GradientPath | None:
    """Returns the way of gradients, where an optimizer needs them; only then is torch imported."""
    climbing = [thread for thread in threads if thread.optimizer.needs_gradient]
    if not climbing:
        return None
    from closedloop.gradients.path import GradientPath

    return GradientPath(subject, climbing)


def climb(path: GradientPath, evolutions: Sequence[Evolution]) -> None:
    """Takes the steps of gradient methods up to their next presentation, all of them side by side."""
    for i in range(max((e.thread.gradient.every for e in evolutions), default=0)):
        going = [e for e in evolutions if i < e.thread.gradient.every and not e.finished]
        if not going:
            return
        codes = [e.ask() for e in going]
        slopes = path.slopes([e.thread for e in going], codes, [len(e.climbed) for e in going])
        for evolution, code, slope in zip(going, codes, slopes, strict=True):
            evolution.climb(code, slope)
