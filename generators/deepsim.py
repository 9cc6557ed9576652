"""The generators of Dosovitskiy & Brox (2016), from the features of a CaffeNet back to images (DeePSiM).

Those of XDream and of most closed-loop experiments: "Generating Images with Perceptual Similarity Metrics based on Deep
Networks", NeurIPS 2016. The weights are files of their own that a user brings.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np
import torch
from torch import Tensor, nn

from closedloop.errors import InvalidArgumentError, UnknownNameError, WeightsError, closest
from closedloop.interfaces import Space
from closedloop.networks.modules import born
from closedloop.networks.weights import RANDOM, fill, read_weights
from closedloop.seeds import check_seed

from .decoding import DecodedGenerator, Decoder

#: Slope of the networks' leaky ReLU below zero.
SLOPE = 0.3


class Stage(NamedTuple):
    """One layer: its name in XDream's files, kind ("fc", "conv" or "tconv"), channels and geometry.

    The activation is a leaky ReLU ("lrelu"), a tanh scaled to 255 ("tanh"), or none ("").
    """

    name: str
    kind: str
    channels: int
    kernel: int = 3
    stride: int = 1
    padding: int = 1
    activation: str = "lrelu"


def _up(name: str, channels: int, activation: str = "lrelu") -> Stage:
    """Describes a transposed convolution that doubles height and width."""
    return Stage(name, "tconv", channels, 4, 2, 1, activation)


#: Stages from 4 × 4 to 256 × 256; the same for the fully connected layers and pool5.
_TAIL = (
    _up("tconv5_0", 256),
    Stage("tconv5_1", "tconv", 512),
    _up("tconv4_0", 256),
    Stage("tconv4_1", "tconv", 256),
    _up("tconv3_0", 128),
    Stage("tconv3_1", "tconv", 128),
    _up("tconv2", 64),
    _up("tconv1", 32),
    _up("tconv0", 3, ""),
)
#: Stages of fc6, fc7 and fc8 before them, to 4096 numbers that are an image of 4 × 4,
_FC = tuple(Stage(name, "fc", 4096) for name in ("fc7", "fc6", "fc5"))
#: and those of pool5, from 6 × 6 to 4 × 4.
_POOL = (Stage("conv6", "conv", 512), Stage("conv7", "conv", 512), Stage("conv8", "conv", 512, padding=0))
#: Stages of conv3 and conv4, from 8 × 8 to 256 × 256.
_CONV = (
    Stage("conv6", "conv", 384, padding=0),
    Stage("conv7", "conv", 512, padding=0),
    Stage("conv8", "conv", 512, kernel=2, padding=0),
    _up("tconv5_0", 256),
    Stage("tconv5_1", "tconv", 256),
    _up("tconv4_0", 128),
    Stage("tconv4_1", "tconv", 128),
    _up("tconv3_0", 128),
    Stage("tconv3_1", "tconv", 128),
    _up("tconv2_0", 64),
    Stage("conv2_1", "conv", 32),
    _up("tconv1_0", 16),
    Stage("conv1_1", "conv", 3, activation="tanh"),
)
#: Stages of norm1 and norm2, from 15 × 15 to 240 × 240.
_NORM = (
    Stage("conv7", "conv", 128),
    Stage("conv8", "conv", 128),
    _up("tconv4_0", 128),
    Stage("conv4_1", "conv", 128),
    _up("tconv3_0", 64),
    Stage("conv3_1", "conv", 64),
    _up("tconv2_0", 32),
    Stage("conv2_1", "conv", 32),
    _up("tconv1_0", 16, ""),
    Stage("conv1_1", "conv", 3, activation="tanh"),
)


class Layout(NamedTuple):
    """What a layer's code looks like, its prior's standard deviation, and the stages back to an image."""

    code: tuple[int, ...]
    scale: float
    stages: tuple[Stage, ...]


#: Layouts by the CaffeNet layer whose features are the code. The scale of fc6 and fc7 is the first step of the field's
#: CMA-ES on them (3.0); that of the others is XDream's N(0, 1).
LAYOUTS = {
    "fc6": Layout((4096,), 3.0, _FC + _TAIL),
    "fc7": Layout((4096,), 3.0, _FC + _TAIL),
    "fc8": Layout((1000,), 1.0, _FC + _TAIL),
    "pool5": Layout((256, 6, 6), 1.0, _POOL + _TAIL),
    "conv3": Layout((384, 13, 13), 1.0, _CONV),
    "conv4": Layout((384, 13, 13), 1.0, _CONV),
    "norm1": Layout((96, 27, 27), 1.0, (Stage("conv6", "conv", 128, 3, 2, 2), *_NORM)),
    "norm2": Layout((256, 13, 13), 1.0, (Stage("conv6", "conv", 256, 3, 1, 2), *_NORM)),
}


class DeePSiMNetwork(nn.Module):
    """Codes ``(n, *code)`` -> images ``(n, 3, s, s)``, RGB in [0, 1]. Submodules carry the names of XDream's files."""

    mean: Tensor

    def __init__(self, layout: Layout, width: float) -> None:
        super().__init__()
        self.stages: tuple[Stage, ...] = layout.stages
        self.code: tuple[int, *tuple[int, ...]] = (_narrow(layout.code[0], width), *layout.code[1:])
        channels, kind = self.code[0], ""
        for stage in layout.stages:
            if stage.kind == "tconv" and kind == "fc":
                channels //= 16  # the last fully connected layer is an image of 4 x 4
            outputs = _outputs(stage, width)
            self.add_module(stage.name, _module(stage, channels, outputs))
            channels, kind = outputs, stage.kind
        # Subtracted from the training images, of 255, in the order of the networks' own channels: blue, green, red.
        mean = torch.tensor((104.0, 117.0, 123.0)).view(1, 3, 1, 1)
        self.register_buffer("mean", mean, persistent=False)

    def draw(self, scale: float) -> DeePSiMNetwork:
        """Draws untrained weights that keep the variance (He et al. 2015), so that a prior draw has contrast."""
        for stage in self.stages:
            weight, bias = self.get_submodule(stage.name).parameters()
            # A stride spreads the taps of a transposed convolution: a pixel sees that many of them fewer.
            inputs = weight.shape[0] if stage.kind == "tconv" else weight.shape[1]
            taps = weight[0, 0].numel() / (stage.stride**2 if stage.kind == "tconv" else 1)
            # He et al. 2015, eq. 15: Var(w) = 2 / ((1 + slope²) · inputs · taps); the last layer gives some 50 of 255.
            gain = {"lrelu": (2 / (1 + SLOPE**2)) ** 0.5, "tanh": 0.2 / scale, "": 50 / scale}[stage.activation]
            nn.init.normal_(weight, std=gain / (inputs * taps) ** 0.5)
            nn.init.zeros_(bias)
        return self

    def forward(self, codes: Tensor) -> Tensor:
        """Turns codes ``(n, *code)`` into images ``(n, 3, s, s)``, RGB in [0, 1]."""
        x = codes
        for stage in self.stages:
            module = self.get_submodule(stage.name)
            if isinstance(module, nn.ConvTranspose2d) and x.ndim == 2:
                x = x.reshape(-1, module.in_channels, 4, 4)
            x = module(x)
            if stage.activation == "lrelu":
                x = nn.functional.leaky_relu(x, SLOPE)
            elif stage.activation == "tanh":
                x = 255 * torch.tanh(x)
        return ((x + self.mean) / 255).clamp(0, 1).flip(1)  # blue, green, red -> RGB


