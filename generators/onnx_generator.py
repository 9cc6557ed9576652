"""A generator in an ONNX file, run by ONNX Runtime: a format that any framework writes and that holds no code."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from closedloop.errors import InvalidArgumentError, WeightsError, reason, require
from closedloop.images.resizing import resize_images
from closedloop.interfaces import FloatArray, Space
from closedloop.networks.sessions import session_options
from closedloop.readable import ReadableGenerator

from .pixels import check_resolution
from .raw_images import check_range, check_raw_images, probe_codes

#: The entry in the file's metadata in which `TorchGenerator.save` leaves name and space.
METADATA = "closedloop.generator"
#: Codes that are decoded together.
BATCH = 16
#: Element types of an input, by their names in ONNX Runtime.
TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64"}


@final
class OnnxGenerator(ReadableGenerator):
    """Images of an ONNX graph from codes ``(n, …)`` to ``(n, 3, s, s)`` or ``(n, 1, s, s)``.

    A file that `TorchGenerator.save` wrote says all by itself; for others, give what the codes and values are. Torch's
    own archives (``.pt2``, ``.pt``) are refused: reading them can run code that they hold. Not differentiable.

    Args:
        path: The file.
        dim: Length of a code; None for what the file says.
        scale: Standard deviation of the prior N(0, scale²) on each coordinate.
        low: Lower bound of each coordinate, with `high`; None where there is none. The prior is then uniform.
        high: Upper bound.
        output_range: The graph's values for black and for white.
        resolution: Height and width of the images; None for what the graph makes. Others are resized.

    Raises:
        WeightsError: The file cannot be read as an ONNX model.
        InvalidArgumentError: The graph does not map such codes to images.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        dim: int | None = None,
        scale: float | None = None,
        low: float | None = None,
        high: float | None = None,
        output_range: Sequence[float] | None = None,
        resolution: int | None = None,
    ) -> None:
        self._path = Path(path)
        self._session = _session(self._path)
        said = _metadata(self._session, self._path)
        self.name: str = str(said.get("name", self._path.stem))
        given = {k: v for k, v in {"dim": dim, "scale": scale, "low": low, "high": high}.items() if v is not None}
        declared = {**said.get("space", {}), **given}
        self._entry, self._type, self._batch, self._shape = _entry(self._session, self._path, declared.get("dim"))
        self.space: Space = Space(**{**declared, "dim": int(np.prod(self._shape))})
        raw = self._run(probe_codes(self.space))
        size = check_raw_images(raw, self._run(probe_codes(self.space)[-1:]))
        if output_range is None:
            output_range = (0.0, 1.0) if said else (-1.0, 1.0)
        self._low, self._high = check_range(raw, output_range)
        self.resolution: int = size if resolution is None else check_resolution(resolution)
        self._given = {**given, "output_range": [self._low, self._high], "resolution": self.resolution}

    @property
    def recipe(self) -> Mapping[str, Any]:
        """How `load_generator` makes it again."""
        return {"name": f"onnx:{self._path.resolve()}", **self._given}

    def __call__(self, codes: FloatArray) -> NDArray[np.float32]:
        """Turns codes ``(n, dim)`` into images ``(n, 3, h, w)`` float32, RGB in [0, 1]."""
        codes = self.space.check(codes)
        images = np.empty((len(codes), 3, self.resolution, self.resolution), np.float32)
        for i in range(0, len(codes), BATCH):
            raw = (self._run(codes[i : i + BATCH]) - self._low) / (self._high - self._low)
            images[i : i + BATCH] = resize_images(np.clip(raw, 0, 1).astype(np.float32), self.resolution)
        return images

    def _run(self, codes: FloatArray) -> NDArray[Any]:
        """Returns the graph's values for some codes; the batch of a graph that fixes it is filled up."""
        size = self._batch or len(codes)
        parts = []
        for i in range(0, len(codes), size):
            batch = codes[i : i + size]
            filled = np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), 0)])
            inputs = filled.reshape(size, *self._shape).astype(self._type)
            try:
                parts.append(self._session.run(None, {self._entry: inputs})[0][: len(batch)])
            except Exception as error:
                raise InvalidArgumentError(
                    f"onnx: {self._path} cannot be run on codes of length {self.space.dim} ({reason(error)})."
                ) from error
        return np.concatenate(parts)


def _session(path: Path) -> Any:
    if path.suffix in (".pt2", ".pt", ".pth"):
        raise WeightsError(
            f"onnx: {path} is a torch archive, which can hold code that runs when it is read, and is refused. Write "
            "an ONNX file with TorchGenerator.save(FILE), or build the module in Python and wrap it in TorchGenerator."
        )
    if not path.is_file():
        raise WeightsError(
            f"onnx: expected a file, got {path}, which {'is a folder' if path.is_dir() else 'does not exist'}."
        )
    onnxruntime = require("onnxruntime", "networks", "generator 'onnx'")
    options = session_options()
    try:
        return onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    except Exception as error:
        raise WeightsError(f"onnx: cannot read {path} as an ONNX model ({reason(error)}).") from error


def _metadata(session: Any, path: Path) -> dict[str, Any]:
    """Returns name and space, where the file says them."""
    text = session.get_modelmeta().custom_metadata_map.get(METADATA)
    try:
        said = {} if text is None else json.loads(text)
        if not said:
            return {}
        space = {k: said["space"][k] for k in ("dim", "low", "high", "scale") if k in said["space"]}
        return {"name": said["name"], "space": space}
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"onnx: {path} names its codes in a way that cannot be read ({reason(error)}).") from error


def _entry(session: Any, path: Path, dim: int | None) -> tuple[str, str, int | None, tuple[int, ...]]:
    """Returns name, element type, fixed batch size (None where free) and shape of one code of the graph's input."""
    entries = session.get_inputs()
    found = ", ".join(f"{e.name} {e.shape} {e.type}" for e in entries)
    if len(entries) != 1 or len(entries[0].shape) < 2 or entries[0].type not in TYPES:
        raise InvalidArgumentError(f"onnx: expected one floating-point input of codes (n, …) in {path}, got {found}.")
    batch, *shape = (size if isinstance(size, int) else None for size in entries[0].shape)
    sizes = [dim] if shape == [None] else shape
    known = tuple(size for size in sizes if size is not None)
    if len(known) != len(sizes) or (dim is not None and dim != int(np.prod(known))):
        raise InvalidArgumentError(f"dim: expected the length of the codes of {path}, which takes {found}, got {dim}.")
    return entries[0].name, TYPES[entries[0].type], batch, known
