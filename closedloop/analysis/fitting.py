"""What fits of tuning share: standard errors that hold where noise grows with the response, and a test of any tuning.

Least squares is unbiased whatever the noise, but its usual standard errors hold for noise of one size. Spikes are not
like that: the sandwich of White (1980) takes each residual for itself, here as HC3 (MacKinnon & White 1985), which
holds in small samples, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from closedloop.interfaces import FloatArray
from closedloop.seeds import named_generator

#: Shuffles of a permutation test, and the level above which a unit counts as not tuned.
SHUFFLES, LEVEL = 499, 0.01


def sandwich(jacobian: FloatArray, residual: FloatArray) -> FloatArray:
    """Returns the covariance of least-squares estimates by HC3, ``(p, p)``.

    Args:
        jacobian: Derivatives of the model by each parameter, ``(n, p)``.
        residual: ``(n,)``.
    """
    q, r = np.linalg.qr(jacobian)
    back = np.linalg.pinv(r)  # (JᵀJ)⁻¹ = R⁻¹ R⁻ᵀ
    leverage = np.minimum((q**2).sum(1), 1 - 1e-9)  # h_i, the diagonal of J (JᵀJ)⁻¹ Jᵀ
    meat = q * (residual / (1 - leverage))[:, None]  # e_i / (1 - h_i)
    covariance: FloatArray = back @ (meat.T @ meat) @ back.T
    return covariance


def derivatives(function: Callable[[FloatArray], FloatArray], at: FloatArray, step: float = 1e-5) -> FloatArray:
    """Returns central differences of a function ``(p,) -> (n,)`` by each parameter, ``(n, p)``."""
    columns = []
    for i, size in enumerate(step * np.maximum(np.abs(at), 1.0)):
        move = np.zeros_like(at)
        move[i] = size
        columns.append((function(at + move) - function(at - move)) / (2 * size))
    return np.stack(columns, axis=1)


@dataclass(frozen=True)
class Grouped:
    """Responses in groups, in each of which a model has a level and an amplitude of its own.

    A model is then ``level[group] + amplitude[group] * shape``: what remains to be searched for is the shape alone
    (variable projection, Golub & Pereyra 1973).

    Attributes:
        y: Mean response to each stimulus, ``(n,)``, all known.
        group: Group of each, ``(n,)``, from 0.
    """

    y: FloatArray
    group: NDArray[np.intp]

    @property
    def count(self) -> int:
        """How many groups there are."""
        return int(self.group.max()) + 1

    def centred(self, values: FloatArray) -> FloatArray:
        """Returns values ``(…, n)`` less the mean of their group."""
        out = np.array(values, dtype=float)
        for g in range(self.count):
            own = self.group == g
            out[..., own] -= out[..., own].mean(-1, keepdims=True)
        return out

    def linear(self, shape: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Returns the level and the amplitude of each group that fit best with a shape ``(n,)``."""
        mean_y, mean_s = (np.bincount(self.group, v) / np.bincount(self.group) for v in (self.y, shape))
        x, y = shape - mean_s[self.group], self.y - mean_y[self.group]
        size = np.bincount(self.group, x * x)
        amplitude = np.where(size > 1e-300, np.bincount(self.group, x * y) / np.maximum(size, 1e-300), 0.0)
        return mean_y - amplitude * mean_s, amplitude

    def fitted(self, shape: FloatArray) -> FloatArray:
        """Returns what the best level and amplitude of each group make of a shape, ``(n,)``."""
        level, amplitude = self.linear(shape)
        return level[self.group] + amplitude[self.group] * shape

    def scan(self, shapes: FloatArray, seed: int) -> tuple[FloatArray, float]:
        """Tries shapes, and tests whether the response depends on the stimulus within groups at all.

        The statistic is the largest explained share of the variance over all shapes; its distribution where there is
        no tuning comes from responses that are shuffled within groups, so the choice of the best shape is paid for.

        Args:
            shapes: ``(m, n)``.
            seed: Of the shuffles.

        Returns:
            The share that each shape explains, ``(m,)``, and the probability of one so large without tuning.
        """
        rng = named_generator(seed, "tuning")
        shuffled = np.tile(self.y, (SHUFFLES + 1, 1))
        for g in range(self.count):
            own = np.flatnonzero(self.group == g)
            shuffled[1:, own] = rng.permuted(shuffled[1:, own], axis=1)
        y, x = self.centred(shuffled), self.centred(shapes)
        explained = np.zeros((len(shapes), SHUFFLES + 1))
        for g in range(self.count):
            own = self.group == g
            size = np.sqrt((x[:, own] ** 2).sum(1, keepdims=True))
            explained += (
                np.divide(x[:, own], size, out=np.zeros_like(x[:, own]), where=size > 1e-12) @ y[:, own].T
            ) ** 2
        share = explained / max(float((y[0] ** 2).sum()), 1e-300)
        best = share.max(0)
        return share[:, 0], float((best >= best[0] * (1 - 1e-9)).mean())


