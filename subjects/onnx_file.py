"""A network in an ONNX file as a subject, run by ONNX Runtime."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from closedloop.checks import check_images
from closedloop.errors import (
    CompanyWarning,
    InvalidArgumentError,
    SubjectError,
    SubjectWarning,
    UnknownNameError,
    WeightsError,
    closest,
    reason,
    require,
)
from closedloop.images.resizing import resize_images
from closedloop.interfaces import FloatArray, Units
from closedloop.networks.sessions import session_options
from closedloop.objectives.naming_units import UnitSpec, units_text
from closedloop.readable import ReadableSubject
from closedloop.seeds import named_generator

from .options import OUTPUT, check_colors, check_resolution
from .units import LayerShape, UnitIndex, parse_units

#: Images shown together to a graph with a free batch axis.
BATCH = 32
#: Element types of an input, by their names in ONNX Runtime.
TYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
}


@dataclass(frozen=True)
class Entry:
    """What a graph takes.

    Attributes:
        name: Of its input.
        kind: Element type, by its name in numpy; "uint8" takes 0 to 255.
        batch: How many images it takes at a time; None for any number.
        resolution: Their height and width in pixels; None for any.
        last: Whether colours are the last axis, ``(n, h, w, 3)``; None where the graph does not say.
    """

    name: str
    kind: str
    batch: int | None
    resolution: int | None
    last: bool | None


@final
class OnnxSubject(ReadableSubject):
    """Records tensors of an ONNX graph that takes images ``(n, 3, h, w)`` or ``(n, h, w, 3)``, of floats or bytes.

    A graph whose answer to an image depends on the images beside it is shown one image at a time, with a
    `CompanyWarning`.

    Args:
        path: The file.
        layer: Name of a tensor in the graph, or "output" for the graph's first output.
        units: Units of the layer; see `closedloop.objectives.naming_units`.
        resolution: Height and width; None for what the graph declares (224 where it declares none).
        mean: Mean of each colour channel (RGB, images in [0, 1]) that is subtracted; the default leaves images as
            they are.
        std: Standard deviation that divides.
        name: For records; default the file's name.
        seed: Draws the units of ``"random:N"``.

    Raises:
        WeightsError: The file cannot be read as an ONNX model.
        UnknownNameError: No such tensor.
    """

    engine = "onnx"

    def __init__(
        self,
        path: str | Path,
        *,
        layer: str = OUTPUT,
        units: UnitSpec = "all",
        resolution: int | None = None,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
        name: str | None = None,
        seed: int = 0,
    ) -> None:
        self._path = Path(path)
        self.name: str = name or self._path.stem
        self._session, self._beside = _session(self._path, layer)
        self._entry = _entry(self._session, self._path)
        declared = self._entry.resolution
        self.resolution: int = check_resolution(resolution or declared or 224)
        if declared and self.resolution != declared:
            raise InvalidArgumentError(f"resolution: {path} takes images of {declared} pixels, got {resolution}.")
        self._mean = np.array(check_colors("mean", mean), np.float32).reshape(3, 1, 1)
        self._std = np.array(check_colors("std", std), np.float32).reshape(3, 1, 1)
        if self._entry.kind == "uint8" and (self._mean.any() or (self._std != 1).any()):
            raise InvalidArgumentError(f"mean, std: {path} takes images as bytes, 0 to 255; leave both out.")
        self._single = False
        self._indices = parse_units(units, self._survey(layer), seed)
        self._options = {
            "layer": layer,
            "units": units_text(units),
            "resolution": self.resolution,
            "mean": list(map(float, mean)),
            "std": list(map(float, std)),
            "seed": seed,
        }
        self.units: Units = self._describe(layer, self._indices)

    def _survey(self, layer: str) -> LayerShape:
        """Returns the layer's shape for one image; finds out the order of the axes, and what depends on company."""
        size = self.resolution
        pair = named_generator(0, "probe").random((2, 3, size, size), np.float32)
        orders = [False, True] if self._entry.last is None else [self._entry.last]
        for last in orders:
            self._last = last
            try:
                alone = [self._run(image[None]) for image in pair]
                break
            except Exception as error:
                if last == orders[-1]:
                    raise InvalidArgumentError(
                        f"onnx: {self._path} cannot be run on an RGB image of {size} x {size} pixels "
                        f"({reason(error)}). Give the resolution it was made for; a file for more images than one is "
                        "exported again with a free batch axis."
                    ) from error
        sample, rows = alone[0], self._entry.batch or 1
        if not isinstance(sample, np.ndarray) or sample.ndim < 1 or sample.dtype.kind not in "fiub":
            raise InvalidArgumentError(f"layer: {layer!r} is not a tensor with a batch axis in {self._path}.")
        if len(sample) != rows:
            raise InvalidArgumentError(
                f"layer: {layer!r} is not a tensor with a batch axis in {self._path}: its shape is {sample.shape} for "
                f"{rows} image{'s' * (rows > 1)}."
            )
        self._company(pair, np.stack([row[0] for row in alone]))
        if not np.array_equal(sample, self._run(pair[:1]), equal_nan=True):
            warnings.warn(
                f"onnx: {self._path} answers the same image in another way when it is asked again: it draws random "
                "numbers, or keeps a state. Each presentation counts as one of a noisy subject, and a run that was "
                "interrupted does not go on as it would have done.",
                SubjectWarning,
                stacklevel=4,
            )
        return LayerShape(layer, sample.shape[1:])

    def _company(self, pair: NDArray[np.float32], alone: NDArray[Any]) -> None:
        """Looks whether two images together are answered as each of them alone, ``(2, …)``."""
        if self._entry.batch == 1:
            return
        try:
            together = self._run(pair)[:2]
            why = f"it returns {len(together)} row for 2" if len(together) != 2 else self._apart(pair, together, alone)
        except Exception as error:  # noqa: BLE001 - ONNX Runtime has errors of its own
            why = f"it takes one at a time ({reason(error)})"
        if why:
            self._single = True
            warnings.warn(
                f"onnx: the answer of {self._path} to one of the images depends on those beside it: {why}. Each is "
                "shown alone, which takes longer, so that an answer is that to its image; an export with a free batch "
                "axis may be without it.",
                CompanyWarning,
                stacklevel=4,
            )

    def _apart(self, pair: NDArray[np.float32], together: NDArray[Any], alone: NDArray[Any]) -> str:
        """Says how far rows are from those of their images alone; "" for rounding, and for random numbers."""
        given, own = (np.nan_to_num(rows.astype(float)).reshape(2, -1) for rows in (together, alone))
        scale = np.abs(own).max(0)
        apart = float((np.abs(given - own).max(0) / np.maximum(scale, max(scale.max() / 20, 1e-12))).max())
        # So much comes of rounding, relative to a unit's largest.
        most = 1e-3 if together.dtype != np.float16 else 16 * float(np.finfo(np.float16).eps)
        if apart <= most or not np.array_equal(together, self._run(pair)[:2], equal_nan=True):
            return ""
        return f"alone and together its answers differ by {apart:.1e} of a unit's largest"

    def _describe(self, layer: str, indices: list[UnitIndex]) -> Units:
        columns: dict[str, tuple[Any, ...]] = {"layer": (layer,) * len(indices)}
        for field in ("channel", "y", "x", "position"):
            columns[field] = tuple(getattr(u, field) for u in indices)
        return Units(tuple(f"{self.name}.{layer}.{u.name}" for u in indices), columns)

    @property
    def recipe(self) -> Mapping[str, Any]:
        """How `load_subject` makes it again."""
        return {"name": f"onnx:{self._path.resolve()}", **self._options}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the file, of the files beside it that hold its weights, and of what is recorded of it."""
        whole = hashlib.sha256(json.dumps(self._options, sort_keys=True).encode())
        for path in (self._path, *self._beside):
            whole.update(hashlib.sha256(path.read_bytes()).digest())
        return whole.hexdigest()

    def record(self, images: NDArray[np.float32]) -> FloatArray:
        """Turns images ``(n, 3, h, w)``, RGB in [0, 1], into responses ``(n, units)`` float32."""
        images = (resize_images(check_images(images), self.resolution) - self._mean) / self._std
        flat = [u.flat for u in self._indices]
        size = 1 if self._single else self._entry.batch or BATCH
        responses = np.empty((len(images), len(flat)), np.float32)
        for i in range(0, len(images), size):
            shown = images[i : i + size]
            output = self._run(shown)
            if len(output) != (self._entry.batch or len(shown)):
                raise SubjectError(
                    f"subject {self.name!r}: expected a row for each of {len(shown)} images, got {len(output)}; the "
                    "graph mixes the images of a batch."
                )
            responses[i : i + size] = output.reshape(len(output), -1)[: len(shown), flat]
        return responses

    def _run(self, images: NDArray[np.float32]) -> NDArray[Any]:
        """Runs at most a batch of normalized images; the batch of a graph that fixes it is filled up."""
        if self._entry.batch:
            images = np.concatenate([images, np.repeat(images[-1:], self._entry.batch - len(images), 0)])
        if self._last:
            images = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
        if self._entry.kind == "uint8":
            images = np.rint(255 * images)
        output: NDArray[Any] = self._session.run(None, {self._entry.name: images.astype(self._entry.kind)})[0]
        return output


def _entry(session: Any, path: Path) -> Entry:
    """Returns what a graph takes, as far as it says so.

    Raises:
        InvalidArgumentError: It takes something else than RGB images.
    """
    entries = session.get_inputs()
    found = ", ".join(f"{e.name} {e.shape} {e.type}" for e in entries)
    if len(entries) != 1 or len(entries[0].shape) != 4 or entries[0].type not in TYPES:
        raise InvalidArgumentError(
            f"onnx: expected one input of images (n, 3, h, w) or (n, h, w, 3), floats or bytes, in {path}, got {found}."
        )
    sizes = [size if isinstance(size, int) and size > 0 else None for size in entries[0].shape]
    last = _colors_last(entries[0].shape, sizes)
    batch, colors, height, width = [sizes[i] for i in (0, 3, 1, 2)] if last else sizes
    if colors not in (3, None) or (height and width and height != width):
        raise InvalidArgumentError(
            f"onnx: expected square RGB images (n, 3, h, w) or (n, h, w, 3) in {path}, got {found}; wrap a network for "
            "other images in one that converts them."
        )
    return Entry(entries[0].name, TYPES[entries[0].type], batch, height or width, last)


def _colors_last(names: Sequence[Any], sizes: Sequence[int | None]) -> bool | None:
    """Tells whether the last of four axes is that of colours, by size, or else by the axes' names; None if unknown."""
    if 3 in (sizes[1], sizes[3]):
        return sizes[1] != 3
    if sizes[1] is not None or sizes[3] is not None:
        return False
    first, last = (str(names[i]).lower()[:1] == "c" for i in (1, 3))
    return last if first != last else None


