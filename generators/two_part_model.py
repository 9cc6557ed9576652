"""The networks of the native generator's second model: a code of two parts, what is seen, and how it is laid out.

The first half of a code says *what*: leading principal components of a classifier's outputs for a photograph. The
second says the *layout*: the spatial code that the first model's encoder gives. Photographs are no Gaussian cloud in
either, and their layout hangs on what they show; two small flows learnt both, so that draws from N(0, I) go through
them and come out as codes of photographs do, and the layout follows what is drawn.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from .native_model import CHANNELS, STRIDE, Encoder, Residual, leaky, on_shell, whitened

#: Numbers of the part that says what, and of the whole code at 128 pixels.
WHAT, CODE = 256, 512
#: Channels of the decoder at 1/16, 1/8, 1/4 and 1/2 of the image's resolution, of its branch at 1/32, and of what
#: steers all of them.
WIDTHS, WHOLE, STEER = (224, 128, 48, 32), 288, 256
#: Channels of the branch that reads what is seen off an image.
_LOOK = 128
#: Couplings of a flow, and width of their networks: wider ones learn the photographs by heart.
_COUPLINGS, _INNER = 6, 64
#: The largest logarithm by which one coupling stretches.
_STRETCH = 1.0


class Coupling(nn.Module):
    """An affine coupling (Dinh et al. 2017): half of the numbers stretch and move the other half.

    Args:
        dim: Numbers of a code.
        given: Numbers of a condition; 0 for none.
        swap: Whether the second half moves the first.
    """

    def __init__(self, dim: int, given: int, swap: bool) -> None:
        super().__init__()
        self.cut: int = dim // 2
        self.swap: bool = swap
        known, moved = (dim - self.cut, self.cut) if swap else (self.cut, dim - self.cut)
        last = nn.Linear(_INNER, 2 * moved)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.f: nn.Sequential = nn.Sequential(
            nn.Linear(known + given, _INNER), nn.LeakyReLU(0.2), nn.Linear(_INNER, _INNER), nn.LeakyReLU(0.2), last
        )

    def _parts(self, x: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns the half that is known, the one that moves, the logarithm of the stretch, and shift."""
        a, b = x[:, : self.cut], x[:, self.cut :]
        known, moved = (b, a) if self.swap else (a, b)
        stretch, shift = self.f(known if condition is None else torch.cat([known, condition], 1)).chunk(2, 1)
        return known, moved, _STRETCH * torch.tanh(stretch), shift

    def _join(self, known: Tensor, moved: Tensor) -> Tensor:
        return torch.cat([moved, known] if self.swap else [known, moved], 1)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Moves from noise towards data, ``(n, dim)`` -> the same."""
        known, moved, stretch, shift = self._parts(x, condition)
        return self._join(known, moved * stretch.exp() + shift)

    def invert(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Moves from data towards noise; returns also the logarithm of the stretch of volume, ``(n,)``."""
        known, moved, stretch, shift = self._parts(x, condition)
        return self._join(known, (moved - shift) * (-stretch).exp()), -stretch.sum(1)


