"""Training of the native generator from a folder of photographs, in the spirit of DeePSiM (Dosovitskiy & Brox 2016).

An autoencoder learns to draw photographs from a spatial code. Its losses are those of DeePSiM: pixels, features of a
frozen network, and an adversary. The adversary looks at the features of the same frozen network (Sauer et al. 2021,
"Projected GANs Converge Faster") and at the fine detail, of reconstructions and of draws from the prior, N(0, I) along
the principal axes of the codes. An adversary alone leaves draws flat, and lets many codes fall into one picture; so
draws are also to have the second moments of photographs in those features (as textures have: Gatys et al. 2015), and
the encoder is to read their codes off them (Srivastava et al. 2017, "VEEGAN"). A search does not stay among typical
draws; so half of the draws lean towards few axes. The frozen network must not be the subject that will be studied: to
the generator a subject is a black box.

All random numbers of a step follow from the seed and the step's number, so that what resumes goes on as if it had never
stopped.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from torch import Tensor, nn
from torch.nn import functional

from closedloop.checks import at_door, check_flag
from closedloop.errors import InvalidArgumentError, WeightsError, reason
from closedloop.files import replace_file
from closedloop.images.opening import read_picture
from closedloop.images.sets import folder_images
from closedloop.loop.progress import Meter
from closedloop.networks.weights import weights_sha256
from closedloop.seeds import numbered_generator

from .judges import Adversary, FeatureTaps, fine_detail, second_moments
from .native import read_native, write_native
from .native_model import CHANNELS, STRIDE, Encoder, NativeNetwork, Prior, SpatialDecoder, principal_axes
from .training_settings import TrainingSettings

#: Steps from one commit of the training's state to the next, and from one sample sheet to the next.
COMMIT_STEPS, SHEET_STEPS = 250, 500
#: Least magnitude by which features are divided; photographs of one colour have no fine detail.
LEAST = 1e-2
#: Ending of the file that holds a training under way, beside the file to come.
UNDER_WAY = ".training.pt"
#: How a file of torch begins.
_ZIP = b"PK\x03\x04"
#: Images of a sample sheet in a row, and images that are encoded at a time.
_ROW, _CHUNK = 8, 32


def cut_crops(folder: Path, settings: TrainingSettings) -> NDArray[np.uint8]:
    """Random square crops of the images of a folder, ``(images · crops, 3, r, r)`` 8-bit RGB.

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
    """The image with its hue turned by so many 256ths of a full turn."""
    hue, *others = image.convert("HSV").split()
    return Image.merge("HSV", (hue.point(lambda v: (v + by) % 256), *others)).convert("RGB")


