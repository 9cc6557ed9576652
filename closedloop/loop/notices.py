"""What a person should know while an experiment goes on: a rig that is silent, trials that are lost, a unit that faded.

Whoever notices something says it here (`notice`), in one line; whoever shows how far a run is listens, and prints it at
once. With nobody listening it goes to the log ``closedloop``, at the level of a warning. Beside that a run keeps in its
folder what was said while it went on (`kept`), so that other processes can show it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from closedloop.recording.notes import PROCESS

if TYPE_CHECKING:
    from closedloop.recording.writer import Recording

#: Who hears what a person should know.
_LISTENERS: list[Callable[[str], None]] = []
#: Who writes it among the notes of a run.
_KEEPERS: list[Callable[[str], None]] = []
_LOG = logging.getLogger("closedloop")
_LOG.addHandler(logging.NullHandler())


class Notice(str):
    """What a person should know, in words, which know what they are about.

    Attributes:
        about: What it is about, such as "silence": a later one takes the place of it; "" where it stands for itself.
        well: Whether it says that this is over.
    """

    about: str
    well: bool

    def __new__(cls, text: str, about: str = "", well: bool = False) -> Notice:
        """Makes one of its words."""
        made = super().__new__(cls, text)
        made.about, made.well = about, well
        return made


def notice(text: str) -> None:
    """Says something to everyone who listens, and has it kept."""
    for listener in [*_KEEPERS, *_LISTENERS]:
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


@contextmanager
def kept(recording: Recording) -> Iterator[None]:
    """Keeps in a run's folder what is said meanwhile: a line of JSON each, with the time of day in seconds since 1970.

    Runs that go on in one process at the same time all keep it. What was said before the run was taken up again is over
    then, since whatever is compared begins anew.
    """

    def keep(text: str) -> None:
        about, well = (text.about, text.well) if isinstance(text, Notice) else ("", False)
        recording.note({"at_s": round(time.time(), 3), "text": text, "about": about, "well": well})

    if recording.has_notes:
        keep(Notice("the run was taken up again", PROCESS, well=True))
    _KEEPERS.append(keep)
    try:
        yield
    finally:
        _KEEPERS.remove(keep)
