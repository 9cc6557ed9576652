"""What a person was told while a run went on: lines of JSON in a file of its folder, which is no part of its data.

It is for whoever watches the run from another process, and says afterwards how it went. Nothing is computed from it, so
it has no checksum, a line that was cut off is left out, and a run without it has had nothing to say.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from closedloop.recording.layout import NOTICES
from closedloop.recording.places import root_of

#: What a note is about with which a process takes the run up again: what was told before stands no more.
PROCESS = "process"
#: Bytes at the end of the file that are read, and characters of a line's words that are shown.
_READ, _WORDS = 2**16, 300


@dataclass(frozen=True)
class Note:
    """Something that a person was told.

    Attributes:
        at_s: When, in seconds since 1970.
        text: In words.
        about: What it is about; a later note about the same takes its place. "" where it stands for itself.
        well: Whether it says that this is over.
    """

    at_s: float
    text: str
    about: str = ""
    well: bool = False


def add_note(run: Path, entry: Mapping[str, Any]) -> None:
    """Adds a line to a run's notes.

    Raises:
        OSError: It cannot be written.
    """
    with (run / NOTICES).open("ab") as file:
        file.write(json.dumps(dict(entry)).encode() + b"\n")


def read_notes(run: str | Path) -> list[Note]:
    """Returns what a person was told while a run went on, the oldest first, of a long list its end.

    Args:
        run: The run's folder, or the file it was packed into.
    """
    try:
        lines = _end_of(run).decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    return [note for line in lines if (note := _read(line)) is not None]


def notes_size(run: str | Path) -> int:
    """Returns how long a run's notes are in bytes, which changes with each; 0 where there are none."""
    file = root_of(run) / NOTICES
    if not isinstance(file, Path):
        return 0
    try:
        return file.lstat().st_size
    except OSError:
        return 0


def _end_of(run: str | Path) -> bytes:
    """Returns the end of the file; nothing of a link, which may lead out of the run, or of what is no file."""
    file = root_of(run) / NOTICES
    if not file.is_file() or (isinstance(file, Path) and file.is_symlink()):
        return b""
    with file.open("rb") as opened:
        size = opened.seek(0, 2)
        opened.seek(max(0, size - _READ))
        end: bytes = opened.read(_READ)
    return end if size <= _READ else end.partition(b"\n")[2]


def _read(line: str) -> Note | None:
    """Returns the note of a line; None for what is none."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict):
        return None
    at_s, text, about = entry.get("at_s"), entry.get("text"), entry.get("about", "")
    # 10¹¹ s after 1970 are later than any time of day that can be written: the year 5138.
    if not isinstance(at_s, (int, float)) or not 0 < at_s < 1e11:
        return None
    if not isinstance(text, str) or not isinstance(about, str):
        return None
    return Note(float(at_s), text[:_WORDS], about[:_WORDS], entry.get("well") is True)
