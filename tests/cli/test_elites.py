"""``closedloop elites``, ``show`` and ``resume`` of its run, and the sheet."""

import numpy as np
import pytest
from PIL import Image

from closedloop import open_recording
from closedloop.analysis import class_elites
from closedloop.cli import main
from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.figures import best_elites, plot_elites, plot_elites_course
from closedloop.generators import Pixels
from closedloop.protocols import evolve_elites
from closedloop.subjects import FunctionSubject


def classifier(units=4):
    weights = np.random.default_rng(0).standard_normal((48, units))
    return FunctionSubject(lambda x: (x.reshape(len(x), -1) - 0.5) @ weights, units)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("elites") / "run"
    evolve_elites(classifier(), Pixels(4), images=40, children=20, save=folder)
    return folder


def test_elites_of_a_classifier(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("closedloop.cli.elites.load", lambda recipe: classifier())
    words = ["--generator", "pixels", "--resolution", "4", "--images", "60", "--children", "20", "--seed", "3"]
    main(["elites", "--subject", "mine", *words, "--out", str(tmp_path / "run")])
    text = capsys.readouterr().out
    assert "4 classes, 60 images" in text
    assert "classes at 0.99 or above" in text
    found = class_elites(open_recording(tmp_path / "run"))
    assert f"{np.median(found['retested']):.4g}" in text
    assert (tmp_path / "run" / "summary.png").is_file()
    assert found["images"].values.tolist() == [20, 40, 60]


def test_a_finished_run_is_shown_again(run, tmp_path, capsys):
    main(["show", str(run), "--figure", str(tmp_path / "sheet.png")])
    assert "4 classes, 40 images" in capsys.readouterr().out
    with Image.open(tmp_path / "sheet.png") as figure:
        assert figure.width > 300
    main(["resume", str(run)])
    assert "4 classes, 40 images" in capsys.readouterr().out


def test_a_subject_that_is_no_classifier(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["elites", "--subject", "energy", "--generator", "pixels", "--out", str(tmp_path / "run")])
    assert "two or more outputs of a classifier" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


def test_the_best_come_first_and_once(run):
    found = class_elites(open_recording(run))
    which = best_elites(found, 3)
    assert len(which) == len(set(found["stimulus_id"].values[which])) <= 3
    assert (np.diff(found["retested"].values[which]) <= 0).all()
    assert found["retested"].values[which[0]] == found["retested"].max()
    assert len(plot_elites(found, Pixels(4), 2).axes) == 2
    shared = found.assign_coords(stimulus_id=("neuroid", ["one"] * 4))
    assert best_elites(shared, 9).tolist() == [found["retested"].values.argmax()]
    again = found.assign(retested=found["retested"] * np.nan)
    assert best_elites(again, 1).tolist() == [found["probability"].values.argmax()]
    with pytest.raises(
        InvalidArgumentError, match="generator: expected the one of the recording, with codes of length 48"
    ):
        plot_elites(found, Pixels(5))
    with pytest.raises(RecordingError, match="no class has an elite"):
        plot_elites(found.assign_coords(stimulus_id=("neuroid", [""] * 4)), Pixels(4))


def test_the_course(run):
    found = class_elites(open_recording(run))
    ax = plot_elites_course({"one": found, "two": found})
    np.testing.assert_array_equal(ax.lines[0].get_data(), [found["images"], found["median_probability"]])
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["one", "two"]
    assert plot_elites_course(found).get_legend() is None
