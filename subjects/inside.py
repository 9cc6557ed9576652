"""What all layers of a network give for one image, as quickly as the network itself runs.

One graph with every listed layer among its outputs serves them all, so that going from layer to layer costs nothing.
ONNX Runtime runs it on a CPU as soon as it was made (`Inside.quicken`), and eager torch before that, on other devices,
and for networks that cannot be exported.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from closedloop.errors import InvalidArgumentError, UnknownNameError, closest
from closedloop.images.resizing import resize_images, resize_matrix
from closedloop.networks.engines import PARITY, export_onnx, parity, probe_batch, quiet
from closedloop.networks.modules import dtype_of
from closedloop.networks.resampling import resampled
from closedloop.networks.sessions import session_options
from closedloop.networks.tokens import token_grid

from .folding import folded
from .options import OUTPUT
from .probe import Probe, called, find_layer, survey
from .receptive import ReceptiveField
from .torch_subject import TorchSubject
from .units import LayerShape, channels_last

#: Modules that hand on what they are given.
_NOTHING = (nn.Identity, nn.Dropout, nn.Flatten, nn.modules.dropout._DropoutNd)


@final
class Inside:
    """The layers of a network, and what each gives for an image.

    Args:
        subject: The subject; it is left as it is.
    """

    def __init__(self, subject: TorchSubject) -> None:
        self.subject = subject
        size, dtype = [subject.resolution] * 2, dtype_of(subject.model)
        example = torch.full((1, 3, *size), 0.5, device=subject.torch_device, dtype=dtype)
        self._found = survey(subject.model, example)
        self._example = example
        self._session: Any = None
        self._tried = False
        self._quick: dict[str, Probe] = {}

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The layers that are listed, in the order in which they run: those that compute something, each once."""
        known = [n for n, (shape, _) in self._found.items() if "#" not in n and 1 <= len(shape) <= 3]
        wanted: list[str] = []
        for depth in (1, 2, 3):  # levels of modules: to the first at which there are at least twelve
            listed = [n for n in known if n == OUTPUT or n.count(".") < depth]
            wanted = self._different([n for n in listed if n == OUTPUT or not isinstance(self.module(n), _NOTHING)])
            if len(wanted) >= 12:
                break
        return tuple(wanted)

    def _different(self, names: Sequence[str]) -> list[str]:
        """Returns the names whose layers give what no other gives: of a container and its last part the part."""
        image = torch.from_numpy(probe_batch(self.subject.resolution)[:1].copy()).to(self._example.device)
        given = self._eager(image, names)
        kept: dict[bytes, str] = {}
        for name, values in zip(names, given, strict=True):
            key = values.tobytes()
            other = kept.get(key)
            container = name != OUTPUT and isinstance(self.module(name), (nn.Sequential, nn.ModuleList))
            if other is None or (name == OUTPUT) or (other.startswith(f"{name}.") and not container):
                kept[key] = name
        return [name for name in names if name in kept.values()]

    def module(self, layer: str) -> nn.Module:
        """Returns the module that a layer's name stands for."""
        return self.subject.model if layer == OUTPUT else called(self.subject.model, layer)[0]

    def shape(self, layer: str) -> LayerShape:
        """Returns what a layer returns for one image; one that is not listed may be asked for, too.

        Raises:
            UnknownNameError: No such layer, or none that runs.
        """
        if layer not in self._found:
            find_layer(self.subject.model, layer)  # says so where there is none; it goes through the whole network
            raise UnknownNameError(f"layer: {layer!r} does not run for an image.{closest(layer, self.names)}")
        return LayerShape(layer, self._found[layer][0])

    def fields(self, layers: Sequence[str]) -> list[ReceptiveField]:
        """Returns the receptive field of each of some layers; see `TorchSubject.receptive_fields`."""
        return self.subject.receptive_fields(layers)

    def see(self, image: NDArray[np.float32], layers: Sequence[str]) -> list[NDArray[np.float32]]:
        """Returns what some layers give for an image ``(3, h, w)``, RGB in [0, 1].

        Returns:
            For each layer an array of `LayerShape.shape`; maps with channels first.

        Raises:
            UnknownNameError: No such layer.
        """
        for layer in layers:
            self.shape(layer)
        batch = resize_images(np.asarray(image, np.float32)[None], self.subject.resolution)
        if self._session is not None and set(layers) <= set(self.names):
            wanted = [f"output{self.names.index(layer)}" for layer in layers]
            found = self._session.run(wanted, {"images": np.ascontiguousarray(batch)})
            return [np.asarray(values[0], np.float32) for values in found]
        return self._eager(torch.from_numpy(np.ascontiguousarray(batch)).to(self._example.device), layers)

    def _eager(self, batch: Tensor, layers: Sequence[str]) -> list[NDArray[np.float32]]:
        probe = self._probe(layers)
        with torch.no_grad(), self.subject.undisturbed():
            return [values[0].float().cpu().numpy() for values in probe(batch)]

    def _probe(self, layers: Sequence[str]) -> Probe:
        return self.subject.probe(layers, {layer: self._found[layer][1] for layer in layers})

    def quicken(self) -> bool:
        """Makes the graph for ONNX Runtime, once; this takes seconds.

        Returns:
            Whether there is one, which agrees with eager torch on two probe images.
        """
        if not self._tried:
            self._tried = True
            if self._example.device.type == "cpu":
                with suppress(Exception), warnings.catch_warnings(), quiet():  # eager torch goes on
                    warnings.simplefilter("ignore")
                    self._session = self._made()
        return self._session is not None

    def _made(self) -> Any:
        """Makes a session with all listed layers as outputs.

        Raises:
            InvalidArgumentError: It gives something else than eager torch.
        """
        import onnxruntime

        options = session_options(torch.get_num_threads())
        images = torch.from_numpy(probe_batch(self.subject.resolution))
        with self.subject.undisturbed():
            graph = export_onnx(self._probe(self.names), images[:1].clone(), "images", len(self.names))
        if _draws(graph):
            raise InvalidArgumentError("it draws random numbers.")
        session = onnxruntime.InferenceSession(graph, options, ["CPUExecutionProvider"])
        probes = (images[:1], images[-1:])  # noise and black: a branch that an image decides on is not traced
        given = [session.run(None, {"images": image.numpy()}) for image in probes]
        expected = [self._eager(image, self.names) for image in probes]
        for mine, theirs in zip(zip(*given, strict=True), zip(*expected, strict=True), strict=True):
            if not parity(_rows(mine), _rows(theirs)) <= PARITY:
                raise InvalidArgumentError("it gives other values than eager torch.")
        return session

    def forward(self, layer: str) -> Callable[[Tensor], Tensor]:
        """Returns a function from images ``(n, 3, h, w)`` in [0, 1] to a layer's output, with torch's graph kept.

        On a CPU its batch norms are folded, where that gives the same.

        Raises:
            UnknownNameError: No such layer.
        """
        self.shape(layer)
        if layer not in self._quick:
            self._quick[layer] = self._differentiable(layer)
        probe, size = self._quick[layer], self.subject.resolution

        def run(x: Tensor) -> Tensor:
            x = x.to(self._example.device)
            if x.shape[2:] != (size, size):
                x = resampled(x, *(resize_matrix(side, size) for side in x.shape[2:]))
            with self.subject.undisturbed(probe.model):
                found: Tensor = probe(x)[0]
            return found

        return run

    def driven(
        self, image: NDArray[np.float32], layer: str, origin: str, score: Callable[[Tensor], Tensor]
    ) -> NDArray[np.float32]:
        """Returns how a score changes with each value of a layer: the derivative of a score by a layer before it.

        Args:
            image: ``(3, h, w)``, RGB in [0, 1].
            layer: What it is derived by.
            origin: The layer that the score is of.
            score: Turns the origin's output, as `forward` gives it, into a number.

        Returns:
            Of the layer's shape, maps with channels first.

        Raises:
            UnknownNameError: No such layer.
            InvalidArgumentError: Nothing of the layer reaches the origin.
        """
        for name in (layer, origin):
            self.shape(name)
        kept: list[Tensor] = []

        def keep(_module: nn.Module, _arguments: Any, output: Any) -> Any:
            if not isinstance(output, Tensor):
                return None
            kept.append(output)
            return output.clone()  # what follows may change it in place

        batch = resize_images(np.asarray(image, np.float32)[None], self.subject.resolution)
        x = torch.from_numpy(np.ascontiguousarray(batch)).to(self._example.device).requires_grad_()
        with torch.enable_grad(), self.subject.undisturbed():
            hook = None if layer == OUTPUT else self.module(layer).register_forward_hook(keep)
            try:
                found = self._probe([origin])(x)[0]
            finally:
                if hook is not None:
                    hook.remove()
            grads = torch.autograd.grad(score(found).sum(), kept[-1:], allow_unused=True) if kept else (None,)
        if grads[0] is None:
            raise InvalidArgumentError(f"layer: nothing that {layer!r} gives reaches {origin!r}; choose one before it.")
        back = grads[0].permute(0, 3, 1, 2) if channels_last(tuple(grads[0].shape[1:])) else grads[0]
        values: NDArray[np.float32] = back[0].float().cpu().numpy()
        return values

    def _differentiable(self, layer: str) -> Probe:
        """Returns the network, or its twin with folded batch norms, as far as a layer."""
        probe = self._probe([layer])
        if self._example.device.type != "cpu":
            return probe
        image = torch.from_numpy(probe_batch(self.subject.resolution)[:1].copy())
        with torch.no_grad(), self.subject.undisturbed():
            twin = folded(self.subject.model, [layer], ((image - probe.mean) / probe.std).to(probe.dtype))
            if twin is None:
                return probe
            quick = probe.of(twin)
            if torch.allclose(probe(image)[0], quick(image)[0], rtol=1e-3, atol=1e-4, equal_nan=True):
                return quick
        return probe


