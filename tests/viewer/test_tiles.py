"""Sprites: where each tile stands, how values become grey."""

import io

import numpy as np
import pytest
from PIL import Image

from closedloop.viewer import tiles
from closedloop.viewer.tiles import arranged, hatched, shrunk, sprite_of, sprite_of_pictures


def pixels(sprite):
    if sprite.form != "grey":
        return np.asarray(Image.open(io.BytesIO(sprite.content), formats=[sprite.form.upper()])).astype(int)
    sides = sprite.rows * sprite.tile[0], sprite.columns * sprite.tile[1]
    return np.frombuffer(sprite.content, np.uint8).reshape(sides).astype(int)


def tile(sprite, index):
    y, x = divmod(index, sprite.columns)
    h, w = sprite.tile
    return pixels(sprite)[y * h : (y + 1) * h, x * w : (x + 1) * w]


def test_tiles_stand_in_rows_and_are_bright_where_values_are_high():
    maps = np.zeros((5, 4, 4), np.float32)
    for i in range(5):
        maps[i, :] = i
    sprite = sprite_of(maps)
    assert (sprite.columns, sprite.rows, sprite.signed, sprite.scale) == (2, 3, False, 4.0)
    np.testing.assert_allclose([tile(sprite, i).mean() for i in range(5)], [0, 63.75, 127.5, 191.25, 255], atol=2)


def test_maps_keep_their_values_to_the_last_step_of_grey():
    maps = np.random.default_rng(0).normal(size=(6, 3, 5)).astype(np.float32)
    sprite = sprite_of(maps)
    shown = np.stack([tile(sprite, i) for i in range(6)])
    np.testing.assert_allclose(shown, 127.5 + 127.5 * maps / np.abs(maps).max(), atol=0.51)


def test_zero_is_mid_grey_where_values_have_signs():
    sprite = sprite_of(np.float32([[[-1.0]], [[0.0]], [[1.0]]]))
    assert sprite.signed
    np.testing.assert_allclose([tile(sprite, i).mean() for i in range(3)], [0, 127.5, 255], atol=2)


def test_small_values_become_visible():
    maps = np.float32([[[0.1]], [[1.0]]])
    assert tile(sprite_of(maps), 0).mean() == pytest.approx(25.5, abs=2)
    assert tile(sprite_of(maps, gamma=0.3), 0).mean() == pytest.approx(255 * 0.1**0.3, abs=2)
    assert tile(sprite_of(maps, individual=1.0), 0).mean() == pytest.approx(255, abs=2)


def test_what_is_not_finite_is_drawn_as_zero():
    sprite = sprite_of(np.float32([[[np.nan]], [[np.inf]], [[1.0]]]))
    assert tile(sprite, 0).mean() < 3
    assert tile(sprite, 2).mean() > 252


@pytest.mark.parametrize("shape", [(1280, 7, 7), (64, 224, 224), (5, 1, 12), (1, 1, 1), (3, 999, 1), (2, 900, 900)])
def test_any_shape_fits(shape):
    sprite = sprite_of(np.ones(shape, np.float32))
    assert pixels(sprite).shape == (sprite.rows * sprite.tile[0], sprite.columns * sprite.tile[1])
    assert sprite.rows * sprite.columns >= shape[0]
    assert pixels(sprite).size <= 1.3 * tiles.MOST_PIXELS


def test_pictures_keep_their_colours():
    red = np.zeros((3, 16, 16, 3), np.uint8)
    red[..., 0] = 255
    sprite = sprite_of_pictures(red)
    assert tile(sprite, 2)[..., 0].mean() > 250
    assert shrunk(red[0], 8).shape == (8, 8, 3)
    assert arranged(red)[1:] == (2, 2)


def test_small_pictures_do_not_run_into_each_other():
    pictures = np.random.default_rng(0).integers(0, 256, (4, 19, 19, 3)).astype(np.uint8)
    sprite = sprite_of_pictures(pictures)
    np.testing.assert_array_equal([tile(sprite, i) for i in range(4)], pictures)


@pytest.mark.parametrize("side", [1, 7, 64])
def test_no_picture_is_no_grey_one(side):
    none = hatched(side)
    assert none.shape == (side, side, 3)
    assert len(np.unique(none)) == (2 if side > 2 else 1)
