from __future__ import annotations

import numpy as np
import pytest
import torch

from closedloop.errors import InvalidArgumentError
from closedloop.gradients.octaves import Octaves


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_sizes_are_deepdreams():
    assert Octaves(224).sizes == (81, 114, 160, 224)
    assert Octaves(512).sizes == (186, 261, 366, 512)
    view = Octaves(512, steps=10)
    assert [view.octave(s) for s in (0, 9, 10, 29, 30, 999)] == [186, 186, 261, 366, 512, 512]


@pytest.mark.parametrize(("canvas", "size", "count"), [(512, 224, 9), (224, 224, 1), (448, 224, 4), (30, 64, 1)])
def test_as_many_tiles_as_cover_the_canvas(canvas, size, count):
    view = Octaves(canvas, size, octaves=2, steps=1)
    assert view.copies == count
    for step in (0, 1):
        assert view(torch.zeros(2, 3, canvas, canvas), step, rng()).shape == (2 * count, 3, size, size)


@pytest.mark.parametrize("step", [0, 1, 2, 5])
@pytest.mark.parametrize(("canvas", "size"), [(40, 16), (33, 16), (32, 16), (12, 16)])
def test_every_pixel_is_in_some_tile(canvas, size, step):
    view = Octaves(canvas, size, octaves=3, steps=1, jitter=5)
    images = torch.full((1, 3, canvas, canvas), 0.5, dtype=torch.float64, requires_grad=True)
    (seen,) = torch.autograd.grad(view(images, step, rng(step)).sum(), images)
    assert seen.min() > 0


def test_tiles_are_parts_of_the_canvas_moved_in_a_circle():
    canvas = torch.from_numpy(rng(1).random((1, 3, 20, 20)))
    tiles = Octaves(20, 8, octaves=1, jitter=3)(canvas, 0, rng())
    tiled = canvas.repeat(1, 1, 3, 3)[0]
    corners = []
    for tile in tiles:
        found = [(y, x) for y in range(20) for x in range(20) if torch.equal(tiled[:, y : y + 8, x : x + 8], tile)]
        assert len(found) == 1
        corners.append(found[0])
    rows, columns = np.array(corners).T
    assert set((rows - rows[0]) % 20) == {0, 6, 13}
    assert set((columns - columns[0]) % 20) == {0, 6, 13}
    assert min(rows[0], 20 - rows[0]) <= 3


def test_without_jitter_an_octave_stands_in_grey():
    view = Octaves(32, 32, octaves=2, ratio=2, steps=1, jitter=0, value=0.25)
    seen = view(torch.ones(1, 3, 32, 32), 0, rng())
    assert (seen[:, :, 8:24, 8:24] == 1).all()
    assert (seen == 0.25).sum() == 3 * (1024 - 256)


def test_the_canvas_itself_is_the_last_octave():
    canvas = torch.from_numpy(rng(1).random((2, 3, 24, 24)))
    assert torch.equal(Octaves(24, 24, octaves=2, steps=3, jitter=0)(canvas, 3, rng()), canvas)


def test_gradient_draws_and_neighbours():
    view = Octaves(12, 8, octaves=2, steps=1, jitter=4)
    images = torch.from_numpy(rng(1).random((3, 3, 12, 12))).requires_grad_()
    for step in (0, 1):
        assert torch.autograd.gradcheck(lambda x, s=step: view(x, s, rng()), (images,), fast_mode=True)
        assert torch.equal(view(images, step, rng())[:4], view(images[:1], step, rng()))
    same = view(images[:1].repeat(8, 1, 1, 1), 1, rng())
    assert len({tuple(t.flatten().tolist()) for t in same[::4]}) > 4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Octaves(0), "canvas: expected a whole number of at least 1, got 0"),
        (lambda: Octaves(ratio=0.5), "ratio: expected a finite number of at least 1, got 0.5"),
        (lambda: Octaves(10, octaves=9, ratio=2), "octaves, ratio: expected a smallest octave of at least 1 pixel"),
        (lambda: Octaves(64)(torch.zeros(1, 3, 32, 32), 0, rng()), "images: expected 64 x 64 pixels, got 32 x 32"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(InvalidArgumentError, match=message):
        make()
