from __future__ import annotations

import pytest

from closedloop.errors import InvalidArgumentError, UnknownNameError
from closedloop.generators import Fourier, Pixels, load_generator


def test_by_name():
    assert isinstance(load_generator("pixels", resolution=4), Pixels)
    assert isinstance(load_generator("fourier", resolution=16, cutoff=3.0), Fourier)


def test_misspelt():
    with pytest.raises(UnknownNameError, match=r"no generator named 'pixel'. Did you mean 'pixels'?"):
        load_generator("pixel")
    with pytest.raises(InvalidArgumentError, match=r"'resolutoin'. Did you mean 'resolution'?"):
        load_generator("pixels", resolutoin=4)
