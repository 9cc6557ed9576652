"""Views that move pictures, against what the eye would say of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from closedloop.errors import InvalidArgumentError
from closedloop.gradients.geometry import Flip, Jitter, Pad, RandomRotate, RandomScale, Resize, Roll
from closedloop.images.resizing import resize_images


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def pictures(n: int = 2, height: int = 9, width: int = 11) -> torch.Tensor:
    return torch.from_numpy(rng(1).random((n, 3, height, width)))


def dot(size: int = 21) -> torch.Tensor:
    """A bright pixel in the middle of a dark picture."""
    image = torch.zeros(1, 3, size, size, dtype=torch.float64)
    image[..., size // 2, size // 2] = 1
    return image


def center_of_mass(images: torch.Tensor) -> torch.Tensor:
    """Row and column ``(n, 2)`` relative to the middle."""
    weights = images.mean(1)
    rows = torch.arange(images.shape[2]) - (images.shape[2] - 1) / 2
    columns = torch.arange(images.shape[3]) - (images.shape[3] - 1) / 2
    total = weights.sum((1, 2))
    return torch.stack([(weights.sum(2) * rows).sum(1) / total, (weights.sum(1) * columns).sum(1) / total], 1)


def test_pad_surrounds_with_grey_or_with_the_mirrored_picture():
    images = pictures()
    grey = Pad(3, 0.25)(images, 0, rng())
    assert grey.shape == (2, 3, 15, 17)
    assert torch.equal(grey[:, :, 3:-3, 3:-3], images)
    assert (grey[:, :, :3] == 0.25).all()
    assert (grey[..., -3:] == 0.25).all()
    mirrored = Pad(3, "reflect")(images, 0, rng())
    assert torch.equal(mirrored[:, :, 3:-3, 2], images[..., 1])
    assert torch.equal(mirrored[:, :, 3:-3, -1], images[..., -4])


def test_jitter_is_a_window_without_a_border():
    images = torch.arange(9 * 11.0).reshape(1, 1, 9, 11).repeat(40, 3, 1, 1)
    seen = Jitter(4)(images, 0, rng())
    assert seen.shape == (40, 3, 5, 7)
    corners = seen[:, 0, 0, 0].long()
    for image, corner in zip(seen, corners, strict=True):
        y, x = divmod(int(corner), 11)
        assert torch.equal(image, images[0, :, y : y + 5, x : x + 7])
    assert set((corners // 11).tolist()) == set((corners % 11).tolist()) == set(range(5))


@pytest.mark.parametrize("view", [Jitter(6), Roll(3), RandomRotate((-90, 90)), RandomScale((0.8, 1.25))], ids=repr)
def test_the_expected_displacement_is_zero(view):
    moved = center_of_mass(view(dot().repeat(900, 1, 1, 1), 0, rng()))
    np.testing.assert_allclose(moved.mean(0), 0, atol=0.2)
    assert (view.px / 2 if isinstance(view, Jitter) else 3) + 1e-9 >= moved.abs().max()


def test_roll_is_circular_and_reaches_all_places():
    seen = Roll(2)(dot(7).repeat(200, 1, 1, 1), 0, rng())
    moved = center_of_mass(seen)
    assert set(moved.flatten().tolist()) == {-2, -1, 0, 1, 2}
    assert not torch.equal(moved[:, 0], moved[:, 1])
    images = pictures()
    rolled = Roll(5)(images, 0, rng())
    assert rolled.shape == images.shape
    for before, after in zip(images, rolled, strict=True):
        assert torch.equal(before.flatten().sort().values, after.flatten().sort().values)


def test_scale_magnifies_about_the_middle():
    ramp = torch.linspace(-1, 1, 20, dtype=torch.float64).repeat(1, 3, 20, 1) / 4 + 0.5
    seen = RandomScale((2.0,))(ramp, 0, rng())
    torch.testing.assert_close(seen[..., 5:-5] - 0.5, (ramp[..., 5:-5] - 0.5) / 2, atol=1e-12, rtol=0)
    small = RandomScale((0.5,), value=0.1)(ramp, 0, rng())
    assert (small[..., :5] == 0.1).all()
    assert (small[:, :, -5:] == 0.1).all()
    torch.testing.assert_close(small[:, :, 6:-6, 6:-6].mean(), ramp.mean())


def test_scale_chooses_among_all_factors():
    white = torch.ones(60, 3, 10, 10)
    covered = (RandomScale((0.2, 0.4, 0.6, 0.6), value=0)(white, 0, rng())[:, 0] > 0.5).sum((1, 2))
    counts = {size: int((covered == size**2).sum()) for size in (2, 4, 6)}
    assert sum(counts.values()) == 60
    assert min(counts.values()) > 5
    assert counts[6] > 20


@pytest.mark.parametrize("degrees", [90, 180, -90])
@pytest.mark.parametrize("shape", [(8, 8), (7, 7)])
def test_rotation_by_right_angles_is_exact(degrees, shape):
    images = pictures(2, *shape)
    expected = torch.rot90(images, degrees // 90, (2, 3))
    torch.testing.assert_close(RandomRotate((degrees,))(images, 0, rng()), expected, atol=1e-12, rtol=0)


def test_rotation_keeps_angles_and_lengths_in_a_frame_that_is_no_square():
    for shape in ((21, 41), (41, 21)):
        y, x = shape[0] // 2, shape[1] // 2
        line = torch.zeros(1, 3, *shape, dtype=torch.float64)
        line[:, :, y, x - 6 : x + 7] = 1
        turned = RandomRotate((45,), value=0)(line, 0, rng())[0, 0]
        rising = torch.stack([turned[y - i, x + i] for i in range(-9, 10)])
        assert rising[5:-5].min() > 0.3
        assert rising[:3].max() == rising[-3:].max() == 0
        assert turned[y, x + 4] == 0


def test_beyond_a_rotated_picture_is_grey():
    seen = RandomRotate((45,), value=0.3)(torch.ones(1, 3, 40, 40), 0, rng())
    torch.testing.assert_close(seen[0, :, 0, 0], torch.full((3,), 0.3))
    assert seen[0, 0, 20, 20] == 1


def test_flip_is_a_mirror_half_of_the_time():
    images = pictures(400)
    seen = Flip()(images, 0, rng())
    flipped = torch.stack([torch.equal(a, b.flip(2)) * torch.ones(()) for a, b in zip(seen, images, strict=True)])
    assert 0.4 < flipped.mean() < 0.6
    kept = flipped == 0
    assert torch.equal(seen[kept], images[kept])
    assert torch.equal(Flip(1.0)(images, 0, rng()), images.flip(3))


@pytest.mark.parametrize("px", [4, 16, 23])
def test_resize_is_that_of_the_house(px):
    images = pictures(2, 12, 12).float()
    expected = resize_images(images.numpy(), px)
    np.testing.assert_allclose(Resize(px)(images, 0, rng()), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Pad(-1), "px: expected a whole number of at least 0, got -1"),
        (lambda: Pad(2, "mirror"), r"value: expected a finite number from 0 to 1, got 'mirror'"),
        (lambda: Pad(9, "reflect")(pictures(), 0, rng()), "px: expected less than the picture's 9 pixels"),
        (lambda: Jitter(9)(pictures(), 0, rng()), "px: expected less than the picture's 9 pixels, got 9"),
        (lambda: Jitter(2.5), "px: expected a whole number of at least 0, got 2.5"),
        (lambda: Roll(True), "px: expected a whole number"),
        (lambda: RandomScale((0,)), "factors: expected a finite number from 0.01 to 100, got 0"),
        (lambda: RandomScale(()), "factors: expected at least one number, got none"),
        (lambda: RandomScale(1.1), "factors: expected a sequence of numbers, got 1.1"),
        (lambda: RandomRotate("90"), "degrees: expected a sequence of numbers, got '90'"),
        (lambda: RandomRotate((float("nan"),)), "degrees: expected a finite number"),
        (lambda: Flip(2), "probability: expected a finite number from 0 to 1, got 2"),
        (lambda: Resize(0), "px: expected a whole number of at least 1, got 0"),
        (
            lambda: Resize(4)(torch.zeros(3, 8, 8), 0, rng()),
            "images: expected a tensor .*got .3, 8, 8.",
        ),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(InvalidArgumentError, match=message):
        make()
