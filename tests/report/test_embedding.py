"""Figures and pictures as data in a page."""

import base64
import io
import re

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from closedloop.report.embedding import data_uri, inline_svg, picture


def figure_axes():
    ax = Figure().add_subplot()
    ax.plot([0, 1], [0, 1], "o-", color="#333333", clip_on=True)
    ax.fill_between([0, 1], [0, 1], color="#D55E00")
    return ax


def decoded(uri):
    with Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))) as image:
        return image.format, np.asarray(image)


def test_the_figure_takes_the_pages_ink_and_keeps_its_colours():
    svg = inline_svg(figure_axes(), "a", "label")
    assert svg.startswith('<svg viewBox="0 0 ')
    assert "currentColor" in svg
    assert "#d55e00" in svg
    assert "#333333" not in svg


def test_every_reference_inside_it_leads_to_one_of_its_own_ids():
    svg = inline_svg(figure_axes(), "fig7", "label")
    ids = re.findall(r'\bid="([^"]+)"', svg)
    used = re.findall(r'(?:href="#|url\(#)([^")]+)', svg)
    assert used
    assert set(used) <= set(ids)
    assert all(name.startswith("fig7-") for name in ids)


def test_the_same_figure_gives_the_same_text():
    assert inline_svg(figure_axes(), "a", "label") == inline_svg(figure_axes(), "a", "label")


def test_a_label_is_escaped():
    assert 'aria-label="&#34;&gt;&lt;b&gt;"' in inline_svg(figure_axes(), "a", '"><b>')


def test_a_picture_comes_back_exactly():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    kind, back = decoded(data_uri(image))
    assert kind == "PNG"
    assert np.array_equal(back, image)
    assert decoded(data_uri(image, longest=30))[0] == "PNG"


def test_a_small_copy_is_small():
    image = np.full((40, 80, 3), 200, np.uint8)
    kind, back = decoded(data_uri(image, longest=20))
    assert kind == "JPEG"
    assert back.shape == (10, 20, 3)
    assert np.abs(back.astype(int) - 200).max() <= 3


def test_a_missing_picture_is_said_in_words():
    words = picture(None, "<image> 7")
    assert "image not kept" in words
    assert "&lt;image&gt; 7" in words
    assert "<img" not in words
