"""What is believed of one score: the posterior of a linear readout, drawn from by paths.

Where the data say little the draws differ widely, and what each likes best is worth a look; so a batch of images that
is chosen by draws both looks for the best and learns (Thompson 1933, *Biometrika*).

Letters are those of `closedloop.twins.ridge`. The noise of a score may grow with the expected score f, as in
`closedloop.optimizers.auto_surrogate`: n_i is then 1 / r(f_i). Draws are made pathwise (Matheron's rule; Wilson et al.
2020, "Efficiently sampling functions from Gaussian process posteriors", ICML): weights from the prior, corrected by
what they get wrong at the images that were shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from closedloop.interfaces import FloatArray
from closedloop.optimizers.auto_surrogate import noise_profile
from closedloop.twins.poisson import fit_poisson, responding
from closedloop.twins.ridge import fit_ridge, mixtures

#: Logarithm of the odds, beforehand, of all layers against one of them, and of constant noise against another.
ODDS = 3.0


def score_noise(expected: FloatArray, power: int) -> FloatArray:
    """Returns the variance of the noise of scores ``(n,)`` over its mean, by what is expected of them."""
    # A fifth of the mean score is added to each: what is expected is not known well.
    return noise_profile(expected, power, 0.2)


@dataclass(frozen=True)
class Beliefs:
    """What the evidence chose.

    Attributes:
        shares: Of the layers in the prior of the readout, ``(layers,)``.
        ratio: λ of noise to prior variance.
        power: Exponent of the expected score in the variance of the noise.
        kind: Of readout; see `closedloop.twins.reading`.
        mask: Of a factorized readout, ``(grid, grid)``.
    """

    shares: FloatArray
    ratio: float
    power: int
    kind: str = "ridge"
    mask: FloatArray | None = None


def layer_kernels(x: NDArray[np.float32], columns: Iterable[NDArray[np.int64]]) -> FloatArray:
    """Returns ``X_l X_lᵀ / d_l`` of each layer, ``(layers, n, n)``, of features ``(n, features)``."""
    return np.stack([x[:, at].astype(float) @ x[:, at].T / max(len(at), 1) for at in columns])


def believe(
    x: NDArray[np.float32], columns: Sequence[NDArray[np.int64]], y: FloatArray, expected: FloatArray
) -> Beliefs:
    """Returns the beliefs of the highest marginal likelihood, of images ``(n, features)`` with scores ``(n,)``.

    Args:
        x: Standardized features.
        columns: Which of them are of each layer.
        y: Scores that differ.
        expected: What the other images say of each, on which its noise may depend.
    """
    kernels, choices = layer_kernels(x, columns), mixtures(len(columns))
    best, found = -np.inf, Beliefs(choices[0], 1.0, 0)
    for number, shares in enumerate(choices):
        kernel = np.tensordot(shares, kernels, 1)[None]
        # Exponents of the expected score in the variance of its noise: no dependence, or spikes. The square of a gain
        # was tried: while few images drive the unit, it takes these for noise.
        for power in (0, 1):
            count = 1 / score_noise(expected, power)
            ridge = fit_ridge(kernel, y[:, None], count)
            # The ridge's evidence is of scores times √n; that of the scores themselves has ½ Σ log n more.
            evidence = float(ridge.evidence[0]) + 0.5 * float(np.log(count).sum())
            evidence -= ODDS * ((number > 0) + (power > 0))
            if evidence > best:
                best, found = evidence, Beliefs(shares, float(ridge.ratio[0]), power)
    # Few images do not tell no noise from some: λ is at least 1 / n. Above 100 nothing is predicted.
    return replace(found, ratio=float(np.clip(found.ratio, 1 / len(y), 100.0)))


def layer_scales(features: int, columns: Iterable[NDArray[np.int64]], shares: FloatArray) -> NDArray[np.float32]:
    """Returns the prior variance of each weight over τ²: the share of its layer over the layer's features."""
    found = np.zeros(features, np.float32)
    for at, share in zip(columns, shares, strict=True):
        found[at] = share / max(len(at), 1)
    return found