@dataclass(frozen=True)
class Search:
    """A fitted shape.

    Attributes:
        parameters: Those of the shape, ``(p,)``.
        covariance: Of their estimates, ``(p, p)``.
        r_squared: Explained share of the variance within groups.
        at_bound: Which parameters lie at a bound, ``(p,)``.
    """

    parameters: FloatArray
    covariance: FloatArray
    r_squared: float
    at_bound: NDArray[np.bool_]


def search(
    data: Grouped,
    shape: Callable[[FloatArray], FloatArray],
    starts: list[FloatArray],
    bounds: tuple[FloatArray, FloatArray],
) -> Search | None:
    """Fits a shape by least squares from several starts; None where no start converges.

    Args:
        data: The responses.
        shape: From parameters ``(p,)`` to a value for each stimulus ``(n,)``.
        starts: Parameters from which the search begins, each strictly within the bounds.
        bounds: The lowest and the highest of each parameter.
    """
    found = [
        optimize.least_squares(
            lambda p: data.fitted(shape(p)) - data.y,
            start,
            bounds=bounds,
            x_scale=np.maximum(np.abs(start), 1.0),
            max_nfev=400,
        )
        for start in starts
    ]
    good = [f for f in found if f.success and np.isfinite(f.cost)]
    if not good:
        return None
    best = min(good, key=lambda f: f.cost)
    at = np.asarray(best.x, dtype=float)
    level, amplitude = data.linear(shape(at))
    k, p = data.count, len(at)

    def model(all_of_them: FloatArray) -> FloatArray:
        levels, amplitudes = all_of_them[p : p + k], all_of_them[p + k :]
        return levels[data.group] + amplitudes[data.group] * shape(all_of_them[:p])

    whole = np.concatenate([at, level, amplitude])
    residual = data.y - model(whole)
    # Levels and amplitudes are of the size of the responses: brought to 1, so that no derivative is lost in rounding.
    size = np.concatenate([np.ones(p), np.full(2 * k, max(float(np.abs(data.y).max()), 1e-300))])
    jacobian = derivatives(lambda v: model(v * size), whole / size)
    covariance = sandwich(jacobian, residual)[:p, :p]
    total = float((data.centred(data.y) ** 2).sum())
    low, high = bounds
    margin = 1e-3 * (high - low)
    return Search(
        at, covariance, 1 - float(residual @ residual) / max(total, 1e-300), (at < low + margin) | (at > high - margin)
    )


def error_of(function: Callable[[FloatArray], FloatArray], found: Search) -> FloatArray:
    """Returns standard errors of quantities ``(q,)`` that follow from the parameters, by the delta method."""
    gradient = derivatives(function, found.parameters)
    variance = np.einsum("qp,pr,qr->q", gradient, found.covariance, gradient)
    errors: FloatArray = np.sqrt(np.maximum(variance, 0))
    return errors
