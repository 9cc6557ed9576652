"""How the inputs of a training are seen as images."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from closedloop.errors import InvalidArgumentError

from .train import Training


class Seen(NamedTuple):
    """How images in [0, 1] become inputs of a network: ``(image - mean) / std``.

    Attributes:
        channels: 3 for colours, 1 for grey.
        side: Height and width in pixels.
        mean: Of each channel.
        std: Of each channel.
    """

    channels: int
    side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def by(cls, training: Training) -> Seen:
        """Takes it from the inputs of a training: their least value in each channel is black, their largest is white.

        Raises:
            InvalidArgumentError: They are no square images.
        """
        inputs = training.data[0]
        shape = tuple(getattr(inputs, "shape", ()))
        if len(shape) != 4 or shape[1] not in (1, 3) or shape[2] != shape[3]:
            raise InvalidArgumentError(
                f"training: expected inputs (n, 3 or 1, side, side), got {shape or type(inputs).__name__}; hand over "
                "Training(…, subject=…), the network as a subject, and references, a folder or an array."
            )
        low, high = (getattr(inputs, f"a{end}")((0, 2, 3)).double().tolist() for end in ("min", "max"))
        # input = low + (high - low) image, so image = (input - low) / (high - low).
        std = tuple(1 / max(most - least, 1e-12) for least, most in zip(low, high, strict=True))
        return cls(shape[1], shape[2], tuple(-least * s for least, s in zip(low, std, strict=True)), std)

    def images(self, inputs: Any) -> NDArray[np.float32]:
        """Returns inputs ``(n, channels, side, side)`` as images in [0, 1]."""
        mean, std = (np.array(numbers)[:, None, None] for numbers in (self.mean, self.std))
        shown: NDArray[np.float32] = np.clip(inputs.detach().cpu().double().numpy() * std + mean, 0, 1).astype(
            np.float32
        )
        return shown
