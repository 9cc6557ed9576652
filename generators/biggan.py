"""BigGAN-deep (Brock, Donahue & Simonyan 2019) through the package pytorch-pretrained-biggan.

"Large Scale GAN Training for High Fidelity Natural Image Synthesis", ICLR 2019; used in closed loops since Wang & Ponce
2022 ("High-performance evolutionary algorithms for online neuron control", GECCO).
"""

from __future__ import annotations

import itertools
import json
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import truncnorm
from torch import Tensor, nn

from closedloop.checks import check_positive
from closedloop.errors import InvalidArgumentError, UnknownNameError, WeightsError, closest, reason, require
from closedloop.interfaces import Space
from closedloop.networks.imagenet import class_index, imagenet_classes
from closedloop.networks.modules import born
from closedloop.networks.weights import RANDOM, fill, read_weights
from closedloop.seeds import STREAM, check_seed, noted_stream, part_generator

from .decoding import DecodedGenerator, Decoder

Search = Literal["joint", "noise", "class"]


def _blocks(*channels: int) -> list[tuple[bool, int, int]]:
    """Returns the blocks of a network whose channels, in units of its width, go through these values."""
    pairs = itertools.pairwise(channels)
    return [block for a, b in pairs for block in ((False, a, a), (True, a, b))]


#: Coordinates of the noise, and as many of the class embedding.
NOISE = 128
#: Blocks of the network by height and width of its images: (upsampling, input and output channels in units of the
#: width). Between two blocks that double the size stands one that keeps it.
BLOCKS: dict[int, list[tuple[bool, int, int]]] = {
    128: _blocks(16, 16, 8, 4, 2, 1),
    256: _blocks(16, 16, 8, 8, 4, 2, 1),
    512: _blocks(16, 16, 8, 8, 4, 2, 1, 1),
}


@final
class BigGAN(DecodedGenerator):
    """Images of BigGAN-deep trained on ImageNet. Differentiable.

    The network takes noise ``(n, 128)`` and a class embedding ``(n, 128)``. A code of zeros stands for noise of zeros
    and for the class `label`, or for an embedding of zeros; each coordinate is a step of `noise_scale` or `class_scale`
    from there, so that the prior is N(0, 1) on all.

    Args:
        size: "deep-128", "deep-256" or "deep-512".
        weights: None for the package's own download (kept in its cache); a local folder that holds ``config.json`` and
            ``pytorch_model.bin`` (or ``biggan-deep-256-config.json`` and ``biggan-deep-256-pytorch_model.bin``); or
            "random" for an untrained network.
        search: What the code is: "joint" for noise then class embedding ``(n, 256)``, "noise" or "class" ``(n, 128)``.
        label: An ImageNet class, by name ("goldfish") or index (1), around which classes are searched; needed for
            "noise", whose class it is.
        truncation: Above 0, to 1. The network's activation statistics are those of noise truncated so.
        noise_scale: Standard deviation of the noise; None for `truncation`.
        class_scale: Standard deviation of the class embedding; None for that of the 1,000 classes' own embeddings.
        resolution: Height and width of the images in pixels; None for what the network makes. Others are resized.
        engine: "auto", "eager", "compile" or "onnx"; see `closedloop.networks.engines`.
        device: Where to run.
        seed: Draws the fixed noise of ``search="class"`` (truncated at two standard deviations), and random weights.
        stream: How the noise is drawn: 1 as in older recordings, see `closedloop.seeds.STREAM`.
        channels: Width of an untrained network, in tests; 128 is the published one.

    Raises:
        MissingExtraError: pytorch-pretrained-biggan is not installed.
        UnknownNameError: No such size or class.
        WeightsError: The weights are missing, cannot be read, or do not fit. Never silently random.
    """

    def __init__(
        self,
        size: str = "deep-256",
        weights: str | Path | None = None,
        *,
        search: Search = "joint",
        label: str | int | None = None,
        truncation: float = 0.7,
        noise_scale: float | None = None,
        class_scale: float | None = None,
        resolution: int | None = None,
        engine: str = "auto",
        device: str | None = None,
        seed: int = 0,
        channels: int = 128,
        stream: int = STREAM,
    ) -> None:
        pixels, index = _check_choices(size, search, label, truncation)
        if channels != 128 and weights != RANDOM:
            raise InvalidArgumentError(f"channels: expected 128, or less for untrained weights, got {channels!r}.")
        self.name: str = f"biggan:{size}" if weights != RANDOM else f"biggan:{size}-random"
        network = _random(pixels, channels, check_seed(seed)) if weights == RANDOM else _trained(size, weights)
        embeddings = network.embeddings.weight.detach()  # (128, classes)
        self.label: str | None = None if index is None else imagenet_classes()[index]
        scales = {
            "noise_scale": check_positive("noise_scale", truncation if noise_scale is None else noise_scale),
            "class_scale": check_positive(
                "class_scale", float(embeddings.std()) if class_scale is None else class_scale
            ),
        }
        # Input = center + steps · code, noise first and class embedding second.
        center = embeddings.new_zeros(2 * NOISE)
        if index is not None:
            center[NOISE:] = embeddings[:, index]
        if search == "class":
            center[:NOISE] = torch.from_numpy(_fixed_noise(seed, scales["noise_scale"], stream))
        steps = torch.tensor([scales["noise_scale"]] * NOISE + [scales["class_scale"]] * NOISE)
        self.space: Space = Space(2 * NOISE if search == "joint" else NOISE)
        self._decoder = Decoder(
            _Searched(network.generator, center, steps, search, truncation),
            self.space,
            output_range=(-1.0, 1.0),
            resolution=resolution,
            engine=engine,
            device=device,
        )
        self.resolution: int = self._decoder.resolution
        self._recipe = {
            "name": f"biggan:{size}",
            "weights": weights if weights is None or weights == RANDOM else str(Path(weights).resolve()),
            "search": search,
            "label": index,
            "truncation": truncation,
            **scales,
            "resolution": self.resolution,
            "device": None,
            "seed": seed,
            "channels": channels,
            **noted_stream(stream),
        }

    @property
    def recipe(self) -> Mapping[str, Any]:
        """How `load_generator` makes it again, with the engine that was chosen."""
        return {**self._recipe, "engine": self.engine}


