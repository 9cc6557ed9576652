"""The networks of the native generator: a spatial autoencoder whose decoder is small enough to draw images on a CPU."""

from __future__ import annotations

import itertools
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

#: A spatial code has CHANNELS x r/STRIDE x r/STRIDE numbers for an image of r x r pixels: 512 at 128 pixels.
CHANNELS, STRIDE = 8, 16
#: Slope below zero of every leaky ReLU in the native generator's networks.
_SLOPE = 0.2


def leaky(x: Tensor) -> Tensor:
    """Returns a leaky ReLU of any shape."""
    return functional.leaky_relu(x, _SLOPE)


@final
class Residual(nn.Module):
    """Two 3 x 3 convolutions beside the identity, ``(n, c, h, w)`` -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.a = nn.Conv2d(channels, channels, 3, padding=1)
        self.b = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        change: Tensor = self.b(leaky(self.a(leaky(x))))
        return x + change


@final
class Encoder(nn.Module):
    """Images ``(n, 3, r, r)`` in [-1, 1] -> spatial codes ``(n, 8, r/16, r/16)``."""

    def __init__(self) -> None:
        super().__init__()
        widths = (32, 64, 128, 192)  # channels at 1/2, 1/4, 1/8 and 1/16 of the image's resolution
        self.width = widths[-1]
        layers: list[nn.Module] = [nn.Conv2d(12, widths[0], 3, padding=1)]
        for a, b in itertools.pairwise(widths):
            layers += [nn.LeakyReLU(_SLOPE), nn.Conv2d(a, b, 4, 2, 1)]
        layers += [Residual(widths[-1]), nn.LeakyReLU(_SLOPE), nn.Conv2d(widths[-1], CHANNELS, 3, padding=1)]
        self.f = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        codes: Tensor = self.f[-1](self.maps(images))
        return codes

    def maps(self, images: Tensor) -> Tensor:
        """Images -> the maps ``(n, 192, r/16, r/16)`` off which the last layer reads the codes."""
        maps: Tensor = self.f[:-1](functional.pixel_unshuffle(images, 2))  # 2 x 2 pixels of 3 colours: 12 channels
        return maps


@final
class SpatialDecoder(nn.Module):
    """Spatial codes ``(n, 8, r/16, r/16)`` -> images ``(n, 3, r, r)`` around [-1, 1], not clipped.

    Upsampling is a 1 x 1 convolution and a pixel shuffle, which costs little, and a residual block that sees across the
    shuffled blocks. A branch at half the code's resolution sees the whole image and holds it together.
    """

    def __init__(self) -> None:
        super().__init__()
        # Channels at 1/16, 1/8, 1/4 and 1/2 of the image's resolution, and of the global branch at 1/32.
        widths, whole = (192, 96, 32, 16), 256
        self.first = nn.Conv2d(CHANNELS, widths[0], 3, padding=1)
        self.down = nn.Conv2d(widths[0], whole, 2, 2)
        self.whole = nn.Sequential(Residual(whole), Residual(whole))
        self.back = nn.Conv2d(whole, 4 * widths[0], 1)  # a pixel shuffle turns four channels into 2 x 2 pixels
        self.mix = Residual(widths[0])
        self.up = nn.ModuleList(nn.Conv2d(a, 4 * b, 1) for a, b in itertools.pairwise(widths))
        self.refine = nn.ModuleList(Residual(b) for b in widths[1:])
        self.last = nn.Conv2d(widths[-1], 12, 3, padding=1)
        self._initialize()

    def _initialize(self) -> None:
        """Keeps the size of signals from layer to layer (He et al. 2015); residual blocks begin as the identity."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, _SLOPE)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        for module in self.modules():
            if isinstance(module, Residual):
                nn.init.zeros_(module.b.weight)

    def forward(self, codes: Tensor) -> Tensor:
        """See the class."""
        x = self.first(codes)
        whole = self.whole(self.down(leaky(x)))
        x = self.mix(x + functional.pixel_shuffle(self.back(leaky(whole)), 2))
        for up, refine in zip(self.up, self.refine, strict=True):
            x = refine(functional.pixel_shuffle(up(leaky(x)), 2))
        return functional.pixel_shuffle(self.last(leaky(x)), 2)


