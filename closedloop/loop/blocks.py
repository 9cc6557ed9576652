"""Blocks: the images that are shown together, and what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from closedloop.images.eight_bit import quantize
from closedloop.images.forms import shown_as
from closedloop.images.resizing import resize_images
from closedloop.interfaces import FloatArray, Form
from closedloop.loop.presenter import Shown
from closedloop.loop.thread import Evolution

#: The phases of a session, in their order.
PHASES = ("survey", "evolve", "select", "confirm", "done")


@dataclass(frozen=True)
class Block:
    """Images to be shown together.

    Attributes:
        images: ``(m, 3, h, w)``, or what else the subject is shown: grey, or movies.
        ids: Name of each image.
        threads: Name of the thread of each, or "reference".
        codes: The code that made each, None for a reference.
        repeats: Presentations of each, ``(m,)``.
    """

    images: NDArray[np.float32]
    ids: list[str]
    threads: list[str]
    codes: list[FloatArray | None]
    repeats: NDArray[np.int64]

    def of(self, thread: str) -> list[int]:
        """Returns the indices of the images of one thread."""
        return self._places.get(thread, [])

    @cached_property
    def _places(self) -> dict[str, list[int]]:
        places: dict[str, list[int]] = {}
        for i, name in enumerate(self.threads):
            places.setdefault(name, []).append(i)
        return places

    @classmethod
    def join(cls, parts: Sequence[Block]) -> Block:
        """Returns one block of several."""
        return cls(
            np.concatenate([p.images for p in parts]),
            [i for p in parts for i in p.ids],
            [t for p in parts for t in p.threads],
            [c for p in parts for c in p.codes],
            np.concatenate([p.repeats for p in parts]),
        )

    @classmethod
    def of_codes(
        cls, evolution: Evolution, ids: Sequence[str], codes: FloatArray, repeats: int, side: int, form: Form
    ) -> Block:
        """Makes the images of a thread's codes ``(n, dim)``, in the form that a subject is shown.

        Args:
            evolution: The thread.
            ids: Name of each image.
            codes: ``(n, dim)``.
            repeats: Presentations of each.
            side: Height and width in pixels.
            form: Colours and frames.
        """
        return cls.of_images(
            evolution, ids, codes, shown_as(resize_images(evolution.generate(codes), side), form), repeats
        )

    @classmethod
    def of_images(
        cls, evolution: Evolution, ids: Sequence[str], codes: FloatArray, images: NDArray[np.float32], repeats: int
    ) -> Block:
        """Returns the block of a thread's codes ``(n, dim)`` whose images are made already, in the subject's form."""
        n = len(ids)
        return cls(images, list(ids), [evolution.thread.name] * n, list(codes), np.full(n, repeats))

    def quantized(self) -> Block:
        """Returns the block with its images rounded to 8 bits: what a file or a screen shows."""
        return replace(self, images=quantize(self.images))


@dataclass(frozen=True)
class Generation:
    """One finished block, as observers see it.

    Attributes:
        index: -1 for the survey, then counted from 0.
        phase: One of `PHASES`.
        block: What was shown.
        shown: The presentations.
        scores: Score of each image of the block, ``(m,)``; NaN for references.
        evolutions: The threads after learning from it.
    """

    index: int
    phase: str
    block: Block
    shown: Shown
    scores: FloatArray
    evolutions: Sequence[Evolution]


class Observer(Protocol):
    """Watches a session. It must not change it."""

    def begin(self, session: Any) -> None:
        """Is called once before the first block, or before the first one after a resume."""
        ...

    def generation(self, generation: Generation) -> None:
        """Is called after each block is committed."""
        ...

    def end(self, session: Any) -> None:
        """Is called once when the session is over, also after an error."""
        ...
