"""What a request asks for, checked at the door: numbers, choices, names and JSON bodies.

Whatever a client sends that cannot be answered is a `RequestError` with a status between 400 and 499.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from starlette.requests import Request

from closedloop.errors import ClosedLoopError, closest

W = TypeVar("W", bound=str)
#: Bytes of the largest JSON body.
MOST_JSON = 64 * 1024


class RequestError(ClosedLoopError):
    """A request that cannot be answered.

    Args:
        message: Names the argument, what was expected, what came, and the cure.
        status: 400 for a wrong value, 403 for a forbidden one, 404 for what is not there, 413 for too much.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def absent(what: str) -> RequestError:
    """Returns the error for something that is not there, status 404."""
    return RequestError(what, 404)


def text(request: Request, name: str, default: str | None = None, most: int = 200) -> str:
    """Returns a parameter of the query: up to `most` characters, none of them a control character.

    Args:
        request: The request.
        name: The parameter's name.
        default: What stands where it was not given; None for one that must be.
        most: Its greatest length.

    Raises:
        RequestError: It is missing or no such text.
    """
    value = request.query_params.get(name, default)
    if value is None:
        raise RequestError(f"{name}: expected a value, got none; add ?{name}=… to the address.")
    if len(value) > most or not value.isprintable():
        raise RequestError(f"{name}: expected at most {most} printable characters, got {value[:40]!r}.")
    return value


def choice(request: Request, name: str, known: Sequence[W], default: str | None = None) -> W:
    """Returns a parameter of the query that is one of the known words.

    Raises:
        RequestError: It is none of them.
    """
    value = text(request, name, known[0] if default is None else default)
    found = next((word for word in known if word == value), None)
    if found is None:
        raise RequestError(f"{name}: no {name} {value!r:.60}.{closest(value, known)}")
    return found


def whole(request: Request, name: str, default: int | None, least: int, most: int) -> int:
    """Returns a parameter of the query that is a whole number in ``[least, most]``.

    Raises:
        RequestError: It is missing, no number, or out of range.
    """
    value = request.query_params.get(name)
    if value is None and default is not None:
        return default
    plain = value is not None and value.removeprefix("-").isdecimal() and value.isascii() and len(value) < 20
    number = int(value) if plain and value is not None else None
    if number is None or not least <= number <= most:
        raise RequestError(f"{name}: expected a whole number between {least} and {most}, got {str(value)[:40]!r}.")
    return number


def number(request: Request, name: str, default: float, least: float, most: float) -> float:
    """Returns a parameter of the query that is a number in ``[least, most]``.

    Raises:
        RequestError: It is none.
    """
    value = request.query_params.get(name)
    if value is None:
        return default
    return _real(name, _parsed(value), least, most)


def _parsed(value: str) -> float:
    try:
        return float(value) if value.isascii() and len(value) < 40 else math.nan
    except ValueError:
        return math.nan


def _real(name: str, value: Any, least: float, most: float) -> float:
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not plain or not least <= value <= most:
        raise RequestError(f"{name}: expected a number between {least:g} and {most:g}, got {str(value)[:40]!r}.")
    return float(value)


async def body_json(request: Request, known: Sequence[str] = ()) -> dict[str, Any]:
    """Returns the JSON object that a request carries.

    Args:
        request: Its content type must be application/json.
        known: The entries that it may have; none for any.

    Raises:
        RequestError: It is no such object, too large, or has an entry that is not known.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RequestError(f"body: expected Content-Type application/json, got {kind[:60]!r}.", 415)
    content = await request.body()
    if len(content) > MOST_JSON:
        raise RequestError(f"body: expected at most {MOST_JSON} bytes of JSON, got {len(content)}.", 413)
    try:
        found = json.loads(content, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"body: expected JSON, got something else ({str(error)[:100]}).") from error
    if not isinstance(found, dict):
        raise RequestError(f"body: expected a JSON object, got {type(found).__name__}.")
    wrong = next((name for name in found if known and name not in known), None)
    if wrong is not None:
        raise RequestError(f"body: no entry {wrong[:60]!r}.{closest(wrong[:60], known)}")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def entry_number(body: Mapping[str, Any], name: str, default: float, least: float, most: float) -> float:
    """Returns an entry of a JSON body that is a number in ``[least, most]``.

    Raises:
        RequestError: It is none.
    """
    return _real(name, body[name], least, most) if name in body else default


def entry_whole(body: Mapping[str, Any], name: str, default: int, least: int, most: int) -> int:
    """Returns an entry of a JSON body that is a whole number in ``[least, most]``.

    Raises:
        RequestError: It is none.
    """
    value = body.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise RequestError(f"{name}: expected a whole number between {least} and {most}, got {str(value)[:40]!r}.")
    return value


def entry_numbers(body: Mapping[str, Any], name: str, least: float, most: float, length: int) -> list[float]:
    """Returns an entry of a JSON body, a list of at most `length` numbers in ``[least, most]``; empty where absent.

    Raises:
        RequestError: It is none.
    """
    values = body.get(name, [])
    if not isinstance(values, list) or len(values) > length:
        raise RequestError(f"{name}: expected a list of at most {length} numbers, got {str(values)[:40]!r}.")
    return [_real(f"{name}[{i}]", value, least, most) for i, value in enumerate(values)]
