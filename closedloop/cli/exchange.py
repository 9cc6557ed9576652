"""What ``closedloop export`` and ``closedloop import`` do."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from closedloop.cli.console import console
from closedloop.errors import InvalidArgumentError, UnknownNameError, closest
from closedloop.formats import FORMATS, export
from closedloop.formats.importers import SYSTEMS
from closedloop.recording.reader import open_recording


def run_export(run: Path, to: str, out: Path | None, given: dict[str, Any]) -> None:
    """``closedloop export``.

    Raises:
        UnknownNameError: No such format.
        InvalidArgumentError: An option that the format does not have.
    """
    if to not in FORMATS:
        raise UnknownNameError(f"to: no format named {to!r}.{closest(to, FORMATS)}")
    chosen = FORMATS[to]
    known = inspect.signature(chosen.write).parameters
    pictures = any(p.kind is p.VAR_KEYWORD for p in known.values())
    wrong = [name for name in given if name not in known and not (pictures and name == "references")]
    if wrong:
        raise InvalidArgumentError(f"{wrong[0]}: the format {to} has no such option.")
    recording = open_recording(run)
    path = out or run.with_name(f"{run.name if run.is_dir() else run.stem}{chosen.suffix or '-' + to}")
    with console.status(f"Writing {path} …"):
        export(recording, to, path, **given)
    console.print(f"Wrote {path}: {chosen.what}.", highlight=False, markup=False)


def run_import(folder: Path, system: str, out: Path) -> None:
    """``closedloop import``.

    Raises:
        UnknownNameError: No such system.
    """
    if system not in SYSTEMS:
        raise UnknownNameError(f"from: no system named {system!r}.{closest(system, SYSTEMS)}")
    recording = SYSTEMS[system](folder, out)
    console.print(
        f"Imported {recording.sizes['presentation']} presentations × {recording.sizes['neuroid']} units into {out}.",
        highlight=False,
        markup=False,
    )
