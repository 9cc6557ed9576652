"""The native generator asked for a class: the part of a code that says what is seen begins at, or stays at, a class.

The search spaces are those of BigGAN in closed loops (noise, class, or both joined); what takes the place of BigGAN's
class embedding is the mean code that photographs of a class have in the second model of `native`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from closedloop.checks import check_positive
from closedloop.errors import InvalidArgumentError, WeightsError
from closedloop.interfaces import Space
from closedloop.networks.imagenet import class_index, imagenet_classes
from closedloop.seeds import check_seed, named_generator

from .decoding import DecodedGenerator, Decoder
from .native import SECOND, find_weights, fingerprint, read_native
from .native_model import on_shell
from .two_part_model import TwoPartModel

Search = Literal["joint", "noise", "class"]
#: The choices of `search`.
SEARCHES = ("joint", "noise", "class")


@final
class NativeClass(DecodedGenerator):
    """Images of the native generator's second model, of one class of ImageNet or around it. Differentiable.

    A code of the model says what is seen, and how it is laid out. The mean code of a class is that of photographs, each
    counted with the probability that EfficientNet-Lite1 gives the class there, moved to the sphere of all codes.

    Args:
        weights: A file that ``closedloop train-generator --model two-part`` wrote, or "native-2", the embedded ones.
        search: What the code is: "noise" for the layout alone, whose pictures are all of `label`; "class" for what is
            seen alone, in one layout that `seed` draws; "joint" for what is seen, then the layout.
        label: An ImageNet class, by name ("goldfish") or index (1), around which classes are searched; needed for
            "noise". None begins at no class: then "joint" is `native` with the same weights.
        class_scale: Standard deviation of the steps away from the class, per number; 1 spans all of the prior. Without
            a label it is 1, and "noise" takes no such steps, so that it decides nothing.
        shell: Move each part of a code to the sphere of its draws, as `native` does.
        resolution: Height and width of the images in pixels; None for what the network makes. Others are resized.
        engine: "auto", "eager", "compile" or "onnx"; see `closedloop.networks.engines`.
        device: Where to run.
        seed: Draws the fixed layout of ``search="class"``; for others it decides nothing.

    Raises:
        UnknownNameError: No such class.
        WeightsError: The weights cannot be read, or hold no codes of classes.
    """

    name = "native-class"

    def __init__(
        self,
        weights: str | Path = SECOND,
        *,
        search: Search = "joint",
        label: str | int | None = None,
        class_scale: float = 0.5,
        shell: bool = True,
        resolution: int | None = None,
        engine: str = "auto",
        device: str | None = None,
        seed: int = 0,
    ) -> None:
        if search not in SEARCHES:
            raise InvalidArgumentError(f"search: expected 'joint', 'noise' or 'class', got {search!r}.")
        if search == "noise" and label is None:
            raise InvalidArgumentError("label: expected an ImageNet class whose layouts are searched, got none.")
        index = None if label is None else class_index(label)
        check_positive("class_scale", class_scale)
        check_seed(seed)
        self.weights: str
        self.weights, path = find_weights(weights)
        model = _with_classes(path)
        what, layout = model.prior.what, model.prior.layout
        self.label: str | None = None if index is None else imagenet_classes()[index]
        scale = 1.0 if index is None or search == "noise" else float(class_scale)
        # Code of the model = center + steps · code, what is seen first and the layout second.
        center = torch.zeros(what + layout)
        if index is not None:
            center[:what] = on_shell(model.classes[index : index + 1])[0]
        if search == "class":
            center[what:] = torch.from_numpy(_fixed_layout(seed, layout))
        steps = torch.tensor([scale] * what + [1.0] * layout)
        missing = {"joint": (0, 0), "noise": (what, 0), "class": (0, layout)}[search]
        self.space: Space = Space(what + layout - sum(missing))
        self._decoder = Decoder(
            _Searched(model.network(bool(shell)), center, steps, missing),
            self.space,
            resolution=resolution,
            engine=engine,
            device=device,
        )
        self.resolution: int = self._decoder.resolution
        self._recipe = {
            "name": self.name,
            "weights": self.weights,
            "search": search,
            "label": index,
            "class_scale": scale,
            "shell": bool(shell),
            "resolution": self.resolution,
            "device": None,  # where it runs is not what it is
            "seed": seed if search == "class" else 0,  # what decides nothing tells no two apart
        }
        decides = {key: self._recipe[key] for key in ("search", "label", "class_scale", "shell", "resolution", "seed")}
        self.fingerprint: str = fingerprint(path, decides)

    @property
    def recipe(self) -> Mapping[str, Any]:
        """How `load_generator` makes it again, with the engine that was chosen."""
        return {**self._recipe, "engine": self.engine}


class _Searched(nn.Module):
    """The model behind what is searched: codes of one part or of both -> images in [0, 1]."""

    center: Tensor
    steps: Tensor

    def __init__(self, network: nn.Module, center: Tensor, steps: Tensor, missing: tuple[int, int]) -> None:
        super().__init__()
        self.network, self.missing = network, missing
        self.register_buffer("center", center)
        self.register_buffer("steps", steps)

    def forward(self, codes: Tensor) -> Tensor:
        """Turns codes into images."""
        images: Tensor = self.network(self.center + self.steps * nn.functional.pad(codes, self.missing))
        return images


def _with_classes(path: Path) -> TwoPartModel:
    """Reads a second model that knows classes.

    Raises:
        WeightsError: It does not.
    """
    model, _ = read_native(path)
    if not isinstance(model, TwoPartModel) or len(model.classes) != len(imagenet_classes()):
        raise WeightsError(
            f"weights: {path} holds no codes of the {len(imagenet_classes()):,} classes of ImageNet; {SECOND} does, "
            "and what closedloop train-generator --model two-part writes."
        )
    return model


def _fixed_layout(seed: int, layout: int) -> NDArray[np.float32]:
    """Draws one layout, ``(layout,)``, on its sphere."""
    drawn = named_generator(seed, "native-class").standard_normal(layout)
    return (drawn * math.sqrt(layout) / np.linalg.norm(drawn)).astype(np.float32)
