"""Evolved against reference images: the numbers of the summary, and each reference's own mean."""

import numpy as np
import pytest

from closedloop import summarize
from closedloop.errors import RecordingError
from closedloop.figures import plot_evolved_vs_reference
from closedloop.figures.comparison import swarm


def test_each_reference_is_a_dot_at_its_mean(recording):
    ax = plot_evolved_vs_reference(recording, thread="dark")
    rows = recording["thread"].values == "reference"
    table = recording["responses"].isel(presentation=rows, neuroid=1).groupby("stimulus_id").mean()
    dots = next(x for x in ax.lines if x.get_label() == "each reference")
    assert np.allclose(np.sort(dots.get_xdata()), np.sort(table.values))
    assert "n = 160" in ax.get_yticklabels()[0].get_text()


def test_retested_numbers_stand_at_their_place(recording):
    ax = plot_evolved_vs_reference(recording, thread="dark")
    summary = summarize(recording)[1]
    assert [t.get_text() for t in ax.texts] == [str(summary.natural), str(summary.evolved)]
    assert [c.lines[0].get_xdata()[0] for c in ax.containers] == [summary.natural.mean, summary.evolved.mean]
    assert "mean ± s.e.m. of 4 fresh presentations" in ax.get_title(loc="left")


def test_before_the_retest_only_references_are_there(recording):
    running = recording.isel(presentation=np.flatnonzero(recording.kind.values != "retest"))
    ax = plot_evolved_vs_reference(running, thread="red")
    assert "nothing was re-tested" in ax.get_title(loc="left")
    assert not ax.texts


def test_nothing_to_compare(recording):
    only = recording.isel(presentation=np.flatnonzero(recording.kind.values == "evolved"))
    with pytest.raises(RecordingError, match="no re-tested image and no reference yet"):
        plot_evolved_vs_reference(only, thread="red")


def test_a_swarm_spreads_equal_values_and_stays_in_its_row():
    heights = swarm(np.array([1.0] * 20 + [5.0]), height=0.4)
    assert len(np.unique(heights[:20])) == 20
    assert heights[20] == 0
    assert np.abs(heights).max() <= 0.4
    assert np.abs(heights).max() > 0.3
    assert swarm(np.empty(0)).shape == (0,)
