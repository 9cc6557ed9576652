"""A network while it is trained, as a subject: grey or coloured images, its weights as they are at each moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from closedloop.interfaces import FloatArray, State, Units
from closedloop.objectives.naming_units import UnitSpec
from closedloop.readable import ReadableSubject

from .torch_subject import TorchSubject


class _Greyed(nn.Module):
    """A network of grey images as one of colours that are alike; its layers keep their names."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        for name, part in model.named_children():
            self.add_module(name, part)
        self.add_module("_network", model)  # last, so that whatever is known by a name before keeps it

    def forward(self, x: Tensor) -> Any:
        """Hands the first of three like channels on: ``(n, 3, h, w)`` -> ``(n, 1, h, w)``."""
        return self.get_submodule("_network")(x[:, :1])


@final
class TrainedSubject(ReadableSubject):
    """Records units of a network that learns meanwhile, with the weights that it has when it is asked.

    It runs eagerly, in evaluation mode, and is left as it is found, see `TorchSubject`; training goes on as if nobody
    had looked.

    Args:
        model: The network, from normalized images ``(n, channels, h, w)`` to anything.
        layer: Name of a module, or several names, as for `TorchSubject`.
        units: Units of each layer, likewise.
        resolution: Height and width of the network's input in pixels.
        channels: 3 for colours, 1 for grey images.
        mean: Mean of each channel (images in [0, 1]) that is subtracted.
        std: Standard deviation of each channel that divides.
        seed: Draws the units of ``"random:N"``.
        called: Its name, for records; default the class of the network.

    Raises:
        UnknownNameError: No such layer.
        InvalidArgumentError: A unit is out of range, or another argument does not fit.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        layer: str | Sequence[str],
        units: UnitSpec | Mapping[str, UnitSpec] = "all",
        resolution: int,
        channels: int = 3,
        mean: Sequence[float],
        std: Sequence[float],
        seed: int = 0,
        called: str | None = None,
    ) -> None:
        whole = model if channels == 3 else _Greyed(model)
        thrice = 3 // len(mean)
        self._inner = TorchSubject(
            whole,
            layer=layer,
            units=units,
            resolution=resolution,
            mean=[*mean] * thrice,
            std=[*std] * thrice,
            engine="eager",
            seed=seed,
            name=called or type(model).__name__,
        )
        self.name: str = self._inner.name
        self.resolution: int = resolution
        self.channels: int = channels
        self.fingerprint: str = self._inner.fingerprint  # with the weights that it has now

    @property
    def units(self) -> Units:
        """What is recorded: layer, channel and position of each unit."""
        return self._inner.units

    def record(self, images: NDArray[np.float32]) -> FloatArray:
        """Turns images ``(n, channels, h, w)`` in [0, 1] into responses ``(n, units)`` float32."""
        return self._inner.record(images if self.channels == 3 else np.repeat(images, 3, axis=1))

    def state(self) -> State:
        """Returns the state of the random stream that a random network draws from."""
        return self._inner.state()

    def restore(self, state: State) -> None:
        """Goes back to a saved state."""
        self._inner.restore(state)
