"""Parts of an experiment that misbehave as people's own do: each in one method or attribute, from some call on."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import warnings

import numpy as np

from closedloop.errors import InvalidArgumentError
from closedloop.generators import Pixels
from closedloop.interfaces import Units
from closedloop.objectives import Unit
from closedloop.optimizers import IsotropicES, RandomSearch
from closedloop.seeds import named_generator

SIDE, POPULATION, UNITS = 4, 3, 2


class Cells:
    """Two linear cells with a state; what they answer is known."""

    name = "cells"
    units = Units(("cells.0", "cells.1"), {"layer": ("a", "b")})
    fingerprint = "0" * 64

    def __init__(self):
        self._weights = named_generator(5, "weights").standard_normal((3 * SIDE**2, UNITS))
        self.shown = 0

    def answers(self, images):
        pixels = np.asarray(images, dtype=float).reshape(len(images), 3 * SIDE**2)
        return np.einsum("np,pu->nu", pixels, self._weights)  # not @, whose bits depend on how many images there are

    def record(self, images):
        self.shown += len(images)
        return self.answers(images)

    def state(self):
        return {"shown": self.shown}

    def restore(self, state):
        self.shown = state["shown"]


class Watching:
    """An observer."""

    def begin(self, session):
        pass

    def generation(self, generation):
        pass

    def end(self, session):
        pass


def rule(history):
    """A stopping rule that never stops."""
    return


class Proposing(RandomSearch):
    """An optimizer that recommends, attributes, ends and can be given a budget."""

    budget, finished = None, False

    def plan(self, images):
        self.budget = images

    def see(self, generator):
        pass

    def recommend(self, n):
        return self.space.center[None] + 0.1

    def proposers(self, codes):
        return ["prior"] * len(codes)


def parts(seed):
    """Whole parts by their names."""
    generator = Pixels(SIDE)
    make = IsotropicES if seed % 2 else Proposing
    return {
        "subject": Cells(),
        "generator": generator,
        "optimizer": make(generator.space, seed=seed, population=POPULATION),
        "objective": Unit(0),
        "rule": rule,
        "observer": Watching(),
    }


#: What of a part is called or looked at, and a word that an error must say of it.
SEAMS = {
    "subject": ("record", "units", "name", "state", "fingerprint", "resolution", "channels", "frames"),
    "generator": ("__call__", "space", "name", "resolution", "fingerprint", "channels", "recipe"),
    "optimizer": (
        "ask", "tell", "state", "recommend", "proposers", "finished", "plan", "see", "name", "space", "needs_gradient",
        "recipe", "budget",
    ),
    "objective": ("__call__", "describe"),
    "rule": ("__call__",),
    "observer": ("begin", "generation", "end"),
}  # fmt: skip
ATTRIBUTES = {
    "units", "name", "fingerprint", "resolution", "channels", "frames", "space", "recipe", "finished", "needs_gradient",
    "budget",
}  # fmt: skip


def strange(part, seam, behave, calls):
    """A part that is as it was, but for one method or attribute, which behaves otherwise after some calls.

    Args:
        part: The part.
        seam: Name of its method or attribute.
        behave: Called with a function that gives what the part would, and the arguments of the call.
        calls: How many calls are answered well before.
    """
    left = [calls]

    def go(*given):
        left[0] -= 1

        def well():
            return getattr(part, seam) if seam in ATTRIBUTES else getattr(part, seam)(*given)

        return well() if left[0] >= 0 else behave(well, *given)

    names = {name for name in dir(part) if not name.startswith("__")} | {"__call__", "__name__"}
    members = {name: property(lambda self, n=name: getattr(part, n)) for name in names if hasattr(part, name)}
    for name in ("__call__", *(n for n in members if callable(getattr(part, n)) and not isinstance(n, type))):
        if hasattr(part, name):
            members[name] = lambda self, *given, n=name: getattr(part, n)(*given)
    members[seam] = property(lambda self: go()) if seam in ATTRIBUTES else lambda self, *given: go(*given)
    return type(type(part).__name__, (), members)()


class WordlessError(Exception):
    """An exception whose text cannot be made."""

    def __init__(self, first, second):
        super().__init__()

    def __str__(self):
        raise TypeError("no text")


def _deep(n=0):
    return _deep(n + 1)


def _divided():
    with np.errstate(all="raise"):
        return np.float64(1) / np.float64(0)


#: What is raised in earnest, by functions, for some exceptions cannot be made twice.
RAISED = (
    lambda: (_ for _ in ()).throw(ValueError("a text")),
    lambda: {}["sigma"],
    lambda: next(iter(())),
    lambda: [][3],
    lambda: None.shape,
    lambda: _deep(),
    lambda: 1 / 0,
    lambda: _divided(),
    lambda: np.zeros(3) @ np.zeros(4),
    lambda: np.linalg.inv(np.zeros((2, 2))),
    lambda: b"\xff".decode(),
    lambda: "\ud800".encode(),
    lambda: open("/nowhere/at/all").read(),  # noqa: SIM115 - it does not open
    lambda: __import__("no_such_module"),
)
EXCEPTIONS = (
    lambda: WordlessError(1, 2),
    lambda: MemoryError(),
    lambda: OSError(errno.ENOSPC, "No space left on device", "/x"),
    lambda: BrokenPipeError(),
    lambda: TimeoutError("the rig"),
    lambda: RuntimeError("two\nlines\nof text"),
    lambda: RuntimeError("half a letter \ud83d"),
    lambda: RuntimeError("x" * 100_000),
    lambda: RuntimeError("[/red] {name} %s \x1b[31m \x00"),
    lambda: ExceptionGroup("several", [ValueError("one"), KeyError("two")]),
    lambda: StopIteration(3),
    lambda: NotImplementedError(),
    lambda: AssertionError(np.arange(3)),
    lambda: InvalidArgumentError("of a part that uses closedloop"),
    lambda: UserWarning("raised"),
    lambda: AttributeError("it"),
    lambda: AssertionError(),
    lambda: KeyError(),
    lambda: ImportError("cannot import name 'x'", name="torch"),
)


def _raising(make):
    def behave(well, *given):
        raise make()

    return behave


def _raised(do):
    return lambda well, *given: do()


def _first_raising(make):
    """Works, and raises then: what was done stays done."""

    def behave(well, *given):
        well()
        raise make()

    return behave


def _spoiling(well, *given):
    """Works, and overwrites what it was given."""
    made = well()
    made = made.copy() if isinstance(made, np.ndarray) else made
    for array in given:
        if isinstance(array, np.ndarray):
            with contextlib.suppress(ValueError):
                array[...] = -7
    return made


_BUFFERS = {}


def _buffered(well, *given):
    """Works, and gives one buffer again and again."""
    made = well()
    if not isinstance(made, np.ndarray):
        return made
    buffer = _BUFFERS.setdefault((made.shape, made.dtype.str), np.empty_like(made))
    buffer[...] = made
    return buffer


def _loud(well, *given):
    """Works, and leaves the process otherwise than it was."""
    warnings.warn("from a part", RuntimeWarning, stacklevel=1)
    np.random.seed(0)  # noqa: NPY002 - what a part of a stranger does
    random.seed(0)
    np.seterr(all="raise")
    return well()


def _moving(well, *given):
    """Works, and goes to another folder."""
    os.chdir("/")
    return well()


WELL = {"overwrites": _spoiling, "buffer": _buffered, "loud": _loud, "moves": _moving}


def behaviours(rng, thing):
    """One of all, with a word for it; "well" where the part's answer is right."""
    kind = str(rng.choice(["raises", "raises in earnest", "works and raises", "returns", "returns", "well"]))
    if kind == "well":
        name = str(rng.choice(list(WELL)))
        return f"well: {name}", WELL[name]
    if kind == "returns":
        return f"returns {type(thing).__name__}", lambda well, *given: thing
    if kind == "raises in earnest":
        which = int(rng.integers(len(RAISED)))
        return f"raises in earnest, {which}", _raised(RAISED[which])
    which = int(rng.integers(len(EXCEPTIONS)))
    make = EXCEPTIONS[which]
    return f"{kind}, {which}", _raising(make) if kind == "raises" else _first_raising(make)
