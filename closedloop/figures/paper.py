"""A look for figures of one's own beside those here, and vector files whose text can be edited."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from cycler import cycler

from closedloop.figures.style import COLOUR_MAP, INK, THREAD_COLOURS

#: Text of PDF and SVG stays text: TrueType in the one, words in the other, so that it can be edited and searched.
EDITABLE: dict[Any, Any] = {"pdf.fonttype": 42, "ps.fonttype": 42, "svg.fonttype": "none"}
#: Settings of matplotlib that give figures the look of those here.
LOOK: dict[Any, Any] = {
    **EDITABLE,
    "axes.prop_cycle": cycler(color=THREAD_COLOURS),
    "image.cmap": COLOUR_MAP,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "figure.dpi": 150,
    "savefig.dpi": 300,
    "figure.constrained_layout.use": True,
}


@contextmanager
def style() -> Iterator[None]:
    """Gives what is drawn and saved inside the look of closedloop's figures: ``with closedloop.style(): …``.

    Colours are those of Okabe & Ito (2008). Text in PDF and SVG stays text. Afterwards matplotlib's settings are what
    they were.
    """
    with matplotlib.rc_context(LOOK):
        yield


@contextmanager
def editable() -> Iterator[None]:
    """Has the text of PDF and SVG that are saved inside stay text; nothing else is changed."""
    with matplotlib.rc_context(EDITABLE):
        yield
