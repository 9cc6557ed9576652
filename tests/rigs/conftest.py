"""Rigs that run in a thread."""

from tests.running_rigs import address, running

__all__ = ["address", "running"]
