"""Draws readouts from what a fit leaves open: posterior samples of the weights of a Bayesian ridge regression.

Where the data say little the draws differ widely, and what each likes best is worth a look; so a batch of images that
is chosen by draws both looks for the best and learns (Thompson 1933, *Biometrika*).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from closedloop.interfaces import FloatArray
from closedloop.twins.ridge import Ridge, fit_ridge


@dataclass(frozen=True)
class Posterior:
    """What is known of the weights of one unit's readout, by the features of the images that it answered.

    Attributes:
        x: Features of these images, ``(images, features)``.
        columns: Columns of each layer.
        y: Mean responses, ``(images,)``.
        count: Presentations of each image, ``(images,)``, at least 1.
        ridge: The fit.
    """

    x: NDArray[np.float32]
    columns: Mapping[str, NDArray[np.int64]]
    y: FloatArray
    count: FloatArray
    ridge: Ridge

    @classmethod
    def of(
        cls, x: NDArray[np.float32], columns: Mapping[str, NDArray[np.int64]], y: FloatArray, count: FloatArray
    ) -> Posterior:
        """Fits the readout by evidence; see `closedloop.twins.ridge.fit_ridge`."""
        kernels = np.stack([x[:, at].astype(float) @ x[:, at].T / max(len(at), 1) for at in columns.values()])
        return cls(x, columns, y, count, fit_ridge(kernels, y[:, None], count))

    @property
    def bias(self) -> float:
        """What is predicted for features of 0."""
        return float(self.ridge.bias[0])

    @property
    def _share(self) -> FloatArray:
        """The prior variance of each weight ÷ τ²: the layer's share ÷ its number of features, ``(features,)``."""
        found = np.zeros(self.x.shape[1])
        for at, share in zip(self.columns.values(), self.ridge.shares[:, 0], strict=True):
            found[at] = share / max(len(at), 1)
        return found

    def weights(self) -> FloatArray:
        """Returns the posterior mean of the weights, ``(features,)``."""
        found: FloatArray = (self.x.T @ self.ridge.dual[:, 0]) * self._share
        return found

    def draw(self, draws: int, rng: np.random.Generator) -> FloatArray:
        """Returns weights ``(features, draws)`` from the posterior, by Matheron's rule (Wilson et al. 2020, *ICML*).

        A draw of the prior is moved by what the data say against it: with w₀ ~ N(0, P) and e ~ N(0, σ² / n),
        w = w₀ + P Xᵀ (X P Xᵀ + σ² / n)⁻¹ (y - b - X w₀ - e). All zero where the responses did not vary.
        """
        share, prior, ratio = self._share, float(self.ridge.prior[0]), float(self.ridge.ratio[0])
        before = rng.standard_normal((len(share), draws)) * np.sqrt(prior * share)[:, None]
        noise = rng.standard_normal((len(self.y), draws)) * np.sqrt(ratio * prior / self.count)[:, None]
        if not prior > 0:
            return np.zeros_like(before)
        x = self.x.astype(float)
        rest = (self.y - self.bias)[:, None] - x @ before - noise
        # With P = τ² · share, τ² leaves the product: share · Xᵀ (X · share · Xᵀ + λ / n)⁻¹.
        covariance = (x * share) @ x.T + np.diag(ratio / self.count)
        found: FloatArray = before + share[:, None] * (x.T @ linalg.solve(covariance, rest, assume_a="pos"))
        return found
