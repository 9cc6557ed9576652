"""Training of the native generator's first model, in the spirit of DeePSiM (Dosovitskiy & Brox 2016).

An autoencoder learns to draw photographs from a spatial code. Its losses are those of DeePSiM: pixels, features of a
frozen network, and an adversary. The adversary looks at the features of the same frozen network (Sauer et al. 2021,
"Projected GANs Converge Faster") and at the fine detail, of reconstructions and of draws from the prior, N(0, I) along
the principal axes of the codes. An adversary alone leaves draws flat, and lets many codes fall into one picture; so
draws are also to have the second moments of photographs in those features (as textures have: Gatys et al. 2015), and
the encoder is to read their codes off them (Srivastava et al. 2017, "VEEGAN"). A search does not stay among typical
draws; so half of the draws lean towards few axes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from closedloop.seeds import torch_seed

from .learning import Learnt, Trainer, leaning_draws, maps_of, total
from .native import write_native
from .native_model import CHANNELS, STRIDE, Encoder, Prior, SpatialDecoder, SpatialModel, on_shell, principal_axes

#: Images that are encoded at a time.
_CHUNK = 32


@final
class SpatialTrainer(Trainer):
    """A training of the first model under way; see `closedloop.generators.learning.Trainer`."""

    def _build(self, start: Mapping[str, Tensor] | None) -> nn.ModuleDict:
        nets = nn.ModuleDict({"encoder": Encoder(), "decoder": SpatialDecoder()})
        if start is not None:
            nets.load_state_dict(start)
        side = self.settings.resolution // STRIDE
        self.dim = CHANNELS * side**2
        self.code_mean = torch.zeros(self.dim, device=self.device)
        self.code_square = torch.eye(self.dim, device=self.device)
        self._axes = torch.eye(self.dim, device=self.device)
        return nets

    def _learn(self, real: Tensor, noise: torch.Generator) -> Learnt:
        settings, n = self.settings, len(real)
        with self.autocast():
            codes = self.nets["encoder"](real)
        codes = codes.float()
        self._follow_codes(codes)
        drawn = self._draw(n, noise).view_as(codes) if self.step >= settings.draws_start else None
        with self.autocast():
            noisy = codes + settings.code_noise * torch.randn(codes.shape, generator=noise).to(self.device)
            images = self.nets["decoder"](noisy if drawn is None else torch.cat([noisy, drawn])).float()
            with torch.no_grad():
                wanted = [f.float() for f in self.taps(real)]
            features = [f.float() for f in self.taps(images)]
        losses = {
            "pixel": (images[:n] - real).abs().mean(),
            "feature": total((f[:n] - w).abs().mean() / w.abs().mean() for f, w in zip(features, wanted, strict=True)),
            "penalty": codes.square().mean(),
        }
        if drawn is None:
            return losses, [], []
        wanted, features = maps_of(real, wanted), maps_of(images, features)
        return losses | self._draw_losses(images[n:], drawn, wanted, features), wanted, [features]

    def _follow_codes(self, codes: Tensor) -> None:
        """Follows mean, second moment and principal axes of the codes of photographs."""
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
        """Draws spatial codes ``(n, dim)`` from the prior as it is now, every other one leaning; all on its shell."""
        z = on_shell(leaning_draws(n, self.dim, self.settings.leaning, noise))
        return self.code_mean + z.to(self.device) @ self._axes

    def weights(self) -> dict[str, float]:
        """Weights of the losses at this step."""
        settings, rise = self.settings, self.rise()
        return {
            "pixel": settings.pixel_weight,
            "feature": settings.feature_weight,
            "penalty": settings.code_penalty,
            "fooled": -settings.adversary_weight * rise,
            "moments": settings.moments_weight * rise,
            "recovery": settings.recovery_weight * rise,
        }

    def _draw_losses(
        self, images: Tensor, codes: Tensor, wanted: list[Tensor], features: list[Tensor]
    ) -> dict[str, Tensor]:
        """Returns the losses of the images drawn from `codes`.

        ``wanted`` are the maps of photographs, ``features`` those of reconstructions and draws.
        """
        fooled = self.fooled([features])
        with self.autocast():
            read = self.nets["encoder"](images)
        deviation = (codes - self.code_mean.view_as(codes[0])).abs().mean().detach()
        plain = [f[len(wanted[0]) :: 2] for f in features]  # of the draws that do not lean
        return {
            "fooled": fooled,
            "moments": self.difference_of_moments(wanted, plain),
            "recovery": (read.float() - codes).abs().mean() / deviation,
        }

    def own_state(self) -> dict[str, Any]:
        """Returns the running mean, second moment and axes of the codes."""
        return {"code_mean": self.code_mean, "code_square": self.code_square, "axes": self._axes}

    def restore_own(self, state: Mapping[str, Any]) -> None:
        """Takes back what `own_state` gave."""
        self.code_mean, self.code_square = state["code_mean"].to(self.device), state["code_square"].to(self.device)
        self._axes = state["axes"].to(self.device)

    def averaged(self) -> SpatialModel:
        """Returns the model with the running average of weights and the prior as it is now, on the CPU."""
        model = SpatialModel(self.dim)
        nn.ModuleDict({"encoder": model.encoder, "decoder": model.decoder}).load_state_dict(self.average)
        model.prior = Prior(self.code_mean.cpu(), principal_axes(self.code_square.cpu()))
        return model.eval()

    @torch.no_grad()
    def sheet(self, real: Tensor, draws: int) -> tuple[Tensor, Tensor]:
        """Reconstructions of photographs in [0, 1], and draws from the prior, by the running average."""
        model = self.averaged()
        codes = torch.randn((draws, self.dim), generator=torch.Generator().manual_seed(torch_seed(self.settings.seed)))
        again = (model.decoder(model.encoder(real * 2 - 1)) / 2 + 0.5).clamp(0, 1)
        return again, model.network(shell=True)(codes)

    def write(self, out: Path, facts: Mapping[str, Any]) -> None:
        """Writes the file of weights."""
        model = self.averaged()
        model.prior = measure_prior(model.encoder, self.crops)
        write_native(out, model, facts)


@torch.no_grad()
def measure_prior(encoder: Encoder, crops: NDArray[np.uint8]) -> Prior:
    """Measures mean and principal axes of the spatial codes of photographs ``(n, 3, r, r)``, 8-bit."""
    codes = [
        encoder(torch.from_numpy(crops[i : i + _CHUNK]).float() / 127.5 - 1).flatten(1)
        for i in range(0, len(crops), _CHUNK)
    ]
    whole = torch.cat(codes).double()
    return Prior(whole.mean(0).float(), principal_axes(whole.T.cov()))
