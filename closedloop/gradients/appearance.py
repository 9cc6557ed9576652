"""Views that change what a picture looks like and leave it where it is: noise, colours, blur.

The results may lie outside [0, 1]; they are not clipped, since a clipped pixel has no gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from closedloop.checks import check_number, check_whole

from .sampling import check_pictures, draws


@final
@dataclass(frozen=True)
class Noise:
    """Independent noise on every value: N(0, std²) and uniform from -uniform to uniform.

    Attributes:
        std: Standard deviation of the normal part; the image range is [0, 1].
        uniform: Half the range of the uniform part.
    """

    std: float
    uniform: float = 0.0
    copies = 1

    def __post_init__(self) -> None:
        check_number("std", self.std, 0)
        check_number("uniform", self.uniform, 0)

    def __call__(self, images: Tensor, step: int, rng: np.random.Generator) -> Tensor:
        """Draws a field of noise for each picture."""
        check_pictures(images)
        shape = tuple(images.shape[1:])
        fields = [self._field(own, shape) for own in draws(rng, len(images))]
        return images + torch.from_numpy(np.stack(fields)).to(images) if fields else images

    def _field(self, own: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Draws the noise of one picture, in its shape ``(3, h, w)``."""
        field = own.standard_normal(shape, np.float32) * np.float32(self.std)
        if self.uniform:
            field += (2 * own.random(shape, np.float32) - 1) * np.float32(self.uniform)
        return field

    def describe(self) -> str:
        """Returns its text, which `closedloop.gradients.views.parse_view` reads back."""
        return repr(self)


@final
@dataclass(frozen=True)
class ColorJitter:
    """Other colours: each channel becomes ``(x - m) / exp(s)``, with m and s uniform (Ghiasi et al. 2022, ViTs).

    Attributes:
        shift: Half the range of m, in units of the image range.
        log_scale: Half the range of s.
    """

    shift: float = 1.0
    log_scale: float = 1.0
    copies = 1

    def __post_init__(self) -> None:
        check_number("shift", self.shift, 0)
        check_number("log_scale", self.log_scale, 0)

    def __call__(self, images: Tensor, step: int, rng: np.random.Generator) -> Tensor:
        """Draws m and s for each picture and channel."""
        check_pictures(images)
        own = np.array([r.uniform(-1, 1, (2, 3)) for r in draws(rng, len(images))]).reshape(len(images), 2, 3, 1, 1)
        shift = images.new_tensor(own[:, 0] * self.shift)
        return (images - shift) / images.new_tensor(np.exp(own[:, 1] * self.log_scale))

    def describe(self) -> str:
        """Returns its text, which `closedloop.gradients.views.parse_view` reads back."""
        return repr(self)


@final
@dataclass(frozen=True)
class ColorOffset:
    """A colour that is added to the whole picture, less and less of it (Ghiasi et al. 2022, ViTs).

    Attributes:
        std: Standard deviation of each channel's offset at step 0, in units of the image range.
        steps: Steps until nothing is left of it, in a straight line.
    """

    std: float = 0.5
    steps: int = 400
    copies = 1

    def __post_init__(self) -> None:
        check_number("std", self.std, 0)
        check_whole("steps", self.steps, 1)

    def __call__(self, images: Tensor, step: int, rng: np.random.Generator) -> Tensor:
        """Draws an offset for each picture and channel."""
        check_pictures(images)
        own = np.array([r.standard_normal(3) for r in draws(rng, len(images))]).reshape(len(images), 3, 1, 1)
        return images + images.new_tensor(own * self.std * max(1 - step / self.steps, 0.0))

    def describe(self) -> str:
        """Returns its text, which `closedloop.gradients.views.parse_view` reads back."""
        return repr(self)


@final
@dataclass(frozen=True)
class Blur:
    """A Gaussian blur, with the picture mirrored at its border: scipy's ``gaussian_filter``.

    Attributes:
        sigma: Its standard deviation in pixels.
    """

    sigma: float
    copies = 1

    def __post_init__(self) -> None:
        check_number("sigma", self.sigma, 0)

    def __call__(self, images: Tensor, step: int, rng: np.random.Generator) -> Tensor:
        """Draws nothing."""
        height, width = check_pictures(images)
        if self.sigma == 0:
            return images
        # A Gaussian separates: B_rows · image · B_columnsᵀ, two products through which gradients pass.
        rows, columns = blur_matrix(height, self.sigma), blur_matrix(width, self.sigma)
        return images.new_tensor(rows) @ images @ images.new_tensor(columns.T)

    def describe(self) -> str:
        """Returns its text, which `closedloop.gradients.views.parse_view` reads back."""
        return repr(self)


@cache
def blur_matrix(size: int, sigma: float) -> NDArray[np.float64]:
    """Returns weights ``(size, size)`` of a Gaussian blur along one axis."""
    matrix: NDArray[np.float64] = gaussian_filter1d(np.eye(size), sigma, axis=0, mode="reflect")
    return matrix
