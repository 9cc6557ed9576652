"""A thread: one evolution of a generator's codes under one objective, and what it must remember."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from closedloop.arrays import as_numbers
from closedloop.blame import parts_named
from closedloop.checks import check_memory, check_part, make_images
from closedloop.errors import InvalidArgumentError, ObjectiveError, OptimizerError, blamed
from closedloop.gradients.settings import GradientSettings, Slope
from closedloop.interfaces import (
    Attributing,
    Finite,
    FloatArray,
    Generator,
    Objective,
    Optimizer,
    Recommending,
    State,
)
from closedloop.loop.sequential import Naturals
from closedloop.loop.sparing import one_thread
from closedloop.loop.stopping import Scored
from closedloop.objectives import Unit, evaluate
from closedloop.optimizers.base import averaged
from closedloop.readable import Readable
from closedloop.recording.layout import REFERENCE

#: Letters of a thread's name; it is part of the names of files.
LONGEST_NAME = 100
#: Optimizers that recommended nothing in versions that ended a run by another rule.
_RECOMMENDED_NOTHING = frozenset(
    ("cma", "cma-diagonal", "cholesky-cma", "separable-cma", "sphere-cma", "hessian-cma", "isotropic", "nes", "fdgd")
)


@final
@dataclass(frozen=True)
class Thread(Readable):
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

    def _in_words(self) -> str:
        goal = self.objective.describe()
        return f"{self.name}: {self.optimizer.name} searches codes of {self.generator.name} for {goal:.60}"

    @parts_named()
    def __post_init__(self) -> None:
        for kind in ("generator", "optimizer", "objective"):
            check_part(kind, getattr(self, kind))
        side = self.generator.resolution
        check_memory(f"generator {self.generator.name!r}: resolution", 3, side, side)
        if not isinstance(self.gradient, GradientSettings):
            raise InvalidArgumentError(f"gradient: expected GradientSettings, got {self.gradient!r:.80}.")
        if not isinstance(self.name, str) or len(self.name) > LONGEST_NAME:
            raise InvalidArgumentError(f"name: expected a text of up to {LONGEST_NAME} letters, got {self.name!r:.80}.")
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

    def ask(self) -> FloatArray:
        """Returns a copy of the next codes ``(n, dim)`` of the optimizer, at least one, checked.

        Raises:
            OptimizerError: It raised.
            InvalidArgumentError: It asked for none, or for codes outside of the generator's space.
        """
        with self._optimizing("ask()"):
            codes = self.generator.space.check(self.optimizer.ask())
            if len(codes) == 0:
                raise InvalidArgumentError(
                    "codes: expected at least one, got none: the optimizer asked for no code at all."
                )
            return codes

    def tell(self, codes: FloatArray, scores: FloatArray, gradients: FloatArray | None = None) -> None:
        """Tells the optimizer copies of codes ``(n, dim)``, scores ``(n,)`` and, where it climbs, gradients.

        Raises:
            OptimizerError: It raised.
        """
        with self._optimizing("tell()"):
            if gradients is None:
                self.optimizer.tell(codes.copy(), scores.copy())
            else:
                self.optimizer.tell(codes.copy(), scores.copy(), gradients.copy())

    def recommend(self, n: int) -> FloatArray:
        """Returns up to ``n`` codes that the optimizer recommends, ``(≤ n, dim)``; none where it cannot."""
        none = np.empty((0, self.generator.space.dim))
        if not isinstance(self.optimizer, Recommending):
            return none
        with self._optimizing("recommend()"):
            codes = as_numbers("codes", self.optimizer.recommend(n))
            return self.generator.space.check(codes)[:n] if codes.size else none

    def proposers(self, codes: FloatArray) -> list[str]:
        """Returns in a word how each of codes ``(n, dim)`` was found; empty ones where the optimizer does not say."""
        if not isinstance(self.optimizer, Attributing):
            return [""] * len(codes)
        with self._optimizing("proposers()"):
            words: Any = self.optimizer.proposers(codes.copy())
            if isinstance(words, (str, bytes, Set, Mapping)) or len(words) != len(codes):
                raise OptimizerError(f"expected a list with a word for each of {len(codes)} codes, got {words!r:.80}.")
            return [str(word) for word in words]

    def saved(self) -> State:
        """Returns the optimizer's state."""
        with self._optimizing("state()"):
            return self.optimizer.state()

    def restored(self, state: State) -> None:
        """Puts the optimizer back to a saved state."""
        with self._optimizing("restore()"):
            self.optimizer.restore(state)

    def score(self, responses: FloatArray, images: NDArray[np.float32]) -> FloatArray:
        """Returns the scores ``(n,)`` of mean responses ``(n, units[, time])`` to images ``(n, 3, h, w)``, checked.

        Raises:
            ObjectiveError: The objective raised, gave another number of scores, infinity, or no numbers.
        """
        return checked_scores(self.objective, responses, images, f"thread {self.name!r}: its")

    @contextmanager
    def _optimizing(self, call: str) -> Iterator[None]:
        whose = f"thread {self.name!r}: optimizer {self.optimizer.name!r}, {call}"
        with blamed(whose, OptimizerError), one_thread():
            yield


