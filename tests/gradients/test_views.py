"""What every view promises, for each of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from closedloop.errors import InvalidArgumentError
from closedloop.gradients.appearance import ColorJitter, ColorOffset, Noise
from closedloop.gradients.crops import Crops, InnerCrops, Repeat
from closedloop.gradients.geometry import Flip, Jitter, Pad, RandomRotate, RandomScale, Resize, Roll
from closedloop.gradients.octaves import Octaves
from closedloop.gradients.views import (
    Blur,
    Chain,
    Whole,
    accentuation_view,
    deepdream_view,
    lucid_view,
    maco_view,
    parse_view,
    vit_view,
)
from closedloop.interfaces import View
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


SETS = [lucid_view(), maco_view(64, 100, 4), accentuation_view(64, 3), deepdream_view(96, 64, 5), vit_view(50, 2)]


def test_published_settings():
    pad, first, scale, rotate, last = lucid_view().views
    assert (pad, first, last) == (Pad(12, 0.5), Jitter(8), Jitter(4))
    np.testing.assert_allclose(scale.factors, [0.9, 0.92, 0.94, 0.96, 0.98, 1, 1.02, 1.04, 1.06, 1.08, 1.1])
    assert sorted(set(rotate.degrees)) == list(range(-10, 11))
    assert rotate.degrees.count(0) == 6
    assert lucid_view()(torch.zeros(2, 3, 128, 128), 0, rng()).shape == (2, 3, 140, 140)
    crops, noise = maco_view().views
    assert (crops.copies, crops.size, crops.center_std, crops.side_std) == (32, 224, 0.15, 0.05)
    assert (crops.mean_side(0), crops.mean_side(255)) == (0.5, 0.05)
    assert (noise.std, noise.uniform) == (0.08 / 2, 0.04 / 2)  # published for images in [-1, 1]
    assert accentuation_view().views == (InnerCrops(16, 224, (0.05, 0.99)), Noise(0.02, 0.01))
    assert deepdream_view() == Octaves(512, 224, 4, 1.4, 10, 32)
    assert vit_view().views[0] == Repeat(8)


@pytest.mark.parametrize("view", [*(v for v, _ in VIEWS), *NOTHING, *SETS], ids=lambda v: v.describe()[:40])
def test_the_text_of_a_view_makes_it_again(view):
    again = parse_view(view.describe())
    images = pictures(1) if not isinstance(view, Octaves) else torch.rand(1, 3, 96, 96, generator=torch.Generator())
    if view not in SETS:
        assert torch.equal(again(images, 5, rng()), view(images, 5, rng()))
    assert again.describe() == view.describe()


def test_texts_may_name_sets_and_be_nested():
    assert parse_view(" maco_view(steps=100) ") == maco_view(steps=100)
    assert parse_view("Pad(2) | (lucid_view() | Flip())") == Chain((Pad(2), *lucid_view().views, Flip()))
    assert parse_view("RandomScale([0.5, 2])") == RandomScale((0.5, 2.0))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Jiter(8)", "view: no view named 'Jiter'. Did you mean 'Jitter'?"),
        ("__import__('os')", "view: no view named '__import__'"),
        ("Jitter(8).describe()", "view: expected views such as"),
        ("Jitter", "view: expected views such as"),
        ("Jitter(8) + Pad(2)", "view: expected views such as"),
        ("Jitter(8", "view: expected views such as"),
        ("", "view: expected views such as"),
        ("(" * 500, "view: expected views such as"),
        ("Jitter(open('x'))", r"view: Jitter\(open\('x'\)\) does not fit"),
        ("Jitter(pixels=3)", r"view: Jitter\(pixels=3\) does not fit .*pixels"),
        ("Jitter(**{'px': 3})", "does not fit"),
        ("Jitter(-3)", "px: expected a whole number of at least 0, got -3"),
    ],
)
def test_bad_texts(text, message):
    with pytest.raises(InvalidArgumentError, match=message):
        parse_view(text)
