"""Folders of photographs that are sorted by class: a subfolder for each, and others beside them."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

from closedloop.errors import InvalidArgumentError
from closedloop.images.opening import FORMATS
from closedloop.readable import wordnet_id
from closedloop.signatures import at_door


@at_door
def sorted_images(folder: str | Path) -> tuple[tuple[str, ...], list[Path], tuple[str, ...]]:
    """Returns names, paths and classes of the images in a folder and in its subfolders, in the order of their names.

    A subfolder's name is the class of its images, and stands before their names: ``"tench/001"``. Images in the folder
    itself have the WordNet id with which their names begin (``n01440764_tench``) as class, or ``""``. Deeper folders,
    and those whose names begin with a dot, are not looked into.

    Raises:
        InvalidArgumentError: There is no such folder, or no image in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InvalidArgumentError(f"naturals: expected a folder of images, got {folder}, which is not a folder.")
    names, paths, classes = [], [], []
    for place in (folder, *subfolders(folder)):
        files = picture_files(place)
        stems = Counter(p.stem for p in files)
        start, own = ("", "") if place == folder else (f"{place.name}/", place.name)
        names += [start + (p.stem if stems[p.stem] == 1 else p.name) for p in files]
        paths += files
        classes += [own or wordnet_id(p.stem) for p in files]
    if not paths:
        raise InvalidArgumentError(
            f"naturals: no image in {folder} or its subfolders; expected files ending in {', '.join(FORMATS)}."
        )
    return tuple(names), paths, tuple(classes)


def subfolders(folder: Path) -> list[Path]:
    """Returns the folders in a folder whose names do not begin with a dot, sorted."""
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def picture_files(folder: Path) -> list[Path]:
    """Returns the images in a folder, sorted; it may hold other files."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in FORMATS and p.is_file())


def images_fingerprint(names: tuple[str, ...], paths: list[Path]) -> str:
    """Returns SHA-256 of names and contents of images."""
    digest = hashlib.sha256()
    for name, path in zip(names, paths, strict=True):
        digest.update(name.encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
