"""What is to be maximized, as values with arithmetic: ``Unit(3) - 0.5 * Mean([0, 1])``.

An objective maps responses ``(n, units)`` to scores ``(n,)``, for numpy arrays and for torch tensors alike; responses
with a time axis are averaged over time first. NaN in, NaN out. Units are columns of the responses.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np

from closedloop.errors import InvalidArgumentError, closest


@final
@dataclass(frozen=True)
class Linear:
    """A weighted sum of units plus a constant; every objective here is one.

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

    def __call__(self, responses: Any) -> Any:
        """Responses ``(n, units[, time])``, numpy or torch -> scores ``(n,)`` of the same kind."""
        columns = list(self.weights)
        if not 2 <= responses.ndim <= 3:
            raise InvalidArgumentError(
                f"responses: expected shape (n, units) or (n, units, time), got {responses.shape}."
            )
        if columns and max(columns) >= responses.shape[1]:
            raise InvalidArgumentError(
                f"objective {self.describe()!r}: expected a response column {max(columns)}, got {responses.shape[1]} "
                "units; record more units, or change the objective."
            )
        chosen = responses[:, columns]
        if responses.ndim == 3:
            chosen = chosen.mean(-1)
        weights = np.array(list(self.weights.values()))
        if isinstance(responses, np.ndarray):
            return chosen.astype(np.float64, copy=False) @ weights + self.constant
        return chosen @ chosen.new_tensor(weights) + self.constant

    def describe(self) -> str:
        """Its text, which `parse_objective` reads back."""
        return self.text or _text(self)

    def __add__(self, other: Linear | float) -> Linear:
        if isinstance(other, Linear):
            merged = {
                u: self.weights.get(u, 0.0) + other.weights.get(u, 0.0) for u in {**self.weights, **other.weights}
            }
            return Linear(merged, self.constant + other.constant)
        return Linear(self.weights, self.constant + _number(other))

    def __mul__(self, factor: float) -> Linear:
        factor = _number(factor)
        return Linear({u: w * factor for u, w in self.weights.items()}, self.constant * factor)

    def __neg__(self) -> Linear:
        return self * -1.0

    def __sub__(self, other: Linear | float) -> Linear:
        return self + (-other)

    def __rsub__(self, other: float) -> Linear:
        return -self + other

    def __truediv__(self, divisor: float) -> Linear:
        if _number(divisor) == 0:
            raise InvalidArgumentError("objective: division by zero.")
        return self * (1 / divisor)

    __radd__ = __add__
    __rmul__ = __mul__


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise InvalidArgumentError(
            f"objective: expected a number or an objective, got {type(value).__name__}; products of objectives are not "
            "linear."
        )
    if not np.isfinite(value):
        raise InvalidArgumentError(f"objective: expected a finite number, got {value}.")
    return float(value)


def _column(unit: Any) -> int:
    if isinstance(unit, bool) or not isinstance(unit, (int, np.integer)) or unit < 0:
        raise InvalidArgumentError(f"unit: expected a response column, a whole number of at least 0, got {unit!r}.")
    return int(unit)


def _columns(units: Sequence[int], name: str) -> list[int]:
    columns = [_column(u) for u in units]
    if not columns or len(set(columns)) != len(columns):
        raise InvalidArgumentError(f"{name}: expected one or more different units, got {list(units)!r}.")
    return columns


def Unit(column: int) -> Linear:  # noqa: N802 - reads as the noun it makes
    """The response of one unit, by its column."""
    return Linear({_column(column): 1.0})


def Mean(units: Sequence[int]) -> Linear:  # noqa: N802
    """The mean response of several units."""
    columns = _columns(units, "Mean")
    return Linear({c: 1 / len(columns) for c in columns}, text=f"mean({', '.join(map(str, columns))})")


