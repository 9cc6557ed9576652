"""What cannot be drawn is said once, with its reason."""

import pytest

from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.figures.style import new_axes
from closedloop.report.views import Sketches


def failing(error):
    def plot():
        raise error

    return plot


def test_figures_that_fail_for_one_reason_are_named_together():
    sketches = Sketches("a")
    for name in ("first", "second"):
        assert sketches.draw(name, failing(RecordingError("recording: no repeats.")), "caption") is None
    sketches.draw("third", failing(RecordingError("recording: too short.")), "caption")
    assert sketches.omitted == ["first, second: no repeats", "third: too short"]


def test_figures_have_ids_of_their_own():
    sketches = Sketches("a")
    one, two = (sketches.draw(name, lambda: new_axes(None), "caption") for name in ("one", "two"))
    assert 'id="af1-0"' in one.svg
    assert 'id="af2-0"' in two.svg
    assert sketches.omitted == []


def test_other_errors_are_not_hidden():
    with pytest.raises(InvalidArgumentError, match="a fault of ours"):
        Sketches("a").draw("name", failing(InvalidArgumentError("a fault of ours")), "caption")