@final
class Flow(nn.Module):
    """N(0, I) -> whitened codes of photographs, ``(n, dim)`` -> the same, given a condition or none.

    Args:
        dim: Numbers of a code.
        given: Numbers of the condition; 0 for none.
    """

    shuffles: Tensor

    def __init__(self, dim: int, given: int = 0) -> None:
        super().__init__()
        self.couplings: nn.ModuleList = nn.ModuleList(Coupling(dim, given, bool(i % 2)) for i in range(_COUPLINGS))
        # Halves are dealt anew before every second coupling, so that each number meets each other.
        self.register_buffer("shuffles", torch.stack([torch.randperm(dim) for _ in range(_COUPLINGS // 2)]))

    def forward(self, noise: Tensor, condition: Tensor | None = None) -> Tensor:
        """See the class."""
        x = noise
        for i, coupling in enumerate(self.couplings):
            if i % 2 == 0:
                x = x[:, self.shuffles[i // 2]]
            x = coupling(x, condition)
        return x

    def invert(self, codes: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Codes -> the noise that becomes them, and the logarithm of the stretch of volume, ``(n,)``."""
        x, volume = codes, torch.zeros(len(codes), dtype=codes.dtype, device=codes.device)
        for i in reversed(range(len(self.couplings))):
            x, more = self.couplings[i].invert(x, condition)  # type: ignore[operator]
            volume = volume + more
            if i % 2 == 0:
                x = x[:, self.shuffles[i // 2].argsort()]
        return x, volume

    def surprise(self, codes: Tensor, condition: Tensor | None = None) -> Tensor:
        """Returns the negative log likelihood per number, without its constant: ``(n,)``."""
        noise, volume = self.invert(codes, condition)
        return (noise.square().sum(1) / 2 - volume) / codes.shape[1]


@final
class TwoPartPrior(nn.Module):
    """Codes ``(n, d)``, N(0, I) -> what is seen ``(n, what)``, whitened, and spatial codes ``(n, 8, side, side)``.

    Args:
        what: Numbers of the part that says what.
        layout: Numbers of the part that says the layout.
        side: Rows and columns of a spatial code.
    """

    spatial_mean: Tensor
    spatial_axes: Tensor

    def __init__(self, what: int, layout: int, side: int) -> None:
        super().__init__()
        self.what: int = what
        self.layout: int = layout
        self.side: int = side
        self.what_flow: Flow = Flow(what)
        self.layout_flow: Flow = Flow(layout, what)
        self.register_buffer("spatial_mean", torch.zeros(CHANNELS * side**2))
        self.register_buffer("spatial_axes", torch.zeros(layout, CHANNELS * side**2))

    @property
    def dim(self) -> int:
        """Numbers of a code."""
        return self.what + self.layout

    def on_shells(self, codes: Tensor) -> Tensor:
        """Codes ``(n, d)`` with each part moved to the sphere close to which its draws lie."""
        return torch.cat([on_shell(codes[:, : self.what]), on_shell(codes[:, self.what :])], 1)

    def forward(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        what = self.what_flow(codes[:, : self.what])
        return what, self.spatial(codes[:, self.what :], what)

    def spatial(self, layout: Tensor, what: Tensor) -> Tensor:
        """Returns spatial codes ``(n, 8, side, side)`` of the layout part of codes, given what is seen."""
        return self._spatial(self.layout_flow(layout, what))

    def _spatial(self, components: Tensor) -> Tensor:
        flat = self.spatial_mean + components @ self.spatial_axes
        return flat.reshape(-1, CHANNELS, self.side, self.side)

    def cut(self, spatial: Tensor) -> Tensor:
        """Returns what a code can say of spatial codes ``(n, 8, side, side)``: their leading components."""
        return self._spatial(self.whiten(spatial))

    def whiten(self, spatial: Tensor) -> Tensor:
        """Turns spatial codes ``(n, 8, side, side)`` into their leading components in units of standard deviations."""
        return whitened(spatial.flatten(1), self.spatial_mean, self.spatial_axes)

    def invert(self, what: Tensor, spatial: Tensor) -> Tensor:
        """Turns what is seen and spatial codes into codes ``(n, d)``; of the layout what the leading axes carry."""
        layout, _ = self.layout_flow.invert(self.whiten(spatial), what)
        return torch.cat([self.what_flow.invert(what)[0], layout], 1)


@final
class Reader(nn.Module):
    """Images ``(n, 3, r, r)`` in [-1, 1] -> spatial codes, and what is seen, ``(n, what)``.

    The spatial codes are those of the first model's encoder; what is seen is read off the maps before its last layer.
    """

    def __init__(self, what: int = WHAT) -> None:
        super().__init__()
        self.encoder: Encoder = Encoder()
        channels = self.encoder.width
        self.look: nn.Sequential = nn.Sequential(
            nn.Conv2d(channels, _LOOK, 4, 2, 1), nn.LeakyReLU(0.2), Residual(_LOOK), nn.LeakyReLU(0.2)
        )
        self.name: nn.Linear = nn.Linear(_LOOK, what)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See the class. The encoder does not learn from what is said to be seen."""
        maps = self.encoder.maps(images)
        return self.encoder.f[-1](maps), self.name(self.look(maps.detach()).mean((2, 3)))


@final
class SteeredDecoder(nn.Module):
    """What is seen ``(n, what)`` and spatial codes ``(n, 8, side, side)`` -> images around [-1, 1], not clipped.

    The first model's decoder, wider, and steered: what is seen adds to the branch that sees the whole image, and
    excites or quiets channels at each resolution (the skip-layer excitation of FastGAN, Liu et al. 2021).

    Args:
        what: Numbers that say what is seen.
        side: Rows and columns of a spatial code.
        widths: Channels from 1/16 to 1/2 of the image's resolution.
        whole: Channels of the branch at 1/32.
    """

    def __init__(self, what: int = WHAT, side: int = 8, widths: Sequence[int] = WIDTHS, whole: int = WHOLE) -> None:
        super().__init__()
        self.first: nn.Conv2d = nn.Conv2d(CHANNELS, widths[0], 3, padding=1)
        self.down: nn.Conv2d = nn.Conv2d(widths[0], whole, 2, 2)
        self.whole: nn.Sequential = nn.Sequential(Residual(whole), Residual(whole))
        self.back: nn.Conv2d = nn.Conv2d(whole, 4 * widths[0], 1)
        self.mix: Residual = Residual(widths[0])
        self.up: nn.ModuleList = nn.ModuleList(nn.Conv2d(a, 4 * b, 1) for a, b in itertools.pairwise(widths))
        self.refine: nn.ModuleList = nn.ModuleList(Residual(b) for b in widths[1:])
        self.last: nn.Conv2d = nn.Conv2d(widths[-1], 12, 3, padding=1)
        self.steer: nn.Sequential = nn.Sequential(nn.Linear(what, STEER), nn.LeakyReLU(0.2), nn.Linear(STEER, STEER))
        self.shape: nn.Linear = nn.Linear(STEER, whole * (side // 2) ** 2)
        self.deeper: Residual = Residual(whole)
        self.excite: nn.ModuleList = nn.ModuleList(nn.Linear(STEER + whole, 2 * c) for c in widths)
        self._initialize()

    def _initialize(self) -> None:
        """Keeps the size of signals (He et al. 2015); residual blocks and steering begin without effect."""
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight, 0.2)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        quiet = [m.b for m in self.modules() if isinstance(m, Residual)]
        for layer in [*quiet, self.shape, *self.excite]:
            nn.init.zeros_(layer.weight)

    def forward(self, what: Tensor, spatial: Tensor) -> Tensor:
        """See the class."""
        steer = leaky(self.steer(what))
        x = self.first(spatial)
        whole = self.down(leaky(x))
        whole = self.deeper(self.whole(whole + self.shape(steer).view(whole.shape)))
        steer = torch.cat([steer, whole.mean((2, 3))], 1)
        x = self.mix(_excited(x + functional.pixel_shuffle(self.back(leaky(whole)), 2), self.excite[0](steer)))
        for up, refine, excite in zip(self.up, self.refine, self.excite[1:], strict=True):
            x = refine(_excited(functional.pixel_shuffle(up(leaky(x)), 2), excite(steer)))
        images: Tensor = functional.pixel_shuffle(self.last(leaky(x)), 2)
        return images

    @torch.no_grad()
    def begin_at(self, first: Mapping[str, Tensor]) -> None:
        """Takes the weights of the first model's decoder: what is new begins without effect on what it draws."""
        for name, value in self.state_dict().items():
            if name not in first:
                continue
            old = first[name]
            block = tuple(slice(n) for n in old.shape)
            if value.ndim > 1:
                value[: old.shape[0], old.shape[1] :] = 0  # channels that are new do not disturb those that are not
            value[block] = old


def _excited(maps: Tensor, steering: Tensor) -> Tensor:
    """Maps ``(n, c, h, w)`` with each channel stretched and moved by ``(n, 2 c)`` numbers; 0 leaves them alone."""
    stretch, shift = steering[:, :, None, None].chunk(2, 1)
    return maps * (1 + stretch) + shift


@final
class TwoPartNetwork(nn.Module):
    """Codes ``(n, d)``, prior N(0, I) -> images ``(n, 3, r, r)`` in [0, 1].

    Args:
        prior: From codes to what is seen and spatial codes.
        decoder: From these to images.
        shell: Move each part of a code to the sphere close to which its draws lie.
    """

    def __init__(self, prior: TwoPartPrior, decoder: SteeredDecoder, shell: bool) -> None:
        super().__init__()
        self.prior: TwoPartPrior = prior
        self.decoder: SteeredDecoder = decoder
        self.shell: bool = shell

    def forward(self, codes: Tensor) -> Tensor:
        """See the class."""
        images: Tensor = self.decoder(*self.prior(self.prior.on_shells(codes) if self.shell else codes))
        return (images / 2 + 0.5).clamp(0, 1)


@final
class TwoPartModel(nn.Module):
    """The second model: reader, prior of what it reads, and decoder.

    Args:
        what: Numbers of the part that says what is seen.
        layout: Numbers of the part that says the layout.
        side: Rows and columns of a spatial code.
        classes: How many classes have a code of their own; 0 for none.

    Attributes:
        classes: Mean code of what is seen in photographs of each class, ``(classes, what)``.
    """

    classes: Tensor

    def __init__(self, what: int, layout: int, side: int, classes: int = 0) -> None:
        super().__init__()
        self.dim: int = what + layout
        self.size: int = side * STRIDE
        self.register_buffer("classes", torch.zeros(classes, what), persistent=classes > 0)
        self.reader: Reader = Reader(what)
        self.decoder: SteeredDecoder = SteeredDecoder(what, side)
        self.prior: TwoPartPrior = TwoPartPrior(what, layout, side)

    def network(self, shell: bool) -> TwoPartNetwork:
        """Returns the part that turns codes into images."""
        return TwoPartNetwork(self.prior, self.decoder, shell)

    def encode(self, images: Tensor) -> Tensor:
        """Images ``(n, 3, r, r)`` in [-1, 1] -> codes ``(n, dim)``."""
        spatial, what = self.reader(images)
        return self.prior.invert(what, spatial)
