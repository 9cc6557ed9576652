"""The map of what many units want to see."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from closedloop.errors import RecordingError
from closedloop.figures.unit_map import _columns, plot_unit_map, preference_order
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


def test_every_unit_has_a_place_with_its_name_and_its_number(tmp_path):
    settings = {"images": 12, "retest_repeats": 2, "retest_candidates": 1, "seed": 1, "progress": False}
    subject = GaborSubject(resolution=16, count=7, seed=1)
    evolve(
        subject, Fourier(16, 2), {"name": "isotropic", "population": 6}, units="all", save=tmp_path / "r", **settings
    )
    figure = plot_unit_map(tmp_path / "r", columns=3)
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert len(titles) == 7
    assert all(any(f"gabor.{unit}" in title for title in titles) for unit in range(7))
    present(subject, np.zeros((3, 3, 16, 16), np.float32), save=tmp_path / "p", progress=False)
    with pytest.raises(RecordingError, match="expected an evolution"):
        plot_unit_map(tmp_path / "p")


@pytest.mark.parametrize(("count", "across"), [(1, 1), (7, 4), (24, 6), (64, 8), (80, 10)])
def test_the_last_row_is_as_full_as_may_be(count, across):
    assert _columns(count) == across
