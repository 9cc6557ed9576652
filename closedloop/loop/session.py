"""The closed loop: ask → generate → present → record → score → tell.

A session goes through phases, one block of presentations at a time: a survey of all reference images, the evolution
with references interleaved, a re-test that selects among the candidates, and a second, fresh re-test of the selected
image that confirms its response. Every block is committed before the next begins, so a run can be resumed after any of
them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.errors import CallOrderError, InvalidArgumentError
from closedloop.images.eight_bit import quantize
from closedloop.images.forms import check_forms, shown_as
from closedloop.images.naturalness import coords_of, presentation_coords
from closedloop.images.nearest import Bank
from closedloop.images.resizing import resize_images
from closedloop.images.sets import ImageSet, as_image_set
from closedloop.interfaces import FloatArray, Form, State, Stateful, Subject, form_of
from closedloop.loop.drift_correction import DriftCorrection
from closedloop.loop.experiment import describe_session
from closedloop.loop.presenter import Presenter, Shown
from closedloop.loop.settings import read_settings
from closedloop.loop.stopping import StoppingRule
from closedloop.loop.thread import Evolution, Thread
from closedloop.objectives import Linear, evaluate
from closedloop.recipes import fingerprint, recipe, version
from closedloop.recording.layout import EVOLUTION, REFERENCE, Layout, Rows, form_scalars
from closedloop.recording.references import stored_references, write_references
from closedloop.recording.writer import Recording
from closedloop.seeds import generator_state, named_generator, restore_generator

if TYPE_CHECKING:
    from closedloop.gradients.path import GradientPath

#: The phases of a session, in their order.
PHASES = ("survey", "evolve", "select", "confirm", "done")


@dataclass(frozen=True)
class Block:
    """Images to be shown together.

    Attributes:
        images: ``(m, 3, h, w)``, or what else the subject is shown: grey, or movies.
        ids: Name of each image.
        threads: Name of the thread of each, or "reference".
        codes: The code that made each, None for a reference.
        repeats: Presentations of each, ``(m,)``.
    """

    images: NDArray[np.float32]
    ids: list[str]
    threads: list[str]
    codes: list[FloatArray | None]
    repeats: NDArray[np.int64]

    def of(self, thread: str) -> list[int]:
        """Indices of the images of one thread."""
        return [i for i, name in enumerate(self.threads) if name == thread]

    @classmethod
    def join(cls, parts: Sequence[Block]) -> Block:
        """One block of several."""
        return cls(
            np.concatenate([p.images for p in parts]),
            [i for p in parts for i in p.ids],
            [t for p in parts for t in p.threads],
            [c for p in parts for c in p.codes],
            np.concatenate([p.repeats for p in parts]),
        )


@dataclass(frozen=True)
class Generation:
    """One finished block, as observers see it.

    Attributes:
        index: -1 for the survey, then counted from 0.
        phase: One of `PHASES`.
        block: What was shown.
        shown: The presentations.
        scores: Score of each image of the block, ``(m,)``; NaN for references.
        evolutions: The threads after learning from it.
    """

    index: int
    phase: str
    block: Block
    shown: Shown
    scores: FloatArray
    evolutions: Sequence[Evolution]


class Observer(Protocol):
    """Watches a session. It must not change it."""

    def begin(self, session: Session) -> None:
        """Called once before the first block, or before the first one after a resume."""
        ...

    def generation(self, generation: Generation) -> None:
        """Called after each block is committed."""
        ...

    def end(self, session: Session) -> None:
        """Called once when the session is over, also after an error."""
        ...


def _read_references(references: Any, resolution: int, form: Form) -> ImageSet | None:
    """The reference images at a resolution, for a subject; those that another run stored keep their names."""
    if references is None:
        return None
    stored = stored_references(Path(references)) if isinstance(references, (str, Path)) else None
    return as_image_set(references if stored is None else stored, resolution, form)


def _gradient_path(subject: Subject, threads: Sequence[Thread]) -> GradientPath | None:
    """The way of gradients, where an optimizer needs them."""
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
        codes = [e.thread.generator.space.check(e.thread.optimizer.ask()) for e in going]
        slopes = path.slopes([e.thread for e in going], codes, [len(e.climbed) for e in going])
        for evolution, code, slope in zip(going, codes, slopes, strict=True):
            evolution.climb(code, slope)


def _scores(thread: Thread, responses: FloatArray, images: NDArray[np.float32]) -> FloatArray:
    """Scores ``(n,)`` of mean responses ``(n, units[, time])`` to images ``(n, 3, h, w)``, checked."""
    scores = np.asarray(evaluate(thread.objective, responses, images), dtype=float)
    if scores.shape != (len(responses),) or np.isinf(scores).any():
        raise InvalidArgumentError(
            f"thread {thread.name!r}: expected {len(responses)} finite scores (or NaN) from its objective, got shape "
            f"{scores.shape}{' with infinity' if np.isinf(scores).any() else ''}."
        )
    return scores


@final
class Session:
    """Several evolutions on one subject, with reference images between them.

    Args:
        subject: Who looks.
        threads: The evolutions.
        references: Natural images to compare with: a folder, an array ``(n, 3, h, w)``, an `ImageSet`, ``"bundled"``,
            or None. Rounded to 8 bits and resized to the largest generator's resolution; grey for a grey subject.
        stop: Rules that end a thread's evolution before its budget is used up.
        save: Folder of the run; None keeps it in memory.
        observers: Watch the session.
        experiment: Plain values that repeat the run, for its folder; default the session's own description.
        **settings: See `closedloop.loop.settings.Settings`.
    """

    def __init__(
        self,
        subject: Subject,
        threads: Sequence[Thread],
        *,
        references: ImageSet | str | Path | NDArray[Any] | None = None,
        stop: Sequence[StoppingRule] = (),
        save: str | Path | None = None,
        observers: Sequence[Observer] = (),
        experiment: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        names = [t.name for t in threads]
        if not names or len(set(names)) != len(names):
            raise InvalidArgumentError(f"threads: expected one or more with different names, got {names}.")
        if len({id(t.optimizer) for t in threads}) < len(threads):
            raise InvalidArgumentError("threads: two of them share one optimizer; build one for each.")
        for thread in threads:
            if isinstance(thread.objective, Linear):  # others may ask for a time axis, which is not known yet
                thread.objective(np.zeros((1, len(subject.units))))
        self.form = form_of(subject)
        for thread in threads:
            check_forms(f"thread {thread.name!r}", form_of(thread.generator), self.form)
        self.subject = subject
        self._path = _gradient_path(subject, threads)
        self.settings = read_settings(settings)
        self.save = save
        self.stop = tuple(stop)
        self.observers = tuple(observers)
        self.evolutions = [Evolution(t, self.settings.retest_candidates) for t in threads]
        self.resolution = max(t.generator.resolution for t in threads)
        self.references = _read_references(references, self.resolution, self.form)
        self._bank = None if self.references is None else Bank.of(self.references.images)
        self._source = references
        self._experiment = experiment
        self.phase = "survey" if self.references is not None else "evolve"
        self.index = -1 if self.references is not None else 0
        self.presentations = 0
        self.reasons: dict[str, str] = {}
        if self.references is None and self.settings.drift != "none":
            raise InvalidArgumentError(f"references: expected some for drift={self.settings.drift!r}, got None.")
        self._drift = DriftCorrection(self.settings.drift, self.settings.drift_memory)
        self._order = named_generator(self.settings.seed, "order")
        self._reference_sums: tuple[FloatArray, FloatArray] | None = None

    def run(self) -> xr.Dataset:
        """Runs the experiment in a new folder and returns what was recorded.

        Raises:
            RecordingError: The folder exists, or cannot be written.
            SubjectError: The subject failed; all finished generations are safe and the run can be resumed.
        """
        if self.presentations or self.phase == "done":
            raise CallOrderError("session: it has run already; build a new one, with new optimizers.")
        self._check_budget()
        recording = Recording.create(self.save, self.layout(), self._described())
        return self._loop(recording)

    def resume(self, recording: Recording) -> xr.Dataset:
        """Goes on with a reopened recording, to what an uninterrupted run would have given."""
        try:
            recording.check_units(self.subject.units)
            state = recording.state()
            if state is None:
                recording.use(self.layout())
            else:
                self._restore(state)
        except BaseException:
            recording.close()
            raise
        return self._loop(recording)

    def _restore(self, state: State) -> None:
        """Goes back to a saved state, or says that it is another experiment's."""
        try:
            self.restore(state)
        except (KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
            raise InvalidArgumentError(
                f"subject, threads: the saved state does not fit them ({type(error).__name__}: {error}); build them as "
                "for the run."
            ) from error

    def _loop(self, recording: Recording) -> xr.Dataset:
        """The closed loop."""
        presenter = Presenter(self.subject, self.settings.retries, self.settings.timeout_s)
        try:
            if recording.path is not None and self.references is not None:
                write_references(recording.path, self.references)
            for observer in self.observers:
                observer.begin(self)
            while (block := self._next_block()) is not None:
                index, phase = self.index, self.phase
                shown = presenter.show(block.images, block.repeats, self._order, *self._spare(block))
                recording.check(shown.responses)
                scores = self._learn(block, shown)
                rows = self._rows(index, phase, block, shown, scores)
                recording.append(rows, self.state())
                for observer in self.observers:
                    observer.generation(Generation(index, phase, block, shown, scores, self.evolutions))
            recording.finish(self.state(), "; ".join(f"{name}: {reason}" for name, reason in self.reasons.items()))
            return recording.dataset()
        finally:
            recording.close()
            for observer in self.observers:
                observer.end(self)

    # What to show next ----------------------------------------------------------------------------------------------

    def _next_block(self) -> Block | None:
        """The images of the phase under way; goes on to the next phase where there are none left."""
        repeats = self.settings.retest_repeats
        if self.phase == "survey":
            return self._references_part(range(self._n_references), 1)
        if self.phase == "evolve":
            block = self._evolved_block()
            if block is not None:
                return block
            self.phase = "select" if self.settings.retest_candidates else "done"
        if self.phase == "select":
            parts = [self._retest_part(e, *e.finalists()) for e in self.evolutions]
            return Block.join([*parts, self._references_part(self._best_references(), repeats)])
        if self.phase == "confirm":
            parts = [self._retest_part(e, [e.winner[0]], e.winner[1][None]) for e in self.evolutions if e.winner]
            return Block.join([*parts, self._references_part(self._best_references(1), repeats)])
        return None

    def _evolved_block(self) -> Block | None:
        """The next codes of each thread that goes on, and the references whose turn it is; None when all have ended."""
        parts = []
        for evolution in self.evolutions:
            codes = self._ask(evolution)
            if codes is not None:
                ids = [f"{evolution.thread.name}-g{self.index:04d}-{i:03d}" for i in range(len(codes))]
                parts.append(self._coded_part(evolution, ids, codes, self.settings.repeats))
        if not parts:
            return None
        first, count = self.index * self.settings.interleave, min(self.settings.interleave, self._n_references)
        turn = [(first + i) % self._n_references for i in range(count)]
        return Block.join([*parts, self._references_part(turn, 1)])

    def _ask(self, evolution: Evolution) -> FloatArray | None:
        """The thread's next codes; None if it has ended, with the reason kept."""
        name = evolution.thread.name
        if name in self.reasons:
            return None
        if evolution.finished:
            self.reasons[name] = f"finished after {len(evolution.climbed)} steps" if evolution.climbs else "finished"
            return None
        for rule in self.stop:
            if reason := rule(evolution.history):
                self.reasons[name] = reason
                return None
        codes = evolution.thread.generator.space.check(evolution.thread.optimizer.ask())
        if len(codes) == 0:
            raise InvalidArgumentError(f"thread {name!r}: the optimizer asked for no code at all.")
        if evolution.images + len(codes) * self.settings.repeats > self.settings.images:
            self.reasons[name] = f"budget: {evolution.images} of {self.settings.images} images"
            return None
        return codes

    def _coded_part(self, evolution: Evolution, ids: list[str], codes: FloatArray, repeats: int) -> Block:
        images = shown_as(resize_images(evolution.generate(codes), self.resolution), self.form)
        n = len(ids)
        return Block(images, ids, [evolution.thread.name] * n, list(codes), np.full(n, repeats))

    def _retest_part(self, evolution: Evolution, ids: list[str], codes: FloatArray) -> Block:
        """What is re-tested is what a file or a screen shows: rounded to 8 bits."""
        part = self._coded_part(evolution, ids, codes, self.settings.retest_repeats)
        return replace(part, images=quantize(part.images))

    def _references_part(self, which: Sequence[int], repeats: int) -> Block:
        if self.references is None:
            nothing = np.empty((0, *self.form.leading, self.resolution, self.resolution), np.float32)
            return Block(nothing, [], [], [], np.empty(0, int))
        n, chosen = len(which), list(which)
        ids = [self.references.ids[i] for i in chosen]
        return Block(
            shown_as(self.references.images[chosen], self.form), ids, [REFERENCE] * n, [None] * n, np.full(n, repeats)
        )

    def _spare(self, block: Block) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """How many lost presentations of each thread may be shown again, and the thread of each image of a block.

        The budget holds for all presentations of the evolution. References and re-tests are limited by `retries` alone.
        """
        names = [*(e.thread.name for e in self.evolutions), REFERENCE]
        group = np.array([names.index(thread) for thread in block.threads], dtype=np.int64)
        spare = np.full(len(names), np.iinfo(np.int64).max)
        if self.phase == "evolve":
            for i, evolution in enumerate(self.evolutions):
                spare[i] = self.settings.images - evolution.images - block.repeats[group == i].sum()
        return spare, group

    @property
    def _n_references(self) -> int:
        return 0 if self.references is None else len(self.references)

    def _best_references(self, count: int | None = None) -> list[int]:
        """The references that each thread's objective likes best, by their mean response so far; no one twice."""
        if self._reference_sums is None:
            return []
        total, number = self._reference_sums
        means = total / np.where(number > 0, number, np.nan)
        best: dict[int, None] = {}
        for evolution in self.evolutions:
            images = self._references_part(range(self._n_references), 1).images
            order = np.argsort(-evaluate(evolution.thread.objective, means, images), kind="stable")
            best.update(dict.fromkeys(order[: count or self.settings.retest_candidates].tolist()))
        return list(best)

    # What was learnt ------------------------------------------------------------------------------------------------

    def _learn(self, block: Block, shown: Shown) -> FloatArray:
        """Scores a block, tells the optimizers, and goes on to the next index and phase."""
        means = shown.means(len(block.ids))
        scores = np.full(len(block.ids), np.nan)
        self._count_references(block, shown)
        if self.settings.drift != "none" and self.phase in ("survey", "evolve"):
            means = self._without_drift(block, means)
        for evolution in self.evolutions:
            own = block.of(evolution.thread.name)
            if own:
                scores[own] = _scores(evolution.thread, means[own], block.images[own])
                self._learn_thread(evolution, block, own, scores[own], int(np.isin(shown.stimulus, own).sum()))
        if self._path is not None and self.phase == "evolve":
            climb(self._path, [e for e in self.evolutions if e.climbs and block.of(e.thread.name)])
        self.presentations += len(shown.stimulus)
        self.index += 1
        if self.phase != "evolve":
            self.phase = PHASES[PHASES.index(self.phase) + 1]
        return scores

    def _learn_thread(self, evolution: Evolution, block: Block, own: list[int], scores: FloatArray, shown: int) -> None:
        ids, codes = [block.ids[i] for i in own], np.stack([c for i in own if (c := block.codes[i]) is not None])
        if self.phase == "evolve":
            evolution.learn(ids, codes, scores, shown)
        elif self.phase == "select":
            best = int(np.argmax(np.where(np.isnan(scores), -np.inf, scores)))
            evolution.winner = (ids[best], codes[best])

    def _count_references(self, block: Block, shown: Shown) -> None:
        """Adds the block's responses to references to their running sums."""
        own = block.of(REFERENCE)
        if self.references is None or not own:
            return
        total, number = shown.sums(len(block.ids))
        if self._reference_sums is None:
            empty = np.zeros((len(self.references), *total.shape[1:]))
            self._reference_sums = (empty, empty.copy())
        which = self._numbers(block, own)
        self._reference_sums[0][which] += total[own]
        self._reference_sums[1][which] += number[own]

    def _without_drift(self, block: Block, means: FloatArray) -> FloatArray:
        """Mean responses, corrected by what the block's references tell; a re-test compares within one block."""
        own = block.of(REFERENCE)
        if self.phase == "survey":
            self._drift.begin(means[own])
            return means
        self._drift.learn(self._numbers(block, own), means[own])
        return self._drift.correct(means)

    def _numbers(self, block: Block, own: list[int]) -> list[int]:
        """Which references stand at the given places of a block."""
        ids = [] if self.references is None else self.references.ids
        return [ids.index(block.ids[i]) for i in own]

    def _rows(self, index: int, phase: str, block: Block, shown: Shown, scores: FloatArray) -> Rows:
        """The block as it is recorded."""
        stimulus, n = shown.stimulus, len(shown.stimulus)
        own = "evolved" if phase == "evolve" else "retest"
        kinds = [
            "reference" if thread == REFERENCE and phase in ("survey", "evolve") else own for thread in block.threads
        ]
        codes = np.full((len(block.ids), self._latent), np.nan)
        for i, code in enumerate(block.codes):
            if code is not None:
                codes[i, : len(code)] = code
        first = self.presentations - n
        coords = {
            "thread": np.array(block.threads)[stimulus],
            "generation": np.full(n, index, np.int32),
            "kind": np.array(kinds)[stimulus],
            "stimulus_id": np.array(block.ids)[stimulus],
            "repeat": shown.repeat.astype(np.int32),
            "onset_s": (first + np.arange(n)) * max(self.settings.soa_s, self.form.duration_s),
            **{name: values[stimulus] for name, values in self._naturalness(block).items()},
        }
        return Rows(
            coords,
            shown.responses,
            codes[stimulus],
            scores[stimulus],
            self._kept(phase, block, scores),
            self.form.rate_hz,
        )

    def _naturalness(self, block: Block) -> dict[str, FloatArray]:
        """How natural each image of a block looks; see `closedloop.images.naturalness`."""
        spaces = {e.thread.name: e.thread.generator.space for e in self.evolutions}
        own = np.full(len(block.ids), -1)
        own[block.of(REFERENCE)] = self._numbers(block, block.of(REFERENCE))
        return presentation_coords(block.images, block.codes, [spaces.get(t) for t in block.threads], self._bank, own)

    def _kept(self, phase: str, block: Block, scores: FloatArray) -> dict[str, NDArray[np.float32]]:
        """The images that become files."""
        keep = self.settings.keep
        if phase == "survey" or keep == "none":
            return {}
        kept: list[int] = []
        for evolution in self.evolutions:
            own = [i for i in block.of(evolution.thread.name) if not np.isnan(scores[i])]
            if own:
                kept += own if keep == "all" else [own[int(np.argmax(scores[own]))]]
        return {block.ids[i]: block.images[i] for i in kept}

    # What is stored -------------------------------------------------------------------------------------------------

    @property
    def _latent(self) -> int:
        return max(e.thread.generator.space.dim for e in self.evolutions)

    def layout(self) -> Layout:
        """The shape of the recording: room for every presentation that may come."""
        s, threads = self.settings, len(self.evolutions)
        generations = s.images  # at the most: one image in each
        copies = sum(self._population(e) for e in self.evolutions if e.climbs)
        finalists = threads * (2 * s.retest_candidates + 1) + copies
        shown = self._n_references + threads * s.images + generations * s.interleave
        shown += (finalists + 2 * threads) * s.retest_repeats
        evolving = [e.thread for e in self.evolutions]
        evolutions = {
            EVOLUTION: [t.name for t in evolving],
            "generator": [t.generator.name for t in evolving],
            "generator_sha256": [fingerprint(t.generator) for t in evolving],
            "generator_recipe": [json.dumps(recipe(t.generator)) for t in evolving],
            "optimizer": [t.optimizer.name for t in evolving],
            "objective": [t.objective.describe() for t in evolving],
        }
        scalars: dict[str, str | int | float] = {
            "subject": self.subject.name,
            **form_scalars(self.form),
            "seed": s.seed,
            "closedloop_version": version(),
        }
        return Layout(
            capacity=shown * (1 + s.retries),
            latent=self._latent,
            units=self.subject.units,
            scalars=scalars,
            coords=coords_of([e.thread.generator.space for e in self.evolutions]),
            evolutions=evolutions,
        )

    def _described(self) -> dict[str, Any]:
        """What repeats the run, for its folder."""
        threads = [e.thread for e in self.evolutions]
        if self._experiment is not None:
            return dict(self._experiment)
        return describe_session(self.subject, threads, self._source, self.stop, self.settings)

    def _check_budget(self) -> None:
        """Raises unless each thread can show at least one generation; asks nothing that changes the optimizers."""
        for evolution in self.evolutions:
            need = self._population(evolution) * self.settings.repeats
            if need > self.settings.images:
                raise InvalidArgumentError(
                    f"images: expected at least one generation of thread {evolution.thread.name!r}, {need} images, "
                    f"got {self.settings.images}."
                )

    @staticmethod
    def _population(evolution: Evolution) -> int:
        """How many codes the optimizer would ask for now."""
        optimizer = evolution.thread.optimizer
        before = optimizer.state()
        count = len(optimizer.ask())
        optimizer.restore(before)
        return count

    def state(self) -> State:
        """All that is needed to go on identically."""
        sums = self._reference_sums
        return {
            "phase": self.phase,
            "index": self.index,
            "presentations": self.presentations,
            "reasons": dict(self.reasons),
            "order": generator_state(self._order),
            "subject": self.subject.state() if isinstance(self.subject, Stateful) else None,
            "references": None if sums is None else {"total": sums[0], "number": sums[1]},
            "drift": self._drift.state(),
            "evolutions": [e.state() for e in self.evolutions],
        }

    def restore(self, state: State) -> None:
        """Goes back to a saved state."""
        self.phase, self.index = state["phase"], int(state["index"])
        self.presentations, self.reasons = int(state["presentations"]), dict(state["reasons"])
        restore_generator(self._order, state["order"])
        if isinstance(self.subject, Stateful):
            self.subject.restore(state["subject"])
        sums = state["references"]
        self._reference_sums = None if sums is None else (sums["total"], sums["number"])
        self._drift.restore(state["drift"])
        for evolution, saved in zip(self.evolutions, state["evolutions"], strict=True):
            evolution.restore(saved)
