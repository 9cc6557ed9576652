"""How a run is repeated: the commands, word for word, and what cannot be repeated by a command."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from closedloop.recipes import OBJECT
from closedloop.recording.layout import EXPERIMENT, REFERENCES


def experiment_text(experiment: Mapping[str, Any]) -> str:
    """The file that repeats a run, as text."""
    return yaml.safe_dump(dict(experiment), sort_keys=False, allow_unicode=True)


def objects(experiment: Any) -> list[str]:
    """What the run was handed as Python objects, which no name can load again: their descriptions."""
    if isinstance(experiment, Mapping):
        if experiment.get("name") == OBJECT:
            return [str(experiment.get("description", "an object without a description"))]
        return [found for value in experiment.values() for found in objects(value)]
    return [found for value in experiment for found in objects(value)] if isinstance(experiment, list) else []


def commands(run: Path, experiment: Mapping[str, Any], finished: bool) -> list[tuple[str, str]]:
    """What each command does, and the command as it is typed; for an export its experiment is to be saved first."""
    export = run.is_file()
    out, config = (run.stem, EXPERIMENT) if export else (str(run), str(run / EXPERIMENT))
    repeat: Sequence[str] = ()
    if experiment.get("protocol") == "present":
        repeat = _record(experiment, f"{out}-again")
    elif experiment.get("protocol", "evolve") == "evolve":
        repeat = ["evolve", "--config", config, "--out", f"{out}-again"]
    found: dict[str, Sequence[str]] = {"go on with it": ["resume", str(run)]} if not (finished or export) else {}
    found |= {"repeat it, bit for bit": repeat} if repeat else {}
    found = {} if objects(experiment) else found
    found |= {} if export else {"see table and figure": ["show", str(run)]}
    return [(what, shlex.join(["closedloop", *words])) for what, words in found.items()]


#: Options of a subject that ``closedloop record`` takes, and what the others must be for it to record the same.
_TAKEN = ("layer", "units", "weights", "engine", "device")
_FIXED = {"seed": 0, "resolution": 224, "soa_s": 0.2, "timeout_s": None}


def _record(experiment: Mapping[str, Any], out: str) -> Sequence[str]:
    """The words of ``closedloop record`` for a run of recorded images; none where it has no option for all of it."""
    subject = dict(experiment["subject"]) if isinstance(experiment["subject"], Mapping) else {}
    name = str(subject.pop("name", experiment["subject"]))
    other = {k: v for k, v in subject.items() if k not in _TAKEN}
    other |= {k: experiment[k] for k in ("resolution", "soa_s", "timeout_s") if k in experiment}
    if any(k not in _FIXED or v != _FIXED[k] for k, v in other.items()) or experiment.get("images") == REFERENCES:
        return []
    words = ["record", "--subject", name]
    if experiment.get("images") not in (None, "bundled"):
        words += ["--images", str(experiment["images"])]
    known = {k: subject[k] for k in _TAKEN if subject.get(k) is not None}
    known |= {k: experiment[k] for k in ("repeats", "seed", "retries") if k in experiment}
    for name, value in known.items():
        words += [f"--{name}", ",".join(map(str, value)) if isinstance(value, list) else str(value)]
    return [*words, "--out", out]