def checked_scores(
    objective: Objective, responses: FloatArray, images: NDArray[np.float32], whose: str = "the"
) -> FloatArray:
    """Returns the scores ``(n,)`` of mean responses ``(n, units[, time])`` to images ``(n, 3, h, w)``, checked.

    Args:
        objective: What is maximized.
        responses: NaN where all presentations were lost.
        images: What was shown.
        whose: Whose objective it is, for the error.

    Raises:
        ObjectiveError: The objective raised, gave another number of scores, infinity, or no numbers.
    """
    named = f"{whose} objective {_described(objective)}"
    with blamed(named, ObjectiveError):
        found = evaluate(objective, responses.copy(), images)
    scores = as_numbers(named, found, lost=True, error=ObjectiveError).astype(float)
    if scores.shape != (len(responses),) or np.isinf(scores).any():
        raise ObjectiveError(
            f"{named}: expected {len(responses)} finite scores (or NaN) from its objective, got shape "
            f"{scores.shape}{' with infinity' if np.isinf(scores).any() else ''}."
        )
    return scores


@final
class Evolution:
    """A thread under way: how many images it has shown, its history, and its best candidates so far.

    Args:
        thread: What is evolved.
        candidates: How many codes to re-test, recommended or best-scored ones.

    Attributes:
        climbed: For each step of a gradient method its scores, gradient norms, and pictures shown, ``(3, n)``.
        hold: Weights ``(n,)`` of the distances from an anchor, NaN where not yet measured; None before the first step.
        failed: What went wrong with it, where the session goes on without it; else empty.
        latest: Scores of the images of the last generation, ``(n,)``.
        naturals: What is known of the references, where a stopping rule compares with them; else None.
    """

    def __init__(self, thread: Thread, candidates: int) -> None:
        self.thread: Thread = thread
        self.candidates = candidates
        self.images: int = 0
        self.history: list[Scored] = []
        self.top_ids: list[str] = []
        self.top_scores: FloatArray = np.empty(0)
        self.top_codes: FloatArray = np.empty((0, thread.generator.space.dim))
        self.center: FloatArray = thread.generator.space.center
        self.average: FloatArray | None = None
        self.centers: int = 0
        self.older: bool = False
        self.winner: tuple[str, FloatArray] | None = None
        self.climbed: list[FloatArray] = []
        self.hold: FloatArray | None = None
        self.failed: str = ""
        self.latest: FloatArray = np.empty(0)
        self.naturals: Naturals | None = None
        self._asked: FloatArray | None = None

    def generate(self, codes: FloatArray) -> NDArray[np.float32]:
        """Makes images of codes ``(n, dim)``, checked: ``(n, 3, h, w)`` in [0, 1]."""
        return make_images(self.thread.generator, codes, f"thread {self.thread.name!r}: ")

    @property
    def climbs(self) -> bool:
        """Whether its optimizer learns from gradients, and not from the scores of what is presented."""
        return self.thread.optimizer.needs_gradient

    @property
    def finished(self) -> bool:
        """Whether its optimizer has taken all of its steps."""
        return isinstance(self.thread.optimizer, Finite) and self.thread.optimizer.finished

    @property
    def ended(self) -> str:
        """Why its optimizer has nothing more to ask, in words; empty while it has."""
        if not self.finished:
            return ""
        return f"finished after {len(self.climbed)} steps" if self.climbs else "finished"

    def ask(self) -> FloatArray:
        """Returns the next codes ``(n, dim)``, the same again until they are told; see `Thread.ask`.

        An optimizer is asked once: one that gives other codes whenever it is asked is told of those that were shown.
        """
        if self._asked is None:
            self._asked = self.thread.ask()
        return self._asked.copy()

    def climb(self, codes: FloatArray, slope: Slope) -> None:
        """Takes one step from codes ``(n, dim)`` along the gradient, and keeps score and length of it.

        An infinite score is told as NaN: the code stays where it is.
        """
        scores, gradients = slope.scores, slope.gradients
        if slope.distances is not None and slope.pulls is not None:
            weights = self._weighed(gradients, slope.pulls)
            scores, gradients = scores - weights * slope.distances, gradients - weights[:, None] * slope.pulls
        self._asked = None
        self.thread.tell(codes, np.where(np.isinf(scores), np.nan, scores), gradients)
        self.climbed.append(np.stack([scores, _lengths(gradients), np.full(len(scores), slope.pictures)]))

    def _weighed(self, gradients: FloatArray, pulls: FloatArray) -> FloatArray:
        """Returns weights ``(n,)`` of the distances from the anchor; measures those that are not known."""
        alpha, size = 0.0 if (anchor := self.thread.gradient.anchor) is None else anchor.alpha, np.abs(pulls).sum(1)
        measured = alpha * np.abs(gradients).sum(1) / np.where(size > 0, size, np.nan)
        self.hold = measured if self.hold is None else np.where(np.isnan(self.hold), measured, self.hold)
        return np.nan_to_num(self.hold)

    def learn(self, ids: list[str], codes: FloatArray, scores: FloatArray, shown: int) -> None:
        """Tells the optimizer, unless it climbs, and remembers the best.

        Args:
            ids: Name of each code's image.
            codes: ``(n, dim)``.
            scores: ``(n,)``, NaN where lost.
            shown: Presentations that it took.
        """
        whole = self.climbs or len(codes) == len(self.ask())
        if not self.climbs:
            self._tell(codes, scores)
        self.images += shown
        valid = scores[~np.isnan(scores)]
        best, mean = (valid.max(), valid.mean()) if len(valid) else (np.nan, np.nan)
        self.history.append(Scored(float(best), float(mean), self.images))
        self.latest = scores.copy()
        if len(valid) and whole:  # that of a few codes is not the optimizer's mean
            self.center = codes[~np.isnan(scores)].mean(0)
            self.average, self.centers = averaged(self.average, self.center, self.centers), self.centers + 1
        pooled = np.concatenate([self.top_scores, scores])
        order = np.argsort(-pooled, kind="stable")  # NaN last
        keep = [i for i in order[: self.candidates] if not np.isnan(pooled[i])]
        names = self.top_ids + ids
        self.top_ids = [names[i] for i in keep]
        self.top_codes = np.concatenate([self.top_codes, codes])[keep]
        self.top_scores = pooled[keep]

    def _tell(self, codes: FloatArray, scores: FloatArray) -> None:
        """Tells the optimizer; those of the last generation for which the budget had no room were lost."""
        asked = self.ask()
        told = np.append(scores, np.full(len(asked) - len(codes), np.nan))
        self._asked = None
        self.thread.tell(np.concatenate([codes, asked[len(codes) :]]), told)

    def finalists(self) -> tuple[list[str], FloatArray]:
        """Returns what is worth a re-test: one more than `candidates`, whatever the optimizer.

        Under noise the best-scored code owes its score to luck; a mean, which no single score chose, is often better.
        An optimizer that recommends codes is asked for them; of others it is the center of the last generation and the
        average of the last centers. The rest are the best-scored codes, one at least. A gradient method is taken at its
        word: what it ends with. Of a thread that failed the best-scored ones remain. A run that an older version began
        ends by its rule: the best-scored codes and the center, or the best-scored one and what `auto` recommends.
        """
        name = self.thread.name
        if self.failed:
            return list(self.top_ids), self.top_codes
        if self.climbs:
            codes = self.ask()
            return [f"{name}-last-{i:03d}" for i in range(len(codes))], codes
        if self.older and getattr(self.thread.optimizer, "name", "") in _RECOMMENDED_NOTHING:
            return [*self.top_ids, f"{name}-center"], np.concatenate([self.top_codes, self.center[None]])
        if len(codes := self.thread.recommend(self.candidates)):
            top = self.top_codes[: 1 if self.older else self.candidates + 1 - len(codes)]
            codes = codes[~np.any(np.all(np.isclose(codes[:, None], top, rtol=1e-4, atol=1e-6), axis=2), axis=1)]
            ids = [*self.top_ids[: len(top)], *(f"{name}-recommended-{i:03d}" for i in range(len(codes)))]
            return ids, np.concatenate([top, codes])
        means = {"center": self.center, **({} if self.average is None else {"average": self.average})}
        names = list(means)[: max(self.candidates, 1)]
        top = self.top_codes[: self.candidates + 1 - len(names)]
        ids = [*self.top_ids[: len(top)], *(f"{name}-{end}" for end in names)]
        return ids, np.concatenate([top, *(means[end][None] for end in names)])

    def state(self) -> State:
        """Returns all of the above, with the optimizer's state."""
        return {
            "optimizer": None if self.failed else self.thread.saved(),
            "images": self.images,
            "history": np.array(self.history, dtype=float).reshape(-1, 3),
            "top_ids": list(self.top_ids),
            "top_scores": self.top_scores,
            "top_codes": self.top_codes,
            "center": self.center,
            **({} if self.older else {"average": self.average, "centers": self.centers}),
            "winner": None if self.winner is None else {"id": self.winner[0], "code": self.winner[1]},
            "climbed": np.stack(self.climbed) if self.climbed else None,
            "hold": self.hold,
            "stream": self.thread.gradient.stream,
            **({"failed": self.failed} if self.failed else {}),
            **({} if self.naturals is None else {"naturals": np.stack(self.naturals), "latest": self.latest}),
        }

    def restore(self, state: State) -> None:
        """Goes back to a saved state."""
        self._asked = None
        self.failed = str(state.get("failed", ""))
        if not self.failed:
            self.thread.restored(state["optimizer"])
        stream = int(state.get("stream", 1))  # runs of earlier versions do not say it
        self.thread = replace(self.thread, gradient=replace(self.thread.gradient, stream=stream))
        self.images = int(state["images"])
        self.history = [Scored(float(b), float(m), int(i)) for b, m, i in state["history"]]
        self.top_ids = list(state["top_ids"])
        self.top_scores = state["top_scores"]
        self.top_codes = state["top_codes"]
        self.center = state["center"]
        self.older = "centers" not in state
        self.average = state.get("average")
        self.centers = int(state.get("centers", 0))
        winner = state["winner"]
        self.winner = None if winner is None else (winner["id"], winner["code"])
        climbed = state.get("climbed")  # runs of earlier versions have none
        self.climbed = [] if climbed is None else list(climbed)
        self.hold = state.get("hold")
        if (naturals := state.get("naturals")) is not None:
            self.naturals, self.latest = Naturals(*naturals), state["latest"]


def _described(objective: Objective) -> str:
    """Names an objective as an error does."""
    try:
        return f"{objective.describe()!s:.80}"
    except Exception:  # noqa: BLE001 - it is about to be blamed for something else
        return type(objective).__name__


def _lengths(gradients: FloatArray) -> FloatArray:
    """Returns norms ``(n,)`` of gradients ``(n, dim)``; NaN where one is not finite."""
    finite = np.asarray(np.isfinite(gradients).all(1))
    return np.where(finite, np.linalg.norm(np.where(finite[:, None], gradients, 0.0), axis=1), np.nan)
