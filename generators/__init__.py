"""Generators: from codes to images."""

if __name__ != "closedloop.generators":
    raise ImportError("import closedloop.generators; the folder generators/ is not a package of its own.")

from typing import Any, cast

from closedloop import registry
from closedloop.interfaces import Generator

from .fourier import Fourier
from .metric import image_metric
from .pixels import Pixels

__all__ = ["Fourier", "Pixels", "image_metric", "load_generator"]


def load_generator(name: str, **options: Any) -> Generator:
    """A generator by name: "fourier", "pixels", or one that a plug-in adds.

    Args:
        name: Its name.
        **options: Options of its class, such as `resolution`.

    Raises:
        UnknownNameError: No such generator.
        InvalidArgumentError: It does not take an option, or its value does not fit.
    """
    return cast(Generator, registry.build("generators", name, **options))
