"""GIF and MP4 hold the frames of the evolution."""

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from closedloop import open_recording
from closedloop.errors import InvalidArgumentError, MissingExtraError
from closedloop.formats import export
from closedloop.formats.png import frames


def test_gif(run, tmp_path):
    expected = frames(open_recording(run), 48)
    with Image.open(export(run, "gif", tmp_path / "run.gif", size=48, rate_hz=5)) as movie:
        assert movie.n_frames == len(expected)
        assert movie.info["duration"] == 200
        for i in (0, len(expected) - 1):
            movie.seek(i)
            difference = np.asarray(movie.convert("RGB")).astype(float) - expected[i]
            assert np.abs(difference).mean() < 12  # 256 colours


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the reader leaves its pipes open
def test_mp4(run, tmp_path):
    expected = frames(open_recording(run), 96)
    path = export(run, "mp4", tmp_path / "run.mp4", size=96, rate_hz=4)
    reader = imageio_ffmpeg.read_frames(str(path))
    facts = next(reader)
    assert (facts["size"], facts["codec"], facts["fps"]) == ((192, 96), "h264", 4.0)
    read = [np.frombuffer(frame, np.uint8).reshape(96, 192, 3) for frame in reader]
    assert len(read) == len(expected)
    for found, picture in zip(read, expected, strict=True):
        assert np.abs(found.astype(float) - picture).mean() < 12


def test_bad_options_and_the_extra(run, tmp_path, monkeypatch):
    with pytest.raises(InvalidArgumentError, match="size, rate_hz: expected"):
        export(run, "gif", tmp_path / "run.gif", rate_hz=0)
    monkeypatch.setitem(__import__("sys").modules, "imageio_ffmpeg", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'closedloop\[video\]'"):
        export(run, "mp4", tmp_path / "run.mp4")
    assert not any(tmp_path.iterdir())
