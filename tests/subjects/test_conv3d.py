import numpy as np
import pytest

from closedloop.errors import InvalidArgumentError
from closedloop.subjects import load_subject
from closedloop.subjects.conv3d import Conv3dSubject
from closedloop.testing import SubjectContract


class TestConv3dContract(SubjectContract):
    def make(self):
        return Conv3dSubject(units=3)


class TestGreyConv3dContract(SubjectContract):
    resolution = 16

    def make(self):
        return Conv3dSubject(units=2, resolution=16, frames=5, channels=1, seed=4)


def test_the_seed_makes_the_weights():
    movies = np.random.default_rng(0).random((2, 8, 3, 32, 32), dtype=np.float32)
    one, other = Conv3dSubject(), Conv3dSubject(seed=1)
    np.testing.assert_array_equal(load_subject(**one.recipe).record(movies), one.record(movies))
    assert not np.array_equal(one.record(movies), other.record(movies))
    assert not np.allclose(one.record(movies), one.record(movies[:, ::-1]))  # it knows forwards from backwards


def test_options_that_do_not_fit():
    with pytest.raises(InvalidArgumentError, match="frames: expected a whole number of at least 5, got 3"):
        Conv3dSubject(frames=3)
