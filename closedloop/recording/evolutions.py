"""The evolutions of a recording: the dimension ``evolution`` and what is known of each along it.

A run of schema 1 or 2 had scalar texts instead, in which the entries of its threads were joined; `with_evolutions`
gives it the dimension, so that nothing else needs to know of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from closedloop.recording.layout import EVOLUTION, REFERENCE
from closedloop.yaml_text import read_yaml_text

if TYPE_CHECKING:
    import xarray as xr

#: Of recordings that `closedloop.analysis.concat` joined: the run of each presentation and of each evolution, and the
#: evolution's own name in it.
RUN, EVOLUTION_RUN, EVOLUTION_THREAD = "run", "evolution_run", "evolution_thread"


def evolution_coords(columns: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, NDArray[Any]]]:
    """Returns coordinates along ``evolution`` from one text for each evolution, by name."""
    return {name: (EVOLUTION, np.array(list(texts), dtype=object)) for name, texts in columns.items()}


def experiment_of(recording: xr.Dataset) -> dict[str, Any]:
    """Returns the experiment that a recording carries with it; empty if it carries none."""
    return deepcopy(_read_experiment(str(recording.attrs.get("experiment", ""))))


@lru_cache(maxsize=4)
def _read_experiment(text: str) -> dict[str, Any]:
    """Reads an experiment once: that of many threads is long, and asked for with each of them."""
    content = read_yaml_text(text, "the experiment of this recording")
    return content if isinstance(content, dict) else {}


def evolution_facts(recording: xr.Dataset) -> dict[str, NDArray[Any]]:
    """Returns what is known of the evolution of each presentation, as columns ``(n,)`` by name.

    Generator, optimizer, objective and the like of its thread; "" for a reference image.
    """
    if EVOLUTION not in recording.coords:
        return {}
    place = places(recording)
    return {
        name: np.array([str(table[i, j]) if j >= 0 else "" for i, j in enumerate(place.tolist())], dtype=object)
        for name, table in tables(recording).items()
    }


def places(recording: xr.Dataset) -> NDArray[np.int64]:
    """Returns the number of the evolution that each presentation belongs to, ``(n,)``; -1 for a reference image."""
    threads = recording["thread"].values.tolist()
    if EVOLUTION_RUN in recording.coords:
        columns = [recording[name].values.tolist() for name in (EVOLUTION_RUN, EVOLUTION_THREAD)]
        known: dict[Any, int] = {key: j for j, key in enumerate(zip(*columns, strict=True))}
        keys: list[Any] = list(zip(recording[RUN].values.tolist(), threads, strict=True))
    else:
        known = {name: j for j, name in enumerate(recording[EVOLUTION].values.tolist())}
        keys = threads
    found = (-1 if thread == REFERENCE else known.get(key, -1) for thread, key in zip(threads, keys, strict=True))
    return np.fromiter(found, dtype=np.int64, count=len(threads))


def siblings(recording: xr.Dataset, place: int) -> NDArray[np.int64]:
    """Returns the numbers of the evolutions of the same run as one of them, itself among them."""
    if EVOLUTION_RUN not in recording.coords:
        return np.arange(recording.sizes[EVOLUTION])
    run = recording[EVOLUTION_RUN].values
    return np.flatnonzero(run == run[place])


def tables(recording: xr.Dataset) -> dict[str, NDArray[Any]]:
    """Returns the coordinates on ``evolution`` but its names, each ``(presentation, evolution)``.

    Runs that `xarray.concat` joined along ``presentation`` may differ in them.
    """
    shape = (recording.sizes["presentation"], recording.sizes[EVOLUTION])
    names = [str(n) for n, c in recording.coords.items() if c.dims[-1:] == (EVOLUTION,) and n != EVOLUTION]
    own = [name for name in names if name not in (EVOLUTION_RUN, EVOLUTION_THREAD)]
    return {name: np.broadcast_to(recording[name].values, shape) for name in own}


def with_evolutions(recording: xr.Dataset) -> xr.Dataset:
    """Returns a recording of schema 1 or 2 with the dimension ``evolution``; a newer one as it is.

    The number of evolutions is that of the threads' names, so the text of a single one is taken whole. Schema 1 did not
    say how its generators are loaded again; its experiment does.

    Raises:
        ValueError: A text does not hold as many entries as there are threads.
    """
    if "threads" not in recording.coords:
        return recording
    content = experiment_of(recording)
    threads = _threads(recording, content)
    columns: dict[str, Sequence[str]] = {EVOLUTION: threads}
    for name in ("generator", "generator_sha256", "optimizer", "objective"):
        if name in recording.coords:
            columns[name] = _parted(name, str(recording[name].item()), len(threads))
    recipes = _recipes(recording, content)
    if recipes is not None:
        columns["generator_recipe"] = [json.dumps(recipe) for recipe in recipes]
    old = [name for name in ("threads", *columns, "generator_recipe") if name in recording.coords]
    return recording.drop_vars(old).assign_coords(evolution_coords(columns))


def _threads(recording: xr.Dataset, content: Mapping[str, Any]) -> list[str]:
    """Returns the names of the threads: those of the experiment where it lists them, for a name may hold anything."""
    text, listed = str(recording["threads"].item()), content.get("threads")
    names = [str(thread.get("name", "")) for thread in listed] if isinstance(listed, list) else []
    return names if names and "; ".join(names) == text else text.split("; ")


def _parted(name: str, text: str, count: int) -> list[str]:
    parts = [text] if count == 1 else text.split("; ")
    if len(parts) != count:
        raise ValueError(f"{name}: expected an entry for each of {count} threads, got {text!r:.200}")
    return parts


def _recipes(recording: xr.Dataset, content: Mapping[str, Any]) -> list[Any] | None:
    """Returns how each thread's generator is loaded again; None where nothing says it."""
    if "generator_recipe" in recording.coords:
        return list(json.loads(str(recording["generator_recipe"].item())))
    threads = content.get("threads") or [content]
    return [t["generator"] for t in threads] if all("generator" in t for t in threads) else None
