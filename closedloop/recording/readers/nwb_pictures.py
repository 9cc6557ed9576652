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
                held = {str(image.description): image.data for image in file.stimulus_template[kind].images.values()}
                return {name: _rgb(held[name][:]) for name in names if name in held and _size(held[name].shape) <= MOST}
            if reference or kind not in file.stimulus or _size(file.stimulus[kind].data.shape[1:]) > MOST:
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


def _size(shape: Sequence[int]) -> float:
    return float(np.prod(shape, dtype=float))


def _rgb(image: Any) -> NDArray[np.uint8]:
    """Returns a picture ``(h, w)`` or ``(h, w, 3)`` in colours."""
    values = np.asarray(image, np.uint8)
    return np.repeat(values[..., None], 3, -1) if values.ndim == 2 else values
