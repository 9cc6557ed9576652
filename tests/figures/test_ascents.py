"""The page of ascents: images, numbers, and failures that cannot be overlooked."""

import numpy as np
import pytest
import xarray as xr

from closedloop.figures import plot_ascents
from closedloop.figures.ascents import FAILURE_COLOUR


def result(count, failure="", norm=1.0):
    """A result of some units, made by hand."""
    rng = np.random.default_rng(0)
    one = {"response": 2.5, "confidence": 0.75, "natural": 1.5}
    return xr.Dataset(
        {
            **{name: (("unit",), np.full(count, value)) for name, value in one.items()},
            "failure": (("unit",), [failure] * count),
            "image": (("unit", "rgb", "row", "col"), rng.random((count, 3, 8, 8))),
            "score": (("unit", "step"), np.tile(np.arange(10.0), (count, 1))),
            "gradient_norm": (("unit", "step"), np.full((count, 10), norm)),
            "shown_response": (("unit", "shown"), np.tile([0.0, 5.0], (count, 1))),
        },
        {
            "step": np.arange(10), "shown": [0, 5], "method": "lucid", "subject": "cells", "seed": 3,
            "neuroid_id": (("unit",), [f"cells.{i}" for i in range(count)]), "label": (("unit",), ["cat"] * count),
        },
    )  # fmt: skip


def words(figure):
    return [t for ax in figure.axes for t in [*ax.texts, ax.title]]


def test_numbers_stand_below_each_image():
    figure = plot_ascents(result(3))
    texts = [t.get_text() for t in words(figure)]
    assert sum("response 2.5\nconfidence 0.7500\nbest natural 1.5" in t for t in texts) == 3
    assert sum(len(ax.images) for ax in figure.axes) == 3
    assert figure.get_suptitle() == "lucid on cells, seed 3"
    assert not [t for t in words(figure) if t.get_color() == FAILURE_COLOUR]


def test_one_unit_without_its_dimension():
    assert sum(len(ax.images) for ax in plot_ascents(result(1).isel(unit=0)).axes) == 1


@pytest.mark.parametrize("norm", [0.0, np.nan])
def test_failures_are_seen(norm):
    figure = plot_ascents(result(2, "dead gradient: it was zero in every step", norm))
    wrong = [t.get_text().replace("\n", " ") for t in words(figure) if t.get_color() == FAILURE_COLOUR]
    assert wrong.count("dead gradient: it was zero in every step") == 2
    assert wrong.count("no gradient") == 2


def test_what_is_not_known_is_not_shown():
    unknown = result(1)
    unknown["confidence"][:] = np.nan
    unknown["natural"][:] = np.nan
    assert "response 2.5" in [t.get_text() for t in words(plot_ascents(unknown))]


def test_many_units_are_cut_and_that_is_said():
    figure = plot_ascents(result(5), most=3)
    assert sum(len(ax.images) for ax in figure.axes) == 3
    assert "the first 3 of 5" in figure.get_suptitle()
