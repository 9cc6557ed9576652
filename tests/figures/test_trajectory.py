"""Courses of evolutions: what is drawn is what was recorded."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from closedloop import summarize
from closedloop.errors import RecordingError
from closedloop.figures import generation_scores, plot_threads, plot_trajectory
from closedloop.figures.trajectory import milestones
from closedloop.recording.pictures import Pictures


def line(ax, label):
    return next(x for x in ax.lines if x.get_label() == label)


def test_trajectory_draws_into_given_axes(recording):
    ax = Figure().add_subplot()
    assert plot_trajectory(recording, ax, "red") is ax
    scores = generation_scores(recording, "red")
    mean = line(ax, "generation mean")
    assert np.allclose(mean.get_xdata(), scores["images"])
    assert np.allclose(mean.get_ydata(), scores["mean"])
    assert np.allclose(np.sort(line(ax, "_each image").get_ydata()), np.sort(scores["score"].values.ravel()))


def test_the_band_is_one_standard_deviation(recording):
    ax = plot_trajectory(recording, thread="red")
    scores = generation_scores(recording, "red")
    band = next(c for c in ax.collections if c.get_label() == "± 1 s.d. over images")
    corners = band.get_paths()[0].vertices
    top = [corners[corners[:, 0] == x, 1].max() for x in scores["images"].values]
    assert np.allclose(top, scores["mean"] + scores["sd"])


def test_retested_means_stand_beside_the_trajectory(recording):
    ax = plot_trajectory(recording, thread="red")
    summary = summarize(recording)[0]
    assert set(line(ax, "best reference, re-tested").get_ydata()) == {summary.natural.mean}
    diamond = next(c for c in ax.containers if c.get_label() == "_re-tested")
    assert "evolved image, re-tested" in [text.get_text() for text in ax.get_legend().get_texts()]
    assert diamond.lines[0].get_ydata()[0] == summary.evolved.mean
    low, high = diamond.lines[2][0].get_segments()[0][:, 1]
    assert (high - low) / 2 == pytest.approx(summary.evolved.sem)


def test_the_best_images_stand_above(recording, texts):
    ax = plot_trajectory(recording, thread="red", pictures=Pictures(recording))
    scores = generation_scores(recording, "red")
    shown = [cell for cell in ax.child_axes if cell.images]
    assert len(shown) == len(milestones(scores)) == 8
    assert np.array_equal(shown[0].images[0].get_array(), Pictures(recording)(str(scores["best_id"].values[0])))
    assert f"{float(scores['best'][0]):.3g}\nafter 12" in texts(ax.figure)


def test_milestones_skip_generations_that_were_lost(recording):
    scores = generation_scores(recording, "red")
    scores["best"][0] = np.nan
    assert 0 not in milestones(scores)
    assert milestones(scores.assign(best=scores["best"] * np.nan)) == []


def test_threads_side_by_side(recording):
    ax = plot_threads(recording)
    for name, summary in zip(("red", "dark"), summarize(recording), strict=True):
        drawn = line(ax, f"{name}  (seed 0)")
        assert np.allclose(drawn.get_ydata(), generation_scores(recording, name)["mean"])
        assert any(c.lines[0].get_ydata()[0] == summary.evolved.mean for c in ax.containers)
    styles = {(x.get_color(), x.get_linestyle()) for x in ax.lines if not x.get_label().startswith("_")}
    assert len(styles) == 2
    assert "own objective" in ax.get_ylabel()


def test_runs_side_by_side(recording):
    one = recording.isel(presentation=np.flatnonzero(recording.generation.values < 5))
    ax = plot_threads({"long": recording, "short": one})
    assert line(ax, "short: red  (seed 0)").get_xdata().max() < line(ax, "long: red  (seed 0)").get_xdata().max()


def test_global_state_is_left_alone(recording):
    from matplotlib import _pylab_helpers

    before, figures = dict(mpl.rcParams), dict(_pylab_helpers.Gcf.figs)  # of other tests in this process
    plot_threads(recording)
    plot_trajectory(recording, thread="red")
    assert dict(mpl.rcParams) == before
    assert dict(_pylab_helpers.Gcf.figs) == figures


def test_errors_say_what_is_missing(recording):
    with pytest.raises(RecordingError, match="thread: the recording has several, name one of"):
        plot_trajectory(recording)
    with pytest.raises(RecordingError, match="no thread 'blue'; it has"):
        plot_trajectory(recording, thread="blue")
    with pytest.raises(RecordingError, match="expected an evolution, but it has no coordinate evolution"):
        plot_trajectory(recording.drop_vars("evolution"))
    survey = recording.isel(presentation=np.flatnonzero(recording.generation.values < 0))
    with pytest.raises(RecordingError, match="no thread has an evolved image yet"):
        plot_threads(survey)
