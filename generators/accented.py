"""One photograph as a generator: its phases and amplitudes are changed, from where they are. For feature accentuation.

Hamblin, Fel, Saha, Konkle & Alvarez 2024, "Feature Accentuation: Revealing 'What' Features Respond to in Natural
Images".
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from closedloop.checks import check_images
from closedloop.errors import InvalidArgumentError
from closedloop.images.eight_bit import from_bytes
from closedloop.images.resizing import resize_images
from closedloop.images.sets import read_image
from closedloop.interfaces import FloatArray, Space
from closedloop.readable import ReadableGenerator
from closedloop.recording.references import source

from .fourier import CLAMP, Fourier
from .pixels import check_resolution

if TYPE_CHECKING:
    from torch import Tensor

#: Where a gain stands at code 0, before the sigmoid: close to its end, so that amplitudes can fall and hardly grow.
GAIN = 5.0


@final
class Accented(ReadableGenerator):
    """Changes to a photograph as codes ``(n, dim)``; code 0 is the photograph itself. Differentiable.

    In three decorrelated colour channels before the sigmoid, every frequency has two coordinates: what is added to its
    phase, in radians, and what is added to its gain g, where its amplitude is that of the photograph times ``sigmoid(5
    + g) / sigmoid(5)``; the mean colour has a gain only. So the amplitudes of the photograph are nearly an upper limit
    (1.007 times). The published method leaves the division out and begins with amplitudes of 0.993. Pixels nearer to
    black or white than `closedloop.generators.fourier.CLAMP` are moved to it, which no 8-bit image shows, and the
    Nyquist frequency of an even size is left as it is.

    The prior N(0, 1) on each coordinate is wide: its draws have little left of the photograph. A search begins at code
    0, the middle of the prior.

    Args:
        image: The photograph: a file, or an array ``(3, h, w)`` or ``(1, 3, h, w)`` in [0, 1].
        resolution: Height and width in pixels, to which it is resized.
    """

    name = "accented"

    def __init__(self, image: str | Path | NDArray[Any], resolution: int = 224) -> None:
        self.resolution: int = check_resolution(resolution)
        if self.resolution < 3:
            raise InvalidArgumentError(f"resolution: expected at least 3 pixels, got {resolution!r}.")
        seed = _photograph(image, self.resolution)
        self._fourier = Fourier(self.resolution, None, shell=False)
        self._count = len(self._fourier.frequencies) - 1
        self.space: Space = Space(3 * (2 * self._count + 1))
        code = self._fourier.encode(seed)
        parts = code.reshape(3, 2 * self._count + 1)
        cosines, sines = parts[:, 1 : self._count + 1], parts[:, self._count + 1 :]
        # a cos(wx) + b sin(wx) = r cos(wx + p) with r = |a - ib| and p its angle.
        self._phases, self._amplitudes = np.arctan2(-sines, cosines), np.hypot(cosines, sines)
        self._mean = parts[:, :1].copy()
        rest = logit(np.clip(seed.astype(float), CLAMP, 1 - CLAMP)) - self._fourier.before_sigmoid(code)
        self._rest: NDArray[np.float64] = rest
        self._image = str(image) if isinstance(image, (str, Path)) else None

    @property
    def recipe(self) -> Mapping[str, Any] | None:
        """How `load_generator` makes it again; None where the photograph was given as an array."""
        if self._image is None:
            return None
        return {"name": self.name, "image": source(self._image), "resolution": self.resolution}

    def __call__(self, codes: FloatArray) -> NDArray[np.float32]:
        """Turns codes ``(n, dim)`` into images ``(n, 3, h, w)`` float32, RGB in [0, 1]."""
        gains = expit(GAIN + self._gains(self.space.check(codes))) / expit(GAIN)
        inner = self._coefficients(codes, gains, (self._phases, self._amplitudes, self._mean), np)
        whole = self._fourier.before_sigmoid(inner) + self._rest.astype(np.float32)
        images: NDArray[np.float32] = expit(whole)
        return images

    def forward(self, codes: Tensor) -> Tensor:
        """Does the same in torch; keeps the graph and the precision of ``codes``."""
        import torch

        gains = torch.sigmoid(GAIN + self._gains(codes)) / expit(GAIN)
        seed = codes.new_tensor(self._phases), codes.new_tensor(self._amplitudes), codes.new_tensor(self._mean)
        inner = self._coefficients(codes, gains, seed, torch)
        return (self._fourier.forward_before_sigmoid(inner) + codes.new_tensor(self._rest)).sigmoid()

    def _gains(self, codes: Any) -> Any:
        """Returns the coordinates ``(n, 3, m + 1)`` that change amplitudes, the mean's first."""
        return codes.reshape(len(codes), 3, 2 * self._count + 1)[..., self._count :]

    def _coefficients(self, codes: Any, gains: Any, seed: tuple[Any, Any, Any], xp: Any) -> Any:
        """Returns codes of the Fourier generator: constant, cosines, sines; ``xp`` is numpy or torch."""
        phases, amplitudes, mean = seed
        turned = phases + codes.reshape(len(codes), 3, 2 * self._count + 1)[..., : self._count]
        changed = amplitudes * gains[..., 1:]
        parts = [mean * gains[..., :1], changed * xp.cos(turned), -changed * xp.sin(turned)]
        return xp.concatenate(parts, 2).reshape(len(codes), self.space.dim)


def _photograph(image: str | Path | NDArray[Any], resolution: int) -> NDArray[np.float32]:
    """Returns one image ``(1, 3, resolution, resolution)`` in [0, 1]."""
    if isinstance(image, (str, Path)):
        return from_bytes(read_image(Path(image), resolution)[None])
    array = np.asarray(image)
    checked = check_images(array[None] if array.ndim == 3 else array, name="image")
    if len(checked) != 1:
        raise InvalidArgumentError(f"image: expected one image, got {len(checked)}.")
    return resize_images(checked, resolution)
