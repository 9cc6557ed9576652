"""Objectives from text: ``"unit(3) - 0.25*tv()"``. The text is read, never executed."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

from closedloop.errors import InvalidArgumentError, closest
from closedloop.interfaces import Units
from closedloop.objectives.algebra import Term
from closedloop.objectives.captions.terms import CaptionDirection, CaptionSimilarity
from closedloop.objectives.image_terms import L1, L2, AlphaNorm, Sharpness, TotalVariation
from closedloop.objectives.linear import Difference, Direction, Mean, Suppression, Unit
from closedloop.objectives.nonlinear import Contrast, Cosine, Diversity, Layer, LogProbability, Probability
from closedloop.objectives.population import Controversial, OneHot, Pattern, Stretch
from closedloop.signatures import at_door


def _log_probability(column: int, among: Sequence[int] | None = None, *, exact: bool = True) -> Term:
    return LogProbability(column, among if among is None else tuple(among), exact)


def _one_hot(
    column: int,
    sites: Sequence[int] | None = None,
    *,
    baselines: Sequence[float] | None = None,
    scales: Sequence[float] | None = None,
) -> Term:
    levels, ranges = (None if values is None else tuple(values) for values in (baselines, scales))
    return OneHot(column, None if sites is None else tuple(sites), levels, ranges)


def _controversial(
    column: int, against: int, *, baselines: Sequence[float] | None = None, scales: Sequence[float] | None = None
) -> Term:
    levels, ranges = (None if values is None else tuple(values) for values in (baselines, scales))
    return Controversial(column, against, levels, ranges)


def _pattern(wanted: Any, *, scales: Sequence[float] | None = None) -> Term:
    return Pattern(wanted, None if scales is None else tuple(scales))


def _contrast(targets: Any, others: Any, *, temperature: float = Contrast.temperature) -> Term:
    return Contrast(targets, others, temperature)


def _caption(text: str, weights: Any = None, *, model: str | None = None, labels: Units | None = None) -> Term:
    if model is not None:
        raise InvalidArgumentError(
            f"objective: the model {model!r} of a caption was a Python object, which no text can hold; build it again: "
            "CaptionObjective(text, model=…)."
        )
    if weights is not None:
        return CaptionDirection(text, weights)
    from closedloop.objectives.captions.objective import CaptionObjective

    return CaptionObjective(text, labels=labels)


def _clip(text: str, folder: str) -> Term:
    from closedloop.objectives.captions.clip import ClipFolder

    return CaptionSimilarity(text, ClipFolder(folder))


def _open_clip(text: str, architecture: str, weights: str) -> Term:
    from closedloop.objectives.captions.clip import OpenClipFile

    return CaptionSimilarity(text, OpenClipFile(architecture, weights))


#: Functions of numbers.
_PLAIN: dict[str, Callable[..., Term]] = {
    "unit": Unit,
    "mean": lambda *units: Mean(units),
    "direction": lambda *weights: Direction(weights),
    "difference": Difference,
    "stretch": Stretch,
    "suppression": Suppression,
    "tv": TotalVariation,
    "alphanorm": AlphaNorm,
    "l1": L1,
    "l2": L2,
    "sharpness": Sharpness,
}
#: Functions of numbers, lists and texts; what is keyword-only may be given by name.
_RICH: dict[str, Callable[..., Term]] = {
    "caption": _caption,
    "clip": _clip,
    "contrast": _contrast,
    "controversial": _controversial,
    "cosine": Cosine,
    "diversity": Diversity,
    "layer": Layer,
    "logprob": _log_probability,
    "onehot": _one_hot,
    "openclip": _open_clip,
    "pattern": _pattern,
    "prob": Probability,
}
#: What stands between two terms.
_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
}


@at_door
def parse_objective(text: str, units: Units | None = None) -> Term:
    """Reads an objective: ``"unit(0)"``, ``"mean(0, 1) - 0.5*unit(2)"``, ``"logprob(7) - 0.25*tv()"``.

    Knows numbers, ``+ - * /``, brackets and the functions of `docs/objectives.md`: ``unit, mean, direction, difference,
    suppression, cosine, layer, prob, logprob, contrast, diversity, stretch, onehot, pattern, controversial, tv,
    alphanorm, l1, l2, sharpness, caption, clip, openclip``. Nothing is executed.

    Args:
        text: The objective.
        units: What the subject records; a caption without weights is matched with their labels (default those of
            ImageNet's classes).

    Raises:
        InvalidArgumentError: The text is something else.
    """
    try:
        value = _Reader(text, units).evaluate(ast.parse(text.strip(), mode="eval").body)
    except InvalidArgumentError:
        raise
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InvalidArgumentError(
            f"objective: expected an expression such as 'unit(0) - 0.5*unit(3)', got {text!r:.200}."
        ) from error
    if not isinstance(value, Term):
        raise InvalidArgumentError(f"objective: expected at least one unit, got {text!r}; for instance 'unit(0)'.")
    return value


@final
@dataclass(frozen=True)
class _Reader:
    """Reads one text.

    Attributes:
        text: The whole of it, for errors.
        units: What the subject records, if known.
    """

    text: str
    units: Units | None

    def evaluate(self, node: ast.AST) -> Any:
        """Returns the value of a syntax node: a number or an objective."""
        match node:
            case ast.Constant(value=int() | float()):
                return node.value
            case ast.UnaryOp(op=ast.USub()):
                return -self.evaluate(node.operand)
            case ast.BinOp() if type(node.op) in _OPERATORS:
                return self._operate(node)
            case ast.Call(func=ast.Name(id=name)) if name in _RICH:
                return self._call_rich(name, node)
            case ast.Call(func=ast.Name(id=name), keywords=[]):
                return self._call(name, [self.evaluate(a) for a in node.args])
        raise self._unreadable(node)

    def _unreadable(self, node: ast.AST) -> InvalidArgumentError:
        return InvalidArgumentError(f"objective: cannot read {ast.unparse(node)!r} in {self.text!r}.")

    def _operate(self, node: ast.BinOp) -> Any:
        """Evaluates a chain of operators; a sum of n terms is a tree n deep on its left, so that side is a loop."""
        chain: list[ast.BinOp] = []
        first: ast.AST = node
        while isinstance(first, ast.BinOp) and type(first.op) in _OPERATORS:
            chain.append(first)
            first = first.left
        value = self.evaluate(first)
        for step in reversed(chain):
            right = self.evaluate(step.right)
            try:
                value = _OPERATORS[type(step.op)](value, right)
            except (TypeError, ZeroDivisionError, OverflowError) as error:
                raise InvalidArgumentError(f"objective: cannot compute {self.text!r:.200}: {error}.") from error
        return value

    def _call(self, name: str, arguments: list[Any]) -> Term:
        if name not in _PLAIN:
            hint = closest(name, [*_PLAIN, *_RICH])
            raise InvalidArgumentError(f"objective: unknown function {name!r} in {self.text!r}.{hint}")
        return _made(name, _PLAIN[name], arguments, {})

    def _call_rich(self, name: str, node: ast.Call) -> Term:
        function = _RICH[name]
        named = {p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY}
        if any(k.arg not in named - {"labels"} for k in node.keywords):
            raise self._unreadable(node)
        options = {str(k.arg): self._argument(k.value) for k in node.keywords}
        if name == "caption":  # it is told which units are recorded
            options["labels"] = self.units
        return _made(name, function, [self._argument(a) for a in node.args], options)

    def _argument(self, node: ast.AST) -> Any:
        """Returns an argument's value: a number, a text, True, False, None, a list or a table of such."""
        match node:
            case ast.Constant(value=str() | bool() | None):
                return node.value
            case ast.List() | ast.Tuple():
                return [self._argument(item) for item in node.elts]
            case ast.Dict() if None not in node.keys:
                keys = [self.evaluate(key) for key in node.keys if key is not None]
                return dict(zip(keys, [self._argument(value) for value in node.values], strict=True))
        return self.evaluate(node)


def _made(name: str, function: Callable[..., Term], arguments: list[Any], options: dict[str, Any]) -> Term:
    try:
        return function(*arguments, **options)
    except InvalidArgumentError:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidArgumentError(f"objective: {name}: {error}.") from error
