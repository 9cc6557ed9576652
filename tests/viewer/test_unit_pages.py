"""The words of the pages of units."""

import numpy as np
import pytest

pytest.importorskip("jinja2")

from closedloop.analysis.atlas import ClassResponse, Response, Tuning
from closedloop.viewer.unit_pages import CLASSES, _classes, _p, _response, _tuning_words


def test_a_response_is_written_with_its_error_where_it_has_one():
    assert _response(Response(-12.3456, 0.123, 10)) == "−12.35 ± 0.12"
    assert _response(Response(3.0, 0.0, 2)) == "3"
    assert _response(Response(float("nan"), float("nan"), 0)) == "–"


def test_p_values_are_written_as_they_are_known():
    assert (_p(0.0002), _p(0.041), _p(float("nan"))) == ("p < 0.001", "p = 0.041", "p unknown")


def test_classes_say_how_many_were_tested():
    many = tuple(ClassResponse(f"class_{i}", Response(float(5 - i), 0.1, 4)) for i in range(CLASSES + 3))
    words = _tuning_words(Tuning(many, 12.0, 0.01, 0.2, 0.1), 24)
    assert "Kruskal–Wallis over 15 classes: H = 12, p = 0.2 (Holm over 24 units" in words
    assert "3 more were tested" in words
    assert _tuning_words(Tuning(), 24) == ""
    rows = _classes(Tuning(many))
    assert len(rows) == CLASSES
    assert rows[0]["name"] == "class 0"
    assert [row["below"] for row in rows] == list(np.arange(CLASSES) > 5)
    zero = rows[0]["zero"]
    assert rows[0]["begin"] == zero  # the largest goes to the right from 0,
    assert rows[0]["begin"] + rows[0]["length"] == pytest.approx(100, abs=0.2)
    assert rows[-1]["begin"] == pytest.approx(0, abs=0.2)  # and the smallest to the left
    assert rows[-1]["begin"] + rows[-1]["length"] == pytest.approx(zero)
    assert [row["length"] for row in _classes(Tuning(many[:3]))] == [100, 80, 60]
