"""How a torch module is run: eagerly, compiled by torch, or by ONNX Runtime on the graph that its outputs need.

The module takes one tensor ``(n, …)`` and returns a tuple of tensors ``(n, width, …)``: a network's recorded layers for
images, a generator's images for codes. All engines give the same; on a CPU ONNX Runtime is several times faster. The
automatic choice takes the fastest that agrees with eager torch on a probe batch.
"""

from __future__ import annotations

import io
import logging
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from closedloop.errors import CompanyWarning, InvalidArgumentError, closest, reason
from closedloop.networks.lanes import Engine, quicker
from closedloop.networks.modules import dtype_of, same_buffers
from closedloop.networks.sessions import session_options
from closedloop.seeds import named_generator

#: Largest relative difference from eager torch that an engine may show on the probe batch.
PARITY = 1e-3
#: Images in the probe batch of a network.
PROBE_BATCH = 8


class EngineWarning(UserWarning):
    """A fast engine could not be used; a slower one is."""


@final
class Eager:
    """Plain torch."""

    name: str = "eager"
    runs_torch: bool = True

    def __init__(self, module: nn.Module, device: torch.device, autocast: bool = False) -> None:
        self.module: nn.Module = module
        self._device = device
        self._autocast = autocast

    def __call__(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Runs inputs ``(n, …)`` as `Engine` says."""
        batch = torch.from_numpy(np.ascontiguousarray(inputs)).to(self._device)
        if self._device.type == "cuda" and batch.ndim == 4:
            batch = batch.contiguous(memory_format=torch.channels_last)
        with torch.no_grad(), torch.autocast(self._device.type, enabled=self._autocast and batch.is_cuda):
            outputs = torch.cat(self.module(batch), dim=1)
        return outputs.float().cpu().numpy()


@final
class Compiled:
    """The module's exported graph through ``torch.compile``. Compiling takes a minute; worth it for long runs."""

    name: str = "compile"
    runs_torch: bool = True

    def __init__(self, module: nn.Module, device: torch.device, example: Tensor) -> None:
        batch = torch.export.Dim("batch", min=2)
        program = torch.export.export(module, (example,), dynamic_shapes=({0: batch},), strict=False)
        self._run = torch.compile(program.module(), dynamic=True)
        self._device = device

    def __call__(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Runs inputs ``(n, …)`` as `Engine` says."""
        single = len(inputs) == 1
        batch = torch.from_numpy(np.ascontiguousarray(np.repeat(inputs, 2, 0) if single else inputs)).to(self._device)
        with torch.no_grad():
            outputs = torch.cat(self._run(batch), dim=1).float().cpu().numpy()
        return outputs[:1] if single else outputs


@final
class Onnx:
    """ONNX Runtime on the CPU.

    Args:
        graph: What `export_onnx` gives; it holds only what the outputs need.
        threads: How many compute.
    """

    name: str = "onnx"
    runs_torch: bool = False

    def __init__(self, graph: bytes, threads: int) -> None:
        import onnxruntime

        options = session_options(threads)
        self._session = onnxruntime.InferenceSession(graph, options, ["CPUExecutionProvider"])
        inputs = self._session.get_inputs()
        if not inputs:  # the exporter leaves out what nothing depends on
            raise ValueError("its outputs do not depend on what it is given")
        self._input: str = inputs[0].name

    def __call__(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Runs inputs ``(n, …)`` as `Engine` says."""
        parts = self._session.run(None, {self._input: np.ascontiguousarray(inputs)})
        return np.concatenate(parts, axis=1, dtype=np.float32, casting="unsafe")


@final
class OneByOne:
    """An engine that is given its inputs one by one, for a module whose rows depend on their neighbours in a batch.

    Each meets the module's buffers as they were at first.
    """

    def __init__(self, engine: Engine, module: nn.Module) -> None:
        self._engine = engine
        self._module = module
        self.name: str = engine.name
        self.runs_torch: bool = engine.runs_torch

    def __call__(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Runs inputs ``(n, …)`` as `Engine` says, one at a time."""
        return np.concatenate([self._alone(inputs[i : i + 1]) for i in range(len(inputs))])

    def _alone(self, entry: NDArray[np.float32]) -> NDArray[np.float32]:
        with same_buffers(self._module) if self.runs_torch else nullcontext():
            return self._engine(entry)


def export_onnx(module: nn.Module, example: Tensor, input_name: str, outputs: int = 1) -> bytes:
    """Exports a module as an ONNX model: one input with a free batch axis, and as many outputs as are asked for.

    Uses the tracing exporter: ten times faster than the newer one for these graphs, and what the outputs do not need
    falls away by itself.
    """
    buffer: Any = io.BytesIO()  # the declared type leaves out what the tracing exporter takes
    names = [f"output{i}" for i in range(outputs)]
    axes = {name: {0: "n"} for name in [input_name, *names]}
    with quiet():
        torch.onnx.export(
            module,
            (example,),
            buffer,
            dynamo=False,
            input_names=[input_name],
            output_names=names,
            dynamic_axes=axes,
            opset_version=17,
        )
    return bytes(buffer.getvalue())


@contextmanager
def quiet() -> Iterator[None]:
    """Silences exporters, which warn of constants and of their own age, and print graphs; parity is what counts here.

    Attention is written out meanwhile: PyTorch's fused operator for inference has no counterpart in ONNX.
    """
    logger = logging.getLogger("torch.onnx")
    level, fused, printed = logger.level, torch.backends.mha.get_fastpath_enabled(), torch._C._jit_onnx_log
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        torch.backends.mha.set_fastpath_enabled(False)
        torch._C._jit_onnx_log = lambda *_: None  # the exporter switches its log on before it uses it
        try:
            yield
        finally:
            torch._C._jit_onnx_log = printed
            torch.backends.mha.set_fastpath_enabled(fused)
            logger.setLevel(level)


def build_engine(
    choice: str,
    module: nn.Module,
    batch: NDArray[np.float32],
    *,
    input_name: str,
    widths: Sequence[int] = (),
    device: torch.device,
    autocast: bool = False,
    company: str = "",
) -> Engine:
    """Builds the engine that runs a module.

    A batch is held against its first and last entries alone. A module whose rows depend on their neighbours (batch
    statistics, a batch size that is written into it, sums over the batch) is given its inputs one by one.

    Args:
        choice: "auto", "eager", "compile" or "onnx".
        module: What is run: one tensor ``(n, …)`` in, a tuple of tensors ``(n, width, …)`` out.
        batch: Inputs ``(n, …)``, at least two, on which the fast engine is held against eager torch and timed.
        input_name: What the inputs are, for the exported graph: "images" or "codes".
        widths: The width of each output; empty for a single output of any width.
        device: Where the module is.
        autocast: Half precision on a GPU.
        company: Why its rows depend on their neighbours, where that is known.

    Raises:
        InvalidArgumentError: Unknown engine, or one that cannot run this module or disagrees with eager torch.

    Warns:
        CompanyWarning: Its rows depend on their neighbours.
        EngineWarning: A slower engine is taken.
    """
    known = ("auto", "compile", "eager", "onnx")
    if choice not in known:
        raise InvalidArgumentError(f"engine: no engine {choice!r}.{closest(choice, known)}")
    plain = Eager(module, device, autocast)
    slow = choice == "eager" or (choice == "auto" and device.type != "cpu")
    look = _looked(plain, batch[:2] if slow else batch, widths, _tolerance(module, device), company)
    if look.company:
        warnings.warn(
            f"model: its answer to one of the {input_name} depends on those beside it: {look.company}. Each is shown "
            "alone, which takes longer, so that an answer is that to its image.",
            CompanyWarning,
            stacklevel=3,
        )
    eager = OneByOne(plain, module) if look.company else plain
    if slow:
        return eager
    example = torch.from_numpy(batch[: 1 if look.company else 2]).to(device)

    threads, one = torch.get_num_threads(), None

    def build() -> Engine:
        nonlocal one
        fast: Engine
        if choice == "compile":
            fast = Compiled(module, device, example)
        else:
            graph = export_onnx(module, example, input_name, max(1, len(widths)))
            fast, one = Onnx(graph, threads), partial(Onnx, graph, 1)
        return OneByOne(fast, module) if look.company else fast

    try:
        fast, gain = _checked(build, look, batch, widths)
        if device.type == "cpu" and not look.company:
            fast = quicker(fast, batch, threads, one)
    except InvalidArgumentError as error:
        if choice != "auto":
            raise
        warnings.warn(f"{error} Running it with eager torch, which is slower.", EngineWarning, stacklevel=3)
        return eager
    if choice != "auto" or gain >= 2.0:  # one that is so much faster in its first run is not timed again
        return fast
    return min((fast, eager), key=lambda engine: min(_timed(engine, batch)[1] for _ in range(2)))


@dataclass(frozen=True)
class _Look:
    """What eager torch gives for a batch.

    Attributes:
        whole: Its outputs ``(n, width, …)``, each that of its own entry.
        alone: The output of the last entry alone.
        seconds: How long the batch took.
        random: Whether torch's random numbers were drawn.
        company: Why rows depend on their neighbours; "" if they do not.
    """

    whole: NDArray[np.float32]
    alone: NDArray[np.float32]
    seconds: float
    random: bool
    company: str


def _looked(eager: Eager, batch: NDArray[np.float32], widths: Sequence[int], most: float, company: str) -> _Look:
    """Runs a batch, and its first and its last entry alone, each from the same buffers."""
    single = OneByOne(eager, eager.module)
    before = torch.get_rng_state()
    first, last = single(batch[:1]), single(batch[-1:])
    try:
        with same_buffers(eager.module):
            whole, seconds = _timed(eager, batch)
        rows = len(whole)
    except Exception as error:  # noqa: BLE001 - a network that takes one image at a time raises whatever it likes
        rows, company = 0, company or f"it takes one at a time ({reason(error)})"
    random = not torch.equal(before, torch.get_rng_state())
    if not company and rows != len(batch):
        company = f"it returns {rows} {'row' if rows == 1 else 'rows'} for {len(batch)} of them"
    if not (company or random):
        own = np.concatenate([first, whole[1:-1], last])
        apart = 0.0 if np.array_equal(own, whole, equal_nan=True) else parity(own, whole, widths)
        if apart > most and _repeats(eager, batch, whole):  # else it draws random numbers of another kind
            company = f"alone and together its answers differ by {apart:.1e} of a unit's largest"
    if company:
        whole, seconds = _timed(single, batch)
    return _Look(whole, last, seconds, random, company)


def _repeats(eager: Eager, batch: NDArray[np.float32], whole: NDArray[np.float32]) -> bool:
    """Tells whether a batch gives again what it gave."""
    with same_buffers(eager.module):
        return np.array_equal(whole, eager(batch), equal_nan=True)


def _tolerance(module: nn.Module, device: torch.device) -> float:
    """Returns the largest relative difference between an entry alone and among others that comes of rounding."""
    coarse = [torch.finfo(dtype_of(module)).eps, 0.0 if device.type == "cpu" else 2.0**-10]  # TF32 has 10 bits
    return max(PARITY, 16 * max(coarse))


def _checked(
    build: Callable[[], Engine], look: _Look, batch: NDArray[np.float32], widths: Sequence[int]
) -> tuple[Engine, float]:
    """Builds an engine and holds it against eager torch, on the whole batch and on its last entry alone.

    Returns:
        The engine, and how many times as fast as eager torch it was.
    """
    if look.random:
        raise InvalidArgumentError(
            "engine: this network draws random numbers; only eager torch draws them from the seed it was given."
        )
    try:
        with quiet():
            engine = build()
            alone, (whole, quick) = engine(batch[-1:]), _timed(engine, batch)
    except Exception as error:
        raise InvalidArgumentError(
            f"engine: this network cannot be run by the fast engine ({reason(error)})."
        ) from error
    difference = max(parity(whole, look.whole, widths), parity(alone, look.alone, widths))
    if not difference <= PARITY:
        raise InvalidArgumentError(
            f"engine: {engine.name} differs from eager torch by {difference:.1e} relative on a probe batch, "
            f"expected at most {PARITY:.0e}."
        )
    return engine, look.seconds / max(quick, 1e-9)


def probe_batch(resolution: int) -> NDArray[np.float32]:
    """Makes the images on which engines are compared, always the same: noise in several grains, darkening to black."""
    rng = named_generator(0, "probe")
    images = np.empty((PROBE_BATCH, 3, resolution, resolution), np.float32)
    for i, brightness in enumerate((1, 1, 1, 1, 0.5, 0.2, 0.05, 0)):
        cells = -(-resolution // 4 ** (i % 4))
        grain = rng.random((3, cells, cells), dtype=np.float32)
        index = np.arange(resolution) * cells // resolution
        images[i] = brightness * grain[:, index][:, :, index]
    return images


def parity(outputs: NDArray[np.float32], expected: NDArray[np.float32], widths: Sequence[int] = ()) -> float:
    """Returns the largest difference of a unit, relative to its largest value (at least a twentieth of its layer's).

    Args:
        outputs: ``(n, units)``; for images every pixel is a unit, ``(n, 3, h, w)``.
        expected: The same, from the reference.
        widths: Number of units of each layer, in order; empty for one layer.
    """
    if outputs.shape != expected.shape or not np.isfinite(outputs).all():
        return float("inf")
    layers = np.split(np.abs(outputs - expected).max(0), np.cumsum(widths)[:-1])
    scales = np.split(np.abs(expected).max(0), np.cumsum(widths)[:-1])
    floors = [max(0.05 * float(scale.max()), 1e-12) for scale in scales]
    return max(float((d / np.maximum(s, f)).max()) for d, s, f in zip(layers, scales, floors, strict=True))


def _timed(engine: Engine, batch: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
    """Returns what an engine returns for a batch, and in how many seconds."""
    start = time.perf_counter()
    outputs = engine(batch)
    return outputs, time.perf_counter() - start
