"""The encoder of a generator, as features: where an image lies among those that the generator has learnt to draw."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from closedloop import recipes
from closedloop.checks import check_images
from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import FloatArray, Generator, Units
from closedloop.readable import ReadableSubject


@final
class Encoder(ReadableSubject):
    """Records the code that a generator's encoder reads off an image, `Differentiable`: features for a twin.

    Args:
        generator: Name or recipe of a generator with an encoder in torch, such as "native"; or the generator.

    Raises:
        InvalidArgumentError: It has none.
    """

    def __init__(self, generator: str | Mapping[str, Any] | Generator = "native") -> None:
        if isinstance(generator, (str, Mapping)):
            named = {"name": generator} if isinstance(generator, str) else dict(generator)
            made: Generator = recipes.build("generators", **named)
        else:
            made = generator
        read = getattr(made, "encoding", None)
        if not callable(read):
            raise InvalidArgumentError(
                f"generator: expected one with an encoder in torch, such as 'native', got {made!r:.80}."
            )
        self._generator, self._read = made, read
        self.name: str = f"encoder-of-{made.name}"
        self.units: Units = Units.numbered(f"{made.name}-code", made.space.dim)
        self.resolution: int = made.resolution

    @property
    def recipe(self) -> Mapping[str, Any] | None:
        """How `load_subject` makes it again; None for a generator built by hand."""
        inner = recipes.recipe(self._generator)
        return None if inner["name"] == recipes.OBJECT else {"name": "encoder", "generator": inner}

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the generator's weights."""
        return hashlib.sha256(f"encoder {recipes.fingerprint(self._generator)}".encode()).hexdigest()

    def forward(self, x: Tensor) -> Tensor:
        """Turns images ``(n, 3, h, w)`` in [0, 1] into codes ``(n, dim)``, graph kept."""
        found: Tensor = self._read(x)
        return found

    @torch.no_grad()
    def record(self, images: NDArray[np.float32]) -> FloatArray:
        """Turns images ``(n, 3, h, w)``, RGB in [0, 1], into codes ``(n, dim)`` float32."""
        images = check_images(images)
        if not len(images):
            return np.empty((0, len(self.units)), np.float32)
        return np.asarray(self.forward(torch.from_numpy(np.ascontiguousarray(images))).float().cpu().numpy())
