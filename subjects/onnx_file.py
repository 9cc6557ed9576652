"""A network in an ONNX file as a subject, run by ONNX Runtime."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from closedloop.checks import check_images
from closedloop.errors import InvalidArgumentError, UnknownNameError, WeightsError, closest, reason, require
from closedloop.images.resizing import resize_images
from closedloop.interfaces import FloatArray, Units
from closedloop.objectives.naming_units import UnitSpec, units_text

from .options import OUTPUT, check_colors, check_resolution
from .units import LayerShape, UnitIndex, parse_units

#: Images shown together to a graph with a free batch axis.
BATCH = 32
#: Element types of an input, by their names in ONNX Runtime.
TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64"}


@final
class OnnxSubject:
    """Records tensors of an ONNX graph that takes images ``(n, 3, h, w)``.

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
        self.name = name or self._path.stem
        self._session = _session(self._path, layer)
        self._entry, self._type, self._batch, declared = _entry(self._session, self._path)
        self.resolution = check_resolution(resolution or declared or 224)
        if declared and self.resolution != declared:
            raise InvalidArgumentError(f"resolution: {path} takes images of {declared} pixels, got {resolution}.")
        self._mean = np.array(check_colors("mean", mean), np.float32).reshape(3, 1, 1)
        self._std = np.array(check_colors("std", std), np.float32).reshape(3, 1, 1)
        self._indices = parse_units(units, self._survey(layer), seed)
        self._options = {
            "layer": layer,
            "units": units_text(units),
            "resolution": self.resolution,
            "mean": list(map(float, mean)),
            "std": list(map(float, std)),
            "seed": seed,
        }
        self.units = self._describe(layer, self._indices)

    def _survey(self, layer: str) -> LayerShape:
        """The shape of the layer for one image."""
        size = self.resolution
        try:
            sample = self._run(np.zeros((1, 3, size, size), np.float32))
        except Exception as error:
            raise InvalidArgumentError(
                f"onnx: {self._path} cannot be run on an RGB image of {size} x {size} pixels ({reason(error)}). Give "
                "the resolution it was made for."
            ) from error
        if not isinstance(sample, np.ndarray) or sample.ndim < 1 or len(sample) != (self._batch or 1):
            raise InvalidArgumentError(f"layer: {layer!r} is not a tensor with a batch axis in {self._path}.")
        return LayerShape(layer, sample.shape[1:])

    def _describe(self, layer: str, indices: list[UnitIndex]) -> Units:
        columns: dict[str, tuple[Any, ...]] = {"layer": (layer,) * len(indices)}
        for field in ("channel", "y", "x", "position"):
            columns[field] = tuple(getattr(u, field) for u in indices)
        return Units(tuple(f"{self.name}.{layer}.{u.name}" for u in indices), columns)

    @property
    def recipe(self) -> Mapping[str, Any]:
        """How `load_subject` makes it again."""
        return {"name": f"onnx:{self._path.resolve()}", **self._options}

    def record(self, images: NDArray[np.float32]) -> FloatArray:
        """Images ``(n, 3, h, w)``, RGB in [0, 1] -> responses ``(n, units)`` float32."""
        images = (resize_images(check_images(images), self.resolution) - self._mean) / self._std
        flat = [u.flat for u in self._indices]
        size = self._batch or BATCH
        responses = np.empty((len(images), len(flat)), np.float32)
        for i in range(0, len(images), size):
            output = self._run(images[i : i + size])
            responses[i : i + size] = output.reshape(len(output), -1)[: len(images) - i, flat]
        return responses

    def _run(self, images: NDArray[np.float32]) -> NDArray[Any]:
        """Output for at most a batch of normalized images; the batch of a graph that fixes it is filled up."""
        if self._batch:
            images = np.concatenate([images, np.repeat(images[-1:], self._batch - len(images), 0)])
        output: NDArray[Any] = self._session.run(None, {self._entry: images.astype(self._type)})[0]
        return output


def _entry(session: Any, path: Path) -> tuple[str, str, int | None, int | None]:
    """Name, element type, fixed batch size and fixed resolution of a graph's input; None where they are free."""
    entries = session.get_inputs()
    found = ", ".join(f"{e.name} {e.shape} {e.type}" for e in entries)
    if len(entries) != 1 or len(entries[0].shape) != 4 or entries[0].type not in TYPES:
        raise InvalidArgumentError(f"onnx: expected one floating-point input (n, 3, h, w) in {path}, got {found}.")
    batch, colors, height, width = (size if isinstance(size, int) else None for size in entries[0].shape)
    if colors not in (3, None) or (height and width and height != width):
        raise InvalidArgumentError(f"onnx: expected square RGB images (n, 3, h, w) in {path}, got {found}.")
    return entries[0].name, TYPES[entries[0].type], batch, height or width


def _session(path: Path, layer: str) -> Any:
    """A session whose only output is the wanted tensor; what it does not need falls away."""
    onnx = require("onnx", "networks", "subject 'onnx'")
    onnxruntime = require("onnxruntime", "networks", "subject 'onnx'")

    if not path.is_file():
        raise WeightsError(
            f"onnx: expected a file, got {path}, which {'is a folder' if path.is_dir() else 'does not exist'}."
        )
    try:
        model = onnx.load(path)
    except Exception as error:
        raise WeightsError(f"onnx: cannot read {path} as an ONNX model ({reason(error)}).") from error
    tensors = [name for node in model.graph.node for name in node.output if name]
    if not tensors or not model.graph.output:
        raise WeightsError(f"onnx: cannot read {path} as an ONNX model (it computes nothing).")
    wanted = model.graph.output[0].name if layer == OUTPUT else layer
    if wanted not in tensors:
        raise UnknownNameError(f"layer: no tensor {layer!r} in {path}.{closest(layer, [OUTPUT, *tensors])}")
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(wanted))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS") or 0)  # 0: one for each core
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    except Exception as error:
        raise WeightsError(f"onnx: ONNX Runtime cannot run {path} ({reason(error)}).") from error
