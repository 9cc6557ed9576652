"""What a finished run found, in the small file ``SUMMARY.json``: all that a catalogue of many runs needs to know.

It is written inside the commit that finishes the run, under its checksums. Nothing in it depends on when or where the
run was made, so two identical runs have identical ones.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from closedloop.errors import RecordingError
from closedloop.recording.checksums import BESIDE, Sum
from closedloop.recording.layout import CHECKSUMS, SUMMARY
from closedloop.recording.places import Root

#: Version of the file's form; one of a newer form is not read, and its run is summarized anew.
FORM = 1


def summary_bytes(summary: Mapping[str, Any]) -> bytes:
    """Returns a summary as its file holds it; numbers that are not finite become null."""
    return (json.dumps(finite({"form": FORM, **summary}), indent=1, allow_nan=False) + "\n").encode()


def finite(value: Any) -> Any:
    """Returns plain values with null for each number that JSON cannot hold."""
    if isinstance(value, Mapping):
        return {str(name): finite(held) for name, held in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(held) for held in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_summary(root: Root, pointer: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns the summary of a finished run; None where it has none of a known form.

    It reads two small files, and opens no store: many thousands of runs are looked at one after another.

    Args:
        root: The run's folder, or the top of its zip file; see `closedloop.recording.places.root_of`.
        pointer: What its ``COMMITTED.json`` holds.

    Raises:
        RecordingError: The file is missing, cut short or changed.
    """
    if not pointer["finished"] or "checksums" not in pointer:
        return None
    try:
        entry = _listed(root, pointer)
        if entry is None:
            return None
        content = (root / SUMMARY).read_bytes()
    except (OSError, ValueError, KeyError) as error:
        raise RecordingError(f"{root}: cannot read {SUMMARY} ({error}); restore it from a copy.") from error
    if len(content) != entry.size or not entry.fits(content):
        raise RecordingError(
            f"{root}: {SUMMARY} is damaged (its checksum is not the recorded one); restore it from a copy."
        )
    return _parsed(root, content)


def _parsed(root: Root, content: bytes) -> dict[str, Any] | None:
    """Returns what a file holds, in the form of `run_summary`; None for another form."""
    try:
        found = json.loads(content)
        if found.get("form") != FORM:
            return None
        if all(isinstance(thread, dict) for thread in found["threads"]):
            return dict(found)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise RecordingError(f"{root}: {SUMMARY} holds no summary of a run; restore it from a copy.")


def _listed(root: Root, pointer: Mapping[str, Any]) -> Sum | None:
    """Returns the checksum of the summary. It was written last, so the other lines need not be read."""
    mark = pointer["checksums"]
    with (root / mark.get("file", CHECKSUMS)).open("rb") as file:
        lines = file.read(int(mark["bytes"]))
    name = f" {BESIDE}{SUMMARY}\n".encode()
    end = lines.rfind(name)
    if end < 0:
        return None
    return Sum.read(lines[lines.rfind(b"\n", 0, end) + 1 : end + len(name)].decode())
