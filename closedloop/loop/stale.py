"""Answers that look as though they were those to other images: a buffer that is not renewed, or that lags behind.

A rig that reads its responses too early, or counts triggers wrongly, hands over numbers that pass every check. What
betrays it is equality: responses that are real numbers, and not silent, do not repeat exactly unless the images do.
Equalities are compared with what a random order of the same responses gives, so a unit that is silent, saturated or
counts few spikes is no reason.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Sequence
from itertools import pairwise
from math import lgamma, log
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from closedloop.interfaces import FloatArray

#: What a random order must be less probable to give, as a logarithm: once in 10⁹.
IMPROBABLE = 9 * log(10)
#: Repeated presentations that must speak for a lag.
LEAST_PAIRS = 12


@final
class Watch:
    """Looks at blocks of presentations, in the order in which they were shown.

    Attributes:
        found: What is suspected, in words; "" for nothing.
    """

    def __init__(self) -> None:
        self.found: str = ""
        self._block: tuple[list[Hashable], list[bytes | None]] = ([], [])
        self._stale = 0.0
        self._held, self._expected = 0, 0.0
        self._constant: set[bytes] | None = set()
        self._own: dict[Hashable, bytes] = {}
        self._pairs = [0, 0]  # repetitions of an image, and those with the same answer
        self._lags = [_Lag(), _Lag()]

    def see(self, images: Sequence[Hashable], responses: FloatArray) -> str:
        """Looks at one more block.

        Args:
            images: What tells each image from others, ``(n,)``.
            responses: ``(n, units[, time])``, NaN where lost.

        Returns:
            What is suspected now and was not before, in words.
        """
        keys, rows = list(images), [_row(response) for response in responses]
        found = [self._repeated(keys, rows), self._unrenewed(keys, rows), self._one_for_all(keys, rows)]
        found.append(self._lagging(keys, rows))
        self._block = keys, rows
        if self.found:
            return ""
        self.found = next(filter(None, found), "")
        return self.found

    def _repeated(self, keys: list[Hashable], rows: list[bytes | None]) -> str:
        """Finds blocks with the answers of the block before, place by place, although the images differ."""
        pairs = zip(keys, rows, *self._block, strict=False)
        compared = [(row, last) for key, row, before, last in pairs if key != before and row and last]
        if len(compared) < 2 or any(row != last for row, last in compared):
            self._stale = 0.0
            return ""
        # Of n! orders of the rows, with c of a kind, the product of c! give this one.
        counts = Counter(row for row, _ in compared).values()
        self._stale += lgamma(len(compared) + 1) - sum(lgamma(count + 1) for count in counts)
        return "blocks of different images have exactly the same responses" if self._stale > IMPROBABLE else ""

    def _unrenewed(self, keys: list[Hashable], rows: list[bytes | None]) -> str:
        """Finds neighbours in a block with the same answer, although the images differ, more often than by chance."""
        known = [(key, row) for key, row in zip(keys, rows, strict=True) if row]
        self._held += sum(a[1] == b[1] and a[0] != b[0] for a, b in pairwise(known))
        counts = Counter(row for _, row in known).values()
        self._expected += sum(c * (c - 1) for c in counts) / max(len(known), 1)
        # Chernoff's bound on a Poisson number with this mean: exp(k - m - k ln(k / m)).
        k, m = self._held, max(self._expected, 1e-9)
        improbable = k >= LEAST_PAIRS and k > m and k * log(k / m) - k + m > IMPROBABLE
        return f"{k} images have exactly the response of the image before them" if improbable else ""

    def _one_for_all(self, keys: list[Hashable], rows: list[bytes | None]) -> str:
        """Finds that each block's images have one answer, and blocks differ; from the first block on."""
        answered = {key for key, row in zip(keys, rows, strict=True) if row}
        if self._constant is None or len(answered) < 4:  # of a unit that is mostly silent nothing is concluded
            return ""
        kinds = {row for row in rows if row}
        self._constant = self._constant | kinds if len(kinds) < 2 else None
        many = self._constant is not None and len(self._constant) > 2
        return "all images of a block have one response, which differs from block to block" if many else ""

    def _lagging(self, keys: list[Hashable], rows: list[bytes | None]) -> str:
        """Finds that what follows an image is answered alike whatever it is, and the same image is not."""
        previous = [self._block[0][-1] if self._block[0] else None, *keys[:-1]]
        above = [*self._block[0][: len(keys)], *[None] * (len(keys) - len(self._block[0]))]
        for key, row, *before in zip(keys, rows, previous, above, strict=True):
            if row is None:
                continue
            if key in self._own:
                self._pairs[0] += 1
                self._pairs[1] += self._own[key] == row
            self._own[key] = row
            for lag, earlier in zip(self._lags, before, strict=True):
                lag.see(earlier, key, row)
        repeated, same = self._pairs
        if repeated < LEAST_PAIRS or same > repeated / 4 or not any(lag.suspected for lag in self._lags):
            return ""
        where = "shown before it" if self._lags[0].suspected else "in its place in the block before"
        return f"a repeated image is answered as the image {where}, and not as itself"


class _Lag:
    """Counts how often two images that followed the same one have the same answer."""

    def __init__(self) -> None:
        self._last: dict[Hashable, tuple[Hashable, bytes]] = {}
        self.pairs, self.same = 0, 0

    def see(self, earlier: Hashable, key: Hashable, row: bytes) -> None:
        if earlier is None:
            return
        if earlier in self._last and self._last[earlier][0] != key:
            self.pairs += 1
            self.same += self._last[earlier][1] == row
        self._last[earlier] = key, row

    @property
    def suspected(self) -> bool:
        """Whether nearly all of enough pairs have."""
        return self.pairs >= LEAST_PAIRS and self.same >= 0.95 * self.pairs


def _row(response: NDArray[Any]) -> bytes | None:
    """Digests an answer, to be compared with others; None where it was lost or all units were silent."""
    seen = np.nan_to_num(np.asarray(response, dtype=np.float64))
    return hashlib.blake2b(seen.tobytes(), digest_size=16).digest() if seen.any() else None


def image_keys(images: NDArray[np.float32]) -> list[int]:
    """Returns what tells images ``(n, …, h, w)`` apart, from every few pixels of them."""
    step = max(1, images.shape[-1] // 16)
    seen = images[..., ::step, ::step]
    return [hash(image.tobytes()) for image in seen]
