"""Makes movies of Fourier coefficients in space and time, with the spectrum of natural movies.

What `closedloop.generators.fourier` does for images, with time as a third axis: independent coefficients, scaled by the
amplitude spectrum of natural movies, mixed by Lucid's colour matrix, then squashed to [0, 1] by a sigmoid. The power of
natural movies falls about as ``1 / f²`` over spatial frequency and as ``1 / w²`` over temporal frequency (Dong & Atick
1995, "Statistics of natural time-varying images", whose spectrum is of this form where neither is high), so
amplitudes here fall as ``1 / f`` and ``1 / w``. A movie repeats itself without a jump.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from closedloop.checks import check_any_images
from closedloop.errors import InvalidArgumentError
from closedloop.images.forms import shown_as
from closedloop.images.resizing import resize_images
from closedloop.interfaces import FloatArray, Form, Space
from closedloop.readable import ReadableGenerator

from .fourier import CLAMP, LEAST_NORM, grey_or_colors
from .pixels import check_channels, check_resolution

if TYPE_CHECKING:
    from torch import Tensor


def half_space(cutoff: float, resolution: int, cutoff_t: float, frames: int) -> NDArray[np.int_]:
    """Returns frequencies ``(m, 3)`` as (kt, ky, kx), cycles per movie and per image, one of each conjugate pair.

    Args:
        cutoff: The highest spatial frequency.
        resolution: Height and width in pixels; their Nyquist frequency is left out, for it has no sine.
        cutoff_t: The highest temporal frequency.
        frames: Pictures of the movie; likewise.

    Returns:
        The constant (0, 0, 0) first, then by falling period.
    """
    top, top_t = min(int(cutoff), (resolution - 1) // 2), min(int(cutoff_t), (frames - 1) // 2)
    grid = np.mgrid[-top_t : top_t + 1, -top : top + 1, 0 : top + 1].reshape(3, -1).T
    kt, ky, kx = grid.T
    upper = (kx > 0) | ((kx == 0) & ((ky > 0) | ((ky == 0) & (kt >= 0))))
    kept: NDArray[np.int_] = grid[upper & (np.hypot(ky, kx) <= cutoff)]
    order = np.lexsort((kept[:, 2], kept[:, 1], kept[:, 0], (kept**2).sum(1)))
    return kept.take(order, axis=0)


@final
class FourierMovie(ReadableGenerator):
    """A generator whose codes ``(n, dim)`` are Fourier coefficients in space and time, prior N(0, 1) on each.

    A draw from the prior is a cloud that moves, with standard deviation `contrast` before the sigmoid. As in `Fourier`
    every code is moved to the sphere of radius ``sqrt(dim)``, which fixes the contrast of all movies.

    Args:
        resolution: Height and width in pixels.
        frames: Pictures of each movie.
        rate_hz: Pictures per second.
        cutoff: Highest spatial frequency in cycles per image.
        cutoff_hz: Highest temporal frequency; None for the highest below half of the rate.
        decay: Exponent of the amplitude spectrum over spatial frequency.
        decay_t: Exponent over temporal frequency, counted in cycles per movie.
        contrast: Standard deviation of a prior draw before the sigmoid.
        shell: Move codes to the sphere of radius ``sqrt(dim)``.
        channels: 3 for colours, 1 for grey.
    """

    name = "fourier-movie"

    def __init__(
        self,
        resolution: int = 64,
        frames: int = 8,
        rate_hz: float = 20.0,
        cutoff: float = 4.0,
        cutoff_hz: float | None = None,
        decay: float = 1.0,
        decay_t: float = 1.0,
        contrast: float = 1.0,
        shell: bool = True,
        channels: int = 3,
    ) -> None:
        self.resolution: int = check_resolution(resolution)
        self.channels: int = check_channels(channels)
        form = Form(self.channels, frames, rate_hz)
        self.frames: int = int(frames)
        self.rate_hz: float = float(rate_hz)
        self._duration_s = form.duration_s
        if not 1 <= cutoff <= resolution:
            raise InvalidArgumentError(f"cutoff: expected 1 to {resolution} cycles per image, got {cutoff!r}.")
        if cutoff_hz is not None and not 0 <= cutoff_hz <= rate_hz:
            raise InvalidArgumentError(f"cutoff_hz: expected 0 to {rate_hz:g} cycles per second, got {cutoff_hz!r}.")
        if not (np.isfinite([decay, decay_t, contrast]).all() and contrast > 0):
            raise InvalidArgumentError(
                f"decay, decay_t, contrast: expected finite and contrast > 0, got {decay!r}, {decay_t!r}, {contrast!r}."
            )
        self.cutoff: float = cutoff
        self.cutoff_hz: float | None = cutoff_hz
        self.decay: float = float(decay)
        self.decay_t: float = float(decay_t)
        self.contrast: float = float(contrast)
        self.shell: bool = bool(shell)
        cycles = self.frames if cutoff_hz is None else cutoff_hz * self._duration_s
        self.frequencies = half_space(cutoff, self.resolution, cycles, self.frames)
        self._build()
        self.space: Space = Space(dim=self.channels * (2 * len(self.frequencies) - 1))

    def _build(self) -> None:
        """Prepares the gather of codes into spectra, and the three small matrices of the inverse transform."""
        kt, ky, kx = self.frequencies.T
        top_t, top_y, top_x = int(np.abs(kt).max()), int(np.abs(ky).max()), int(kx.max())
        modes = len(kt)
        # Coordinates of one channel: constant, cosines (modes - 1), sines (modes - 1); one more holds zero.
        gather = np.full((2, 2 * top_t + 1, 2 * top_y + 1, top_x + 1), 2 * modes - 1)
        gather[0, kt + top_t, ky + top_y, kx] = np.arange(modes)
        gather[1, kt[1:] + top_t, ky[1:] + top_y, kx[1:]] = modes + np.arange(modes - 1)
        self._gather = gather
        # exp(2πi k p / size) for each position p and frequency k.
        axes = ((self.frames, -top_t, top_t), (self.resolution, -top_y, top_y), (self.resolution, 0, top_x))
        self._waves = [
            np.exp(2j * np.pi / size * np.outer(np.arange(size), np.arange(low, high + 1))) for size, low, high in axes
        ]
        self._colors = grey_or_colors(self.channels)
        self.scale: NDArray[np.float64] = self._amplitudes(np.hypot(ky, kx), np.abs(kt))

    def _amplitudes(self, f: NDArray[np.float64], w: NDArray[np.int_]) -> NDArray[np.float64]:
        """Returns the scale ``(2m - 1,)`` of a channel's coordinates: 1/(f w), and pixels of unit variance."""
        amplitude = 1 / (np.maximum(f, 1.0) ** self.decay * np.maximum(w, 1.0) ** self.decay_t)
        coordinates: NDArray[np.float64] = np.concatenate([amplitude, amplitude[1:]])
        # cos² + sin² = 1: each frequency adds its squared amplitude to the variance of every pixel.
        pixel_std = np.sqrt((amplitude**2).sum() * (self._colors**2).sum() / self.channels)
        coordinates *= self.contrast / pixel_std
        return coordinates

    @property
    def recipe(self) -> Mapping[str, Any]:
        """Returns how `load_generator` makes it again."""
        return {
            "name": self.name,
            "resolution": self.resolution,
            "frames": self.frames,
            "rate_hz": self.rate_hz,
            "cutoff": self.cutoff,
            "cutoff_hz": self.cutoff_hz,
            "decay": self.decay,
            "decay_t": self.decay_t,
            "contrast": self.contrast,
            "shell": self.shell,
            "channels": self.channels,
        }

    def __call__(self, codes: FloatArray) -> NDArray[np.float32]:
        """Returns movies ``(n, frames, channels, h, w)`` float32 in [0, 1] of codes ``(n, dim)``."""
        codes = self.space.check(codes)
        if self.shell:
            codes = codes * (self.space.dim**0.5 / np.maximum(np.linalg.norm(codes, axis=1, keepdims=True), LEAST_NORM))
        channels = codes.astype(np.float32).reshape(len(codes), self.channels, len(self.scale))
        mixed = np.matmul(self._colors.astype(np.float32), channels * self.scale.astype(np.float32))
        # The real part of (a - i b) exp(i θ) is a cos θ + b sin θ.
        a, b = np.moveaxis(np.pad(mixed, ((0, 0), (0, 0), (0, 1)))[..., self._gather], 2, 0)
        t, y, x = (wave.astype(np.complex64) for wave in self._waves)
        planes = y @ ((a - 1j * b).astype(np.complex64) @ x.T)
        movies = np.stack([np.tensordot(t, plane, (1, 1)).real for plane in planes]) if len(codes) else self._none()
        squashed: NDArray[np.float32] = expit(movies)
        return squashed

    def _none(self) -> NDArray[np.float32]:
        """Returns no movies, ``(0, frames, channels, h, w)``."""
        return np.empty((0, self.frames, self.channels, self.resolution, self.resolution), np.float32)

    def forward(self, codes: Tensor) -> Tensor:
        """Returns the same in torch; keeps the graph and the precision of ``codes``."""
        import torch

        if self.shell:
            codes = codes * (self.space.dim**0.5 / codes.norm(dim=1, keepdim=True).clamp_min(LEAST_NORM))
        channels = codes.reshape(len(codes), self.channels, len(self.scale)) * codes.new_tensor(self.scale)
        padded = torch.nn.functional.pad(codes.new_tensor(self._colors) @ channels, (0, 1))
        index = torch.as_tensor(self._gather, device=codes.device)
        found = padded.gather(-1, index.ravel().expand(*padded.shape[:-1], -1))
        a, b = found.reshape(*padded.shape[:-1], *index.shape).unbind(2)
        spectrum = torch.complex(a, -b)
        t, y, x = (torch.as_tensor(wave, dtype=spectrum.dtype, device=codes.device) for wave in self._waves)
        planes = y @ (spectrum @ x.T)
        return torch.sigmoid(torch.einsum("tk,nckyx->ntcyx", t, planes).real)

    def encode(self, images: NDArray[Any]) -> FloatArray:
        """Returns the codes of what the cutoffs carry of movies ``(n, frames, channels, h, w)`` in [0, 1], or stills.

        Exact for this generator's own movies, but for the length of a code on the shell.
        """
        form = Form(self.channels, self.frames, self.rate_hz)
        movies = resize_images(shown_as(check_any_images(images), form), self.resolution).astype(np.float64)
        unmixed = np.einsum("kc,ntcyx->nktyx", np.linalg.inv(self._colors), logit(np.clip(movies, CLAMP, 1 - CLAMP)))
        kt, ky, kx = self.frequencies.T
        spectra = np.fft.fftn(unmixed, axes=(2, 3, 4))[..., kt, ky, kx] / (self.frames * self.resolution**2)
        # a cos + b sin has the Fourier coefficients (a - ib) / 2 and, at the mirrored frequency, (a + ib) / 2.
        cosines = np.concatenate([spectra.real[..., :1], 2 * spectra.real[..., 1:]], 2)
        coordinates = np.concatenate([cosines, -2 * spectra.imag[..., 1:]], 2) / self.scale
        codes: FloatArray = coordinates.reshape(len(coordinates), self.space.dim)
        return codes
