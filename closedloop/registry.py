"""Names for the command line and for files ("lite0", "fourier", "cma"), resolved through entry points.

A plug-in package adds its own names by declaring entry points in the groups ``closedloop.subjects``,
``closedloop.generators`` and ``closedloop.optimizers``. A name may carry an argument after a colon: ``timm:resnet18``
calls the entry ``timm`` with ``"resnet18"``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import metadata
from typing import Any

from closedloop.errors import ClosedLoopError, InvalidArgumentError, MissingExtraError, UnknownNameError, closest


def names(kind: str) -> list[str]:
    """The known names of a kind: "subjects", "generators" or "optimizers"."""
    return sorted(entry.name for entry in metadata.entry_points(group=f"closedloop.{kind}"))


def build(kind: str, name: str, *arguments: Any, **options: Any) -> Any:
    """Calls what a name stands for.

    Args:
        kind: "subjects", "generators" or "optimizers".
        name: A known name, with its own argument after a colon where it takes one.
        *arguments: Handed on, after the name's own argument.
        **options: Handed on.

    Raises:
        UnknownNameError: No such name.
        InvalidArgumentError: It does not take one of the options.
        MissingExtraError: What it needs is not installed.
    """
    factory = _factory(kind, name)
    tail = name.partition(":")[2]
    given = (tail, *arguments) if tail else arguments
    _check_options(f"{kind[:-1]} {name!r}", factory, given, options)
    try:
        return factory(*given, **options)
    except TypeError as error:  # options come from files, where a word may stand for a number
        raise InvalidArgumentError(f"{kind[:-1]} {name!r}: an option has the wrong type ({error}).") from error


def takes(kind: str, name: str, option: str) -> bool:
    """Whether what a name stands for takes an option; raises as `build` does if the name is not known."""
    return option in inspect.signature(_factory(kind, name)).parameters


def _factory(kind: str, name: str) -> Callable[..., Any]:
    """What a name, without its own argument, stands for."""
    head = name.partition(":")[0]
    found = [e for e in metadata.entry_points(group=f"closedloop.{kind}") if e.name == head]
    if not found:
        raise UnknownNameError(f"{kind[:-1]}: no {kind[:-1]} named {name!r}.{closest(head, names(kind))}")
    try:
        factory: Callable[..., Any] = found[0].load()
    except ClosedLoopError:
        raise
    except ImportError as error:
        raise MissingExtraError(
            f"{kind[:-1]} {head!r}: {error}. Install what it needs: pip install {error.name}"
        ) from error
    return factory


def _check_options(what: str, factory: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    """Turns a wrong option into a clear error before anything is called."""
    signature = inspect.signature(factory)
    try:
        signature.bind(*arguments, **options)
    except TypeError as error:
        known = [n for n, p in signature.parameters.items() if p.kind is not p.VAR_KEYWORD]
        wrong = next((o for o in options if o not in known), None)
        hint = closest(wrong, known) if wrong else f" It takes: {', '.join(known)}."
        raise InvalidArgumentError(f"{what}: {error}.{hint}") from error
