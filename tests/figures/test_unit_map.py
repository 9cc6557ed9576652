"""The map of what many units want to see."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest

from closedloop import style
from closedloop.errors import RecordingError
from closedloop.figures.unit_map import _columns, plot_unit_map, preference_map, preference_order
from closedloop.generators import Fourier
from closedloop.protocols import evolve, present
from closedloop.subjects import GaborSubject


def test_images_that_are_alike_are_neighbours():
    rng = np.random.default_rng(0)
    base = rng.standard_normal((3, 48))
    images = [base[i % 3] + 0.05 * rng.standard_normal(48) for i in range(9)]
    order = [i % 3 for i in preference_order(images)]
    assert sum(one != other for one, other in itertools.pairwise(order)) == 2
    assert preference_order([None, images[0], None, images[1], images[2], images[3]])[-2:] == [0, 2]
    assert preference_order([images[0], images[1]]) == [0, 1]


def test_a_map_brings_together_what_is_alike_in_both_directions():
    rng = np.random.default_rng(1)
    across, down = 6, 5
    spots = np.array([(row, column) for row in range(down) for column in range(across)], float)
    basis = rng.standard_normal((2, 48))  # images that differ as places of a sheet do
    images = [spot @ basis + 4 * basis.sum(0) + rng.standard_normal(48) * 0.05 for spot in spots]
    images = [images[i] for i in rng.permutation(len(images))]
    table = ((np.array(images)[:, None] - images) ** 2).mean(-1)

    def spread(cells):
        grid = np.array(cells).reshape(down, across)
        pairs = zip([*grid[:, 1:].ravel(), *grid[1:].ravel()], [*grid[:, :-1].ravel(), *grid[:-1].ravel()], strict=True)
        return sum(table[a, b] for a, b in pairs)

    cells = preference_map(images, across)
    assert sorted(cells) == list(range(30))
    order = preference_order(images)
    folded = [order[r * across + (c if r % 2 == 0 else across - 1 - c)] for r in range(down) for c in range(across)]
    assert spread(cells) < spread(folded)
    assert preference_map(images, across) == cells


def test_images_that_are_missing_stay_at_the_end_of_a_map():
    images = [np.random.default_rng(i).standard_normal(48) if i != 2 else None for i in range(7)]
    assert sorted(preference_map(images, 4)) == list(range(7))
    assert preference_map(images, 7)[-1] == 2
    assert preference_map([None, None], 2) == [0, 1]


def test_every_unit_has_a_place_with_its_name_and_its_number(tmp_path):
    settings = {"images": 12, "retest_repeats": 2, "retest_candidates": 1, "seed": 1, "progress": False}
    subject = GaborSubject(resolution=16, count=7, seed=1)
    ds = evolve(
        subject, Fourier(16, 2), {"name": "isotropic", "population": 6}, units="all", save=tmp_path / "r", **settings
    )
    figure = plot_unit_map(tmp_path / "r", columns=3)
    with style(), warnings.catch_warnings(action="error"):
        plot_unit_map(ds, columns=3).savefig(tmp_path / "map.svg")
    assert [ax.get_title("left") for ax in plot_unit_map(ds, columns=3).axes] == [
        ax.get_title("left") for ax in figure.axes
    ]
    titles = [ax.get_title("left") for ax in figure.axes]
    assert len(titles) == 7
    assert all(any(f"gabor.{unit}" in title for title in titles) for unit in range(7))
    present(subject, np.zeros((3, 3, 16, 16), np.float32), save=tmp_path / "p", progress=False)
    with pytest.raises(RecordingError, match="expected an evolution"):
        plot_unit_map(tmp_path / "p")


@pytest.mark.parametrize(("count", "across"), [(1, 1), (7, 4), (24, 6), (64, 8), (80, 10)])
def test_the_last_row_is_as_full_as_may_be(count, across):
    assert _columns(count) == across
