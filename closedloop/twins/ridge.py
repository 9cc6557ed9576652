"""Bayesian ridge regression whose noise, and whose layers, the evidence chooses.

The model of one unit's mean response to image i, shown n_i times, is

    y_i = f_i + e_i,    f ~ N(0, τ² K),    e_i ~ N(0, σ² / n_i),    K = Σ_l w_l X_l X_lᵀ / d_l,

with the standardized activations X_l of layer l, of d_l features. λ = σ² / τ² and the shares w of the layers maximize
the marginal likelihood (MacKay 1992, *Neural Computation*; Rasmussen & Williams 2006, chapter 5). With rows multiplied
by √n_i the noise is white, and one eigendecomposition serves all units and all λ.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from closedloop.interfaces import FloatArray

#: Ratios λ of noise to prior variance that are compared; responses to images differ by about τ² where λ is small.
RATIOS = np.logspace(-5, 6, 45)


@dataclass(frozen=True)
class Ridge:
    """The posterior mean of several units.

    Attributes:
        dual: ``(images, units)``: the prediction for features x is ``bias + Σ_l w_l X_l x_l / d_l · dual``.
        bias: ``(units,)``, weighted mean response.
        shares: Share w of each layer, ``(layers, units)``.
        ratio: λ of each unit.
        prior: τ², ``(units,)``.
        evidence: Log marginal likelihood at its maximum, up to a constant, ``(units,)``.
    """

    dual: FloatArray
    bias: FloatArray
    shares: FloatArray
    ratio: FloatArray
    prior: FloatArray
    evidence: FloatArray

    def predict(self, kernels: FloatArray) -> FloatArray:
        """Returns predictions ``(m, units)`` from kernels ``(layers, m, images)`` between new images and the fitted."""
        found: FloatArray = self.bias + sum(
            (kernel @ self.dual) * share for kernel, share in zip(kernels, self.shares, strict=True)
        )
        return found


def mixtures(layers: int) -> FloatArray:
    """Returns the shares of layers that are compared: all alike, and each alone; ``(mixtures, layers)``."""
    alike = np.full((1, layers), 1 / layers)
    return alike if layers == 1 else np.concatenate([alike, np.eye(layers)])


def fit_ridge(kernels: FloatArray, mean: FloatArray, count: NDArray[np.floating]) -> Ridge:
    """Fits the model to mean responses of units that share their numbers of presentations.

    Args:
        kernels: ``X_l X_lᵀ / d_l`` of each layer, ``(layers, images, images)``.
        mean: Mean responses, ``(images, units)``.
        count: Presentations n of each image, ``(images,)``, at least 1.
    """
    n, units = mean.shape
    root = np.sqrt(count)
    bias = (count[:, None] * mean).sum(0) / count.sum()
    y = root[:, None] * (mean - bias)
    flat = (y**2).sum(0) == 0
    best: dict[str, FloatArray] = {
        "evidence": np.full(units, -np.inf),
        "ratio": np.full(units, RATIOS[-1]),
        "prior": np.zeros(units),
    }
    dual, shares = np.zeros((n, units)), np.zeros((len(kernels), units))
    for w in mixtures(len(kernels)):
        values, vectors = linalg.eigh(np.tensordot(w, kernels, 1) * np.outer(root, root), driver="evd")
        values = np.maximum(values, 0)
        a = vectors.T @ y
        # τ̂² = mean of a² / (s + λ); log evidence = -½ [n log τ̂² + Σ log(s + λ)].
        spread = values + RATIOS[:, None]
        prior = (1 / spread) @ a**2 / n
        with np.errstate(divide="ignore"):
            evidence = -0.5 * (n * np.log(prior) + np.log(spread).sum(1)[:, None])
        at = evidence.argmax(0)
        own = np.arange(units)
        better = (evidence[at, own] > best["evidence"]) & ~flat
        ratio = RATIOS[at]
        for name, found in (("evidence", evidence[at, own]), ("ratio", ratio), ("prior", prior[at, own])):
            best[name] = np.where(better, found, best[name])
        again = root[:, None] * (vectors @ (a / (values[:, None] + ratio)))
        dual = np.where(better, again, dual)
        shares = np.where(better, w[:, None], shares)
    return Ridge(dual, bias, shares, best["ratio"], best["prior"], best["evidence"])
