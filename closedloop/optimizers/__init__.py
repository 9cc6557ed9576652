"""Optimizers: ask for codes, tell their scores. One algorithm, one file."""

from typing import Any, cast

from closedloop import registry
from closedloop.interfaces import Optimizer, Space
from closedloop.optimizers.base import check_budget
from closedloop.optimizers.cholesky import CholeskyCMAES
from closedloop.optimizers.cmaes import CMAES
from closedloop.optimizers.fdgd import FDGD
from closedloop.optimizers.genetic import GeneticAlgorithm
from closedloop.optimizers.hessian import HessianCMA
from closedloop.optimizers.isotropic import IsotropicES
from closedloop.optimizers.nes import NES
from closedloop.optimizers.random_search import RandomSearch
from closedloop.optimizers.separable import SeparableCMA
from closedloop.optimizers.sphere import SphereCMA

__all__ = [
    "CMAES",
    "FDGD",
    "NES",
    "CholeskyCMAES",
    "GeneticAlgorithm",
    "HessianCMA",
    "IsotropicES",
    "RandomSearch",
    "SeparableCMA",
    "SphereCMA",
    "load_optimizer",
]


def load_optimizer(name: str, space: Space, seed: int = 0, *, images: int | None = None, **options: Any) -> Optimizer:
    """An optimizer by name: "cma", "cma-diagonal", "sphere-cma", "isotropic", "random", or one that a plug-in adds.

    Args:
        name: Its name.
        space: Where to search, usually ``generator.space``.
        seed: Seed of its own random generator.
        images: Budget of codes, at least 1, for those that plan with it (their classes have an argument of this name);
            the others are built without.
        **options: Options of its class.

    Raises:
        UnknownNameError: No such optimizer.
        InvalidArgumentError: It does not take an option, or its value does not fit.
    """
    check_budget(images)
    if images is not None and registry.takes("optimizers", name, "images"):
        options["images"] = int(images)
    return cast(Optimizer, registry.build("optimizers", name, space, seed, **options))
