"""Populations of images and the plane of their codes."""

import numpy as np
import pytest

from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.figures import plot_code_plane, plot_population
from closedloop.recording.pictures import Pictures


def test_the_sheet_shows_a_generation_best_first(recording):
    ax = plot_population(recording, thread="red", generation=2)
    own = (recording.thread.values == "red") & (recording.kind.values == "evolved") & (recording.generation.values == 2)
    scores = np.sort(recording.score.values[own])[::-1]
    assert [cell.get_title() for cell in ax.child_axes] == [f"{s:.3g}" for s in scores]
    best = ax.child_axes[0]
    name = best.get_label()
    assert name in recording.stimulus_id.values[own & (recording.score.values == scores[0])]
    assert np.array_equal(best.images[0].get_array(), Pictures(recording)(name))
    assert "generation 2: 12 images" in ax.get_title(loc="left")


def test_the_last_generation_is_the_default(recording):
    assert "generation 9: 12 images" in plot_population(recording, thread="red").get_title(loc="left")


def test_lost_images_come_last_and_are_named_so(recording):
    lost = recording.copy()
    own = np.flatnonzero((lost.thread.values == "red") & (lost.generation.values == 0))
    lost["score"] = lost["score"].copy(data=np.where(np.arange(len(lost.score)) == own[0], np.nan, lost.score.values))
    assert plot_population(lost, thread="red", generation=0).child_axes[-1].get_title() == "lost"


def test_no_such_generation(recording):
    with pytest.raises(InvalidArgumentError, match="generation: expected one of 0 to 9 of thread 'red', got 99"):
        plot_population(recording, thread="red", generation=99)


def test_the_plane_holds_each_code_at_its_principal_components(recording):
    """The first two singular vectors of the centered codes, by an independent route."""
    ax = plot_code_plane(recording, thread="red")
    own = (recording.thread.values == "red") & (recording.kind.values == "evolved")
    codes = recording.latent_code.values[own]
    centered = codes - codes.mean(0)
    expected = centered @ np.linalg.svd(centered, full_matrices=False)[2][:2].T
    places = np.asarray(ax.collections[0].get_offsets())
    assert np.allclose(np.abs(places), np.abs(expected), atol=1e-6)
    share = centered.var(0).sum()
    assert f"({100 * expected[:, 0].var() / share:.0f} % of variance)" in ax.get_xlabel()
    path = ax.lines[0].get_xydata()
    assert path.shape == (10, 2)
    assert path[-1, 0] >= 0
    assert np.allclose(path[0], places[recording.generation.values[own] == 0].mean(0))


def test_codes_that_span_no_plane(recording):
    flat = recording.assign(latent_code=recording.latent_code * 0 + 1)
    with pytest.raises(RecordingError, match="span no plane"):
        plot_code_plane(flat, thread="red")
