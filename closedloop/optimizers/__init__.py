"""Optimizers: ask for codes, tell their scores. One algorithm, one file."""

from typing import Any, cast

from closedloop import registry
from closedloop.interfaces import Optimizer, Space
from closedloop.optimizers.cmaes import CMAES
from closedloop.optimizers.isotropic import IsotropicES
from closedloop.optimizers.random_search import RandomSearch

__all__ = ["CMAES", "IsotropicES", "RandomSearch", "load_optimizer"]


def load_optimizer(name: str, space: Space, seed: int = 0, **options: Any) -> Optimizer:
    """An optimizer by name: "cma", "cma-diagonal", "isotropic", "random", or one that a plug-in adds.

    Args:
        name: Its name.
        space: Where to search, usually ``generator.space``.
        seed: Seed of its own random generator.
        **options: Options of its class.

    Raises:
        UnknownNameError: No such optimizer.
        InvalidArgumentError: It does not take an option, or its value does not fit.
    """
    return cast(Optimizer, registry.build("optimizers", name, space, seed, **options))
