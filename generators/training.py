"""Training of a native generator from a folder of photographs: crops, commits, sheets, and the file of weights.

The frozen network whose features steer it must not be the subject that will be studied: to the generator a subject is a
black box.
"""

from __future__ import annotations

import hashlib
import io
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from torch import Tensor, nn

from closedloop.checks import check_flag
from closedloop.errors import InvalidArgumentError, TrainingError, WeightsError, reason
from closedloop.files import replace_file
from closedloop.images.opening import read_picture
from closedloop.images.sets import folder_images
from closedloop.loop.progress import Meter
from closedloop.seeds import numbered_generator
from closedloop.signatures import at_door

from .judges import FeatureTaps
from .learning import Trainer
from .native import FIRST, embedded, read_native
from .native_model import SpatialModel
from .spatial_training import SpatialTrainer
from .training_settings import TrainingSettings
from .two_part_training import TwoPartTrainer

#: Steps from one commit of the training's state to the next, and from one sample sheet to the next.
COMMIT_STEPS, SHEET_STEPS = 250, 500
#: A training diverges where the loss of pixels is so many times its median over the last steps, of which some must be
#: known; it goes back so often.
DIVERGED, _ENOUGH, MOST_RETURNS = 5.0, 20, 4
#: Seconds after which a commit is made, however few steps they held.
COMMIT_S = 240.0
#: Ending of the file that holds a training under way, beside the file to come.
UNDER_WAY = ".training.pt"
#: How a file of torch begins.
_ZIP = b"PK\x03\x04"
#: Images of a sample sheet in a row.
_ROW = 8


def cut_crops(folder: Path, settings: TrainingSettings) -> NDArray[np.uint8]:
    """Cuts random square crops of the images of a folder, ``(images · crops, 3, r, r)`` 8-bit RGB.

    Photographs are read as everywhere: upright, transparent parts on grey. The first crop of each image has the full
    shorter side; half of all are mirrored.
    """
    _, files = folder_images(folder)
    rng = numbered_generator(settings.seed, 1)
    size, out = settings.resolution, []
    for file in files:
        image = read_picture(file)
        shorter = min(image.size)
        for i in range(settings.crops):
            side = shorter if i == 0 else max(int(rng.uniform(settings.smallest_crop, 1) * shorter), 1)
            x, y = (int(rng.integers(0, full - side + 1)) for full in image.size)
            crop = image.resize((size, size), Image.Resampling.BICUBIC, box=(x, y, x + side, y + side))
            if settings.saturation != 1 and rng.random() < 0.5:
                crop = ImageEnhance.Color(crop).enhance(rng.uniform(1, settings.saturation))
            if settings.hue and rng.random() < settings.hue:
                crop = _turn_hue(crop, int(rng.integers(256)))
            pixels = np.asarray(crop)
            out.append(pixels[:, ::-1] if rng.random() < 0.5 else pixels)
    return np.ascontiguousarray(np.stack(out).transpose(0, 3, 1, 2))


def _turn_hue(image: Image.Image, by: int) -> Image.Image:
    """Returns the image with its hue turned by so many 256ths of a full turn."""
    hue, *others = image.convert("HSV").split()
    return Image.merge("HSV", (hue.point(lambda v: (v + by) % 256), *others)).convert("RGB")


@at_door
def train_native(
    images: Path,
    out: Path,
    taps: FeatureTaps,
    settings: TrainingSettings,
    *,
    device: str | torch.device = "cpu",
    start: Path | None = None,
    observe: Callable[[int, Mapping[str, float]], None] = lambda step, losses: None,
    progress: bool = True,
) -> dict[str, Any]:
    """Trains a native generator, or goes on with a training that was interrupted.

    Beside ``out`` stand, while it runs, the state of the training, committed every 250 steps, and sample sheets. Where
    it diverges (a loss is not finite, or that of pixels five times its median), it goes back to what was committed
    last, and on at half the rate.

    Args:
        images: Folder of photographs.
        out: File of weights to write, ``.safetensors``.
        taps: The frozen network; not the subject that will be studied.
        settings: The numbers.
        device: Where to train, "cpu" or "cuda".
        start: Weights of the native generator to begin with, such as the embedded ones; None begins at random ones,
            the model of two parts at the embedded ones.
        observe: Called after each step with the steps done and the losses.
        progress: Whether a bar, or in a log file lines, says on standard error how far it is.

    Returns:
        The facts of the training, as they stand in the file.

    Raises:
        InvalidArgumentError: There are no images, the file exists, or the training under way has other settings.
        WeightsError: The state of the training, or `start`, cannot be read.
        TrainingError: It diverged before its first commit, or again and again.
    """
    out = Path(out)
    if out.suffix != ".safetensors":
        raise InvalidArgumentError(f"out: expected a name that ends in .safetensors, got {out}.")
    if out.exists():
        raise InvalidArgumentError(f"out: {out} exists; choose another name.")
    kind: type[Trainer] = SpatialTrainer if settings.model == "spatial" else TwoPartTrainer
    if kind is TwoPartTrainer and start is None:
        start = embedded(FIRST)
    first = None if start is None else _start(start)
    trainer = kind(cut_crops(images, settings), taps, settings, device, first)
    under_way = out.with_name(out.name + UNDER_WAY)
    if under_way.exists():
        trainer.restore(_read_state(under_way))
    out.parent.mkdir(parents=True, exist_ok=True)
    recent: dict[str, list[float]] = {}
    began, seconds = time.monotonic(), trainer.seconds
    committed = began
    for losses in _steps(trainer, settings.steps, check_flag("progress", progress)):
        if wrong := _divergence(losses, recent):
            _go_back(trainer, under_way, wrong)
            continue
        observe(trainer.step, losses)
        for name, value in losses.items():
            recent[name] = [*recent.get(name, []), value][-COMMIT_STEPS:]
        if trainer.step % SHEET_STEPS == 0:
            draw_sheet(trainer, out.with_name(f"{out.stem}-{trainer.step:06d}.png"))
        if trainer.step % COMMIT_STEPS == 0 or time.monotonic() - committed > COMMIT_S:
            committed = time.monotonic()
            trainer.seconds = seconds + committed - began
            _write_state(under_way, trainer.state())
    facts = {
        "settings": asdict(settings),
        "photographs": len(trainer.crops) // settings.crops,
        "features": f"{taps.name}: {', '.join(taps.layers)}",
        "start": None if start is None else Path(start).name,
        "device": trainer.device.type,
        "precision": trainer.precision,
        "pace": trainer.pace,
        "seconds": round(trainer.seconds),
        "losses": {name: round(float(np.mean(values)), 4) for name, values in recent.items()},
    }
    trainer.write(out, facts)
    under_way.unlink(missing_ok=True)
    return facts


