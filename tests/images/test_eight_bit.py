"""Rounding to 8 bits is what a file does, whichever way it is done."""

import numpy as np
import pytest

from closedloop.images.eight_bit import from_bytes, quantize, to_bytes


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16])
def test_rounded_as_a_file_rounds_bit_by_bit(kind):
    steps = np.linspace(0, 1, 255 * 40 + 1).astype(kind)
    images = np.append(steps, np.array([-0.0, 0.5 / 255, 1.5 / 255, 2.5 / 255], kind))
    found, expected = quantize(images), from_bytes(to_bytes(images))
    assert found.dtype == expected.dtype
    assert found.tobytes() == expected.tobytes()


def test_what_is_given_stays_as_it_is():
    images = np.full((1, 3, 2, 2), 0.3, np.float32)
    quantize(images)
    assert (images == np.float32(0.3)).all()