@final
class Prior(nn.Module):
    """The Gaussian prior of spatial codes: a code z, N(0, I), stands for the spatial code ``mean + z @ axes``.

    Args:
        mean: Mean spatial code of photographs, ``(d,)``.
        axes: Principal axes of the spatial codes of photographs as rows, times their standard deviations, ``(d, d)``.
    """

    mean: Tensor
    axes: Tensor

    def __init__(self, mean: Tensor, axes: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("axes", axes)
        self.side = round((len(mean) / CHANNELS) ** 0.5)

    def forward(self, codes: Tensor) -> Tensor:
        """Codes ``(n, d)`` -> spatial codes ``(n, 8, side, side)``."""
        spatial: Tensor = (self.mean + codes @ self.axes).reshape(-1, CHANNELS, self.side, self.side)
        return spatial

    def invert(self, spatial: Tensor) -> Tensor:
        """Turns spatial codes ``(n, 8, side, side)`` into codes ``(n, d)``; 0 along axes without variance."""
        return whitened(spatial.flatten(1), self.mean, self.axes)


@final
class NativeNetwork(nn.Module):
    """Codes ``(n, d)``, prior N(0, I) -> images ``(n, 3, r, r)`` in [0, 1].

    Args:
        prior: From codes to spatial codes.
        decoder: From spatial codes to images.
        shell: Move codes to the sphere of radius ``sqrt(d)``, close to which draws from the prior lie.
    """

    def __init__(self, prior: Prior, decoder: SpatialDecoder, shell: bool) -> None:
        super().__init__()
        self.prior, self.decoder, self.shell = prior, decoder, shell

    def forward(self, codes: Tensor) -> Tensor:
        """See the class."""
        images: Tensor = self.decoder(self.prior(on_shell(codes) if self.shell else codes))
        return (images / 2 + 0.5).clamp(0, 1)  # from [-1, 1]


@final
class SpatialModel(nn.Module):
    """The first model: encoder, prior of its spatial codes, and decoder.

    Args:
        dim: Numbers of a code.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.encoder, self.decoder = Encoder(), SpatialDecoder()
        self.prior = Prior(torch.zeros(dim), torch.zeros(dim, dim))
        self.size = self.prior.side * STRIDE

    def network(self, shell: bool) -> NativeNetwork:
        """Returns the part that turns codes into images."""
        return NativeNetwork(self.prior, self.decoder, shell)

    def encode(self, images: Tensor) -> Tensor:
        """Images ``(n, 3, r, r)`` in [-1, 1] -> codes ``(n, dim)``."""
        codes: Tensor = self.prior.invert(self.encoder(images))
        return codes


def on_shell(codes: Tensor) -> Tensor:
    """Codes ``(n, d)`` moved to the sphere of radius ``sqrt(d)``, close to which draws from N(0, I) lie."""
    norm = torch.linalg.vector_norm(codes, dim=1, keepdim=True).clamp_min(1e-12)
    moved: Tensor = codes * (codes.shape[1] ** 0.5 / norm)
    return moved


def whitened(data: Tensor, mean: Tensor, axes: Tensor) -> Tensor:
    """Components of data ``(n, d)`` along principal axes, in units of standard deviations; 0 where there is none."""
    variance = axes.square().sum(1)
    # The axes are orthogonal rows of length σ_i: z_i = (x - mean) · a_i / σ_i².
    along = (data - mean) @ axes.T
    return torch.where(variance > 1e-8 * variance.max(), along / variance.clamp_min(1e-30), 0.0)


def principal_axes(covariance: Tensor) -> Tensor:
    """Returns the principal axes of a covariance ``(d, d)`` as rows, times their standard deviations, largest first."""
    # C = V diag(σ²) Vᵀ, ascending; rows σ_i v_iᵀ make C = axesᵀ axes, so that z @ axes has this covariance.
    values, vectors = torch.linalg.eigh(covariance.double())
    axes: Tensor = (values.clamp_min(0).sqrt() * vectors).T.flip(0).float().contiguous()
    return axes
