"""Reads state folders of P-XDream (zoccolan-lab), as its `ZdreamExperimentState.dump` writes them.

``codes.npy`` ``(generations [+ 1], n, latent)``, ``scores_gen.npy`` ``(generations, n)``, ``mask.npy`` ``(generations,
n + natural)`` with True for a synthetic image, ``scores_nat.npy`` and ``labels.npy`` ``(generations, natural)``; where
kept, ``states.npz`` with the activations ``(generations, n + natural, units)`` of each layer and ``rec_units.npz`` with
the positions of its units. ``params.json`` lies beside the folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

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
    whole_numbers,
)
from closedloop.interfaces import Units
from closedloop.recording.layout import REFERENCE


def import_pxdream(folder: str | Path, save: str | Path | None = None) -> xr.Dataset:
    """Reads a state folder of P-XDream.

    Responses are the recorded activations of all layers; where they were not kept, the scores stand for one unit. The
    codes that were proposed last were never shown and are left out. Natural images are named by their label. Times were
    not recorded: `onset_s` is NaN.

    Args:
        folder: The folder ``state``, or the one that it lies in.
        save: Folder of the run to make; None keeps it in memory.

    Returns:
        The recording, see `closedloop.open_recording`.

    Raises:
        RecordingError: Not such a folder, damaged or pickled files, or arrays that do not fit each other; nothing is
            written.
    """
    with importing("P-XDream", folder):
        return _import(check_folder(folder), save)


def _import(path: Path, save: str | Path | None) -> xr.Dataset:
    """Reads a folder, see `import_pxdream`."""
    path = path / "state" if (path / "state").is_dir() else path
    codes, scores, mask = _evolved(path)
    natural = mask.shape[1] - scores.shape[1]
    nat, labels = (_natural(path, name, len(scores), natural) for name in ("scores_nat", "labels"))
    if (np.round(labels) != labels)[~np.isnan(labels)].any():
        raise RecordingError(f"{path}: expected whole numbers as labels of natural images, got others.")
    responses, units = _responses(path, mask, scores, nat)
    thread = "main"
    generations = {g: Presentations() for g in range(len(scores))}
    for g, rows in generations.items():
        evolved, shown = iter(range(scores.shape[1])), iter(range(natural))
        for i, synthetic in enumerate(mask[g]):
            if synthetic:
                n = next(evolved)
                rows.add(thread, f"{thread}-g{g:04d}-{n:03d}", responses[g, i], scores[g, n], codes[g, n])
            else:
                rows.add(REFERENCE, _name(labels[g, next(shown)]), responses[g, i])
    return make_run(_source(path, thread), units, generations, save)


def _evolved(path: Path) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_]]:
    """Reads codes ``(generations [+ 1], n, latent)``, scores ``(generations, n)``, and which images are synthetic."""
    codes, scores, given = (_array(path, name) for name in ("codes", "scores_gen", "mask"))
    if codes is None or scores is None:
        missing = "codes" if codes is None else "scores_gen"
        raise RecordingError(f"{path}: expected a state folder of P-XDream, but it has no {missing}.npy.")
    scores = numbers(f"{path}: scores_gen", scores, (None, None))
    codes = numbers(f"{path}: codes", codes, (None, scores.shape[1], None), lost=False)
    if len(codes) - len(scores) not in (0, 1):
        raise RecordingError(
            f"{path}: expected codes of {len(scores)} generations or of one more, got of {len(codes)}."
        )
    mask = np.ones(scores.shape, dtype=bool) if given is None else given
    if mask.dtype.kind not in "biu" or not np.isin(mask, (0, 1)).all():
        raise RecordingError(f"{path}: expected a mask of True and False, got {mask.dtype}.")
    mask = mask.astype(bool)
    if mask.ndim != 2 or len(mask) != len(scores) or (mask.sum(axis=1) != scores.shape[1]).any():
        raise RecordingError(f"{path}: expected a mask with {scores.shape[1]} synthetic images in each generation.")
    return codes, scores, mask


def _array(path: Path, name: str) -> NDArray[Any] | None:
    """Reads one of the folder's arrays; None where it is not there."""
    file = path / f"{name}.npy"
    return read_array(file) if file.is_file() else None


