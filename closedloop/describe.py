"""A session as the file that repeats it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from closedloop.evolution import GradientSettings, Thread
from closedloop.interfaces import Described, Fingerprinted, Subject
from closedloop.recording import REFERENCES, version
from closedloop.settings import Settings
from closedloop.stopping import Plateau, StoppingRule, Target

#: Stands for something that was handed over as a Python object and has no name to load it by.
OBJECT = "python-object"


def describe_session(
    subject: Subject,
    threads: Sequence[Thread],
    references: Any,
    stop: Sequence[StoppingRule],
    settings: Settings,
) -> dict[str, Any]:
    """Plain values for ``experiment.yaml``.

    Args:
        subject: Who looks.
        threads: The evolutions.
        references: What the user named as references, before it was read.
        stop: The rules that end a thread.
        settings: The session's numbers.
    """
    described = [_thread(thread) for thread in threads]
    parts: dict[str, Any] = {"threads": described}
    if len(described) == 1 and described[0]["name"] == "main":
        parts = {k: v for k, v in described[0].items() if k != "name"}
    whole: dict[str, Any] = plain(
        {
            "closedloop": version(),
            "protocol": "evolve",
            "subject": recipe(subject),
            **parts,
            "references": source(references),
            "stop": [_rule(rule) for rule in stop],
            **asdict(settings),
        }
    )
    return whole


def recipe(part: Any) -> dict[str, Any]:
    """How a subject, generator or optimizer is loaded again."""
    known = part.recipe if isinstance(part, Described) else None
    if known is None:
        return {"name": OBJECT, "description": f"{type(part).__name__} {part.name}"}
    return {key: plain(value) for key, value in known.items()}


def fingerprint(part: Any) -> str:
    """SHA-256 that tells a generator from one with other weights; of its recipe where it has no weights.

    Empty for something built by hand that cannot tell.
    """
    if isinstance(part, Fingerprinted):
        return part.fingerprint
    known = recipe(part)
    return "" if known["name"] == OBJECT else hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def source(images: Any) -> str | None:
    """Where images come from: a folder, "bundled", the run's own copy, or nowhere."""
    if images is None or (isinstance(images, str) and images == "bundled"):
        return images
    return str(Path(images).resolve()) if isinstance(images, (str, Path)) else REFERENCES


def plain(value: Any) -> Any:
    """Values that YAML can hold."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, range)):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    return value if value is None or type(value) in (bool, int, float, str) else str(value)


def _thread(thread: Thread) -> dict[str, Any]:
    described = {
        "name": thread.name,
        "generator": recipe(thread.generator),
        "optimizer": recipe(thread.optimizer),
        "objective": thread.objective.describe(),
    }
    return described | ({"gradient": _gradient(thread.gradient)} if thread.optimizer.needs_gradient else {})


def _gradient(how: GradientSettings) -> dict[str, Any]:
    """How gradients are taken; an anchor's code has no place in a file."""
    described: dict[str, Any] = {
        "view": None if how.view is None else how.view.describe(),
        "every": how.every,
        "redirected": how.redirected,
        "seed": how.seed,
    }
    anchored = {"anchor": {"name": OBJECT, "description": f"{type(how.anchor).__name__}"}}
    return described if how.anchor is None else described | anchored


def _rule(rule: StoppingRule) -> dict[str, Any]:
    known: Sequence[type[Any]] = (Plateau, Target)
    if isinstance(rule, tuple(known)):
        return {"name": type(rule).__name__.lower(), **vars(rule)}
    return {"name": OBJECT, "description": repr(rule)}
