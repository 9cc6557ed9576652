"""Small networks that were trained here, as subjects: those of runs of `closedloop.protocols.treat`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from closedloop.networks.kept import read_network

from .torch_subject import TorchSubject


def from_treated(path: str, *, engine: str = "eager", **options: Any) -> TorchSubject:
    """Loads a network that a run of `treat` has kept.

    Args:
        path: The run's folder, or the file ``network.safetensors`` or ``before.safetensors`` within.
        engine: See `TorchSubject`; for so small a network building a quick one takes longer than it saves.
        **options: Of `TorchSubject`.

    Raises:
        WeightsError: There is no such file, or it is no such network.
    """
    model, facts = read_network(path)
    known = {
        "resolution": facts.side,
        "mean": (facts.mean,) * 3,
        "std": (facts.deviation,) * 3,
        "labels": facts.classes,
        "name": f"trained-{facts.network}",
    }
    recipe = {"name": f"treated:{Path(path).resolve()}", "engine": engine, **options}
    return TorchSubject(model, engine=engine, recipe=recipe, **{**known, **options})
