"""The native generator: embedded, trained by `closedloop.generators.training`, small enough to draw on a CPU."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from closedloop.checks import check_images
from closedloop.errors import WeightsError
from closedloop.files import replace_file
from closedloop.images.resizing import resize_images, resize_matrix
from closedloop.interfaces import FloatArray, Space
from closedloop.networks.modules import born
from closedloop.networks.resampling import resampled
from closedloop.networks.weights import fill

from .decoding import DecodedGenerator, Decoder
from .native_model import CHANNELS, SpatialModel
from .two_part_model import TwoPartModel

#: Names of the trained weights that come with the installation; the first are the default.
FIRST, SECOND = "native-1", "native-2"
#: Their files.
EMBEDDED = {FIRST: "native.safetensors", SECOND: "native-2.safetensors"}
#: Keys in a file of weights: of the training's facts, and of the name of the embedded weights whose encoder it shares.
FACTS, SHARED = "closedloop.native", "closedloop.native.encoder"


@final
class Native(DecodedGenerator):
    """Images of a decoder that was trained to draw photographs; codes ``(n, 512)``, prior N(0, I). Differentiable.

    There are two models, and a file of weights holds either. The first is the decoder of a spatial autoencoder trained
    with pixel, feature and adversarial losses in the spirit of DeePSiM (Dosovitskiy & Brox 2016) and of projected GANs
    (Sauer et al. 2021). Its code is whitened: the coordinates are the principal components of the spatial codes of
    photographs, in units of their standard deviations, largest first. By default every code is moved to the sphere of
    radius ``sqrt(dim)``, close to which draws from the prior lie: without it, an evolution leaves the images that the
    decoder has learnt to draw. A code of the second says what is seen and how it is laid out, and has a sphere for
    each part (`closedloop.generators.two_part_model`).

    The network that gave the feature losses is EfficientNet-Lite1, so that EfficientNet-Lite0 and other subjects stay
    black boxes.

    Args:
        weights: A file that ``closedloop train-generator`` wrote; or "native-1" or "native-2", the embedded ones of the
            first and of the second model; None for the first.
        shell: Move codes to the sphere; False leaves them as they are.
        resolution: Height and width of the images in pixels; None for what the network makes, 128. Others are resized.
        engine: "auto", "eager", "compile" or "onnx"; see `closedloop.networks.engines`.
        device: Where to run.

    Attributes:
        weights: Name of the embedded weights, or the file of others.

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
        self.weights: str
        self.weights, path = find_weights(weights)
        self.shell: bool = bool(shell)
        self._model, self.facts = read_native(path)
        self.space: Space = Space(self._model.dim)
        self._decoder = Decoder(
            self._model.network(self.shell), self.space, resolution=resolution, engine=engine, device=device
        )
        self._model.to(self._decoder.device)
        self.resolution: int = self._decoder.resolution
        self.fingerprint: str = fingerprint(path, {"shell": self.shell, "resolution": self.resolution})

    @property
    def recipe(self) -> Mapping[str, Any]:
        """How `load_generator` makes it again on any machine, with the engine that was chosen."""
        return {
            "name": self.name,
            "weights": self.weights,
            "shell": self.shell,
            "resolution": self.resolution,
            "engine": self.engine,
            "device": None,  # where it runs is not what it is
        }

    def encoding(self, images: Tensor) -> Tensor:
        """Images ``(n, 3, h, w)`` in [0, 1], of any size -> codes ``(n, dim)`` of images like them; graph kept."""
        x = images.to(self._decoder.device)
        if x.shape[2:] != (self._model.size, self._model.size):
            x = resampled(x, *(resize_matrix(side, self._model.size) for side in x.shape[2:]))
        return self._model.encode(x * 2 - 1)

    @torch.no_grad()
    def encode(self, images: NDArray[Any]) -> FloatArray:
        """Images ``(n, 3, h, w)`` in [0, 1], of any size -> codes ``(n, dim)`` of images like them.

        A first guess in one step; `closedloop.generators.invert` improves it and says how good it is.
        """
        small = resize_images(check_images(images), self._model.size)
        device = self._decoder.device
        chunks = [torch.from_numpy(small[i : i + 32]).to(device) for i in range(0, len(small), 32)]
        codes = [self._model.encode(chunk * 2 - 1).double().cpu().numpy() for chunk in chunks]
        return np.concatenate([np.empty((0, self.space.dim)), *codes])


