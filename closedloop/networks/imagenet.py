"""The classes of ImageNet."""

from __future__ import annotations

from functools import cache
from importlib import resources


@cache
def imagenet_classes() -> tuple[str, ...]:
    """Returns the names of the 1,000 classes in the order of a classifier's outputs, as torchvision has them.

    From a file of our own: importing torchvision for them takes seconds.
    """
    return tuple(resources.files(__package__).joinpath("imagenet_classes.txt").read_text("utf-8").splitlines())
