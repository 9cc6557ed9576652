"""Windows: their places and sizes, read from pictures that say where they were cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from closedloop.errors import InvalidArgumentError
from closedloop.gradients.crops import Crops, InnerCrops


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def map_of_places(height: int, width: int | None = None) -> torch.Tensor:
    """A picture whose red is the row and whose green the column, as shares of the shorter side, in float64."""
    width = width or height
    y, x = np.mgrid[:height, :width] + 0.5
    return torch.from_numpy(np.stack([y, x, 0 * y])[None] / min(height, width))


def boxes(seen: torch.Tensor) -> np.ndarray:
    """Centre row, centre column and side ``(n, 3)`` of windows of the map, from their inner half."""
    size = seen.shape[-1]
    low, high = size // 4, 3 * size // 4
    side = (seen[:, 0, high].mean(1) - seen[:, 0, low].mean(1)) * size / (high - low)
    middle = (size - 1) / 2 - np.arange(low, high + 1)
    inner = seen[:, :2, low : high + 1, low : high + 1]
    rows = (inner[:, 0] + torch.from_numpy(middle)[:, None] * side[:, None, None] / size).mean((1, 2))
    columns = (inner[:, 1] + torch.from_numpy(middle) * side[:, None, None] / size).mean((1, 2))
    return torch.stack([rows, columns, side], 1).numpy()


def test_crops_have_the_places_and_sides_of_maco():
    view = Crops(600, size=16, center_std=0.1)
    found = boxes(view(map_of_places(128), 0, rng()))
    np.testing.assert_allclose(found[:, :2].mean(0), 0.5, atol=0.012)
    np.testing.assert_allclose(found[:, :2].std(0), 0.1, rtol=0.1)
    assert found[:, 2].mean() == pytest.approx(0.5, abs=0.005)
    assert found[:, 2].std() == pytest.approx(0.05, rel=0.1)
    assert np.abs(np.corrcoef(found.T)[np.triu_indices(3, 1)]).max() < 0.12


def test_sides_shrink_in_a_straight_line_and_are_clipped():
    view = Crops(steps=256)
    assert [view.mean_side(s) for s in (0, 255, 999)] == pytest.approx([0.5, 0.05, 0.05])
    steps = [view.mean_side(s) for s in range(256)]
    np.testing.assert_allclose(steps, np.linspace(0.5, 0.05, 256))
    assert Crops(steps=1).mean_side(0) == 0.5
    last = boxes(Crops(300, size=16)(map_of_places(256), 255, rng()))[:, 2]
    assert last.min() == pytest.approx(0.05, abs=1e-9)
    assert (last < 0.05 + 1e-9).mean() == pytest.approx(0.5, abs=0.1)
    large = boxes(Crops(50, 16, first=1.0, side_std=0.5, center_std=0.0)(map_of_places(64), 0, rng()))[:, 2]
    assert large.max() <= 1 + 1e-9


def test_beyond_the_picture_is_grey():
    view = Crops(60, size=8, first=0.5, center_std=0.5)
    seen = view(torch.ones(1, 3, 64, 64), 0, rng())
    assert set(np.round(seen.unique().numpy(), 5)) == {0.5, 1.0}
    inner = InnerCrops(60, size=8)(torch.ones(1, 3, 64, 64), 0, rng())
    torch.testing.assert_close(inner, torch.ones_like(inner))


@pytest.mark.parametrize("shape", [(128, 128), (96, 160)])
def test_inner_crops_are_uniform_where_they_fit(shape):
    found = boxes(InnerCrops(500, size=16, limits=(0.2, 0.8))(map_of_places(*shape), 0, rng()))
    sides = found[:, 2]
    assert sides.min() >= 0.19  # a widened kernel measures a little off
    assert sides.max() <= 0.81
    assert sides.mean() == pytest.approx(0.5, abs=0.02)
    assert sides.std() == pytest.approx(0.6 / 12**0.5, rel=0.08)
    places = []
    for axis in (0, 1):
        room = shape[axis] / min(shape) - sides
        place = (found[:, axis] - sides / 2) / room
        places.append(place)
        assert place.min() >= -0.02
        assert place.max() <= 1.02
        assert place.std() == pytest.approx(12**-0.5, rel=0.1)
    assert abs(np.corrcoef(places)[0, 1]) < 0.15


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Crops(0), "copies: expected a whole number of at least 1, got 0"),
        (lambda: Crops(size=0), "size: expected a whole number of at least 1, got 0"),
        (lambda: Crops(first=1.5), "first: expected a finite number from 0 to 1, got 1.5"),
        (lambda: Crops(side_std=-1), "side_std: expected a finite number of at least 0, got -1"),
        (lambda: Crops(limits=(0.5, 0.2)), "limits: expected a smallest and a largest side in"),
        (lambda: InnerCrops(limits=(0.5,)), "limits: expected a smallest and a largest side in"),
        (lambda: InnerCrops(limits=(0.0, 0.5)), "limits: expected a finite number from 0.001 to 1, got 0.0"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(InvalidArgumentError, match=message):
        make()
