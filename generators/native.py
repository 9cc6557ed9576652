"""The native generator: embedded, trained by `closedloop.generators.training`, small enough to draw on a CPU."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from closedloop.checks import check_images
from closedloop.errors import WeightsError
from closedloop.files import replace_file
from closedloop.images.resizing import resize_images
from closedloop.interfaces import FloatArray, Space
from closedloop.networks.modules import born
from closedloop.networks.weights import fill
from closedloop.readable import ReadableGenerator

from .decoding import Decoder
from .native_model import CHANNELS, STRIDE, Encoder, NativeNetwork, Prior, SpatialDecoder

#: The trained weights that come with the installation.
EMBEDDED = "native.safetensors"
#: Key of the training's facts in a file of weights.
FACTS = "closedloop.native"


@final
class Native(ReadableGenerator):
    """Images of a decoder that was trained to draw photographs; codes ``(n, 512)``, prior N(0, I). Differentiable.

    The decoder of a spatial autoencoder trained with pixel, feature and adversarial losses in the spirit of DeePSiM
    (Dosovitskiy & Brox 2016) and of projected GANs (Sauer et al. 2021). A code is whitened: its coordinates are the
    principal components of the spatial codes of photographs, in units of their standard deviations, largest first. By
    default every code is moved to the sphere of radius ``sqrt(dim)``, close to which draws from the prior lie: without
    it, an evolution leaves the images that the decoder has learnt to draw.

    The network that gave the feature losses is EfficientNet-Lite1, so that EfficientNet-Lite0 and other subjects stay
    black boxes.

    Args:
        weights: A file that ``closedloop train-generator`` wrote; None for the embedded one.
        shell: Move codes to the sphere; False leaves them as they are.
        resolution: Height and width of the images in pixels; None for what the network makes, 128. Others are resized.
        engine: "auto", "eager", "compile" or "onnx"; see `closedloop.networks.engines`.
        device: Where to run.

    Raises:
        WeightsError: The weights are missing, cannot be read, or do not fit.
    """

    name = "native"

    def __init__(
        self,
        weights: str | Path | None = None,
        *,
        shell: bool = True,
        resolution: int | None = None,
        engine: str = "auto",
        device: str | None = None,
    ) -> None:
        path = embedded() if weights is None else Path(weights)
        self._weights, self.shell = weights, bool(shell)
        self._encoder, prior, decoder, self.facts = read_native(path)
        self.space = Space(len(prior.mean))
        self._size = prior.side * STRIDE
        self._decoder = Decoder(
            NativeNetwork(prior, decoder, self.shell), self.space, resolution=resolution, engine=engine, device=device
        )
        self._prior = prior
        self._encoder.to(self._decoder.device)
        self.resolution = self._decoder.resolution
        self.fingerprint = _fingerprint(path, self.shell, self.resolution)

    @property
    def engine(self) -> str:
        """The engine in use: "eager", "compile" or "onnx"."""
        return self._decoder.engine

    @property
    def recipe(self) -> Mapping[str, Any]:
        """How `load_generator` makes it again on any machine, with the engine that was chosen."""
        return {
            "name": self.name,
            **({} if self._weights is None else {"weights": str(Path(self._weights).resolve())}),
            "shell": self.shell,
            "resolution": self.resolution,
            "engine": self.engine,
            "device": None,  # where it runs is not what it is
        }

    def __call__(self, codes: FloatArray) -> NDArray[np.float32]:
        """Codes ``(n, dim)`` -> images ``(n, 3, h, w)`` float32, RGB in [0, 1]."""
        return self._decoder(codes)

    def forward(self, codes: Tensor) -> Tensor:
        """The same in torch; keeps the graph and the precision of ``codes``."""
        return self._decoder.forward(codes)

    @torch.no_grad()
    def encode(self, images: NDArray[Any]) -> FloatArray:
        """Images ``(n, 3, h, w)`` in [0, 1], of any size -> codes ``(n, dim)`` of images like them.

        A first guess in one step; `closedloop.generators.invert` improves it and says how good it is.
        """
        small = resize_images(check_images(images), self._size)
        device = self._prior.mean.device
        chunks = [torch.from_numpy(small[i : i + 32]).to(device) for i in range(0, len(small), 32)]
        codes = [self._prior.invert(self._encoder(chunk * 2 - 1)).double().cpu().numpy() for chunk in chunks]
        return np.concatenate([np.empty((0, self.space.dim)), *codes])


def embedded() -> Path:
    """The file of the embedded weights."""
    return Path(str(resources.files("closedloop.generators"))) / EMBEDDED


def write_native(path: Path, encoder: Encoder, prior: Prior, decoder: SpatialDecoder, facts: Mapping[str, Any]) -> None:
    """Writes weights in half precision with the facts of their training; appears under its name only when complete."""
    tensors = {
        key: value.half().contiguous().cpu() for key, value in _parts(encoder, prior, decoder).state_dict().items()
    }
    replace_file(path, save(tensors, metadata={FACTS: json.dumps(dict(facts))}))


def read_native(path: Path) -> tuple[Encoder, Prior, SpatialDecoder, dict[str, Any]]:
    """Encoder, prior, decoder and the facts of their training.

    Raises:
        WeightsError: The file is missing, cannot be read, or holds something else.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})[FACTS])
            state = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118 - not a mapping
    except FileNotFoundError:
        raise WeightsError(f"native: expected a file of weights, got {path}, which does not exist.") from None
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise WeightsError(
            f"native: cannot read {path} as weights of the native generator ({type(error).__name__}: {error}); "
            "closedloop train-generator writes them."
        ) from error
    dim = len(state.get("prior.mean", torch.empty(0)))
    side = round((dim / CHANNELS) ** 0.5)
    if dim == 0 or side**2 * CHANNELS != dim:
        raise WeightsError(f"native: {path} holds no prior of spatial codes with {CHANNELS} channels.")
    encoder, decoder = born(Encoder, 0), born(SpatialDecoder, 0)
    prior = Prior(torch.zeros(dim), torch.zeros(dim, dim))
    fill(_parts(encoder, prior, decoder), state, path, spare=lambda _: False)
    for part in (encoder, prior, decoder):
        part.eval().requires_grad_(False)
    return encoder, prior, decoder, facts


def _parts(encoder: Encoder, prior: Prior, decoder: SpatialDecoder) -> nn.ModuleDict:
    """The parts under the names that they have in a file."""
    return nn.ModuleDict({"encoder": encoder, "prior": prior, "decoder": decoder})


def _fingerprint(path: Path, shell: bool, resolution: int) -> str:
    """SHA-256 of the weights and of what else decides the images."""
    whole = hashlib.sha256(path.read_bytes())
    whole.update(json.dumps({"shell": shell, "resolution": resolution}).encode())
    return whole.hexdigest()
