"""What every optimizer does at its door: the order of calls, shapes, and the random generator's state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from closedloop.checks import check_whole
from closedloop.errors import CallOrderError, InvalidArgumentError
from closedloop.interfaces import FloatArray, Space, State
from closedloop.readable import ReadableOptimizer
from closedloop.seeds import generator_state, part_generator, restore_generator


class AskTell(ReadableOptimizer, ABC):
    """The calls that the optimizers written here share; what remains is to propose codes and to learn from scores.

    Attributes:
        memory: Names, without the leading underscore, of the attributes that change from generation to generation:
            numbers, arrays, or None. They are the saved state, with the pending codes and the random generator.

    Args:
        space: Where to search.
        seed: Seed of its own random generator.
        **options: What makes it again; None is left out (but for `images`), arrays become lists.
    """

    name: str
    needs_gradient = False
    memory: ClassVar[tuple[str, ...]] = ()

    def __init__(self, space: Space, seed: int, **options: Any) -> None:
        self.space = space
        self._rng = part_generator(seed, f"optimizer {type(self).__name__}")
        self._asked: FloatArray | None = None
        self._options: dict[str, Any] = {"seed": seed, **options}

    @property
    def recipe(self) -> Mapping[str, Any] | None:
        """How `load_optimizer` makes it again; also that it was given no budget, where it takes one."""
        given = {key: value for key, value in self._options.items() if value is not None or key == "images"}
        return {"name": self.name, **{k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in given.items()}}

    @property
    def pending(self) -> bool:
        """Whether codes were asked for and not yet told."""
        return self._asked is not None

    def _take_budget(self, images: int) -> int:
        """Notes a budget of codes that is told before the first `ask`, and returns it.

        Raises:
            CallOrderError: Codes were asked for already.
        """
        check_budget(images)
        if self.pending:
            raise CallOrderError(f"{self.name}: expected plan before the first ask; build a new optimizer.")
        self._options["images"] = int(images)
        return int(images)

    def ask(self) -> FloatArray:
        """Returns the next codes ``(n, dim)``; the same again until they are told."""
        if self._asked is None:
            self._asked = self._propose()
        return self._asked.copy()

    def tell(self, codes: FloatArray, scores: FloatArray, gradients: FloatArray | None = None) -> None:
        """Learns from the scores ``(n,)`` of the codes of the last `ask`; NaN where a presentation was lost."""
        codes, scores = check_tell(self._asked, codes, scores)
        self._asked = None
        self._learn(codes, scores)

    @abstractmethod
    def _propose(self) -> FloatArray:
        """Draws the next codes ``(n, dim)``."""

    @abstractmethod
    def _learn(self, codes: FloatArray, scores: FloatArray) -> None:
        """Learns from checked codes ``(n, dim)`` and scores ``(n,)``, some or all NaN; changes neither."""

    def state(self) -> State:
        """Returns what is in `memory`, the pending codes and the random generator."""
        remembered = {name: _copied(getattr(self, f"_{name}")) for name in self.memory}
        rest = {"asked": _copied(self._asked), "rng": generator_state(self._rng), "dim": self.space.dim}
        return {**remembered, **rest}

    def restore(self, state: State) -> None:
        """Goes back to a saved state.

        Raises:
            InvalidArgumentError: It is another optimizer's, or of a space of other dimensions; nothing is changed.
        """
        check_state(self.name, state, (*self.memory, "asked", "rng"), self.space.dim)
        for name in (*self.memory, "asked"):
            setattr(self, f"_{name}", _copied(state[name]))
        restore_generator(self._rng, state["rng"])


class MeanSearch(AskTell):
    """An evolution strategy: it searches around a mean, which it recommends with the average of its last means."""

    _average: FloatArray | None = None
    _moves: int = 0

    @abstractmethod
    def _mean(self) -> FloatArray | None:
        """Returns the mean ``(dim,)`` around which it searches; None before the first scores made one."""

    def tell(self, codes: FloatArray, scores: FloatArray, gradients: FloatArray | None = None) -> None:
        """Learns from the scores ``(n,)``, NaN where lost; has the mean that follows take part in the average."""
        super().tell(codes, scores, gradients)
        mean = self._mean()
        if mean is not None and not np.isnan(scores).all():
            self._average = averaged(self._average, mean, self._moves)
            self._moves += 1

    def recommend(self, n: int) -> FloatArray:
        """Returns the mean, then the average of the last means, ``(≤ n, dim)``; none before it has learnt."""
        mean = self._mean()
        if mean is None or self._average is None:
            return np.empty((0, self.space.dim))
        return self._placed(np.stack([mean, self._average])[:n])

    def _placed(self, codes: FloatArray) -> FloatArray:
        """Moves means ``(n, dim)`` to where codes lie: within the bounds."""
        return self.space.clip(codes)

    def state(self) -> State:
        """Returns what `AskTell` saves, and the average of the means."""
        return {**super().state(), "average": _copied(self._average), "moves": self._moves}

    def restore(self, state: State) -> None:
        """Goes back to a saved state; one of an older version has no average, and recommends nothing yet."""
        super().restore(state)
        self._average, self._moves = _copied(state.get("average")), int(state.get("moves", 0))


def averaged(average: FloatArray | None, mean: FloatArray, k: int) -> FloatArray:
    """Adds a mean ``(dim,)`` to the running average of the ``k`` means before it (Polyak & Juditsky 1992).

    Weights rise linearly over the first 40 means; then the average forgets exponentially, one in 20 at a time.
    """
    if average is None:
        return mean.copy()
    return average + max(0.05, 2 / (k + 2)) * (mean - average)


def _copied(value: Any) -> Any:
    """Copies an array; returns anything else as it is."""
    return value.copy() if isinstance(value, np.ndarray) else value


def check_state(name: str, state: State, needed: Iterable[str], dim: int) -> None:
    """Raises unless a saved state has what an optimizer needs, and is of a space of as many dimensions."""
    missing = [key for key in needed if key not in state]
    if missing:
        raise InvalidArgumentError(f"state: expected one of {name!r}, got one without {missing[0]!r}; name its own.")
    if state.get("dim", dim) != dim:  # runs from before it was saved do not say
        raise InvalidArgumentError(f"state: expected one of {dim} dimensions, got one of {state['dim']}.")


def check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    """Raises unless ``value`` is one of the known words."""
    if value not in known:
        raise InvalidArgumentError(f"{name}: expected {' or '.join(map(repr, known))}, got {value!r}.")


def check_budget(images: int | None) -> None:
    """Raises unless the budget ``images`` is None or a whole number of at least 1."""
    if images is not None:
        check_whole("images", images, 1)


def check_population(population: int | None, minimum: int) -> None:
    """Raises unless ``population`` is None or a whole number of at least ``minimum``."""
    if population is not None:
        check_whole("population", population, minimum)


def check_start(start: FloatArray | None, space: Space) -> FloatArray:
    """Returns the first mean ``(dim,)``: ``start`` if it fits the space, else the middle of the prior."""
    if start is None:
        return space.center
    try:
        start = np.asarray(start, dtype=float)
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(f"start: expected ({space.dim},) numbers, got {start!r:.80}.") from error
    if start.shape != (space.dim,):
        raise InvalidArgumentError(f"start: expected shape ({space.dim},), got {start.shape}.")
    checked: FloatArray = space.check(start[None])[0].copy()
    return checked


def check_tell(asked: FloatArray | None, codes: FloatArray, scores: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Returns ``codes (n, dim)`` and ``scores (n,)`` as float64 if they answer the last `ask`.

    Args:
        asked: What the last `ask` returned, None where there was none.
        codes: What the caller hands back.
        scores: One number for each code; NaN where the presentation was lost.

    Raises:
        CallOrderError: `tell` without `ask`.
        InvalidArgumentError: Wrong shapes, or other codes than those asked for.
    """
    if asked is None:
        raise CallOrderError("tell: expected a call of ask() first; each ask() is answered by one tell().")
    try:
        codes, scores = np.asarray(codes, dtype=float), np.asarray(scores, dtype=float)
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(f"codes, scores: expected numbers, got something else ({error}).") from error
    if codes.shape != asked.shape or not np.array_equal(codes, asked):
        raise InvalidArgumentError(
            f"codes: expected the {len(asked)} codes of the last ask(), unchanged, shape {asked.shape}, "
            f"got shape {codes.shape}."
        )
    if scores.shape != (len(asked),):
        raise InvalidArgumentError(f"scores: expected shape ({len(asked)},), got {scores.shape}.")
    if np.isinf(scores).any():
        raise InvalidArgumentError("scores: expected finite numbers, or NaN for a lost presentation; got infinity.")
    return codes, scores