def _narrow(channels: int, width: float) -> int:
    """Returns the channels of a layer whose width is a share of the published one, at least one."""
    return max(1, round(channels * width))


def _outputs(stage: Stage, width: float) -> int:
    """Returns a narrowed layer's channels; colours stay, and a fully connected layer stays an image of 4 x 4."""
    if stage.channels == 3:
        return 3
    return 16 * _narrow(stage.channels // 16, width) if stage.kind == "fc" else _narrow(stage.channels, width)


def _module(stage: Stage, inputs: int, outputs: int) -> nn.Module:
    """Builds the module of a stage, with torch's own random weights."""
    if stage.kind == "fc":
        return nn.Linear(inputs, outputs)
    kind = nn.Conv2d if stage.kind == "conv" else nn.ConvTranspose2d
    module = kind(inputs, outputs, stage.kernel, stage.stride, stage.padding)
    if _is_free_of_bias(stage.name):
        nn.init.zeros_(module.bias)  # type: ignore[arg-type]
    return module


def _is_free_of_bias(name: str) -> bool:
    """Tells whether XDream's files leave out the layer's bias: all but the first three, where it is zero."""
    return not name.startswith("fc") and name not in ("conv6", "conv7", "conv8")


def other_names(name: str) -> list[str]:
    """Returns the names that a layer has in other files: of the caffemodel, the Ponce lab, and XDream of 2019."""
    kind, _, number = name.partition("tconv")
    if kind == "" and number:
        level, _, step = number.partition("_")
        same = {"": [f"deconv{level}"], "0": [f"deconv{level}", f"deconv{number}"], "1": [f"conv{number}"]}
        return [*same[step], f"deconv{number}"]
    return [f"de{name}"] if name.startswith("fc") else [f"R{name}"]


def rename(key: str, names: Mapping[str, str]) -> str:
    """Spells a file's key as this network does: outer names (``G.``, ``module.``) and a nested ``.1.`` fall away."""
    parts = key.split(".")
    layer = parts[-3] if len(parts) > 2 and parts[-2].isdigit() else ".".join(parts[-2:-1])
    return f"{names.get(layer, layer)}.{parts[-1]}"


@final
class DeePSiM(DecodedGenerator):
    """Images from the features of a CaffeNet layer (Dosovitskiy & Brox 2016). Differentiable.

    The code is the layer's features, ``(n, dim)``: 4096 for "fc6" and "fc7", 1000 for "fc8", 9216 for "pool5", 64896
    for "conv3" and "conv4", 69984 for "norm1", 43264 for "norm2". Images are 256 x 256 ("norm1" and "norm2": 240 x
    240). The features that the networks were trained on are those after a ReLU, for all layers but fc8: at least 0.
    The field's searches start from the prior and do not hold to that; `rectify` does.

    Args:
        layer: "fc6", "fc7", "fc8", "pool5", "conv3", "conv4", "norm1" or "norm2".
        weights: A state dictionary, ``.pt`` or ``.safetensors``, of the Ponce lab (``upconvGAN_fc6.pt``) or of XDream;
            or "random" for an untrained network.
        scale: Standard deviation of the prior N(0, scale²); None for 3 (fc6, fc7) or 1 (others).
        rectify: Set what is below 0 in a code to 0 before it is decoded.
        resolution: Height and width of the images in pixels; None for what the network makes. Others are resized.
        engine: "auto", "eager", "compile" or "onnx"; see `closedloop.networks.engines`.
        device: Where to run.
        width: Number of channels as a share of the published one; below 1 for small networks of the same layout.
        seed: Of the random weights.

    Raises:
        UnknownNameError: No such layer.
        WeightsError: The weights are missing, cannot be read, or do not fit. Never silently random.
    """

    def __init__(
        self,
        layer: str = "fc6",
        weights: str | Path | None = None,
        *,
        scale: float | None = None,
        rectify: bool = False,
        resolution: int | None = None,
        engine: str = "auto",
        device: str | None = None,
        width: float = 1.0,
        seed: int = 0,
    ) -> None:
        if layer not in LAYOUTS:
            raise UnknownNameError(f"deepsim: no generator of layer {layer!r}.{closest(str(layer), LAYOUTS)}")
        if not 0 < width <= 1:
            raise InvalidArgumentError(f"width: expected a number above 0, to 1, got {width!r}.")
        layout = LAYOUTS[layer]
        self.name: str = f"deepsim:{layer}" if weights != RANDOM else f"deepsim:{layer}-random"
        self.network: DeePSiMNetwork = born(lambda: DeePSiMNetwork(layout, width), check_seed(seed)).eval()
        self.space: Space = Space(
            int(np.prod(self.network.code)), scale=layout.scale if scale is None else scale, published=1.0
        )
        if weights is None:
            raise WeightsError(
                f"deepsim:{layer}: expected weights=FILE, its trained weights, got none. "
                f"The field publishes it as upconvGAN_{layer}.pt in the Hugging Face repository "
                "binxu/DeePSim_DosovitskiyBrox2016 (Ponce lab), and as the torch files of XDream. "
                f'weights="{RANDOM}" builds it untrained.'
            )
        if weights == RANDOM:
            born(lambda: self.network.draw(self.space.scale), seed)
        else:
            load_deepsim(self.network, weights)
        self._decoder = Decoder(
            _Rectified(self.network) if rectify else self.network,
            self.space,
            code_shape=self.network.code,
            resolution=resolution,
            engine=engine,
            device=device,
        )
        self.resolution: int = self._decoder.resolution
        self._recipe = {
            "name": f"deepsim:{layer}",
            "weights": RANDOM if weights == RANDOM else str(Path(weights).resolve()),
            "scale": self.space.scale,
            "rectify": rectify,
            "resolution": self.resolution,
            "device": None,
            "width": width,
            "seed": seed,
        }

    @property
    def recipe(self) -> Mapping[str, Any]:
        """How `load_generator` makes it again, with the engine that was chosen."""
        return {**self._recipe, "engine": self.engine}


class _Rectified(nn.Module):
    """A network behind a ReLU on its codes."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, codes: Tensor) -> Tensor:
        """Turns codes ``(n, *code)`` into images ``(n, 3, s, s)``."""
        images: Tensor = self.network(codes.relu())
        return images


def load_deepsim(network: DeePSiMNetwork, path: str | Path) -> None:
    """Fills a network from a state dictionary in any of the circulating namings.

    Raises:
        WeightsError: The file cannot be read, or keys or shapes do not fit; with those that are missing or surplus.
    """
    names = {other: stage.name for stage in network.stages for other in other_names(stage.name)}
    state: dict[str, Tensor] = {}
    for key, value in read_weights(path).items():
        name = rename(key, names)
        if name in state:
            raise WeightsError(f"weights: {path} names the layer {name!r} twice; the second time as {key!r}.")
        state[name] = value
    biases = {f"{stage.name}.bias" for stage in network.stages if _is_free_of_bias(stage.name)}
    fill(network, state, path, spare=lambda key: key in biases)
