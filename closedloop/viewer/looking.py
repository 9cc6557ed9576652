"""A subject as it is looked at: its layers, what each channel gives for an image, and how that is sorted.

A network shows all of its layers; noise around it changes what it answers, and nothing inside. What is no network, or
is none that can be looked into, has the one layer "responses". A torch-free subject is looked at without torch.
"""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

from closedloop.analysis.atlas import RESPONSES
from closedloop.analysis.errors import confidences
from closedloop.analysis.tuning import sparseness_of
from closedloop.checks import check_responses
from closedloop.errors import UnknownNameError, closest
from closedloop.images.eight_bit import from_bytes
from closedloop.interfaces import Differentiable, Form, Subject, form_of, resolution_of
from closedloop.networks.tokens import token_grid
from closedloop.subjects import inner_of
from closedloop.viewer.asked import RequestError
from closedloop.viewer.inputs import Stimulus

if TYPE_CHECKING:
    from torch import Tensor

    from closedloop.subjects import Inside

#: Orders of a layer's units.
SORTS = ("index", "activation", "selectivity")


@dataclass(frozen=True)
class Seen:
    """What a layer gave for one image.

    Attributes:
        maps: ``(channels, rows, columns)``; 1 × 1 for units without positions, a row over time for responses in time.
        extra: Of tokens that are no patches, such as the class token, ``(extra, channels)``.
        answer: The network's output ``(classes,)``; None where there is none to name.
        ms: What the model took, in milliseconds.
    """

    maps: NDArray[np.float32]
    extra: NDArray[np.float32]
    answer: NDArray[np.float32] | None
    ms: float

    @cached_property
    def peaks(self) -> NDArray[np.float32]:
        """The largest value of each channel ``(channels,)``; NaN for a lost presentation."""
        largest: NDArray[np.float32] = self.maps.max((1, 2))
        return largest

    @cached_property
    def lost(self) -> int:
        """How many channels hold values that are not finite, which tiles cannot show."""
        return int((~np.isfinite(self.maps)).any((1, 2)).sum())

    def peak(self, channel: int) -> tuple[int, int]:
        """Returns row and column of a channel's largest value."""
        y, x = np.unravel_index(int(np.argmax(np.nan_to_num(self.maps[channel], nan=-np.inf))), self.maps.shape[1:])
        return int(y), int(x)


