"""Training of the native generator from a folder of photographs, in the spirit of DeePSiM (Dosovitskiy & Brox 2016).

An autoencoder learns to draw photographs from a spatial code. Its losses are those of DeePSiM: pixels, features of a
frozen network, and an adversary. The adversary looks at the features of the same frozen network (Sauer et al. 2021,
"Projected GANs Converge Faster"), at reconstructions and at draws from the prior, N(0, I) along the principal axes of
the codes. The frozen network must not be the subject that will be studied: to the generator a subject is a black box.

All random numbers of a step follow from the seed and the step's number, so that what resumes goes on as if it had never
stopped.
"""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast, final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from closedloop.errors import InvalidArgumentError, WeightsError, reason
from closedloop.files import replace_file
from closedloop.images import folder_images

from .native import read_native, write_native
from .native_model import CHANNELS, STRIDE, Encoder, NativeNetwork, Prior, SpatialDecoder, principal_axes

#: Steps between two commits of the training's state, and between two sample sheets.
COMMIT_STEPS, SHEET_STEPS = 250, 500
#: Steps between two looks at the principal axes of the codes.
AXES_STEPS = 50
#: Ending of the file that holds a training under way, beside the file to come.
UNDER_WAY = ".training.pt"
#: Images of a sample sheet in a row, and images that are encoded at a time.
_ROW, _CHUNK = 8, 32


@dataclass(frozen=True)
class TrainingSettings:
    """The numbers of a training.

    Attributes:
        steps: Updates of the weights.
        batch: Photographs in a step; as many draws from the prior stand beside them.
        resolution: Height and width of the images in pixels, a multiple of 32.
        crops: Random crops that are cut out of each photograph beforehand, half of them mirrored.
        smallest_crop: Side of the smallest crop, as a share of the photograph's shorter side.
        pixel_weight: Weight of the mean absolute difference of pixels.
        feature_weight: Weight of the mean absolute difference of features, each layer's divided by its mean magnitude.
        adversary_weight: Weight of the adversary.
        adversary_start: Step at which the adversary's weight begins to rise; it is full after as many steps again.
        code_noise: Standard deviation of the noise that is added to codes.
        code_penalty: Weight of the mean square of codes.
        learning_rate: Of encoder and decoder; falls to 3 % over the last quarter.
        adversary_rate: Learning rate of the adversary.
        average: Share of the old weights that the running average keeps at each step.
        seed: Of everything random.
    """

    steps: int = 8000
    batch: int = 16
    resolution: int = 128
    crops: int = 12
    smallest_crop: float = 0.45
    pixel_weight: float = 3.0
    feature_weight: float = 1.0
    adversary_weight: float = 0.1
    adversary_start: int = 2000
    code_noise: float = 0.05
    code_penalty: float = 0.01
    learning_rate: float = 1e-3
    adversary_rate: float = 3e-4
    average: float = 0.998
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "crops"):
            if not (isinstance(getattr(self, name), int) and getattr(self, name) >= 1):
                raise InvalidArgumentError(
                    f"{name}: expected a whole number of at least 1, got {getattr(self, name)!r}."
                )
        if not 64 <= self.resolution <= 512 or self.resolution % (2 * STRIDE):
            raise InvalidArgumentError(
                f"resolution: expected a multiple of {2 * STRIDE} from 64 to 512 pixels, got {self.resolution!r}."
            )


class _AllTaken(Exception):  # noqa: N818 - no error: it ends a forward pass that has given all that is wanted
    """All features are taken; what lies deeper in the network need not be computed."""


@final
class FeatureTaps(nn.Module):
    """Features of a frozen network at several depths.

    Args:
        network: From normalized images to anything; stays as it is, without gradients of its weights.
        layers: Names of modules whose output is taken; "output" for what the network returns.
        mean: Of each colour channel, of images in [0, 1].
        std: Likewise.
        name: Of the network, for the facts of a training.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, network: nn.Module, layers: Sequence[str], mean: Sequence[float], std: Sequence[float], name: str
    ) -> None:
        super().__init__()
        self.name = name
        self.network = network.eval().requires_grad_(False)
        self.layers = tuple(layers)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))
        self._taken: dict[str, Tensor] = {}
        for name in self.layers:
            if name != "output":
                network.get_submodule(name).register_forward_hook(self._hook(name))

    def _hook(self, name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def take(_: nn.Module, __: Any, output: Tensor) -> None:
            self._taken[name] = output
            if len(self._taken) == len(self.layers):
                raise _AllTaken

        return take

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images ``(n, 3, h, w)`` in [-1, 1] -> the layers' features in their order."""
        with contextlib.suppress(_AllTaken):
            self._taken["output"] = self.network((images / 2 + 0.5 - self.mean) / self.std)
        taken = [self._taken[name] for name in self.layers]
        self._taken.clear()
        return taken


