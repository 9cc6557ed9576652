"""What a run found, as it is written down when the run comes to its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from closedloop.errors import ClosedLoopError
from closedloop.loop.protocol import protocol_name, shown_protocol
from closedloop.recording.evolutions import experiment_of
from closedloop.recording.summaries import summary_bytes
from closedloop.recording.writer import Recording

if TYPE_CHECKING:
    import xarray as xr


def summary_of(recording: Recording) -> bytes | None:
    """Returns the content of a run's ``SUMMARY.json``, all of whose rows are committed.

    None where there is no folder to write it in, or where its protocol cannot say what was found from the rows alone: a
    catalogue asks again when it is looked at. That is no reason for a run to fail at its end.
    """
    if recording.path is None:
        return None
    try:
        found = run_summary(recording.dataset(), str(recording.path))
    except ClosedLoopError:
        return None
    return None if found is None else summary_bytes(found)


def run_summary(recording: xr.Dataset, where: str) -> dict[str, Any] | None:
    """Returns what identifies a run and what its threads found, in plain values.

    Args:
        recording: See `closedloop.open_recording`.
        where: The run, for errors.

    Returns:
        ``protocol``, ``subject``, ``seed``, ``version`` and ``threads``; None where the protocol cannot say them.

    Raises:
        ClosedLoopError: The rows lack something.
    """
    content = experiment_of(recording)
    threads = shown_protocol(content, where).findings(recording)
    return None if threads is None else {**run_facts(recording, content), "threads": [dict(one) for one in threads]}


def run_facts(recording: xr.Dataset, content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what identifies a run, but for its threads."""
    known = {name: recording[name].item() for name in ("subject", "seed") if name in recording.coords}
    version = recording["closedloop_version"].item() if "closedloop_version" in recording.coords else ""
    return {"protocol": protocol_name(content), "subject": "", "seed": None, **known, "version": version}