class _Searched(nn.Module):
    """The network behind what is searched: codes ``(n, 128)`` or ``(n, 256)`` -> images in [-1, 1]."""

    center: Tensor
    steps: Tensor

    def __init__(self, generator: nn.Module, center: Tensor, steps: Tensor, search: Search, truncation: float) -> None:
        super().__init__()
        self.generator, self.truncation = generator, float(truncation)
        self.missing = {"joint": (0, 0), "noise": (0, NOISE), "class": (NOISE, 0)}[search]
        self.register_buffer("center", center)
        self.register_buffer("steps", steps)

    def forward(self, codes: Tensor) -> Tensor:
        """Turns codes ``(n, 128)`` or ``(n, 256)`` into images in [-1, 1]."""
        whole = nn.functional.pad(codes, self.missing)
        images: Tensor = self.generator(self.center + self.steps * whole, self.truncation)
        return images


def _check_choices(size: str, search: str, label: str | int | None, truncation: float) -> tuple[int, int | None]:
    """Checks the choices, and returns height and width of the images, and the index of the class."""
    sizes = {f"deep-{pixels}": pixels for pixels in BLOCKS}
    if size not in sizes:
        raise UnknownNameError(f"biggan: no size {size!r}.{closest(str(size), sizes)}")
    if search not in ("joint", "noise", "class"):
        raise InvalidArgumentError(f"search: expected 'joint', 'noise' or 'class', got {search!r}.")
    if search == "noise" and label is None:
        raise InvalidArgumentError("label: expected an ImageNet class whose noise is searched, got none.")
    if not 0 < truncation <= 1:
        raise InvalidArgumentError(f"truncation: expected a number above 0, to 1, got {truncation!r}.")
    return sizes[size], None if label is None else class_index(label)


def _fixed_noise(seed: int, scale: float, stream: int) -> NDArray[np.float32]:
    """Draws noise ``(128,)`` truncated at two standard deviations, as the network was meant to be sampled."""
    drawn: NDArray[np.float64] = truncnorm.rvs(-2, 2, size=NOISE, random_state=part_generator(seed, "biggan", stream))
    return (scale * drawn).astype(np.float32)


