"""Which presentations show what an evolution found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.analysis.summary import CROSS, ThreadSummary, summarize_thread, thread_objectives
from closedloop.errors import InvalidArgumentError, RecordingError, UnknownNameError, closest
from closedloop.interfaces import FloatArray, Generator
from closedloop.recording.render import recorded_generator, render


@dataclass(frozen=True)
class Preferred:
    """The evolved image of a thread, or in a run without a re-test its last generation.

    Attributes:
        rows: Presentations that had no part in choosing it, ``(n,)``; of a last generation all its images.
        basis: "re-test", "fresh presentations" (in a run that shows what others found), or "last generation".
        code: ``(latent,)`` without padding: of the image, or the mean of the last generation; None where codes are not
            recorded.
    """

    rows: NDArray[np.intp]
    basis: str
    code: FloatArray | None


def preferred(part: xr.Dataset, name: str, objective: str) -> Preferred:
    """Returns what a thread of a single run found."""
    thread, kind, generation = (part[c].values for c in ("thread", "kind", "generation"))
    if len(again := np.flatnonzero((thread == name) & (kind == CROSS))):
        return Preferred(again, "fresh presentations", None)
    summary = summarize_thread(part, name, objective)
    if summary.evolved.n:
        rows = confirmed_rows(part, summary)
        return Preferred(rows, "re-test", _code(part, rows[:1]))
    own = (thread == name) & (kind == "evolved")
    rows = np.flatnonzero(own & (generation == generation[own].max())) if own.any() else np.empty(0, np.intp)
    return Preferred(rows, "last generation", _code(part, rows))


def confirmed_rows(part: xr.Dataset, summary: ThreadSummary) -> NDArray[np.intp]:
    """Returns the presentations ``(n,)`` of the last re-test that show a thread's evolved image."""
    kind, generation = part["kind"].values, part["generation"].values
    last = generation[kind == "retest"].max(initial=-1)
    again = (part["thread"].values == summary.thread) & (kind == "retest") & (generation == last)
    return np.flatnonzero(again & (part["stimulus_id"].values == summary.evolved.stimulus_id))


def evolved_codes(part: xr.Dataset, name: str) -> tuple[FloatArray, NDArray[np.intp]]:
    """Returns an evolution's codes ``(n, latent)`` in order of presentation, without padding, and their rows.

    Each image comes once, also where it was shown several times.
    """
    rows = np.flatnonzero((part["thread"].values == name) & (part["kind"].values == "evolved"))
    _, first = np.unique(part["stimulus_id"].values[rows], return_index=True)
    rows = rows[np.sort(first)]
    codes = part["latent_code"].isel(presentation=rows).values
    return codes[:, ~np.isnan(codes).all(0)], rows


def _code(part: xr.Dataset, rows: NDArray[np.intp]) -> FloatArray | None:
    if "latent_code" not in part or len(rows) == 0:
        return None
    code: FloatArray = part["latent_code"].isel(presentation=rows).values.mean(0)
    return code[~np.isnan(code)]


def evolved_picture(
    recording: xr.Dataset, thread: str | None = None, generators: Mapping[str, Generator] | None = None
) -> tuple[str, NDArray[np.float32]]:
    """Returns name and pixels ``(3, h, w)`` of what an evolution found; without a re-test the best-scored image.

    Args:
        recording: Of one run.
        thread: Which evolution; needed where there are several.
        generators: By thread, where the generator was a Python object that has no name.

    Raises:
        InvalidArgumentError: There are several evolutions and none was named.
        UnknownNameError: No such evolution.
        RecordingError: The recording holds no evolution, or nothing that it found.
    """
    row = _found(recording, thread)[1]
    return str(recording["stimulus_id"].values[row]), render(recording, [row], generators=generators)[0]


def evolved_reference(recording: xr.Dataset, thread: str | None = None) -> tuple[Generator, FloatArray, str]:
    """Returns the generator, the code ``(dim,)`` of what an evolution found, and its objective, to search around it.

    Args:
        recording: Of one run.
        thread: Which evolution; needed where there are several.

    Raises:
        InvalidArgumentError: There are several evolutions and none was named, or its generator has no name.
        UnknownNameError: No such evolution.
        RecordingError: The recording holds no evolution, or nothing that it found.
    """
    name, row = _found(recording, thread)
    generator = recorded_generator(recording, name)
    if generator is None:
        raise InvalidArgumentError(
            f"generator: that of thread {name!r} was a Python object without a name; hand it over in Python."
        )
    code: FloatArray = recording["latent_code"].values[row].astype(float)
    return generator, code[: generator.space.dim], dict(thread_objectives(recording))[name]


def _found(recording: xr.Dataset, thread: str | None) -> tuple[str, int]:
    """Returns the name of an evolution, and the row of a presentation of what it found."""
    names = dict(thread_objectives(recording))
    if thread is None and len(names) > 1:
        raise InvalidArgumentError(f"thread: the recording has several, {list(names)}; say which one.")
    if thread is not None and thread not in names:
        raise UnknownNameError(f"thread: no thread {thread!r} in the recording.{closest(thread, names)}")
    name = next(iter(names)) if thread is None else thread
    found = preferred(recording, name, names[name])
    if not len(found.rows):
        raise RecordingError(f"recording: thread {name!r} has shown no image yet.")
    scores = np.nan_to_num(recording["score"].values[found.rows], nan=-np.inf)
    return name, int(found.rows[0] if found.basis == "re-test" else found.rows[np.argmax(scores)])
