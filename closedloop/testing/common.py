"""Gives the contracts what they share."""

from __future__ import annotations

import pickle
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from closedloop.interfaces import State
from closedloop.recording.states import pack_state, unpack_state


def through_a_file(state: State) -> State:
    """Returns the state as it comes back from a saved run."""
    return unpack_state(pack_state(state))


def relative_error(actual: Any, expected: Any) -> float:
    """Returns the largest absolute difference over the largest absolute expected value; infinite where NaNs differ."""
    actual, expected = np.asarray(actual, dtype=float), np.asarray(expected, dtype=float)
    if actual.shape != expected.shape or not np.array_equal(np.isnan(actual), np.isnan(expected)):
        return float("inf")
    valid = ~np.isnan(expected)
    if not valid.any():
        return 0.0
    largest = float(np.abs(expected[valid]).max())
    difference = float(np.abs(actual[valid] - expected[valid]).max())
    return difference / largest if largest > 0 else difference


@contextmanager
def streams_of_its_own() -> Iterator[None]:
    """Fails if the block makes a random generator from a small seed alone.

    A user draws a target, weights or noise from ``default_rng(3)``, and gives a part the seed 3; were both one stream,
    the part would draw the very numbers of the user.
    """
    made, plain = list[Any](), np.random.default_rng

    def noted(seed: Any = None) -> np.random.Generator:
        made.append(seed)
        return plain(seed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np.random, "default_rng", noted)
        yield
    small = [seed for seed in made if isinstance(seed, (int, np.integer)) and seed < 2**16]
    why = f"expected a stream of seed and name (closedloop.seeds.named_generator), got default_rng({small[:1]})"
    assert not small, why


@contextmanager
def untouched_randomness() -> Iterator[None]:
    """Fails if the block reads or writes the global random state of Python, numpy or (if imported) torch."""
    before = _global_randomness()
    yield
    changed = [name for name, state in _global_randomness().items() if name in before and state != before[name]]
    assert not changed, f"expected the global random state to be left alone, but that of {changed} has changed"


def _global_randomness() -> dict[str, Any]:
    drawn = np.random.get_state(legacy=False)  # noqa: NPY002 - looked at, to see that nobody draws from it
    states: dict[str, Any] = {"random": random.getstate(), "numpy": pickle.dumps(drawn)}
    if (torch := sys.modules.get("torch")) is not None:
        states["torch"] = torch.get_rng_state().numpy().tobytes()
    return states
