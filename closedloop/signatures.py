"""Signatures: arguments of public functions are held to the types that these state, and named where they are not."""

from __future__ import annotations

import ast
import functools
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np

from closedloop.arrays import is_number
from closedloop.blame import parts_named
from closedloop.checks import PARTS, check_part, cure_of, is_whole
from closedloop.errors import ClosedLoopError, InvalidArgumentError, reason
from closedloop.files import can_be_path, is_too_long

P = ParamSpec("P")
T = TypeVar("T")


def at_door(function: Callable[P, T]) -> Callable[P, T]:
    """Holds the arguments of a public function to the types that its signature states.

    What is no path, part or space, where one belongs, is refused before the function begins. All else is looked at only
    where the function fails with an exception of Python or of another package: an argument that is not of its type, or
    a Dataset that lacks what was looked up, is then named as the cause. What fails for another reason stays as it is.

    Raises:
        InvalidArgumentError: An argument is of another type; the error names it.
    """
    stated: list[tuple[int, str, str]] = []

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> T:
        if not stated:
            stated.extend(_stated(function))
        for name, kind, value in _given(stated, args, kwargs):
            _check_at_once(name, kind, value)
        try:
            with parts_named():
                return function(*args, **kwargs)
        except ClosedLoopError:
            raise
        except Exception as error:
            given = list(_given(stated, args, kwargs))
            for blame in (_blame_type, _blame_content):
                for name, kind, value in given:
                    blame(name, kind, value, error, getattr(function, "__globals__", {}))
            raise

    return checked


def check_fields(made: Any) -> None:
    """Raises unless the fields of a dataclass are of the types that it states; for its ``__post_init__``.

    Raises:
        InvalidArgumentError: One is not; the error names it.
    """
    for field in fields(made):
        value = getattr(made, field.name)
        if not _fits(str(field.type), value):
            raise InvalidArgumentError(f"{field.name}: expected {_words(str(field.type))}, got {_came(value)}.")


def _stated(function: Callable[..., Any]) -> Iterator[tuple[int, str, str]]:
    """Yields position, name and stated type, in words, of each argument that has one."""
    for i, parameter in enumerate(inspect.signature(function).parameters.values()):
        said = parameter.annotation
        if said is not parameter.empty and parameter.kind in (0, 1, 3):
            words = said if isinstance(said, str) else getattr(said, "__name__", str(said))
            yield i, parameter.name, _spelt_out(words, getattr(function, "__globals__", {}))


def _spelt_out(kind: str, known: Mapping[str, Any]) -> str:
    """Returns an annotation with what short names of types in it stand for, such as ``Kind`` for ``str | None``."""

    def stands_for(word: re.Match[str]) -> str:
        alias = known.get(word[0])
        return str(alias) if hasattr(alias, "__args__") and word[0] not in _KINDS else word[0]

    return re.sub(r"[\w.]+", stands_for, kind)


