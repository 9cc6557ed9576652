"""The four networks of Lan, Liu, Zhou & Yosinski (2019), by what is known of their layers and their parameters.

Weights are drawn as by He et al. (2015), from a normal distribution, with biases of 0. Where batch norm stands in the
all-convolutional network is not said; here it follows each convolution but those of stride 2 and the last, which gives
the number of parameters.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn

from closedloop.networks.modules import born


def fully_connected() -> nn.Module:
    """Makes 784-100-50-10 with ReLU, for MNIST: 84,060 parameters."""
    return nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(),
            fc1=nn.Linear(784, 100),
            relu1=nn.ReLU(),
            fc2=nn.Linear(100, 50),
            relu2=nn.ReLU(),
            fc3=nn.Linear(50, 10),
        )
    )


def lenet() -> nn.Module:
    """Makes two convolutions of 5 x 5 with pooling, and two layers with dropout, for MNIST: 808,970 parameters."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 20, 5, padding=2),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(20, 40, 5, padding=2),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            drop1=nn.Dropout(0.25),
            flatten=nn.Flatten(),
            fc1=nn.Linear(1960, 400),
            relu3=nn.ReLU(),
            drop2=nn.Dropout(0.5),
            fc2=nn.Linear(400, 10),
        )
    )


def all_convolutional() -> nn.Module:
    """Makes the network of Springenberg et al. 2015 with batch norm and dropout, for CIFAR-10: 1,371,658 parameters."""
    # Channels, kernel, stride of each convolution, and whether batch norm follows.
    plan = [
        *((96, 3, 1, True), (96, 3, 1, True), (96, 3, 2, False)),
        *((192, 3, 1, True), (192, 3, 1, True), (192, 3, 2, False)),
        *((192, 3, 1, True), (192, 1, 1, True)),
    ]
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    inputs = 3
    for i, (width, kernel, stride, normed) in enumerate(plan, 1):
        layers[f"conv{i}"] = nn.Conv2d(inputs, width, kernel, stride, kernel // 2)
        if normed:
            layers[f"bn{i}"] = nn.BatchNorm2d(width)
        layers[f"relu{i}"] = nn.ReLU()
        if stride == 2:
            layers[f"drop{i}"] = nn.Dropout(0.5)
        inputs = width
    layers |= {"conv9": nn.Conv2d(inputs, 10, 1), "pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    return nn.Sequential(layers)


class _Residual(nn.Module):
    """Two convolutions of 3 x 3 with biases and batch norm; a convolution of 1 x 1 beside where shapes differ."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        stride = 1 if inputs == width else 2
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 3, stride, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1), nn.BatchNorm2d(width)
        self.shortcut = nn.Identity() if inputs == width else nn.Conv2d(inputs, width, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Returns ``(n, width, h / stride, w / stride)``."""
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        out: Tensor = torch.relu(y + self.shortcut(x))
        return out


def resnet20() -> nn.Module:
    """Makes the network of He et al. 2016 with 20 layers, for CIFAR-10: 273,066 parameters."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv=nn.Conv2d(3, 16, 3, 1, 1), bn=nn.BatchNorm2d(16), relu=nn.ReLU()
    )
    inputs = 16
    for stage, width in enumerate((16, 32, 64), 1):
        for i in range(1, 4):
            layers[f"block{stage}{i}"] = _Residual(inputs, width)
            inputs = width
    layers |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "fc": nn.Linear(64, 10)}
    return nn.Sequential(layers)


#: The networks by name.
PUBLISHED: dict[str, Callable[[], nn.Module]] = {
    "mnist-fc": fully_connected,
    "mnist-lenet": lenet,
    "cifar-allcnn": all_convolutional,
    "cifar-resnet20": resnet20,
}


def published_network(name: str, seed: int) -> nn.Module:
    """Returns a new network with random weights.

    Args:
        name: One of `PUBLISHED`.
        seed: Of the weights.
    """
    return born(lambda: _drawn(PUBLISHED[name]()), seed)


def _drawn(model: nn.Module) -> nn.Module:
    """Draws the weights of all layers."""
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model