def _session(path: Path, layer: str) -> tuple[Any, list[Path]]:
    """Opens a session whose only output is the wanted tensor, and finds the files beside the model with its weights.

    What the output does not need falls away.
    """
    onnx = require("onnx", "networks", "subject 'onnx'")
    onnxruntime = require("onnxruntime", "networks", "subject 'onnx'")

    if not path.is_file():
        raise WeightsError(
            f"onnx: expected a file, got {path}, which {'is a folder' if path.is_dir() else 'does not exist'}."
        )
    try:
        model = onnx.load(path, load_external_data=False)
        beside = _files_beside(model, path)
        onnx.load_external_data_for_model(model, str(path.parent))
    except Exception as error:
        raise WeightsError(f"onnx: cannot read {path} as an ONNX model ({reason(error)}).") from error
    tensors = [name for node in model.graph.node for name in node.output if name]
    if not tensors or not model.graph.output:
        raise WeightsError(f"onnx: cannot read {path} as an ONNX model (it computes nothing).")
    if any(node.op_type == "BatchNormalization" and _is_training(node) for node in model.graph.node):
        raise InvalidArgumentError(
            f"onnx: {path} was exported while it was trained: its batch normalization answers by the images that are "
            "shown together. Export it after model.eval()."
        )
    wanted = model.graph.output[0].name if layer == OUTPUT else layer
    if layer == OUTPUT != wanted and OUTPUT in tensors:
        raise InvalidArgumentError(
            f"layer: {OUTPUT!r} stands for the first output of {path}, {wanted!r}, and another tensor has that name; "
            f"give {wanted!r}, or rename the tensor."
        )
    if wanted not in tensors:
        raise UnknownNameError(f"layer: no tensor {layer!r} in {path}.{closest(layer, [OUTPUT, *tensors])}")
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(wanted))
    options = session_options(int(os.environ.get("OMP_NUM_THREADS") or 0))
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    except Exception as error:
        raise WeightsError(f"onnx: ONNX Runtime cannot run {path} ({reason(error)}).") from error
    return session, beside


def _files_beside(model: Any, path: Path) -> list[Path]:
    """Returns the files that hold weights of a model, in the order of their names."""
    entries = [entry for tensor in model.graph.initializer for entry in tensor.external_data]
    return [path.parent / name for name in sorted({entry.value for entry in entries if entry.key == "location"})]


def _is_training(node: Any) -> bool:
    """Tells whether a node of an ONNX graph computes as in training."""
    return any(attribute.name == "training_mode" and attribute.i for attribute in node.attribute)
