"""What one viewer shows: what it was given, and what its parts share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from closedloop.interfaces import Generator, Subject
from closedloop.loop.noise import unwrap
from closedloop.recipes import network_fingerprint, recipe, same_recipe
from closedloop.subjects import inner_of
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

    @cached_property
    def inner(self) -> Subject | None:
        """The subject within the noise."""
        return None if self.subject is None else inner_of(self.subject)

    @cached_property
    def network(self) -> str:
        """What tells the subject from one of other weights; empty where it cannot tell."""
        return "" if self.subject is None else network_fingerprint(self.subject)

    def is_of(self, book: Book) -> bool:
        """Returns whether an atlas is of the subject that is looked at, noise around either aside."""
        return self.subject is not None and not self.foreign(book)

    def foreign(self, book: Book) -> str:
        """Returns in words that an atlas is of another subject than the one that is looked at; "" where it is not.

        It is told by its name and by its weights; where the atlas does not know these, by its recipe.
        """
        if self.inner is None:
            return ""
        name = book.subject.partition("+")[0]
        if name != self.inner.name:
            return f"This atlas is of {name}; what is looked at here is {self.inner.name}."
        held = (book.experiment.get("fingerprints") or {}).get("network", "")
        same = held == self.network if held and self.network else self._same_recipe(book.experiment.get("subject"))
        if same:
            return ""
        return f"This atlas is of another {name} than the one that is looked at here: other weights, or other options."

    def _same_recipe(self, held: Any) -> bool:
        """Returns whether an atlas's subject has this one's recipe, whatever is recorded; true where none is held."""
        if not isinstance(held, Mapping) or self.inner is None:
            return True
        known = [unwrap(held)[0], recipe(self.inner)]
        # Layer and units say what is recorded of a subject, not which one it is.
        return same_recipe(*({k: v for k, v in one.items() if k not in ("layer", "units")} for one in known))

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
