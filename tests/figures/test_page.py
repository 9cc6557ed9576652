"""One evolution on a page."""

import numpy as np
import pytest

from closedloop import RandomSearch, Session, Space, Thread, Unit, open_recording, summarize
from closedloop.errors import RecordingError
from closedloop.figures import best_references, plot_evolution
from closedloop.readable import with_error
from closedloop.subjects import FunctionSubject


class Nameless:
    """A generator that no name can load again."""

    name, resolution, space = "nameless", 8, Space(2, 0.0, 1.0)

    def __call__(self, codes):
        return np.tile(codes[:, :1, None, None], (1, 3, 8, 8)).astype(np.float32)


def test_the_figure_shows_the_retested_numbers(run, recording, texts):
    summary = next(s for s in summarize(recording) if s.thread == "red")
    words = texts(plot_evolution(run, "red"))
    assert f"{summary.evolved.mean:.4g}" in words
    assert f"{summary.natural.mean:.3g}" in words
    assert with_error(summary.ratio, summary.ratio_sem) in words
    assert "the best of 160 natural images, the first re-tested" in words
    assert "record.0" in words
    assert "image not kept" not in words


def test_each_thread_has_its_own_references(recording):
    red, dark = summarize(recording)
    darkest = best_references(recording, dark, 3)
    others = [e.mean for e in darkest[1:]]
    assert others == sorted(others, reverse=True)
    assert darkest[0].stimulus_id == dark.natural.stimulus_id != red.natural.stimulus_id


def test_images_that_are_not_to_be_had_are_said_to_be(tmp_path, texts):
    generator = Nameless()
    thread = Thread(generator, RandomSearch(generator.space, 0, population=10), Unit(0))
    subject = FunctionSubject(lambda images: images.mean((1, 2, 3))[:, None], units=1)
    Session(subject, [thread], images=20, keep="none", retest_repeats=2, save=tmp_path / "run").run()
    words = texts(plot_evolution(tmp_path / "run"))
    assert "image not kept" in words
    assert "no natural image was re-tested" in words


def test_a_name_is_no_formula(tmp_path, texts):
    generator = Nameless()
    thread = Thread(generator, RandomSearch(generator.space, 0, population=10), Unit(0))
    subject = FunctionSubject(lambda images: images.mean((1, 2, 3))[:, None], name=r"$\unknown$", units=1)
    Session(subject, [thread], images=20, retest_repeats=2, save=tmp_path / "run").run()
    figure = plot_evolution(open_recording(tmp_path / "run"))
    figure.savefig(tmp_path / "figure.png")
    assert r"$\unknown$" in texts(figure)


def test_unknown_thread(run):
    with pytest.raises(RecordingError, match="no thread 'blue'; it has"):
        plot_evolution(run, "blue")
    assert open_recording(run).sizes["presentation"] > 0
