"""PNG files, and the frames of an evolution."""

import numpy as np
import pytest
from PIL import Image

from closedloop import open_recording, render
from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.formats import export
from closedloop.formats.png import best_of_generations, enlarge, file_name, frames
from closedloop.images.eight_bit import to_bytes


def test_the_best_of_each_generation(run):
    recording = open_recording(run).load()
    best = best_of_generations(recording)
    assert {b.thread for b in best} == {"fourier", "pixels"}
    for b in best:
        own = ((recording["thread"] == b.thread) & (recording["generation"] == b.generation)).values
        assert b.score == np.nanmax(recording["score"].values[own])
        assert recording["kind"].values[b.row] == "evolved"
        assert recording["score"].values[b.row] == b.score


@pytest.mark.parametrize("which", ["best", "all"])
def test_files(run, tmp_path, which):
    recording = open_recording(run).load()
    folder = export(run, "png", tmp_path / "out", which=which)
    ids, kind = recording["stimulus_id"].values, recording["kind"].values
    expected = (
        set(ids)
        if which == "all"
        else set(ids[kind == "retest"]) | {ids[b.row] for b in best_of_generations(recording)}
    )
    files = {p.stem: p for p in folder.iterdir()}
    assert len(files) == len(expected)
    for name in sorted(expected)[::5]:
        file = next(p for stem, p in files.items() if name in stem)
        with Image.open(file) as image:
            np.testing.assert_array_equal(np.asarray(image), to_bytes(render(recording, name))[0].transpose(1, 2, 0))


def test_files_can_be_enlarged(run, tmp_path):
    folder = export(run, "png", tmp_path / "out", resize=50)
    with Image.open(next(folder.iterdir())) as image:
        assert image.size == (48, 48)
    image = np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2)
    np.testing.assert_array_equal(enlarge(image, 4)[0, 0], [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]])
    assert enlarge(image, None) is image
    assert enlarge(image, 1) is image


def test_names_of_files():
    taken: set[str] = set()
    names = [file_name(name, taken) for name in ("a/b", "a:b", "A_B", "ü.1", "a/b")]
    assert names == ["a_b.png", "a_b-2.png", "A_B-3.png", "ü.1.png", "a_b-4.png"]


def test_frames_show_the_threads_side_by_side(run):
    recording = open_recording(run).load()
    pictures = frames(recording, size=12)
    best = best_of_generations(recording)
    generations = sorted({b.generation for b in best})
    assert pictures.shape == (len(generations), 12, 24, 3)
    first = next(b for b in best if b.thread == "pixels" and b.generation == generations[0])
    np.testing.assert_array_equal(pictures[0, :, 12:], to_bytes(render(recording, first.row))[0].transpose(1, 2, 0))
    lasts = [max(b.generation for b in best if b.thread == t) for t in ("fourier", "pixels")]
    assert lasts[0] != lasts[1]  # the one that has ended keeps its last image
    ended = int(np.argmin(lasts))
    column = slice(12 * ended, 12 * ended + 12)
    np.testing.assert_array_equal(pictures[-1, :, column], pictures[generations.index(lasts[ended]), :, column])


def test_what_there_is_not(run, tmp_path):
    recording = open_recording(run)
    with pytest.raises(InvalidArgumentError, match="which: expected 'best' or 'all', got 'some'"):
        export(run, "png", tmp_path / "out", which="some")
    survey = recording.isel(presentation=np.flatnonzero((recording["kind"] == "reference").values))
    with pytest.raises(InvalidArgumentError, match="no evolved or re-tested image"):
        export(survey, "png", tmp_path / "out")
    with pytest.raises(RecordingError, match="expected an evolution"):
        frames(survey)
    assert not any(tmp_path.iterdir())
