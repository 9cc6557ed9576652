"""What figures have in common."""

import re
from pathlib import Path

import pytest

import closedloop.figures
from closedloop.figures.style import caption, new_axes


@pytest.mark.parametrize("text", ["images at $1 and $2 each; " * 8 + ".", r"$\frac{$", "n = 3; " * 30 + "."])
def test_a_caption_is_words_whatever_stands_in_it(text):
    ax = new_axes(None, (6, 4))
    caption(ax, text)
    ax.figure.draw_without_rendering()
    assert " ".join(ax.get_title("left").split()) == text.strip()


def test_no_line_is_broken_without_a_look_at_it():
    """Where matplotlib breaks a line it reads two dollars as a formula, although it was told not to."""
    for path in Path(closedloop.figures.__file__).parent.glob("*.py"):
        assert not re.search("wrap=|set_wrap", path.read_text()), f"{path.name}: take in_lines"
