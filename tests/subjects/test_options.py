import numpy as np
import pytest

from closedloop.errors import InvalidArgumentError
from closedloop.subjects.options import check_colors, check_resolution


@pytest.mark.parametrize("wrong", [0.5, (0.5, 0.5), (0.5, np.nan, 0.5), ("a", "b", "c"), None])
def test_colors_are_three_numbers(wrong):
    with pytest.raises(InvalidArgumentError, match="mean: expected three numbers, one for each of R, G and B, got"):
        check_colors("mean", wrong)


def test_a_standard_deviation_is_above_zero():
    assert check_colors("mean", (0, -1, 2)) == (0.0, -1.0, 2.0)
    assert check_colors("std", np.array([1, 2, 3])) == (1.0, 2.0, 3.0)
    with pytest.raises(InvalidArgumentError, match="std: expected numbers above 0"):
        check_colors("std", (1, 0, 1))


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "8", None])
def test_a_resolution_is_a_number_of_pixels(wrong):
    assert check_resolution(np.int64(8)) == 8
    with pytest.raises(InvalidArgumentError, match="resolution: expected a whole number of pixels, got"):
        check_resolution(wrong)
