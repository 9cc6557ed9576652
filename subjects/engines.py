"""How a probe is run: eagerly, compiled by torch, or by ONNX Runtime on a graph that ends at the deepest layer.

All give the same responses; on a CPU ONNX Runtime is several times faster. The automatic choice takes the fastest that
agrees with eager torch on a probe batch.
"""

from __future__ import annotations

import io
import logging
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from closedloop.errors import InvalidArgumentError, closest

from .probe import Probe, reason

#: Largest relative difference from eager torch that an engine may show on the probe batch.
PARITY = 1e-3
#: Images in the probe batch.
PROBE_BATCH = 8


class EngineWarning(UserWarning):
    """A fast engine could not be used; responses are recorded by a slower one."""


class Engine(Protocol):
    """Runs a probe on images."""

    name: str

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Images ``(n, 3, h, w)`` float32 in [0, 1] -> responses ``(n, units)`` float32."""
        ...


@final
class Eager:
    """Plain torch."""

    name = "eager"

    def __init__(self, probe: Probe, device: torch.device, autocast: bool = False) -> None:
        self._probe, self._device, self._autocast = probe, device, autocast

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Engine`."""
        batch = torch.from_numpy(np.ascontiguousarray(images)).to(self._device)
        if self._device.type == "cuda":
            batch = batch.contiguous(memory_format=torch.channels_last)
        with torch.no_grad(), torch.autocast(self._device.type, enabled=self._autocast and batch.is_cuda):
            responses = torch.cat(self._probe(batch), dim=1)
        return responses.float().cpu().numpy()


@final
class Compiled:
    """The probe's exported graph through ``torch.compile``. Compiling takes a minute; worth it for long runs."""

    name = "compile"

    def __init__(self, probe: Probe, device: torch.device, example: Tensor) -> None:
        batch = torch.export.Dim("batch", min=2)
        program = torch.export.export(probe, (example,), dynamic_shapes={"images": {0: batch}}, strict=False)
        self._run = torch.compile(program.module(), dynamic=True)
        self._device = device

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Engine`."""
        single = len(images) == 1
        batch = torch.from_numpy(np.ascontiguousarray(np.repeat(images, 2, 0) if single else images)).to(self._device)
        with torch.no_grad():
            responses = torch.cat(self._run(batch), dim=1).float().cpu().numpy()
        return responses[:1] if single else responses


@final
class Onnx:
    """ONNX Runtime on the CPU. The exported graph holds only what the recorded units need."""

    name = "onnx"

    def __init__(self, probe: Probe, example: Tensor) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(export_onnx(probe, example), options, ["CPUExecutionProvider"])

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Engine`."""
        parts = self._session.run(None, {"images": np.ascontiguousarray(images)})
        return np.concatenate(parts, axis=1, dtype=np.float32, casting="unsafe")


def export_onnx(probe: Probe, example: Tensor) -> bytes:
    """The probe as an ONNX model: input ``images`` with a free batch axis, one output for each layer.

    Uses the tracing exporter: ten times faster than the newer one for these graphs, and what the outputs do not need
    falls away by itself.
    """
    buffer: Any = io.BytesIO()  # the declared type leaves out what the tracing exporter takes
    outputs = [f"layer{i}" for i in range(len(probe.layers))]
    axes = {name: {0: "n"} for name in ["images", *outputs]}
    torch.onnx.export(
        probe, (example,), buffer, dynamo=False, input_names=["images"], output_names=outputs, dynamic_axes=axes,
        opset_version=17,
    )  # fmt: skip
    return bytes(buffer.getvalue())


@contextmanager
def _quiet() -> Iterator[None]:
    """Exporters warn of constants and of their own age; the parity check is what counts here."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)


