"""The command line: each file is named for its command; ``app`` assembles them."""

from closedloop.cli.app import main

__all__ = ["main"]
