"""How a run is repeated: the commands, word for word, and what cannot be repeated by a command."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from closedloop.errors import UnknownNameError
from closedloop.loop.protocol import RunProtocol, protocol_of
from closedloop.recipes import OBJECT
from closedloop.recording.layout import EXPERIMENT
from closedloop.yaml_text import yaml_text


def experiment_text(experiment: Mapping[str, Any]) -> str:
    """Returns the file that repeats a run, as text."""
    return yaml_text(dict(experiment))


def objects(experiment: Any) -> list[str]:
    """Describes what the run was handed as Python objects, which no name can load again."""
    if isinstance(experiment, Mapping):
        if experiment.get("name") == OBJECT:
            return [str(experiment.get("description", "an object without a description"))]
        return [found for value in experiment.values() for found in objects(value)]
    return [found for value in experiment for found in objects(value)] if isinstance(experiment, list) else []


def commands(run: Path, experiment: Mapping[str, Any], finished: bool) -> list[tuple[str, str]]:
    """Says what each command does, and how it is typed; for an export its experiment is to be saved first."""
    export = run.is_file()
    out, config = (run.stem, EXPERIMENT) if export else (str(run), str(run / EXPERIMENT))
    protocol = _protocol(experiment, str(run))
    more = protocol.repeats(experiment) if protocol is not None and protocol.command else None
    again = None if protocol is None or more is None else [protocol.command, "--config", config, *more]
    found: dict[str, Sequence[str]] = {}
    if not finished and not export:
        if protocol is None or protocol.resumes(experiment):
            found["go on with it"] = ["resume", str(run)]
        elif again is not None:
            found["go on with it"] = [*again, "--exists", "resume", "--out", str(run)]
    if again is not None:
        found["repeat it, bit for bit"] = [*again, "--out", f"{out}-again"]
    found = {} if objects(experiment) else found
    found |= {} if export else {"see table and figure": ["show", str(run)]}
    return [(what, shlex.join(["closedloop", *words])) for what, words in found.items()]


def _protocol(experiment: Mapping[str, Any], where: str) -> RunProtocol | None:
    """Returns the protocol of a run; None where it is not known here."""
    try:
        return protocol_of(experiment, where)
    except UnknownNameError:
        return None
