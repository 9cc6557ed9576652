"""Pictures resampled along their two axes by matrices most of whose weights are zero, in torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: Rows of a matrix that are multiplied together.
BLOCK = 64


def resampled(pictures: Tensor, rows: NDArray[Any], columns: NDArray[Any]) -> Tensor:
    """Returns ``rows @ pictures @ columns.T``: pictures ``(…, h, w)``, rows ``(h', h)`` and columns ``(w', w)``.

    Keeps the graph, the type and the device of the pictures. A matrix of linear interpolation has weights near its
    diagonal only; block by block of its rows the others are left out, which is several times as fast for large
    pictures.
    """
    return _product(columns, _product(rows, pictures).mT).mT


def _product(matrix: NDArray[Any], x: Tensor) -> Tensor:
    """Returns ``matrix @ x`` for a matrix ``(m, k)`` and pictures ``(…, k, n)``."""
    parts = []
    for i in range(0, len(matrix), BLOCK):
        rows = matrix[i : i + BLOCK]
        used = np.flatnonzero(rows.any(0))
        first, last = (used[0], used[-1] + 1) if len(used) else (0, 0)
        parts.append(x.new_tensor(rows[:, first:last]) @ x[..., first:last, :])
    return torch.cat(parts, -2)
