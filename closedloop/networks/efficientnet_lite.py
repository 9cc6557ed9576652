"""EfficientNet-Lite 0 to 2 (Tan & Le 2019, ICML; the "Lite" variants of Google, 2020) in torch alone.

Modules, their names and the order in which random weights are drawn are those of timm's ``tf_efficientnet_lite…``, so
that layers are named as there and a seed gives the same untrained network. Importing timm, and torchvision beneath it,
takes longer than all else that the default subject needs.
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional

#: Depth and width of each size, relative to size 0; Lite 0, 1 and 2.
SCALES = {0: (1.0, 1.0), 1: (1.1, 1.0), 2: (1.2, 1.1)}
#: Stages of size 0: blocks, kernel, stride of the first block, expansion, channels (Tan & Le 2019, table 1).
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class SamePadded(nn.Conv2d):
    """A convolution whose padding depends on the image, as TensorFlow's "SAME"; an odd pixel comes last."""

    def forward(self, x: Tensor) -> Tensor:
        """Turns maps ``(n, c, h, w)`` into maps of ``ceil(h / stride)`` rows and ``ceil(w / stride)`` columns."""
        rows, columns = (
            max((math.ceil(length / stride) - 1) * stride + kernel - length, 0)
            for length, stride, kernel in zip(x.shape[2:], self.stride, self.kernel_size, strict=True)
        )
        around = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
        return functional.conv2d(
            functional.pad(x, around), self.weight, self.bias, self.stride, 0, self.dilation, self.groups
        )


class NormAct(nn.BatchNorm2d):
    """A batch norm, and a ReLU6 after it where the block has one there."""

    def __init__(self, channels: int, active: bool = True) -> None:
        super().__init__(channels, eps=1e-3)
        self.drop: nn.Identity = nn.Identity()
        self.act: nn.Module = nn.ReLU6(inplace=True) if active else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Turns maps ``(n, c, h, w)`` into maps of the same shape."""
        activated: Tensor = self.act(self.drop(super().forward(x)))
        return activated


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Makes a convolution without bias that keeps the size of the map, or divides it by its stride."""
    if stride > 1:
        return SamePadded(inputs, outputs, kernel, stride, groups=groups, bias=False)
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)


class DepthwiseSeparable(nn.Module):
    """The block without expansion: a filter for each channel, then a mixture of channels."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv_dw: nn.Conv2d = convolution(inputs, inputs, kernel, stride, groups=inputs)
        self.bn1: NormAct = NormAct(inputs)
        self.aa: nn.Identity = nn.Identity()
        self.se: nn.Identity = nn.Identity()
        self.conv_pw: nn.Conv2d = convolution(inputs, outputs, 1)
        self.bn2: NormAct = NormAct(outputs, active=False)
        self.drop_path: nn.Identity = nn.Identity()
        self.skips: bool = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Turns maps ``(n, inputs, h, w)`` into maps ``(n, outputs, h', w')``."""
        y = self.se(self.aa(self.bn1(self.conv_dw(x))))
        y = self.bn2(self.conv_pw(y))
        mapped: Tensor = self.drop_path(y) + x if self.skips else y
        return mapped


class InvertedResidual(nn.Module):
    """The block of MobileNetV2 (Sandler et al. 2018): more channels, a filter for each, fewer channels without ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.conv_pw: nn.Conv2d = convolution(inputs, inner, 1)
        self.bn1: NormAct = NormAct(inner)
        self.conv_dw: nn.Conv2d = convolution(inner, inner, kernel, stride, groups=inner)
        self.bn2: NormAct = NormAct(inner)
        self.aa: nn.Identity = nn.Identity()
        self.se: nn.Identity = nn.Identity()
        self.conv_pwl: nn.Conv2d = convolution(inner, outputs, 1)
        self.bn3: NormAct = NormAct(outputs, active=False)
        self.drop_path: nn.Identity = nn.Identity()
        self.skips: bool = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Turns maps ``(n, inputs, h, w)`` into maps ``(n, outputs, h', w')``."""
        y = self.bn1(self.conv_pw(x))
        y = self.se(self.aa(self.bn2(self.conv_dw(y))))
        y = self.bn3(self.conv_pwl(y))
        mapped: Tensor = self.drop_path(y) + x if self.skips else y
        return mapped


class GlobalPool(nn.Module):
    """The mean of each channel over the map."""

    def __init__(self) -> None:
        super().__init__()
        self.pool: nn.AdaptiveAvgPool2d = nn.AdaptiveAvgPool2d(1)
        self.flatten: nn.Flatten = nn.Flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        """Averages maps ``(n, c, h, w)`` to ``(n, c)``."""
        means: Tensor = self.flatten(self.pool(x))
        return means


class EfficientNetLite(nn.Module):
    """Normalized images ``(n, 3, h, w)`` -> logits ``(n, 1000)``; its random weights come from torch's generator.

    Args:
        size: 0, 1 or 2.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        depth, width = SCALES[size]
        self.conv_stem: nn.Conv2d = convolution(3, 32, 3, 2)
        self.bn1: NormAct = NormAct(32)
        self.blocks, channels = _stages(depth, width)
        self.conv_head: nn.Conv2d = convolution(channels, 1280, 1)
        self.bn2: NormAct = NormAct(1280)
        self.global_pool: GlobalPool = GlobalPool()
        self.classifier: nn.Linear = nn.Linear(1280, 1000)
        for module in self.modules():
            _draw(module)

    def forward(self, x: Tensor) -> Tensor:
        """Turns normalized images ``(n, 3, h, w)`` into logits ``(n, 1000)``."""
        maps = self.blocks(self.bn1(self.conv_stem(x)))
        logits: Tensor = self.classifier(self.global_pool(self.bn2(self.conv_head(maps))))
        return logits


def _stages(depth: float, width: float) -> tuple[nn.Sequential, int]:
    """Builds all blocks, stage by stage; returns the last one's channels, too; its ends are not made deeper."""
    stages, inputs = nn.Sequential(), 32
    for _ in range(2):
        nn.Conv2d(8, 8, 1)  # timm tries a squeeze-and-excitation at this point; what it draws comes before the blocks
    for number, (blocks, kernel, stride, expansion, channels) in enumerate(STAGES):
        count = blocks if number in (0, len(STAGES) - 1) else math.ceil(blocks * depth)
        outputs, stage = _rounded(channels * width), nn.Sequential()
        for i in range(count):
            step = stride if i == 0 else 1
            if expansion == 1:
                stage.append(DepthwiseSeparable(inputs, outputs, kernel, step))
            else:
                stage.append(InvertedResidual(inputs, outputs, kernel, step, expansion))
            inputs = outputs
        stages.append(stage)
    return stages, inputs


def _rounded(channels: float) -> int:
    """Returns the nearest multiple of 8, at least 90 % of what is wanted."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


def _draw(module: nn.Module) -> None:
    """Draws the weights of a layer: N(0, 2 / fan-out) in a convolution, uniform in the classifier."""
    if isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, 0, math.sqrt(2 / fan_out))
    elif isinstance(module, nn.Linear):
        reach = 1 / math.sqrt(len(module.weight))
        nn.init.uniform_(module.weight, -reach, reach)
        nn.init.zeros_(module.bias)
