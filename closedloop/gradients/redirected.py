"""Gradients where there would be none: Lucid's redirected ReLU, and pixels that are black or white, in torch.

A unit behind a ReLU that does not fire has no gradient, and an ascent from there never begins. A pixel that was cut to
[0, 1] has none either, and never changes again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.overrides import TorchFunctionMode


@final
class RedirectedReLU(TorchFunctionMode):
    """While it is active, ReLUs let a gradient through to an example for which they would pass none.

    ``with RedirectedReLU(): scores = objective(subject.forward(pictures))``; the backward pass may follow inside or
    after the block. Only what is computed in the block is redirected; no module and no hook is touched.

    The rule is that of Lucid (``redirected_relu_grad``, ``redirected_relu6_grad``). For each example, an index along
    the first axis, and for each ReLU by itself: where anything passes by the ordinary rule, that rule holds. Where
    nothing does, the gradient passes unless it drives a silent value further down, or one above a ReLU6's 6 further up.
    Lucid uses it for the first 16 steps.

    Known are ``relu``, ``relu6``, ``hardtanh`` and ``clamp`` from 0 to 6 or to infinity, as functions, methods and
    modules, in place or not. It does not see into compiled or scripted code, nor what other threads compute. The values
    are those of the ordinary functions. A value of exactly 0 counts as silent, as in torch's ``relu``.

    Args:
        maximize: Whether the gradient is that of something to be raised; False for a loss.
    """

    def __init__(self, maximize: bool = True) -> None:
        super().__init__()
        self.maximize: bool = bool(maximize)

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Calls the function, or the redirected one in its place."""
        given = dict(kwargs or {})
        read = _READERS.get(func)
        found = None if read is None else read(*args, **given)
        if found is not None:
            x, low, high, inplace = found
            ours = isinstance(x, Tensor) and x.requires_grad and torch.is_grad_enabled() and x.ndim > 0
            # From 0 to infinity, or to 6 (ReLU6); ``clamp(0, 1)`` and other ranges are no activations.
            if ours and low == 0 and high in (None, 6.0) and given.get("out") is None:
                return _Redirected.apply(x, high, inplace, self.maximize)  # type: ignore[no-untyped-call]
        return func(*args, **given)


