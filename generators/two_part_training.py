"""Training of the native generator's second model, whose codes say what is seen and how it is laid out.

Its codes are measured and not learnt: what is seen is the leading principal components of the outputs of the frozen
network, a classifier, and the layout is the code of the first model's encoder. So the prior is fitted once, before the
first step, and all that learns is the decoder. It begins where the first model's decoder ended.

Of photographs it draws their own codes anew (pixels, features at several depths); of draws, half of which show what
another photograph shows in a new layout, the frozen network is to see what was asked for, and the encoder the layout,
in the whole picture and in parts of it. An adversary on features looks at both (Sauer et al. 2021, "Projected GANs
Converge Faster"), and draws are to have the second moments of photographs in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from closedloop.errors import InvalidArgumentError
from closedloop.networks.modules import born
from closedloop.seeds import torch_seed

from .learning import Learnt, Trainer, leaning_draws, maps_of, total
from .native import write_native
from .native_model import CHANNELS, STRIDE, principal_axes, whitened
from .two_part_model import CODE, WHAT, Flow, Reader, SteeredDecoder, TwoPartModel, TwoPartPrior

#: Images that are encoded at a time; codes in a step of a flow's training, and the noise that blurs them.
_CHUNK, _CODES, _BLUR = 32, 256, 0.3
#: Updates of the weights of a flow, and crops to which flows are fitted.
FLOW_STEPS, MEASURED = 600, 9000


@final
class TwoPartTrainer(Trainer):
    """A training of the second model under way; see `closedloop.generators.learning.Trainer`.

    ``start`` are encoder and decoder of the first model, and needed. The last layer of ``taps`` must be a vector, such
    as the classifier's outputs.
    """

    prior: TwoPartPrior | None = None
    seen_mean: Tensor
    seen_axes: Tensor

    def _build(self, start: Mapping[str, Tensor] | None) -> nn.ModuleDict:
        with torch.no_grad():
            seen = self.taps(self._photographs(np.zeros(1, int)))[-1]
        if start is None or seen.ndim != 2:
            raise InvalidArgumentError(
                "start: the model of two parts begins at weights of the first model, and the last layer of features "
                f"must be a vector; got {'none' if start is None else 'some'}, and {seen.ndim - 1} axes."
            )
        side = self.settings.resolution // STRIDE
        self.what: int = min(WHAT, seen.shape[1])
        self.layout: int = min(CODE - WHAT, CHANNELS * side**2)
        reader, decoder = Reader(self.what), SteeredDecoder(self.what, side)
        reader.encoder.load_state_dict(_within(start, "encoder."))
        reader.encoder.requires_grad_(False)
        decoder.begin_at(_within(start, "decoder."))
        self.side = side
        return nn.ModuleDict({"reader": reader, "decoder": decoder})

    def _encoder(self) -> nn.Module:
        return self.nets.get_submodule("reader.encoder")

    @torch.no_grad()
    def _measure(self) -> tuple[Tensor, Tensor]:
        """Returns what the frozen network sees in all photographs, and their spatial codes ``(n, d)``."""
        seen, spatial = [], []
        some = np.unique(np.linspace(0, len(self.crops) - 1, MEASURED).round().astype(int))
        for i in range(0, len(some), _CHUNK):
            real = self._photographs(some[i : i + _CHUNK])
            seen.append(self.taps(real)[-1].float().cpu())
            spatial.append(self._encoder()(real).flatten(1).cpu())
        return torch.cat(seen), torch.cat(spatial)

    def fit_prior(self, seen: Tensor, spatial: Tensor) -> TwoPartPrior:
        """Fits the prior to what is seen in photographs ``(n, k)`` and to their spatial codes ``(n, d)``."""
        seed = self.settings.seed
        prior = born(lambda: TwoPartPrior(self.what, self.layout, self.side), seed)
        self.seen_mean, self.seen_axes = _axes(seen, self.what)
        prior.spatial_mean, prior.spatial_axes = _axes(spatial, self.layout)
        what = whitened(seen, self.seen_mean, self.seen_axes)
        fit_flow(prior.what_flow, what, None, seed)
        fit_flow(prior.layout_flow, prior.whiten(spatial), what, seed)
        return self._take_prior(prior)

    def _take_prior(self, prior: TwoPartPrior) -> TwoPartPrior:
        self.prior = prior.requires_grad_(False).to(self.device)
        self.seen_mean, self.seen_axes = self.seen_mean.to(self.device), self.seen_axes.to(self.device)
        return self.prior

    def _ready(self) -> TwoPartPrior:
        """Returns the prior, which is fitted if that was not done before."""
        if self.prior is None:
            return self.fit_prior(*self._measure())
        return self.prior

    def _learn(self, real: Tensor, noise: torch.Generator) -> Learnt:
        prior, n = self._ready(), len(real)
        spatial, read = self.nets["reader"](real)
        with torch.no_grad():
            *wanted, seen = (f.float() for f in self.taps(real))
            what = whitened(seen, self.seen_mean, self.seen_axes)
            spatial = prior.cut(spatial)
            drawn_what, drawn = self._draw(what, noise)
        with self.autocast():
            layouts = torch.cat([spatial, drawn])
            images = self.nets["decoder"](torch.cat([what, drawn_what]), layouts).float()
            again = [f.float() for f in self.taps(images[:n])]
            part = _part(images[n:], noise)
            *parts, sees = (f.float() for f in self.taps(part))
        pairs = zip(again, [*wanted, seen], strict=True)
        losses = {
            "pixel": (images[:n] - real).abs().mean(),
            "feature": total((f - w).abs().mean() / w.abs().mean() for f, w in pairs),
            "read": functional.mse_loss(read, what),
            "what": self._difference_of_what(sees, drawn_what),
            "layout": (self._encoder()(images[n:]) - drawn).abs().mean() / (drawn - drawn.mean(0)).abs().mean(),
        }
        wanted, judged = maps_of(real, wanted), [maps_of(images[:n], again), maps_of(part, parts)]
        losses["fooled"] = self.fooled(judged)
        losses["moments"] = self.difference_of_moments(wanted, judged[1])
        return losses, wanted, judged

    def _draw(self, what: Tensor, noise: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draws as many codes as photographs: half show what another of these shows, half are draws altogether."""
        prior, n = self._ready(), len(what)
        codes = prior.on_shells(leaning_draws(n, prior.dim, self.settings.leaning, noise).to(self.device))
        drawn = prior.what_flow(codes[:, : prior.what])
        drawn[: n // 2] = what[: n // 2]
        return drawn, prior.spatial(codes[:, prior.what :], drawn)

    def _difference_of_what(self, sees: Tensor, what: Tensor) -> Tensor:
        """Returns how far what is seen in draws is from what was asked for, on average, in units of its deviation."""
        size = self.seen_axes.norm(dim=1)
        asked, along = what * size, whitened(sees, self.seen_mean, self.seen_axes) * size
        difference: Tensor = (along - asked).abs().mean() / asked.abs().mean()
        return difference

    def weights(self) -> dict[str, float]:
        """Weights of the losses at this step."""
        settings, rise = self.settings, self.rise()
        return {
            "pixel": settings.pixel_weight,
            "feature": settings.feature_weight,
            "read": 1.0,
            "what": settings.recovery_weight * rise,
            "layout": 0.5 * settings.recovery_weight * rise,
            "fooled": -settings.adversary_weight * rise,
            "moments": settings.moments_weight * rise,
        }

    def own_state(self) -> dict[str, Any]:
        """Returns the prior, and what is measured of the frozen network."""
        prior = self._ready()
        return {"prior": prior.state_dict(), "seen_mean": self.seen_mean, "seen_axes": self.seen_axes}

    def restore_own(self, state: Mapping[str, Any]) -> None:
        """Takes back what `own_state` gave."""
        prior = born(lambda: TwoPartPrior(self.what, self.layout, self.side), 0)
        prior.load_state_dict(state["prior"])
        self.seen_mean, self.seen_axes = state["seen_mean"], state["seen_axes"]
        self._take_prior(prior)

    def averaged(self) -> TwoPartModel:
        """Returns the model with the running average of weights, on the CPU."""
        model = TwoPartModel(self.what, self.layout, self.side)
        nn.ModuleDict({"reader": model.reader, "decoder": model.decoder}).load_state_dict(self.average)
        model.prior.load_state_dict(self._ready().state_dict())
        return model.eval().requires_grad_(False)

    @torch.no_grad()
    def sheet(self, real: Tensor, draws: int) -> tuple[Tensor, Tensor]:
        """Reconstructions of photographs in [0, 1], and draws from the prior, by the running average."""
        model = self.averaged()
        codes = torch.randn((draws, model.dim), generator=torch.Generator().manual_seed(torch_seed(self.settings.seed)))
        seen = whitened(self.taps(real.to(self.device) * 2 - 1)[-1], self.seen_mean, self.seen_axes).cpu()
        spatial = model.prior.cut(model.reader.encoder(real * 2 - 1))
        return (model.decoder(seen, spatial) / 2 + 0.5).clamp(0, 1), model.network(shell=True)(codes)

    def write(self, out: Path, facts: Mapping[str, Any]) -> None:
        """Writes the file of weights, with the mean code of each class."""
        model = self.averaged()
        seen, _ = self._measure()
        model.register_buffer("classes", self.class_codes(seen).cpu())
        write_native(out, model, facts)

    @torch.no_grad()
    def class_codes(self, seen: Tensor) -> Tensor:
        """Returns the mean code of what is seen for each class, ``(k, what)``, from outputs for photographs ``(n, k)``.

        Each photograph counts for a class with the probability that the network gives it there.
        """
        prior = self._ready()
        codes, _ = prior.what_flow.invert(whitened(seen.to(self.device), self.seen_mean, self.seen_axes))
        shares = seen.to(self.device).softmax(1)
        return (shares.T @ codes) / shares.sum(0)[:, None].clamp_min(torch.finfo(shares.dtype).tiny)


def fit_flow(flow: Flow, codes: Tensor, condition: Tensor | None, seed: int, steps: int | None = None) -> list[float]:
    """Fits a flow to whitened codes ``(n, d)``, given a condition or none; returns the surprise at each step."""
    generator, count = torch.Generator().manual_seed(torch_seed(seed)), FLOW_STEPS if steps is None else steps
    adam = torch.optim.AdamW(flow.parameters(), 1e-3, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, count)
    seen = []
    for _ in range(count):
        index = torch.randint(len(codes), (_CODES,), generator=generator)
        given = None if condition is None else condition[index]
        blurred = codes[index] + _BLUR * torch.randn((_CODES, codes.shape[1]), generator=generator)
        loss = flow.surprise(blurred, given).mean()
        adam.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(flow.parameters(), 1.0)
        adam.step()
        schedule.step()
        seen.append(float(loss.detach()))
    return seen


def _axes(data: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Returns mean and leading principal axes, ``(count, d)``, of data ``(n, d)``, times their standard deviations."""
    whole = data.double()
    return whole.mean(0).float(), principal_axes(whole.T.cov())[:count].contiguous()


def _within(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Returns the tensors under a name, without it."""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _part(images: Tensor, noise: torch.Generator) -> Tensor:
    """Returns the same random square of all images ``(n, 3, r, r)``, 7/8 of a side; no pixel is changed."""
    size = images.shape[-1]
    side = size * 7 // 8
    y, x = (int(torch.randint(size - side + 1, (), generator=noise)) for _ in range(2))
    return images[:, :, y : y + side, x : x + side].contiguous(memory_format=torch.channels_last)
