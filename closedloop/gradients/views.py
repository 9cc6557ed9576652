"""What a subject is shown of an image while a gradient is taken.

A picture that excites a unit only as it is, to the pixel, is rarely the one that was asked for; one that does so moved,
scaled, turned or in noise says more about the unit. A view makes such pictures and keeps the graph. Its random numbers
come from the generator it is given, one for a call whatever the batch: picture i sees the same alone and among others.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, final

import numpy as np
from torch import Tensor

from closedloop.errors import InvalidArgumentError, UnknownNameError, closest
from closedloop.interfaces import View

from .appearance import Blur, ColorJitter, ColorOffset, Noise
from .crops import Crops, InnerCrops, Repeat
from .geometry import Flip, Jitter, Pad, RandomRotate, RandomScale, Resize, Roll
from .octaves import Octaves
from .sampling import check_pictures

__all__ = [
    "Blur",
    "Chain",
    "ColorJitter",
    "ColorOffset",
    "Crops",
    "Flip",
    "InnerCrops",
    "Jitter",
    "Noise",
    "Octaves",
    "Pad",
    "RandomRotate",
    "RandomScale",
    "Repeat",
    "Resize",
    "Roll",
    "View",
    "Whole",
    "accentuation_view",
    "deepdream_view",
    "lucid_view",
    "maco_view",
    "parse_view",
    "vit_view",
]


@final
@dataclass(frozen=True)
class Whole:
    """The image as it is."""

    copies = 1

    def __call__(self, images: Tensor, step: int, rng: np.random.Generator) -> Tensor:
        """Draws nothing."""
        check_pictures(images)
        return images

    def describe(self) -> str:
        """Returns its text, which `parse_view` reads back."""
        return repr(self)


@final
@dataclass(frozen=True)
class Chain:
    """One view after the other.

    Attributes:
        views: In the order in which they are applied; those of a chain within it are taken out of it.
    """

    views: Sequence[View]

    def __post_init__(self) -> None:
        views = tuple(self.views)
        wrong = next((view for view in views if not isinstance(view, View)), None)
        if wrong is not None or not views:
            came = "none" if not views else repr(wrong)
            raise InvalidArgumentError(f"views: expected one or more views, such as Jitter(8), got {came}.")
        flat = (part for view in views for part in (view.views if isinstance(view, Chain) else (view,)))
        object.__setattr__(self, "views", tuple(flat))

    @property
    def copies(self) -> int:
        """Pictures made of each image."""
        return prod(view.copies for view in self.views)

    def __call__(self, images: Tensor, step: int, rng: np.random.Generator) -> Tensor:
        """Turns images ``(n, 3, h, w)`` into pictures ``(n * copies, 3, h', w')``."""
        for view in self.views:
            images = view(images, step, rng)
        return images

    def describe(self) -> str:
        """Returns its text, which `parse_view` reads back."""
        return " | ".join(view.describe() for view in self.views)


def lucid_view() -> Chain:
    """Makes Lucid's standard transforms (Olah et al. 2017): padded, moved, scaled, turned and moved again.

    An image of 128 pixels becomes a picture of 140. Lucid draws once for the whole batch, its scaling changes the size
    of the picture (125 to 154 pixels), and a turned picture stands in black, not grey.
    """
    return Chain(
        (
            Pad(12, 0.5),
            Jitter(8),
            RandomScale(tuple(1 + (i - 5) / 50 for i in range(11))),
            RandomRotate((*range(-10, 11), *5 * [0])),
            Jitter(4),
        )
    )


def maco_view(size: int = 224, steps: int = 256, copies: int = 32, first: float = 0.5, last: float = 0.05) -> Chain:
    """Crops that shrink from a half to a twentieth of the image, with noise (Fel et al. 2023; Xplique's settings).

    The published noise is N(0, 0.08²) and uniform within 0.04 on images in [-1, 1]: half of it in [0, 1].

    Args:
        size: Height and width of the crops, the subject's resolution.
        steps: Of the whole ascent.
        copies: Crops at each step.
        first: Mean side of the crops at the first step, as a share of the image's.
        last: The same at the last step.
    """
    return Chain((Crops(copies, size, first, last, steps), Noise(0.04, 0.02)))


def accentuation_view(size: int = 224, copies: int = 16) -> Chain:
    """Crops of any size within the image, with noise: feature accentuation (Hamblin et al. 2024).

    Args:
        size: Height and width of the crops, the subject's resolution.
        copies: Crops at each step.
    """
    return Chain((InnerCrops(copies, size), Noise(0.02, 0.01)))


def deepdream_view(canvas: int = 512, size: int = 224, steps: int = 10) -> Octaves:
    """Makes four octaves with ratio 1.4, each moved by up to 32 pixels (DeepDream's notebook).

    Args:
        canvas: Height and width of the images.
        size: Height and width of the tiles, the subject's resolution.
        steps: Of each octave.
    """
    return Octaves(canvas, size, octaves=4, ratio=1.4, steps=steps, jitter=32)


def vit_view(steps: int = 400, copies: int = 8) -> Chain:
    """Makes moved copies in other colours (Ghiasi et al. 2022, "What do Vision Transformers Learn?").

    Args:
        steps: Of the whole ascent; the colour that is added fades until then.
        copies: Pictures at each step.
    """
    return Chain((Repeat(copies), Roll(32), ColorJitter(1.0, 1.0), ColorOffset(0.5, steps)))


#: What a text may name: the views, and the sets that others have published.
_KNOWN: dict[str, Any] = {
    view.__name__: view
    for view in (
        Blur,
        ColorJitter,
        ColorOffset,
        Crops,
        Flip,
        InnerCrops,
        Jitter,
        Noise,
        Octaves,
        Pad,
        RandomRotate,
        RandomScale,
        Repeat,
        Resize,
        Roll,
        Whole,
        lucid_view,
        maco_view,
        accentuation_view,
        deepdream_view,
        vit_view,
    )
}


def parse_view(text: str) -> View:
    """Returns the view that a text describes, such as ``"Pad(px=12) | Jitter(8)"`` or ``"maco_view(steps=100)"``.

    Only views and published sets of this module are called, with numbers and words as arguments; nothing else runs.

    Raises:
        InvalidArgumentError: It is no such text, or an argument does not fit.
        UnknownNameError: No such view.
    """
    try:
        parts = _parts(ast.parse(str(text).strip(), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        if isinstance(error, InvalidArgumentError):
            raise
        raise _unreadable(text) from error
    views = [_called(part, text) for part in parts]
    return views[0] if len(views) == 1 else Chain(views)


def _parts(node: ast.expr) -> list[ast.expr]:
    """Returns the operands of ``a | b | c``."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return [*_parts(node.left), *_parts(node.right)]
    return [node]


def _called(node: ast.expr, text: str) -> View:
    """Returns the view of one call, ``Name(literals)``."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise _unreadable(text)
    if node.func.id not in _KNOWN:
        raise UnknownNameError(f"view: no view named {node.func.id!r}.{closest(node.func.id, _KNOWN)}")
    try:
        given = [ast.literal_eval(argument) for argument in node.args]
        named = {str(k.arg): ast.literal_eval(k.value) for k in node.keywords}
        view: View = _KNOWN[node.func.id](*given, **named)
    except InvalidArgumentError:
        raise
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(f"view: {ast.unparse(node)} does not fit ({error}).") from error
    return view


def _unreadable(text: str) -> InvalidArgumentError:
    return InvalidArgumentError(f'view: expected views such as "Pad(12) | Jitter(8)", got {text!r:.200}.')
