import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from closedloop import figures
from closedloop.analysis import development
from closedloop.errors import InvalidArgumentError
from tests.analysis.test_developments import STEPS, recorded


@pytest.fixture
def found():
    return development(recorded())


def test_the_page_has_a_film_and_three_curves_for_each_layer(found, tmp_path):
    figure = figures.plot_development(found)
    assert isinstance(figure, Figure)
    assert len(figure.axes) == 8
    film = figure.axes[0]
    assert len(film.images) == len(STEPS)
    assert [text.get_text() for text in film.texts] == ["2.0"] * 3  # the drive, from fresh presentations
    assert [tick.get_text() for tick in figure.axes[3].get_xticklabels()] == [str(step) for step in STEPS]
    figure.savefig(tmp_path / "page.png", dpi=30)
    assert "no parameters that learn" in [text.get_text() for text in figure.axes[7].texts]
    assert len(figures.plot_development(found, ["relu"]).axes) == 4


def test_the_movie_has_a_picture_for_each_look(found):
    movie = figures.development_movie(found)
    assert movie.shape[:2] == (3, 3)
    assert movie.dtype == np.uint8
    assert (movie[0] != movie[1]).any()


def test_other_input_is_named(found):
    with pytest.raises(InvalidArgumentError, match=r"layers: no layer 'blok'\. Did you mean 'block'"):
        figures.plot_development(found, ["blok"])
    with pytest.raises(InvalidArgumentError, match="found: expected what"):
        figures.development_movie(xr.Dataset())
