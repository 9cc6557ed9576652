"""Reads result folders of XDream (Ponce et al. 2019; Xiao & Kreiman 2020), as its experiments and scorers write them.

A folder holds ``scores_stepNNN.npz`` (scored by a network) or ``scores_end_blockNNN.npz`` (scored at a rig), one for
each step: ``image_ids``, ``scores`` ``(n,)``, ``(n, channels)`` or ``(n, channels, pooled)`` and, where images were
shown several times, ``scores_reps`` with the repeats on the last axis and ``nscores``. Codes are ``<image_id>.npy``,
those of several threads in ``threadNN/``; ids are ``[threadNN_]genNNN_NNNNNN``, all others are reference images.
``parameters.txt`` is a Python dictionary in words.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from closedloop.errors import RecordingError
from closedloop.formats.importers.building import (
    Presentations,
    Source,
    check_folder,
    entries,
    importing,
    make_run,
    numbers,
    read_array,
    read_arrays,
    texts,
    whole_numbers,
)
from closedloop.interfaces import FloatArray, Units
from closedloop.recording.layout import REFERENCE

#: Names of evolved images: their thread, where there are several, their generation and their number.
EVOLVED_ID = re.compile(r"(?:thread(\d+)_)?gen(\d+)_(\d+)")


def import_xdream(folder: str | Path, save: str | Path | None = None) -> xr.Dataset:
    """Reads a result folder of XDream.

    Each step is a generation; a first step of reference images alone is the survey (generation -1). Responses are the
    scores of each channel, one row for each repeat where repeats were kept; `score` is what the optimizer was told.
    Times of presentations were not recorded: `onset_s` is NaN. The images themselves need XDream's generator:
    ``closedloop.render(recording, generators={thread: generator})``.

    Args:
        folder: With the score files, or with a folder ``backup`` that has them.
        save: Folder of the run to make; None keeps it in memory.

    Returns:
        The recording, see `closedloop.open_recording`.

    Raises:
        RecordingError: No score files, damaged ones, or ones that hold pickled objects; nothing is written.
    """
    with importing("XDream", folder):
        return _import(check_folder(folder), save)


def _import(path: Path, save: str | Path | None) -> xr.Dataset:
    """Reads a folder, see `import_xdream`."""
    files = _score_files(path) or _score_files(path / "backup")
    if not files:
        raise RecordingError(
            f"{path}: expected files scores_stepNNN.npz or scores_end_blockNNN.npz, as XDream writes them; found none."
        )
    path = files[0].parent
    steps = [_read_step(file) for file in files]
    numbers = sorted({m[1] for step in steps for i in step["ids"] if (m := EVOLVED_ID.fullmatch(i))}, key=str)
    threads = {number: "main" if number is None else f"thread{number}" for number in numbers}
    if not threads:
        raise RecordingError(f"{path}: no evolved image in the scores; their names are like gen000_000012.")
    units = {(step["scores"].shape[1], step["pooled"]) for step in steps}
    if len(units) > 1:
        raise RecordingError(f"{path}: expected the same number of channels in all steps, got {sorted(units)}.")
    channels, pooled = units.pop()
    own = [_channel(i, channels, pooled) for i in range(len(threads))]
    codes = {file.stem: file for file in (*path.glob("*.npy"), *path.glob("thread*/*.npy"))}
    survey = not any(EVOLVED_ID.fullmatch(i) for i in steps[0]["ids"])
    told = dict(zip(threads.values(), own, strict=True))
    generations = {number - survey: _presentations(step, threads, told, codes) for number, step in enumerate(steps)}
    source = _source(path, list(threads.values()), [_objective(columns) for columns in own])
    return make_run(source, Units.numbered(source.subject, channels), generations, save)


def _channel(thread: int, units: int, pooled: int) -> range:
    """Returns the units whose mean score a thread's optimizer was told: its channel, or those pooled for it."""
    first = min(thread * pooled, units - pooled)
    return range(first, first + pooled)


def _objective(units: range) -> str:
    """Writes as an objective that the optimizer was told the mean of these units."""
    return f"unit({units[0]})" if len(units) == 1 else f"mean({','.join(map(str, units))})"


