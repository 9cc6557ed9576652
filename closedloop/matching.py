"""A generator that suits a subject: images of its resolution, made on its device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from closedloop import registry
from closedloop.interfaces import Generator, Located, Resolved, Subject


def matched(options: Mapping[str, Any], subject: Subject, resolution: int | None = None) -> dict[str, Any]:
    """The options of a generator with the subject's resolution and GPU, where it takes them and they are not given.

    Args:
        options: What the generator is loaded with, its ``name`` among them.
        subject: Who looks.
        resolution: For a subject that has none of its own; None leaves it to the generator.

    Raises:
        UnknownNameError: No such generator.
    """
    own = _with(options, "resolution", subject.resolution if isinstance(subject, Resolved) else resolution)
    if isinstance(subject, Located) and subject.torch_device != "cpu":
        return _placed(own, subject.torch_device)
    return own


def _placed(options: dict[str, Any], device: str) -> dict[str, Any]:
    """The options of a generator, and of one that it is wrapped around, with a device."""
    inner = options.get("generator")
    named = {"name": inner} if isinstance(inner, str) else inner
    if isinstance(named, Mapping) and "name" in named:  # a generator itself stays where it is
        options = {**options, "generator": _placed(dict(named), device)}
    return _with(options, "device", device)


def _with(options: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """The options of a generator with one more, where it takes it and it is not given."""
    wanted = value is not None and options.get(key) is None and registry.takes("generators", options["name"], key)
    return {**options, key: value} if wanted else dict(options)


def matched_generator(options: Mapping[str, Any], subject: Subject, resolution: int | None = None) -> Generator:
    """The generator of `matched` options; raises as `closedloop.generators.load_generator` does."""
    generator: Generator = registry.build("generators", **matched(options, subject, resolution))
    return generator
