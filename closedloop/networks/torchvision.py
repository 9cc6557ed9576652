"""Makes ``import torchvision`` work beside a torch whose build lacks torchvision's compiled operators.

A torchvision wheel registers its operators from a compiled library; with a torch that cannot load that library the
import fails because the operators' names are unknown. Their declarations are enough for models and transforms.
"""

from __future__ import annotations

import importlib
from typing import Any

import torch

#: Operators that the import of torchvision refers to, and that are missing where its compiled part does not load.
_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_libraries: list[Any] = []  # a declaration lives as long as its library


def import_torchvision() -> Any:
    """Returns the module ``torchvision``, declaring missing operators first where the plain import fails."""
    if not _libraries:
        try:
            return importlib.import_module("torchvision")
        except RuntimeError as error:
            if "torchvision::" not in str(error):
                raise
        library: Any = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        for schema in _SCHEMAS:
            if not hasattr(torch.ops.torchvision, schema.split("(")[0]):
                library.define(schema)
        _libraries.append(library)
    return importlib.import_module("torchvision")
