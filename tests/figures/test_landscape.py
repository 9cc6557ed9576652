"""Tuning landscapes: what is on the grid, and the fit's own peak."""

import numpy as np
import pytest
import xarray as xr

from closedloop.analysis import kent
from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.figures import plot_landscape
from closedloop.figures.landscape import on_grid

PEAK = (20.0, -10.0)


def landscape(values):
    """A landscape on a grid of 11 × 11 points, every 18 degrees."""
    side = np.linspace(-90, 90, 11)
    theta, phi = (x.ravel() for x in np.meshgrid(side, side))
    n = len(theta)
    return xr.Dataset(
        {"responses": (("presentation", "neuroid"), values(theta, phi)[:, None])},
        {
            "plane": ("presentation", np.array(["PC1 × PC2"] * n)),
            "theta_deg": ("presentation", theta),
            "phi_deg": ("presentation", phi),
            "kind": ("presentation", np.array(["landscape"] * n)),
            "stimulus_id": ("presentation", np.array([f"s{i}" for i in range(n)])),
            "neuroid_id": ("neuroid", np.array(["unit.0"])),
        },
    )


def kent_landscape(theta, phi):
    return kent(theta, phi, [*PEAK, 0.0, 4.0, 0.5, 10.0, 1.0])


def test_the_grid_and_the_peak():
    ax = plot_landscape(landscape(kent_landscape))
    grid = np.ma.getdata(ax.collections[0].get_array()).reshape(11, 11)
    side = np.linspace(-90, 90, 11)
    assert grid[3, 7] == pytest.approx(float(kent_landscape(side[7], side[3])))
    assert ax.lines[0].get_xydata()[0] == pytest.approx(PEAK, abs=0.1)
    assert "R² = 1.00, half width 34°" in ax.get_title(loc="left")


def test_the_line_is_at_half_height():
    ax = plot_landscape(landscape(kent_landscape))
    line = next(c for c in ax.collections if hasattr(c, "levels"))
    assert line.levels[0] == pytest.approx(1.0 + 10.0 / 2, rel=1e-3)


def test_a_flat_landscape_says_why_there_is_no_fit():
    ax = plot_landscape(landscape(lambda theta, phi: np.full(theta.shape, 3.0)))
    assert "no fit (the response is the same everywhere)" in ax.get_title(loc="left")
    assert not ax.lines


def test_what_is_no_landscape(recording):
    with pytest.raises(RecordingError, match="expected a tuning landscape"):
        plot_landscape(recording)
    with pytest.raises(InvalidArgumentError, match="plane: expected one of"):
        plot_landscape(landscape(kent_landscape), plane="PC7 × PC8")


def test_points_that_are_missing_stay_empty():
    x, y, grid = on_grid(np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, 5.0]), np.array([1.0, 2.0, 3.0]))
    assert x.tolist() == [0, 1]
    assert y.tolist() == [0, 5]
    assert np.array_equal(grid, [[1, 2], [3, np.nan]], equal_nan=True)
