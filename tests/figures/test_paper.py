"""The look for figures of one's own; vector files keep their text."""

import matplotlib
from matplotlib.colors import same_color
from matplotlib.figure import Figure

import closedloop
from closedloop.cli import main
from closedloop.figures import EVOLVED
from tests.small_runs import run


def test_what_is_drawn_inside_has_the_look_and_nothing_stays_changed():
    before = dict(matplotlib.rcParams)
    with closedloop.style():
        (line,) = Figure().add_subplot().plot([0, 1])
        assert same_color(line.get_color(), EVOLVED)
    assert dict(matplotlib.rcParams) == before


def test_text_of_a_vector_file_stays_text(tmp_path):
    for inside in (False, True):
        figure = Figure()
        figure.add_subplot().set_xlabel("evolved images shown")
        if inside:
            with closedloop.style():
                figure.savefig(tmp_path / "a.svg")
        else:
            figure.savefig(tmp_path / "a.svg")
        assert (">evolved images shown<" in (tmp_path / "a.svg").read_text()) == inside


def test_the_figure_of_a_run_can_be_edited(tmp_path):
    run("landscape", tmp_path / "run")
    main(["show", str(tmp_path / "run"), "--figure", str(tmp_path / "a.svg")])
    found = list(tmp_path.glob("a*.svg"))
    assert found
    assert all("<text" in path.read_text() for path in found)