def _draws(graph: bytes) -> bool:
    """Returns whether a graph draws random numbers; torch's own state tells nothing, for other threads change it."""
    import onnx

    model = onnx.load_from_string(graph)
    bodies = (model.graph, *model.functions)
    kinds = {node.op_type for body in bodies for node in body.node}
    return any(kind.startswith("Random") or kind in ("Bernoulli", "Multinomial") for kind in kinds)


def _rows(values: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Returns what a layer gave for some images, a row for each."""
    return np.stack([one.ravel() for one in values])


def as_maps(values: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Returns a layer's output for one image as a map for each channel, and what stands apart from the maps.

    Args:
        values: ``(units,)``, ``(channels, h, w)`` or ``(tokens, channels)``.

    Returns:
        Maps ``(channels, rows, columns)``, 1 × 1 for units without positions; tokens of patches are their grid, others
        a row. And the tokens before those of patches, ``(extra, channels)``, such as the class token.
    """
    if values.ndim == 1:
        return values[:, None, None], np.empty((0, len(values)), np.float32)
    if values.ndim == 2:
        rows, columns, extra = token_grid(len(values))
        maps = values[extra:].T.reshape(values.shape[1], rows, columns)
        return np.ascontiguousarray(maps), values[:extra]
    return values, np.empty((0, len(values)), np.float32)


def grid_of(shape: LayerShape) -> tuple[int, int] | None:
    """Rows and columns of a layer's maps; None for units without positions."""
    if len(shape.shape) == 1:
        return None
    if len(shape.shape) == 2:
        return token_grid(shape.shape[0])[:2]
    rows, columns = shape.shape[:2] if channels_last(shape.shape) else shape.shape[1:]
    return rows, columns
