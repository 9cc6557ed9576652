"""Randomness: one seed, spawned into named random generators. Global random state is never touched."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from closedloop.checks import check_whole
from closedloop.errors import InvalidArgumentError

#: How parts draw: 1 from a generator of the plain seed, as in the first runs; 2 from one of seed and name.
STREAM = 2
#: How parts draw that are built now.
_STREAM: ContextVar[int] = ContextVar("stream", default=STREAM)


def check_seed(seed: Any) -> int:
    """Returns ``seed`` if it is a whole number of at least 0."""
    return check_whole("seed", seed, 0)


def named_seed(seed: int, name: str) -> int:
    """Derives a seed for one purpose from the experiment's seed and the purpose's name; below 2**63."""
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    sequence = np.random.SeedSequence(check_seed(seed), spawn_key=(key,))
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def named_generator(seed: int, name: str) -> np.random.Generator:
    """Makes a random generator for one purpose: same seed and name, same stream; other names, independent streams."""
    return np.random.default_rng(named_seed(seed, name))


def torch_seed(seed: int) -> int:
    """Returns a seed that torch can hold: the experiment's own below 2**63, and one that is derived from a larger."""
    return seed if seed < 2**63 else named_seed(seed, "torch")


def numbered_generator(*numbers: int) -> np.random.Generator:
    """Makes a random generator for one of many draws, by a seed and further whole numbers, such as that of a step."""
    return np.random.default_rng(list(numbers))


def part_generator(seed: int, name: str, stream: int | None = None) -> np.random.Generator:
    """Makes the random generator of an optimizer, a subject or a generator.

    Two parts with the same seed, and a user's own ``default_rng(seed)``, share no stream: what one draws would be the
    first codes, weights or noise of the other.

    Args:
        seed: Of the part.
        name: What sort of part it is.
        stream: 2; or 1 for the plain seed, as runs of older versions drew. None for what `streams` says.
    """
    plain = check_stream(_STREAM.get() if stream is None else stream) == 1
    return np.random.default_rng(check_seed(seed)) if plain else named_generator(seed, name)


def current_stream() -> int:
    """Tells how parts draw that are built now; see `STREAM`."""
    return _STREAM.get()


@contextmanager
def streams(stream: int) -> Iterator[None]:
    """Lets the optimizers and sessions that are built within draw as those of a run that goes on."""
    token = _STREAM.set(check_stream(stream))
    try:
        yield
    finally:
        _STREAM.reset(token)


def check_stream(stream: Any) -> int:
    """Returns ``stream`` if it is 1 or 2."""
    if check_whole("stream", stream, 1) > STREAM:
        raise InvalidArgumentError(f"stream: expected 1 or {STREAM}, got {stream!r}; leave it out.")
    return int(stream)


def noted_stream(stream: int) -> dict[str, int]:
    """Returns what a recipe says of how its part draws; nothing where it does as before recipes said it."""
    return {} if stream == 1 else {"stream": stream}


def plain_generator(seed: int) -> np.random.Generator:
    """Makes a random generator of the plain seed: for the choice of units by a name such as "random:8".

    The name stands in commands, files and recordings, and means the units that it always meant.
    """
    return np.random.Generator(np.random.PCG64(check_seed(seed)))


def legacy_random_state(seed: int, name: str, stream: int) -> np.random.RandomState:
    """Does as `part_generator`, for packages that take numpy's old random state."""
    return np.random.RandomState(seed if stream == 1 else named_seed(seed, name) % 2**32)


class OwnGlobals:
    """Gives foreign code that draws from numpy's and Python's global random state a stream of its own.

    Within ``with OwnGlobals(...):`` the global state is this stream's; afterwards it is what it was.

    Args:
        seed: Of the stream.
        name: What it is for.
    """

    def __init__(self, seed: int, name: str) -> None:
        own = named_seed(seed, f"{name}, global state")
        self._numpy: Any = np.random.RandomState(own % 2**32).get_state()
        self._python = random.Random(own).getstate()

    def __enter__(self) -> None:
        self._exchange()

    def __exit__(self, *_error: object) -> None:
        self._exchange()

    def _exchange(self) -> None:
        """Puts the kept state in the place of the global one, and keeps that."""
        numpys, pythons = np.random.get_state(), random.getstate()  # noqa: NPY002 - kept, and put back
        np.random.set_state(self._numpy)  # noqa: NPY002
        random.setstate(self._python)
        self._numpy, self._python = numpys, pythons


def generator_state(rng: np.random.Generator) -> dict[str, Any]:
    """Returns the state of a random generator as plain values."""
    return dict(rng.bit_generator.state)


def restore_generator(rng: np.random.Generator, state: dict[str, Any]) -> None:
    """Puts a random generator back to a saved state."""
    rng.bit_generator.state = state
