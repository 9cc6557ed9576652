"""Which channels of a layer spoke for a wrong class and against the right one, and what becomes of the answer without.

For a channel c with activations a at its places p, and outputs z of the classes:

* the attribution to a class is Σ_p a_cp · ∂z_class/∂a_cp, activation times gradient (Shrikumar et al. 2016, "Not Just a
  Black Box", for inputs; Molchanov et al. 2017, "Pruning Convolutional Neural Networks", eq. 7, for channels: to first
  order what is lost when the channel is set to 0);
* the check is an ablation: the channel is set, at each place, to its mean at that place over a set of reference images,
  and the outputs are computed again. It says what hangs on this image's deviation from the mean, so a channel that is
  always on may have a large attribution and no effect.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import FloatArray, OpenedLayer


@dataclass(frozen=True)
class Explanation:
    """How the channels of a layer bear on the difference between two outputs for one image.

    Attributes:
        wrong: Number of the class that spoke louder: the answer.
        right: Number of the other class: of an error the true one.
        outputs: Of all classes, ``(classes,)``.
        attribution_wrong: Attribution of each channel to the wrong class, ``(channels,)``.
        attribution_right: To the right class, ``(channels,)``.
        ablated_difference: Output of the wrong class minus that of the right one with this channel at its mean,
            ``(channels,)``.
        ablated_answer: Number of the class with the largest output then, ``(channels,)``.
    """

    wrong: int
    right: int
    outputs: NDArray[np.float32]
    attribution_wrong: NDArray[np.float32]
    attribution_right: NDArray[np.float32]
    ablated_difference: NDArray[np.float32]
    ablated_answer: NDArray[np.int32]

    @property
    def difference(self) -> float:
        """Returns the output of the wrong class minus that of the right one."""
        return float(self.outputs[self.wrong] - self.outputs[self.right])

    @property
    def attribution(self) -> NDArray[np.float32]:
        """Returns the attribution to the difference, ``(channels,)``: above 0 for what spoke for the wrong class."""
        return self.attribution_wrong - self.attribution_right

    @property
    def effect(self) -> NDArray[np.float32]:
        """Returns what a channel's deviation from its mean gives to the difference, ``(channels,)``."""
        return np.float32(self.difference) - self.ablated_difference

    @property
    def corrects(self) -> NDArray[np.bool_]:
        """Returns whether the answer is the right class with this channel at its mean, ``(channels,)``."""
        found: NDArray[np.bool_] = self.ablated_answer == self.right
        return found


def explain(
    opened: OpenedLayer, image: NDArray[np.float32], wrong: int, right: int, means: NDArray[np.float32]
) -> Explanation:
    """Attributes the difference of two outputs for one image ``(3, h, w)`` to channels, and ablates each of them.

    Args:
        opened: The layer.
        image: RGB in [0, 1].
        wrong: Number of the class that was answered.
        right: Number of the other one.
        means: Of each channel at each place, ``(channels, places)``; see `Means`.

    Raises:
        InvalidArgumentError: The two are one class, or there is no such class.
    """
    count = len(opened.classes)
    if wrong == right or not (0 <= wrong < count and 0 <= right < count):
        raise InvalidArgumentError(f"wrong, right: expected two of {count} classes, got {wrong} and {right}.")
    _, outputs = opened.look(image[None])
    attributed = opened.attributions(image[None], np.array([[wrong, right]], np.int64))[0]
    ablated = opened.ablated(image, means, np.arange(opened.channels))
    return Explanation(
        int(wrong),
        int(right),
        outputs[0],
        attributed[0],
        attributed[1],
        ablated[:, wrong] - ablated[:, right],
        ablated.argmax(1).astype(np.int32),
    )


class Means:
    """Mean of each channel of a layer at each place, over images that come in batches.

    Args:
        channels: Number of channels.
        places: Number of places.
    """

    def __init__(self, channels: int, places: int) -> None:
        self.total: FloatArray = np.zeros((channels, places))
        self.count: int = 0

    def add(self, activations: NDArray[np.float32]) -> None:
        """Takes in activations ``(n, channels, places)``."""
        self.total = self.total + activations.sum(0, dtype=np.float64)
        self.count += len(activations)

    @property
    def value(self) -> NDArray[np.float32]:
        """Returns the means ``(channels, places)``.

        Raises:
            InvalidArgumentError: No image was taken in.
        """
        if not self.count:
            raise InvalidArgumentError("means: expected at least one reference image, got none.")
        return (self.total / self.count).astype(np.float32)
