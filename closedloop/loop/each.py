"""One evolution for each unit of a subject: the threads of a session that evolves many units at once.

Each thread has the unit's name, the unit's response as its objective, and an optimizer whose seed is spawned from that
of the experiment by the name of the unit. So what a unit is searched with depends on no other unit of the session.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from closedloop.errors import OptimizerError, blamed
from closedloop.interfaces import Generator, Optimizer, Space, Units
from closedloop.loop.thread import LONGEST_NAME, Thread
from closedloop.objectives import Unit
from closedloop.objectives.naming_units import UnitSpec, parse_columns
from closedloop.optimizers import load_optimizer
from closedloop.seeds import named_seed
from closedloop.signatures import at_door

#: An optimizer for each thread: its name, its recipe ``{"name": …}``, or a function of a space and a seed.
MakeOptimizer = str | Mapping[str, Any] | Callable[[Space, int], Optimizer]


@dataclass(frozen=True)
class OfUnit:
    """What the thread of one unit is made with.

    Attributes:
        name: Of the thread.
        column: Of the unit among the subject's responses.
        seed: Of its optimizer.
    """

    name: str
    column: int
    seed: int


@at_door
def unit_seed(seed: int, neuroid_id: str) -> int:
    """Returns the seed of a unit's optimizer in a session of many units.

    Args:
        seed: Of the experiment.
        neuroid_id: The unit's name, such as "lite0.output.7".
    """
    return named_seed(seed, neuroid_id)


def each_unit(units: Units, spec: UnitSpec, seed: int) -> list[OfUnit]:
    """Returns what the threads of some units are made with, in the order in which they are named.

    Args:
        units: What the subject records.
        spec: Columns: "all", "random:64", "0-99", a list …; see `closedloop.objectives.naming_units`.
        seed: Of the experiment; it draws the units of "random:64", too.

    Raises:
        InvalidArgumentError: The columns cannot be read, or are out of range.
    """
    columns = parse_columns(spec, len(units), seed)
    ids = [units.neuroid_id[column] for column in columns]
    names = _thread_names(ids)
    return [OfUnit(name, c, unit_seed(seed, i)) for name, c, i in zip(names, columns, ids, strict=True)]


def _thread_names(ids: list[str]) -> list[str]:
    """Returns a name for the thread of each unit: the last part of the unit's, such as "unit-7" or "unit-30-7-7"."""
    short = [f"unit-{_plain(name.rpartition('.')[2])}" for name in ids]
    long = [f"unit-{_plain(name)}" for name in ids]
    few = Counter(short)
    names = [s if few[s] == 1 else whole for s, whole in zip(short, long, strict=True)]
    alike = Counter(names)
    return [
        name if len(name) <= LONGEST_NAME and alike[name] == 1 else f"unit-number-{number}"
        for number, name in enumerate(names)
    ]


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-") or "0"


def threads_of_units(
    units: Units, spec: UnitSpec, generator: Generator, optimizer: MakeOptimizer, seed: int
) -> list[Thread]:
    """Builds a thread for each of some units; all share the generator.

    Raises:
        InvalidArgumentError: The units cannot be read.
        UnknownNameError: No such optimizer.
        OptimizerError: A function that makes optimizers raised; the error names the thread. Nothing was shown yet.
    """
    return [
        Thread(generator, _made(optimizer, generator.space, one), Unit(one.column), one.name)
        for one in each_unit(units, spec, seed)
    ]


def _made(optimizer: MakeOptimizer, space: Space, one: OfUnit) -> Optimizer:
    seed = one.seed
    if isinstance(optimizer, str):
        return load_optimizer(optimizer, space, seed=seed)
    if isinstance(optimizer, Mapping):
        name, options = str(optimizer.get("name")), {k: v for k, v in optimizer.items() if k != "name"}
        return load_optimizer(name, space, **{"seed": seed, **options})
    with blamed(f"thread {one.name!r}: optimizer, called as f(space, seed)", OptimizerError):
        return optimizer(space, seed)
