"""The live window."""

from __future__ import annotations

from starlette.routing import BaseRoute

from closedloop.viewer.shown import Shown


def routes(shown: Shown) -> list[BaseRoute]:
    """Returns its routes; none where what they need was not given."""
    return []
