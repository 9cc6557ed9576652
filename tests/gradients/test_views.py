"""What every view promises, for each of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from closedloop.errors import InvalidArgumentError
from closedloop.gradients.views import (
    Blur,
    Chain,
    ColorJitter,
    ColorOffset,
    Crops,
    Flip,
    InnerCrops,
    Jitter,
    Noise,
    Pad,
    RandomRotate,
    RandomScale,
    Repeat,
    Resize,
    Roll,
    View,
    Whole,
)
from closedloop.testing.common import untouched_randomness

SIDE = 12
#: Each view with the side of its pictures for images of 12 pixels.
VIEWS = [
    (Whole(), 12),
    (Pad(3), 18),
    (Pad(3, "reflect"), 18),
    (Jitter(4), 8),
    (Roll(4), 12),
    (RandomScale((0.8, 1.0, 1.3)), 12),
    (RandomRotate((-20, 0, 35)), 12),
    (Flip(), 12),
    (Resize(7), 7),
    (Resize(20), 20),
    (Repeat(3), 12),
    (Crops(3, size=6, first=0.6, last=0.3, steps=10), 6),
    (InnerCrops(2, size=5), 5),
    (Noise(0.1, 0.05), 12),
    (ColorJitter(), 12),
    (ColorOffset(0.5, 20), 12),
    (Blur(1.2), 12),
    (Chain((Pad(2), Crops(2, 8), Roll(2), Noise(0.1))), 8),
]
#: Views that would do something, at strength zero.
NOTHING = [
    Whole(),
    Pad(0),
    Pad(0, "reflect"),
    Jitter(0),
    Roll(0),
    RandomScale((1.0,)),
    RandomRotate((0.0,)),
    Flip(0.0),
    Resize(SIDE),
    Repeat(1),
    Crops(1, SIDE, first=1.0, last=1.0, side_std=0.0, center_std=0.0),
    InnerCrops(1, SIDE, (1.0, 1.0)),
    Noise(0.0),
    ColorJitter(0.0, 0.0),
    ColorOffset(0.0),
    ColorOffset(0.5, 3),
    Blur(0.0),
    Chain((Whole(), Jitter(0))),
]
all_views = pytest.mark.parametrize(("view", "side"), VIEWS, ids=lambda v: str(v)[:40])


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def pictures(n: int = 3, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.from_numpy(rng(1).random((n, 3, SIDE, SIDE))).to(dtype)


@all_views
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_size_type_and_number(view, side, dtype):
    assert isinstance(view, View)
    for n in (0, 1, 3):
        seen = view(pictures(n, dtype), 5, rng())
        assert seen.shape == (n * view.copies, 3, side, side)
        assert seen.dtype == dtype
        assert torch.isfinite(seen).all()


@all_views
def test_same_random_numbers_same_pictures(view, side):
    images, first, second = pictures(), rng(3), rng(3)
    before = images.clone()
    with untouched_randomness():
        seen = [view(images, step, first) for step in range(3)]
        again = [view(images, step, second) for step in range(3)]
    assert all(torch.equal(a, b) for a, b in zip(seen, again, strict=True))
    assert torch.equal(images, before)


@all_views
def test_what_is_seen_of_an_image_does_not_depend_on_the_images_after_it(view, side):
    images, many, few = pictures(), rng(3), rng(3)
    for step in range(3):
        whole = view(images, step, many)
        alone = view(images[:1], step, few)
        torch.testing.assert_close(whole[: view.copies], alone, atol=1e-12, rtol=0)


@pytest.mark.parametrize("view", [v for v, _ in VIEWS if "Pad" not in repr(v)], ids=lambda v: str(v)[:40])
def test_pictures_draw_for_themselves_and_steps_anew(view):
    own, fixed = rng(3), isinstance(view, (Whole, Pad, Resize, Repeat, Blur))
    images = pictures(1).repeat(12, 1, 1, 1)
    seen = [view(images, 5, own) for _ in range(2)]
    differ = len({tuple(p.flatten().tolist()) for p in torch.cat(seen)})
    assert differ == 1 if fixed else differ >= (2 if isinstance(view, Flip) else 3)
    assert torch.equal(*seen) == fixed


@pytest.mark.parametrize("view", NOTHING, ids=str)
def test_at_strength_zero_nothing_changes(view):
    images = pictures()
    torch.testing.assert_close(view(images, 5, rng()), images, atol=1e-12, rtol=0)


@all_views
def test_gradient_is_right(view, side):
    images = pictures(2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: view(x, 5, rng()), (images,), fast_mode=True)


def test_a_chain_is_one_view_after_the_other():
    images = pictures()
    chain = Chain([Repeat(2), Pad(2), Repeat(3), Jitter(3)])
    assert chain.copies == 6
    assert isinstance(chain.views, tuple)
    own, other = rng(4), rng(4)
    expected = images
    for view in chain.views:
        expected = view(expected, 0, other)
    assert torch.equal(chain(images, 0, own), expected)
    assert own.random() == other.random()


def test_the_copies_of_an_image_are_adjacent():
    images = torch.arange(3.0)[:, None, None, None].expand(3, 3, 12, 12)
    for view in (Repeat(4), InnerCrops(4, 5), Chain((Repeat(2), InnerCrops(2, 5)))):
        seen = view(images, 0, rng())
        torch.testing.assert_close(seen.mean((1, 2, 3)), torch.arange(3.0).repeat_interleave(4))


def test_views_are_values():
    assert Jitter(3) == Jitter(3) != Jitter(4)
    assert hash(Chain([Jitter(3)])) == hash(Chain((Jitter(3),)))
    assert Chain((Pad(12, 0.5), Jitter(8))).describe() == "Pad(px=12, value=0.5) | Jitter(px=8)"


@pytest.mark.parametrize(
    ("views", "message"),
    [
        ((), "views: expected one or more views, such as Jitter.8., got none"),
        ((Jitter(2), "jitter"), "expected one or more views.*got 'jitter'"),
    ],
)
def test_bad_chain(views, message):
    with pytest.raises(InvalidArgumentError, match=message):
        Chain(views)
