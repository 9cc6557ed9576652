"""Images with a fixed amplitude spectrum whose phases are the code (MACO).

Fel et al. 2023, "Unlocking Feature Visualization for Deeper Networks with MAgnitude Constrained Optimization".
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

from closedloop.errors import InvalidArgumentError
from closedloop.images.sets import ImageSet, as_image_set
from closedloop.interfaces import FloatArray, Space
from closedloop.readable import ReadableGenerator
from closedloop.recording.references import source

from .fourier import Fourier, color_matrix

if TYPE_CHECKING:
    from torch import Tensor


@final
class PhaseOnly(ReadableGenerator):
    """Phases as codes ``(n, dim)``, in radians; all images have the same amplitude spectrum. Differentiable.

    The amplitudes are those of natural images in three decorrelated colour channels, from photographs or ``1 /
    f**decay``. Each frequency up to the cutoff is one coordinate for each channel: of a conjugate pair one is free and
    the other follows, so that the amplitudes hold exactly at every frequency. The image is 2π-periodic in each
    coordinate; the prior is N(0, π²), which is uniform on the circle to within 1.5 percent. The mean before the sigmoid
    is grey.

    Args:
        resolution: Height and width in pixels.
        cutoff: Highest spatial frequency in cycles per image; None, as in MACO, takes all that the resolution carries.
        magnitude: Photographs whose mean amplitude spectrum is held: a folder, "bundled", or an array ``(n, 3, h, w)``
            in [0, 1]; None for ``1 / f**decay``.
        decay: Exponent of the amplitude spectrum where there are no photographs.
        contrast: Standard deviation of red, green and blue before the sigmoid (their mean), the same for every image to
            within a percent (the colours of the three channels overlap a little).
        standardize: The phases are the code less its mean, divided by its standard deviation, as MACO has them. The
            prior is N(0, 1), and a step of one length turns the phases less and less as an ascent lengthens the code.
            Such phases are not uniform, and do not reach every image: the generator cannot encode.
    """

    name = "phase"

    def __init__(
        self,
        resolution: int = 224,
        cutoff: float | None = 8.0,
        *,
        magnitude: ImageSet | str | Path | NDArray[Any] | None = None,
        decay: float = 1.0,
        contrast: float = 1.0,
        standardize: bool = False,
    ) -> None:
        self._fourier = Fourier(resolution, cutoff, decay, contrast, shell=False)
        self.standardize: bool = bool(standardize)
        self.resolution: int = self._fourier.resolution
        self._count = len(self._fourier.frequencies) - 1
        if self._count < 1:
            raise InvalidArgumentError(f"resolution: expected at least 3 pixels, got {resolution!r}.")
        self.space: Space = Space(3 * self._count, scale=1.0 if self.standardize else np.pi)
        self._amplitudes = self._measured(magnitude)
        by_hand = magnitude is not None and not isinstance(magnitude, (str, Path))
        self._recipe: Mapping[str, Any] | None = None
        if not by_hand:
            self._recipe = {
                "name": self.name,
                "resolution": self.resolution,
                "cutoff": cutoff,
                "magnitude": source(magnitude),
                "decay": self._fourier.decay,
                "contrast": self._fourier.contrast,
                "standardize": self.standardize,
            }

    def _measured(self, magnitude: ImageSet | str | Path | NDArray[Any] | None) -> NDArray[np.float64]:
        """Measures amplitudes ``(3, m)`` of the channels in units of Fourier coordinates, mean colour left out.

        A cosine of amplitude a has variance a²/2, as two coordinates of variance a²/2 have together.
        """
        scale = self._fourier.scale[1 : self._count + 1]
        natural = np.ones((3, 1)) * scale
        if magnitude is not None:
            bundled = isinstance(magnitude, str) and magnitude == "bundled"
            found = _bundled(self.resolution) if bundled else mean_spectrum(magnitude, self.resolution)
            natural = found[:, *self._fourier.frequencies[1:].T]
        # Parseval: the channels' variances, mixed by the colour matrix, give the mean variance of red, green and blue.
        variance = ((color_matrix() ** 2).sum(0) / 3 * (natural**2 / 2).sum(1)).sum()
        if not variance > 0:
            raise InvalidArgumentError("magnitude: expected photographs with contrast, got uniform ones.")
        amplitudes: NDArray[np.float64] = natural * (self._fourier.contrast / variance**0.5) / scale
        return amplitudes

    @property
    def recipe(self) -> Mapping[str, Any] | None:
        """How `load_generator` makes it again; None where the photographs were given as an array."""
        return self._recipe

    def __call__(self, codes: FloatArray) -> NDArray[np.float32]:
        """Turns codes ``(n, dim)`` into images ``(n, 3, h, w)`` float32, RGB in [0, 1]."""
        codes = self.space.check(codes)
        return self._fourier(self._coefficients(codes, self._amplitudes, np))

    def forward(self, codes: Tensor) -> Tensor:
        """Does the same in torch; keeps the graph and the precision of ``codes``."""
        import torch

        return self._fourier.forward(self._coefficients(codes, codes.new_tensor(self._amplitudes), torch))

    def _coefficients(self, codes: Any, amplitudes: Any, xp: Any) -> Any:
        """Returns codes of the Fourier generator: no constant, cosines, sines; ``xp`` is numpy or torch.

        a cos(wx + p) = a cos(p) cos(wx) - a sin(p) sin(wx), whose Fourier coefficient has phase p.
        """
        if self.standardize:
            codes = codes - codes.mean(1, keepdims=True)
            codes = codes / ((codes**2).mean(1, keepdims=True) ** 0.5 + 1e-12)  # a code of one value has no phases
        phases = codes.reshape(len(codes), 3, self._count)
        # Coefficient a eⁱᵖ: cosine part a cos p, sine part -a sin p; the constant is 0, grey.
        parts = [0 * phases[..., :1], amplitudes * xp.cos(phases), -amplitudes * xp.sin(phases)]
        return xp.concatenate(parts, 2).reshape(len(codes), 3 * (2 * self._count + 1))

    def encode(self, images: NDArray[Any]) -> FloatArray:
        """Turns images ``(n, 3, h, w)`` in [0, 1], of any size, into phases ``(n, dim)`` in (-π, π], up to the cutoff.

        Exact, but for whole turns, for this generator's own images; others lose their amplitudes and their mean colour.

        Raises:
            InvalidArgumentError: Phases are standardized.
        """
        if self.standardize:
            raise InvalidArgumentError("standardize: expected False for images to be encoded, got True.")
        parts = self._fourier.encode(images).reshape(len(images), 3, 2 * self._count + 1)[..., 1:]
        cosines, sines = parts[..., : self._count], parts[..., self._count :]
        return np.arctan2(-sines, cosines).reshape(len(images), self.space.dim)


def mean_spectrum(images: ImageSet | str | Path | NDArray[Any], resolution: int) -> NDArray[np.float64]:
    """Returns photographs' mean amplitude spectrum ``(3, h, w)`` in the three channels that the colour matrix mixes."""
    photographs = as_image_set(images, resolution).images.astype(np.float64)
    # x = M c for colours x and channels c, so c = M⁻¹ x.
    channels = np.einsum("kc,ncyx->nkyx", np.linalg.inv(color_matrix()), photographs)
    spectrum: NDArray[np.float64] = np.abs(np.fft.fft2(channels)).mean(0)
    return spectrum


@cache
def _bundled(resolution: int) -> NDArray[np.float64]:
    """Returns the spectrum of the bundled photographs, which takes a second; they do not change."""
    return mean_spectrum("bundled", resolution)
