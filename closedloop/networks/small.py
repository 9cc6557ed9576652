"""Small networks that are trained in minutes on two cores, for experiments on training itself."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from closedloop.errors import InvalidArgumentError
from closedloop.networks.modules import born, undisturbed


class Held(nn.Module):
    """Holds some channels still: whatever comes in, they have their means, at each place.

    Args:
        channels: Which ones.
        means: Of each of these, ``(len(channels), …)``, with the places of a map behind; see `hold_channels`.
    """

    channels: Tensor
    means: Tensor

    def __init__(self, channels: Tensor, means: Tensor) -> None:
        super().__init__()
        self.register_buffer("channels", channels)
        self.register_buffer("means", means)

    def forward(self, x: Tensor) -> Tensor:
        """Returns ``(n, channels, …)`` like `x`."""
        held = x.clone()
        held[:, self.channels] = self.means
        return held


class Block(nn.Module):
    """A residual block of two 3x3 convolutions with batch norm; where shapes differ a 1x1 convolution goes beside.

    Args:
        channels: That come in.
        width: That go out.
        stride: Of the first convolution.
    """

    def __init__(self, channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1: nn.Conv2d = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1: nn.BatchNorm2d = nn.BatchNorm2d(width)
        self.conv2: nn.Conv2d = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2: nn.BatchNorm2d = nn.BatchNorm2d(width)
        self.shortcut: nn.Module = (
            nn.Conv2d(channels, width, 1, stride, bias=False) if channels != width else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Returns ``(n, width, h / stride, w / stride)``."""
        y = torch.relu(self.bn1(self.conv1(x)))
        out: Tensor = torch.relu(self.bn2(self.conv2(y)) + self.shortcut(x))
        return out


def mlp(channels: int, side: int, classes: int) -> nn.Module:
    """Makes a network of three layers of 64 units with ReLU, ``fc1`` to ``fc3``, and ``output``."""
    return nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(),
            fc1=nn.Linear(channels * side * side, 64),
            relu1=nn.ReLU(),
            fc2=nn.Linear(64, 64),
            relu2=nn.ReLU(),
            fc3=nn.Linear(64, 64),
            relu3=nn.ReLU(),
            output=nn.Linear(64, classes),
        )
    )


def conv(channels: int, side: int, classes: int) -> nn.Module:
    """Makes three convolutions of 16 channels with ReLU, ``conv1`` to ``conv3``, their mean, and ``output``.

    Weights are born as He et al. (2015) say, for with the usual ones so small a network hardly begins to learn.
    """
    model = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 16, 3, 1, 1),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(16, 16, 3, 1, 1),
            relu2=nn.ReLU(),
            conv3=nn.Conv2d(16, 16, 3, 1, 1),
            relu3=nn.ReLU(),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            output=nn.Linear(16, classes),
        )
    )
    for layer in model:
        if isinstance(layer, nn.Conv2d) and layer.bias is not None:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return model


def resnet(channels: int, side: int, classes: int) -> nn.Module:
    """Makes a residual network of 8, 8, 16 and 16 channels: ``conv``, ``bn``, ``block1`` to ``block4``, ``output``."""
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(channels, 8, 3, 1, 1, bias=False),
            bn=nn.BatchNorm2d(8),
            relu=nn.ReLU(),
            block1=Block(8, 8),
            block2=Block(8, 8),
            block3=Block(8, 16, 2),
            block4=Block(16, 16),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            output=nn.Linear(16, classes),
        )
    )


#: Networks by name: from channels, side and classes.
SMALL: dict[str, Callable[[int, int, int], nn.Module]] = {"mlp": mlp, "conv": conv, "resnet": resnet}


def small_network(name: str, channels: int, side: int, classes: int, seed: int) -> nn.Module:
    """Returns a new network with random weights.

    Args:
        name: One of `SMALL`.
        channels: Of its images ``(n, channels, side, side)``.
        side: Height and width in pixels.
        classes: Number of outputs.
        seed: Of the weights.
    """
    return born(lambda: SMALL[name](channels, side, classes), seed)


def remove_layer(model: nn.Module, name: str, example: Tensor) -> None:
    """Puts the identity in the place of a layer.

    Args:
        model: The network, which is changed.
        name: Of the layer, as in ``model.named_modules()``.
        example: A batch of inputs, which shows the shapes.

    Raises:
        InvalidArgumentError: There is no such layer, it is not used, or its output has another shape than its input.
    """
    layers = dict(model.named_modules())
    if name not in layers or not name:
        raise InvalidArgumentError(f"remove: expected a layer of the network, got {name!r}; it has {list(layers)[1:]}.")
    shapes: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    handle = layers[name].register_forward_hook(
        lambda module, inputs, output: shapes.append((tuple(inputs[0].shape), tuple(output.shape)))
    )
    try:
        with undisturbed(model), torch.no_grad():
            model(example)
    finally:
        handle.remove()
    if not shapes or shapes[0][0] != shapes[0][1]:
        what = f"{shapes[0][0]} becomes {shapes[0][1]}" if shapes else "it is not used"
        raise InvalidArgumentError(
            f"remove: expected a layer whose output has the shape of its input, got {name!r}: {what}."
        )
    parent, _, last = name.rpartition(".")
    setattr(layers[parent] if parent else model, last, nn.Identity())


def hold_channels(model: nn.Module, name: str, channels: Sequence[int], means: Tensor) -> None:
    """Puts some channels of a layer to their means for good, in training, too: their ablation.

    Args:
        model: The network, which is changed.
        name: Of the layer; its output has the channels in the second dimension.
        channels: Which ones.
        means: Of all channels of the layer, ``(channels, …)`` with the places of its map.
    """
    chosen = torch.tensor(list(channels), dtype=torch.int64)
    parent, _, last = name.rpartition(".")
    home = model.get_submodule(parent)
    setattr(home, last, nn.Sequential(OrderedDict(layer=home.get_submodule(last), held=Held(chosen, means[chosen]))))