#: The native generator with the weights of one of its models, whatever `native` holds; options are those of `Native`.
native_1, native_2 = partial(Native, FIRST), partial(Native, SECOND)


def find_weights(weights: str | Path | None) -> tuple[str, Path]:
    """Returns what a recipe calls weights, and their file: of embedded ones by name, None for the first."""
    name = next(iter(EMBEDDED)) if weights is None else str(weights)
    if name in EMBEDDED:
        return name, embedded(name)
    return str(Path(name).resolve()), Path(name)


def embedded(name: str | None = None) -> Path:
    """Returns the file of embedded weights; by default the first of `EMBEDDED`."""
    file = next(iter(EMBEDDED.values())) if name is None else EMBEDDED[name]
    return Path(str(resources.files("closedloop.generators"))) / file


def write_native(path: Path, model: SpatialModel | TwoPartModel, facts: Mapping[str, Any]) -> None:
    """Writes weights in half precision with the facts of their training; appears under its name only when complete.

    A second model whose encoder is that of the embedded first weights names these, and leaves the encoder out.
    """
    tensors = {
        key: (value.half() if value.is_floating_point() else value).contiguous().cpu()
        for key, value in model.state_dict().items()
    }
    metadata = {FACTS: json.dumps(dict(facts))}
    shared = _shared_encoder(FIRST)
    if all(key in tensors and torch.equal(tensors[key], value) for key, value in shared.items()):
        tensors = {key: value for key, value in tensors.items() if key not in shared}
        metadata[SHARED] = FIRST
    replace_file(path, save(tensors, metadata=metadata))


def _shared_encoder(name: str) -> dict[str, Tensor]:
    """Returns the encoder of embedded weights of the first model, as a file of the second names its tensors."""
    second, first = "reader.encoder.", "encoder."
    with safe_open(embedded(name), framework="pt") as file:
        return {second + key.removeprefix(first): file.get_tensor(key) for key in file.keys() if key.startswith(first)}  # noqa: SIM118 - not a mapping


def read_native(path: Path) -> tuple[SpatialModel | TwoPartModel, dict[str, Any]]:
    """Returns the model, and the facts of its training.

    Raises:
        WeightsError: The file is missing, cannot be read, or holds something else.
    """
    try:
        with safe_open(path, framework="pt") as file:
            told = file.metadata() or {}
            facts = json.loads(told[FACTS])
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
    except FileNotFoundError:
        raise WeightsError(
            f"native: expected a file of weights, got {path}, which does not exist; embedded are "
            f"{' and '.join(EMBEDDED)}."
        ) from None
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise WeightsError(
            f"native: cannot read {path} as weights of the native generator ({type(error).__name__}: {error}); "
            "closedloop train-generator writes them."
        ) from error
    if SHARED in told:
        if told[SHARED] != FIRST:
            raise WeightsError(
                f"native: {path} shares the encoder of {told[SHARED]!r}, which this version does not have; it has that "
                f"of {FIRST}."
            )
        state = _shared_encoder(FIRST) | state
    model = _unfilled(state, path)
    single = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    fill(model, single, path, spare=lambda _: False)
    return model.eval().requires_grad_(False), facts


def _unfilled(state: Mapping[str, Tensor], path: Path) -> SpatialModel | TwoPartModel:
    """Returns the model whose weights these are, with random ones."""
    none = torch.empty(0, 0)
    what = len(state.get("reader.name.weight", none))
    axes = state.get("prior.spatial_axes", none) if what else state.get("prior.mean", none)
    dim = axes.shape[-1]
    side = round((dim / CHANNELS) ** 0.5)
    if dim == 0 or side**2 * CHANNELS != dim:
        raise WeightsError(f"native: {path} holds no prior of spatial codes with {CHANNELS} channels.")
    classes = len(state.get("classes", none))
    return born(lambda: TwoPartModel(what, len(axes), side, classes) if what else SpatialModel(dim), 0)


def fingerprint(path: Path, decides: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of a file of weights and of the options that decide, too, which images come out."""
    whole = hashlib.sha256(path.read_bytes())
    whole.update(json.dumps(dict(decides)).encode())
    return whole.hexdigest()
