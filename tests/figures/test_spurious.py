from importlib import import_module

import numpy as np
import pytest
import xarray as xr

from closedloop.figures import plot_spurious

drawing = import_module("closedloop.figures.spurious")


@pytest.fixture
def run(monkeypatch):
    """A diagnosis that tested two units, of which some are called spurious; pictures are kept as a run keeps them."""

    def made(spurious):
        found = xr.Dataset(
            {
                "unit": ("suspect", [3, 5]),
                "speaks_for": ("suspect", [1, 1]),
                "class_name": ("suspect", ["cat", "cat"]),
                "spurious": ("suspect", spurious),
                "turned": ("suspect", [0.9, 0.1]),
                "turned_control": ("suspect", [0.0, 0.1]),
            }
        )
        wanted = [f"unit-{u}-1-" for u, is_so in zip((3, 5), spurious, strict=True) if is_so]

        class Kept:
            def __init__(self, recording):
                pass

            def kept(self, name):
                unwanted = name.endswith(("evolved", "ascended")) and not name.startswith(tuple(wanted))
                return None if unwanted else np.zeros((8, 8, 3), np.uint8)

        monkeypatch.setattr(drawing, "spurious_units", lambda recording: found)
        monkeypatch.setattr(drawing, "Pictures", Kept)
        rows = {"suspect": [3, 5], "speaks_for": [1, 1], "nth_donor": [0, 0]}
        rows |= {"window_y": [4, 4], "window_x": [4, 4], "window_side": [2, 2], "kind": ["pasted", "pasted"]}
        return xr.Dataset(coords={name: ("presentation", values) for name, values in rows.items()})

    return made


def titles(figure, columns):
    return [ax.get_title().replace("\n", " ") for ax in figure.axes[:columns]]


def test_what_a_unit_wants_stands_beside_what_it_turns(run):
    figure = plot_spurious(run([True, False]))
    assert len(figure.axes) == 8
    assert "unit 3" in figure.axes[0].texts[0].get_text()
    figure.draw_without_rendering()


def test_a_column_without_a_picture_is_left_out(run):
    figure = plot_spurious(run([False, False]))
    assert len(figure.axes) == 2 * 6
    assert not [title for title in titles(figure, 6) if "wants" in title]
    assert all(ax.images for ax in figure.axes)
