"""A network in an ONNX file as a subject, run by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from closedloop.checks import check_images
from closedloop.errors import InvalidArgumentError, UnknownNameError, WeightsError, closest
from closedloop.images import resize_images
from closedloop.interfaces import FloatArray, Units

from .probe import OUTPUT
from .units import LayerShape, UnitIndex, UnitSpec, parse_units


@final
class OnnxSubject:
    """Records tensors of an ONNX graph that takes images ``(n, 3, h, w)``.

    Args:
        path: The file.
        layer: Name of a tensor in the graph, or "output" for the graph's first output.
        units: Units of the layer; see `closedloop.subjects.units`.
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
        entry = self._session.get_inputs()[0]
        if len(entry.shape) != 4 or entry.shape[1] not in (3, None) and not isinstance(entry.shape[1], str):
            raise InvalidArgumentError(f"onnx: expected an input (n, 3, h, w) in {path}, got {entry.shape}.")
        declared = entry.shape[2] if isinstance(entry.shape[2], int) else 224
        self.resolution = int(resolution or declared)
        self._batch = entry.shape[0] if isinstance(entry.shape[0], int) else None
        self._entry = entry.name
        self._mean = np.asarray(mean, np.float32).reshape(3, 1, 1)
        self._std = np.asarray(std, np.float32).reshape(3, 1, 1)
        sample = self._run(np.zeros((1, 3, self.resolution, self.resolution), np.float32))
        shape = LayerShape(layer, sample.shape[1:])
        self._indices = parse_units(units, shape, seed)
        self._options = {
            "layer": layer, "units": units, "resolution": self.resolution, "mean": tuple(mean), "std": tuple(std),
            "seed": seed,
        }  # fmt: skip
        self.units = self._describe(layer, self._indices)

    def _describe(self, layer: str, indices: list[UnitIndex]) -> Units:
        ids = tuple(
            f"{self.name}.{layer}.{u.channel}" + ("" if u.position == "none" else f"@{u.y},{u.x}") for u in indices
        )
        columns: dict[str, tuple[Any, ...]] = {"layer": (layer,) * len(ids)}
        for field in ("channel", "y", "x", "position"):
            columns[field] = tuple(getattr(u, field) for u in indices)
        return Units(ids, columns)

    @property
    def recipe(self) -> Mapping[str, Any]:
        """How `load_subject` makes it again."""
        return {"name": f"onnx:{self._path.resolve()}", **self._options}

    def record(self, images: NDArray[np.float32]) -> FloatArray:
        """Images ``(n, 3, h, w)``, RGB in [0, 1] -> responses ``(n, units)`` float32."""
        images = (resize_images(check_images(images), self.resolution) - self._mean) / self._std
        flat = [u.flat for u in self._indices]
        size = self._batch or 32
        parts = [self._run(images[i : i + size]).reshape(-1, *self._flat)[:, flat] for i in range(0, len(images), size)]
        return np.concatenate(parts) if parts else np.empty((0, len(flat)), np.float32)

    @property
    def _flat(self) -> tuple[int]:
        return (self._length,)

    def _run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Output for normalized images; a graph with a fixed batch is filled up."""
        count = len(images)
        if self._batch and count < self._batch:
            images = np.concatenate([images, np.repeat(images[-1:], self._batch - count, 0)])
        output: NDArray[np.float32] = self._session.run(None, {self._entry: np.ascontiguousarray(images)})[0][:count]
        self._length = int(np.prod(output.shape[1:]))
        return output


def _session(path: Path, layer: str) -> Any:
    """A session whose only output is the wanted tensor; what it does not need falls away."""
    import onnx
    import onnxruntime

    if not path.is_file():
        raise WeightsError(f"onnx: expected a file, got {path}, which does not exist.")
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except Exception as error:
        raise WeightsError(f"onnx: cannot read {path} as an ONNX model ({type(error).__name__}: {error}).") from error
    tensors = [name for node in model.graph.node for name in node.output]
    wanted = model.graph.output[0].name if layer == OUTPUT else layer
    if wanted not in tensors:
        raise UnknownNameError(f"layer: no tensor {layer!r} in {path}.{closest(layer, [OUTPUT, *tensors])}")
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(wanted))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
