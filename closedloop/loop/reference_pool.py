"""The reference images of a session: their presentations between those of the threads, and what they answered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from closedloop.images.forms import shown_as
from closedloop.images.nearest import Bank
from closedloop.images.sets import ImageSet, as_image_set
from closedloop.interfaces import STILL, FloatArray, Form, State
from closedloop.loop.blocks import Block
from closedloop.loop.presenter import Shown
from closedloop.loop.thread import Thread
from closedloop.recording.layout import REFERENCE
from closedloop.recording.references import stored_references


@final
class ReferencePool:
    """Reference images with the running sums of the responses to them; it may be empty.

    Args:
        references: A folder, an array ``(n, 3, h, w)``, an `ImageSet`, ``"bundled"``, or None. Those that another run
            stored keep their names.
        resolution: Height and width in pixels at which they are shown.
        form: What the subject is shown: colours or grey, stills or movies.
    """

    def __init__(
        self, references: ImageSet | str | Path | NDArray[Any] | None, resolution: int, form: Form = STILL
    ) -> None:
        self.source: ImageSet | str | Path | NDArray[Any] | None = references
        self.resolution: int = resolution
        self.form: Form = form
        self.images: ImageSet | None = None
        if references is not None:
            stored = stored_references(Path(references)) if isinstance(references, (str, Path)) else None
            self.images = as_image_set(references if stored is None else stored, resolution, form, "references")
        self.bank: Bank | None = None if self.images is None else Bank.of(self.images.images)
        self._sums: tuple[FloatArray, FloatArray] | None = None

    def __len__(self) -> int:
        return 0 if self.images is None else len(self.images)

    def block(self, which: Iterable[int], repeats: int) -> Block:
        """Returns the references of these numbers, each to be shown `repeats` times."""
        if self.images is None:
            nothing = np.empty((0, *self.form.leading, self.resolution, self.resolution), np.float32)
            return Block(nothing, [], [], [], np.empty(0, int))
        chosen = list(which)
        ids, n = [self.images.ids[i] for i in chosen], len(chosen)
        images = shown_as(self.images.images[chosen], self.form)
        return Block(images, ids, [REFERENCE] * n, [None] * n, np.full(n, repeats))

    def turn(self, index: int, count: int) -> list[int]:
        """Returns the numbers of the `count` references whose turn it is in a generation."""
        n = len(self)
        return [(index * count + i) % n for i in range(min(count, n))]

    def numbers(self, block: Block, places: Sequence[int]) -> list[int]:
        """Returns which references stand at the given places of a block."""
        ids = () if self.images is None else self.images.ids
        return [ids.index(block.ids[i]) for i in places]

    def count(self, block: Block, shown: Shown) -> None:
        """Adds a block's responses to references to their running sums."""
        own = block.of(REFERENCE)
        if not own:
            return
        total, number = shown.sums(len(block.ids))
        if self._sums is None:
            empty = np.zeros((len(self), *total.shape[1:]))
            self._sums = (empty, empty.copy())
        which = self.numbers(block, own)
        self._sums[0][which] += total[own]
        self._sums[1][which] += number[own]

    def best(self, threads: Iterable[Thread], count: int) -> list[int]:
        """Returns the `count` references that each thread's objective likes best so far, no one twice.

        They are judged by their mean response.
        """
        if self._sums is None or self.images is None:
            return []
        total, number = self._sums
        means = total / np.where(number > 0, number, np.nan)
        images, best = self.block(range(len(self)), 1).images, dict[int, None]()
        for thread in threads:
            order = np.argsort(-thread.score(means, images), kind="stable")  # NaN last
            best.update(dict.fromkeys(order[:count].tolist()))
        return list(best)

    def state(self) -> State | None:
        """Returns the running sums; None before the first reference was shown."""
        return None if self._sums is None else {"total": self._sums[0], "number": self._sums[1]}

    def restore(self, state: State | None) -> None:
        """Goes back to a saved state."""
        self._sums = None if state is None else (state["total"], state["number"])