@final
class Trainer:
    """A training under way: networks, their running averages, optimizers and the number of the step.

    Args:
        crops: 8-bit photographs, see `cut_crops`.
        taps: The frozen network, on the device of the training.
        settings: The numbers.
        device: Where to train.
        start: Weights of encoder and decoder to begin with; None begins at random ones.

    Attributes:
        origin: SHA-256 of what the training began with: photographs as cut, weights of the frozen network, `start`.
        precision: "bfloat16" or "single", in which the dear parts of a step are computed. It is chosen once, by what is
            quicker here, and stays with the training.
    """

    def __init__(
        self,
        crops: NDArray[np.uint8],
        taps: FeatureTaps,
        settings: TrainingSettings,
        device: str | torch.device = "cpu",
        start: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.settings, self.device, self.crops = settings, torch.device(device), crops
        self.taps = taps.to(self.device)
        self.origin = {
            "photographs": hashlib.sha256(np.ascontiguousarray(crops).data).hexdigest(),
            "features": f"{', '.join(taps.layers)}: {weights_sha256(taps.network.state_dict())}",
            "start": None if start is None else weights_sha256(start),
        }
        self.precision = quicker_precision(self.device) if settings.precision == "quicker" else settings.precision
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.nets = nn.ModuleDict({"encoder": Encoder(), "decoder": SpatialDecoder()})
            if start is not None:
                self.nets.load_state_dict(start)
            with torch.no_grad():
                first = self._photographs(np.arange(8) % len(self.crops))
                features = _maps(first, self.taps(first))
            scales = torch.stack([f.square().mean().sqrt().clamp_min(LEAST) for f in features])
            self.adversary = Adversary([f.shape[1] for f in features], scales).to(self.device)
            self.moments = [second_moments(f) for f in features]
        self.nets.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = {k: v.detach().clone() for k, v in self.nets.state_dict().items()}
        self.adam = torch.optim.Adam(self.nets.parameters(), settings.learning_rate, (0.9, 0.99))
        self.adversary_adam = torch.optim.Adam(self.adversary.parameters(), settings.adversary_rate, (0.5, 0.99))
        side = settings.resolution // STRIDE
        self.dim = CHANNELS * side**2
        self.code_mean = torch.zeros(self.dim, device=self.device)
        self.code_square = torch.eye(self.dim, device=self.device)
        self._axes = torch.eye(self.dim, device=self.device)
        self.step, self.seconds = 0, 0.0

    def _photographs(self, index: NDArray[np.int_]) -> Tensor:
        """Crops by index, as images ``(n, 3, r, r)`` in [-1, 1]."""
        batch = torch.from_numpy(self.crops[index]).to(self.device).float() / 127.5 - 1
        return batch.contiguous(memory_format=torch.channels_last)

    def _autocast(self) -> torch.autocast:
        """Returns the context in which the dear parts of a step are computed, in the precision of this training."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")

    def run_step(self) -> dict[str, float]:
        """One update of all networks; returns the losses."""
        settings = self.settings
        rng = numbered_generator(settings.seed, 2, self.step)
        noise = torch.Generator().manual_seed(int(rng.integers(2**62)))
        self._set_rate()
        real = self._photographs(rng.integers(0, len(self.crops), settings.batch))
        with self._autocast():
            codes = self.nets["encoder"](real)
        codes = codes.float()
        self._follow_codes(codes)
        drawn = self._draw(len(real), noise).view_as(codes) if self.step >= settings.draws_start else None
        with self._autocast():
            noisy = codes + settings.code_noise * torch.randn(codes.shape, generator=noise).to(self.device)
            images = self.nets["decoder"](noisy if drawn is None else torch.cat([noisy, drawn])).float()
            with torch.no_grad():
                wanted = [f.float() for f in self.taps(real)]
            features = [f.float() for f in self.taps(images)]
        n = len(real)
        losses = {
            "pixel": (images[:n] - real).abs().mean(),
            "feature": _sum((f[:n] - w).abs().mean() / w.abs().mean() for f, w in zip(features, wanted, strict=True)),
            "penalty": codes.square().mean(),
        }
        if drawn is not None:
            wanted, features = _maps(real, wanted), _maps(images, features)
            losses |= self._draw_losses(images[n:], drawn, wanted, features)
        self.adam.zero_grad(set_to_none=True)
        torch.autograd.backward(_sum(self._weight(name) * value for name, value in losses.items()))
        self.adam.step()
        if drawn is not None:
            losses["judged"] = self._teach_adversary(wanted, features)
        # Running average of the weights, Polyak's.
        keep = min(settings.average, (1 + self.step) / (10 + self.step))  # the first weights are soon forgotten
        with torch.no_grad():
            for name, value in self.nets.state_dict().items():
                self.average[name].lerp_(value, 1 - keep)
        self.step += 1
        return {name: float(value.detach()) for name, value in losses.items()}

    def _set_rate(self) -> None:
        """Warm-up over 100 steps; down to 3 % over the last quarter."""
        left = (self.settings.steps - self.step) / (0.25 * self.settings.steps)
        factor = min(1.0, (self.step + 1) / 100, max(0.03, left))
        for optimizer, rate in (
            (self.adam, self.settings.learning_rate),
            (self.adversary_adam, self.settings.adversary_rate),
        ):
            for group in optimizer.param_groups:
                group["lr"] = rate * factor

    def _follow_codes(self, codes: Tensor) -> None:
        """Running mean, second moment and principal axes of the codes of photographs."""
        with torch.no_grad():
            flat = codes.flatten(1)
            keep = min(0.998, self.step / (self.step + 10))
            self.code_mean.lerp_(flat.mean(0), 1 - keep)
            centered = flat - self.code_mean
            self.code_square.lerp_(centered.T @ centered / len(flat), 1 - keep)
            # An eigendecomposition is dear, and the axes change slowly.
            if self.step % 50 == 0 or self.step == self.settings.draws_start:
                self._axes = principal_axes(self.code_square)

    def _draw(self, n: int, noise: torch.Generator) -> Tensor:
        """Spatial codes ``(n, dim)`` drawn from the prior as it is now, every other one leaning; all on its shell."""
        z = torch.randn((n, self.dim), generator=noise)
        leaning = self.settings.leaning
        # Leaning draws: each axis stretched log-normally, and later axes shrunk by rank^(-leaning u / 2), u uniform.
        rank = torch.arange(1, self.dim + 1)
        shrink = rank ** -(0.5 * leaning * torch.rand((n, 1), generator=noise))
        stretch = torch.exp(leaning * torch.randn((n, self.dim), generator=noise))
        z[1::2] *= (stretch * shrink)[1::2]
        # On the shell of the prior: length √dim.
        z *= self.dim**0.5 / torch.linalg.vector_norm(z, dim=1, keepdim=True)
        return self.code_mean + z.to(self.device) @ self._axes

    def _weight(self, name: str) -> float:
        """Weight of a loss at this step."""
        settings = self.settings
        # Losses of draws come in linearly, over as many steps as they waited.
        rise = (self.step - settings.draws_start) / max(settings.draws_start, 1)
        rise = float(np.clip(rise, 0, 1))
        return {
            "pixel": settings.pixel_weight,
            "feature": settings.feature_weight,
            "penalty": settings.code_penalty,
            "fooled": -settings.adversary_weight * rise,
            "moments": settings.moments_weight * rise,
            "recovery": settings.recovery_weight * rise,
        }[name]

    def _draw_losses(
        self, images: Tensor, codes: Tensor, wanted: list[Tensor], features: list[Tensor]
    ) -> dict[str, Tensor]:
        """The losses of the images drawn from `codes`.

        ``wanted`` are the maps of photographs, ``features`` those of reconstructions and draws.
        """
        self.adversary.requires_grad_(False)
        with self._autocast():
            judged = self.adversary(features)
            read = self.nets["encoder"](images)
        self.adversary.requires_grad_(True)
        deviation = (codes - self.code_mean.view_as(codes[0])).abs().mean().detach()
        moments = []
        for natural, w, f in zip(self.moments, wanted, features, strict=True):
            natural.lerp_(second_moments(w), 0.02)  # the moments of photographs, over some 50 steps
            size = natural.diagonal().clamp_min(LEAST**2).sqrt()
            plain = f[len(w) :: 2]  # the draws that do not lean
            # |M_ij - N_ij| / √(N_ii N_jj): a difference of correlations, whatever the scale of a feature.
            moments.append(((second_moments(plain) - natural) / torch.outer(size, size)).abs().mean())
        return {
            "fooled": torch.stack([j.float().mean() for j in judged]).mean(),
            "moments": _sum(moments),
            "recovery": (read.float() - codes).abs().mean() / deviation,
        }

    def _teach_adversary(self, wanted: list[Tensor], features: list[Tensor]) -> Tensor:
        """One update of the adversary by the hinge loss; returns it."""
        with self._autocast():
            real = self.adversary([f.detach() for f in wanted])
            drawn = self.adversary([f.detach() for f in features])
        # Hinge loss: max(0, 1 - D(x)) of photographs, max(0, 1 + D(x)) of draws (Miyato et al. 2018, eq. 16).
        parts = [
            functional.relu(1 - r.float()).mean() + functional.relu(1 + d.float()).mean()
            for r, d in zip(real, drawn, strict=True)
        ]
        loss = torch.stack(parts).mean()
        self.adversary_adam.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.adversary_adam.step()
        return loss.detach()

    def state(self) -> dict[str, Any]:
        """All that is needed to go on identically: tensors and plain values."""
        return {
            "settings": asdict(self.settings),
            "origin": self.origin,
            "precision": self.precision,
            "step": self.step,
            "nets": self.nets.state_dict(),
            "average": self.average,
            "adversary": self.adversary.state_dict(),
            "adam": self.adam.state_dict(),
            "adversary_adam": self.adversary_adam.state_dict(),
            "code_mean": self.code_mean,
            "code_square": self.code_square,
            "axes": self._axes,
            "moments": self.moments,
            "seconds": self.seconds,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes back to a saved state.

        Raises:
            InvalidArgumentError: It belongs to a training with other settings.
        """
        mine = {"settings": asdict(self.settings), "origin": self.origin}
        for part, now in mine.items():
            then = state.get(part, {})  # a training of before has no origin
            other = {k: v for k, v in then.items() if v != now.get(k)}
            if other:
                raise InvalidArgumentError(
                    f"{part}: the training under way has {other}; give the same, or another --out to begin a new one."
                )
        self.precision = state.get("precision", "bfloat16")
        self.step = int(state["step"])
        self.nets.load_state_dict(state["nets"])
        self.adversary.load_state_dict(state["adversary"])
        self.adam.load_state_dict(state["adam"])
        self.adversary_adam.load_state_dict(state["adversary_adam"])
        self.average = {k: v.to(self.device) for k, v in state["average"].items()}
        self.code_mean, self.code_square = state["code_mean"].to(self.device), state["code_square"].to(self.device)
        self._axes = state["axes"].to(self.device)
        self.moments = [m.to(self.device) for m in state["moments"]]
        self.seconds = float(state["seconds"])

    def averaged(self) -> tuple[Encoder, SpatialDecoder]:
        """Encoder and decoder with the running average of their weights, on the CPU."""
        encoder, decoder = Encoder(), SpatialDecoder()
        nn.ModuleDict({"encoder": encoder, "decoder": decoder}).load_state_dict(self.average)
        return encoder.eval(), decoder.eval()


def quicker_precision(device: torch.device) -> str:
    """Measures in which precision this processor learns faster: "single", or "bfloat16" where that saves a fifth.

    Processors without instructions for bfloat16 emulate it, which takes some fifteen times as long.
    """
    with torch.random.fork_rng(devices=[]):
        layer = nn.Conv2d(32, 32, 3, padding=1)
    layer.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.zeros((8, 32, 32, 32), device=device).contiguous(memory_format=torch.channels_last)

    def seconds(enabled: bool) -> float:
        began = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=enabled):
            loss = layer(layer(images).relu()).float().square().mean()
        torch.autograd.backward(loss)
        float(layer.weight.grad.sum())  # type: ignore[union-attr] # waits for the device
        return time.perf_counter() - began

    took = {enabled: min(seconds(enabled) for _ in range(4)) for enabled in (False, True)}
    return "bfloat16" if took[True] < 0.8 * took[False] else "single"


