"""A run's figure and its images where a person works: in a notebook, or in a window of matplotlib's choice."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from closedloop.errors import ClosedLoopError, InvalidArgumentError, RecordingError, closest
from closedloop.figures.style import new_axes
from closedloop.figures.tiles import draw_picture
from closedloop.loop.protocol import shown_protocol
from closedloop.recording.evolutions import experiment_of
from closedloop.recording.layout import EXPORT, REFERENCE
from closedloop.recording.pictures import Pictures
from closedloop.recording.reader import open_recording
from closedloop.signatures import at_door


@at_door
def show(run: xr.Dataset | str | Path) -> Figure:
    """Draws the main figure of a run, the one that ``closedloop show`` writes; as the last line of a cell it is seen.

    Args:
        run: The run's folder, a file that `export` wrote, or what `open_recording` or a protocol returned.

    Raises:
        RecordingError: The recording comes from no folder (it was not saved), or its protocol draws no figure.
    """
    recording = run if isinstance(run, xr.Dataset) else open_recording(run)
    folder = recording.encoding.get("source") or recording.encoding.get(EXPORT)
    if not folder:
        raise RecordingError(
            "run: expected a recording that lies in a folder, got one that was not saved or was changed since; give "
            "the protocol save=FOLDER, or show the folder itself."
        )
    if not experiment_of(recording):  # a result that a protocol made of its recording
        recording = open_recording(folder)
    where = Path(folder)
    figures = shown_protocol(experiment_of(recording), folder).summary(where, recording).figures
    if not figures:
        raise RecordingError(f"run: {folder} was recorded by a protocol that draws no figure.")
    return next(iter(figures.values())).draw()


@at_door
def imshow(recording: xr.Dataset, stimulus_id: str, ax: Axes | None = None) -> Axes:
    """Draws one image of a recording, made again from its code or read from the run's references.

    Args:
        recording: What `open_recording` or a protocol returned.
        stimulus_id: Name of the image, such as ``summarize(recording)[0].evolved.stimulus_id``.
        ax: Axes of a figure of yours; by default those of a new one.

    Returns:
        The axes; of a movie with some of its frames.

    Raises:
        InvalidArgumentError: No such image.
        RecordingError: It was not kept, and cannot be made again.
    """
    stimulus_id = str(stimulus_id)  # of an array of names numpy gives one of its own kind, which errors would spell out
    shown = recording["stimulus_id"].values == stimulus_id
    if not shown.any():
        known = np.unique(recording["stimulus_id"].values.astype(str)).tolist()
        raise InvalidArgumentError(f"stimulus_id: no image {stimulus_id!r} was shown.{closest(stimulus_id, known)}")
    pictures = Pictures(recording)
    natural = recording["thread"].values[shown][0] == REFERENCE
    picture = pictures.reference(stimulus_id) if natural else pictures(stimulus_id)
    if picture is None:
        raise RecordingError(f"stimulus_id: there is no picture of {stimulus_id!r}: {'; '.join(pictures.missing)}.")
    axes = new_axes(ax, (3.0, 3.2))
    draw_picture(axes, picture)
    axes.set_title(stimulus_id, fontsize=9, parse_math=False)
    return axes


def png_of(figure: Figure) -> bytes:
    """Returns a figure as a PNG file."""
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def html_of(recording: xr.Dataset) -> str:
    """Returns a dataset as xarray shows it; below the figure of its run, where it is a recording with one."""
    experiment = experiment_of(recording)
    unfolded = "default" if not experiment else False  # an experiment is a page long
    with xr.set_options(display_expand_attrs=unfolded):  # type: ignore[no-untyped-call]
        table: str = recording._repr_html_()
    if not (experiment and recording.encoding.get("source")):
        return table
    try:
        figure = show(recording)
    except ClosedLoopError as error:  # the table is what was asked for
        return f"<p>{html.escape(str(error))}</p>{table}"
    drawn = base64.b64encode(png_of(figure)).decode()
    return f'<img style="max-width:100%" alt="figure of the run" src="data:image/png;base64,{drawn}">{table}'
