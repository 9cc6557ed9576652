"""Objectives that are no weighted sum: cosine, layer energy, probabilities, contrast between groups, diversity.

Each works on numpy and on torch responses ``(n, units[, time])`` alike, averaged over time first. NaN in, NaN out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from closedloop.checks import check_flag, check_positive
from closedloop.errors import InvalidArgumentError
from closedloop.objectives.algebra import Term
from closedloop.objectives.selecting import by_column, one_column, selected, several_columns

#: What is added to lengths, so that cosines of silent populations stay finite (Lucid's value).
EPSILON = 1e-4


@final
@dataclass(frozen=True)
class Cosine(Term):
    """How far along a direction, and how purely: dot · max(0.1, cos)^power (Lucid's ``direction``).

    Attributes:
        weights: The direction, ``(units,)`` for the first columns, or by column; used as it is, not normalized.
        power: 0 is the dot product alone; higher asks for responses that resemble the direction.
    """

    weights: Mapping[int, float] | Sequence[float]
    power: float = 1.0

    def __post_init__(self) -> None:
        weights = by_column(self.weights, "Cosine")
        if not any(weights.values()):
            raise InvalidArgumentError(f"Cosine: expected finite weights, not all zero, got {self.weights!r:.80}.")
        if self.power != 0:
            check_positive("power", self.power)
        object.__setattr__(self, "weights", weights)

    @property
    def _by_column(self) -> dict[int, float]:
        """The weights by column."""
        return dict(self.weights if isinstance(self.weights, Mapping) else enumerate(self.weights))

    def __call__(self, responses: Any, images: Any = None) -> Any:
        """Turns responses ``(n, units[, time])`` into scores ``(n,)``."""
        x = selected(responses, self.columns, self.describe)
        weights = _like(x, list(self._by_column.values()))
        dot = x @ weights
        # cos = x · w / (‖x‖ ‖w‖), not below Lucid's 0.1: there its gradient is that of the dot product alone.
        cosine = dot / (EPSILON + _norm(x)) / (EPSILON + float(np.linalg.norm(_numpy(weights))))
        return dot * cosine.clip(0.1) ** self.power

    def describe(self) -> str:
        """Writes ``cosine([0.5, 1.0], 2.0)``, or ``cosine({3: 1.0, 7: -1.0}, 1.0)``."""
        weights = self._by_column
        plain = list(weights) == list(range(len(weights)))
        return f"cosine({list(weights.values()) if plain else weights!r}, {float(self.power)!r})"

    @property
    def columns(self) -> tuple[int, ...]:
        """The columns that have a weight."""
        return tuple(self._by_column)

    def moved(self, columns: Sequence[int]) -> Cosine:
        """Returns the same direction on ``columns[i]`` instead of i."""
        return Cosine({columns[c]: w for c, w in self._by_column.items()}, self.power)


@final
@dataclass(frozen=True)
class Layer(Term):
    """Half the sum of squared responses; its gradient is the responses themselves (DeepDream, Mordvintsev 2015).

    Attributes:
        columns: Which units; None for all.
    """

    columns: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        _settle_columns(self, "columns", "Layer")

    def __call__(self, responses: Any, images: Any = None) -> Any:
        """Turns responses ``(n, units[, time])`` into scores ``(n,)``."""
        x = selected(responses, self.columns, self.describe)
        return 0.5 * (x * x).sum(1)

    def describe(self) -> str:
        """Writes ``layer()``, or ``layer([0, 3])``."""
        return f"layer({_columns_text(self.columns)})"

    def moved(self, columns: Sequence[int]) -> Layer:
        """Returns the same units at their new places."""
        return Layer(_moved(self.columns, columns))


@final
@dataclass(frozen=True)
class LogProbability(Term):
    """Logarithm of the softmax probability of a unit.

    Attributes:
        column: The unit.
        among: The units that share the probability, this one included; None for all.
        exact: False takes the published shortcut of PPGN (Nguyen et al. 2017) for gradients: (1 - p) on the unit alone,
            nothing on the others. Scores are the same.
    """

    column: int
    among: tuple[int, ...] | None = None
    exact: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "column", one_column(self.column))
        check_flag("exact", self.exact)
        _settle_columns(self, "among", "among")
        if self.among is not None and self.column not in self.among:
            raise InvalidArgumentError(
                f"among: expected the unit {self.column} among the others, got {list(self.among)}; add it."
            )

    def __call__(self, responses: Any, images: Any = None) -> Any:
        """Turns responses ``(n, units[, time])`` into scores ``(n,)``, at most 0."""
        own = selected(responses, [self.column], self.describe)[:, 0]
        score = own - _logsumexp(selected(responses, self.among, self.describe))
        if self.exact or isinstance(score, np.ndarray):
            return score
        pull = (1 - score.detach().exp()) * own
        return score.detach() + pull - pull.detach()

    def describe(self) -> str:
        """Writes ``logprob(7)``, ``logprob(7, [7, 8])``, or ``logprob(7, exact=False)``."""
        return f"logprob({_probability_text(self.column, self.among)}{'' if self.exact else ', exact=False'})"

    @property
    def columns(self) -> tuple[int, ...] | None:
        """All that share the probability."""
        return self.among

    def moved(self, columns: Sequence[int]) -> LogProbability:
        """Returns the same units at their new places."""
        return LogProbability(columns[self.column], _moved(self.among, columns), self.exact)


@final
@dataclass(frozen=True)
class Probability(Term):
    """Softmax probability of a unit.

    Attributes:
        column: The unit.
        among: The units that share the probability, this one included; None for all.
    """

    column: int
    among: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        settled = LogProbability(self.column, self.among)
        object.__setattr__(self, "column", settled.column)
        object.__setattr__(self, "among", settled.among)

    def __call__(self, responses: Any, images: Any = None) -> Any:
        """Turns responses ``(n, units[, time])`` into scores ``(n,)`` in [0, 1]."""
        logarithm = LogProbability(self.column, self.among)(responses)
        return np.exp(logarithm) if isinstance(logarithm, np.ndarray) else logarithm.exp()

    def describe(self) -> str:
        """Writes ``prob(7)``, or ``prob(7, [7, 8])``."""
        return f"prob({_probability_text(self.column, self.among)})"

    @property
    def columns(self) -> tuple[int, ...] | None:
        """All that share the probability."""
        return self.among

    def moved(self, columns: Sequence[int]) -> Probability:
        """Returns the same units at their new places."""
        return Probability(columns[self.column], _moved(self.among, columns))


@final
@dataclass(frozen=True)
class Contrast(Term):
    """What one group of units answers to and the others do not (most discriminative stimuli, Burg et al. 2024).

    With m the mean response of each of K groups, m/T of the targets minus the logarithm of the mean over groups of
    exp(m/T): 0 where all groups answer alike, at most log K. A plain difference is ``Mean(a) - Mean(b)``.

    Attributes:
        targets: The group that is to answer; a column or several.
        others: The groups that are not: a column, one group of columns, or a list of groups.
        temperature: In units of the responses; low looks at the strongest other group alone. 1.6 is the paper's.
    """

    targets: tuple[int, ...]
    others: tuple[tuple[int, ...], ...]
    temperature: float = 1.6

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", _group(self.targets, "targets"))
        object.__setattr__(self, "others", _groups(self.others))
        object.__setattr__(self, "temperature", check_positive("temperature", self.temperature))

    def __call__(self, responses: Any, images: Any = None) -> Any:
        """Turns responses ``(n, units[, time])`` into scores ``(n,)``."""
        columns = self.columns
        x = selected(responses, columns, self.describe)
        groups = (self.targets, *self.others)
        averaging = np.array([[(c in g) / len(g) for g in groups] for c in columns])
        means = x @ _like(x, averaging) / self.temperature
        return means[:, 0] - _logsumexp(means) + float(np.log(len(groups)))

    def describe(self) -> str:
        """Writes ``contrast([1, 2], [3])``, or ``contrast([1], [[2], [3, 4]], temperature=1.0)``."""
        others = [list(group) for group in self.others]
        shown = others[0] if len(others) == 1 else others
        heat = "" if self.temperature == Contrast.temperature else f", temperature={self.temperature!r}"
        return f"contrast({list(self.targets)}, {shown}{heat})"

    @property
    def columns(self) -> tuple[int, ...]:
        """The columns of all groups."""
        return tuple(dict.fromkeys(c for group in (self.targets, *self.others) for c in group))

    def moved(self, columns: Sequence[int]) -> Contrast:
        """Returns the same groups at their new places."""
        targets, *others = (tuple(columns[c] for c in group) for group in (self.targets, *self.others))
        return Contrast(targets, tuple(others), self.temperature)


@final
@dataclass(frozen=True)
class Diversity(Term):
    """For each image, the mean cosine similarity of its responses with those of the other images of the batch.

    To be subtracted, so that a batch shows different sides of a unit: ``Unit(3) - 100 * Diversity()`` (Olah et al.
    2017). It depends on the batch: 0 for a batch of one, and another value in another company. Lost presentations are
    left out.

    Attributes:
        columns: Which units; None for all.
    """

    columns: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        _settle_columns(self, "columns", "Diversity")

    def __call__(self, responses: Any, images: Any = None) -> Any:
        """Turns responses ``(n, units[, time])`` into scores ``(n,)`` in [-1, 1]."""
        x = selected(responses, self.columns, self.describe)
        unit = x / (EPSILON + _norm(x))[:, None]
        present = (unit == unit).all(1)
        total = unit[present].sum(0)
        return (unit * (total - unit)).sum(1) / max(int(present.sum()) - 1, 1)

    def describe(self) -> str:
        """Writes ``diversity()``, or ``diversity([0, 3])``."""
        return f"diversity({_columns_text(self.columns)})"

    def moved(self, columns: Sequence[int]) -> Diversity:
        """Returns the same units at their new places."""
        return Diversity(_moved(self.columns, columns))


def _settle_columns(term: Term, attribute: str, name: str) -> None:
    columns = getattr(term, attribute)
    object.__setattr__(term, attribute, None if columns is None else several_columns(columns, name))


def _moved(columns: tuple[int, ...] | None, places: Sequence[int]) -> tuple[int, ...]:
    """Returns columns at their new places; all of them are named then, since others may have joined."""
    return tuple(places) if columns is None else tuple(places[c] for c in columns)


def _group(group: Any, name: str) -> tuple[int, ...]:
    return several_columns([group] if isinstance(group, (int, np.integer)) else group, name)


def _groups(others: Any) -> tuple[tuple[int, ...], ...]:
    """Makes groups of a column, one group, or several."""
    several = (
        isinstance(others, Iterable)
        and not isinstance(others, str)
        and any(hasattr(item, "__iter__") for item in others)
    )
    return tuple(_group(g, "others") for g in others) if several else (_group(others, "others"),)


def _columns_text(columns: tuple[int, ...] | None) -> str:
    return "" if columns is None else str(list(columns))


def _probability_text(column: int, among: tuple[int, ...] | None) -> str:
    return str(column) if among is None else f"{column}, {list(among)}"


def _like(x: Any, values: Any) -> Any:
    """Returns numbers as an array or tensor of the kind of ``x``."""
    return np.asarray(values, dtype=float) if isinstance(x, np.ndarray) else x.new_tensor(np.asarray(values))


def _numpy(values: Any) -> Any:
    return values if isinstance(values, np.ndarray) else values.cpu().numpy()


def _norm(x: Any) -> Any:
    """Returns the length of each row ``(n,)``; the gradient of torch's is 0, not NaN, where a row is 0."""
    return np.linalg.norm(x, axis=1) if isinstance(x, np.ndarray) else x.norm(dim=1)


def _logsumexp(x: Any) -> Any:
    if not isinstance(x, np.ndarray):
        return x.logsumexp(1)
    from scipy.special import logsumexp  # takes as long to import as all other objectives

    return logsumexp(x, axis=1)
