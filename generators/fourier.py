"""Makes images of Fourier coefficients with a 1/f spectrum and natural colour statistics.

The parametrization of Lucid (Olah, Mordvintsev & Schubert 2017, "Feature Visualization"), usable with and without
gradients: independent coefficients, scaled by the amplitude spectrum of natural images, mixed by Lucid's colour
matrix, then squashed to [0, 1] by a sigmoid.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from closedloop.errors import InvalidArgumentError
from closedloop.images.resizing import resize_images
from closedloop.interfaces import FloatArray, Space
from closedloop.readable import ReadableGenerator

from .pixels import check_channels, check_resolution, still_images

if TYPE_CHECKING:
    from torch import Tensor

#: How near to black and white an image is taken when it is encoded: a quarter of an 8-bit step, which rounds to none.
CLAMP = 2.0**-10
#: The norm below which a code has no direction; its image is grey.
LEAST_NORM = 1e-12


def grey_or_colors(channels: int) -> NDArray[np.float64]:
    """Returns the matrix ``(channels, channels)`` that mixes independent channels: `color_matrix`, or 1 for grey."""
    return color_matrix() if channels == 3 else np.ones((1, 1))


def color_matrix() -> NDArray[np.float64]:
    """Returns the matrix ``(3, 3)`` that turns independent channels into correlated RGB: ``rgb = matrix @ channels``.

    Lucid's square root of the colour covariance of ImageNet, rows R, G, B, divided by its largest column norm.
    """
    root = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
    matrix: NDArray[np.float64] = root / np.linalg.norm(root, axis=0).max()
    return matrix


def half_plane(cutoff: float, resolution: int) -> NDArray[np.int_]:
    """Returns frequencies ``(m, 2)`` as (ky, kx) in cycles per image up to ``cutoff``, one of each conjugate pair.

    The constant (0, 0) comes first; the Nyquist frequency is left out, for it has no sine.
    """
    top = min(int(cutoff), (resolution - 1) // 2)
    ky, kx = np.mgrid[-top : top + 1, 0 : top + 1]
    frequencies = np.stack([ky.ravel(), kx.ravel()], axis=1)
    radius = np.hypot(frequencies[:, 0], frequencies[:, 1])
    upper = (frequencies[:, 1] > 0) | (frequencies[:, 0] >= 0)
    kept: NDArray[np.int_] = frequencies[upper & (radius <= cutoff)]
    order = np.lexsort((kept[:, 1], kept[:, 0], np.hypot(kept[:, 0], kept[:, 1])))
    return kept.take(order, axis=0)


def decorrelated(images: NDArray[Any], resolution: int, channels: int = 3) -> NDArray[np.float64]:
    """Returns images ``(n, 3, h, w)`` in [0, 1] as channels ``(n, 3, r, r)`` before sigmoid and colours.

    With ``channels=1`` their luminance, ``(n, 1, resolution, resolution)``.

    Pixels are moved into [CLAMP, 1 - CLAMP] first, since black and white lie at infinity.
    """
    fitted = resize_images(still_images(images, channels), resolution).astype(np.float64)
    mixed = logit(np.clip(fitted, CLAMP, 1 - CLAMP))
    unmixed: NDArray[np.float64] = np.einsum("kc,ncyx->nkyx", np.linalg.inv(grey_or_colors(channels)), mixed)
    return unmixed


@final
class Fourier(ReadableGenerator):
    """A generator whose codes ``(n, dim)`` are Fourier coefficients, prior N(0, 1) on each.

    A draw from the prior is a coloured cloud with the amplitude spectrum ``1 / f**decay`` up to the cutoff, with
    standard deviation `contrast` before the sigmoid. A Gaussian code of many dimensions lies close to the sphere of
    radius ``sqrt(dim)``; by default every code is moved to that sphere, which fixes the contrast of all images. Without
    it, an evolution drifts outward to saturated black and white.

    Args:
        resolution: Height and width in pixels.
        cutoff: Highest spatial frequency in cycles per image; None takes all that the resolution carries (then the
            code has about as many coordinates as the image, which suits gradients better than evolution).
        decay: Exponent of the amplitude spectrum; 1 for natural images.
        contrast: Standard deviation of a prior draw's red, green and blue before the sigmoid (their mean).
        shell: Move codes to the sphere of radius ``sqrt(dim)``; False leaves them as they are, as Lucid does.
        channels: 3 for colour images, 1 for grey ones, whose codes are a third as long.
    """

    name = "fourier"

    def __init__(
        self,
        resolution: int = 224,
        cutoff: float | None = 8.0,
        decay: float = 1.0,
        contrast: float = 1.0,
        shell: bool = True,
        channels: int = 3,
    ) -> None:
        self.resolution: int = check_resolution(resolution)
        self.channels: int = check_channels(channels)
        highest = (self.resolution - 1) // 2
        if cutoff is not None and not 1 <= cutoff <= resolution:
            raise InvalidArgumentError(f"cutoff: expected 1 to {resolution} cycles per image, or None, got {cutoff!r}.")
        if not (np.isfinite(decay) and np.isfinite(contrast) and contrast > 0):
            raise InvalidArgumentError(f"decay, contrast: expected finite and > 0, got {decay!r} and {contrast!r}.")
        self.cutoff: float | None = cutoff
        self.decay: float = float(decay)
        self.contrast: float = float(contrast)
        self.shell: bool = bool(shell)
        self.frequencies: NDArray[np.int_] = half_plane(highest * 2**0.5 if cutoff is None else cutoff, self.resolution)
        self._build()
        self.space: Space = Space(dim=self.channels * (2 * len(self.frequencies) - 1))

    def _build(self) -> None:
        """Prepares the gather of codes into spectra, and the two small matrices that make the inverse transform."""
        ky, kx = self.frequencies.T
        top_y, top_x = int(np.abs(ky).max()), int(kx.max())
        modes = len(ky)
        # Coordinates of one channel: constant, cosines (modes - 1), sines (modes - 1); one more holds zero.
        gather = np.full((2, 2 * top_y + 1, top_x + 1), 2 * modes - 1)
        gather[0, ky + top_y, kx] = np.arange(modes)
        gather[1, ky[1:] + top_y, kx[1:]] = modes + np.arange(modes - 1)
        self._gather = gather.reshape(2 * (2 * top_y + 1), top_x + 1)
        position = 2 * np.pi * np.arange(self.resolution) / self.resolution
        rows = np.outer(position, np.arange(-top_y, top_y + 1))
        columns = np.outer(np.arange(top_x + 1), position)
        cos, sin = np.cos(rows), np.sin(rows)
        # Re and Im of exp(i row) · (a - i b), stacked; then the real part of its product with exp(i column).
        self._rows = np.block([[cos, sin], [sin, -cos]])
        self._columns = np.stack([np.cos(columns), np.sin(columns)])
        self.scale: NDArray[np.float64] = self._amplitudes(np.hypot(ky, kx))
        self._colors = grey_or_colors(self.channels)

    def _amplitudes(self, radius: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns the scale ``(2m - 1,)`` of a channel's coordinates: 1/f, and pixels of unit variance after mixing."""
        amplitude = 1 / np.maximum(radius, 1.0) ** self.decay
        coordinates: NDArray[np.float64] = np.concatenate([amplitude, amplitude[1:]])
        # cos² + sin² = 1: each frequency adds its squared amplitude to the variance of every pixel.
        pixel_std = np.sqrt((amplitude**2).sum() * (grey_or_colors(self.channels) ** 2).sum() / self.channels)
        coordinates *= self.contrast / pixel_std
        return coordinates

    @property
    def recipe(self) -> Mapping[str, Any]:
        """Returns how `load_generator` makes it again."""
        return {
            "name": self.name,
            "resolution": self.resolution,
            "cutoff": self.cutoff,
            "decay": self.decay,
            "contrast": self.contrast,
            "shell": self.shell,
            **({} if self.channels == 3 else {"channels": self.channels}),
        }

    def __call__(self, codes: FloatArray) -> NDArray[np.float32]:
        """Returns images ``(n, channels, h, w)`` float32 in [0, 1] of codes ``(n, dim)``."""
        images: NDArray[np.float32] = expit(self.before_sigmoid(self.space.check(codes)))
        return images

    def before_sigmoid(self, codes: FloatArray) -> NDArray[np.float32]:
        """Returns what the sigmoid turns into images, ``(n, channels, h, w)``, of codes ``(n, dim)``."""
        if self.shell:
            codes = codes * (self.space.dim**0.5 / np.maximum(np.linalg.norm(codes, axis=1, keepdims=True), LEAST_NORM))
        codes = codes.astype(np.float32)
        channels = codes.reshape(len(codes), self.channels, len(self.scale)) * self.scale.astype(np.float32)
        mixed = np.matmul(self._colors.astype(np.float32), channels)
        padded = np.pad(mixed, ((0, 0), (0, 0), (0, 1)))
        halves = self._rows.astype(np.float32) @ padded[..., self._gather]
        real, imaginary = halves[..., : self.resolution, :], halves[..., self.resolution :, :]
        cos, sin = self._columns.astype(np.float32)
        # Re((p + i q) exp(i column)) = p cos - q sin
        planes: NDArray[np.float32] = real @ cos - imaginary @ sin
        return planes

    def forward(self, codes: Tensor) -> Tensor:
        """Returns the same in torch; keeps the graph and the precision of ``codes``."""
        import torch

        return torch.sigmoid(self.forward_before_sigmoid(codes))

    def forward_before_sigmoid(self, codes: Tensor) -> Tensor:
        """Returns `before_sigmoid` in torch."""
        import torch

        if self.shell:
            codes = codes * (self.space.dim**0.5 / codes.norm(dim=1, keepdim=True).clamp_min(LEAST_NORM))
        channels = codes.reshape(len(codes), self.channels, len(self.scale)) * codes.new_tensor(self.scale)
        mixed = codes.new_tensor(self._colors) @ channels
        padded = torch.nn.functional.pad(mixed, (0, 1))
        index = torch.as_tensor(self._gather, device=codes.device)
        found = padded.gather(-1, index.ravel().expand(*padded.shape[:-1], -1))  # much quicker than index_select
        spectrum = found.reshape(*padded.shape[:-1], *index.shape)
        if self._columns.shape[1] > 32:  # so many frequencies along an axis are quicker by a fast transform
            return self._transformed(spectrum)
        halves = codes.new_tensor(self._rows) @ spectrum
        real, imaginary = halves[..., : self.resolution, :], halves[..., self.resolution :, :]
        cos, sin = codes.new_tensor(self._columns)
        planes: Tensor = real @ cos - imaginary @ sin
        return planes

    def encode(self, images: NDArray[Any]) -> FloatArray:
        """Returns the codes ``(n, dim)`` of what the cutoff carries of images ``(n, 3, h, w)`` in [0, 1], of any size.

        Exact for this generator's own images. Of others, frequencies beyond the cutoff are lost (in an image of even
        size also the Nyquist frequency), and pixels nearer to black or white than `CLAMP` are moved to it. On the shell
        the code's length has no effect, so the contrast of an image is lost, too.
        """
        ky, kx = self.frequencies.T
        spectra = np.fft.fft2(decorrelated(images, self.resolution, self.channels))[..., ky, kx] / self.resolution**2
        # a cos + b sin has the Fourier coefficients (a - ib) / 2 and, at the mirrored frequency, (a + ib) / 2.
        cosines = np.concatenate([spectra.real[..., :1], 2 * spectra.real[..., 1:]], 2)
        coordinates = np.concatenate([cosines, -2 * spectra.imag[..., 1:]], 2) / self.scale
        codes: FloatArray = coordinates.reshape(len(coordinates), self.space.dim)
        return codes

    def _transformed(self, spectrum: Tensor) -> Tensor:
        """Does the two matrix products by a fast Fourier transform, which many frequencies are quicker by.

        Args:
            spectrum: ``(n, 3, 2 (2k + 1), m)``: the frequencies a for -k to k cycles along y, then b.

        Returns:
            ``(n, 3, h, w)``, the real part of the sum of (a - i b) exp(i (ky y + kx x)).
        """
        import torch

        size, top = self.resolution, len(self._gather) // 4
        a, b = torch.tensor_split(spectrum, 2, -2)
        half = torch.complex(a, -b) / 2  # of a pair of conjugates each takes half
        # Both of a pair with kx = 0 stand in the first column; GPUs transform it rightly only if they are conjugates.
        first = half[..., :1] + half[..., :1].flip(-2).conj()
        half = torch.cat([first, half[..., 1:]], -1)
        between = half.new_zeros(*half.shape[:-2], size - 2 * top - 1, half.shape[-1])
        rows = torch.cat([half[..., top:, :], between, half[..., :top, :]], -2)
        planes: Tensor = torch.fft.irfft2(rows, s=(size, size), norm="forward")
        return planes
