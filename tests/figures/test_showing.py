"""A run's figure and images where a person works."""

import base64
import re

import numpy as np
import pytest
import xarray as xr

import closedloop
from closedloop import open_recording, summarize
from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.figures.showing import html_of
from tests.small_runs import run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("showing") / "run"
    run("evolve", place)
    return place


def test_a_run_and_its_recording_show_the_same_figure(folder):
    drawn = [closedloop.show(given) for given in (folder, str(folder), open_recording(folder))]
    assert len({tuple(figure.get_size_inches()) for figure in drawn}) == 1
    assert len({len(figure.axes) + len(figure.subfigs) for figure in drawn}) == 1


@pytest.mark.parametrize("name", ["ascend", "compare", "elites", "landscape"])
def test_what_a_protocol_returns_is_shown_as_its_folder(name, tmp_path):
    result = run(name, tmp_path / "run")
    by_result, by_folder = closedloop.show(result), closedloop.show(tmp_path / "run")
    assert len(by_result.axes) == len(by_folder.axes)


@pytest.mark.parametrize("name", ["ascend", "elites"])
def test_a_result_that_was_not_saved_is_said(name):
    with pytest.raises(RecordingError, match="save=FOLDER"):
        closedloop.show(run(name))


def test_what_lies_in_no_folder_is_said(folder):
    with pytest.raises(RecordingError, match="save=FOLDER"):
        closedloop.show(run("evolve"))


def test_images_are_those_that_were_shown(folder):
    recording = open_recording(folder)
    best = summarize(recording)[0].evolved.stimulus_id
    ax = closedloop.imshow(recording, best)
    shown = ax.images[0].get_array()
    expected = closedloop.render(recording, best)[0].transpose(1, 2, 0)
    np.testing.assert_array_equal(shown, np.rint(255 * expected).astype(np.uint8))
    natural = recording["stimulus_id"].values[recording["thread"].values == "reference"][0]
    assert closedloop.imshow(recording, str(natural)).get_title() == natural


def test_an_image_that_was_not_shown_is_named(folder):
    with pytest.raises(InvalidArgumentError, match="stimulus_id: no image 'main-g9999-000' was shown"):
        closedloop.imshow(open_recording(folder), np.array(["main-g9999-000"])[0])


def test_a_notebook_shows_figure_and_table(folder):
    page = html_of(open_recording(folder))
    assert "xr-header" in page
    content = re.search(r'src="data:image/png;base64,([^"]+)"', page).group(1)
    assert base64.b64decode(content).startswith(b"\x89PNG")


def test_other_datasets_are_shown_as_ever(folder):
    plain = xr.Dataset({"x": ("y", [1.0, 2.0])})
    assert "<img" not in html_of(plain)
    assert "xr-header" in html_of(plain)
    changed = open_recording(folder).isel(presentation=[0]).assign_attrs(x="<b>")
    assert "<img" not in html_of(xr.Dataset(changed.variables, attrs=changed.attrs))


def test_the_experiment_of_a_recording_is_folded(folder):
    def folded(recording):
        (tick,) = re.findall(r"<input[^>]*type='checkbox'([^>]*)><label[^>]*>Attributes", html_of(recording))
        return "checked" not in tick

    recording = open_recording(folder)
    assert folded(recording)
    recording.attrs = {"x": 1}
    assert not folded(recording)
