"""The values that objectives are, and their arithmetic: ``Unit(3) - 0.5 * TotalVariation()``.

Every objective here is a `Term`. Sums of terms stay flat (a sum of 500 is one `Combination`), so nothing recurses; sums
of weighted units stay one `Linear`, which needs a single product with the responses.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np

from closedloop.errors import InvalidArgumentError
from closedloop.objectives.selecting import number, selected
from closedloop.readable import Readable


class Term(Readable, ABC):
    """An objective with arithmetic: ``+ - *`` with numbers and other terms, ``/`` by numbers, ``sum(terms)``.

    Terms are immutable. They map responses ``(n, units[, time])``, numpy or torch, to scores ``(n,)`` of the same kind.
    """

    @abstractmethod
    def __call__(self, responses: Any, images: Any = None) -> Any:
        """Gives scores ``(n,)`` to responses ``(n, units[, time])`` and, if `needs_images`, images ``(n, 3, h, w)``."""

    @abstractmethod
    def describe(self) -> str:
        """Returns its text, which `parse_objective` reads back."""

    def _in_words(self) -> str:
        text = self.describe()
        return text if len(text) <= 100 else f"{text[:99]}…"

    @property
    def needs_images(self) -> bool:
        """Whether the scores depend on the images too."""
        return False

    @property
    def columns(self) -> tuple[int, ...] | None:
        """The response columns that take part; None stands for all there are."""
        return ()

    def moved(self, columns: Sequence[int]) -> Term:
        """Returns the same objective for responses whose column i has become ``columns[i]``."""
        return self

    def __add__(self, other: Term | float) -> Term:
        return _added(self, other)

    def __radd__(self, other: Term | float) -> Term:
        return _added(other, self)

    def __neg__(self) -> Term:
        return _scaled(self, -1.0)

    def __sub__(self, other: Term | float) -> Term:
        return _added(self, -other)

    def __rsub__(self, other: Term | float) -> Term:
        return _added(other, -self)

    def __mul__(self, factor: Term | float) -> Term:
        return _multiplied(self, factor) if isinstance(factor, Term) else _scaled(self, number(factor))

    def __rmul__(self, factor: float) -> Term:
        return _scaled(self, number(factor))

    def __truediv__(self, divisor: float) -> Term:
        if number(divisor) == 0:
            raise InvalidArgumentError("objective: division by zero.")
        return _scaled(self, 1 / number(divisor))


@final
@dataclass(frozen=True)
class Linear(Term):
    """A weighted sum of units plus a constant.

    Attributes:
        weights: Weight of each unit that takes part, by its column.
        constant: Added to every score.
        text: How it was written, for records.
    """

    weights: Mapping[int, float]
    constant: float = 0.0
    text: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not np.isfinite([self.constant, *self.weights.values()]).all():
            raise InvalidArgumentError("objective: expected finite weights, got NaN or infinity.")

    def __call__(self, responses: Any, images: Any = None) -> Any:
        """Returns scores ``(n,)`` of responses ``(n, units[, time])``, numpy or torch, in the same kind."""
        chosen = selected(responses, list(self.weights), self.describe)
        weights = np.array(list(self.weights.values()))
        if isinstance(responses, np.ndarray):
            return chosen @ weights + self.constant
        return chosen @ chosen.new_tensor(weights) + self.constant

    def describe(self) -> str:
        """Returns its text, which `parse_objective` reads back: ``unit(0) - 0.5*unit(3) + 2.0``."""
        return self.text or _joined(_linear_parts(self)) or repr(self.constant)

    @property
    def columns(self) -> tuple[int, ...]:
        """The columns that have a weight."""
        return tuple(self.weights)

    def moved(self, columns: Sequence[int]) -> Linear:
        """Returns the same weights on ``columns[i]`` instead of i."""
        return Linear({columns[unit]: weight for unit, weight in self.weights.items()}, self.constant)


@final
@dataclass(frozen=True)
class Combination(Term):
    """A weighted sum of a linear part and other terms.

    Attributes:
        linear: Weighted units and a constant; empty where there are none.
        terms: Weight and term of the rest, none of them linear or a sum.
    """

    linear: Linear
    terms: tuple[tuple[float, Term], ...]

    def __post_init__(self) -> None:
        if not np.isfinite([weight for weight, _ in self.terms]).all():
            raise InvalidArgumentError("objective: expected finite weights, got NaN or infinity.")

    def __call__(self, responses: Any, images: Any = None) -> Any:
        """Returns scores ``(n,)`` of responses ``(n, units[, time])``, and images ``(n, 3, h, w)`` where needed."""
        score = self.linear(responses) if self.linear.weights else self.linear.constant
        for weight, term in self.terms:
            score = score + weight * term(responses, images)
        return score

    def describe(self) -> str:
        """Returns its text, which `parse_objective` reads back: ``unit(3) - 0.25*tv()``."""
        parts = [(weight, _term_text(weight, term)) for weight, term in self.terms]
        if self.linear.text:
            return f"{self.linear.text} {_signed(parts)}"
        return _joined([*_linear_parts(self.linear), *parts])

    @property
    def needs_images(self) -> bool:
        """Whether one of its terms does."""
        return any(term.needs_images for _, term in self.terms)

    @property
    def columns(self) -> tuple[int, ...] | None:
        """The columns of all its terms together."""
        return _together([self.linear, *(term for _, term in self.terms)])

    def moved(self, columns: Sequence[int]) -> Term:
        """Returns the sum with each of its terms moved."""
        return Combination(self.linear.moved(columns), tuple((w, term.moved(columns)) for w, term in self.terms))


@final
@dataclass(frozen=True)
class Product(Term):
    """A product of terms, none of them a product or a number."""

    factors: tuple[Term, ...]

    def __call__(self, responses: Any, images: Any = None) -> Any:
        """Returns scores ``(n,)`` of responses ``(n, units[, time])``, and images ``(n, 3, h, w)`` where needed."""
        score = self.factors[0](responses, images)
        for factor in self.factors[1:]:
            score = score * factor(responses, images)
        return score

    def describe(self) -> str:
        """Returns its text, which `parse_objective` reads back: ``unit(3)*(unit(4) + 1.0)``."""
        # One call, without brackets or strings inside, needs no brackets as a factor.
        plain = re.compile(r'\w+\([^()"]*\)')
        return "*".join(text if plain.fullmatch(text) else f"({text})" for text in map(_describe, self.factors))

    @property
    def needs_images(self) -> bool:
        """Whether one of its factors does."""
        return any(factor.needs_images for factor in self.factors)

    @property
    def columns(self) -> tuple[int, ...] | None:
        """The columns of all its factors together."""
        return _together(self.factors)

    def moved(self, columns: Sequence[int]) -> Term:
        """Returns the product with each of its factors moved."""
        return Product(tuple(factor.moved(columns) for factor in self.factors))


#: A sum of nothing.
_ZERO = Linear({})


def _parts(value: Any) -> tuple[Linear, tuple[tuple[float, Term], ...]]:
    """Splits an operand into a linear part and weighted other terms."""
    if isinstance(value, Linear):
        return value, ()
    if isinstance(value, Combination):
        return value.linear, value.terms
    if isinstance(value, Term):
        return _ZERO, ((1.0, value),)
    return Linear({}, number(value)), ()


def _simplest(linear: Linear, terms: tuple[tuple[float, Term], ...]) -> Term:
    """Returns a sum as the plainest value that says it."""
    if not terms:
        return linear
    if linear == _ZERO and len(terms) == 1 and terms[0][0] == 1:
        return terms[0][1]
    return Combination(linear, terms)


def _added(a: Any, b: Any) -> Term:
    (linear_a, terms_a), (linear_b, terms_b) = _parts(a), _parts(b)
    return _simplest(_added_linear(linear_a, linear_b), terms_a + terms_b)


def _added_linear(a: Linear, b: Linear) -> Linear:
    if a == _ZERO or b == _ZERO:
        return b if a == _ZERO else a
    merged = {u: a.weights.get(u, 0.0) + b.weights.get(u, 0.0) for u in {**a.weights, **b.weights}}
    return Linear(merged, a.constant + b.constant)


def _scaled(term: Term, factor: float) -> Term:
    linear, terms = _parts(term)
    scaled = Linear({u: w * factor for u, w in linear.weights.items()}, linear.constant * factor)
    return _simplest(scaled, tuple((weight * factor, part) for weight, part in terms))


def _multiplied(a: Term, b: Term) -> Term:
    """Returns a product with its numbers in front, so that equal products are written alike."""
    (weight_a, factors_a), (weight_b, factors_b) = _factors(a), _factors(b)
    factors = factors_a + factors_b
    weight = number(weight_a * weight_b)
    if len(factors) < 2:
        return _scaled(factors[0], weight) if factors else Linear({}, weight)
    return _scaled(Product(factors), weight)


def _factors(term: Term) -> tuple[float, tuple[Term, ...]]:
    """Returns a number and factors that make up a term; a constant has no factors."""
    if isinstance(term, Product):
        return 1.0, term.factors
    linear, terms = _parts(term)
    if not terms and not linear.weights:
        return linear.constant, ()
    if not terms and not linear.constant and len(linear.weights) == 1:
        ((unit, weight),) = linear.weights.items()
        return weight, (Linear({unit: 1.0}),)
    if linear == _ZERO and len(terms) == 1:
        weight, only = terms[0]
        return weight, only.factors if isinstance(only, Product) else (only,)
    return 1.0, (term,)


def _together(terms: Sequence[Term]) -> tuple[int, ...] | None:
    """Returns the columns of several terms, each once; None as soon as one takes them all."""
    found: dict[int, None] = {}
    for columns in (term.columns for term in terms):
        if columns is None:
            return None
        found.update(dict.fromkeys(columns))
    return tuple(found)


def _describe(term: Term) -> str:
    return term.describe()


def _linear_parts(linear: Linear) -> list[tuple[float, str]]:
    """Returns sign and text of each weighted unit and of the constant, with numbers that read back exactly."""
    parts = [(weight, _factor_text(weight, f"unit({unit})")) for unit, weight in linear.weights.items()]
    return [*parts, (linear.constant, repr(abs(linear.constant)))] if linear.constant else parts


def _factor_text(weight: float, text: str) -> str:
    return text if abs(weight) == 1 else f"{abs(weight)!r}*{text}"


def _term_text(weight: float, term: Term) -> str:
    """Writes a weighted term; a product is bracketed, lest the weight be read as that of its first factor."""
    text = term.describe()
    return _factor_text(weight, f"({text})" if isinstance(term, Product) and weight != 1 else text)


def _signed(parts: Sequence[tuple[float, str]]) -> str:
    return " ".join(("- " if weight < 0 else "+ ") + text for weight, text in parts)


def _joined(parts: Sequence[tuple[float, str]]) -> str:
    """Writes ``a - b + c``; empty for no parts."""
    text = _signed(parts)
    return "-" + text[2:] if text.startswith("-") else text[2:]