def _natural(path: Path, name: str, generations: int, natural: int) -> NDArray[Any]:
    """Reads what is known of the natural images ``(generations, natural)``; NaN where nothing is."""
    values = _array(path, name)
    if values is None or values.size == 0:
        return np.full((generations, natural), np.nan)
    if values.size != generations * natural:
        raise RecordingError(f"{path}: expected {name} of shape {(generations, natural)}, got {values.shape}.")
    return numbers(f"{path}: {name}", values.reshape(generations, natural), (generations, natural))


def _name(label: Any) -> str:
    """Returns the name of a natural image from its label; NaN where it has none."""
    return "natural" if np.isnan(label) else f"natural-{int(label):05d}"


def _responses(
    path: Path, mask: NDArray[np.bool_], scores: NDArray[Any], natural: NDArray[Any]
) -> tuple[NDArray[Any], Units]:
    """Reads responses ``(generations, images, units)`` in the order of presentation, and the units."""
    states = read_arrays(path / "states.npz") if (path / "states.npz").is_file() else {}
    states = {layer: values for layer, values in states.items() if values.size}
    if not states:
        single = np.full((*mask.shape, 1), np.nan)
        single[mask, 0] = scores.ravel()
        single[~mask, 0] = natural.ravel()
        return single, Units(("score",), {})
    for layer, values in states.items():
        if values.shape[:2] != mask.shape:
            raise RecordingError(f"{path}: expected states of {layer} for {mask.shape} images, got {values.shape[:2]}.")
    positions = read_arrays(path / "rec_units.npz") if (path / "rec_units.npz").is_file() else {}
    flat = {
        layer: numbers(f"{path}: states of {layer}", values.reshape(*mask.shape, -1), (*mask.shape, None))
        for layer, values in states.items()
    }
    return np.concatenate(list(flat.values()), axis=2), _units(flat, positions)


def _units(states: Mapping[str, NDArray[Any]], positions: Mapping[str, NDArray[Any]]) -> Units:
    """Returns units named by layer and number, with their positions where these were recorded, -1 elsewhere."""
    ids: list[str] = []
    columns: dict[str, list[Any]] = {name: [] for name in ("layer", "channel", "y", "x")}
    for layer, values in states.items():
        count = values.shape[2]
        known = positions.get(layer, np.empty(0))
        where = np.full((count, 3), -1)
        if known.ndim == 2 and known.shape[0] == count:
            given = whole_numbers(f"rec_units of {layer}", known[:, :3], (count, None), 0)
            where[:, : given.shape[1]] = given
        ids += [f"{layer}.{i}" for i in range(count)]
        columns["layer"] += [layer] * count
        for name, column in zip(("channel", "y", "x"), where.T.tolist(), strict=True):
            columns[name] += column
    return Units(tuple(ids), {name: tuple(column) for name, column in columns.items()})


def _source(path: Path, thread: str) -> Source:
    """Reads what ``params.json`` says of the run."""
    file = path.parent / "params.json"
    parameters: dict[str, Any] = {}
    if file.is_file():
        try:
            parsed = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, OSError, RecursionError) as error:
            raise RecordingError(f"{file}: cannot read it as JSON ({error}).") from error
        parameters = dict(entries(parsed))
    seed = parameters.get("random_seed", -1)
    return Source(
        system="P-XDream",
        folder=path,
        subject=str(parameters.get("net_name", "unknown")),
        threads=[thread],
        generators=[str(parameters.get("variant", "unknown"))],
        optimizers=[str(parameters.get("optimizer_type", "unknown"))],
        objectives=["unit(0)"],
        seed=seed if isinstance(seed, int) else -1,
        parameters=parameters,
    )
