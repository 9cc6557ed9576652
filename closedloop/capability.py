"""How the nouns and capabilities of `closedloop.interfaces` are asked for: by attributes, however an object has them.

From Python 3.12 on ``isinstance`` looks for the attributes of a protocol without asking the object, so that a wrapper
which hands on all that it does not change, by ``__getattr__``, would be no subject any more.
"""

from __future__ import annotations

from functools import cache
from inspect import get_annotations
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:

    @runtime_checkable
    class Capability(Protocol):
        """A protocol whose ``isinstance`` asks the object for each attribute."""

else:

    class _AskedFor(type(Protocol)):
        def __instancecheck__(cls, instance: Any) -> bool:
            """Tells whether an object has all attributes of the protocol; a method that is None counts as missing."""
            if not cls.__dict__.get("_is_protocol", False) or not getattr(cls, "_is_runtime_protocol", False):
                return super().__instancecheck__(instance)
            return all(_has(cls, name, instance) for name in _attributes(cls))

    class Capability(Protocol, metaclass=_AskedFor):
        """A protocol whose ``isinstance`` asks the object for each attribute."""


@cache
def _attributes(protocol: type) -> frozenset[str]:
    """Returns the names that a protocol and those it extends state, but for private ones."""
    stated = [
        name
        for part in protocol.__mro__
        if getattr(part, "_is_protocol", False)
        for name in (*part.__dict__, *get_annotations(part))
    ]
    return frozenset(name for name in stated if not name.startswith("_") or name == "__call__")


def _has(protocol: type, name: str, instance: Any) -> bool:
    missing = object()
    found = getattr(instance, name, missing)
    return found is not missing and (found is not None or not callable(getattr(protocol, name, None)))


def lacking(protocol: type, instance: Any) -> list[str]:
    """Returns the names of what a protocol states and an object has not."""
    return sorted(name for name in _attributes(protocol) if not _has(protocol, name, instance))
