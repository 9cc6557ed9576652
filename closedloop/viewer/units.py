"""The pages of units, and the atlas."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from starlette.routing import BaseRoute

from closedloop.viewer.shown import Shown


def routes(shown: Shown) -> list[BaseRoute]:
    """Returns its routes; none where what they need was not given."""
    return []


def preferred(shown: Shown, layer: str) -> Mapping[int, NDArray[np.uint8]]:
    """The preferred stimulus of each channel of a layer for which one was made, ``(h, w, 3)`` 8-bit RGB."""
    return {}
