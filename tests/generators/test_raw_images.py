"""What a foreign model makes is checked before it is trusted."""

from __future__ import annotations

import numpy as np
import pytest

from closedloop.errors import InvalidArgumentError
from closedloop.generators.raw_images import PROBE_CODES, SLACK, check_range, check_raw_images, probe_codes
from closedloop.interfaces import Space


def raw(size: int = 4, colors: int = 3) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (PROBE_CODES, colors, size, size))


def test_probe_codes_are_fixed_and_from_the_prior():
    codes = probe_codes(Space(500, scale=3.0))
    assert codes.shape == (PROBE_CODES, 500)
    assert codes.dtype == np.float32
    assert np.array_equal(codes, probe_codes(Space(500, scale=3.0)))
    assert codes.std() == pytest.approx(3, rel=0.1)
    bounded = probe_codes(Space(500, low=2, high=3))
    assert bounded.min() >= 2
    assert bounded.max() <= 3


@pytest.mark.parametrize("colors", [1, 3])
def test_the_size_of_sound_images(colors):
    assert check_raw_images(raw(5, colors), raw(5, colors)[-1:]) == 5
    assert check_raw_images(raw(), raw()[-1:] + 5e-4) == 4


@pytest.mark.parametrize(
    ("images", "alone", "message"),
    [
        (raw()[0], raw()[0], r"expected images of shape .*, got \(3, 4, 4\)"),
        (raw(4, 2), raw(4, 2)[-1:], r"got \(3, 2, 4, 4\)"),
        (raw()[..., :3], raw()[-1:, ..., :3], r"got \(3, 3, 4, 3\)"),
        (np.where(raw() > 0.9, np.nan, raw()), raw()[-1:], "finite images"),
        (raw(), raw()[-1:] + 5e-3, "depends on the other codes of its batch"),
        (raw()[:2], raw()[-1:], "depends on the other codes of its batch"),
    ],
)
def test_unsound_images(images, alone, message):
    with pytest.raises(InvalidArgumentError, match=message):
        check_raw_images(images, alone)


def test_a_range_may_be_left_a_little():
    images = np.array([-1 - 2 * SLACK, 1 + 2 * SLACK])
    assert check_range(images, [-1, 1]) == (-1.0, 1.0)
    for beyond in (1.01 * images[:1], 1.01 * images[1:]):
        with pytest.raises(
            InvalidArgumentError, match=r"output_range: expected values from -1 \(black\) to 1 \(white\)"
        ):
            check_range(beyond, [-1, 1])


@pytest.mark.parametrize("wrong", [(1, 1), (1, 0), (0, 1, 2), 1, ("a", "b"), (0, np.inf), None])
def test_what_is_no_range(wrong):
    with pytest.raises(InvalidArgumentError, match="output_range: expected the model's values for black and for white"):
        check_range(raw(), wrong)
