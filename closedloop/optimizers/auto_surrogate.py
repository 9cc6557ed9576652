"""What `Auto` has learnt from its codes so far: a Gaussian process of the warped score, with a law of the noise.

Letters: Rasmussen & Williams 2006, "Gaussian Processes for Machine Learning", chapters 2 and 5. The kernel is
k(x, x') = (1 + d / ℓ²)^-½ with d = Σ_j w_j (x_j - x'_j)², their "rational quadratic" (eq. 4.19) with α = ½: a small
one lets far codes count, where a Gaussian would forget them. The noise of a score with the expected value f has the
variance η r(f), with r constant, as f or as f²: no noise that depends on the response, spikes, or a gain. The process
is one of the scores y themselves or of asinh(y / c), the logarithm of large ones (Snelson, Rasmussen & Ghahramani 2004,
"Warped Gaussian processes"), and what was seen long ago may count for less (Bogunovic, Scarlett & Cevher 2016,
"Time-varying Gaussian process bandit optimization"). ℓ, η, the law of the noise, c and the memory are those under which
the scores are most probable (eq. 5.8 of Rasmussen & Williams, with mean and amplitude at their best values).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import numpy as np

from closedloop.interfaces import FloatArray

#: Lengths ℓ that are considered; two independent codes are √2 apart.
LENGTHS = np.array([0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0])
#: Variances η of the noise that are considered, over that of the process.
NOISES = 10.0 ** np.arange(-4, 2.01, 0.5)
#: Scales c of the warping asinh(y / c) that are considered, over the median size of the scores; the first is none.
WARPS = np.array([np.inf, 1.0, 0.2])
#: Memories τ that are considered, in codes: what was seen so many codes ago counts e times less. The first is for ever.
MEMORIES = np.array([np.inf, 1600.0, 800.0, 400.0, 200.0, 100.0])
#: Residuals beyond so many of their usual sizes count for less: noise of heavy tails.
USUAL = 3.0


@final
@dataclass(frozen=True)
class Laws:
    """Which of `LENGTHS`, `NOISES`, `WARPS` and `MEMORIES` hold, and how the noise depends on the response.

    Attributes:
        length: Index of ℓ.
        noise: Index of η.
        power: Exponent of the expected response in the variance of the noise: 0, 1 (spikes) or 2 (a gain).
        warp: Index of c.
        memory: Index of τ.
    """

    length: int = 4
    noise: int = 6
    power: int = 0
    warp: int = 0
    memory: int = 0

    def neighbours(self) -> list[Laws]:
        """Returns the laws one step away in one of the five, the law of the noise to any other."""
        near = [replace(self, power=p) for p in (0, 1, 2) if p != self.power]
        for name, known in (("length", LENGTHS), ("noise", NOISES), ("warp", WARPS), ("memory", MEMORIES)):
            at = getattr(self, name)
            near += [replace(self, **{name: i}) for i in (at + 1, at - 1) if 0 <= i < len(known)]
        return near


@final
class Warp:
    """Scores y as z = (asinh(y / c) - mean) / standard deviation, or without the asinh.

    Args:
        y: The scores ``(n,)`` of which mean, standard deviation and median size are taken.
        index: Which of `WARPS`.
    """

    def __init__(self, y: FloatArray, index: int) -> None:
        size = np.abs(y[y != 0])
        self.c: float = float(WARPS[index] * np.median(size)) if len(size) else np.inf
        bent = self._bent(y)
        self.mean: float = float(bent.mean())
        self.sd: float = float(bent.std())

    def _bent(self, y: FloatArray) -> FloatArray:
        return y if np.isinf(self.c) else np.arcsinh(y / self.c)

    def __call__(self, y: FloatArray) -> FloatArray:
        """Returns z of scores ``(n,)``."""
        return np.asarray((self._bent(y) - self.mean) / self.sd)

    def back(self, z: FloatArray) -> FloatArray:
        """Returns the scores of z ``(n,)``; those that would be larger than e⁴⁰ c are that."""
        bent = self.mean + self.sd * z
        return bent if np.isinf(self.c) else np.asarray(self.c * np.sinh(np.clip(bent, -40, 40)))

    def slope(self, y: FloatArray) -> FloatArray:
        """Returns dz / dy ``(n,)`` at scores."""
        return np.full(len(y), 1 / self.sd) if np.isinf(self.c) else 1 / np.sqrt(y**2 + self.c**2) / self.sd


def squared_distances(a: FloatArray, b: FloatArray, w: FloatArray) -> FloatArray:
    """Returns Σ_j w_j (a_j - b_j)² ``(m, n)`` of codes ``(m, dim)`` and ``(n, dim)``."""
    weighted, other = a * w, b * w
    # Σ w (a - b)² = Σ w a² + Σ w b² - 2 Σ w a b: one matrix product; rounding may carry it below 0.
    squares = np.einsum("ij,ij->i", weighted, a)[:, None] + np.einsum("ij,ij->i", other, b)
    return np.asarray(np.maximum(squares - 2 * weighted @ b.T, 0))


def similarity(d: FloatArray, length: float) -> FloatArray:
    """Returns the kernel k = (1 + d / ℓ²)^-½ of squared distances d, of their shape."""
    k = np.asarray(d / length**2)
    k += 1  # in place: of 800 codes each step anew is five megabytes
    np.sqrt(k, out=k)
    return np.asarray(np.divide(1, k, out=k))


def noise_profile(expected: FloatArray, power: int, floor: float = 0.02) -> FloatArray:
    """Returns the noise's variance r(f) ∝ (floor + |f| / mean|f|)^power at expected scores f ``(n,)``, with mean 1.

    ``floor`` is the part of the mean response that is added to each, so that no score counts as free of noise.
    """
    size = np.abs(expected)
    r = (floor + size / max(float(size.mean()), 1e-300)) ** power
    return np.asarray(r / r.mean())


def warped_profile(expected: FloatArray, power: int, warp: Warp) -> FloatArray:
    """Returns the profile of the noise of warped scores ``(n,)``, with mean 1: r(f) (dz / df)², to first order."""
    r = noise_profile(expected, power) * warp.slope(expected) ** 2
    return np.asarray(np.maximum(r / r.mean(), 1e-4))


def steadied(r: FloatArray, away: FloatArray) -> FloatArray:
    """Returns a profile ``(n,)`` with more noise where scores lie farther away than `USUAL` times the usual.

    Args:
        r: Profile of the noise.
        away: Distances ``(n,)`` of warped scores from what was expected of them.
    """
    away = away / np.sqrt(r)
    usual = 1.4826 * float(np.median(away))  # of a normal distribution the standard deviation
    return r if usual == 0 else r * np.clip(away / (USUAL * usual), 1, 1000) ** 2


def faded(age: FloatArray, memory: int) -> FloatArray:
    """Returns exp(-age / τ) of ages in codes, of their shape: how much of what was seen still counts."""
    return np.asarray(np.exp(-age / MEMORIES[memory]))


def log_evidence(
    d: FloatArray, y: FloatArray, r: FloatArray, laws: Laws, t: FloatArray | None = None
) -> tuple[float, FloatArray, float]:
    """Returns how probable scores are, and the weights of the prediction.

    Args:
        d: Squared distances of the codes ``(n, n)``.
        y: Their scores ``(n,)``, warped and standardized.
        r: Profile of the noise ``(n,)``.
        laws: The laws in question.
        t: When they were shown ``(n,)``, in codes; not needed where nothing is forgotten.

    Returns:
        The log evidence up to a constant (-inf where it cannot be computed), α ``(n,)``, and the mean: the prediction
        at x is mean + k(x)ᵀ α.
    """
    from scipy.linalg import cho_factor, cho_solve  # slow to import, and not needed before the first images are shown

    n = len(y)
    k = similarity(d, LENGTHS[laws.length]).astype(float, copy=False)
    if laws.memory and t is not None:
        k *= faded(np.abs(t[:, None] - t), laws.memory)
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


def improve_laws(d: FloatArray, y: FloatArray, expected: FloatArray, t: FloatArray, laws: Laws) -> Laws:
    """Returns the best of the laws and their neighbours.

    Args:
        d: Squared distances of the codes ``(n, n)``.
        y: Their scores ``(n,)``.
        expected: What was expected of them ``(n,)``.
        t: When they were shown ``(n,)``, in codes.
        laws: The laws so far.
    """

    def evidence(each: Laws) -> float:
        warp = Warp(y, each.warp)
        if warp.sd == 0:
            return -np.inf
        found = log_evidence(d, warp(y), warped_profile(expected, each.power, warp), each, t)[0]
        # The evidence is that of the scores as they came, whatever the warping: Σ log dz / dy belongs to it.
        # Its logarithm must rise by so much for a shorter memory, and for another warping.
        doubt = 2.0 * (each.memory > laws.memory) + 1.0 * (each.warp != laws.warp)
        return found + float(np.log(warp.slope(y)).sum()) - doubt

    return max([laws, *laws.neighbours()], key=evidence)


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
        self.x: FloatArray = x
        self.alpha: FloatArray = alpha
        self.w: FloatArray = w
        self.length: float = length
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
