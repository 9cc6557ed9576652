"""Figures show what was measured; an image that was not kept is said to be so, never drawn grey."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from closedloop import IsotropicES, RandomSearch, Session, Space, Thread, Unit, open_recording, summarize
from closedloop.errors import RecordingError
from closedloop.figures import best_references, generation_scores, plot_evolution, plot_trajectory
from closedloop.generators import Fourier
from closedloop.subjects import FunctionSubject


def responses(images):
    """Two units: redness, and darkness."""
    return np.stack([images[:, 0].mean((1, 2)) - images[:, 1].mean((1, 2)), 1 - images.mean((1, 2, 3))], axis=1)


class Nameless:
    """A generator that no name can load again."""

    name, resolution, space = "nameless", 8, Space(2, 0.0, 1.0)

    def __call__(self, codes):
        return np.tile(codes[:, :1, None, None], (1, 3, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with two threads."""
    folder = tmp_path_factory.mktemp("figures") / "run"
    generator = Fourier(16, cutoff=3)
    Session(
        FunctionSubject(responses, units=2),
        [
            Thread(generator, IsotropicES(generator.space, 0, population=12), Unit(0), "red"),
            Thread(generator, RandomSearch(generator.space, 0, population=8), Unit(1), "dark"),
        ],
        references="bundled",
        images=120,
        retest_repeats=2,
        save=folder,
    ).run()
    return folder


def texts(figure):
    """All words in a figure and its parts."""
    found = [t.get_text() for t in figure.findobj(lambda artist: hasattr(artist, "get_text"))]
    return " | ".join(t for t in found if t)


def test_generation_scores_are_those_of_the_record(run):
    ds = open_recording(run)
    scores = generation_scores(ds, "red")
    own = ds.isel(presentation=np.flatnonzero((ds.thread == "red") & (ds.kind == "evolved")))
    first = own.score.values[own.generation.values == 0]
    assert scores.sizes == {"generation": 10, "image": 12}
    assert float(scores["mean"][0]) == pytest.approx(first.mean())
    assert float(scores["sd"][0]) == pytest.approx(first.std(ddof=1))
    assert float(scores["best"].max()) == own.score.max()
    assert scores["images"].values.tolist() == list(range(12, 132, 12))
    best = own.isel(presentation=int(np.argmax(own.score.values)))
    assert str(best.stimulus_id.item()) in scores["best_id"].values


def test_the_figure_shows_the_retested_numbers(run):
    summary = next(s for s in summarize(open_recording(run)) if s.thread == "red")
    words = texts(plot_evolution(run, "red"))
    assert f"{summary.evolved.mean:.4g}" in words
    assert f"{summary.natural.mean:.3g}" in words
    assert f"{summary.ratio:.2f}" in words
    assert "160 natural images" in words
    assert "responses.0" in words


def test_the_second_thread_has_its_own_references(run):
    ds = open_recording(run)
    red, dark = summarize(ds)
    darkest = best_references(ds, dark, 3)
    assert [e.mean for e in darkest] == sorted((e.mean for e in darkest), reverse=True)
    assert darkest[0].stimulus_id == dark.natural.stimulus_id != red.natural.stimulus_id


def test_images_that_were_not_kept_are_said_to_be(tmp_path):
    generator = Nameless()
    thread = Thread(generator, RandomSearch(generator.space, 0, population=10), Unit(0))
    subject = FunctionSubject(responses, units=2)
    Session(subject, [thread], images=20, keep="none", retest_repeats=2, save=tmp_path / "run").run()
    words = texts(plot_evolution(tmp_path / "run"))
    assert "image not kept" in words
    assert "no natural image was re-tested" in words


def test_trajectory_draws_into_given_axes(run):
    ax = Figure().add_subplot()
    assert plot_trajectory(open_recording(run), ax, "red") is ax
    line = next(x for x in ax.lines if x.get_label() == "generation mean")
    assert np.allclose(line.get_ydata(), generation_scores(open_recording(run), "red")["mean"])


def test_unknown_thread(run):
    with pytest.raises(RecordingError, match="no thread 'blue'; it has"):
        plot_evolution(run, "blue")
    with pytest.raises(RecordingError, match="thread 'blue' has no evolved image"):
        generation_scores(open_recording(run), "blue")