class _Redirected(torch.autograd.Function):
    """ReLU (``high`` None) or ReLU6, with Lucid's gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, high: float | None, inplace: bool, maximize: bool) -> Tensor:
        """Returns the values of the ordinary function, and keeps what the backward pass needs."""
        if inplace:
            ctx.mark_dirty(x)
        y = x.clamp_(0, high) if inplace else x.clamp(0, high)
        # What torch's own functions keep, so that a network that changes the other in place may do so here, too.
        ctx.save_for_backward(y if inplace or high is None else x)
        ctx.high, ctx.sign = high, 1 if maximize else -1
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        """Returns the ordinary gradient, and the redirected one of examples for which that is zero everywhere."""
        (x,) = ctx.saved_tensors
        # The ordinary rule: g [x > 0], for ReLU6 g [0 < x < 6].
        if ctx.high is None:
            ordinary = torch.ops.aten.threshold_backward(gradient, x, 0)
        else:
            ordinary = torch.ops.aten.hardtanh_backward(gradient, x, 0, ctx.high)
        silent = ordinary == 0  # of each example, whether nothing at all passes
        if gradient.ndim > 1:  # amax is quicker than any, and needs no other layout
            silent = ordinary.abs().amax(tuple(range(1, gradient.ndim))) == 0
        if not silent.any():
            return ordinary, None, None, None
        # Lucid's rule: g passes at x ≤ 0 unless it leads down, and at x ≥ 6 unless it leads up; with the sign of a loss
        # the other way round.
        up, below = ctx.sign * gradient, x <= 0
        above = torch.zeros_like(below) if ctx.high is None else x >= ctx.high
        redirected = gradient.masked_fill((below & (up < 0)) | (above & (up > 0)), 0)
        silent = silent.reshape(len(gradient), *[1] * (gradient.ndim - 1))
        return torch.where(silent, redirected, ordinary), None, None, None


@final
class InwardClamp(TorchFunctionMode):
    """While it is active, a black or white pixel lets a gradient through that leads back into the image's range.

    ``with InwardClamp(): images = generator.forward(codes)``. A generator that cuts its images to [0, 1] by ``clamp``
    lets nothing through where they are cut: what is once black stays black, although a brighter pixel is wanted. Here a
    value outside takes the gradient of a score to be raised where it leads inward, as in a projected ascent, and none
    where it leads further out. The values are those of the ordinary functions; other ranges are left alone.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Calls the function, or the one that lets gradients in."""
        given = dict(kwargs or {})
        clamps = (torch.clamp, torch.clip, Tensor.clamp, Tensor.clip)
        found = _READERS[func](*args, **given) if func in clamps else None
        if found is not None:
            x, low, high, inplace = found
            ours = isinstance(x, Tensor) and x.requires_grad and torch.is_grad_enabled() and not inplace
            if ours and low == 0 and high == 1 and given.get("out") is None:
                return _Inward.apply(x)  # type: ignore[no-untyped-call]
        return func(*args, **given)


class _Inward(torch.autograd.Function):
    """``clamp(0, 1)`` whose gradient leads inward from outside."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Returns ``clamp(0, 1)``, and keeps where it cuts."""
        ctx.save_for_backward(x < 0, x > 1)
        return x.clamp(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Returns the gradient but where a step along it led further out: below 0 downwards, above 1 upwards."""
        below, above = ctx.saved_tensors
        return gradient.masked_fill((below & (gradient < 0)) | (above & (gradient > 0)), 0)


#: Input, lower end, upper end (None for infinity), in place or not.
Reading = tuple[Any, Any, Any, bool]


def _relu(inplace: bool) -> Callable[..., Reading]:
    """Reads the arguments of ``relu`` or ``relu_``."""

    def read(input: Any, *args: Any, **kwargs: Any) -> Reading:  # noqa: A002 - torch's name
        return input, 0, None, inplace or bool(args[0] if args else kwargs.get("inplace", False))

    return read


def _relu6(input: Any, inplace: bool = False) -> Reading:  # noqa: A002 - torch's name
    return input, 0, 6.0, inplace


def _hardtanh(in_place: bool) -> Callable[..., Reading]:
    """Reads the arguments of ``hardtanh`` or ``hardtanh_``."""

    def read(input: Any, min_val: Any = -1.0, max_val: Any = 1.0, inplace: bool = False) -> Reading:  # noqa: A002
        return input, min_val, max_val, in_place or inplace

    return read


def _clamp(inplace: bool) -> Callable[..., Reading | None]:
    """Reads the arguments of the clamps; None where a bound is a tensor."""

    def read(input: Any, min: Any = None, max: Any = None, **kwargs: Any) -> Reading | None:  # noqa: A002
        plain = not isinstance(min, Tensor) and not isinstance(max, Tensor)
        return (input, min, max, inplace) if plain else None

    return read


#: The functions of torch that cut values, each with what reads its arguments.
_READERS: dict[Any, Callable[..., Reading | None]] = {
    **dict.fromkeys([torch.relu, Tensor.relu, functional.relu], _relu(False)),
    **dict.fromkeys([torch.relu_, Tensor.relu_, functional.relu_], _relu(True)),
    functional.relu6: _relu6,
    functional.hardtanh: _hardtanh(False),
    functional.hardtanh_: _hardtanh(True),
    **dict.fromkeys([torch.clamp, torch.clip, Tensor.clamp, Tensor.clip], _clamp(False)),
    **dict.fromkeys([torch.clamp_, torch.clip_, Tensor.clamp_, Tensor.clip_], _clamp(True)),
    **dict.fromkeys([torch.clamp_min, Tensor.clamp_min], _clamp(False)),
    **dict.fromkeys([torch.clamp_min_, Tensor.clamp_min_], _clamp(True)),
}
