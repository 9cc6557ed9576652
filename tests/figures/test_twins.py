import numpy as np
import pytest
import xarray as xr

from closedloop.errors import InvalidArgumentError
from closedloop.figures import plot_twin
from tests import small_twins


def test_a_line_for_each_unit_ends_at_its_held_out_correlation():
    table = small_twins.table()
    ax = plot_twin(table)
    lines = {line.get_label(): line for line in ax.lines}
    assert lines["red"].get_ydata()[-1] == pytest.approx(float(table["r"][0]))
    assert "twin of lab" in ax.get_title(loc="left")


def test_of_many_units_the_median_is_drawn():
    table = small_twins.table()
    many = xr.concat([table] * 5, "neuroid", data_vars="minimal")
    lines = {line.get_label(): line for line in plot_twin(many).lines}
    np.testing.assert_allclose(lines["median"].get_ydata(), np.median(many["curve"].values, 1))


def test_another_table_is_refused():
    with pytest.raises(InvalidArgumentError, match="table: expected the table of a twin"):
        plot_twin(xr.Dataset())
