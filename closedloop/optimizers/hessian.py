"""CMA-ES along the axes of a generator: wide steps where the image changes little, small ones where it changes much.

Source: Wang & Ponce 2021, "The geometry of deep generative image models and its applications", ICLR (``HessCMAES``: the
factor A begins as diag(λ^-exponent) V). The metric is that of the generator alone; the subject is never differentiated.
`closedloop.generators.image_metric` computes it.
"""

from __future__ import annotations

from typing import final

import numpy as np

from closedloop.checks import check_positive
from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import FloatArray, Space, State
from closedloop.optimizers.base import check_start, check_tell
from closedloop.optimizers.cholesky import CholeskyCMAES
from closedloop.readable import ReadableOptimizer
from closedloop.signatures import at_door


@final
class HessianCMA(ReadableOptimizer):
    """Cholesky-CMA-ES in the coordinates c of x = start + c · diag(λ^-exponent) V. O(k · dim) memory.

    Args:
        space: Where to search. In a bounded space codes are moved to the bounds.
        seed: Seed of its own random generator.
        eigenvalues: λ ``(k,)``, above 0, of the squared change of the image along each axis.
        axes: V ``(k, dim)``, orthonormal rows. With fewer axes than dimensions it searches their span only.
        exponent: How much wider the steps are along axes of small λ; the paper's 1/5 for fc6 (500 or 800 axes), 1/2.5
            for BigGAN. At 1/2 all axes change the image alike, at 0 all codes change alike.
        population: Samples for each generation; default 4 + 3 log2(k).
        sigma: First step size, root mean square over the axes, in units of the space's prior standard deviation.
        start: First mean ``(dim,)``; default the middle of the prior.
    """

    name = "hessian-cma"
    needs_gradient = False

    @at_door
    def __init__(
        self,
        space: Space,
        seed: int = 0,
        *,
        eigenvalues: FloatArray,
        axes: FloatArray,
        exponent: float = 0.2,
        population: int | None = None,
        sigma: float = 1.0,
        start: FloatArray | None = None,
    ) -> None:
        check_positive("sigma", sigma)
        if not (np.isfinite(exponent) and exponent >= 0):
            raise InvalidArgumentError(f"exponent: expected a finite number of at least 0, got {exponent!r}.")
        self.space = space
        self._start = check_start(start, space)
        self._basis = _basis(np.asarray(eigenvalues, dtype=float), np.asarray(axes, dtype=float), exponent, space.dim)
        inner = Space(len(self._basis), scale=space.scale)
        self._inner = CholeskyCMAES(inner, seed, population=population, sigma=sigma)
        self.population: int = self._inner.population

    def ask(self) -> FloatArray:
        """Returns the next codes ``(population, dim)``; the same again until they are told."""
        return self._codes(self._inner.ask())

    def tell(self, codes: FloatArray, scores: FloatArray, gradients: FloatArray | None = None) -> None:
        """Learns from the scores ``(n,)``; NaN where a presentation was lost."""
        # What came must be the codes; the strategy inside is told its own coordinates, unmoved by the bounds.
        asked = self._inner.ask() if self._inner.pending else None
        _, scores = check_tell(None if asked is None else self._codes(asked), codes, scores)
        self._inner.tell(self._inner.ask(), scores)

    def recommend(self, n: int) -> FloatArray:
        """Returns the mean, then the average of the last means, ``(≤ n, dim)``; none before it has learnt."""
        return self._codes(self._inner.recommend(2))[:n]  # a product of other shape has other rounding

    def state(self) -> State:
        """Returns the state of the strategy in the axes' coordinates."""
        return self._inner.state()

    def restore(self, state: State) -> None:
        """Goes back to a saved state."""
        self._inner.restore(state)

    def _codes(self, coordinates: FloatArray) -> FloatArray:
        """Returns codes ``(n, dim)`` x = start + c · diag(λ^-exponent) V of coordinates c ``(n, k)``."""
        return self.space.clip(self._start + coordinates @ self._basis)


def _basis(eigenvalues: FloatArray, axes: FloatArray, exponent: float, dim: int) -> FloatArray:
    """Checks the axes, and returns diag(λ^-exponent) V ``(k, dim)``, scaled to rows of root mean square length 1."""
    if axes.ndim != 2 or axes.shape[1] != dim or len(axes) < 1 or eigenvalues.shape != (len(axes),):
        raise InvalidArgumentError(
            f"eigenvalues, axes: expected shapes (k,) and (k, {dim}), got {eigenvalues.shape} and {axes.shape}."
        )
    if not (np.isfinite(eigenvalues).all() and (eigenvalues > 0).all()):
        raise InvalidArgumentError(
            f"eigenvalues: expected finite numbers above 0, got {eigenvalues.min():.3g} to {eigenvalues.max():.3g}; "
            "ask for fewer axes."
        )
    if not np.allclose(axes @ axes.T, np.eye(len(axes)), atol=1e-4):
        raise InvalidArgumentError("axes: expected orthonormal rows, got others; transpose them if they are columns.")
    # λ over its largest, so that small eigenvalues of any unit do not overflow; one factor for all axes then makes
    # the mean square step along an axis that of the isotropic strategy.
    lengths = (eigenvalues / eigenvalues.max()) ** -exponent
    return np.asarray(axes * (lengths / np.sqrt(np.mean(lengths**2)))[:, None])
