"""Any torch module that maps codes to images as a generator: a DCGAN, a StyleGAN, the decoder of a VAE."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import nn

from closedloop.errors import InvalidArgumentError
from closedloop.files import replace_file
from closedloop.interfaces import Space
from closedloop.networks.engines import build_engine, export_onnx
from closedloop.networks.modules import undisturbed
from closedloop.networks.weights import weights_sha256

from .decoding import DecodedGenerator, Decoder
from .onnx_generator import METADATA
from .raw_images import probe_codes


@final
class TorchGenerator(DecodedGenerator):
    """Images of a torch module. Differentiable.

    The module is run in evaluation mode and left exactly as it was found. It must give the same image for the same
    code, whatever else is in the batch: fix a StyleGAN's noise. Values outside the declared range are clipped.

    Args:
        module: From codes ``(n, *code_shape)`` to images ``(n, 3, s, s)`` RGB, or grey ``(n, 1, s, s)``; a tuple or
            mapping stands for its first tensor.
        space: Its codes, for instance ``Space(100)`` for N(0, 1); or their number.
        output_range: The module's values for black and for white: (-1, 1) for a tanh.
        code_shape: What one code looks like to the module, such as ``(100, 1, 1)``; None for ``(dim,)``.
        resolution: Height and width of the images; None for what the module makes. Others are resized.
        engine: "auto", "eager", "compile" or "onnx"; see `closedloop.networks.engines`.
        device: Where to run, and where the module is moved to; None for where its weights are.
        name: For records; default the class of the module.

    Raises:
        InvalidArgumentError: The module does not map such codes to images, or an argument does not fit.
    """

    #: A module has no name to load it by; `save` gives it one.
    recipe = None

    def __init__(
        self,
        module: nn.Module,
        space: Space | int,
        *,
        output_range: Sequence[float] = (-1.0, 1.0),
        code_shape: Sequence[int] | None = None,
        resolution: int | None = None,
        engine: str = "auto",
        device: str | None = None,
        name: str | None = None,
    ) -> None:
        if not isinstance(module, nn.Module):
            raise InvalidArgumentError(f"module: expected a torch.nn.Module, got {type(module).__name__}.")
        self.name: str = name or type(module).__name__
        self.space: Space = space if isinstance(space, Space) else Space(space)
        self._decoder = Decoder(
            module,
            self.space,
            code_shape=code_shape,
            output_range=output_range,
            resolution=resolution,
            engine=engine,
            device=device,
        )
        self.resolution: int = self._decoder.resolution

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what decides its images: weights, modules, codes, range and size; not of code."""
        module, space = self._decoder.module, self.space
        facts = {
            "modules": [(name, type(part).__qualname__) for name, part in module.named_modules()],
            "space": [space.dim, str(space.low), str(space.high), space.scale],
            "decoding": [self.resolution, module.low, module.high, list(module.code_shape)],
            "weights": weights_sha256(module.state_dict()),
        }
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def save(self, path: str | Path) -> None:
        """Writes an ONNX file that ``load_generator("onnx:FILE")`` loads, with name and space inside.

        Such a file holds no code, and needs neither the module's class nor torch; gradients are lost.

        Args:
            path: Where to; ends in ``.onnx``.

        Raises:
            InvalidArgumentError: The module cannot be written as ONNX, or would give other images.
        """
        import onnx

        path = Path(path)
        if path.suffix != ".onnx":
            raise InvalidArgumentError(f"path: expected a name that ends in .onnx, got {path}.")
        decoder, device, codes = self._decoder.module, self._decoder.device, probe_codes(self.space)
        with undisturbed(decoder):
            build_engine("onnx", decoder, codes, input_name="codes", device=device)  # it gives the same images
            model = onnx.load_model_from_string(export_onnx(decoder, torch.from_numpy(codes).to(device), "codes"))
        space = {k: v for k, v in vars(self.space).items() if v is not None and np.isfinite(v)}
        onnx.helper.set_model_props(model, {METADATA: json.dumps({"name": self.name, "space": space})})
        replace_file(path, model.SerializeToString())