def exponent_of(values: FloatArray) -> int:
    """Returns the power of two just above the largest of finite values ``(n,)`` without sign; 0 where all are 0.

    Values over that power of two have the same digits, and no square of them overflows or vanishes: so the unit of the
    scores does not matter.
    """
    return int(np.frexp(np.abs(values).max(initial=0.0))[1])


def log_weights(n: int) -> FloatArray:
    """Returns weights above 0 ``(n // 2 or 1,)`` to recombine ``n`` ranked samples, sum 1 (Hansen 2016, eq. 49)."""
    mu = max(n // 2, 1)
    weights = np.log((n + 1) / 2) - np.log(np.arange(1, mu + 1)) if n > 1 else np.ones(1)
    return np.asarray(weights / weights.sum())


def field_population(dim: int) -> int:
    """Returns the field's population size 4 + 3 log2(dim): 40 for a code of 4096 (Wang & Ponce 2022)."""
    return int(4 + np.floor(3 * np.log2(dim)))


def ranked(scores: FloatArray) -> NDArray[np.intp]:
    """Returns the indices of the scores ``(n,)`` that are not lost, best first."""
    kept = np.flatnonzero(~np.isnan(scores))
    return np.asarray(kept[np.argsort(-scores[kept], kind="stable")])


def cumulative_step(p: FloatArray, z: FloatArray, mu_eff: float) -> tuple[FloatArray, float]:
    """Adapts the step size cumulatively (Hansen 2016, eqs. 43-44), with c_σ = √μ_eff / (√μ_eff + √N).

    Args:
        p: Path so far, ``(dim,)``.
        z: Weighted mean of the standard normal samples that made the selected codes, ``(dim,)``.
        mu_eff: Variance-effective number of selected codes.

    Returns:
        The new path, and the factor for the step size.
    """
    n = len(p)
    c = np.sqrt(mu_eff) / (np.sqrt(mu_eff) + np.sqrt(n))  # c_σ
    d = 1 + c + 2 * max(0.0, np.sqrt((mu_eff - 1) / (n + 1)) - 1)  # d_σ, eq. 55
    # Eq. 43. Under random selection √μ_eff z is N(0, I), and the factor keeps p so: then ‖p‖ is E‖N(0, I)‖.
    p = (1 - c) * p + np.sqrt(c * (2 - c) * mu_eff) * z
    # Eq. 44: a path longer than a random one means steps in one direction, so a larger step.
    return p, float(np.exp(c / d * (np.linalg.norm(p) / expected_norm(n) - 1)))


def expected_norm(n: int) -> float:
    """Returns E‖N(0, I)‖ in ``n`` dimensions (Hansen 2016, p. 28)."""
    return float(np.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n**2)))
