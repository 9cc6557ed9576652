import io

import numpy as np
import pytest
from PIL import Image

from closedloop.errors import InvalidArgumentError
from closedloop.images.eight_bit import encode_png, from_bytes
from closedloop.images.movies import decode_movie, encode_image, encode_webp
from closedloop.images.sets import as_image_set, read_folder
from closedloop.interfaces import Form
from closedloop.recording.references import read_references, reference_files


def movie(frames=6, channels=3, side=20, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (frames, channels, side, side), dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("rate_hz", [7.3, 20.0, 60.0, 1000.0])
@pytest.mark.parametrize("alike", ["none", "all", "some"])
def test_a_movie_reads_back_exactly(channels, rate_hz, alike):
    shown = movie(channels=channels)
    if alike != "none":  # the encoder joins frames that are alike
        shown[0 if alike == "all" else 4 :] = shown[0]
    read = decode_movie(encode_webp(shown, rate_hz))
    np.testing.assert_array_equal(read.pictures, shown)
    assert read.rate_hz == rate_hz


def test_browsers_are_told_to_loop_it_at_its_rate():
    with Image.open(io.BytesIO(encode_webp(movie(), 20.0))) as opened:
        assert (opened.format, opened.n_frames, opened.info["loop"]) == ("WEBP", 6, 0)
        opened.seek(1)
        opened.load()
        assert opened.info["duration"] == 50


def test_the_ending_says_what_it_is():
    still, grey, moving = (from_bytes(part) for part in (movie()[0], movie(channels=1)[0], movie()))
    assert [encode_image(x, 20.0)[0] for x in (still, grey, moving)] == [".png", ".png", ".webp"]
    with Image.open(io.BytesIO(encode_png(grey))) as opened:
        assert opened.mode == "L"


def test_movies_of_others(tmp_path):
    frames = [Image.fromarray(p.transpose(1, 2, 0)) for p in movie(side=30)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:], duration=50)
    read = decode_movie(tmp_path / "a.png")
    np.testing.assert_array_equal(read.pictures, movie(side=30))
    assert read.rate_hz == 20
    found = read_folder(tmp_path, 30, Form(3, 6, 20.0))
    np.testing.assert_array_equal(found.images[0], from_bytes(movie(side=30)))
    assert read_folder(tmp_path, 15, Form(1, 6, 20.0)).images.shape == (1, 6, 1, 15, 15)
    assert read_folder(tmp_path, 15).images.shape == (1, 3, 15, 15)
    with pytest.raises(InvalidArgumentError, match=r"a\.png: .* got colour movies of 6 frames at 20 Hz"):
        read_folder(tmp_path, 15, Form(3, 4, 20.0))


def test_no_movie(tmp_path):
    assert decode_movie(encode_png(from_bytes(movie()[0])), ".png") is None
    with pytest.raises(InvalidArgumentError, match="cannot read these bytes as a WEBP image"):
        decode_movie(b"nothing")


@pytest.mark.parametrize("form", [Form(1), Form(3, 6, 20.0), Form(1, 6, 20.0)])
@pytest.mark.parametrize("given", ["stills", "movies"])
def test_sets_of_a_form_are_stored_exactly(form, given, tmp_path):
    if given == "movies" and form.frames is None:
        pytest.skip("an error, see the forms")
    source = np.stack([movie(seed=s) for s in range(3)])
    images = as_image_set(from_bytes(source if given == "movies" else source[:, 0]), 20, form)
    assert images.images.shape == (3, *(form.leading if given == "movies" else (form.channels,)), 20, 20)
    (tmp_path / "references").mkdir()
    for name, data in reference_files(images).items():
        (tmp_path / name).write_bytes(data)
    read = read_references(tmp_path)
    np.testing.assert_array_equal(read.images, images.images)
    assert (read.ids, read.rate_hz) == (images.ids, images.rate_hz)
