"""Values and slopes of linear readouts of features with respect to codes: through a generator and a feature network."""

from __future__ import annotations

from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from closedloop.errors import GeneratorError, SubjectError, blamed
from closedloop.gradients.redirected import InwardClamp
from closedloop.interfaces import FloatArray, Generator, Located, Subject


@final
class ReadoutPath:
    """Differentiates a linear readout of each code's image, every code with weights of its own.

    Args:
        generator: Makes images; `Differentiable`.
        features: Turns images into features; `Differentiable`.
    """

    def __init__(self, generator: Generator, features: Subject) -> None:
        self._names = (f"generator {generator.name!r}, forward()", f"features {features.name!r}, forward()")
        self._device = features.torch_device if isinstance(features, Located) else "cpu"
        self._generator: Any = generator
        self._features: Any = features

    def slopes(self, codes: FloatArray, weights: NDArray[np.float32]) -> tuple[FloatArray, FloatArray]:
        """Returns values ``(n,)`` of codes ``(n, dim)`` with weights ``(n, features)``, and slopes ``(n, dim)``."""
        code = torch.from_numpy(np.asarray(codes, np.float32)).to(self._device).requires_grad_()
        with blamed(self._names[0], GeneratorError), InwardClamp():
            images: Tensor = self._generator.forward(code)
        with blamed(self._names[1], SubjectError):
            found: Tensor = self._features.forward(images)
            values = (found * torch.from_numpy(weights).to(found)).sum(1)
            (back,) = torch.autograd.grad(values.sum(), code)
        return values.detach().double().cpu().numpy(), back.double().cpu().numpy()
