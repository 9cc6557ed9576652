"""What the parameters of a network are: layer, kind, and the neurons that they belong to."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

#: Kinds of parameters, in the order of tables.
KERNEL, BIAS, NORM = "kernel", "bias", "norm"


@dataclass(frozen=True)
class ParameterTensor:
    """One parameter tensor, and how it is shared out among neurons.

    A neuron is an output channel: what comes in to it, and its bias. Of an embedding it is a column.

    Attributes:
        name: As in ``model.named_parameters()``.
        layer: Name of the module that holds it.
        kind: "kernel", "bias", or "norm" for scale and shift of a normalization.
        shape: Of the tensor.
        fold: ``(a, b, c, d)``: seen in this shape, neuron ``i c + k`` is the sum over ``j`` and ``l`` of ``[i, j, k,
            l]``.
    """

    name: str
    layer: str
    kind: str
    shape: tuple[int, ...]
    fold: tuple[int, int, int, int]

    @property
    def neurons(self) -> int:
        """Output channels."""
        return self.fold[0] * self.fold[2]

    @property
    def size(self) -> int:
        """Parameters."""
        return math.prod(self.shape)

    def blocks(self, *tensors: Tensor) -> Iterator[list[Tensor]]:
        """Goes through contiguous tensors of its shape by blocks of neurons.

        Returns:
            Of each tensor a view ``(a, b, neurons, d)``; where ``a`` is above 1 all neurons in one block.
        """
        a, b, c, d = self.fold
        views = [tensor.reshape(self.fold) for tensor in tensors]
        # Sums over a block are taken in float64: of 2¹⁶ elements they need little memory beside the parameters.
        rows = c if a > 1 else max(1, 2**16 // max(1, b * d))
        for first in range(0, c, rows):
            yield [view[:, :, first : first + rows] for view in views]


def parameter_tensors(model: nn.Module, names: Sequence[str]) -> list[ParameterTensor]:
    """Returns what is known of some parameters of a network.

    Args:
        model: The network.
        names: As in ``model.named_parameters()``.
    """
    modules = dict(model.named_modules())
    own = dict(model.named_parameters())
    return [_described(name, own[name], modules[name.rpartition(".")[0]]) for name in names]


def layers_of(model: nn.Module) -> list[str]:
    """Returns the layers whose parameters ask for a gradient, in their order."""
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    return list(dict.fromkeys(tensor.layer for tensor in parameter_tensors(model, names)))


def _described(name: str, parameter: Tensor, module: nn.Module) -> ParameterTensor:
    place, _, last = name.rpartition(".")
    place, _, inside = place.partition(".parametrizations.") if ".parametrizations." in place else (place, "", "")
    if place.startswith("parametrizations."):
        place, inside = "", place.removeprefix("parametrizations.")
    word = inside or last
    plain = BIAS if "bias" in word else KERNEL
    kind = NORM if "Norm" in type(module).__name__ else plain
    return ParameterTensor(name, place or word, kind, tuple(parameter.shape), _fold(tuple(parameter.shape), module))


def _fold(shape: tuple[int, ...], module: nn.Module) -> tuple[int, int, int, int]:
    """Returns how a tensor is shared out among output channels."""
    if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and len(shape) == 2:
        return 1, shape[0], shape[1], 1
    if isinstance(module, _ConvTransposeNd) and len(shape) > 1:
        return module.groups, shape[0] // module.groups, shape[1], math.prod(shape[2:])
    head = shape[0] if shape else 1
    return 1, 1, head, math.prod(shape[1:])
