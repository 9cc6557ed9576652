"""Any torch network as a subject."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from itertools import chain
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from closedloop.arrays import LateColumns
from closedloop.checks import check_images
from closedloop.errors import InvalidArgumentError, SubjectError, reason
from closedloop.images.resizing import resize_images, resize_matrix
from closedloop.interfaces import FloatArray, State, Subject, Units
from closedloop.loop.parts import SubjectPart, UnitPart
from closedloop.networks.engines import PARITY, OneByOne, build_engine, parity, probe_batch
from closedloop.networks.modules import as_network, dtype_of, same_buffers, undisturbed
from closedloop.networks.resampling import resampled
from closedloop.networks.weights import weights_sha256
from closedloop.objectives.naming_units import UnitSpec, units_text
from closedloop.readable import ReadableSubject
from closedloop.seeds import torch_seed

from .folding import folded, version
from .narrowed import Narrowed, window
from .opened import OpenedNetwork
from .options import OUTPUT, check_colors, check_resolution
from .probe import Probe, absent, called, check_one_call, find_layer, survey
from .receptive import ReceptiveField, computed_fields, measured_field
from .receptive_cache import kept_fields, network_key
from .units import LayerShape, UnitIndex, parse_units

#: Memory that the activations of one chunk of images may take on a CPU, in bytes.
MEMORY = 2**30
#: The columns of a receptive field: first row and column, one past the last, and how it was found.
FIELD_COLUMNS = ("rf_y0", "rf_x0", "rf_y1", "rf_x1", "rf_method")


@final
class TorchSubject(ReadableSubject):
    """Records units of a torch network.

    Images of another size are resized (bilinear, antialiased) to `resolution`, then normalized by `mean` and `std`.
    The network is run in evaluation mode, in the floating-point type of its weights, and left exactly as it was found:
    modes, buffers, gradients, hooks, and torch's global random state. A network that draws torch's random numbers draws
    them from a stream of the subject's own. After training it further, make another subject: ONNX Runtime has
    the weights that it was made with. A network whose answer to an image depends on the images beside it is shown one
    image at a time, with a `CompanyWarning`.

    Args:
        model: The network, from normalized images ``(n, 3, h, w)`` to anything. A network within ``torch.compile`` or
            `DataParallel` is taken out of it; of TorchScript and exported programs "output" alone can be recorded.
        layer: Name of a module (see ``dict(model.named_modules())``), several names, or "output" for what the network
            returns. Of a module that runs more than once for an image the last time is meant; ``"layer1.0.relu#1"`` is
            its first.
        units: Units of the layer in the language of `closedloop.objectives.naming_units`; for several layers, one
            specification for all or a mapping from layer to specification.
        resolution: Height and width of the network's input in pixels.
        mean: Mean of each colour channel (RGB, images in [0, 1]) that is subtracted.
        std: Standard deviation of each colour channel that divides.
        device: Where to run, and where the network is moved to; None for where its weights are.
        engine: "auto", "eager", "compile" or "onnx"; see `closedloop.networks.engines`.
        autocast: Half precision on a GPU.
        name: For records; default the class of the network.
        labels: Names of the units of the layer "output".
        seed: Draws the units of ``"random:N"`` and feeds networks that are random themselves.
        recipe: How `load_subject` makes it again; set by `load_subject`.

    Raises:
        UnknownNameError: No such layer.
        InvalidArgumentError: A unit is out of range, or another argument does not fit.
    """

    def __init__(
        self,
        model: nn.Module | torch.export.ExportedProgram,
        *,
        layer: str | Sequence[str] = OUTPUT,
        units: UnitSpec | Mapping[str, UnitSpec] = UnitPart.units,
        resolution: int = 224,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
        device: str | torch.device | None = None,
        engine: str = SubjectPart.engine,
        autocast: bool = False,
        name: str | None = None,
        labels: Sequence[str] | None = None,
        seed: int = 0,
        recipe: Mapping[str, Any] | None = None,
    ) -> None:
        network = as_network(model)
        self.model: nn.Module = network
        self.name: str = name or type(network).__name__
        self.resolution: int = check_resolution(resolution)
        self._device = _placed(network, device)
        self._mean, self._std = check_colors("mean", mean), check_colors("std", std)
        self._labels, self._seed = labels, seed
        self._layers = _check_layers(network, layer, wrapped=network is not model)
        self._shapes, self._calls, self._bytes, company = self._survey()
        self._indices = self._parse(units, seed)
        picks = [torch.tensor([u.flat for u in i], device=self._device) for i in self._indices]
        self._probe = Probe(network, self._layers, self._mean, self._std, picks, self._calls).to(self._device)
        self._random = torch.Generator().manual_seed(torch_seed(seed)).get_state()
        self._quick: tuple[Any, tuple[Probe, torch.memory_format | None]] | None = None
        with undisturbed(network):
            self._engine = build_engine(
                engine,
                self._probe,
                probe_batch(self.resolution),
                input_name="images",
                widths=self._probe.widths,
                device=self._device,
                autocast=autocast,
                company=company,
            )
        self._recipe = dict(recipe) if recipe is not None else None

    def _survey(self) -> tuple[list[LayerShape], dict[str, int], int, str]:
        """Returns recorded layers' shapes, how often each is called, bytes of activations for one image, and company.

        The last is why answers depend on the images beside them, as far as that can be told from the network's parts.
        """
        size = (self.resolution, self.resolution)
        example = torch.zeros(1, 3, *size, device=self._device, dtype=dtype_of(self.model))
        why: dict[str, str] = {}
        try:
            found = survey(self.model, example, why)
        except Exception as error:
            raise InvalidArgumentError(
                f"model: it cannot be run on an RGB image of {size[0]} x {size[1]} pixels ({reason(error)}). Give the "
                "resolution it was made for; wrap a network for other images in a module that converts them; export "
                "one that was exported for more images than one with a free batch axis."
            ) from error
        for name in self._layers:
            if name != OUTPUT:
                base = name if name in found else name.rpartition("#")[0]
                check_one_call(self.model, name, found[base][1] if base in found else 1)
                if name != base in found:
                    raise InvalidArgumentError(f"layer: {name!r}: {base!r} is called once; name it {base!r} alone.")
            if name not in found:
                raise InvalidArgumentError(
                    f"layer: {name!r} does not run, or returns no tensor with a batch axis, for an image of "
                    f"{size[0]} x {size[1]} pixels: {absent(self.model, name, why)}"
                )
        largest = max(int(np.prod(shape)) for shape, _ in found.values())
        shapes = [LayerShape(name, found[name][0]) for name in self._layers]
        # About four of the largest activations live at a time.
        needed = 4 * example.element_size() * max(largest, example.numel())
        return (
            shapes,
            {n: found[n][1] for n in self._layers},
            needed,
            _batch_statistics(self.model, found, self._layers),
        )

    def _parse(self, units: UnitSpec | Mapping[str, UnitSpec], seed: int) -> list[list[UnitIndex]]:
        if not isinstance(units, Mapping):
            return [parse_units(units, shape, seed) for shape in self._shapes]
        if set(units) != set(self._layers):
            raise InvalidArgumentError(f"units: expected an entry for each of {self._layers}, got {sorted(units)}.")
        return [parse_units(units[shape.layer], shape, seed) for shape in self._shapes]

    @property
    def torch_device(self) -> str:
        """Where it runs, such as "cpu" or "cuda:0"."""
        return str(self._device)

    @property
    def engine(self) -> str:
        """The engine in use: "eager", "compile" or "onnx"."""
        return self._engine.name

    @property
    def recipe(self) -> Mapping[str, Any] | None:
        """How `load_subject` makes it again, with the engine that was chosen; None for a network built by hand."""
        return None if self._recipe is None else {**self._recipe, "engine": self.engine}

    def at(self, layer: str | Sequence[str], units: UnitSpec | Mapping[str, UnitSpec] = UnitPart.units) -> TorchSubject:
        """Returns the same network, as it stands, as another subject that records other layers and units.

        Raises:
            UnknownNameError: No such layer.
            InvalidArgumentError: A unit is out of range.
        """
        named = layer if isinstance(layer, str) else list(layer)
        known = None if self._recipe is None else {**self._recipe, "layer": named, "units": units_text(units)}
        return TorchSubject(
            self.model,
            layer=layer,
            units=units,
            resolution=self.resolution,
            mean=self._mean,
            std=self._std,
            engine=self.engine,
            name=self.name,
            labels=self._labels,
            seed=self._seed,
            recipe=known,
        )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of what decides its responses: weights, modules, recorded units, size and colours of its input.

        Neither the engine nor the device, which may be others on another computer; nor code, which cannot be told.
        """
        facts = {
            "modules": [(name, type(module).__qualname__) for name, module in self.model.named_modules()],
            "units": [(s.layer, [u.flat for u in i]) for s, i in zip(self._shapes, self._indices, strict=True)],
            "input": [self.resolution, self._mean, self._std],
            "seed": self._seed,
            "weights": self._weights,
        }
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    @cached_property
    def _weights(self) -> str:
        """SHA-256 of the weights, read once."""
        return weights_sha256(self.model.state_dict())

    @cached_property
    def units(self) -> Units:
        """What is recorded: layer, channel, position and label of each unit; its receptive field once asked for."""
        rows = [(shape, unit) for shape, indices in zip(self._shapes, self._indices, strict=True) for unit in indices]
        columns: dict[str, list[Any]] = {
            "layer": [shape.layer for shape, _ in rows],
            "layer_channels": [shape.channels for shape, _ in rows],
            "channel": [u.channel for _, u in rows],
            "y": [u.y for _, u in rows],
            "x": [u.x for _, u in rows],
            "position": [u.position for _, u in rows],
            "label": [self._label(shape.layer, u) for shape, u in rows],
        }
        known = {name: tuple(column) for name, column in columns.items()}
        ids = tuple(f"{self.name}.{shape.layer}.{u.name}" for shape, u in rows)
        return Units(ids, LateColumns(known, FIELD_COLUMNS, self._field_columns))

    def _field_columns(self) -> dict[str, tuple[Any, ...]]:
        """Returns the receptive field of each unit, as columns."""
        size = (self.resolution, self.resolution)
        fields = self.receptive_fields()
        rows = [(field, unit) for field, units in zip(fields, self._indices, strict=True) for unit in units]
        boxes = [(*field.box(max(u.y, 0), max(u.x, 0), size), field.method) for field, u in rows]
        return dict(zip(FIELD_COLUMNS, zip(*boxes, strict=True), strict=True))

    def _label(self, layer: str, unit: UnitIndex) -> str:
        known = layer == OUTPUT and self._labels is not None and unit.channel < len(self._labels)
        return str(self._labels[unit.channel]) if known and self._labels is not None else ""

    def receptive_fields(self, layers: Sequence[str] | None = None) -> list[ReceptiveField]:
        """Returns the receptive field of each layer; the whole image, "unknown", where it cannot be found.

        Finding them takes seconds. Those of a network that was loaded by name are kept in the user's cache directory.

        Args:
            layers: Names; None for the recorded ones.
        """
        names = self._layers if layers is None else [find_layer(self.model, name) for name in layers]
        known = self._recipe
        key = None if known is None else network_key(self.model, known["name"], self.resolution, self._weights)
        return kept_fields(key, names, self._found_fields)

    def _found_fields(self, layers: Sequence[str]) -> list[ReceptiveField]:
        probe = self.probe(layers, self._calls if set(layers) == set(self._calls) else None)
        example = torch.full((1, 3, self.resolution, self.resolution), 0.5, device=self._device)
        with undisturbed(self.model):
            computed = computed_fields(probe, example)
            return [known or _measured(probe, example, i) for i, known in enumerate(computed)]

    def probe(self, layers: Sequence[str], calls: Mapping[str, int] | None = None) -> Probe:
        """Returns the network from images in [0, 1] to the whole outputs of some layers; see `Probe`."""
        return Probe(self.model, layers, self._mean, self._std, calls=calls).to(self._device)

    def undisturbed(self, model: nn.Module | None = None) -> AbstractContextManager[None]:
        """Returns a context in which its network, or a twin of that, runs and is left as it was; see `undisturbed`."""
        return undisturbed(self.model if model is None else model, self._random)

    @property
    def labels(self) -> Sequence[str] | None:
        """Names of the units of the layer "output", where they are known."""
        return self._labels

    def record(self, images: NDArray[np.float32]) -> FloatArray:
        """Turns images ``(n, 3, h, w)``, RGB in [0, 1], into responses ``(n, units)`` float32."""
        images = check_images(images)
        count = len(images)
        if count == 0:
            return np.empty((0, sum(map(len, self._indices))), np.float32)
        chunk = self._chunk()
        with undisturbed(self.model, self._random) if self._engine.runs_torch else nullcontext():
            parts = (resize_images(images[i : i + chunk], self.resolution) for i in range(0, count, chunk))
            return np.concatenate([self._record_chunk(part) for part in parts])

    def _record_chunk(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Records a chunk; halves it when a GPU has no room."""
        try:
            found = self._engine(images)
            if len(found) != len(images):
                raise SubjectError(
                    f"subject {self.name!r}: expected a row for each of {len(images)} images, got {len(found)}; the "
                    "network mixes the images of a batch."
                )
            return found
        except torch.cuda.OutOfMemoryError:
            if len(images) == 1:
                raise
            torch.cuda.empty_cache()
            half = len(images) // 2
            return np.concatenate([self._record_chunk(images[:half]), self._record_chunk(images[half:])])

    def _chunk(self) -> int:
        """Counts the images that fit into memory together; on a CPU the same on every machine, so that runs repeat."""
        memory = torch.cuda.mem_get_info(self._device)[0] // 2 if self._device.type == "cuda" else MEMORY
        return max(1, int(memory // self._bytes))

    def forward(self, x: Tensor) -> Tensor:
        """Turns images ``(n, 3, h, w)`` in [0, 1], on any device, into responses ``(n, units)``, graph kept."""
        x = x.to(self._device)
        if x.shape[2:] != (self.resolution, self.resolution):
            x = resampled(x, *(resize_matrix(side, self.resolution) for side in x.shape[2:]))
        probe, layout = self._for_gradients()
        if layout is not None:
            x = x.contiguous(memory_format=layout)
        self._check_gradient(x)
        with undisturbed(probe.model, self._random):
            if isinstance(self._engine, OneByOne):
                found = torch.cat([_alone(probe, x[i : i + 1]) for i in range(len(x))])
            else:
                found = torch.cat(probe(x), dim=1)
        return found.to(torch.promote_types(found.dtype, torch.float32))

    def _check_gradient(self, x: Tensor) -> None:
        """Raises where a gradient is asked for that a network has none of."""
        quantized = next((m for m in self.model.modules() if ".quantized" in type(m).__module__), None)
        if quantized is not None and x.requires_grad and torch.is_grad_enabled():
            raise InvalidArgumentError(
                f"subject {self.name!r}: it has no gradient, for its network is quantized ({type(quantized).__name__} "
                "rounds to whole numbers); take the network that it was made from."
            )

    def _for_gradients(self) -> tuple[Probe, torch.memory_format | None]:
        """Returns what `forward` runs, the network or its twin, and how pictures lie in memory; new for new weights."""
        now = version(self.model)
        if self._quick is None or self._quick[0] != now:
            self._quick = (now, self._quicker() or (self._probe, None))
        return self._quick[1]

    def _quicker(self) -> tuple[Probe, torch.memory_format | None] | None:
        """Finds the quickest way on a CPU that gives what the network gives; None for the network itself."""
        if self._device.type != "cpu":
            return None
        example = torch.from_numpy(probe_batch(self.resolution)[::4].copy())
        example = example[:1] if isinstance(self._engine, OneByOne) else example
        with undisturbed(self.model, self._random.clone()):
            twin = folded(
                self.model, self._layers, ((example - self._probe.mean) / self._probe.std).to(self._probe.dtype)
            )
        expected = self._once(self._probe, example)
        for probe in [self._probe] if twin is None else [self._probe.of(twin), self._probe]:
            for layout in (torch.channels_last, None):
                try:
                    given = self._once(probe, example if layout is None else example.contiguous(memory_format=layout))
                except RuntimeError:  # such as a `view` that takes the other layout for granted
                    continue
                if torch.allclose(expected, given, rtol=1e-3, atol=1e-4, equal_nan=True):
                    return probe, layout
        return None

    def _once(self, probe: Probe, x: Tensor) -> Tensor:
        """Returns responses to images, always with the same random numbers, without a graph."""
        with undisturbed(probe.model, self._random.clone()), torch.no_grad():
            return torch.cat(probe(x), dim=1)

    def answering(self) -> TorchSubject:
        """Returns the same network with all of its outputs as units: itself, if these are what it records."""
        if self._layers == [OUTPUT] and len(self._indices[0]) == int(np.prod(self._shapes[0].shape)):
            return self
        return TorchSubject(
            self.model,
            resolution=self.resolution,
            mean=self._mean,
            std=self._std,
            engine="eager",
            name=self.name,
            labels=self._labels,
            seed=self._seed,
        )

    def narrowed(self) -> Subject:
        """Returns the same units of the network as it is run on what they see of an image; itself if that is no less.

        Their receptive fields must be computed, not measured, and the responses to probe images alike, in each layer by
        its own measure; silence is no likeness. A network that draws random numbers is itself, and draws none for this.
        """
        places = [[(u.y, u.x) for u in units] for units in self._indices]
        part = None if isinstance(self._engine, OneByOne) else window(self.receptive_fields(), places, self.resolution)
        if part is None:
            return self
        y, x, side = part
        strides = dict(zip(self._layers, (field.stride for field in self.receptive_fields()), strict=True))
        units = {
            layer: [(u.channel, u.y - y // strides[layer][0], u.x - x // strides[layer][1]) for u in some]
            for layer, some in zip(self._layers, self._indices, strict=True)
        }
        try:
            inner = TorchSubject(
                self.model,
                layer=self._layers,
                units=units,
                resolution=side,
                mean=self._mean,
                std=self._std,
                engine=self.engine,
                name=self.name,
                seed=self._seed,
            )
        except InvalidArgumentError:  # such as a head for images of one size, or a position that is not there
            return self
        found, probes, random = Narrowed(self, inner, (y, x)), probe_batch(self.resolution), self._random.clone()
        whole = self.record(probes)
        if not torch.equal(self._random, random):
            self._random = random
            return self
        alike = parity(found.record(probes), whole, self._probe.widths) <= PARITY
        return found if alike and self._all_places_answer(whole) else self

    def _all_places_answer(self, responses: FloatArray) -> bool:
        """Tells whether in each layer a unit at each recorded position answers some images otherwise than others."""
        places = [(i, u.y, u.x) for i, units in enumerate(self._indices) for u in units]
        return {place for place, moved in zip(places, np.ptp(responses, 0) > 0, strict=True) if moved} == set(places)

    def opened(self, layer: str | None = None) -> OpenedNetwork:
        """Opens a layer of the network, and the classes it answers with, to be looked into; see `OpenedNetwork`."""
        input_like = torch.zeros(
            1, 3, self.resolution, self.resolution, device=self._device, dtype=dtype_of(self.model)
        )
        return OpenedNetwork(self.model, layer, input_like, (self._mean, self._std), self._labels, self._random.clone())

    def state(self) -> State:
        """Returns the state of the random stream that a random network draws from."""
        return {"random": self._random.numpy().copy()}

    def restore(self, state: State) -> None:
        """Goes back to a saved state."""
        self._random = torch.from_numpy(np.array(state["random"]))


def _check_layers(model: nn.Module, layer: str | Sequence[str], wrapped: bool = False) -> list[str]:
    """Checks the names of layers, and returns them; an unwrapped network's may begin with the wrapper's."""
    layers = [layer] if isinstance(layer, str) or not isinstance(layer, Iterable) else list(layer)
    if not layers or not all(isinstance(name, str) for name in layers) or len(set(layers)) != len(layers):
        raise InvalidArgumentError(f"layer: expected the names of one or more different layers, got {layers!r:.200}.")
    if wrapped:
        layers = [name.removeprefix("_orig_mod.").removeprefix("module.") for name in layers]
    return [find_layer(model, name) for name in layers]


def _batch_statistics(model: nn.Module, found: Mapping[str, Any], layers: Sequence[str]) -> str:
    """Names the batch norms without statistics of their own that run before the last of some layers; "" for none."""
    order = list(found)
    until = max(order.index(name) for name in layers)
    kinds = {name: model if name == OUTPUT else called(model, name)[0] for name in order[: until + 1]}
    names = [n for n, m in kinds.items() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.running_mean is None]
    if not names:
        return ""
    return f"batch norm {', '.join(map(repr, names[:3]))} has no statistics of its own and takes those of the batch"


def _alone(probe: Probe, image: Tensor) -> Tensor:
    """Returns responses ``(1, units)`` to one image, with the buffers as they were at first."""
    with same_buffers(probe.model):
        return torch.cat(probe(image), dim=1)


def _placed(model: nn.Module, device: str | torch.device | None) -> torch.device:
    """Returns the device of a network, which is moved there if one is asked for."""
    if device is not None:
        try:
            model.to(device)
            return torch.empty(0, device=device).device
        except (RuntimeError, AssertionError) as error:
            raise InvalidArgumentError(f"device: cannot run on {str(device)!r} ({reason(error)}).") from error
    tensor = next(chain(model.parameters(), model.buffers()), None)
    return torch.device("cpu") if tensor is None else tensor.device


def _measured(probe: Probe, example: Tensor, output: int) -> ReceptiveField:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return measured_field(probe, example, output)
    except (InvalidArgumentError, RuntimeError):  # no gradient: the network may round or search, and still be recorded
        return ReceptiveField((example.shape[2], example.shape[3]), (0, 0), (0, 0), "unknown")
