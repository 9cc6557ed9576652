"""Figures of a comparison, from a small one that is made up."""

import numpy as np
import pytest
import xarray as xr

from closedloop.errors import InvalidArgumentError
from closedloop.figures import plot_budgets, plot_contenders

DIMS = ("contender", "budget", "seed", "unit")


def comparison(units: int = 3) -> xr.Dataset:
    rng = np.random.default_rng(0)
    shape = (2, 2, 1, units)
    response = rng.uniform(1, 9, shape)
    best = np.full(units, 4.0)
    cost = np.broadcast_to(np.arange(1.0, 6.0) * 10, (*shape, 5))
    failure = np.full(shape, "", dtype="<U60")
    failure[0, 0, 0, 0] = "dead gradient: it was zero in every step, so the image stays"
    return xr.Dataset(
        {
            "response": (DIMS, response), "ratio": (DIMS, response / best), "failure": (DIMS, failure),
            "image": ((*DIMS, "rgb", "row", "col"), rng.integers(0, 256, (*shape, 3, 8, 8), dtype=np.uint8)),
            "forward_equivalents": (DIMS, np.broadcast_to([[[[50]], [[150]]]], shape).copy()),
            "curve_cost": ((*DIMS, "point"), cost),
            "curve_response": ((*DIMS, "point"), np.sort(rng.uniform(0, 8, (*shape, 5)), -1)),
            "natural_best": ("unit", best), "natural_n": ((), 160),
            "natural_image": (("unit", "rgb", "row", "col"), rng.integers(0, 256, (units, 3, 8, 8), dtype=np.uint8)),
        },
        {
            "contender": ["raw", "evolved"], "budget": ["50", "150"], "seed": [3], "unit": np.arange(units),
            "neuroid_id": ("unit", [f"net.output.{i}" for i in range(units)]), "count": "forward_equivalents",
        },
    )  # fmt: skip


def words(figure) -> list[str]:
    axes = figure.axes
    return (
        [ax.get_xlabel() for ax in axes]
        + [ax.get_title() for ax in axes]
        + [t.get_text() for ax in axes for t in ax.texts]
    )


def test_each_image_stands_beside_the_best_natural_one_with_its_number() -> None:
    result = comparison()
    figure = plot_contenders(result)
    assert len(figure.axes) == 3 * 3
    said = words(figure)
    assert "4" in said
    assert "best of 160\nnatural images" in said
    assert "evolved\n(no gradient)" in said
    one = result.isel(contender=1, budget=0, seed=0, unit=2)
    assert f"{float(one['response']):.3g} (×{float(one['ratio']):.2g})" in said
    assert "net.output.2" in said
    shown = figure.axes[2 * 3 + 2].images[0].get_array()
    np.testing.assert_array_equal(shown, np.moveaxis(one["image"].values, 0, -1))


def test_a_failure_is_written_below_its_picture() -> None:
    assert any("dead gradient" in word for word in words(plot_contenders(comparison())))
    assert not any("dead gradient" in word for word in words(plot_contenders(comparison(), budget="150")))


def test_as_many_units_as_asked_for() -> None:
    assert len(plot_contenders(comparison(), units=2).axes) == 2 * 3


@pytest.mark.parametrize(
    ("chosen", "text"), [({"budget": "7"}, "budget: expected one of"), ({"seed": 0}, "seed: .*got 0")]
)
def test_refuses_what_was_not_compared(chosen, text) -> None:
    with pytest.raises(InvalidArgumentError, match=text):
        plot_contenders(comparison(), **chosen)


def test_curves_are_medians_over_units_of_the_dearest_budget() -> None:
    result = comparison()
    ax = plot_budgets(result)
    line = ax.get_lines()[1]
    assert line.get_label() == "evolved"
    share = result["curve_response"].sel(contender="evolved", budget="150").mean("seed") / result["natural_best"]
    np.testing.assert_allclose(line.get_ydata(), share.median("unit"))
    assert "forward-equivalents" in ax.get_xlabel()
    assert "3 units" in ax.get_title(loc="left")


def test_units_without_a_positive_best_photograph_are_left_out() -> None:
    result = comparison()
    result["natural_best"].values[0] = -1.0
    line = plot_budgets(result).get_lines()[0]
    share = result["curve_response"].sel(contender="raw", budget="150").mean("seed") / result["natural_best"]
    np.testing.assert_allclose(line.get_ydata(), share.isel(unit=slice(1, None)).median("unit"))
