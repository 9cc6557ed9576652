"""Randomness: one seed, spawned into named random generators. Global random state is never touched."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from closedloop.checks import check_whole


def check_seed(seed: Any) -> int:
    """Returns ``seed`` if it is a whole number of at least 0."""
    return check_whole("seed", seed, 0)


def named_seed(seed: int, name: str) -> int:
    """A seed for one purpose, derived from the experiment's seed and the purpose's name; below 2**63."""
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    sequence = np.random.SeedSequence(check_seed(seed), spawn_key=(key,))
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def named_generator(seed: int, name: str) -> np.random.Generator:
    """A random generator for one purpose: same seed and name, same stream; other names, independent streams."""
    return np.random.default_rng(named_seed(seed, name))


def generator_state(rng: np.random.Generator) -> dict[str, Any]:
    """The state of a random generator as plain values."""
    return dict(rng.bit_generator.state)


def restore_generator(rng: np.random.Generator, state: dict[str, Any]) -> None:
    """Puts a random generator back to a saved state."""
    rng.bit_generator.state = state
