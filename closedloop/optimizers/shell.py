"""Where codes may be, in units of the prior's shell: what `auto` and the twin share."""

from __future__ import annotations

from typing import final

import numpy as np

from closedloop.interfaces import FloatArray, Space


@final
class Shell:
    """A space in units of the radius scale · √dim, from its middle.

    From some 16 dimensions on, a draw of N(0, I) lies near the sphere of radius √dim, so an unbounded space of at least
    16 dimensions is searched on that shell.

    Args:
        space: Where to search.
        radius: Of the shell; default that of the prior.

    Attributes:
        curved: Whether codes stay on the shell.
    """

    def __init__(self, space: Space, radius: float | None = None) -> None:
        self.space = space
        self.curved: bool = not space.bounded and space.dim >= 16
        self._unit = space.scale * np.sqrt(space.dim) if radius is None else radius

    def units(self, codes: FloatArray) -> FloatArray:
        """Turns codes ``(…, dim)`` into units of the shell."""
        return np.asarray((codes - self.space.center) / self._unit)

    def codes(self, x: FloatArray) -> FloatArray:
        """Turns codes in units of the shell into codes in the space, ``(n, dim)``."""
        return self.space.clip(self.space.center + self._unit * x)

    def inside(self, x: FloatArray) -> FloatArray:
        """Moves codes ``(…, dim)``, in units of the shell, into the space or onto its shell."""
        if self.space.bounded:
            return self.units(self.space.clip(self.space.center + self._unit * x))
        length = np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-300)
        # Without a shell up to the outer end of the prior: ‖N(0, I)‖ / √dim is 1 ± 1 / √(2 dim); three of these.
        end = 1.0 if self.curved else np.minimum(length, 1 + 3 / np.sqrt(2 * self.space.dim))
        return np.asarray(x / length * end)

    def tangent(self, slope: FloatArray, x: FloatArray) -> FloatArray:
        """Returns the part of a slope ``(dim,)`` along which one may go from ``x``: on a shell, that tangent to it."""
        return np.asarray(slope - (slope @ x) * x) if self.curved else slope

    def tangents(self, slopes: FloatArray, x: FloatArray) -> FloatArray:
        """Returns the same for several, ``(n, dim)``."""
        return slopes - (slopes * x).sum(-1, keepdims=True) * x if self.curved else slopes

    def moved(self, x: FloatArray, directions: FloatArray, angles: FloatArray) -> FloatArray:
        """Returns codes ``(n, dim)`` moved by angles ``(n,)`` in radians along tangent directions of length 1."""
        a = angles[:, None]
        # On the shell the exponential map: along the great circle; elsewhere as far, in units of the shell.
        return self.inside(np.cos(a) * x + np.sin(a) * directions if self.curved else x + a * directions)