@final
class Adversary(nn.Module):
    """Judges feature maps: one small convolutional network for each depth, with spectral normalization.

    Args:
        channels: Channels of each depth's features.
        scales: What the features of each depth are divided by.
        width: Channels of the judges.
    """

    scales: Tensor

    def __init__(self, channels: Sequence[int], scales: Tensor, width: int = 64) -> None:
        super().__init__()
        self.register_buffer("scales", scales)
        normalized = nn.utils.parametrizations.spectral_norm
        self.judges = nn.ModuleList(
            nn.Sequential(
                normalized(nn.Conv2d(c, width, 1)),
                nn.LeakyReLU(0.2),
                normalized(nn.Conv2d(width, width, 4, 2, 1)),
                nn.LeakyReLU(0.2),
                normalized(nn.Conv2d(width, 1, 3, padding=1)),
            )
            for c in channels
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Feature maps of each depth -> a map of judgements for each; high where they look like photographs."""
        return [judge(f / s) for judge, f, s in zip(self.judges, features, self.scales, strict=True)]


def cut_crops(folder: Path, settings: TrainingSettings) -> NDArray[np.uint8]:
    """Random square crops of the images of a folder, ``(images · crops, 3, r, r)`` 8-bit RGB.

    The first of each image has the full shorter side; half of all are mirrored.
    """
    _, files = folder_images(folder)
    rng = np.random.default_rng(np.random.SeedSequence([settings.seed, 1]))
    size, out = settings.resolution, []
    for file in files:
        with Image.open(file) as opened:
            image = opened.convert("RGB")
        shorter = min(image.size)
        for i in range(settings.crops):
            side = shorter if i == 0 else max(int(rng.uniform(settings.smallest_crop, 1) * shorter), 1)
            x, y = (int(rng.integers(0, full - side + 1)) for full in image.size)
            crop = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=(x, y, x + side, y + side)))
            out.append(crop[:, ::-1] if rng.random() < 0.5 else crop)
    return np.ascontiguousarray(np.stack(out).transpose(0, 3, 1, 2))


@final
class Trainer:
    """A training under way: networks, their running averages, optimizers and the number of the step.

    Args:
        crops: 8-bit photographs, see `cut_crops`.
        taps: The frozen network, on the device of the training.
        settings: The numbers.
        device: Where to train.
        start: Weights of encoder and decoder to begin with; None begins at random ones.
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
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.nets = nn.ModuleDict({"encoder": Encoder(), "decoder": SpatialDecoder()})
            if start is not None:
                self.nets.load_state_dict(start)
            self.adversary = self._new_adversary()
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

    def _new_adversary(self) -> Adversary:
        """Judges for the layers that are maps, scaled by what the first photographs give."""
        with torch.no_grad():
            features = [f for f in self.taps(self._photographs(np.arange(8) % len(self.crops))) if f.ndim == 4]
        scales = torch.stack([f.square().mean().sqrt() for f in features])
        return Adversary([f.shape[1] for f in features], scales).to(self.device)

    def _photographs(self, index: NDArray[np.int_]) -> Tensor:
        """Crops by index, as images ``(n, 3, r, r)`` in [-1, 1]."""
        batch = torch.from_numpy(self.crops[index]).to(self.device).float() / 127.5 - 1
        return batch.contiguous(memory_format=torch.channels_last)

    def run_step(self) -> dict[str, float]:
        """One update of all networks; returns the losses."""
        settings = self.settings
        rng = np.random.default_rng(np.random.SeedSequence([settings.seed, 2, self.step]))
        noise = torch.Generator().manual_seed(int(rng.integers(2**62)))
        self._set_rate()
        real = self._photographs(rng.integers(0, len(self.crops), settings.batch))
        with torch.autocast(self.device.type, torch.bfloat16):
            codes = self.nets["encoder"](real)
        codes = codes.float()
        self._follow_codes(codes)
        drawn = self._draw(len(real), noise).view_as(codes)
        judged = self.step >= settings.adversary_start
        with torch.autocast(self.device.type, torch.bfloat16):
            noisy = codes + settings.code_noise * torch.randn(codes.shape, generator=noise).to(self.device)
            images = self.nets["decoder"](torch.cat([noisy, drawn]) if judged else noisy).float()
            with torch.no_grad():
                wanted = [f.float() for f in self.taps(real)]
            features = [f.float() for f in self.taps(images)]
        losses, loss = self._losses(real, images, codes, wanted, features)
        self.adam.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.adam.step()
        if judged:
            losses["judged"] = self._teach_adversary(wanted, features)
        keep = min(settings.average, (1 + self.step) / (10 + self.step))  # the first weights are soon forgotten
        with torch.no_grad():
            for name, value in self.nets.state_dict().items():
                self.average[name].lerp_(value, 1 - keep)
        self.step += 1
        return losses

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
        """Running mean and second moment of the codes of photographs."""
        with torch.no_grad():
            flat = codes.flatten(1)
            keep = min(0.998, self.step / (self.step + 10))
            self.code_mean.lerp_(flat.mean(0), 1 - keep)
            centered = flat - self.code_mean
            self.code_square.lerp_(centered.T @ centered / len(flat), 1 - keep)

    def _draw(self, n: int, noise: torch.Generator) -> Tensor:
        """Spatial codes ``(n, dim)`` drawn from the prior as it is now."""
        z = torch.randn((n, self.dim), generator=noise).to(self.device)
        if self.step % AXES_STEPS == 0:
            self._axes = principal_axes(self.code_square)
        return self.code_mean + z @ self._axes

    def _losses(
        self, real: Tensor, images: Tensor, codes: Tensor, wanted: list[Tensor], features: list[Tensor]
    ) -> tuple[dict[str, float], Tensor]:
        """What encoder and decoder are to make small: the parts as numbers, and their sum."""
        settings, n = self.settings, len(real)
        pixel = (images[:n] - real).abs().mean()
        feature = torch.stack(
            [(f[:n] - w).abs().mean() / w.abs().mean() for f, w in zip(features, wanted, strict=True)]
        ).sum()
        rise = (self.step - settings.adversary_start) / max(settings.adversary_start, 1)
        judged = torch.zeros(())
        if self.step >= settings.adversary_start:
            self.adversary.requires_grad_(False)
            with torch.autocast(self.device.type, torch.bfloat16):
                judged = torch.stack([j.float().mean() for j in self.adversary(_maps(features))]).mean()
            self.adversary.requires_grad_(True)
        loss = (
            settings.pixel_weight * pixel
            + settings.feature_weight * feature
            + settings.code_penalty * codes.square().mean()
            - settings.adversary_weight * float(np.clip(rise, 0, 1)) * judged
        )
        return {k: float(v.detach()) for k, v in {"pixel": pixel, "feature": feature, "fooled": judged}.items()}, loss

    def _teach_adversary(self, wanted: list[Tensor], features: list[Tensor]) -> float:
        """One update of the adversary by the hinge loss; returns it."""
        with torch.autocast(self.device.type, torch.bfloat16):
            real = self.adversary([f.detach() for f in _maps(wanted)])
            drawn = self.adversary([f.detach() for f in _maps(features)])
        parts = [
            functional.relu(1 - r.float()).mean() + functional.relu(1 + d.float()).mean()
            for r, d in zip(real, drawn, strict=True)
        ]
        loss = torch.stack(parts).mean()
        self.adversary_adam.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.adversary_adam.step()
        return float(loss.detach())

    def state(self) -> dict[str, Any]:
        """All that is needed to go on identically: tensors and plain values."""
        return {
            "settings": asdict(self.settings),
            "step": self.step,
            "nets": self.nets.state_dict(),
            "average": self.average,
            "adversary": self.adversary.state_dict(),
            "adam": self.adam.state_dict(),
            "adversary_adam": self.adversary_adam.state_dict(),
            "code_mean": self.code_mean,
            "code_square": self.code_square,
            "axes": self._axes,
            "seconds": self.seconds,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes back to a saved state.

        Raises:
            InvalidArgumentError: It belongs to a training with other settings.
        """
        other = {k: v for k, v in state["settings"].items() if v != asdict(self.settings)[k]}
        if other:
            raise InvalidArgumentError(
                f"settings: the training under way has {other}; give the same, or another --out to begin a new one."
            )
        self.step = int(state["step"])
        self.nets.load_state_dict(state["nets"])
        self.adversary.load_state_dict(state["adversary"])
        self.adam.load_state_dict(state["adam"])
        self.adversary_adam.load_state_dict(state["adversary_adam"])
        self.average = {k: v.to(self.device) for k, v in state["average"].items()}
        self.code_mean, self.code_square = state["code_mean"].to(self.device), state["code_square"].to(self.device)
        self._axes = state["axes"].to(self.device)
        self.seconds = float(state["seconds"])

    def averaged(self) -> tuple[Encoder, SpatialDecoder]:
        """Encoder and decoder with the running average of their weights, on the CPU."""
        nets = nn.ModuleDict({"encoder": Encoder(), "decoder": SpatialDecoder()})
        nets.load_state_dict(self.average)
        return cast(Encoder, nets["encoder"].eval()), cast(SpatialDecoder, nets["decoder"].eval())


def _maps(features: Sequence[Tensor]) -> list[Tensor]:
    """Those features that are maps."""
    return [f for f in features if f.ndim == 4]


def train_native(
    images: Path,
    out: Path,
    taps: FeatureTaps,
    settings: TrainingSettings,
    *,
    device: str | torch.device = "cpu",
    start: Path | None = None,
    observe: Callable[[int, Mapping[str, float]], None] = lambda step, losses: None,
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
    while trainer.step < settings.steps:
        losses = trainer.run_step()
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
        "seconds": round(trainer.seconds),
        "losses": {name: round(float(np.mean(values)), 4) for name, values in recent.items()},
    }
    encoder, decoder = trainer.averaged()
    write_native(out, encoder, measure_prior(encoder, trainer.crops), decoder, facts)
    under_way.unlink(missing_ok=True)
    return facts


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
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError(
            f"out: cannot read {path}, the training under way ({reason(error)}); remove it to begin anew."
        ) from error
    return state


def _write_state(path: Path, state: Mapping[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    replace_file(path, buffer.getvalue())
