"""A session as the file that repeats it."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from closedloop.errors import (
    ClosedLoopError,
    InvalidArgumentError,
    MissingExtraError,
    UnknownNameError,
    closest,
    extras_named,
)
from closedloop.interfaces import STILL, Described, Fingerprinted, Generator, Located, Resolved, Subject, form_of

#: Stands for something that was handed over as a Python object and has no name to load it by.
OBJECT = "python-object"
#: The optimizer that is taken where none is named: on the command line and in an experiment's file.
OPTIMIZER = "auto"


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


def generator_of_run(run: str | Path, content: Mapping[str, Any], generator: Generator | None) -> Generator:
    """The generator of a run: the one that was handed over, else the one that its file names.

    Raises:
        InvalidArgumentError: It was a Python object without a name, and was not handed over.
    """
    if generator is not None:
        return generator
    options = dict(content["generator"])
    name = options.pop("name")
    if name == OBJECT:
        raise InvalidArgumentError(
            f"{run}: its generator was a Python object ({options.get('description', '')}); hand it over again: "
            "resume(RUN, generator=…)."
        )
    made: Generator = build("generators", name, **options)
    return made


def names(kind: str) -> list[str]:
    """The known names of a kind: "subjects", "generators" or "optimizers"."""
    return sorted(entry.name for entry in metadata.entry_points(group=f"closedloop.{kind}"))


def build(kind: str, name: str, *arguments: Any, **options: Any) -> Any:
    """Calls what a name stands for.

    Args:
        kind: "subjects", "generators", "optimizers" or "protocols".
        name: A known name, with its own argument after a colon where it takes one.
        *arguments: Handed on, after the name's own argument.
        **options: Handed on.

    Raises:
        UnknownNameError: No such name.
        InvalidArgumentError: It does not take one of the options.
        MissingExtraError: What it needs is not installed.
    """
    factory = find(kind, name)
    tail = name.partition(":")[2]
    given = (tail, *arguments) if tail else arguments
    _check_options(f"{kind[:-1]} {name!r}", factory, given, options)
    try:
        return factory(*given, **options)
    except TypeError as error:  # options come from files, where a word may stand for a number
        raise InvalidArgumentError(f"{kind[:-1]} {name!r}: an option has the wrong type ({error}).") from error


def takes(kind: str, name: str, option: str) -> bool:
    """Whether what a name stands for takes an option; raises as `build` does if the name is not known."""
    return option in inspect.signature(find(kind, name)).parameters


def find(kind: str, name: str) -> Any:
    """Returns what a name, without its own argument, stands for; raises as `build` does."""
    head = name.partition(":")[0]
    found = [e for e in metadata.entry_points(group=f"closedloop.{kind}") if e.name == head]
    if not found:
        raise UnknownNameError(f"{kind[:-1]}: no {kind[:-1]} named {name!r}.{closest(head, names(kind))}")
    try:
        with extras_named(f"{kind[:-1]} {head!r}"):
            return found[0].load()
    except ClosedLoopError:
        raise
    except ImportError as error:  # of a package that adds a name
        cure = f" Install what it needs: pip install {error.name}" if error.name else ""
        raise MissingExtraError(f"{kind[:-1]} {head!r}: {error}.{cure}") from error


def _check_options(what: str, factory: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    """Turns a wrong option into a clear error before anything is called."""
    signature = inspect.signature(factory)
    try:
        signature.bind(*arguments, **options)
    except TypeError as error:
        known = [n for n, p in signature.parameters.items() if p.kind is not p.VAR_KEYWORD]
        wrong = next((o for o in options if o not in known), None)
        hint = closest(wrong, known) if wrong else f" It takes: {', '.join(known)}."
        raise InvalidArgumentError(f"{what}: {error}.{hint}") from error


def matched(options: Mapping[str, Any], subject: Subject, resolution: int | None = None) -> dict[str, Any]:
    """The options of a generator with what it can take from the subject, where that is not given.

    That is its resolution and its GPU; for a subject of grey images or of movies also `channels`, `frames`, `rate_hz`.

    Args:
        options: What the generator is loaded with, its ``name`` among them.
        subject: Who looks.
        resolution: For a subject that has none of its own; None leaves it to the generator.

    Raises:
        UnknownNameError: No such generator.
    """
    own = _with(options, "resolution", subject.resolution if isinstance(subject, Resolved) else resolution)
    if (form := form_of(subject)) != STILL:
        own = _formed(own, {"channels": form.channels, "frames": form.frames, "rate_hz": form.rate_hz})
    if isinstance(subject, Located) and subject.torch_device != "cpu":
        return _placed(own, subject.torch_device)
    return own


def _formed(options: dict[str, Any], form: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a generator, and of one that it is wrapped around, with the form of its images."""
    inner = options.get("generator")
    named = {"name": inner} if isinstance(inner, str) else inner
    if isinstance(named, Mapping) and "name" in named:  # a generator itself stays as it is
        options = {**options, "generator": _formed(dict(named), form)}
    for key, value in form.items():
        options = _with(options, key, value)
    return options


def _placed(options: dict[str, Any], device: str) -> dict[str, Any]:
    """The options of a generator, and of one that it is wrapped around, with a device."""
    return _formed(options, {"device": device})


def _with(options: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """The options of a generator with one more, where it takes it and it is not given."""
    wanted = value is not None and options.get(key) is None and takes("generators", options["name"], key)
    return {**options, key: value} if wanted else dict(options)


def matched_generator(options: Mapping[str, Any], subject: Subject, resolution: int | None = None) -> Generator:
    """The generator of `matched` options; raises as `closedloop.generators.load_generator` does."""
    generator: Generator = build("generators", **matched(options, subject, resolution))
    return generator


def version() -> str:
    """The installed version of closedloop."""
    return metadata.version("closedloop")