class Posterior:
    """Predicts scores of images, says how sure it is, and draws readouts; factored once for all of these.

    Args:
        x: Standardized features of the images that were shown, ``(n, features)``.
        kernel: ``x @ diag(scales) @ x.T``, ``(n, n)``.
        scales: Prior variance of each weight over τ²: the share of its layer over the layer's features.
        y: Scores ``(n,)``.
        profile: Variance of the noise of each score over its mean, ``(n,)``.
        ratio: λ.
        bias: What is expected for features of 0; None for the weighted mean score.
    """

    def __init__(
        self,
        x: NDArray[np.float32],
        kernel: FloatArray,
        scales: NDArray[np.float32],
        y: FloatArray,
        profile: FloatArray,
        ratio: float,
        bias: float | None = None,
    ) -> None:
        self._x, self._scales, self._profile = x, scales, profile
        self._exact = x.astype(float)  # duals are large and cancel
        weight = 1 / profile
        self.bias: float = float((weight * y).sum() / weight.sum()) if bias is None else bias
        self._rest = y - self.bias
        while True:
            covariance = kernel.astype(float)
            covariance[np.diag_indices(len(y))] += ratio * profile
            try:
                self._factor = cho_factor(covariance, lower=True, overwrite_a=True, check_finite=False)
                break
            except np.linalg.LinAlgError:  # images too much alike for so little noise
                ratio *= 10
        self.ratio = ratio
        dual = cho_solve(self._factor, self._rest, check_finite=False)
        self.prior: float = max(float(self._rest @ dual) / len(y), 1e-300)  # τ²
        self.expected: FloatArray = self.bias + self._rest - ratio * profile * dual  # K dual = rest - λ R dual
        self._dual = dual
        self.weights: NDArray[np.float32] = (dual @ self._exact * self._scales).astype(np.float32)

    @classmethod
    def of(
        cls, x: NDArray[np.float32], columns: Mapping[str, NDArray[np.int64]], y: FloatArray, count: FloatArray
    ) -> Posterior | None:
        """Returns what mean responses ``(n,)`` of images, each shown ``count`` times, say; None where all are alike.

        Noise and layers are those of the highest marginal likelihood; see `closedloop.twins.ridge.fit_ridge`.
        """
        kernels = layer_kernels(x, columns.values())
        ridge = fit_ridge(kernels, y[:, None], count)
        if not ridge.prior[0] > 0:
            return None
        scales = layer_scales(x.shape[1], columns.values(), ridge.shares[:, 0])
        return cls(x, np.tensordot(ridge.shares[:, 0], kernels, 1), scales, y, 1 / count, float(ridge.ratio[0]))

    def left_out(self) -> FloatArray:
        """Returns what all other images say of each one, ``(n,)`` (Rasmussen & Williams 2006, eq. 5.12)."""
        inverse = cho_solve(self._factor, np.eye(len(self._rest)), check_finite=False)
        return np.asarray(self.bias + self._rest - self._dual / np.diag(inverse))

    def mean(self, x: NDArray[np.float32]) -> FloatArray:
        """Returns the expected scores ``(m,)`` of standardized features ``(m, features)``."""
        return np.asarray(self.bias + (x @ self.weights).astype(float))

    def spread(self, x: NDArray[np.float32], profile: FloatArray) -> FloatArray:
        """Returns the standard deviation ``(m,)`` of single scores around their `mean`, their noise included.

        Args:
            x: Standardized features ``(m, features)``.
            profile: Variance of the noise of each over the mean of those that were shown, ``(m,)``.
        """
        cross = ((x * self._scales) @ self._x.T).astype(float)
        own = np.einsum("ij,ij->i", x * self._scales, x).astype(float)
        # τ² (k(x, x) - kᵀ (K + λ R)⁻¹ k) of the expected score, and σ² r of the noise.
        known = (cross * cho_solve(self._factor, cross.T, check_finite=False).T).sum(1)
        return np.asarray(np.sqrt(self.prior * (np.maximum(own - known, 0) + self.ratio * profile)))

    def draw(self, count: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Draws readouts: weights ``(count, features)`` on standardized features."""
        root = np.sqrt(np.float32(self.prior) * self._scales)
        prior = rng.standard_normal((count, self._x.shape[1])) * root
        noise = rng.standard_normal((count, len(self._rest))) * np.sqrt(self.prior * self.ratio * self._profile)
        # w = w₀ + S Xᵀ (K + λ R)⁻¹ (y - X w₀ - e)
        wrong = self._rest - prior @ self._exact.T - noise
        dual = cho_solve(self._factor, wrong.T, check_finite=False).T
        return np.asarray((prior + dual @ self._exact * self._scales).astype(np.float32))


@final
class PoissonPosterior(Posterior):
    """What scores that are spikes say: that of a linear readout of working responses; see `closedloop.twins.poisson`.

    `mean`, `expected` and `left_out` are expected scores; `weights` and draws are those of z, with which scores rise.

    Args:
        x: Standardized features of the images that were shown, ``(n, features)``.
        kernel: ``x @ diag(scales) @ x.T``, ``(n, n)``.
        scales: Prior variance of each weight over τ².
        y: Scores ``(n,)``, at least 0.
        ratio: λ; None for the best by images that are left out.
    """

    def __init__(
        self,
        x: NDArray[np.float32],
        kernel: FloatArray,
        scales: NDArray[np.float32],
        y: FloatArray,
        ratio: float | None = None,
    ) -> None:
        fit = fit_poisson(kernel, y, np.ones(len(y)), ratio)
        super().__init__(x, kernel, scales, fit.working, fit.noise, fit.ratio, fit.bias)
        self._fit = fit
        self.prior: float = max(fit.dispersion / fit.ratio, 1e-300)
        self.expected: FloatArray = responding(self.expected, fit.size)

    def left_out(self) -> FloatArray:
        """Returns what all other images say of each one, ``(n,)``, to first order."""
        return responding(self._fit.left_out, self._fit.size)

    def mean(self, x: NDArray[np.float32]) -> FloatArray:
        """Returns the expected scores ``(m,)`` of standardized features ``(m, features)``."""
        return responding(super().mean(x), self._fit.size)

    def spread(self, x: NDArray[np.float32], profile: FloatArray) -> FloatArray:
        """Returns the standard deviation ``(m,)`` of single scores around their `mean`, their noise included.

        Args:
            x: Standardized features ``(m, features)``.
            profile: Is not asked: the noise of spikes follows from their mean.
        """
        z, size = super().mean(x), self._fit.size
        known = super().spread(x, np.zeros(len(x)))
        f = responding(z, size)
        slope = np.where(z > 0, size, f)  # df / dz
        return np.asarray(np.sqrt((slope * known) ** 2 + self._fit.dispersion * size * f))
