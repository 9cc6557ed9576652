"""Words for rows, and small pictures."""

from __future__ import annotations

import io

import numpy as np

from closedloop.images.opening import open_picture
from closedloop.viewer.runs_words import row_words, thumbnail, when_words


def test_a_row_says_name_and_time():
    row = {"path": "a/b/c", "when_s": 0.0, "evolved": -1.0, "evolved_sem": 0.12345, "natural": None,
           "natural_sem": None, "ratio": None}  # fmt: skip
    told = row_words(row)
    assert (told["name"], told["when"], told["natural_sem"]) == ("c", "1970-01-01 00:00", None)
    assert told["said"] == {"evolved": "−1 ± 0.12", "natural": "–", "ratio": "–"}
    assert when_words(86400.0 * 366) == "1971-01-02 00:00"


def test_pictures_are_made_small_and_movies_show_their_middle():
    movie = np.zeros((3, 40, 80, 3), np.uint8)
    movie[1] = 200
    with open_picture(thumbnail(movie, 20), ".jpg") as image:
        assert image.size == (20, 10)
        assert np.asarray(image).mean() > 190
    with open_picture(io.BytesIO(thumbnail(movie[0], 200)).getvalue(), ".jpg") as image:
        assert image.size == (80, 40)
