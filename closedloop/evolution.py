"""A thread: one evolution of a generator's codes under one objective, and what it must remember."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, final

import numpy as np
from numpy.typing import NDArray

from closedloop.checks import check_generated, check_whole
from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import Finite, FloatArray, Generator, Objective, Optimizer, State
from closedloop.objectives import Unit
from closedloop.seeds import check_seed
from closedloop.stopping import Scored

if TYPE_CHECKING:
    from closedloop.gradients.views import View

#: The name under which reference images stand in the column `thread`.
REFERENCE = "reference"


@final
@dataclass(frozen=True)
class GradientSettings:
    """How a gradient is taken; for threads whose optimizer needs one.

    Attributes:
        view: What the subject is shown of an image meanwhile, see `closedloop.gradients.views`; None for the image.
        every: Steps from one presentation of the image itself to the next; only presentations are recorded.
        redirected: In so many first steps, rectifiers that let no gradient of an image through are opened, see
            `closedloop.gradients.redirected`.
        seed: Of the view's random numbers.
    """

    view: View | None = None
    every: int = 1
    redirected: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        check_whole("every", self.every, 1)
        check_whole("redirected", self.redirected, 0)
        check_seed(self.seed)


@final
@dataclass(frozen=True)
class Thread:
    """One evolution; any number of them share one subject and one session.

    Attributes:
        generator: Turns codes into images.
        optimizer: Proposes codes; its space must be the generator's.
        objective: What is maximized; default the first unit.
        name: Stands in the record; letters, digits, ``-`` and ``_``.
        gradient: How gradients are taken, for an optimizer that needs them.
    """

    generator: Generator
    optimizer: Optimizer
    objective: Objective = field(default_factory=lambda: Unit(0))
    name: str = "main"
    gradient: GradientSettings = field(default_factory=GradientSettings)

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

    Attributes:
        climbed: For each step of a gradient method its scores, gradient norms, and pictures shown, ``(3, n)``.
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
        self.climbed: list[FloatArray] = []

    def generate(self, codes: FloatArray) -> NDArray[np.float32]:
        """Images of codes ``(n, dim)``, checked: ``(n, 3, h, w)`` in [0, 1]."""
        return check_generated(self.thread.generator(codes), len(codes), self.thread.generator)

    @property
    def climbs(self) -> bool:
        """Whether its optimizer learns from gradients, and not from the scores of what is presented."""
        return self.thread.optimizer.needs_gradient

    @property
    def finished(self) -> bool:
        """Whether its optimizer has taken all of its steps."""
        return isinstance(self.thread.optimizer, Finite) and self.thread.optimizer.finished

    def climb(self, codes: FloatArray, scores: FloatArray, gradients: FloatArray, pictures: int) -> None:
        """Takes one step along the gradient, and keeps score and length of it.

        Args:
            codes: ``(n, dim)``.
            scores: ``(n,)``.
            gradients: ``(n, dim)``.
            pictures: Pictures that the subject was shown for it, forward and backward.
        """
        self.thread.optimizer.tell(codes, scores, gradients)
        self.climbed.append(np.stack([scores, np.linalg.norm(gradients, axis=1), np.full(len(scores), pictures)]))

    def learn(self, ids: list[str], codes: FloatArray, scores: FloatArray, shown: int) -> None:
        """Tells the optimizer, unless it climbs, and remembers the best.

        Args:
            ids: Name of each code's image.
            codes: ``(n, dim)``.
            scores: ``(n,)``, NaN where lost.
            shown: Presentations that it took.
        """
        if not self.climbs:
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
        better. A gradient method is taken at its word: what it ends with.
        """
        if self.climbs:
            codes = self.thread.optimizer.ask()
            return [f"{self.thread.name}-last-{i:03d}" for i in range(len(codes))], codes
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
            "climbed": np.stack(self.climbed) if self.climbed else None,
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
        climbed = state.get("climbed")  # runs of earlier versions have none
        self.climbed = [] if climbed is None else list(climbed)
