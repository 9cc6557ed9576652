"""Trainings in a sweep: what trains a network of its own is a run like any other, with the settings it has alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

import xarray as xr

from closedloop.errors import InvalidArgumentError
from closedloop.loop.settings import read_settings
from closedloop.recipes import plain
from closedloop.recording.reader import open_recording

from .sweep_plan import check_entries, look_at


def swept(
    name: str,
    train: Callable[..., xr.Dataset],
    settings: Sequence[type[Any]],
    more: Sequence[str] = (),
    steps: Callable[[Any], int] = attrgetter("steps"),
) -> dict[str, Any]:
    """Returns what lets a sweep do the runs of a protocol that trains: fields of its `RunProtocol`.

    Args:
        name: The protocol's.
        train: Does a run, given `save`, `exists` and settings by name.
        settings: Classes of the settings that it takes.
        more: Names of what else it takes.
        steps: Returns about how many steps a run trains, given the first of its settings.
    """
    planned = partial(_planned, name, settings, more, steps)
    return {"trains": True, "planned": planned, "begin": partial(_begin, train, settings[0], steps)}


def _planned(
    name: str,
    settings: Sequence[type[Any]],
    more: Sequence[str],
    steps: Callable[[Any], int],
    content: Mapping[str, Any],
    units: Sequence[str],
    alone: bool,
) -> tuple[dict[str, Any], int]:
    """Returns the settings of a training that are no default, and about how many steps it takes."""
    fields = {made: [*made.__dataclass_fields__] for made in settings}
    if "subject" in content:
        raise InvalidArgumentError(f"subject: expected none for runs of {name}, which train a network of their own.")
    check_entries(content, [*(field for known in fields.values() for field in known), *more], name)
    whole: dict[str, Any] = {key: plain(content[key]) for key in more if key in content}
    for made, known in fields.items():
        told, default = read_settings(made, {key: content[key] for key in known if key in content}), made()
        whole |= {key: plain(getattr(told, key)) for key in known if getattr(told, key) != getattr(default, key)}
    if whole.get("script"):
        raise InvalidArgumentError(f"script: expected none in a plan, which starts no script, got {whole['script']!r}.")
    for key, kind in {"generator": "generators", "strategy": "optimizers"}.items():
        if key in whole:
            look_at(kind, {"name": whole[key]} if isinstance(whole[key], str) else whole[key])
    return whole, _steps(settings[0], steps, content)


def _steps(made: type[Any], steps: Callable[[Any], int], content: Mapping[str, Any]) -> int:
    """Returns about how many steps a run of such settings trains."""
    return steps(read_settings(made, {name: content[name] for name in made.__dataclass_fields__ if name in content}))


def _begin(
    train: Callable[..., xr.Dataset],
    made: type[Any],
    steps: Callable[[Any], int],
    content: Mapping[str, Any],
    save: Path,
    told: Callable[[int], None],
) -> xr.Dataset:
    """Does a training of a sweep, or goes on with it; its parts, whatever they are, count as so much of its steps."""
    count = _steps(made, steps, content)

    def moved(done: int, total: int, *_: object) -> None:
        told(round(count * done / max(total, 1)))

    options = {name: value for name, value in content.items() if name != "protocol"}
    train(save=save, exists="resume", progress=moved, **options)
    return open_recording(save)
