"""Writes an evolution as an animation: GIF by Pillow, MP4 (H.264) by the ffmpeg that imageio-ffmpeg brings along."""

from __future__ import annotations

import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from PIL import Image

from closedloop.errors import InvalidArgumentError, MissingExtraError, require
from closedloop.files import complete
from closedloop.formats.png import frames


def write(recording: xr.Dataset, out: Path, *, size: int = 256, rate_hz: float = 8.0, **sources: Any) -> None:
    """Writes the best image of each generation, one after the other; several threads stand side by side.

    Where these are movies themselves the middle frame of each is shown.

    Args:
        recording: An evolution.
        out: The file, ending in ``.gif`` or ``.mp4``; must not exist.
        size: Height of the frames in pixels; smaller images are enlarged by a whole number, larger ones stay.
        rate_hz: Generations per second.
        **sources: ``generators`` and ``references`` of `closedloop.render`.

    Raises:
        InvalidArgumentError: `size` or `rate_hz` is out of range.
        RecordingError: There is no evolution in the recording, or the file exists or cannot be written.
        MissingExtraError: The extra "video" is not installed (MP4 only).
    """
    if not (1 <= size <= 4096 and 0.1 <= rate_hz <= 60):
        raise InvalidArgumentError(f"size, rate_hz: expected 1 to 4096 and 0.1 to 60, got {size!r} and {rate_hz!r}.")
    video = out.suffix.lower() == ".mp4"
    ffmpeg = _ffmpeg() if video else None
    with complete(out) as temporary:
        pictures = frames(recording, size, **sources)
        if ffmpeg is None:
            _write_gif(temporary, pictures, rate_hz)
        else:
            _write_mp4(ffmpeg, temporary, pictures, rate_hz)


def _ffmpeg() -> str:
    """Returns the path of ffmpeg."""
    try:
        return str(require("imageio_ffmpeg", "video", "the format mp4").get_ffmpeg_exe())
    except RuntimeError as error:  # it is there for no other system than those that it was packed for
        raise MissingExtraError(
            "the format mp4 needs ffmpeg, and the one of imageio-ffmpeg does not run here; name another one by the "
            "environment variable IMAGEIO_FFMPEG_EXE, or take a name ending in .gif."
        ) from error


def _write_gif(path: Path, pictures: NDArray[np.uint8], rate_hz: float) -> None:
    """Writes frames ``(n, h, w, 3)`` as a GIF that loops; durations are whole milliseconds."""
    first, *rest = [Image.fromarray(picture) for picture in pictures]
    first.save(path, format="GIF", save_all=True, append_images=rest, duration=round(1000 / rate_hz), loop=0)


def _write_mp4(ffmpeg: str, path: Path, pictures: NDArray[np.uint8], rate_hz: float) -> None:
    """Writes frames ``(n, h, w, 3)`` of even height and width as H.264.

    Raises:
        OSError: ffmpeg did not come to its end: the disk is full, or cannot be written.
    """
    height, width = pictures.shape[1:3]
    given = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(Fraction(rate_hz)), "-i", "-"]
    wanted = ["-an", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "10", "-f", "mp4", "-threads", "1"]
    done = subprocess.run(
        [ffmpeg, "-y", "-v", "error", "-xerror", *given, *wanted, str(path.absolute())],
        input=np.ascontiguousarray(pictures).data,
        capture_output=True,
        check=False,
    )
    said = done.stderr.decode(errors="replace").strip()
    if done.returncode or said:
        raise OSError(f"ffmpeg ended with status {done.returncode}: {said[-300:] or 'it gave no reason'}")