def _score_files(folder: Path) -> list[Path]:
    """Returns the files of scores in the order of their numbers."""
    name = re.compile(r"scores_(?:step|end_block)(\d+)\.npz")
    found = [(int(m[1]), p) for p in sorted(folder.glob("scores_*.npz")) if (m := name.fullmatch(p.name))]
    if len({number for number, _ in found}) < len(found):
        names = ", ".join(path.name for _, path in sorted(found))
        raise RecordingError(f"{folder}: expected one file of scores for each step, got two of one number: {names}.")
    return [path for _, path in sorted(found)]


def _read_step(file: Path) -> dict[str, Any]:
    """Reads a step: names of its images, mean scores ``(n, units)``, and single ones ``(n, units, repeats)``."""
    arrays = read_arrays(file)
    if not {"image_ids", "scores"} <= arrays.keys():
        raise RecordingError(f"{file}: expected image_ids and scores, got {', '.join(sorted(arrays)) or 'nothing'}.")
    ids = texts(f"{file}: image_ids", arrays["image_ids"])
    n, axes = len(ids), arrays["scores"].ndim
    if axes not in (1, 2, 3):
        raise RecordingError(
            f"{file}: expected scores of {n} images, (n,), (n, channels) or (n, channels, pooled), got "
            f"{arrays['scores'].shape}."
        )
    scores = numbers(f"{file}: scores", arrays["scores"], (n, None, None)[:axes])
    single = numbers(f"{file}: scores_reps", arrays.get("scores_reps", scores[..., None]), (*scores.shape, None))
    repeats = single.shape[-1]
    counted = np.asarray(arrays.get("nscores", repeats))
    shown = whole_numbers(f"{file}: nscores", counted, (n,) if counted.ndim else (), 0)
    if (shown > repeats).any():
        raise RecordingError(f"{file}: nscores says {shown.max()} repeats, but scores_reps holds {repeats}.")
    return {
        "ids": ids,
        "scores": scores.reshape(n, -1),
        "single": single.reshape(n, -1, repeats),
        "shown": np.broadcast_to(shown, n),
        "pooled": scores.shape[2] if axes == 3 else 1,
    }


def _presentations(
    step: Mapping[str, Any],
    threads: Mapping[str | None, str],
    told: Mapping[str, range],
    codes: Mapping[str, Path],
) -> Presentations:
    """Returns the presentations of a step; an image without any answer is one lost presentation."""
    rows = Presentations()
    for i, name in enumerate(step["ids"]):
        known = EVOLVED_ID.fullmatch(name)
        thread = threads[known[1]] if known else REFERENCE
        score = float(step["scores"][i, list(told[thread])].mean()) if known else float("nan")
        code = _code(codes[name]) if known and name in codes else None
        for repeat in range(max(1, int(step["shown"][i]))):
            rows.add(thread, name, step["single"][i, :, repeat], score, code, repeat)
    return rows


def _code(file: Path) -> FloatArray:
    """Reads the code of an image, ``(dim,)``."""
    return numbers(str(file), read_array(file).ravel(), (None,), lost=False)


def _source(path: Path, threads: list[str], objectives: list[str]) -> Source:
    """Reads what ``parameters.txt`` says; "unknown" where it is missing or holds more than plain values."""
    parameters: dict[str, Any] = {}
    file = path / "parameters.txt"
    if file.is_file():
        try:
            parameters = dict(entries(ast.literal_eval(file.read_text(encoding="utf-8", errors="replace"))))
        except (OSError, ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            parameters = {}
    single = parameters.get("optimizer")
    optimizers = [entries(parameters.get(f"optimizer_{name}", single)) for name in threads]
    scorer = entries(parameters.get("scorer"))
    neuron = scorer.get("target_neuron")
    named = ".".join(map(str, neuron)) if isinstance(neuron, (tuple, list)) else str(scorer.get("class", "unknown"))
    seed = optimizers[0].get("optimizer_random_seed", -1)
    return Source(
        system="XDream",
        folder=path,
        subject=named,
        threads=threads,
        generators=[str(o.get("generator_name", "unknown")) for o in optimizers],
        optimizers=[str(o.get("class", "unknown")) for o in optimizers],
        objectives=objectives,
        seed=seed if isinstance(seed, int) else -1,
        parameters=parameters,
    )