def _given(
    stated: Sequence[tuple[int, str, str]], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Iterator[tuple[str, str, Any]]:
    """Yields name, stated type and value of each argument that was given."""
    for i, name, kind in stated:
        if i < len(args) or name in kwargs:
            yield name, kind, args[i] if i < len(args) else kwargs[name]


def _alternatives(kind: str) -> list[tuple[str, str]]:
    """Returns the types that an annotation allows, each with what stands in its brackets."""
    found, depth, start = [], 0, 0
    for i, letter in enumerate(kind + "|"):
        depth += (letter == "[") - (letter == "]")
        if letter == "|" and depth == 0:
            head, _, inner = kind[start:i].strip().partition("[")
            found.append((head.rpartition(".")[2], inner.removesuffix("]")))
            start = i + 1
    return found


def _fits(kind: str, value: Any) -> bool:
    """Tells whether a value is of a stated type; so is all where a type is none of `_KINDS`."""
    return any(_is(head, inner, value) for head, inner in _alternatives(kind))


def _is(head: str, inner: str, value: Any) -> bool:
    if head == "Literal":
        return isinstance(value, (str, int)) and value in ast.literal_eval(f"({inner},)")
    if head not in _KINDS:
        return True
    if not _KINDS[head][1](value):
        return False
    if head == "Mapping":
        return all(_fits(inner.partition(",")[2], v) for v in value.values())
    return head != "Sequence" or all(_fits(inner, v) for v in value)


def _words(kind: str) -> str:
    known = {head: words for head, (words, _) in _KINDS.items()}
    said = (f"one of {inner}" if head == "Literal" else known.get(head, head) for head, inner in _alternatives(kind))
    return " or ".join(dict.fromkeys(said))


def _check_at_once(name: str, kind: str, value: Any) -> None:
    """Raises where a path, a part of an experiment or a space is stated, and something else was given.

    So it does where several texts are stated and one was given, which Python would take apart into its letters.
    """
    heads = [head for head, _ in _alternatives(kind)]
    if isinstance(value, str) and "Sequence" in heads and _of_texts(kind) and not _fits(kind, value):
        raise InvalidArgumentError(f"{name}: expected {_words(kind)}, got {value!r:.60}; make it [{value!r:.40}].")
    if not _AT_ONCE.intersection(heads):
        return
    if value is None and "None" in heads:
        return
    if heads[0].lower() in PARTS and set(heads[1:]) <= {"None"}:
        check_part(heads[0].lower(), value, name)
    elif not _fits(kind, value):
        raise InvalidArgumentError(f"{name}: expected {_words(kind)}, got {_came(value)}{_cure_in(heads, value)}.")
    elif "Path" in heads and isinstance(value, (str, Path)) and not can_be_path(value):
        raise InvalidArgumentError(
            f"{name}: expected a path, got {str(value)!r:.80} with a NUL character or half a character of UTF-16 in it."
        )
    elif "Path" in heads and isinstance(value, (str, Path)) and is_too_long(value):
        raise InvalidArgumentError(
            f"{name}: expected a path, got {str(value)!r:.60} …, of {len(str(value)):,} letters and with a name of "
            f"{max(map(len, Path(value).parts)):,}, which is longer than this system takes (most take names of 255)."
        )


def _of_texts(kind: str) -> bool:
    """Tells whether several texts are of a stated type."""
    inside = [_alternatives(inner) for head, inner in _alternatives(kind) if head == "Sequence"]
    return any(head == "str" for several in inside for head, _ in several)


def _blame_type(name: str, kind: str, value: Any, error: Exception, known: Mapping[str, Any]) -> None:
    """Raises an error that names an argument if it is not of its stated type; classes are looked up among `known`."""
    allowed = _alternatives(kind)
    classes: list[Any] = [known.get(head) for head, _ in allowed if head not in _KINDS]
    fits = _fits(kind, value)
    if fits and classes and all(type(each) is type for each in classes):  # no protocols
        fits = isinstance(value, tuple(classes)) or any(_is(*each, value) for each in allowed if each[0] in _KINDS)
    if not fits:
        cure = _cure_in([head for head, _ in allowed], value)
        raise InvalidArgumentError(f"{name}: expected {_words(kind)}, got {_came(value)}{cure}.") from error


def _blame_content(name: str, kind: str, value: Any, error: Exception, _: Mapping[str, Any]) -> None:
    """Raises an error that names an argument if it lacks what was looked up in it."""
    if any(head == "Dataset" for head, _ in _alternatives(kind)) and _is_dataset(value) and _lacks(value, error):
        raise InvalidArgumentError(
            f"{name}: expected {_words(kind)}, got a Dataset that does not fit ({reason(error)}); "
            f"it holds {', '.join(sorted(map(str, value.variables))) or 'nothing'}."
        ) from error

    if any(head == "DataArray" for head, _ in _alternatives(kind)) and _is_data_array(value) and _lacks(value, error):
        raise InvalidArgumentError(
            f"{name}: expected {_words(kind)}, got a DataArray over {', '.join(map(str, value.dims)) or 'nothing'}, "
            f"which does not fit ({reason(error)})."
        ) from error


def _lacks(data: Any, error: Exception) -> bool:
    """Tells whether an error comes of what data of xarray lack: another package raised it, or they are none of ours.

    What our own lines raise is a fault of ours, and stays what it is.
    """
    place = error.__traceback__
    if place is None or place.tb_next is None:
        return False  # the call itself failed, for arguments that are missing or not known
    while place.tb_next is not None:
        place = place.tb_next
    by = str(place.tb_frame.f_globals.get("__name__", ""))
    return not by.startswith("closedloop") or "closedloop_version" not in getattr(data, "variables", data.coords)


def _cure_in(heads: Sequence[str], value: Any) -> str:
    """Says what an object lacks to be the part that is among types; empty for what is plain, and where none is."""
    parts = [head.lower() for head in heads if head.lower() in PARTS]
    plain = value is None or isinstance(value, (type, str, int, float, list, tuple, Path))
    return cure_of(parts[0], value) if parts and not plain else ""


def _came(value: Any) -> str:
    """Says what was given, in words that are short for any object."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if value is None or isinstance(value, (str, int, float, list, tuple, Path)):
        return f"{value!r:.80}"
    return f"an object of type {type(value).__name__}"


def _is_dataset(value: Any) -> bool:
    """Tells whether a value is an xarray.Dataset; xarray is not imported for it."""
    return any(c.__name__ == "Dataset" and c.__module__.startswith("xarray.") for c in type(value).__mro__)


def _is_data_array(value: Any) -> bool:
    """Tells whether a value is an xarray.DataArray; xarray is not imported for it."""
    return any(c.__name__ == "DataArray" and c.__module__.startswith("xarray.") for c in type(value).__mro__)


def _is_numeric(value: Any) -> bool:
    """Tells whether a value is read as an array of numbers by numpy."""
    try:
        return not isinstance(value, type) and np.asarray(value).dtype.kind in "fiubc"
    except Exception:  # noqa: BLE001 - whatever the object of a stranger raises: it is no array
        return False


def _is_several(value: Any) -> bool:
    text = isinstance(value, (str, bytes, type, Mapping))
    return isinstance(value, Iterable) and hasattr(value, "__len__") and not text and getattr(value, "ndim", 1) != 0


def _is_space(value: Any) -> bool:
    return all(hasattr(value, name) for name in ("dim", "bounded", "center", "check")) and not isinstance(value, type)


def _is_part(kind: str) -> Callable[[Any], bool]:
    return lambda value: not isinstance(value, type) and isinstance(value, PARTS[kind][1])


#: Types that signatures state, with words for them and what tells that a value is of them.
_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "None": ("None", lambda value: value is None),
    "str": ("a text", lambda value: isinstance(value, str)),
    "Path": ("a path", lambda value: isinstance(value, (str, Path))),
    "int": ("a whole number", is_whole),
    "float": ("a number", is_number),
    "bool": ("True or False", lambda value: isinstance(value, (bool, np.bool_))),
    "Dataset": ("a Dataset of closedloop, such as open_recording returns", _is_dataset),
    "DataArray": ("a DataArray", _is_data_array),
    "Sequence": ("a list", _is_several),
    "tuple": ("a tuple", _is_several),
    "list": ("a list", _is_several),
    "Mapping": ("a mapping", lambda value: isinstance(value, Mapping)),
    "dict": ("a mapping", lambda value: isinstance(value, Mapping)),
    "Callable": ("a function", callable),
    "NDArray": ("an array of numbers", _is_numeric),
    "FloatArray": ("an array of numbers", _is_numeric),
    "ArrayLike": ("an array of numbers", _is_numeric),
    "Subject": ("a Subject", _is_part("subject")),
    "Generator": ("a Generator", _is_part("generator")),
    "Optimizer": ("an Optimizer", _is_part("optimizer")),
    "Objective": ("an Objective", _is_part("objective")),
    "Space": ("a Space, such as generator.space", _is_space),
}
#: Those that are looked at before a function begins.
_AT_ONCE = {"Path", "Subject", "Generator", "Optimizer", "Space"}