def _maps(images: Tensor, features: Sequence[Tensor]) -> list[Tensor]:
    """What adversary and moments look at: the fine detail of images, and those features that are maps."""
    return [fine_detail(images), *(f for f in features if f.ndim == 4)]


def _sum(parts: Iterable[Tensor]) -> Tensor:
    """The sum of scalars."""
    return torch.stack(list(parts)).sum()


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

    Beside ``out`` stand, while it runs, the state of the training, committed every 250 steps, and sample sheets.

    Args:
        images: Folder of photographs.
        out: File of weights to write, ``.safetensors``.
        taps: The frozen network; not the subject that will be studied.
        settings: The numbers.
        device: Where to train, "cpu" or "cuda".
        start: Weights of the native generator to begin with, such as the embedded ones; None begins at random ones.
        observe: Called after each step with the steps done and the losses.
        progress: Whether a bar, or in a log file lines, says on standard error how far it is.

    Returns:
        The facts of the training, as they stand in the file.

    Raises:
        InvalidArgumentError: There are no images, the file exists, or the training under way has other settings.
        WeightsError: The state of the training, or `start`, cannot be read.
    """
    out = Path(out)
    if out.suffix != ".safetensors":
        raise InvalidArgumentError(f"out: expected a name that ends in .safetensors, got {out}.")
    if out.exists():
        raise InvalidArgumentError(f"out: {out} exists; choose another name.")
    first = None if start is None else _start(start)
    trainer = Trainer(cut_crops(images, settings), taps, settings, device, first)
    under_way = out.with_name(out.name + UNDER_WAY)
    if under_way.exists():
        trainer.restore(_read_state(under_way))
    out.parent.mkdir(parents=True, exist_ok=True)
    recent: dict[str, list[float]] = {}
    began, seconds = time.monotonic(), trainer.seconds
    for losses in _steps(trainer, settings.steps, check_flag("progress", progress)):
        observe(trainer.step, losses)
        for name, value in losses.items():
            recent[name] = [*recent.get(name, []), value][-COMMIT_STEPS:]
        if trainer.step % SHEET_STEPS == 0:
            draw_sheet(trainer, out.with_name(f"{out.stem}-{trainer.step:06d}.png"))
        if trainer.step % COMMIT_STEPS == 0:
            trainer.seconds = seconds + time.monotonic() - began
            _write_state(under_way, trainer.state())
    facts = {
        "settings": asdict(settings),
        "photographs": len(trainer.crops) // settings.crops,
        "features": f"{taps.name}: {', '.join(taps.layers)}",
        "start": None if start is None else Path(start).name,
        "device": trainer.device.type,
        "precision": trainer.precision,
        "seconds": round(trainer.seconds),
        "losses": {name: round(float(np.mean(values)), 4) for name, values in recent.items()},
    }
    encoder, decoder = trainer.averaged()
    write_native(out, encoder, measure_prior(encoder, trainer.crops), decoder, facts)
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


@torch.no_grad()
def measure_prior(encoder: Encoder, crops: NDArray[np.uint8]) -> Prior:
    """Mean and principal axes of the spatial codes of photographs ``(n, 3, r, r)``, 8-bit."""
    codes = [
        encoder(torch.from_numpy(crops[i : i + _CHUNK]).float() / 127.5 - 1).flatten(1)
        for i in range(0, len(crops), _CHUNK)
    ]
    whole = torch.cat(codes).double()
    return Prior(whole.mean(0).float(), principal_axes(whole.T.cov()))


@torch.no_grad()
def draw_sheet(trainer: Trainer, path: Path) -> None:
    """Writes a PNG: photographs, their reconstructions, and draws from the prior."""
    encoder, decoder = trainer.averaged()
    index = np.linspace(0, len(trainer.crops) - 1, _ROW).astype(int)
    real = torch.from_numpy(trainer.crops[index]).float() / 255
    prior = Prior(trainer.code_mean.cpu(), principal_axes(trainer.code_square.cpu()))
    codes = torch.randn((3 * _ROW, trainer.dim), generator=torch.Generator().manual_seed(trainer.settings.seed))
    again = (decoder(encoder(real * 2 - 1)) / 2 + 0.5).clamp(0, 1)
    images = torch.cat([real, again, NativeNetwork(prior, decoder, shell=True)(codes)])
    size = images.shape[-1]
    sheet = images.reshape(-1, _ROW, 3, size, size).permute(0, 3, 1, 4, 2).reshape(-1, _ROW * size, 3)
    buffer = io.BytesIO()
    Image.fromarray((sheet * 255).round().byte().numpy()).save(buffer, format="PNG")
    replace_file(path, buffer.getvalue())


def _start(path: Path) -> dict[str, Tensor]:
    """Encoder and decoder of a file of weights, as the networks of a trainer name them."""
    encoder, _, decoder, _ = read_native(path)
    return nn.ModuleDict({"encoder": encoder, "decoder": decoder}).state_dict()


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
