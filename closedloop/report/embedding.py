"""Turns figures and pictures into parts of an HTML page: vector graphics in the page's colour, images as data."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from closedloop.figures.style import INK, whole_figure
from closedloop.images.movies import encode_webp

#: The longest side, in pixels, of the pictures that stand small on a page.
SMALL_PX = 160


def inline_svg(drawn: Axes | Figure, prefix: str, label: str) -> Markup:
    """Returns a figure, or that of some axes, as an inline SVG element that is legible in light and dark.

    Args:
        drawn: From a function of `closedloop.figures`; words and lines in its ink take the page's text colour.
        prefix: Starts every id in it, so that several graphics can stand on one page.
        label: What a screen reader says.
    """
    text = _svg_text(drawn if isinstance(drawn, Figure) else whole_figure(drawn))
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text[text.index("<svg") :], flags=re.DOTALL)
    head, body = text.split(">", 1)
    box = re.search(r'viewBox="([^"]*)"', head)
    body = _renamed(body, prefix).replace(INK.lower(), "currentColor")
    frame = "" if box is None else box.group(1)
    return Markup('<svg viewBox="{}" role="img" aria-label="{}">').format(frame, label) + Markup(body)


def _svg_text(figure: Figure) -> str:
    """Returns a figure as SVG, without date and maker, so that the same run gives the same page."""
    buffer = io.StringIO()
    metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=metadata)
    return buffer.getvalue()


def _renamed(svg: str, prefix: str) -> str:
    """Returns the graphic with ids ``{prefix}-0``, ``{prefix}-1`` … in the place of matplotlib's.

    Its ``svg.hashsalt`` takes the chance out of some of them; those of axes and of glyphs repeat in every graphic all
    the same, and a page may hold an id once.
    """
    names: dict[str, str] = {}
    for name in re.findall(r'\bid="([^"]*)"', svg):
        names.setdefault(name, f"{prefix}-{len(names)}")
    svg = re.sub(r'\bid="([^"]*)"', lambda m: f'id="{names[m.group(1)]}"', svg)
    return re.sub(r"#([\w-]+)(?=[\")])", lambda m: f"#{names.get(m.group(1), m.group(1))}", svg)


def data_uri(image: NDArray[np.uint8], longest: int | None = None, rate_hz: float | None = None) -> str:
    """Returns a picture ``(h, w, 3)``, or a movie ``(frames, h, w, 3)``, as a ``data:`` address.

    Args:
        image: 8-bit RGB. A movie is an animation that loops, without loss.
        longest: Longest side in pixels of a small copy, compressed with loss; None for the picture itself, without.
        rate_hz: Frames per second of a movie.
    """
    if image.ndim == 4:
        return _data("webp", io.BytesIO(encode_webp(np.moveaxis(image, -1, 1), rate_hz or 10.0)))
    picture, buffer = Image.fromarray(image), io.BytesIO()
    if longest is None or max(picture.size) <= longest:
        picture.save(buffer, format="PNG", optimize=True)
        return _data("png", buffer)
    picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    picture.save(buffer, format="JPEG", quality=88)
    return _data("jpeg", buffer)


def _data(kind: str, buffer: io.BytesIO) -> str:
    """Returns a file of this kind as a ``data:`` address."""
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def picture(
    image: NDArray[np.uint8] | None, alt: str, longest: int | None = None, rate_hz: float | None = None
) -> Markup:
    """Returns an ``img`` element, or words where there is no picture to show; arguments as of `data_uri`."""
    if image is None:
        return Markup('<div class="missing">image not kept<span>{}</span></div>').format(alt)
    size = Markup('width="{}" height="{}"').format(image.shape[-2], image.shape[-3])
    return Markup('<img src="{}" alt="{}" {}>').format(data_uri(image, longest, rate_hz), alt, size)
