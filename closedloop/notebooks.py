"""What a notebook shows where a figure, axes or a recording is a cell's last expression.

Figures here belong to no window, so that a notebook would show of them, and of their axes, one line of text.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def in_notebooks() -> None:
    """Has a notebook draw figures and axes, and show a recording with the figure of its run; twice is as once.

    `closedloop` does so when it is imported. The kinds are named and not imported, which would take a while. Outside of
    IPython nothing happens.
    """
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None:
        return
    for form, kind, show in (
        ("text/html", "xarray.core.dataset.Dataset", html_of),
        ("image/png", "matplotlib.figure.Figure", png_of),
        ("image/png", "matplotlib.axes._axes.Axes", png_of_axes),
    ):
        shell.display_formatter.formatters[form].for_type_by_name(*kind.rsplit(".", 1), show)


def html_of(recording: xr.Dataset) -> str:
    """Returns a dataset as xarray shows it; below the figure of its run, where it is a recording with one."""
    from closedloop.figures import showing

    return showing.html_of(recording)


def png_of(figure: Figure) -> bytes | None:
    """Returns a figure as a PNG file; None for one of pyplot, which draws its figures itself."""
    from closedloop.figures import showing

    return None if figure.canvas.manager is not None else showing.png_of(figure)


def png_of_axes(axes: Axes) -> bytes | None:
    """Returns the figure of axes as `png_of` does; None for axes that were taken out of theirs."""
    figure = axes.get_figure(root=True)
    return None if figure is None else png_of(figure)
