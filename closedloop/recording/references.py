"""The reference images of a run: kept beside its data, exactly as they were shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image

from closedloop.errors import RecordingError
from closedloop.files import put_file, replace_files
from closedloop.images.eight_bit import encode_png
from closedloop.images.sets import ImageSet, read_folder
from closedloop.recording.layout import NAMES, REFERENCES, writing


def source(images: Any) -> str | None:
    """Where images come from: a folder, "bundled", the run's own copy, or nowhere."""
    if images is None or (isinstance(images, str) and images == "bundled"):
        return images
    return str(Path(images).resolve()) if isinstance(images, (str, Path)) else REFERENCES


def write_references(path: Path, references: ImageSet) -> None:
    """Keeps the reference images beside the data, exactly as they are shown; once, the list of names last."""
    with writing(path):
        folder = path / REFERENCES
        if (folder / NAMES).exists():
            return
        folder.mkdir(exist_ok=True)
        named = enumerate(zip(references.ids, references.images, strict=True))
        replace_files({folder / f"{i:05d}_{_file_name(name)}.png": encode_png(image) for i, (name, image) in named})
        put_file(folder / NAMES, json.dumps(references.ids).encode())


def read_references(path: Path) -> ImageSet | None:
    """The reference images of a run; None if it has none.

    Raises:
        RecordingError: They are damaged.
    """
    return stored_references(path / REFERENCES)


def stored_references(folder: Path) -> ImageSet | None:
    """The images of a folder that `write_references` wrote, under their own names; None for any other folder.

    Raises:
        RecordingError: They are damaged.
    """
    if not (folder / NAMES).exists():
        return None
    try:
        ids = json.loads((folder / NAMES).read_text(encoding="utf-8"))
        with Image.open(min(folder.glob("*.png"))) as first:
            resolution = first.height
        return ImageSet(tuple(ids), read_folder(folder, resolution).images)
    except (OSError, ValueError, TypeError) as error:
        raise RecordingError(f"{folder}: cannot read the reference images ({error}).") from error


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)[:80]
