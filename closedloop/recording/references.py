"""The reference images of a run: kept beside its data, exactly as they were shown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from closedloop.errors import RecordingError
from closedloop.images.eight_bit import from_bytes
from closedloop.images.movies import IMAGE_ENDINGS, decode_movie, encode_image
from closedloop.images.opening import open_picture
from closedloop.images.sets import ImageSet, read_images
from closedloop.interfaces import STILL, Form
from closedloop.recipes import BUNDLED
from closedloop.recording.layout import NAMES, REFERENCES, is_run
from closedloop.recording.places import Root, on_disk, root_of, sizes
from closedloop.recording.reader import checked_kept, kept_sums

if TYPE_CHECKING:
    from closedloop.recording.writer import Recording


def source(images: Any) -> str | None:
    """Says where images come from: a folder, "bundled", the run's own copy, or nowhere."""
    if images is None or (isinstance(images, str) and images == BUNDLED):
        return images
    return str(Path(images).resolve()) if isinstance(images, (str, Path)) else REFERENCES


def reference_files(references: ImageSet) -> dict[str, bytes]:
    """Returns the reference images as files of a run's folder, exactly as they are shown; the list of names last."""
    stems = [f"{i:05d}_{_file_name(name)}" for i, name in enumerate(references.ids)]
    with ThreadPoolExecutor() as pool:  # Pillow lets go of the interpreter while it packs
        encoded = list(pool.map(lambda image: encode_image(image, references.rate_hz), references.images))
    files = {f"{REFERENCES}/{stem}{ending}": data for stem, (ending, data) in zip(stems, encoded, strict=True)}
    return {**files, f"{REFERENCES}/{NAMES}": json.dumps(references.ids).encode()}


def keep_references(recording: Recording, references: ImageSet | None) -> None:
    """Keeps the reference images beside the data, once.

    Raises:
        RecordingError: The disk is full or cannot be written, or the folder is no longer that of the run.
    """
    if recording.path is None or references is None or (recording.path / REFERENCES / NAMES).exists():
        return
    recording.keep_files(reference_files(references))


def read_references(path: str | Path) -> ImageSet | None:
    """Reads the reference images of a run, packed or not; None if it has none.

    Raises:
        RecordingError: They are damaged, some are missing, or there are others among them.
    """
    _check_references(path)
    return _read(root_of(path) / REFERENCES)


def _check_references(path: str | Path) -> None:
    """Raises RecordingError unless the reference images of a run are those that it wrote, where it has checksums."""
    sums = kept_sums(path)
    if sums is None:
        return
    own = [name for name in sums if name.startswith(f"{REFERENCES}/")]
    there = sizes(root_of(path) / REFERENCES)
    present = [f"{REFERENCES}/{name}" for name in there if name.endswith((*IMAGE_ENDINGS, NAMES))]
    for name in sorted({*own, *present}):
        checked_kept(path, name, sums)


def stored_references(folder: Root) -> ImageSet | None:
    """Reads the reference images that a run stored in a folder, under their names; None for any other folder.

    Raises:
        RecordingError: They are damaged.
    """
    if isinstance(folder, Path) and folder.name == REFERENCES and is_run(folder.parent):
        return read_references(folder.parent)
    return _read(folder)


def _read(folder: Root) -> ImageSet | None:
    """Reads the images of a folder with a list of their names; None for any other folder."""
    if not (folder / NAMES).exists():
        return None
    try:
        ids = json.loads((folder / NAMES).read_text(encoding="utf-8"))
        with on_disk(folder) as files:
            return _exactly(tuple(ids), sorted(p for p in files.iterdir() if p.suffix in IMAGE_ENDINGS))
    except (OSError, ValueError, TypeError, IndexError) as error:
        raise RecordingError(f"{folder}: cannot read the reference images ({error}).") from error


def _exactly(ids: tuple[str, ...], paths: Sequence[Path]) -> ImageSet:
    """Reads the images of files as they were stored: grey ones grey, movies as movies."""
    movies = [decode_movie(path) if path.suffix == ".webp" else None for path in paths]
    if movies and (first := movies[0]) is not None:
        pictures = [movie.pictures for movie in movies if movie is not None]
        return ImageSet(ids, from_bytes(np.stack(pictures)), first.rate_hz)
    with open_picture(paths[0]) as opened:
        grey, resolution = opened.mode == "L", opened.height
    return ImageSet(ids, read_images(paths, resolution, Form(1) if grey else STILL))


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)[:80]