def _package() -> Any:
    """Imports the package of the network.

    Raises:
        MissingExtraError: It is not installed.
    """
    return require("pytorch_pretrained_biggan", "biggan", "generator 'biggan'")


def _random(pixels: int, channels: int, seed: int) -> Any:
    """Builds an untrained network of the published layout."""
    package = _package()
    config = package.BigGANConfig(output_dim=pixels, channel_width=channels, layers=BLOCKS[pixels])
    network: Any = born(lambda: package.BigGAN(config), seed)
    nn.init.ones_(network.generator.bn.weight)  # left to chance by the package
    nn.init.zeros_(network.generator.bn.bias)
    for module in network.modules():
        # Ten power iterations estimate the spectral norm of untrained weights; trained ones bring their estimate along.
        for normalize in [*module._forward_pre_hooks.values()] * 10:
            normalize(module, ())
    return _baked(network)


def _trained(size: str, weights: str | Path | None) -> Any:
    """Loads the published network, from the package's download or a local folder."""
    package = _package()
    config, state = _downloaded(package, size) if weights is None else _local(size, Path(weights))
    try:
        settings = json.loads(config.read_text(encoding="utf-8"))
        network: Any = born(lambda: package.BigGAN(package.BigGANConfig.from_dict(settings)), 0)
    except Exception as error:
        raise WeightsError(f"biggan:{size}: cannot read {config} as its configuration ({reason(error)}).") from error
    if settings.get("output_dim") != int(size.removeprefix("deep-")):
        raise WeightsError(f"biggan:{size}: {config} is that of another size, {settings.get('output_dim')} pixels.")
    fill(network, _current(read_weights(state), network.state_dict().keys()), state, spare=lambda key: False)
    return _baked(network)


def _current(state: Mapping[str, Tensor], own: Iterable[str]) -> dict[str, Tensor]:
    """Returns a state as today's torch names it.

    A file of an old torch holds the normalized weight beside the original one, and of the two vectors that estimate its
    spectral norm only u; then v is the normalized product of the weight's transpose with u, as in the power method.
    """
    own = set(own)
    found = {key: value for key, value in state.items() if key in own or f"{key}_orig" not in own}
    for key in own - found.keys():
        base = key.removesuffix("_v")
        if base != key and {f"{base}_orig", f"{base}_u"} <= found.keys():
            found[key] = nn.functional.normalize(found[f"{base}_orig"].flatten(1).T @ found[f"{base}_u"], dim=0)
    return found


def _local(size: str, folder: Path) -> tuple[Path, Path]:
    """Returns the files of configuration and weights in a folder.

    Raises:
        WeightsError: They are not there.
    """
    for prefix in ("", f"biggan-{size}-"):
        config, state = folder / f"{prefix}config.json", folder / f"{prefix}pytorch_model.bin"
        if config.is_file() and state.is_file():
            return config, state
    raise WeightsError(
        f"biggan:{size}: expected a folder with config.json and pytorch_model.bin, got {folder}, which "
        f"{'lacks them' if folder.is_dir() else 'is not a folder'}; an untrained network is asked for by "
        f'"{RANDOM}".'
    )


def _downloaded(package: Any, size: str) -> tuple[Path, Path]:
    """Returns the package's own files, fetched into its cache at the first call."""
    model = require("pytorch_pretrained_biggan.model", "biggan", "generator 'biggan'")
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(10.0)  # seconds for which the server of the weights may stay silent
    try:
        addresses = (model.PRETRAINED_CONFIG_ARCHIVE_MAP, model.PRETRAINED_MODEL_ARCHIVE_MAP)
        config, state = (Path(package.cached_path(known[f"biggan-{size}"])) for known in addresses)
    except Exception as error:
        raise WeightsError(
            f"biggan:{size}: its weights could not be downloaded ({reason(error)}). Fetch config.json and "
            f"pytorch_model.bin elsewhere and pass their folder: weights=FOLDER."
        ) from error
    finally:
        socket.setdefaulttimeout(before)
    return config, state


def _baked(network: Any) -> Any:
    """Works the network's spectral normalization into the weights, as it is in evaluation mode."""
    for module in network.modules():
        if "weight_orig" in module._parameters:
            nn.utils.remove_spectral_norm(module)
    return network.eval()
