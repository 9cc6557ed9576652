"""Back to the pixels: refusals are passed on, movies are movies."""

import json

import numpy as np
import pytest

from closedloop.errors import InvalidArgumentError
from closedloop.subjects import MotionEnergySubject
from closedloop.viewer.backward import Back, drawn, propagated
from closedloop.viewer.looking import sight_of


def test_a_network_without_rectifiers_is_refused_by_its_name():
    torch = pytest.importorskip("torch")
    from closedloop.subjects import TorchSubject

    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.GELU())
    sight = sight_of(TorchSubject(model, resolution=16, engine="eager"))
    grey = np.full((3, 16, 16), 128, np.uint8)
    with pytest.raises(InvalidArgumentError, match=r"guided-backprop has a rule .* this network has GELU"):
        propagated(sight, grey, "1", 0, (2, 2), "guided-backprop")
    assert np.isfinite(propagated(sight, grey, "1", 0, (2, 2), "gradient").values).all()


def test_a_movie_comes_back_as_a_movie():
    sight = sight_of(MotionEnergySubject(count=2, resolution=16, frames=4))
    movie = np.random.default_rng(0).integers(0, 255, (4, 1, 16, 16), dtype=np.uint8)
    back = propagated(sight, movie, "responses", 1, (0, 0), "gradient")
    assert back.values.shape == movie.shape
    assert drawn(back, "norm", 20.0, quick=False)[1] == "image/webp"


def test_nothing_that_comes_back_is_said():
    back = Back(np.zeros((3, 8, 8), np.float32), 0.0, 1.0)
    assert "silent" in json.loads(back.info())["reason"]
    assert drawn(back, "raw", None, quick=True)[1] == "image/jpeg"