class Sight(ABC):
    """A subject as it is looked at. Its methods are called from one thread at a time.

    Args:
        subject: The subject, with whatever noise is around it.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.form: Form = form_of(subject)
        self.resolution: int = resolution_of(subject)
        self._selectivity: dict[str, NDArray[np.float32]] = {}

    @cached_property
    def inner(self) -> Subject:
        """The subject within the noise."""
        return inner_of(self.subject)

    @property
    def why_not(self) -> str:
        """Why nothing can be propagated back from its units; "" if it can."""
        if isinstance(self.inner, Differentiable):
            return ""
        return (
            f"{self.inner.name} is a black box: it says what it answers, and not how its answer changes with a pixel. "
            "So there is no back-propagation."
        )

    @property
    def labels(self) -> Sequence[str] | None:
        """Names of its classes, where they are known."""
        return None

    @abstractmethod
    def layers(self) -> list[dict[str, Any]]:
        """Lists the layers, in the order in which they run, as the interface of the server words them."""

    @abstractmethod
    def see(self, stimulus: Stimulus, layer: str) -> Seen:
        """Returns what a layer gives for an image.

        Raises:
            UnknownNameError: No such layer.
        """

    @abstractmethod
    def forward(self, layer: str, channel: int, y: int, x: int) -> Callable[[Tensor], Tensor]:
        """Returns a function from images to the values ``(n,)`` of one unit at one position, with torch's graph kept.

        Raises:
            UnknownNameError: No such layer.
        """

    def driven(self, stimulus: Stimulus, layer: str, origin: str, channel: int, y: int, x: int) -> NDArray[np.float32]:
        """Returns how a unit's value changes with each value of a layer before it, ``(channels, rows, columns)``.

        Args:
            stimulus: What is shown.
            layer: The layer before.
            origin: The unit's layer.
            channel: Its channel.
            y: Its row in the layer's map.
            x: Its column.

        Raises:
            RequestError: The subject cannot be looked into.
            InvalidArgumentError: Nothing of the layer reaches the unit.
        """
        raise RequestError(f"mode: {self.inner.name} cannot be looked into; it has no layers to propagate back to.")

    def _answered(self, channel: int) -> Callable[[Tensor], Tensor]:
        """Returns a function from images to the response ``(n,)`` of one recorded unit; its mean over time."""

        def one(images: Tensor) -> Tensor:
            network: Any = self.inner
            found: Tensor = network.forward(images)[:, channel]
            return found.flatten(1).mean(1) if found.ndim > 1 else found

        return one

    def box(self, layer: str, channel: int, y: int, x: int) -> list[int] | None:
        """Returns what a unit sees, ``[y0, x0, y1, x1]`` in pixels, half-open; None where it is not known."""
        return None

    def label(self, layer: str, channel: int) -> str:
        """Returns what a unit stands for; "" where that is not known."""
        return ""

    def settle(self) -> bool:
        """Does what makes later calls quicker, once; returns whether there was anything to do."""
        return False

    def top(self, answer: NDArray[np.float32] | None) -> list[tuple[str, float]] | None:
        """Returns the most probable classes with their probabilities; None where classes have no names."""
        labels = self.labels
        if answer is None or labels is None or len(labels) != len(answer) or not np.isfinite(answer).all():
            return None
        chances = confidences(answer[None])[0]
        return [(str(labels[i]), float(chances[i])) for i in np.argsort(-chances)[:5]]

    def selectivity(self, layer: str) -> NDArray[np.float32] | None:
        """Returns the selectivity of each channel as far as it was measured; None before."""
        return self._selectivity.get(layer)

    def measure(self, layer: str, peaks: NDArray[np.float32]) -> NDArray[np.float32]:
        """Measures the lifetime sparseness of each channel over images, and keeps it for later.

        Args:
            layer: The layer.
            peaks: The largest value of each channel for each image ``(images, channels)``.

        Returns:
            ``(channels,)``, 0 where all images are answered alike, or none above 0, and 1 where one alone is answered.
        """
        values = np.nan_to_num(sparseness_of(peaks.astype(float))[0]["sparseness"]).astype(np.float32)
        self._selectivity[layer] = values
        return values

    def order(self, sort: str, seen: Seen, layer: str) -> NDArray[np.intp]:
        """Returns the channels in the order in which they are shown."""
        if sort == "index":
            return np.arange(len(seen.maps))
        by = seen.peaks if sort == "activation" else self._selectivity[layer]
        return np.argsort(-np.nan_to_num(by, nan=-np.inf), kind="stable")


@final
class NetworkSight(Sight):
    """A torch network, looked into."""

    @cached_property
    def inside(self) -> Inside:
        """Its layers."""
        from closedloop.subjects import Inside

        network: Any = self.inner
        return Inside(network)

    @property
    def labels(self) -> Sequence[str] | None:
        """Names of its classes, where they are known."""
        network: Any = self.inner
        labels: Sequence[str] | None = network.labels
        return labels

    @cached_property
    def _fields(self) -> dict[str, Any]:
        return dict(zip(self.inside.names, self.inside.fields(self.inside.names), strict=True))

    def layers(self) -> list[dict[str, Any]]:
        """See `Sight`."""
        found = [self._facts(name) for name in self.inside.names]
        if self.inner is not self.subject:
            found.append(responses_layer(self.subject))
        return found

    def _facts(self, name: str) -> dict[str, Any]:
        from closedloop.subjects import grid_of

        shape, field = self.inside.shape(name), self._fields[name]
        grid = grid_of(shape)
        return {
            "name": name,
            "kind": type(self.inside.module(name)).__name__,
            "shape": list(shape.shape),
            "channels": shape.channels,
            "grid": None if grid is None else list(grid),
            "rf": None
            if field.method == "unknown"
            else {"size": list(field.size), "stride": list(field.stride), "method": field.method},
            "output": name == "output",
        }

    def see(self, stimulus: Stimulus, layer: str) -> Seen:
        """See `Sight`."""
        if layer == RESPONSES and self.inner is not self.subject:
            return recorded(self.subject, stimulus)
        from closedloop.subjects import as_maps

        wanted = [layer] if self.labels is None or layer == "output" else [layer, "output"]
        self.inside.shape(layer)
        image = from_bytes(stimulus)
        start = time.perf_counter()
        found = self.inside.see(image, wanted)
        ms = 1000 * (time.perf_counter() - start)
        maps, extra = as_maps(found[0])
        return Seen(maps, extra, found[-1].ravel() if self.labels is not None else None, ms)

    def forward(self, layer: str, channel: int, y: int, x: int) -> Callable[[Tensor], Tensor]:
        """See `Sight`."""
        if layer == RESPONSES and self.inner is not self.subject:
            return self._answered(channel)
        run = self.inside.forward(layer)
        return lambda images: value_at(run(images), channel, y, x)

    def driven(self, stimulus: Stimulus, layer: str, origin: str, channel: int, y: int, x: int) -> NDArray[np.float32]:
        """See `Sight`."""
        if RESPONSES in (layer, origin):
            raise RequestError("mode: expected a layer within the network; choose another one than 'responses'.")
        from closedloop.subjects import as_maps

        score: Callable[[Tensor], Tensor] = lambda found: value_at(found, channel, y, x)  # noqa: E731
        return as_maps(self.inside.driven(from_bytes(stimulus), layer, origin, score))[0]

    def box(self, layer: str, channel: int, y: int, x: int) -> list[int] | None:
        """See `Sight`."""
        if layer not in self._fields:
            return None
        field, shape = self._fields[layer], self.inside.shape(layer).shape
        if field.method == "unknown":
            return None
        if len(shape) == 2:
            _, columns, extra = token_grid(shape[0])
            y, x = 0, extra + y * columns + x
        return list(field.box(y, x, (self.resolution, self.resolution)))

    def label(self, layer: str, channel: int) -> str:
        """See `Sight`."""
        labels = self.labels
        if layer == RESPONSES:
            return unit_name(self.subject, channel)
        return str(labels[channel]) if layer == "output" and labels is not None and channel < len(labels) else ""

    def settle(self) -> bool:
        """Makes the graph with which looking is as quick as the network, which takes seconds."""
        quick: bool = self.inside.quicken()
        return quick


@final
class BoxSight(Sight):
    """A subject that is asked for its responses and nothing else."""

    def layers(self) -> list[dict[str, Any]]:
        """See `Sight`."""
        return [responses_layer(self.subject)]

    @cached_property
    def labels(self) -> Sequence[str] | None:
        """Names of its units, where each has one."""
        known = self.subject.units.coords.get("label", ())
        return [str(label) for label in known] if len(known) and all(known) else None

    def see(self, stimulus: Stimulus, layer: str) -> Seen:
        """See `Sight`."""
        if layer != RESPONSES:
            raise UnknownNameError(f"layer: no layer {layer[:60]!r}.{closest(layer, [RESPONSES])}")
        return recorded(self.subject, stimulus)

    def forward(self, layer: str, channel: int, y: int, x: int) -> Callable[[Tensor], Tensor]:
        """See `Sight`."""
        return self._answered(channel)

    def box(self, layer: str, channel: int, y: int, x: int) -> list[int] | None:
        """See `Sight`."""
        coords = self.subject.units.coords
        names = ("rf_y0", "rf_x0", "rf_y1", "rf_x1")
        if not all(name in coords for name in names):
            return None
        corners = [coords[name][channel] for name in names]
        return [int(c) for c in corners] if all(isinstance(c, (int, np.integer)) for c in corners) else None

    def label(self, layer: str, channel: int) -> str:
        """See `Sight`."""
        return unit_name(self.subject, channel)


def listed_layers(subject: Subject) -> tuple[str, ...]:
    """Lists the layers within a network, in the order in which they run; none of what cannot be looked into."""
    sight = sight_of(subject)
    return sight.inside.names if isinstance(sight, NetworkSight) else ()


def value_at(found: Tensor, channel: int, y: int, x: int) -> Tensor:
    """Values ``(n,)`` of one unit in a layer's output: maps, tokens of which patches are a grid, or units."""
    if found.ndim == 4:
        return found[:, channel, y, x]
    if found.ndim == 3:
        _, columns, extra = token_grid(found.shape[1])
        return found[:, int(extra + y * columns + x), channel]
    return found.flatten(1)[:, channel]


