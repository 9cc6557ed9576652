"""The command line: ``closedloop evolve``, ``resume``, ``units``, ``record``, ``show``, ``export``, ``import``."""

from closedloop.cli.app import main

__all__ = ["main"]
