"""What a session shows next: the phases one after another, and the blocks of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from closedloop.errors import ClosedLoopError, InvalidArgumentError, blamed
from closedloop.images.eight_bit import quantize
from closedloop.images.forms import shown_as
from closedloop.images.resizing import resize_images
from closedloop.interfaces import FloatArray, State
from closedloop.loop.blocks import PHASES, Block
from closedloop.loop.ending import EndRequest, ended_on_request
from closedloop.loop.failing import Failing
from closedloop.loop.reference_pool import ReferencePool
from closedloop.loop.sequential import Comparing
from closedloop.loop.settings import Settings
from closedloop.loop.stopping import StoppingRule
from closedloop.loop.thread import Evolution
from closedloop.recording.layout import REFERENCE
from closedloop.seeds import current_stream

#: A thread, and the names and codes ``(n, dim)`` of images of it that are shown next.
Part: TypeAlias = tuple[Evolution, list[str], FloatArray]


@final
class Schedule:
    """The order of a session: survey, evolve, select, confirm; see `closedloop.loop.session`.

    Args:
        evolutions: The threads under way.
        references: The reference images.
        stop: Rules that end a thread's evolution before its budget is used up.
        settings: The session's numbers.
        failing: What becomes of threads that fail.

    Attributes:
        phase: One of `PHASES`.
        index: Number of the next block; -1 for the survey.
        reasons: Why each thread that has ended did so, by its name.
        asked: Whether somebody wants the evolutions to end.
        older: Whether an older version began the run: its evolving images are not rounded as a file or a screen rounds
            them, and its last generations are whole.
    """

    def __init__(
        self,
        evolutions: Sequence[Evolution],
        references: ReferencePool,
        stop: Sequence[StoppingRule],
        settings: Settings,
        failing: Failing,
    ) -> None:
        self._evolutions, self._references, self._stop, self._settings = evolutions, references, stop, settings
        self._failing = failing
        self.phase: str = "survey" if len(references) else "evolve"
        self.index: int = -1 if len(references) else 0
        self.reasons: dict[str, str] = {}
        self.asked: EndRequest = EndRequest()
        self.older: bool = current_stream() == 1  # a comparison that goes on evolves as it began

    def next(self) -> Block | None:
        """Returns the images of the phase under way, or of the next one where none are left; None at the end."""
        if self.phase == "survey":
            return self._references.block(range(len(self._references)), 1)
        if self.phase == "evolve":
            block = self._evolved()
            if block is not None:
                return block
            self.phase = "select" if self._settings.retest_candidates else "done"
        if self.phase == "select":
            return self._retested(list(self._finalists()), self._settings.retest_candidates)
        if self.phase == "confirm":
            winners = [(e, [e.winner[0]], e.winner[1][None]) for e in self._evolutions if e.winner]
            return self._retested(winners, 1)
        return None

    @property
    def overtaken(self) -> bool:
        """Whether somebody wants the evolutions to end, and the phase is still theirs: `next` must be called again."""
        return self.phase == "evolve" and self.asked()

    def note_failures(self) -> None:
        """Says of threads that failed why they ended."""
        self.reasons |= self._failing.reasons()

    def advance(self) -> None:
        """Goes on to the next block, once one was learnt from; every phase but the evolution has one block only."""
        self.index += 1
        if self.phase != "evolve":
            self.phase = PHASES[PHASES.index(self.phase) + 1]

    def survey_again(self) -> None:
        """Shows all references once more before the evolution goes on: the link between one day and the next."""
        if self.phase == "evolve" and len(self._references):
            self.phase = "survey"

    def check_budget(self) -> None:
        """Asks every thread for its first codes.

        Raises:
            InvalidArgumentError: The budget does not hold a single generation of a thread.
        """
        for evolution in self._evolutions:
            need = len(evolution.ask()) * self._settings.repeats
            if need > self._settings.images:
                raise InvalidArgumentError(
                    f"images: expected at least one generation of thread {evolution.thread.name!r}, {need} images, "
                    f"got {self._settings.images}."
                )

    def _evolved(self) -> Block | None:
        """Returns codes of each thread that goes on, and the references whose turn it is; None when all ended."""
        parts: list[Part] = []
        asked = self.asked()
        for evolution in self._evolutions:
            with self._failing.of(evolution):
                if (codes := self._codes(evolution, asked)) is not None:
                    ids = [f"{evolution.thread.name}-g{self.index:04d}-{i:03d}" for i in range(len(codes))]
                    parts.append((evolution, ids, codes))
        made = self._made(parts, self._settings.repeats, not self.older)
        self.note_failures()
        if not made:
            return None
        turn = self._references.turn(self.index, self._settings.interleave)
        return Block.join([*made, self._references.block(turn, 1)])

    def _made(self, parts: Sequence[Part], repeats: int, quantized: bool) -> list[Block]:
        """Makes the images of threads' codes; those of threads with the same generator at once."""
        made: dict[str, Block] = {}
        together: dict[int, list[Part]] = {}
        for part in parts:
            together.setdefault(id(part[0].thread.generator), []).append(part)
        for group in together.values():
            made |= self._made_together(group, repeats, quantized)
        return [made[e.thread.name] for e, _, _ in parts if e.thread.name in made]

    def _made_together(self, parts: Sequence[Part], repeats: int, quantized: bool) -> dict[str, Block]:
        """Makes the images of threads that share a generator; one by one where it fails, to find with whose codes."""
        first, side, form = parts[0][0], self._references.resolution, self._references.form
        try:
            images = shown_as(resize_images(first.generate(np.concatenate([codes for *_, codes in parts])), side), form)
        except ClosedLoopError:
            if len(parts) == 1 and not self._failing.alone:
                raise
            one_by_one: dict[str, Block] = {}
            for evolution, ids, codes in parts:
                with self._failing.of(evolution):
                    block = Block.of_codes(evolution, ids, codes, repeats, side, form)
                    one_by_one[evolution.thread.name] = block.quantized() if quantized else block
            return one_by_one
        images = quantize(images) if quantized else images
        ends = np.cumsum([len(ids) for _, ids, _ in parts])
        return {
            e.thread.name: Block.of_images(e, ids, codes, images[end - len(ids) : end], repeats)
            for (e, ids, codes), end in zip(parts, ends.tolist(), strict=True)
        }

    def _finalists(self) -> Iterator[Part]:
        """Yields what is re-tested of each thread; of one that fails or failed, its best-scored images."""
        for evolution in self._evolutions:
            found = None
            with self._failing.of(evolution):
                found = evolution.finalists()
            ids, codes = found or evolution.finalists()
            if ids:
                yield evolution, ids, codes

    def _codes(self, evolution: Evolution, asked: bool) -> FloatArray | None:
        """Returns a thread's next codes, of the last generation as many as fit; None if it has ended.

        Threads whose generations differ in size so have the same budget. The reason why one has ended is kept.
        """
        name, images = evolution.thread.name, self._settings.images
        if name in self.reasons or evolution.failed:
            return None
        reason = evolution.ended or next((text for rule in self._stop if (text := _asked(rule, evolution))), "")
        if not reason and asked and evolution.history:  # before its first generation there is nothing to re-test
            reason = ended_on_request(self.index - 1)
        fit = (images - evolution.images) // self._settings.repeats
        if not reason and (fit > 0 or self.older):  # with nothing left, some optimizers cannot even be asked
            codes = evolution.ask()
            if len(codes) <= fit or (fit > 0 and not (self.older or evolution.climbs)):
                return codes[:fit]
        self.reasons[name] = reason or f"budget: {evolution.images} of {images} images"
        return None

    def _retested(self, parts: Sequence[Part], best: int) -> Block:
        """Returns codes of threads to be shown again, as files and screens show them, beside the best references."""
        repeats = self._settings.retest_repeats
        blocks = self._made(parts, repeats, True)
        self.note_failures()
        likes = self._references.best((e.thread for e in self._evolutions if not e.failed), best)
        return Block.join([*blocks, self._references.block(likes, repeats)])

    def spare(self, block: Block) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns how many lost presentations of each thread may be shown again, and the thread of each image.

        The budget holds for all presentations of the evolution. References and re-tests are limited by `retries` alone.
        """
        names = [*(e.thread.name for e in self._evolutions), REFERENCE]
        place = {name: i for i, name in enumerate(names)}
        group = np.array([place[thread] for thread in block.threads], dtype=np.int64)
        spare = np.full(len(names), np.iinfo(np.int64).max)
        if self.phase == "evolve":
            shown = np.array([e.images for e in self._evolutions], dtype=np.int64)
            now = np.bincount(group, block.repeats, len(names))[:-1].astype(np.int64)
            spare[:-1] = self._settings.images - shown - now
        return spare, group

    def state(self) -> State:
        """Returns all that is needed to go on identically."""
        said = {"phase": self.phase, "index": self.index, "reasons": dict(self.reasons)}
        return said if self.older else {**said, "rules": 2}

    def restore(self, state: State) -> None:
        """Goes back to a saved state."""
        self.phase = state["phase"]
        self.index = int(state["index"])
        self.reasons = dict(state["reasons"])
        self.older = "rules" not in state


def _asked(rule: StoppingRule, evolution: Evolution) -> str | None:
    """Returns a rule's reason to stop, or None.

    Raises:
        InvalidArgumentError: It raised, or returned neither.
    """
    name = getattr(rule, "__name__", type(rule).__name__)
    with blamed(f"stop: rule {name}, thread {evolution.thread.name!r}", InvalidArgumentError):
        found: Any = rule(list(evolution.history))
        if found is None and isinstance(rule, Comparing) and evolution.naturals is not None and evolution.history:
            found = rule.compare(evolution.latest.copy(), evolution.naturals, len(evolution.history))
        if found is not None and not isinstance(found, str):
            raise InvalidArgumentError(f"stop: rule {name}: expected a reason as text, or None, got {found!r:.80}.")
        return found