def responses_layer(subject: Subject) -> dict[str, Any]:
    """Returns the facts of the layer "responses"."""
    count = len(subject.units)
    facts = {"name": RESPONSES, "kind": type(subject).__name__, "shape": [count], "channels": count}
    return {**facts, "grid": None, "rf": None, "output": True}


def unit_name(subject: Subject, column: int) -> str:
    """Returns what a recorded unit stands for, or else its name; "" where that is but a number."""
    labels = subject.units.coords.get("label", ())
    if len(labels) and labels[column]:
        return str(labels[column])
    name = str(subject.units.neuroid_id[column])
    return "" if name == f"{subject.name}.{column}" else name


def recorded(subject: Subject, stimulus: Stimulus) -> Seen:
    """Asks a subject what it answers; responses in time are a row for each unit."""
    image = from_bytes(stimulus)[None]
    start = time.perf_counter()
    responses = check_responses(subject.record(image), 1, len(subject.units), subject.name)
    ms = 1000 * (time.perf_counter() - start)
    values = np.asarray(responses[0], np.float32)
    maps = values[:, None, :] if values.ndim == 2 else values[:, None, None]
    chances = values.ndim == 1 and values.min() >= 0 and abs(float(values.sum()) - 1) < 1e-3  # else it may be spikes
    return Seen(maps, np.empty((0, len(maps)), np.float32), values if chances else None, ms)


def sight_of(subject: Subject) -> Sight:
    """Returns a subject as it is looked at."""
    if "torch" in sys.modules:  # without it there is no network
        from closedloop.subjects import TorchSubject

        if isinstance(inner_of(subject), TorchSubject):
            return NetworkSight(subject)
    return BoxSight(subject)