def Direction(weights: Sequence[float]) -> Linear:  # noqa: N802
    """A weighted direction in response space: ``weights (units,)``, normalized to length 1."""
    vector = np.asarray(weights, dtype=float)
    length = float(np.linalg.norm(vector)) if vector.ndim == 1 else 0.0
    if not (np.isfinite(length) and length > 0):
        raise InvalidArgumentError(f"Direction: expected finite weights (units,), not all zero, got {weights!r:.80}.")
    return Linear({i: float(w) for i, w in enumerate(vector / length)})


def Difference(a: int, b: int) -> Linear:  # noqa: N802
    """Unit ``a`` minus unit ``b``."""
    return Unit(a) - Unit(b)


def Suppression(column: int) -> Linear:  # noqa: N802
    """Minus the response of a unit: evolves what silences it."""
    return -Unit(column)


def _text(objective: Linear) -> str:
    """``unit(0) - 0.5*unit(3) + 2``, with weights that read back exactly."""
    terms = [
        (weight, f"unit({unit})" if abs(weight) == 1 else f"{abs(weight)!r}*unit({unit})")
        for unit, weight in objective.weights.items()
    ]
    if objective.constant or not terms:
        terms.append((objective.constant, repr(abs(objective.constant))))
    text = " ".join(("- " if weight < 0 else "+ ") + term for weight, term in terms)
    return "-" + text[2:] if text.startswith("-") else text[2:]


_FUNCTIONS: dict[str, Callable[..., Linear]] = {
    "unit": Unit,
    "mean": lambda *units: Mean(units),
    "direction": lambda *weights: Direction(weights),
    "difference": Difference,
    "suppression": Suppression,
}
_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
}


def parse_objective(text: str) -> Linear:
    """Reads an objective: ``"unit(0)"``, ``"mean(0, 1) - 0.5*unit(2)"``, ``"suppression(0)"``.

    Knows the functions ``unit, mean, direction, difference, suppression``, numbers, ``+ - * /`` and brackets; nothing
    is executed.

    Raises:
        InvalidArgumentError: The text is something else.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval")
        value = _evaluate(tree.body, text)
    except InvalidArgumentError:
        raise
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InvalidArgumentError(
            f"objective: expected an expression such as 'unit(0) - 0.5*unit(3)', got {text!r:.200}."
        ) from error
    if not isinstance(value, Linear):
        raise InvalidArgumentError(f"objective: expected at least one unit, got {text!r}; for instance 'unit(0)'.")
    return value


def _evaluate(node: ast.AST, text: str) -> Any:
    """The value of a syntax node: a number or an objective."""
    match node:
        case ast.Constant(value=int() | float()):
            return node.value
        case ast.UnaryOp(op=ast.USub()):
            return -_evaluate(node.operand, text)
        case ast.BinOp() if type(node.op) in _OPERATORS:
            return _operate(node, text)
        case ast.Call(func=ast.Name(id=name), keywords=[]):
            return _call(name, [_evaluate(a, text) for a in node.args], text)
    raise InvalidArgumentError(f"objective: cannot read {ast.unparse(node)!r} in {text!r}.")


def _operate(node: ast.BinOp, text: str) -> Any:
    """The value of a chain of operators; a sum of n terms is a tree n deep on its left, so that side is a loop."""
    chain: list[ast.BinOp] = []
    first: ast.AST = node
    while isinstance(first, ast.BinOp) and type(first.op) in _OPERATORS:
        chain.append(first)
        first = first.left
    value = _evaluate(first, text)
    for step in reversed(chain):
        right = _evaluate(step.right, text)
        try:
            value = _OPERATORS[type(step.op)](value, right)
        except (TypeError, ZeroDivisionError, OverflowError) as error:
            raise InvalidArgumentError(f"objective: cannot compute {text!r:.200}: {error}.") from error
    return value


def _call(name: str, arguments: list[Any], text: str) -> Linear:
    if name not in _FUNCTIONS:
        raise InvalidArgumentError(f"objective: unknown function {name!r} in {text!r}.{closest(name, _FUNCTIONS)}")
    try:
        return _FUNCTIONS[name](*arguments)
    except (TypeError, OverflowError) as error:
        raise InvalidArgumentError(f"objective: {name}: {error}.") from error
