"""Reads folders of labelled photographs: which file has which label. What a label means is asked elsewhere."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from closedloop.arrays import is_plain
from closedloop.errors import InvalidArgumentError
from closedloop.images.classes import picture_files, subfolders
from closedloop.images.opening import FORMATS
from closedloop.readable import Readable, counted, some, wordnet_id
from closedloop.signatures import at_door

#: The table that a folder may hold.
TABLE = "labels.csv"
#: Its columns.
PATH, LABEL = "path", "label"
#: Names that an error says, and letters of each.
_NAMED, _LONGEST = 5, 80


@dataclass(frozen=True)
class Labelled(Readable):
    """Photographs with labels, read when they are needed.

    Attributes:
        folder: Where they lie.
        ids: Path of each within the folder, with "/" between its parts.
        labels: Label of each, as a folder, a table or a file's name has it.
    """

    folder: Path
    ids: tuple[str, ...]
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def _in_words(self) -> str:
        return f"{counted(len(self), 'image')} of {counted(len(set(self.labels)), 'label')}: {some(self.ids)}"

    @property
    def paths(self) -> list[Path]:
        """Returns the files."""
        return [self.folder / name for name in self.ids]

    def every(self, step: int) -> Labelled:
        """Returns each ``step``-th image in the order of the names, beginning with the first."""
        return Labelled(self.folder, self.ids[::step], self.labels[::step])


@at_door
def read_labelled(folder: str | Path) -> Labelled:
    """Reads which images a folder holds, and their labels; the images themselves are not opened.

    Three forms are known, and this is their order: a table ``labels.csv`` with the columns ``path`` (within the folder)
    and ``label``; folders within it, whose names are the labels of the images in them; files whose names begin with
    a WordNet id, such as ``n01440764_tench.jpg``.

    Raises:
        InvalidArgumentError: There is no such folder, none of these forms fits, a label is missing, a file is, a folder
            holds no image, or images lie beside folders. The error counts and names them.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InvalidArgumentError(f"labelled: expected a folder of labelled images, got {folder}, which is no folder.")
    if (folder / TABLE).is_file():
        return _of_table(folder)
    within, beside = subfolders(folder), _pictures(folder)
    if within and beside:
        raise InvalidArgumentError(
            f"labelled: {folder} holds {counted(len(within), 'folder')} and, beside them, "
            f"{counted(len(beside), 'image')} without a label ({_some(beside)}); put each into the "
            f"folder of its class, or list all in {TABLE}."
        )
    return _of_folders(folder, within) if within else _of_names(folder, beside)


def _pictures(folder: Path) -> list[str]:
    """Returns the names of the images in a folder, sorted."""
    return [path.name for path in picture_files(folder)]


def _of_folders(folder: Path, within: Sequence[Path]) -> Labelled:
    found = {place.name: _pictures(place) for place in within}
    _none("holds folders without an image", folder, [name for name, files in found.items() if not files], "remove them")
    pairs = [(f"{label}/{name}", label) for label, files in found.items() for name in files]
    return _checked(folder, pairs)


def _of_names(folder: Path, names: Sequence[str]) -> Labelled:
    if not names:
        raise InvalidArgumentError(
            f"labelled: {folder} holds no image; expected folders named by class, a table {TABLE}, or files ending in "
            f"{', '.join(FORMATS)} whose names begin with a WordNet id."
        )
    _none(
        "holds images whose names begin with no WordNet id",
        folder,
        [name for name in names if not wordnet_id(name)],
        f"put each into a folder of the name of its class, or list all in {TABLE}",
    )
    return _checked(folder, [(name, name[:9]) for name in names])


def _of_table(folder: Path) -> Labelled:
    rows = _read_table(folder / TABLE)
    pairs = [(_within(folder, path), label.strip()) for path, label in rows]
    _none(f"lists in {TABLE} files without a label", folder, [p for p, label in pairs if not label], "name their class")
    _none(
        f"lists in {TABLE} files that are not there",
        folder,
        [p for p, _ in pairs if not _is_file(folder / p)],
        "put them back, or take their lines out",
    )
    wrong = [p for p, _ in pairs if PurePosixPath(p).suffix.lower() not in FORMATS]
    _none(f"lists in {TABLE} files that are no images", folder, wrong, f"images end in {', '.join(FORMATS)}")
    twice = [p for p, count in Counter(p for p, _ in pairs).items() if count > 1]
    _none(f"lists in {TABLE} files twice", folder, twice, "each has one label")
    return _checked(folder, sorted(pairs))


def _is_file(path: Path) -> bool:
    """Returns whether there is a file; there is none of a name that no disk can hold."""
    try:
        return path.is_file()
    except OSError:
        return False


def _read_table(path: Path) -> list[tuple[str, str]]:
    """Returns the rows of a table, path and label.

    Raises:
        InvalidArgumentError: It is no UTF-8, lacks a column or holds no row.
    """
    try:
        table = csv.DictReader(io.StringIO(path.read_text("utf-8-sig")), strict=True)
        columns = [name.strip() for name in table.fieldnames or ()]
        table.fieldnames = columns
        rows = list(table)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidArgumentError(f"labelled: cannot read {path} as CSV in UTF-8 ({error}).") from error
    if not {PATH, LABEL} <= set(columns):
        raise InvalidArgumentError(
            f"labelled: {path}: expected columns {PATH} and {LABEL}, separated by commas, got {columns}."
        )
    if not rows:
        raise InvalidArgumentError(f"labelled: {path}: expected a line for each image, got none.")
    return [(row[PATH] or "", row[LABEL] or "") for row in rows]


def _within(folder: Path, path: str) -> str:
    """Returns a path of a table in one form.

    Raises:
        InvalidArgumentError: It leads out of the folder.
    """
    place = PurePosixPath(path.strip().replace("\\", "/"))
    if not place.parts or place.is_absolute() or ".." in place.parts or ":" in place.parts[0]:
        raise InvalidArgumentError(f"labelled: {folder / TABLE}: expected paths within the folder, got {path!r}.")
    return place.as_posix()


def _checked(folder: Path, pairs: Sequence[tuple[str, str]]) -> Labelled:
    odd = [name for name, label in pairs if not (is_plain(name) and is_plain(label))]
    _none("holds names that no table can hold", folder, [repr(name) for name in odd], "rename them")
    return Labelled(folder, tuple(name for name, _ in pairs), tuple(label for _, label in pairs))


def _none(what: str, folder: Path, names: Sequence[str], cure: str) -> None:
    """Raises if there are any of these; counted and named."""
    if names:
        raise InvalidArgumentError(f"labelled: {folder} {what}, {len(names)}: {_some(names)}; {cure}.")


def _some(names: Sequence[str]) -> str:
    short = [name if len(name) <= _LONGEST else f"{name[:_LONGEST]}…" for name in names[:_NAMED]]
    return ", ".join(short) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
