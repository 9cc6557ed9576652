"""From images back to codes: for starting populations, and to see what a generator can draw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from closedloop.checks import check_images, check_whole
from closedloop.errors import InvalidArgumentError, closest
from closedloop.images.resizing import resize_images
from closedloop.interfaces import Differentiable, Encoding, FloatArray, Generator, Space
from closedloop.optimizers import CMAES
from closedloop.seeds import named_generator
from closedloop.signatures import at_door

if TYPE_CHECKING:
    from torch import Tensor

#: Steps or generations where none are asked for, by the way in which a code is found, the fastest first.
STEPS = {"encoder": 0, "gradient": 200, "evolution": 300}


@dataclass(frozen=True)
class Inversion:
    """Codes of images, and how well they draw them.

    Attributes:
        codes: ``(n, dim)``.
        images: What the generator makes of them, ``(n, 3, r, r)`` in [0, 1].
        error: Root mean square difference of the pixels from the images that were given, ``(n,)``, in [0, 1].
        method: How they were found: "encoder", "gradient" or "evolution".
    """

    codes: FloatArray
    images: NDArray[np.float32]
    error: FloatArray
    method: str


@at_door
def invert(
    generator: Generator,
    images: NDArray[Any],
    method: str = "auto",
    *,
    steps: int | None = None,
    rate: float = 0.05,
    features: Callable[[Tensor], Tensor] | None = None,
    feature_weight: float = 1.0,
    seed: int = 0,
) -> Inversion:
    """Finds codes whose images are like the given ones.

    "encoder" asks the generator's own encoder. "gradient" goes on from there (or from the middle of the prior) with
    Adam on the mean squared difference of pixels; the norm of a code in an unbounded space is held at that of a draw
    from the prior. "evolution" does it with CMA-ES and without gradients, for any generator.

    Args:
        generator: Whose codes are wanted.
        images: ``(n, 3, h, w)`` RGB in [0, 1]; resized to the generator's resolution.
        method: One of the three, or "auto": the best of the first two that the generator is capable of, else evolution.
        steps: Steps of the gradient (default 200) or generations of the evolution (default 300).
        rate: Learning rate of Adam, in units of the prior's standard deviation.
        features: For "gradient": a torch function of images, whose mean squared difference is added.
        feature_weight: Its weight.
        seed: Of the evolution.

    Returns:
        The codes, their images, and the error of each. No code is worse than the start it was found from.

    Raises:
        InvalidArgumentError: The generator is not capable of the method, or another argument does not fit.
    """
    target = resize_images(check_images(images), generator.resolution)
    method = _choose(generator, method)
    steps = check_whole("steps", STEPS[method] if steps is None else steps, 0)
    codes = _first_codes(generator, target)
    if method == "gradient" and isinstance(generator, Differentiable):
        chunks = [slice(i, i + 16) for i in range(0, len(target), 16)]  # images whose graph is held at a time
        parts = [
            _by_gradient(generator, generator.space, target[c], codes[c], steps, rate, features, feature_weight)
            for c in chunks
        ]
        codes = np.concatenate([codes[:0], *parts])
    elif method == "evolution":
        pairs = enumerate(zip(target, codes, strict=True))
        found = [_by_evolution(generator, image, code, steps, seed + i) for i, (image, code) in pairs]
        codes = np.stack(found) if found else codes
    drawn = generator(codes)
    return Inversion(codes, drawn, _error(drawn, target), method)


def _choose(generator: Generator, method: str) -> str:
    """Returns the method to take, checked against what the generator is capable of."""
    if method == "auto":
        capable = isinstance(generator, Differentiable)
        return "gradient" if capable else "encoder" if isinstance(generator, Encoding) else "evolution"
    if method not in STEPS:
        raise InvalidArgumentError(f"method: no method {method!r}.{closest(str(method), STEPS)}")
    need = {"encoder": (Encoding, "encode"), "gradient": (Differentiable, "forward")}
    if method in need and not isinstance(generator, need[method][0]):
        raise InvalidArgumentError(
            f"method: generator {generator.name!r} has no {need[method][1]}(), which {method!r} needs; "
            "method='evolution' works with every generator."
        )
    return method


def _first_codes(generator: Generator, target: NDArray[np.float32]) -> FloatArray:
    """Returns codes to begin with: the encoder's where there is one, else the middle of the prior."""
    if isinstance(generator, Encoding):
        return np.asarray(generator.encode(target), dtype=float)
    return np.repeat(generator.space.center[None], len(target), 0)


def _error(drawn: NDArray[np.float32], target: NDArray[np.float32]) -> FloatArray:
    """Returns the root mean square difference of the pixels of each image, ``(n,)``."""
    error: FloatArray = np.sqrt(((drawn - target) ** 2).mean(axis=(1, 2, 3), dtype=float))
    return error


def _by_gradient(
    generator: Differentiable,
    space: Space,
    target: NDArray[np.float32],
    codes: FloatArray,
    steps: int,
    rate: float,
    features: Callable[[Tensor], Tensor] | None,
    feature_weight: float,
) -> FloatArray:
    """Returns the codes with the smallest loss on Adam's way, ``(n, dim)``."""
    import torch

    wanted = torch.from_numpy(target)
    aim = None if features is None else features(wanted).detach()
    code = torch.tensor(codes, dtype=torch.float32)
    if not space.bounded and (codes == space.center).all():  # no direction: begin at a small draw instead
        code = torch.from_numpy(0.1 * space.sample(len(codes), named_generator(0, "inversion"))).float()
    code.requires_grad_(True)
    adam = torch.optim.Adam([code], lr=rate * space.scale)
    best, least = code.detach().clone(), torch.full((len(codes),), torch.inf)
    for step in range(steps + 1):
        images = generator.forward(code)
        loss = (images - wanted).square().flatten(1).mean(1)
        if features is not None and aim is not None:
            loss = loss + feature_weight * (features(images) - aim).square().flatten(1).mean(1)
        better = loss.detach() < least
        best[better], least[better] = code.detach()[better], loss.detach()[better]
        if step < steps:
            adam.zero_grad()
            torch.autograd.backward(loss.sum())
            adam.step()
            with torch.no_grad():
                _keep(code, space.low, space.high, space.scale * space.dim**0.5)
    return best.double().numpy()


def _keep(code: Tensor, low: float, high: float, radius: float) -> None:
    """Moves codes back into their space: to the bounds, or to the sphere on which draws from the prior lie."""
    if np.isfinite(low):
        code.clamp_(low, high)
    else:
        code.mul_(radius / code.norm(dim=1, keepdim=True).clamp_min(1e-12))


def _by_evolution(
    generator: Generator, target: NDArray[np.float32], code: FloatArray, generations: int, seed: int
) -> FloatArray:
    """Returns the best code that CMA-ES finds for one image, ``(dim,)``."""
    optimizer = CMAES(generator.space, seed, start=generator.space.clip(code[None])[0], sigma=0.5)
    best, least = code, _error(generator(generator.space.clip(code[None])), target[None])[0]
    for _ in range(generations):
        codes = optimizer.ask()
        errors = _error(generator(codes), target[None])
        if errors.min() < least:
            best, least = codes[errors.argmin()], errors.min()
        optimizer.tell(codes, -errors)
    return best
