"""Plug and play generative networks: a gradient step, a step toward the prior of the codes, and noise.

Source: Nguyen et al. 2017, "Plug & play generative networks: conditional iterative generation of images in latent
space" (Joint PPGN-h), in the form of the published sampler: h ← h + rate · d / mean|d| with

    d = ε₁ (E(G(h)) - h) + ε₂ ∂ log p(y | G(h)) / ∂h + N(0, ε₃²).

Because the whole step has a fixed mean size, only the ratios of the three matter, and the published ε₃ of 1e-17 makes
it an optimizer rather than a sampler.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, final

import numpy as np

from closedloop.checks import check_positive
from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import FloatArray, Space
from closedloop.optimizers.gradient.ascent import Ascent
from closedloop.optimizers.gradient.regularizers import Clip, Regularizer, read_regularizers
from closedloop.signatures import at_door

#: Codes ``(n, dim)`` -> what the encoder makes of their images, ``(n, dim)``.
Reconstruction = Callable[[FloatArray], FloatArray]


@final
class PPGN(Ascent):
    """Climbs with a prior learnt by an encoder, see the module. It has no recipe: the encoder is a function.

    Args:
        space: Where to search.
        seed: Of the first codes and of the noise.
        reconstruct: Codes ``(n, dim)`` -> E(G(codes)), the codes of their own images.
        steps: See `Ascent`.
        rate: Mean size of the first step, in working units.
        last_rate: Of the last one, to which it goes linearly; default the same.
        epsilons: ε₁ (prior), ε₂ (condition), ε₃ (noise); at least 0, not all 0.
        regularizers: Applied after each step; the published sampler clips codes to [0, 30].
        **options: `copies`, `start`, `spread`, `unit` and `origin` of `Ascent`.
    """

    name = "ppgn"

    @at_door
    def __init__(
        self,
        space: Space,
        seed: int = 0,
        *,
        reconstruct: Reconstruction,
        steps: int = 200,
        rate: float = 1.0,
        last_rate: float | None = None,
        epsilons: Sequence[float] = (1e-5, 1.0, 1e-17),
        regularizers: Sequence[Regularizer] = (Clip(-3.0, 3.0),),
        **options: Any,
    ) -> None:
        check_positive("rate", rate)
        check_positive("last_rate", rate if last_rate is None else last_rate)
        values = np.asarray(epsilons, dtype=float)
        if values.shape != (3,) or not (np.isfinite(values) & (values >= 0)).all() or not values.any():
            raise InvalidArgumentError(f"epsilons: expected three numbers of at least 0, not all 0, got {epsilons!r}.")
        super().__init__(space, seed, steps=steps, **options)
        self.rate: float = float(rate)
        self.last_rate: float = self.rate if last_rate is None else float(last_rate)
        self.epsilons = values
        self.regularizers: tuple[Regularizer, ...] = read_regularizers(regularizers)
        self._reconstruct = reconstruct

    @property
    def recipe(self) -> None:
        """None: it cannot be made again from plain values."""
        return None

    def _step(self, w: FloatArray, scores: FloatArray, g: FloatArray) -> FloatArray:
        prior, condition, noise = self.epsilons
        d = condition * g + noise * self._rng.standard_normal(w.shape)  # ε₂ ∂ log p / ∂h + N(0, ε₃²)
        if prior:
            # ε₁ (E(G(h)) - h): the gradient of log p(h), by a denoising autoencoder; in working units.
            codes = self.space.clip(self.origin + w / self.unit)
            d = d + prior * self.unit * (np.asarray(self._reconstruct(codes), dtype=float) - codes)
        rate = self.rate + (self.last_rate - self.rate) * self._k / max(self.steps - 1, 1)
        w = w + rate * d / np.maximum(np.abs(d).mean(1, keepdims=True), np.finfo(float).tiny)
        for regularizer in self.regularizers:
            w = regularizer(w, g, self._k)
        return w
