"""Optimizers by name."""

from __future__ import annotations

from typing import Any

from closedloop import recipes
from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import Optimizer, Space
from closedloop.optimizers.base import check_budget
from closedloop.recipes import OPTIMIZER as DEFAULT
from closedloop.signatures import at_door


@at_door
def load_optimizer(name: str, space: Space, seed: int = 0, *, images: int | None = None, **options: Any) -> Optimizer:
    """Builds an optimizer by name, of this package or one that a plug-in adds.

    "auto" (the default on the command line), "cma", "cma-diagonal", "cholesky-cma", "sphere-cma", "isotropic",
    "separable-cma", "xdream-ga", "ga-2019", "fdgd", "nes", "random"; "nevergrad:NAME" for those of
    nevergrad; "shuffled:NAME" and "noise:NAME" for controls.

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
    if not isinstance(name, str):
        raise InvalidArgumentError(f"optimizer: expected a name such as {DEFAULT!r}, got {name!r:.80}.")
    if not isinstance(space, Space):
        raise InvalidArgumentError(
            f"space: expected a Space, got {space!r:.80}; that of a generator is generator.space."
        )
    check_budget(images)
    if images is not None and recipes.takes("optimizers", name, "images"):
        options["images"] = int(images)
    optimizer: Optimizer = recipes.build("optimizers", name, space, seed, **options)
    return optimizer
