"""What a person should know while an experiment goes on: a rig that is silent, trials that are lost, a unit that faded.

Whoever notices something says it here (`notice`), in one line; whoever shows how far a run is listens, and prints it at
once. With nobody listening it goes to the log ``closedloop``, at the level of a warning.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

_LISTENERS: list[Callable[[str], None]] = []
_LOG = logging.getLogger("closedloop")
_LOG.addHandler(logging.NullHandler())


def notice(text: str) -> None:
    """Says something to everyone who listens."""
    for listener in list(_LISTENERS):
        listener(text)
    if not _LISTENERS:
        _LOG.warning(text)


def listen(listener: Callable[[str], None]) -> None:
    """Has a function called with each notice from now on."""
    _LISTENERS.append(listener)


def leave(listener: Callable[[str], None]) -> None:
    """Has it called no more."""
    if listener in _LISTENERS:
        _LISTENERS.remove(listener)