def _steps(trainer: Trainer, steps: int, progress: bool) -> Iterator[Mapping[str, float]]:
    """Takes the steps of a training that remain; yields the losses of each."""
    with Meter("training", steps) as meter:
        while trainer.step < steps:
            losses = trainer.run_step()
            if progress:
                meter.move(trainer.step, facts="  ".join(f"{name} {value:.3f}" for name, value in losses.items()))
            yield losses


def _divergence(losses: Mapping[str, float], recent: Mapping[str, Sequence[float]]) -> str:
    """Says which loss shows that a training diverges, and how; "" for none."""
    for name, value in losses.items():
        if not math.isfinite(value):
            return f"{name} {value}"
    usual = float(np.median(recent["pixel"])) if len(recent.get("pixel", ())) >= _ENOUGH else math.inf
    return f"pixel {losses['pixel']:.3g} where {usual:.3g} was usual" if losses["pixel"] > DIVERGED * usual else ""


def _go_back(trainer: Trainer, under_way: Path, wrong: str) -> None:
    """Takes a training that diverged back to its last commit, where it goes on at half the rate."""
    said, pace = f"training: it diverged at step {trainer.step:,} ({wrong})", trainer.pace / 2
    if not under_way.exists() or pace < 0.5**MOST_RETURNS:
        kept = f" What was committed before stands in {under_way}." if under_way.exists() else ""
        raise TrainingError(f"{said}; begin another with a lower learning rate.{kept}")
    trainer.restore(_read_state(under_way))
    trainer.pace = pace
    said += f": back to step {trainer.step:,}, and on at {pace:g} of its learning rates."
    warnings.warn(said, UserWarning, stacklevel=3)


@torch.no_grad()
def draw_sheet(trainer: Trainer, path: Path) -> None:
    """Writes a PNG: photographs, their reconstructions, and draws from the prior."""
    index = np.linspace(0, len(trainer.crops) - 1, _ROW).astype(int)
    real = torch.from_numpy(trainer.crops[index]).float() / 255
    images = torch.cat([real, *trainer.sheet(real, 3 * _ROW)])
    size = images.shape[-1]
    sheet = images.reshape(-1, _ROW, 3, size, size).permute(0, 3, 1, 4, 2).reshape(-1, _ROW * size, 3)
    buffer = io.BytesIO()
    Image.fromarray((sheet * 255).round().byte().numpy()).save(buffer, format="PNG")
    replace_file(path, buffer.getvalue())


def _start(path: Path) -> dict[str, Tensor]:
    """Returns encoder and decoder of a file of weights of the first model, as the networks of a trainer name them."""
    model, _ = read_native(path)
    if not isinstance(model, SpatialModel):
        raise InvalidArgumentError(f"start: expected weights of the first model, got {path}.")
    return nn.ModuleDict({"encoder": model.encoder, "decoder": model.decoder}).state_dict()


def _read_state(path: Path) -> dict[str, Any]:
    """Reads the state of a training under way: a line with its SHA-256, and torch's file. Older ones have no line."""
    try:
        content = path.read_bytes()
        if content[: len(_ZIP)] != _ZIP:
            line, _, content = content.partition(b"\n")
            if line != _line(content):
                raise ValueError("its checksum is not the one that was written with it")
        state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError(
            f"out: cannot read {path}, the training under way ({reason(error)}); remove it to begin anew."
        ) from error
    return state


def _write_state(path: Path, state: Mapping[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    content = buffer.getvalue()
    replace_file(path, _line(content) + b"\n" + content)


def _line(content: bytes) -> bytes:
    return b"SHA-256 " + hashlib.sha256(content).hexdigest().encode()
