"""What a session shows next: the phases one after another, and the blocks of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from closedloop.errors import InvalidArgumentError, blamed
from closedloop.interfaces import FloatArray, State
from closedloop.loop.blocks import PHASES, Block
from closedloop.loop.ending import EndRequest, ended_on_request
from closedloop.loop.reference_pool import ReferencePool
from closedloop.loop.settings import Settings
from closedloop.loop.stopping import StoppingRule
from closedloop.loop.thread import Evolution
from closedloop.recording.layout import REFERENCE
from closedloop.seeds import current_stream


@final
class Schedule:
    """The order of a session: survey, evolve, select, confirm; see `closedloop.loop.session`.

    Args:
        evolutions: The threads under way.
        references: The reference images.
        stop: Rules that end a thread's evolution before its budget is used up.
        settings: The session's numbers.

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
    ) -> None:
        self._evolutions, self._references, self._stop, self._settings = evolutions, references, stop, settings
        self.phase, self.index = ("survey", -1) if len(references) else ("evolve", 0)
        self.reasons: dict[str, str] = {}
        self.asked = EndRequest()
        self.older = current_stream() == 1  # a comparison that goes on evolves as it began

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
            return self._retested([(e, *e.finalists()) for e in self._evolutions], self._settings.retest_candidates)
        if self.phase == "confirm":
            winners = [(e, [e.winner[0]], e.winner[1][None]) for e in self._evolutions if e.winner]
            return self._retested(winners, 1)
        return None

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
        repeats, parts = self._settings.repeats, []
        side, form = self._references.resolution, self._references.form
        asked = self.asked()
        for evolution in self._evolutions:
            if (codes := self._codes(evolution, asked)) is not None:
                ids = [f"{evolution.thread.name}-g{self.index:04d}-{i:03d}" for i in range(len(codes))]
                made = Block.of_codes(evolution, ids, codes, repeats, side, form)
                parts.append(made if self.older else made.quantized())
        if not parts:
            return None
        turn = self._references.turn(self.index, self._settings.interleave)
        return Block.join([*parts, self._references.block(turn, 1)])

    def _codes(self, evolution: Evolution, asked: bool) -> FloatArray | None:
        """Returns a thread's next codes, of the last generation as many as fit; None if it has ended.

        Threads whose generations differ in size so have the same budget. The reason why one has ended is kept.
        """
        name, images = evolution.thread.name, self._settings.images
        if name in self.reasons:
            return None
        reason = evolution.ended or next((text for rule in self._stop if (text := _asked(rule, evolution))), "")
        if not reason and asked and evolution.history:  # before its first generation there is nothing to re-test
            reason = ended_on_request(self.index - 1)
        if not reason:
            codes, fit = evolution.ask(), (images - evolution.images) // self._settings.repeats
            if len(codes) <= fit or (fit > 0 and not (self.older or evolution.climbs)):
                return codes[:fit]
            reason = f"budget: {evolution.images} of {images} images"
        self.reasons[name] = reason
        return None

    def _retested(self, parts: Sequence[tuple[Evolution, list[str], FloatArray]], best: int) -> Block:
        """Returns codes of threads to be shown again, as files and screens show them, beside the best references."""
        repeats, side, form = self._settings.retest_repeats, self._references.resolution, self._references.form
        blocks = [Block.of_codes(e, ids, codes, repeats, side, form).quantized() for e, ids, codes in parts]
        likes = self._references.best((e.thread for e in self._evolutions), best)
        return Block.join([*blocks, self._references.block(likes, repeats)])

    def spare(self, block: Block) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns how many lost presentations of each thread may be shown again, and the thread of each image.

        The budget holds for all presentations of the evolution. References and re-tests are limited by `retries` alone.
        """
        names = [*(e.thread.name for e in self._evolutions), REFERENCE]
        group = np.array([names.index(thread) for thread in block.threads], dtype=np.int64)
        spare = np.full(len(names), np.iinfo(np.int64).max)
        if self.phase == "evolve":
            for i, evolution in enumerate(self._evolutions):
                spare[i] = self._settings.images - evolution.images - block.repeats[group == i].sum()
        return spare, group

    def state(self) -> State:
        """Returns all that is needed to go on identically."""
        said = {"phase": self.phase, "index": self.index, "reasons": dict(self.reasons)}
        return said if self.older else {**said, "rules": 2}

    def restore(self, state: State) -> None:
        """Goes back to a saved state."""
        self.phase, self.index, self.reasons = state["phase"], int(state["index"]), dict(state["reasons"])
        self.older = "rules" not in state


def _asked(rule: StoppingRule, evolution: Evolution) -> str | None:
    """Returns a rule's reason to stop, or None.

    Raises:
        InvalidArgumentError: It raised, or returned neither.
    """
    name = getattr(rule, "__name__", type(rule).__name__)
    with blamed(f"stop: rule {name}, thread {evolution.thread.name!r}", InvalidArgumentError):
        found: Any = rule(list(evolution.history))
        if found is not None and not isinstance(found, str):
            raise InvalidArgumentError(f"stop: rule {name}: expected a reason as text, or None, got {found!r:.80}.")
        return found