def build_engine(choice: str, probe: Probe, resolution: int, device: torch.device, autocast: bool) -> Engine:
    """The engine of a subject.

    Args:
        choice: "auto", "eager", "compile" or "onnx".
        probe: What is run.
        resolution: Height and width of the images.
        device: Where the network is.
        autocast: Half precision on a GPU.

    Raises:
        InvalidArgumentError: Unknown engine, or one that cannot run this network or disagrees with eager torch.
    """
    known = ("auto", "compile", "eager", "onnx")
    if choice not in known:
        raise InvalidArgumentError(f"engine: no engine {choice!r}.{closest(choice, known)}")
    eager = Eager(probe, device, autocast)
    if choice == "eager" or (choice == "auto" and device.type != "cpu"):
        return eager
    images = probe_batch(resolution)
    example = torch.from_numpy(images[:2]).to(device)
    try:
        fast = _checked(
            lambda: Compiled(probe, device, example) if choice == "compile" else Onnx(probe, example),
            eager, images, probe.widths,
        )  # fmt: skip
    except InvalidArgumentError as error:
        if choice != "auto":
            raise
        warnings.warn(f"{error} Recording with eager torch, which is slower.", EngineWarning, stacklevel=3)
        return eager
    return fast if choice != "auto" else min((fast, eager), key=lambda engine: _seconds(engine, images))


def _checked(build: Callable[[], Engine], eager: Engine, images: NDArray[np.float32], widths: Sequence[int]) -> Engine:
    """Builds an engine and holds it against eager torch, on many images and on the last one alone."""
    batches = (images, images[-1:])
    before = torch.get_rng_state()
    expected = [eager(batch) for batch in batches]
    if not torch.equal(before, torch.get_rng_state()):
        raise InvalidArgumentError(
            "engine: this network draws random numbers; only eager torch draws them from the subject's seed."
        )
    try:
        with _quiet():
            engine = build()
            responses = [engine(batch) for batch in batches]
    except Exception as error:
        raise InvalidArgumentError(
            f"engine: this network cannot be run by the fast engine ({reason(error)})."
        ) from error
    difference = max(parity(got, wanted, widths) for got, wanted in zip(responses, expected, strict=True))
    if not difference <= PARITY:
        raise InvalidArgumentError(
            f"engine: {engine.name} differs from eager torch by {difference:.1e} relative on a probe batch, "
            f"expected at most {PARITY:.0e}."
        )
    return engine


def probe_batch(resolution: int) -> NDArray[np.float32]:
    """Images on which engines are compared, the same at every call: noise of several grains, then darker to black."""
    rng = np.random.default_rng(0)
    images = np.empty((PROBE_BATCH, 3, resolution, resolution), np.float32)
    for i, brightness in enumerate((1, 1, 1, 1, 0.5, 0.2, 0.05, 0)):
        cells = -(-resolution // 4 ** (i % 4))
        grain = rng.random((3, cells, cells), dtype=np.float32)
        index = np.arange(resolution) * cells // resolution
        images[i] = brightness * grain[:, index][:, :, index]
    return images


def parity(responses: NDArray[np.float32], expected: NDArray[np.float32], widths: Sequence[int] = ()) -> float:
    """Largest difference of a unit, relative to its largest response (at least a twentieth of its layer's).

    Args:
        responses: ``(n, units)``.
        expected: The same, from the reference.
        widths: Number of units of each layer, in order; empty for one layer.
    """
    if responses.shape != expected.shape or not np.isfinite(responses).all():
        return float("inf")
    layers = np.split(np.abs(responses - expected).max(0), np.cumsum(widths)[:-1])
    scales = np.split(np.abs(expected).max(0), np.cumsum(widths)[:-1])
    floors = [max(0.05 * float(scale.max()), 1e-12) for scale in scales]
    return max(float((d / np.maximum(s, f)).max()) for d, s, f in zip(layers, scales, floors, strict=True))


def _seconds(engine: Engine, images: NDArray[np.float32]) -> float:
    """The shorter of two timings."""
    times = []
    for _ in range(2):
        start = time.perf_counter()
        engine(images)
        times.append(time.perf_counter() - start)
    return min(times)
