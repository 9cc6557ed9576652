"""Readouts of spikes: a Poisson likelihood, of which the variance is in proportion to the mean.

The expected response is f = s (elu(z) + 1) with z = b + w·x: s eᶻ below the mean response s, and s (1 + z) above it, so
that what a unit is promised for an image beyond those of the fit grows no faster than linearly (the nonlinearity of
Lurz et al. 2021, *ICLR*). The weights maximize Σ n (y log f - f) - λ s |w|²_P / 2, a concave function, by Fisher
scoring. A factor between variance and mean, of spikes that are more or less regular than Poisson's or of responses in
other units, is in λ (quasi-likelihood; Wedderburn 1974, *Biometrika*). λ has the highest likelihood of images that are
left out one by one, to first order (Rad & Maleki 2020, *JRSS B*).

At the maximum the posterior is, to second order, that of a linear readout of working responses z + (y - f) / f' whose
noise is f / f'² (Laplace's approximation); so it is drawn from as any other (`closedloop.twins.posterior`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve

from closedloop.interfaces import FloatArray

#: Ratios λ that are compared, of kernels whose mean own product is 1.
RATIOS = np.logspace(-3, 4, 15)
#: Prior variance of the intercept b, over that of w·x.
INTERCEPT = 10.0
#: Images that decide about λ, at most.
JUDGES = 300
#: Steps of Fisher scoring, at most, and by which share of itself what is minimized must fall for another one.
STEPS, ENOUGH = 30, 1e-7
#: Where z is cut: below it nothing is expected.
LOWEST = -12.0


def responding(z: FloatArray, size: FloatArray | float) -> FloatArray:
    """Returns expected responses f = s (elu(z) + 1)."""
    z = np.maximum(z, LOWEST)
    return np.asarray(size * np.where(z > 0, z + 1, np.exp(np.minimum(z, 0))))


@dataclass(frozen=True)
class PoissonFit:
    """A readout of spikes, by its kernel.

    Attributes:
        dual: ``(images,)``: z of new images is ``bias + kernel @ dual``, with kernels as they were given.
        bias: b.
        size: s, the mean response.
        ratio: λ, over the kernel as it was given.
        working: Working responses, ``(images,)``, of which `dual` is the linear readout.
        noise: Variance of each over the dispersion, ``(images,)``.
        dispersion: Variance of a single response ÷ mean, in units of s.
        left_out: z that the other images say of each, ``(images,)``.
    """

    dual: FloatArray
    bias: float
    size: float
    ratio: float
    working: FloatArray
    noise: FloatArray
    dispersion: float
    left_out: FloatArray


def fit_poisson(kernel: FloatArray, y: FloatArray, count: FloatArray, ratio: float | None = None) -> PoissonFit:
    """Fits the readout of one unit.

    Args:
        kernel: ``X P Xᵀ``, ``(images, images)``.
        y: Mean responses, ``(images,)``, at least 0.
        count: Presentations of each image, at least 1.
        ratio: λ; None for the best by images that are left out.
    """
    size = float((count * y).sum() / count.sum())
    usual = float(np.diag(kernel).mean())
    if not size > 0 or not usual > 0 or y.max() == y.min():
        flat = np.zeros(len(y))
        return PoissonFit(flat, 0.0, size, RATIOS[-1], flat, 1 / count, 0.0, flat)
    k, y = kernel / usual + INTERCEPT, y / size
    if ratio is None:
        at = np.unique(np.linspace(0, len(y) - 1, min(JUDGES, len(y))).round().astype(int))
        ratio = usual * _chosen(k[np.ix_(at, at)], y[at], count[at])
    own = float(ratio) / usual
    dual = _scored(k, y, count, own, np.zeros(len(y)))
    z = k @ dual
    slope, w = _weights(z, count)
    f = responding(z, 1.0)
    working = z + (y - f) / slope
    left_out, fitted = _left_out(k, working, w, own)
    freedom = max(len(y) - fitted, 1.0)
    dispersion = float((count * (y - f) ** 2 / f).sum() / freedom)
    return PoissonFit(
        dual / usual, INTERCEPT * float(dual.sum()), size, float(ratio), working, 1 / w, dispersion, left_out
    )


def _chosen(k: FloatArray, y: FloatArray, count: FloatArray) -> float:
    """Returns λ under which images that are left out are most probable."""
    dual: FloatArray = np.zeros(len(y))
    best, found = np.inf, RATIOS[-1]
    for ratio in RATIOS[::-1]:
        dual = _scored(k, y, count, ratio, dual)
        z = k @ dual
        slope, w = _weights(z, count)
        left_out, _ = _left_out(k, z + (y - responding(z, 1.0)) / slope, w, ratio)
        f = responding(left_out, 1.0)
        loss = float((count * (f - y * np.log(f))).sum())
        if loss < best:
            best, found = loss, ratio
    return float(found)


def _scored(k: FloatArray, y: FloatArray, count: FloatArray, ratio: float, dual: FloatArray) -> FloatArray:
    """Returns the dual that maximizes the penalized likelihood, by Fisher scoring from one that is near."""

    def loss(a: FloatArray) -> float:
        z = k @ a
        f = responding(z, 1.0)
        return float((count * (f - y * np.log(f))).sum() + ratio / 2 * (a @ z))

    now = loss(dual)
    for _ in range(STEPS):
        z = k @ dual
        slope, w = _weights(z, count)
        towards = solve(
            k + np.diag(ratio / w), z + (y - responding(z, 1.0)) / slope, assume_a="pos", check_finite=False
        )
        size, there = 1.0, loss(towards)
        while not there <= now and size > 1e-4:
            size /= 2
            there = loss(dual + size * (towards - dual))
        if not there < now - ENOUGH * max(abs(now), 1.0):
            break
        dual, now = dual + size * (towards - dual), there
    return dual


def _weights(z: FloatArray, count: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Returns df / dz, and the information n f'² / f of each image, of s = 1."""
    z = np.maximum(z, LOWEST)
    slope = np.where(z > 0, 1, np.exp(np.minimum(z, 0)))
    return slope, count * slope**2 / responding(z, 1.0)


def _left_out(k: FloatArray, working: FloatArray, w: FloatArray, ratio: float) -> tuple[FloatArray, float]:
    """Returns what the others say of each image, and how many numbers are fitted.

    Rasmussen & Williams 2006, equation 5.12; the trace of what turns responses into fitted ones.
    """
    factor = cho_factor(k + np.diag(ratio / w), lower=True, check_finite=False)
    inverse = cho_solve(factor, np.eye(len(w)), check_finite=False)
    own = np.diag(inverse)
    return working - (inverse @ working) / own, float(len(w) - (ratio / w * own).sum())
