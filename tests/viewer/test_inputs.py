"""Inputs: decoded as what they promise, within limits, kept as long as there is room."""

import io
import os

import numpy as np
import pytest
from PIL import Image

from closedloop.errors import InvalidArgumentError
from closedloop.images.eight_bit import from_bytes
from closedloop.images.movies import encode_webp
from closedloop.images.sets import fitted
from closedloop.interfaces import STILL, Form
from closedloop.viewer import inputs as module
from closedloop.viewer.asked import RequestError
from closedloop.viewer.inputs import Inputs
from tests.viewer.clients import picture_file

MOVIE = Form(1, 4, 10.0)


@pytest.fixture(scope="module")
def stills():
    return Inputs(32, STILL)


def test_bundled_photographs_are_there_and_pinned(stills):
    name = stills.listed()[0]["id"]
    assert stills.stimulus(name).shape == (3, 32, 32)
    assert stills.stimulus(name) is stills.stimulus(name)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
def test_pictures_of_all_kinds(stills, form):
    entry = stills.drop(picture_file(form), f"image/{form.lower()}", "a")
    assert stills.stimulus(entry.id).shape == (3, 32, 32)


def test_a_picture_is_cut_or_stretched(stills):
    wide = picture_file("PNG", (64, 32))
    pixels = np.full((32, 64, 3), 9, np.uint8)
    pixels[:, :8] = 200
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    cut, stretched = (stills.decoded(buffer.getvalue(), ".png", fit) for fit in (False, True))
    assert cut.max() < 20
    assert stretched[:, :, 0].min() > 150
    assert stills.drop(wide, "image/png", "a").id != stills.drop(wide, "image/png", "a", True).id


@pytest.mark.parametrize(
    ("content", "kind", "said"),
    [
        (b"no picture", "image/png", "something else"),
        (picture_file("PNG"), "image/jpeg", "its content is PNG"),
        (picture_file("PNG")[:60], "image/png", "cannot read"),
        (b"", "image/gif", "something else"),
    ],
)
def test_what_is_no_picture_is_refused(stills, content, kind, said):
    with pytest.raises(InvalidArgumentError, match=said):
        stills.drop(content, kind, "a")


def test_a_content_type_of_something_else_is_refused(stills):
    with pytest.raises(RequestError, match="expected a picture"):
        stills.drop(b"%!PS", "application/postscript", "a")


def test_too_many_pixels_are_refused_before_they_are_decoded(stills, monkeypatch):
    monkeypatch.setattr(module, "MOST_PIXELS", 1000)
    with pytest.raises(InvalidArgumentError, match="megapixels"):
        stills.drop(picture_file("PNG", (50, 50)), "image/png", "a")


def test_what_was_dropped_first_goes_first(monkeypatch):
    monkeypatch.setattr(module, "DROPPED", 2)
    some = Inputs(32, STILL)
    names = [some.drop(picture_file("PNG", (32 + 2 * i, 32)), "image/png", "a", True).id for i in range(3)]
    kept = [entry["id"] for entry in some.listed() if entry["source"] == "dropped"]
    assert kept == [names[2]] or kept == [names[2], names[1]]
    monkeypatch.setattr(module, "FITTED", 1)


def test_a_movie_is_as_long_as_the_subject_is_shown():
    movies = Inputs(16, MOVIE)
    four, five = (np.random.default_rng(0).integers(0, 255, (n, 1, 16, 16), dtype=np.uint8) for n in (4, 5))
    shown = movies.decoded(encode_webp(four, 10.0), ".webp", False)
    np.testing.assert_array_equal(shown, four)
    with pytest.raises(InvalidArgumentError, match="expected a movie of 4 frames, got one of 5"):
        movies.decoded(encode_webp(five, 10.0), ".webp", False)
    held = movies.decoded(picture_file("PNG"), ".png", False)
    assert held.shape == (4, 1, 16, 16)
    content, kind = module.picture(shown, MOVIE)
    assert kind == "image/webp"
    assert content[8:12] == b"WEBP"


def test_a_file_whose_name_is_no_text_has_a_title(tmp_path):
    (tmp_path / os.fsdecode(b"\xff.jpg")).write_bytes(picture_file())
    shown = Inputs(32, STILL, tmp_path)
    entry = next(entry for entry in shown.listed() if entry["source"] == "folder")
    assert entry["title"] == "\ufffd"
    assert shown.stimulus(entry["id"]).shape == (3, 32, 32)


def test_a_still_in_colours_is_the_same_by_the_short_way():
    rng, content = np.random.default_rng(0), io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(content, "PNG")
    inputs = Inputs(24, STILL, None)
    for stretch in (False, True):
        short = inputs.decoded(content.getvalue(), ".png", stretch)
        picture = fitted(Image.open(content, formats=["PNG"]).convert("RGB"), 24, stretch)
        np.testing.assert_array_equal(short, inputs.as_shown(from_bytes(picture)[None]))
