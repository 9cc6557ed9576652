"""What `Auto` has learnt from its codes so far: a Gaussian process of the score, with a law of the noise.

Letters: Rasmussen & Williams 2006, "Gaussian Processes for Machine Learning", chapters 2 and 5. The kernel is
k(x, x') = (1 + d / ℓ²)^-½ with d = Σ_j w_j (x_j - x'_j)², their "rational quadratic" (eq. 4.19) with α = ½: a small
one lets far codes count, where a Gaussian would forget them. The noise of a score with the expected value f has the
variance η r(f), with r constant, as f or as f²: no noise that depends on the response, spikes, or a gain. ℓ, η and the
law are those under which the scores are most probable (their eq. 5.8, with mean and amplitude at their best values).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from closedloop.interfaces import FloatArray

#: Lengths ℓ that are considered; two independent codes are √2 apart.
LENGTHS = np.array([0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0])
#: Variances η of the noise that are considered, over that of the process.
NOISES = 10.0 ** np.arange(-4, 2.01, 0.5)


@final
@dataclass(frozen=True)
class Laws:
    """Which of `LENGTHS` and `NOISES` hold, and how the noise depends on the response.

    Attributes:
        length: Index of ℓ.
        noise: Index of η.
        power: Exponent of the expected response in the variance of the noise: 0, 1 (spikes) or 2 (a gain).
    """

    length: int = 4
    noise: int = 6
    power: int = 0

    def neighbours(self) -> list[Laws]:
        """Returns the laws one step away in ℓ or in η, or with another law."""
        steps = [(self.length + 1, self.noise), (self.length - 1, self.noise)]
        steps += [(self.length, self.noise + 1), (self.length, self.noise - 1)]
        near = [Laws(i, j, self.power) for i, j in steps if 0 <= i < len(LENGTHS) and 0 <= j < len(NOISES)]
        return near + [Laws(self.length, self.noise, p) for p in (0, 1, 2) if p != self.power]


def squared_distances(a: FloatArray, b: FloatArray, w: FloatArray) -> FloatArray:
    """Returns Σ_j w_j (a_j - b_j)² ``(m, n)`` of codes ``(m, dim)`` and ``(n, dim)``."""
    weighted, other = a * w, b * w
    # Σ w (a - b)² = Σ w a² + Σ w b² - 2 Σ w a b: one matrix product; rounding may carry it below 0.
    squares = np.einsum("ij,ij->i", weighted, a)[:, None] + np.einsum("ij,ij->i", other, b)
    return np.asarray(np.maximum(squares - 2 * weighted @ b.T, 0))


def similarity(d: FloatArray, length: float) -> FloatArray:
    """Returns the kernel k = (1 + d / ℓ²)^-½ of squared distances d, of their shape."""
    return np.asarray(1 / np.sqrt(1 + d / length**2))


def noise_profile(expected: FloatArray, power: int, floor: float = 0.02) -> FloatArray:
    """Returns the noise's variance r(f) ∝ (floor + |f| / mean|f|)^power at expected scores f ``(n,)``, with mean 1.

    ``floor`` is the part of the mean response that is added to each, so that no score counts as free of noise.
    """
    size = np.abs(expected)
    r = (floor + size / max(float(size.mean()), 1e-300)) ** power
    return np.asarray(r / r.mean())


def log_evidence(d: FloatArray, y: FloatArray, r: FloatArray, laws: Laws) -> tuple[float, FloatArray, float]:
    """Returns how probable scores are, and the weights of the prediction.

    Args:
        d: Squared distances of the codes ``(n, n)``.
        y: Their scores ``(n,)``, standardized.
        r: Profile of the noise ``(n,)``.
        laws: The laws in question.

    Returns:
        The log evidence up to a constant (-inf where it cannot be computed), α ``(n,)``, and the mean: the prediction
        at x is mean + k(x)ᵀ α.
    """
    from scipy.linalg import cho_factor, cho_solve  # slow to import, and not needed before the first images are shown

    n = len(y)
    k = similarity(d, LENGTHS[laws.length]).astype(float)
    k[np.arange(n), np.arange(n)] += NOISES[laws.noise] * r  # K + η R, the covariance up to the amplitude s²
    try:
        factor = cho_factor(k, lower=True, overwrite_a=True, check_finite=False)
    except np.linalg.LinAlgError:  # scipy's too
        return -np.inf, np.zeros(n), 0.0
    solved = cho_solve(factor, np.column_stack([y, np.ones(n)]), check_finite=False)
    ones = float(solved[:, 1].sum())  # 1ᵀ(K + η R)⁻¹1
    mean = float(solved[:, 0].sum()) / ones  # generalized least squares: 1ᵀ(K + η R)⁻¹y / 1ᵀ(K + η R)⁻¹1
    alpha = solved[:, 0] - mean * solved[:, 1]  # (K + η R)⁻¹ (y - mean)
    misfit = max(float((y - mean) @ alpha), 1e-12)
    # Their eq. 5.8 with s² = misfit / n, its best value: -n/2 log s² - ½ log|K + η R|, and their eq. 2.45's last term
    # for a mean that is not known. The sum of the logarithms of a Cholesky factor's diagonal is half of log|K + η R|.
    # The mean is so integrated out while the amplitude is not; consistent would be n - 1 in place of n, the restricted
    # likelihood. The difference, ½ log misfit, is one n-th of the first term; it stays so that begun runs go on alike.
    evidence = -0.5 * n * np.log(misfit / n) - float(np.log(np.diag(factor[0])).sum()) - 0.5 * np.log(ones)
    return float(evidence), alpha, mean


def improve_laws(d: FloatArray, y: FloatArray, expected: FloatArray, rows: NDArray[np.intp], laws: Laws) -> Laws:
    """Returns the best of the laws and their neighbours, judged by some rows of the codes."""
    part, y = d[np.ix_(rows, rows)], y[rows]
    found = [laws, *laws.neighbours()]
    evidence = [log_evidence(part, y, noise_profile(expected, each.power)[rows], each)[0] for each in found]
    return found[int(np.argmax(evidence))]


@final
class Surrogate:
    """The expected score of any code, and its slope.

    Args:
        x: Codes ``(n, dim)``.
        alpha: Their weights ``(n,)``.
        w: Weight of each coordinate ``(dim,)``.
        length: ℓ.
    """

    def __init__(self, x: FloatArray, alpha: FloatArray, w: FloatArray, length: float) -> None:
        self.x, self.alpha, self.w, self.length = x, alpha, w, length
        self._weighted = x * w
        self._squares = np.einsum("ij,ij->i", self._weighted, x)

    def at(self, codes: FloatArray) -> FloatArray:
        """Returns what codes ``(m, dim)`` promise above the mean, ``(m,)``, in standard deviations of the scores."""
        d = self._squares - 2 * codes @ self._weighted.T + (codes**2 @ self.w)[:, None]  # as in `squared_distances`
        return np.asarray(similarity(np.maximum(d, 0), self.length) @ self.alpha)

    def value_and_slope(self, code: FloatArray) -> tuple[float, FloatArray]:
        """Returns the same for one code ``(dim,)``, and its slope times ℓ², ``(dim,)``."""
        code = code.astype(self.x.dtype)
        d = self._squares - 2 * (self._weighted @ code) + self.w @ code**2
        base = 1 + np.maximum(d, 0) / self.length**2
        k = self.alpha / np.sqrt(base)  # α_i k(x, x_i)
        # ∂k(x, x_i) / ∂x_j = -(1 + d / ℓ²)^-³⁄² w_j (x_j - x_ij) / ℓ²: each code pulls towards itself, by α_i.
        pull = (k / base).astype(self.x.dtype)
        return float(k.sum()), np.asarray(pull @ self._weighted - pull.sum() * self.w * code)
