from __future__ import annotations

import pytest

from closedloop import generators
from closedloop.errors import InvalidArgumentError, UnknownNameError
from closedloop.generators import CPPN, DeePSiM, Fourier, PhaseOnly, Pixels, Placed, load_generator


def test_by_name():
    assert isinstance(load_generator("pixels", resolution=4), Pixels)
    assert isinstance(load_generator("fourier", resolution=16, cutoff=3.0), Fourier)
    assert isinstance(load_generator("phase", resolution=16), PhaseOnly)
    assert isinstance(load_generator("cppn", resolution=16), CPPN)
    small = load_generator("deepsim:pool5", weights="random", width=1 / 64, engine="eager", resolution=32)
    assert isinstance(small, DeePSiM)
    assert small.resolution == 32
    placed = load_generator("placed", generator={"name": "fourier", "resolution": 8}, box=[0, 0, 8, 8], resolution=16)
    assert isinstance(placed, Placed)


def test_every_public_name_is_there():
    assert all(callable(getattr(generators, name)) for name in generators.__all__)
    with pytest.raises(AttributeError, match=r"'closedloop\.generators' has no attribute 'Nothing'"):
        _ = generators.Nothing


def test_misspelt():
    with pytest.raises(UnknownNameError, match=r"no generator named 'pixel'. Did you mean 'pixels'?"):
        load_generator("pixel")
    with pytest.raises(InvalidArgumentError, match=r"'resolutoin'. Did you mean 'resolution'?"):
        load_generator("pixels", resolutoin=4)
