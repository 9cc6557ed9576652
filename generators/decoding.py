"""A torch module as the decoder of a generator: fast engine for arrays, the same graph for gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from itertools import chain
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from closedloop.errors import InvalidArgumentError, reason
from closedloop.images.resizing import resize_matrix
from closedloop.interfaces import FloatArray, Space
from closedloop.networks.engines import build_engine
from closedloop.networks.modules import undisturbed
from closedloop.readable import ReadableGenerator

from .pixels import check_resolution
from .raw_images import check_range, check_raw_images, probe_codes

#: Memory in bytes that a batch may take: four activations of this many channels at the size of the images.
MEMORY, CHANNELS = 2**30, 128


def first_tensor(output: Any) -> Tensor:
    """Returns the images in what a module returned: a tensor, or the first of a tuple or mapping."""
    if isinstance(output, Mapping):
        output = next(iter(output.values()), None)
    if isinstance(output, (tuple, list)) and output:
        output = output[0]
    if not isinstance(output, Tensor):
        raise InvalidArgumentError(f"module: expected it to return a tensor of images, got {type(output).__name__}.")
    return output


class ImageDecoder(nn.Module):
    """Codes ``(n, dim)`` -> one tensor ``(n, 3, resolution, resolution)``, RGB in [0, 1], in a tuple.

    Args:
        module: From codes ``(n, *code_shape)`` to images ``(n, 3, s, s)``, or grey ones ``(n, 1, s, s)``.
        code_shape: What one code looks like to the module.
        output_range: The module's values for black and for white.
        size: Height and width of its images.
        resolution: Height and width that are wanted (bilinear, antialiased).
    """

    rows: Tensor

    def __init__(
        self,
        module: nn.Module,
        code_shape: Sequence[int],
        output_range: tuple[float, float],
        size: int,
        resolution: int,
    ) -> None:
        super().__init__()
        self.module: nn.Module = module
        self.code_shape: tuple[int, ...] = tuple(code_shape)
        self.low, self.high = output_range
        self.resized: bool = resolution != size
        if self.resized:
            self.register_buffer("rows", torch.from_numpy(resize_matrix(size, resolution)))
        self.training = False  # the exporter puts all modules in the mode of the outermost one when it is done

    def forward(self, codes: Tensor) -> tuple[Tensor]:
        """Turns codes ``(n, dim)`` into a tuple of one tensor ``(n, 3, resolution, resolution)``, RGB in [0, 1]."""
        inputs = _suited(codes.reshape(-1, *self.code_shape), self.module)
        images = first_tensor(self.module(inputs)).to(codes.dtype)
        images = ((images - self.low) / (self.high - self.low)).clamp(0, 1)
        if self.resized:
            images = self.rows @ images @ self.rows.T
        return (images if images.shape[1] == 3 else torch.cat([images] * 3, dim=1),)


@final
class Decoder:
    """Runs a module that maps codes to images.

    Args:
        module: From codes ``(n, *code_shape)`` to images ``(n, 3, s, s)`` or ``(n, 1, s, s)``.
        space: The codes.
        code_shape: What one code looks like to the module; None for ``(dim,)``.
        output_range: The module's values for black and for white.
        resolution: Height and width of the images; None for what the module makes.
        engine: "auto", "eager", "compile" or "onnx"; see `closedloop.networks.engines`.
        device: Where to run; None for where the module's weights are.
    """

    def __init__(
        self,
        module: nn.Module,
        space: Space,
        *,
        code_shape: Sequence[int] | None = None,
        output_range: Sequence[float] = (0.0, 1.0),
        resolution: int | None = None,
        engine: str = "auto",
        device: str | None = None,
    ) -> None:
        shape = (space.dim,) if code_shape is None else tuple(code_shape)
        if int(np.prod(shape)) != space.dim:
            raise InvalidArgumentError(f"code_shape: expected {space.dim} numbers as in the space, got {shape}.")
        self.device: torch.device = _placed(module, device)
        with undisturbed(module):
            raw, alone = _raw_images(module, space, shape, self.device)
            size = check_raw_images(raw, alone)
            self.resolution: int = size if resolution is None else check_resolution(resolution)
            values = check_range(raw, output_range)
            self.module: ImageDecoder = ImageDecoder(module, shape, values, size, self.resolution).to(self.device)
            self._engine = build_engine(engine, self.module, probe_codes(space), input_name="codes", device=self.device)
        self._space = space
        self._chunk = max(1, MEMORY // (4 * CHANNELS * size**2 * 4))

    @property
    def engine(self) -> str:
        """The engine in use."""
        return self._engine.name

    def __call__(self, codes: FloatArray) -> NDArray[np.float32]:
        """Turns codes ``(n, dim)`` into images ``(n, 3, h, w)`` float32, RGB in [0, 1]."""
        codes = self._space.check(codes).astype(np.float32)
        size = self.resolution
        images = np.empty((len(codes), 3, size, size), np.float32)
        with undisturbed(self.module) if self._engine.runs_torch else nullcontext():
            for i in range(0, len(codes), self._chunk):
                images[i : i + self._chunk] = self._engine(codes[i : i + self._chunk])
        return np.clip(images, 0, 1, out=images)

    def forward(self, codes: Tensor) -> Tensor:
        """Does the same in torch; keeps the graph and the precision of ``codes``."""
        with undisturbed(self.module):
            tensors = {
                name: tensor.to(codes if tensor.is_floating_point() else codes.device)
                for name, tensor in chain(self.module.named_parameters(), self.module.named_buffers())
            }
            images: Tensor = torch.func.functional_call(self.module, tensors, (codes,))[0]
        return images


class DecodedGenerator(ReadableGenerator):
    """A generator whose images a `Decoder` makes."""

    _decoder: Decoder

    @property
    def engine(self) -> str:
        """The engine in use: "eager", "compile" or "onnx"."""
        return self._decoder.engine

    def __call__(self, codes: FloatArray) -> NDArray[np.float32]:
        """Turns codes ``(n, dim)`` into images ``(n, 3, h, w)`` float32, RGB in [0, 1]."""
        return self._decoder(codes)

    def forward(self, codes: Tensor) -> Tensor:
        """Does the same in torch; keeps the graph and the precision of ``codes``."""
        return self._decoder.forward(codes)


@torch.no_grad()
def _raw_images(
    module: nn.Module, space: Space, shape: Sequence[int], device: torch.device
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Returns what the module makes of the probe codes, and of the last of them alone."""
    codes = _suited(torch.from_numpy(probe_codes(space)).reshape(-1, *shape).to(device), module)
    try:
        images, alone = (first_tensor(module(batch)).double().cpu().numpy() for batch in (codes, codes[-1:]))
    except InvalidArgumentError:
        raise
    except Exception as error:
        raise InvalidArgumentError(
            f"module: it cannot be run on codes of shape (n, {', '.join(map(str, shape))}) ({reason(error)}). Give the "
            "code_shape it was made for."
        ) from error
    return images, alone


def _suited(codes: Tensor, module: nn.Module) -> Tensor:
    """Returns codes in the precision of a module's weights; as they are where it has none."""
    weight = next((p for p in module.parameters() if p.is_floating_point()), codes)
    return codes.to(weight.dtype)


def _placed(module: nn.Module, device: str | None) -> torch.device:
    """Returns the device of a module, which is moved there if one is asked for."""
    if device is not None:
        try:
            module.to(device)
        except (RuntimeError, AssertionError) as error:
            raise InvalidArgumentError(f"device: cannot run on {device!r} ({reason(error)}).") from error
    tensor = next(chain(module.parameters(), module.buffers()), None)
    return torch.device("cpu") if tensor is None else tensor.device
