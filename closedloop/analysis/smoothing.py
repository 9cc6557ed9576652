"""Smoothing of a trajectory by a Gaussian process."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from closedloop.analysis.students import in_unit
from closedloop.interfaces import FloatArray

#: Length scales ℓ in generations, among which the likeliest is taken,
LENGTHS = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0)
#: and ratios r of the noise's to the signal's variance.
NOISE_RATIOS = np.logspace(-4, 3, 29)


def smooth(x: NDArray[np.floating], y: FloatArray) -> FloatArray:
    """Returns a Gaussian process's posterior mean at each x: constant × squared exponential + white noise.

    The length scale (1 to 5) and the share of noise maximize the marginal likelihood (Rasmussen & Williams 2006,
    equation 2.30); the signal's variance is the one that maximizes it given those.

    Args:
        x: Generations ``(n,)``.
        y: Values ``(n,)``; NaN is left out and filled by the posterior mean.

    Returns:
        ``(n,)``; NaN where there are fewer than three values, the values themselves where they are all equal.
    """
    known = ~np.isnan(y)
    n = int(known.sum())
    if n < 3:
        return np.full(len(y), np.nan)
    y, exponent = in_unit(y)
    center = y[known].mean()
    residual = y[known] - center
    if not np.any(np.abs(residual) > 1e-12 * max(abs(center), 1e-300)):
        return np.asarray(np.ldexp(np.full(len(y), center), exponent))
    best, weights, length = -np.inf, residual, LENGTHS[0]
    for candidate in LENGTHS:
        # K = V diag(λ) Vᵀ once for all noise ratios: (K + r I)⁻¹ = V diag(1 / (λ + r)) Vᵀ.
        values, vectors = np.linalg.eigh(_kernel(x[known], x[known], candidate))
        projected = vectors.T @ residual
        spectrum = np.maximum(values, 0)[None] + NOISE_RATIOS[:, None]
        # σ² = yᵀ(K + r I)⁻¹y / n at its best; then log p = -½ (n log σ² + log|K + r I|) up to a constant.
        variance = (projected**2 / spectrum).sum(1) / n
        likelihood = -0.5 * (n * np.log(variance) + np.log(spectrum).sum(1))
        i = int(np.argmax(likelihood))
        if likelihood[i] > best:
            best, length = float(likelihood[i]), candidate
            weights = vectors @ (projected / spectrum[i])
    smoothed: FloatArray = center + _kernel(x, x[known], length) @ weights
    return np.asarray(np.ldexp(smoothed, exponent))


def _kernel(a: NDArray[np.floating], b: NDArray[np.floating], length: float) -> FloatArray:
    """Returns exp(-(x - x')² / 2 ℓ²) ``(n, m)``."""
    kernel: FloatArray = np.exp(-0.5 * ((a[:, None] - b[None]) / length) ** 2)
    return kernel
