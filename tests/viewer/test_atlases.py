"""Atlases on the disk, and the geometry of a histogram."""

import numpy as np
import pytest

from tests import small_atlas

pytest.importorskip("jinja2")

from closedloop.images.opening import open_picture
from closedloop.viewer.atlases import Shelf, books_of, histogram


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    place = tmp_path_factory.mktemp("atlas")
    small_atlas.fill(place / "run", small_atlas.photographs(place / "naturals"))
    return books_of(place)[0]


def test_pictures_are_what_the_unit_sees(book):
    number = book.pages.best(0)[0].number
    for name, size in ((f"crop-natural-{number}-0", 160), (f"whole-natural-{number}-0", 16)):
        with open_picture(book.encoded(name), ".webp") as picture:
            assert picture.size == (size, size)
    assert book.encoded("crop-natural-12345-0") is None
    assert book.encoded("natural") is None
    assert book.resolution == small_atlas.SIDE


def test_units_stand_in_the_order_of_their_numbers(book):
    assert {layer: list(units) for layer, units in Shelf([book]).layers.items()} == {
        "a/b.c": ["0", "1", "10@1,3"],
        "odd#1?": ["0", "1"],
    }


def test_a_histogram_holds_all_bars_and_marks(book):
    page = book.pages.unit("a/b.c", "0")
    drawn = histogram(page, [float(page.natural[-1]) + 5, float("nan")])
    assert len(drawn.bars) == (page.counts > 0).sum()
    assert all(x >= 0 and x + w <= drawn.width and y >= 0 and y + h <= drawn.height + 0.01 for x, y, w, h in drawn.bars)
    assert [number for _, number, _ in drawn.marks] == [1]
    assert drawn.marks[0][0] == drawn.width - 8
    assert all(0 <= x <= drawn.width for x, _ in drawn.ticks)
    dead = book.pages.unit("odd#1?", "1")
    assert len(histogram(dead, [0.0]).bars) == 1
    assert "30 natural images" in drawn.words


def test_marks_beside_each_other_stand_in_rows(book):
    page = book.pages.unit("a/b.c", "0")
    marks = histogram(page, list(np.linspace(0, 0.01, 3))).marks
    assert sorted(row for _, _, row in marks) == [0, 1, 2]
