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
from numpy.typing import NDArray

from closedloop.errors import RecordingError
from closedloop.formats.importers.building import Presentations, Source, check_folder, make_run, read_arrays
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
    path = check_folder(folder)
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
    units = {step["scores"].shape[1] for step in steps}
    if len(units) > 1:
        raise RecordingError(f"{path}: expected the same number of channels in all steps, got {sorted(units)}.")
    channels = units.pop()
    pooled = steps[0]["pooled"]
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
    return [path for _, path in sorted(found)]


def _read_step(file: Path) -> dict[str, Any]:
    """Reads a step: names of its images, mean scores ``(n, units)``, and single ones ``(n, units, repeats)``."""
    arrays = read_arrays(file)
    if not {"image_ids", "scores"} <= arrays.keys():
        raise RecordingError(f"{file}: expected image_ids and scores, got {', '.join(sorted(arrays)) or 'nothing'}.")
    ids, scores = [str(i) for i in arrays["image_ids"]], arrays["scores"]
    n = len(ids)
    if scores.ndim not in (1, 2, 3) or len(scores) != n or scores.dtype.kind not in "iuf":
        raise RecordingError(
            f"{file}: expected scores of {n} images, (n,), (n, channels) or (n, channels, pooled), got {scores.dtype} "
            f"{scores.shape}."
        )
    single = arrays.get("scores_reps", scores[..., None])
    if single.shape[:-1] != scores.shape:
        raise RecordingError(f"{file}: expected scores_reps of shape {(*scores.shape, 'repeats')}, got {single.shape}.")
    shown = arrays.get("nscores", np.full(n, single.shape[-1]))
    return {
        "ids": ids,
        "scores": scores.reshape(n, -1).astype(float),
        "single": single.reshape(n, -1, single.shape[-1]).astype(float),
        "shown": np.broadcast_to(shown, n).astype(int),
        "pooled": scores.shape[2] if scores.ndim == 3 else 1,
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
    code: NDArray[Any] = read_arrays(file)[""]
    if code.dtype.kind not in "iuf":
        raise RecordingError(f"{file}: expected a code of numbers, got {code.dtype}.")
    return code.ravel().astype(float)


def _source(path: Path, threads: list[str], objectives: list[str]) -> Source:
    """Reads what ``parameters.txt`` says; "unknown" where it is missing or holds more than plain values."""
    parameters: dict[str, Any] = {}
    file = path / "parameters.txt"
    if file.is_file():
        try:
            parsed = ast.literal_eval(file.read_text(encoding="utf-8", errors="replace"))
            parameters = parsed if isinstance(parsed, dict) else {}
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            parameters = {}
    single = parameters.get("optimizer", {})
    optimizers = [parameters.get(f"optimizer_{name}", single) for name in threads]
    scorer = parameters.get("scorer", {})
    neuron = scorer.get("target_neuron")
    seed = optimizers[0].get("optimizer_random_seed", -1)
    return Source(
        system="XDream",
        folder=path,
        subject=".".join(map(str, neuron)) if isinstance(neuron, (tuple, list)) else scorer.get("class", "unknown"),
        threads=threads,
        generators=[str(o.get("generator_name", "unknown")) for o in optimizers],
        optimizers=[str(o.get("class", "unknown")) for o in optimizers],
        objectives=objectives,
        seed=seed if isinstance(seed, int) else -1,
        parameters=parameters,
    )
