import numpy as np
import pytest

from closedloop.figures.tiles import contrast_words, stretched

NOISE = np.random.default_rng(0).standard_normal((40, 40, 3))


def picture(spread, middle=120.0):
    return np.clip(np.rint(middle + spread * NOISE), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("spread", [0.6, 2.0, 8.0])
def test_a_picture_of_low_contrast_is_stretched(spread):
    image, factor = stretched(picture(spread))
    assert factor > 2
    assert image.std() == pytest.approx(factor * picture(spread).std(), rel=0.1)
    assert image.mean() == pytest.approx(127.5, abs=2)
    assert np.percentile(image, 99) - np.percentile(image, 1) < 256
    assert contrast_words(factor) == f"contrast ×{factor:.1f}"


def test_others_stay_as_they_are():
    for given in (picture(60), np.full((8, 8, 3), 90, np.uint8)):
        image, factor = stretched(given)
        assert image is given
        assert (factor, contrast_words(factor)) == (1.0, "")


def test_a_small_bright_spot_is_not_lost():
    given = np.full((40, 40, 3), 100, np.uint8)
    given[3, 3] = 250
    image, factor = stretched(given)
    assert factor == 1.0 or image[3, 3].min() == 255
