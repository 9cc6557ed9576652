"""Maps of receptive fields: what is drawn, and where."""

import numpy as np
import pytest

from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.figures import plot_field
from closedloop.protocols import map_field
from closedloop.subjects import EnergySubject, FunctionSubject


def test_the_ellipse_lies_on_the_field():
    cell = EnergySubject(resolution=48, cycles_per_image=6, y=18.0, x=30.0)
    figure = plot_field(map_field(cell, progress=False, px_per_deg=10.0))
    bright, dark, _ = figure.axes
    assert bright.get_title(loc="left") == "bright squares"
    assert dark.get_title(loc="left") == "dark squares"
    for ellipse in bright.patches:
        assert ellipse.center == (pytest.approx(0.65, abs=0.03), pytest.approx(0.55, abs=0.03))
    grid = np.ma.getdata(bright.collections[0].get_array()).reshape(10, 10)
    row, column = np.unravel_index(grid.argmax(), grid.shape)
    assert (row, column) == (3, 6)
    assert "centre (0.65" in figure.get_suptitle()


def test_sizes_of_patches_have_a_panel_each():
    cell = EnergySubject(resolution=48, cycles_per_image=6, y=18.0, x=30.0)
    figure = plot_field(map_field(cell, stimuli="patches", pictures=2, steps=6, progress=False))
    titles = [ax.get_title(loc="left") for ax in figure.axes[:3]]
    assert titles == ["patches of 6 px", "patches of 12 px", "patches of 24 px"]


def test_without_a_field_it_says_why(recording):
    flat = FunctionSubject(lambda x: np.ones((len(x), 1)), units=1)
    flat.resolution = 32
    mapped = map_field(flat, progress=False, steps=4)
    figure = plot_field(mapped)
    assert "no field (" in figure.get_suptitle()
    assert not figure.axes[0].patches
    with pytest.raises(InvalidArgumentError, match="unit: expected a column from 0 to 0, got 3"):
        plot_field(mapped, unit=3)
    with pytest.raises(RecordingError, match="expected a receptive field's mapping"):
        plot_field(recording)
