"""Words for rows, and small pictures."""

from __future__ import annotations

import io

import numpy as np

from closedloop.images.opening import open_picture
from closedloop.recording.notes import PROCESS, Note
from closedloop.viewer.runs_words import TOLD, row_words, thumbnail, told_words, when_words


def test_a_row_says_name_and_time():
    row = {"path": "a/b/c", "when_s": 0.0, "evolved": -1.0, "evolved_sem": 0.12345, "natural": None,
           "natural_sem": None, "ratio": None}  # fmt: skip
    told = row_words(row)
    assert (told["name"], told["when"], told["natural_sem"]) == ("c", "1970-01-01 00:00", None)
    assert told["said"] == {"evolved": "−1.00 ± 0.12", "natural": "–", "ratio": "–"}
    assert when_words(86400.0 * 366) == "1971-01-02 00:00"


def test_pictures_are_made_small_and_movies_show_their_middle():
    movie = np.zeros((3, 40, 80, 3), np.uint8)
    movie[1] = 200
    with open_picture(thumbnail(movie, 20), ".jpg") as image:
        assert image.size == (20, 10)
        assert np.asarray(image).mean() > 190
    with open_picture(io.BytesIO(thumbnail(movie[0], 200)).getvalue(), ".jpg") as image:
        assert image.size == (80, 40)


def test_notes_about_the_same_are_one_and_the_last_of_each_stands():
    notes = [
        Note(1, "lost trials now 31 %", "lost trials"),
        Note(2, "rig silent for 5 s", "silence"),
        Note(7, "rig silent for 10 s", "silence"),
        Note(8, "the rig answers again", "silence", True),
        Note(9, "something else"),
        Note(9, "something else"),
        Note(10, "lost trials now 45 %", "lost trials"),
    ]
    told = told_words(notes, True)
    assert [(one["text"], one["from_s"], one["at_s"]) for one in told] == [
        ("lost trials now 45 %", 10, 10),
        ("something else", 9, 9),
        ("something else", 9, 9),
        ("the rig answers again", 8, 8),
        ("rig silent for 10 s", 2, 7),
        ("lost trials now 31 %", 1, 1),
    ]
    assert [one["stands"] for one in told] == [True, False, False, False, False, False]
    assert not any(one["stands"] for one in told_words(notes, False))
    again = told_words([*notes, Note(11, "the run was taken up again", PROCESS, True)], True)
    assert not any(one["stands"] for one in again)
    assert len(told_words([Note(i, "x", str(i)) for i in range(200)], True)) == TOLD
