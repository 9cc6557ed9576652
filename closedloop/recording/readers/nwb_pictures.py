"""The pictures that an NWB file of closedloop holds beside the recording, as they were shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from closedloop.errors import RecordingError, require
from closedloop.recording.layout import REFERENCE

#: Values of one picture at most: what is larger is no picture that a run has shown.
MOST = 2**28


def pictures_in(path: Path, names: Sequence[str], reference: bool) -> dict[str, NDArray[np.uint8]]:
    """Reads pictures ``(h, w, 3)``, 8-bit RGB, by name; those that the file does not hold are left out, movies too.

    Args:
        path: A file that ``closedloop export RUN --to nwb`` wrote.
        names: Their `stimulus_id`.
        reference: Whether these are references, or evolved images.

    Raises:
        RecordingError: The file cannot be read.
    """
    pynwb = require("pynwb", "nwb", "a file ending in .nwb")
    try:
        with pynwb.NWBHDF5IO(str(path), "r") as io:
            file = io.read()
            kind = "reference_images" if reference else "evolved_images"
            if kind in file.stimulus_template:
                images = file.stimulus_template[kind].images.values()
                held = {str(image.description): image.data for image in images if _is_picture(image.data, 0)}
                return {name: _rgb(held[name][:]) for name in names if name in held}
            if reference or kind not in file.stimulus or not _is_picture(file.stimulus[kind].data, 1):
                return {}
            frames, data = _frames(file.trials), file.stimulus[kind].data
            return {name: _rgb(data[frames[name]]) for name in names if name in frames}
    except Exception as error:
        raise RecordingError(f"{path}: cannot read its images ({error}); it is damaged.") from error


def _frames(trials: Any) -> dict[str, int]:
    """Returns of each evolved image its first frame in the series, which has one for each of their presentations."""
    columns = (np.asarray(trials[name].data[:]).astype(str).tolist() for name in ("stimulus_id", "thread"))
    shown = [name for name, thread in zip(*columns, strict=True) if thread != REFERENCE]
    return {name: frame for frame, name in reversed(list(enumerate(shown)))}


def _is_picture(data: Any, axes: int) -> bool:
    """Tells whether values, after so many axes, are 8-bit pictures ``(h, w)`` or ``(h, w, 3)`` of a size to be shown.

    Another program may have written them anew, as fractions or with a channel of opacity.
    """
    shape = tuple(data.shape)[axes:]
    flat = len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)
    return bool(flat and np.dtype(data.dtype) == np.uint8 and 0 < np.prod(shape, dtype=float) <= MOST)


def _rgb(image: Any) -> NDArray[np.uint8]:
    """Returns a picture ``(h, w)`` or ``(h, w, 3)`` in colours."""
    values: NDArray[np.uint8] = np.asarray(image)
    return np.repeat(values[..., None], 3, -1) if values.ndim == 2 else values
