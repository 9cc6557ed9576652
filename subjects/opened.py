"""A layer of a classifier whose channels can be held still one by one, to see what its answers hang on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from closedloop.checks import check_images
from closedloop.errors import InvalidArgumentError, reason
from closedloop.images.resizing import resize_images
from closedloop.networks.modules import undisturbed

from .folding import folded
from .options import OUTPUT
from .probe import absent, as_tensor, called, check_one_call, find_layer, survey
from .units import LayerShape, channels_last

#: Copies of an image with one channel each held still that run together at most, and bytes of their largest layer.
TOGETHER, MEMORY = 256, 2**27
#: Images that run together.
_BATCH = 16

Change = Callable[[Tensor], Tensor]


@final
class OpenedNetwork:
    """Runs a network from images in [0, 1] through one of its layers to its outputs, a number for each class.

    The network is left as it was found. Layers above the chosen one run on many changed copies of its output, those
    below on the image alone, as far as the network allows that; where it does not (a comparison at the beginning
    tells), the whole network runs on copies of the image.

    Args:
        model: The network.
        layer: A module's name; None for the last one at the top with places, or the last hidden one.
        example: A normalized image ``(1, 3, r, r)`` on the network's device and in its type.
        colors: Mean and standard deviation of each colour channel.
        labels: What its outputs are called, if that is known.
        random_state: Feeds a network that draws random numbers; the same for every call.

    Raises:
        UnknownNameError: No such layer.
        InvalidArgumentError: It has no output ``(n, classes)``, the layer does not run, or its output is no tensor.
    """

    def __init__(
        self,
        model: nn.Module,
        layer: str | None,
        example: Tensor,
        colors: tuple[Sequence[float], Sequence[float]],
        labels: Sequence[str] | None,
        random_state: Tensor,
    ) -> None:
        self._model, self._random = model, random_state
        self._resolution = example.shape[-1]
        self._device, self._dtype = example.device, example.dtype
        self._mean, self._std = (torch.tensor(c, device=self._device).view(1, -1, 1, 1) for c in colors)
        found, why = _surveyed(model, example)
        count = found[OUTPUT][0][0]
        self.layer: str = find_layer(model, layer) if layer is not None else _last_layer(found)
        if self.layer == OUTPUT or self.layer not in found:
            told = absent(model, self.layer, why) if self.layer != OUTPUT else "it is the answer itself."
            raise InvalidArgumentError(f"layer: {self.layer!r} cannot be held still: {told} Take a hidden layer.")
        base = self.layer if self.layer in found and "#" not in self.layer else self.layer.rpartition("#")[0]
        self._calls = found[base][1] if base in found else 1
        check_one_call(model, self.layer, self._calls)
        self._shape = LayerShape(self.layer, found[self.layer][0])
        known = list(labels or ())[:count]
        self.classes: tuple[str, ...] = (*map(str, known), *[""] * (count - len(known)))
        self._quick = self._quicker(example)
        self._forks = self._can_fork(example)
        order = list(found)
        above = order[order.index(self.layer) if self._forks else 0 :]
        largest = max(int(np.prod(found[name][0])) for name in above) * example.element_size()
        self._together = max(1, min(TOGETHER, MEMORY // largest))

    @property
    def channels(self) -> int:
        """Number of channels, or of units of a layer without places."""
        return self._shape.channels

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the map; (1, tokens), or (1, 1)."""
        return self._shape.positions

    def look(self, images: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Gives layer ``(n, channels, places)`` and outputs ``(n, classes)`` for images ``(n, 3, h, w)`` in [0, 1]."""
        with torch.no_grad():
            parts = [self._look(x) for x in self._batches(images)]
        layers, outputs = zip(*parts, strict=True)
        return np.concatenate(layers), np.concatenate(outputs)

    def _look(self, x: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        seen: list[Tensor] = []
        outputs = self._run(x, lambda a: seen.append(a.clone()) or a)  # type: ignore[func-returns-value]
        return _numbers(self._in_order(seen[0])), _numbers(outputs)

    def attributions(self, images: NDArray[np.float32], classes: NDArray[np.int64]) -> NDArray[np.float32]:
        """Returns each channel's Σ_places a · ∂z_class/∂a, for images' outputs ``(n, k)``: ``(n, k, channels)``."""
        chosen = np.asarray(classes, np.int64)
        rows = [chosen[i : i + _BATCH] for i in range(0, len(chosen), _BATCH)]
        parts = [self._attributed(x, own) for x, own in zip(self._batches(images), rows, strict=True)]
        return np.concatenate(parts)

    def _attributed(self, x: Tensor, classes: NDArray[np.int64]) -> NDArray[np.float32]:
        leaves: list[Tensor] = []

        def leaf(a: Tensor) -> Tensor:
            leaves.append(a.detach().clone().requires_grad_(True))
            return leaves[0].clone()  # what follows may change its input in place

        with torch.enable_grad():
            outputs = self._run(x, leaf)
            rows = torch.arange(len(x), device=self._device)
            parts = []
            for k in range(classes.shape[1]):
                score = outputs[rows, torch.from_numpy(classes[:, k]).to(self._device)].sum()
                try:
                    gradient = torch.autograd.grad(score, leaves[0], retain_graph=True)[0]
                except RuntimeError as error:
                    raise InvalidArgumentError(
                        f"layer {self.layer!r}: the outputs have no gradient with respect to it ({reason(error)})."
                    ) from error
                parts.append(self._in_order(gradient * leaves[0].detach()).sum(2))
        return _numbers(torch.stack(parts, 1))

    def ablated(
        self, image: NDArray[np.float32], means: NDArray[np.float32], channels: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Returns one image's outputs ``(len(channels), classes)``, each with a channel at its mean at each place."""
        x = next(self._batches(image[None]))
        still = torch.from_numpy(np.ascontiguousarray(means, np.float32)).to(self._device, self._dtype)
        with torch.no_grad():
            parts = [
                _numbers(self._held(x, still, channels[i : i + self._together], self._forks))
                for i in range(0, len(channels), self._together)
            ]
        return np.concatenate(parts) if parts else np.empty((0, len(self.classes)), np.float32)

    def _held(self, x: Tensor, means: Tensor, channels: NDArray[np.int64], fork: bool) -> Tensor:
        """Returns outputs with one channel each held still."""
        which = torch.from_numpy(np.asarray(channels, np.int64)).to(self._device)
        rows = torch.arange(len(which), device=self._device)

        def hold(a: Tensor) -> Tensor:
            copies = (a.expand(len(which), *a.shape[1:]) if fork else a).clone()
            ordered = self._in_order(copies, view=True)
            ordered[rows, which] = means[which].view(len(which), *ordered.shape[2:])
            return copies

        return self._run(x if fork else x.expand(len(which), *x.shape[1:]), hold)

    def _in_order(self, a: Tensor, view: bool = False) -> Tensor:
        """Returns the layer's output as ``(n, channels, places)``; with `view` the same memory, all axes of places."""
        shape = self._shape.shape
        last = len(shape) == 2 or channels_last(shape)
        ordered = a.movedim(-1, 1) if last else a
        return ordered if view else ordered.reshape(len(a), self.channels, -1)

    def _batches(self, images: NDArray[np.float32]) -> Iterator[Tensor]:
        checked = resize_images(check_images(images), self._resolution)
        for i in range(0, len(checked), _BATCH):
            x = torch.from_numpy(checked[i : i + _BATCH]).to(self._device)
            yield ((x - self._mean) / self._std).to(self._dtype)

    def _run(self, x: Tensor, change: Change, model: nn.Module | None = None) -> Tensor:
        """Returns outputs ``(n, classes)`` for normalized images, with the layer's output changed on the way."""
        network, layout = (model, None) if model is not None else self._quick
        with undisturbed(network, self._random.clone()), _changed(network, self.layer, self._calls, change):
            x = x if layout is None else x.contiguous(memory_format=layout)
            return as_tensor(network(x), OUTPUT)

    def _quicker(self, example: Tensor) -> tuple[nn.Module, Any]:
        """Returns the network, or a twin with batch norms folded in where that gives the same; and a layout."""
        if self._device.type != "cpu":
            return self._model, None
        noise = torch.rand(example.shape, generator=torch.Generator().manual_seed(0)).to(self._dtype) * 2 - 1
        with torch.no_grad():
            expected = self._run(noise, _same, self._model)
            with undisturbed(self._model):
                twin = folded(self._model, [self.layer, OUTPUT], noise)
            for model, layout in ((twin, torch.channels_last), (self._model, torch.channels_last)):
                if model is not None and self._agrees(expected, (model, layout), noise):
                    return model, layout
        return self._model, None

    def _agrees(self, expected: Tensor, quick: tuple[nn.Module, Any], noise: Tensor) -> bool:
        before, self._quick = getattr(self, "_quick", None), quick
        try:
            return torch.allclose(expected, self._run(noise, _same), rtol=1e-3, atol=1e-4, equal_nan=True)
        except RuntimeError:  # such as a `view` that takes the other layout for granted
            return False
        finally:
            if before is not None:
                self._quick = before

    def _can_fork(self, example: Tensor) -> bool:
        """Tells whether the layers above take more images than those below were given, and answer the same."""
        noise = torch.rand(example.shape, generator=torch.Generator().manual_seed(1)).to(self._device, self._dtype)
        means = torch.zeros(self.channels, int(np.prod(self.grid)), device=self._device, dtype=self._dtype)
        which = np.unique(np.linspace(0, self.channels - 1, 3).astype(np.int64))
        with torch.no_grad():
            expected = self._held(noise, means, which, fork=False)
            try:
                given = self._held(noise, means, which, fork=True)
            except (RuntimeError, ValueError, IndexError, TypeError):  # such as maps of both put side by side
                return False
        return given.shape == expected.shape and torch.allclose(expected, given, rtol=1e-3, atol=1e-4, equal_nan=True)


def _same(a: Tensor) -> Tensor:
    return a


def _numbers(x: Tensor) -> NDArray[np.float32]:
    found: NDArray[np.float32] = x.detach().to("cpu", torch.float32).numpy()
    return found


def _surveyed(model: nn.Module, example: Tensor) -> tuple[dict[str, tuple[tuple[int, ...], int]], dict[str, str]]:
    """Returns which layers run, in their order, and why others give nothing of use.

    Raises:
        InvalidArgumentError: The network gives no number for each of several classes.
    """
    why: dict[str, str] = {}
    with torch.no_grad():
        found = survey(model, example, why)
    shape = found[OUTPUT][0] if OUTPUT in found else ()
    if len(shape) != 1 or shape[0] < 2:
        raise InvalidArgumentError(
            f"subject: expected a classifier, whose output is (n, classes), got {('n', *shape)}; errors are those of a "
            "network that answers with a class."
        )
    return found, why


def _last_layer(found: dict[str, tuple[tuple[int, ...], int]]) -> str:
    """Returns the last layer at the top of a network that has places; of one without, the last before the output."""
    tops = [n for n, (shape, _) in found.items() if "." not in n and "#" not in n and 1 <= len(shape) <= 3]
    hidden = [n for n in tops if n != OUTPUT]
    placed = [n for n in hidden if len(found[n][0]) > 1 and np.prod(LayerShape(n, found[n][0]).positions) > 1]
    if placed:
        return placed[-1]
    before = hidden[:-1] if hidden and found[hidden[-1]][0] == found[OUTPUT][0] else hidden
    deeper = [n for n, (shape, _) in found.items() if n != OUTPUT and "#" not in n and 1 <= len(shape) <= 3]
    chosen = before or deeper[:-1]
    if not chosen:
        raise InvalidArgumentError("layer: the network has no hidden layer that can be held still; name one.")
    return chosen[-1]


@contextmanager
def _changed(model: nn.Module, layer: str, calls: int, change: Change) -> Iterator[None]:
    """Puts something else in the place of a layer's output while the context lasts."""
    module, call = called(model, layer)
    wanted, count = call or calls, 0

    def hook(module: nn.Module, arguments: Any, output: Any) -> Any:
        nonlocal count
        count += 1
        return _replaced(output, change, layer) if count == wanted else None

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _replaced(output: Any, change: Change, layer: str) -> Any:
    """Returns what a layer returned with its tensor changed; within a tuple or list the one that stands for it."""
    if isinstance(output, Tensor):
        return change(output)
    meant = as_tensor(output, layer)
    if isinstance(output, (tuple, list)):
        for i, part in enumerate(output):
            if part is meant:
                return type(output)((*output[:i], change(part), *output[i + 1 :]))
    raise InvalidArgumentError(
        f"layer {layer!r}: it returns {type(output).__name__}, in which its tensor cannot be replaced; take a layer "
        "within it or after it."
    )
