"""An atlas as a folder of files: relative links, no scripts, no server; any browser shows it, from a USB stick too."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, final

from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.files import complete, remove, written
from closedloop.readable import some
from closedloop.recipes import version
from closedloop.recording.layout import is_run
from closedloop.signatures import at_door
from closedloop.viewer.atlases import Book, Shelf, books_of
from closedloop.viewer.pages import STATIC, render_text
from closedloop.viewer.unit_pages import layer_page, shelf_page, unit_page

#: Stands in every folder that was written here, and says so.
MARK = "closedloop-atlas.json"


@at_door
def write_site(atlases: Sequence[str | Path], out: str | Path) -> int:
    """Writes the pages of atlases as a folder that needs no server: open its ``index.html``.

    It appears under its name when all of it is there. A folder that was written here before is replaced.

    Args:
        atlases: Folders of runs of `closedloop.protocols.atlas`, or folders of several.
        out: The folder to write.

    Returns:
        How many pages were written.

    Raises:
        InvalidArgumentError: A folder is no atlas, or none is given.
        RecordingError: There is something else at `out`, or it cannot be written.
    """
    runs = [book.run for atlas in atlases for book in books_of(_folder(atlas))]
    if not runs:
        raise InvalidArgumentError("atlases: expected at least one folder of an atlas, got none.")
    shelf = Shelf([Book(run, i) for i, run in enumerate(dict.fromkeys(runs))])
    with _room(Path(out)), complete(Path(out), argument="export") as place:
        return _Site(shelf, place).write()


def _folder(atlas: str | Path) -> Path:
    if not Path(atlas).is_dir():
        raise InvalidArgumentError(f"atlases: expected the folder of an atlas, and there is none at {atlas}.")
    return Path(atlas).resolve()


@contextmanager
def _room(out: Path) -> Iterator[None]:
    """Sets an empty folder, or one that was written here, aside; it comes back where the new one is not written.

    Raises:
        RecordingError: There is something else at that name, a file that was not written here among it, or it lies in a
            run's folder.
    """
    if any(is_run(parent) for parent in out.absolute().parents):
        raise RecordingError(f"export: expected a folder outside of a run's, got {out}; choose another place.")
    with written(out, "export"):  # no folder may have this name
        odd, there = out.is_symlink() or (out.exists() and not out.is_dir()), out.is_dir()
    if odd:
        raise RecordingError(f"export: expected a new folder, got {out}, which is something else; choose another name.")
    if not there:
        yield
        return
    if foreign := _foreign(out):
        raise RecordingError(
            f"export: {out} holds files that are none of an exported atlas ({some(foreign)}); choose another name, or "
            "take them out."
        )
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name[:100]}-before-", dir=out.absolute().parent))
    out.rename(aside / "site")
    try:
        yield
    except BaseException:
        (aside / "site").rename(out)
        aside.rmdir()
        raise
    remove(aside)


def _foreign(out: Path) -> list[str]:
    """Returns the files in a folder that no export wrote there, by their paths within it."""
    found = sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if not p.is_dir() or p.is_symlink())
    try:
        known = json.loads((out / MARK).read_text("utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        known = []
    return [name for name in found if name != MARK and name not in set(known)]


@final
class _Site:
    """A site under way.

    Args:
        shelf: The atlases.
        place: The folder, which is made.
    """

    def __init__(self, shelf: Shelf, place: Path) -> None:
        self._shelf, self._place = shelf, place
        self._names = _slugs(list(shelf.layers))
        self._units = {layer: _slugs(list(units)) for layer, units in shelf.layers.items()}
        self._written: set[str] = set()
        self._files: set[str] = set()

    def write(self) -> int:
        """Writes all pages, with what they show; returns how many pages."""
        self._place.mkdir()
        for name in ("css/base.css", "css/units.css", "icon.svg"):
            self._put(f"static/{name}", (STATIC / name).read_bytes())
        self._page("index.html", "./", shelf_page)
        count = 1
        for layer, units in self._shelf.layers.items():
            folder = self._names[layer]
            self._page(f"{folder}/index.html", "../", layer_page, layer)
            for key in units:
                self._page(f"{folder}/{self._units[layer][key]}.html", "../", unit_page, layer, key)
            count += 1 + len(units)
        mark = {
            "closedloop": version(),
            "runs": [book.run.name for book in self._shelf.books],
            "pages": count,
            "files": sorted(self._files),
        }
        self._put(MARK, json.dumps(mark).encode())
        return count

    def _page(self, name: str, root: str, made: Any, *what: str) -> None:
        subject = self._shelf.books[0].subject
        render = partial(
            render_text, static=lambda path: f"{root}static/{path}", root=root, scripts=False, subject=subject
        )
        self._put(name, made(render, self._shelf, *what, _Files(self, root)).encode())

    def _put(self, name: str, data: bytes) -> None:
        path = self._place / name
        self._files.add(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def layer_file(self, layer: str) -> str:
        """Returns the file of a layer's page; of "" that of all layers."""
        return f"{self._names[layer]}/index.html" if layer else "index.html"

    def unit_file(self, layer: str, key: str) -> str:
        """Returns the file of a unit's page."""
        return f"{self._names[layer]}/{self._units[layer][key]}.html"

    def picture_file(self, book: Book, name: str) -> str:
        """Returns the file of a picture, which is written when it is first asked for."""
        path = f"pictures/{book.number}/{name}.webp"
        if path not in self._written:
            self._written.add(path)
            encoded = book.encoded(name)
            if encoded is not None:
                self._put(path, encoded)
        return path


class _Files:
    """Addresses of files, relative to a page."""

    def __init__(self, site: _Site, root: str) -> None:
        self._site, self._root = site, root

    def layer(self, layer: str) -> str:
        """Returns the address of a layer's page; of "" that of all layers."""
        return self._root + self._site.layer_file(layer)

    def unit(self, layer: str, key: str) -> str:
        """Returns the address of a unit's page."""
        return self._root + self._site.unit_file(layer, key)

    def picture(self, book: Book, name: str) -> str:
        """Returns the address of a picture of a page."""
        return self._root + self._site.picture_file(book, name)


def _slugs(names: Sequence[str]) -> dict[str, str]:
    """Returns for each name one that every file system takes, and that differs from others by more than letter case."""
    found: dict[str, str] = {}
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9._-]", "_", name)[:80].strip(".") or "_"
        plain = f"{plain}_" if plain.lower() in ("index", "static", "pictures") else plain
        taken, slug, count = {s.lower() for s in found.values()}, plain, 2
        while slug.lower() in taken:
            slug, count = f"{plain}-{count}", count + 1
        found[name] = slug
    return found
