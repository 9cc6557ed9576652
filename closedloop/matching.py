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
    found: dict[str, Any] = {"resolution": subject.resolution if isinstance(subject, Resolved) else resolution}
    if isinstance(subject, Located) and subject.torch_device != "cpu":
        found["device"] = subject.torch_device
    taken = {k: v for k, v in found.items() if v is not None and registry.takes("generators", options["name"], k)}
    return {**options, **{k: v for k, v in taken.items() if options.get(k) is None}}


def matched_generator(options: Mapping[str, Any], subject: Subject, resolution: int | None = None) -> Generator:
    """The generator of `matched` options; raises as `closedloop.generators.load_generator` does."""
    generator: Generator = registry.build("generators", **matched(options, subject, resolution))
    return generator
