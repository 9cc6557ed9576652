"""A thread: one evolution of a generator's codes under one objective, and what it must remember."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

import numpy as np
from numpy.typing import NDArray

from closedloop.checks import check_generated
from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import FloatArray, Generator, Objective, Optimizer, State
from closedloop.objectives import Unit
from closedloop.stopping import Scored

#: The name under which reference images stand in the column `thread`.
REFERENCE = "reference"


@final
@dataclass(frozen=True)
class Thread:
    """One evolution; any number of them share one subject and one session.

    Attributes:
        generator: Turns codes into images.
        optimizer: Proposes codes; its space must be the generator's.
        objective: What is maximized; default the first unit.
        name: Stands in the record; letters, digits, ``-`` and ``_``.
    """

    generator: Generator
    optimizer: Optimizer
    objective: Objective = field(default_factory=lambda: Unit(0))
    name: str = "main"

    def __post_init__(self) -> None:
        if not self.name.replace("-", "").replace("_", "").isalnum() or self.name == REFERENCE:
            raise InvalidArgumentError(
                f"name: expected letters, digits, '-' or '_' (not 'reference'), got {self.name!r}."
            )
        asked, given = self.generator.space, self.optimizer.space
        if asked != given:
            raise InvalidArgumentError(
                f"thread {self.name!r}: the optimizer searches {given}, but generator {self.generator.name!r} takes "
                f"{asked}; build the optimizer with generator.space."
            )


@final
class Evolution:
    """A thread under way: how many images it has shown, its history, and its best candidates so far.

    Args:
        thread: What is evolved.
        candidates: How many of the best-scored codes to remember for the re-test.
    """

    def __init__(self, thread: Thread, candidates: int) -> None:
        self.thread = thread
        self.candidates = candidates
        self.images = 0
        self.history: list[Scored] = []
        self.top_ids: list[str] = []
        self.top_scores = np.empty(0)
        self.top_codes = np.empty((0, thread.generator.space.dim))
        self.center = thread.generator.space.center
        self.winner: tuple[str, FloatArray] | None = None

    def generate(self, codes: FloatArray) -> NDArray[np.float32]:
        """Images of codes ``(n, dim)``, checked: ``(n, 3, h, w)`` in [0, 1]."""
        return check_generated(self.thread.generator(codes), len(codes), self.thread.generator)

    def learn(self, ids: list[str], codes: FloatArray, scores: FloatArray, shown: int) -> None:
        """Tells the optimizer, and remembers the best.

        Args:
            ids: Name of each code's image.
            codes: ``(n, dim)``.
            scores: ``(n,)``, NaN where lost.
            shown: Presentations that it took.
        """
        self.thread.optimizer.tell(codes, scores)
        self.images += shown
        valid = scores[~np.isnan(scores)]
        best, mean = (valid.max(), valid.mean()) if len(valid) else (np.nan, np.nan)
        self.history.append(Scored(float(best), float(mean), self.images))
        if len(valid):
            self.center = codes[~np.isnan(scores)].mean(0)
        pooled = np.concatenate([self.top_scores, scores])
        order = np.argsort(-pooled, kind="stable")  # NaN last
        keep = [i for i in order[: self.candidates] if not np.isnan(pooled[i])]
        names = self.top_ids + ids
        self.top_ids = [names[i] for i in keep]
        self.top_codes = np.concatenate([self.top_codes, codes])[keep]
        self.top_scores = pooled[keep]

    def finalists(self) -> tuple[list[str], FloatArray]:
        """What is worth a re-test: the best-scored codes, and the center of the last generation.

        Under noise the best-scored code owes its score to luck; the center, which no single score chose, is often
        better.
        """
        ids = [*self.top_ids, f"{self.thread.name}-center"]
        return ids, np.concatenate([self.top_codes, self.center[None]])

    def state(self) -> State:
        """All of the above, with the optimizer's state."""
        return {
            "optimizer": self.thread.optimizer.state(),
            "images": self.images,
            "history": np.array(self.history, dtype=float).reshape(-1, 3),
            "top_ids": list(self.top_ids),
            "top_scores": self.top_scores,
            "top_codes": self.top_codes,
            "center": self.center,
            "winner": None if self.winner is None else {"id": self.winner[0], "code": self.winner[1]},
        }

    def restore(self, state: State) -> None:
        """Goes back to a saved state."""
        self.thread.optimizer.restore(state["optimizer"])
        self.images = int(state["images"])
        self.history = [Scored(float(b), float(m), int(i)) for b, m, i in state["history"]]
        self.top_ids = list(state["top_ids"])
        self.top_scores, self.top_codes, self.center = state["top_scores"], state["top_codes"], state["center"]
        winner = state["winner"]
        self.winner = None if winner is None else (winner["id"], winner["code"])
