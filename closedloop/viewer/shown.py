"""What one viewer shows: what it was given, and what its parts share."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from closedloop.interfaces import Generator, Subject
from closedloop.viewer.atlases import Book, Shelf, books_of
from closedloop.viewer.desk import Desk


@dataclass(frozen=True)
class Shown:
    """What the parts of a viewer are made from; each part looks at what it needs.

    Attributes:
        subject: The subject that is looked at; None for runs alone.
        runs: The folder of a run, or one of many runs.
        labelled: The folder of images with their classes, for the errors page.
        images: The user's folder of images.
        generator: What makes images from codes.
        atlas: The folder of an atlas.
        desk: Where the subject and the generator are asked, one call at a time.
    """

    subject: Subject | None = None
    runs: Path | None = None
    labelled: Path | None = None
    images: Path | None = None
    generator: Generator | None = None
    atlas: Path | None = None
    desk: Desk = field(default_factory=Desk)

    def is_of(self, book: Book) -> bool:
        """Returns whether an atlas is of the subject that is looked at, noise around either aside."""
        return self.subject is not None and book.subject.partition("+")[0] == self.subject.name.partition("+")[0]

    @property
    def stamps(self) -> tuple[int, ...]:
        """What changes whenever an atlas has grown.

        Raises:
            RecordingError: One is damaged.
        """
        return () if self.shelf is None else tuple(book.stamp for book in self.shelf.books)

    @cached_property
    def shelf(self) -> Shelf | None:
        """The atlases in that folder, each read again when it has grown; None where no folder was given.

        Raises:
            InvalidArgumentError: There is none in it.
        """
        return None if self.atlas is None else Shelf(books_of(self.atlas))
