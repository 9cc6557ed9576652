"""The command line: each file is named for its command; ``app`` assembles them."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line; see `closedloop.cli.app.main`, which is imported here.

    That takes some tenths of a second, in which Ctrl-C is to end the program as it does later.
    """
    try:
        from closedloop.cli.app import main as run
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted. Nothing was left half written.\n")
        raise SystemExit(130) from None
    run(arguments)
