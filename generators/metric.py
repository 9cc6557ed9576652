"""How much an image changes along each direction of its code: the metric of a differentiable generator.

Source: Wang & Ponce 2021, "The geometry of deep generative image models and its applications", ICLR; here with the
squared difference of pixels as the distance between images, so that the subject and any other network stay out of it.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse.linalg import LinearOperator, eigsh

from closedloop.checks import is_whole
from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import Differentiable, FloatArray, Generator
from closedloop.seeds import named_generator
from closedloop.signatures import at_door


@at_door
def image_metric(
    generator: Generator, k: int | None = None, *, codes: int | FloatArray = 8, seed: int = 0
) -> tuple[FloatArray, FloatArray]:
    """Returns eigenvalues and axes of the mean metric JᵀJ / pixels over codes, J the derivative of image by code.

    The values are accurate to some 1e-4 of the largest; those far below are noise.

    Args:
        generator: A differentiable generator.
        k: How many of the largest; None for all.
        codes: Where to average: this many draws from the prior, or codes ``(n, dim)``.
        seed: Of the draws.

    Returns:
        Eigenvalues ``(k,)``, largest first, mean squared change of an RGB value for a unit step of the code, and the
        orthonormal axes ``(k, dim)``.

    Raises:
        InvalidArgumentError: The generator is not differentiable, or has not that many axes.
    """
    if not isinstance(generator, Differentiable):
        raise InvalidArgumentError(f"generator: expected a differentiable one (with forward), got {generator.name!r}.")
    dim = generator.space.dim
    k = dim if k is None else k
    if not is_whole(k) or not 1 <= k <= dim:
        raise InvalidArgumentError(f"k: expected a whole number from 1 to {dim}, got {k!r}.")
    rng = named_generator(seed, "metric")
    at = generator.space.sample(codes, rng) if isinstance(codes, int) else generator.space.check(codes)
    if len(at) == 0:
        raise InvalidArgumentError("codes: expected at least one, got none.")
    product = _Product(generator, at)
    if dim <= 256 or k == dim:  # the whole matrix, row by row; beyond it Lanczos's iterations need fewer products
        values, vectors = np.linalg.eigh(np.stack([product(row) for row in np.eye(dim)]))
    else:
        operator = LinearOperator((dim, dim), matvec=product, dtype=np.float64)
        values, vectors = eigsh(operator, k=k, v0=rng.standard_normal(dim), tol=1e-4)
    largest = np.argsort(-values)[:k]
    return np.maximum(values[largest], 0), np.ascontiguousarray(vectors[:, largest].T)


class _Product:
    """The product of the mean metric with a vector.

    J v is the derivative of Jᵀ u by u; backward derivatives are enough, and every generator has them.
    """

    def __init__(self, generator: Differentiable, at: FloatArray) -> None:
        import torch

        self._codes = torch.from_numpy(np.asarray(at, dtype=np.float32)).requires_grad_()
        self._images = generator.forward(self._codes)
        self._u = torch.zeros_like(self._images, requires_grad=True)
        (self._back,) = torch.autograd.grad(self._images, self._codes, self._u, create_graph=True)

    def __call__(self, vector: FloatArray) -> FloatArray:
        """Turns a vector ``(dim,)`` into a vector ``(dim,)``."""
        import torch

        direction = torch.from_numpy(np.asarray(vector, dtype=np.float32).ravel()).expand_as(self._codes)
        (change,) = torch.autograd.grad(self._back, self._u, direction, retain_graph=True)
        (back,) = torch.autograd.grad(self._images, self._codes, change, retain_graph=True)
        product: FloatArray = back.numpy().astype(np.float64).mean(0) / self._images[0].numel()
        return product
