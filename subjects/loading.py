"""Subjects by name."""

from __future__ import annotations

from typing import Any

from closedloop import recipes
from closedloop.interfaces import Subject
from closedloop.signatures import at_door


@at_door
def load_subject(name: str, **options: Any) -> Subject:
    """Returns a subject by name.

    Args:
        name: "lite0" (embedded; "lite1", "lite2" with the extra `lite`), "torchvision:NAME", "timm:NAME",
            "onnx:FILE", the analytic "gabor", "energy" and "normalization", or a plug-in's. Noise around another one,
            given as ``subject={"name": …, **options}``: "poisson", "negative-binomial", "gain", "drift", "lossy",
            "repeated"; a screen, "displayed". A rig: "rig:zmq://HOST:PORT", "rig:folder:DIR". A
            recording: "replay:RUN".
        **options: For networks those of `TorchSubject` (`layer`, `units`, `engine`, `device` …) and `weights`: a
            local file (``.safetensors`` or a state dictionary ``.pt``), or "random" for an untrained network.

    Raises:
        UnknownNameError: No such subject or network.
        WeightsError: The weights are missing, cannot be read, or do not fit. Never silently random.
        MissingExtraError: Networks need the extra `networks`.
    """
    subject: Subject = recipes.build("subjects", name, **options)
    return subject
