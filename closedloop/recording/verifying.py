"""Looks at all that a run holds."""

from __future__ import annotations

from pathlib import Path

from closedloop.recording.reader import check_kept, open_recording
from closedloop.recording.references import read_references
from closedloop.signatures import at_door


@at_door
def verify(run: str | Path) -> int:
    """Reads a whole run, packed or not, and compares each file with its checksum; nothing is changed.

    Where a run of an older version has no checksums of a file, it is only read.

    Args:
        run: The run's folder, or the ``.zip`` it was packed into; running, killed or finished.

    Returns:
        The number of presentations that it holds.

    Raises:
        RecordingError: Something is missing, cut short or changed. Files that the run knows nothing of are not read.
    """
    recording = open_recording(run).load()
    check_kept(run)
    read_references(run)
    return int(recording.sizes["presentation"])
