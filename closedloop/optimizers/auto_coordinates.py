"""The coordinates in which `Auto` compares codes: a direction, and where it counts the logarithm of the length.

In many dimensions draws from the prior lie near a shell, so what tells codes apart is their direction. Whether their
length matters depends on the generator: to some it is nothing, to others contrast or more. So it is one more
coordinate beside the direction, along which codes vary a little and the mean goes where the responses lead.
"""

from __future__ import annotations

from typing import final

import numpy as np

from closedloop.interfaces import FloatArray, Space
from closedloop.optimizers.shell import Shell

#: Longest and shortest codes, over and under the shell of the prior, as a logarithm.
FARTHEST = float(np.log(64.0))
#: How much the logarithm of the length varies, over the angle between mean and samples in radians.
JITTER = 0.2


@final
class Coordinates:
    """Coordinates x of codes: on a shell direction and log length, else the code in units of the shell.

    Args:
        space: Where codes lie.
        radius: Their fixed length; None for the shell of the prior where there is one, from which lengths may depart.

    Attributes:
        curved: Whether codes are directions: in an unbounded space of many dimensions.
        free: Whether their length is searched, too; it is the last coordinate.
        size: Number of coordinates.
    """

    def __init__(self, space: Space, radius: float | None) -> None:
        self.space: Space = space
        self._shell = Shell(space, radius)
        self.curved: bool = self._shell.curved
        self.free: bool = self.curved and radius is None
        self.size: int = space.dim + self.free

    def of(self, codes: FloatArray) -> FloatArray:
        """Returns the coordinates ``(n, size)`` of codes ``(n, dim)``, moved to where codes may lie."""
        x = self._shell.units(codes)
        if self.free:
            length = np.linalg.norm(x, axis=1, keepdims=True)
            x = np.hstack([x, np.log(np.maximum(length, 1e-300))])
        return self.inside(x)

    def codes(self, x: FloatArray) -> FloatArray:
        """Returns the codes ``(n, dim)`` of coordinates ``(n, size)``, within the bounds."""
        return self._shell.codes(x[:, :-1] * np.exp(x[:, -1:]) if self.free else x)

    def inside(self, x: FloatArray) -> FloatArray:
        """Moves coordinates ``(…, size)`` into the space: onto the shell, or up to the outer end of the prior."""
        u, rho = x[..., : self.space.dim], x[..., self.space.dim :]
        return np.concatenate([self._shell.inside(u), np.clip(rho, -FARTHEST, FARTHEST)], axis=-1)

    def tangent(self, slope: FloatArray, m: FloatArray) -> FloatArray:
        """Returns the part of a slope ``(size,)`` along which one may go from ``m``: on a shell, tangent to it."""
        along = self._shell.tangent(slope[: self.space.dim], m[: self.space.dim])
        return np.append(along, slope[self.space.dim :])

    def around(self, m: FloatArray, z: FloatArray, angle: float) -> FloatArray:
        """Returns coordinates ``(n, size)`` at an angle in radians from ``m``, along normal draws ``z (n, size)``."""
        if not self.curved:
            # ‖z‖ ≈ √dim, so that a sample is the angle in radians away, in units of the shell.
            return self.inside(m + angle / np.sqrt(self.space.dim) * z)
        u, rho = m[: self.space.dim], m[self.space.dim :]
        along, longer = z[:, : self.space.dim], z[:, self.space.dim :]
        along = along - np.outer(along @ u, u)  # into the tangent plane at u, then to length 1
        along /= np.linalg.norm(along, axis=1, keepdims=True)
        # Exponential map: from u along the great circle in the direction z, by the angle.
        x = np.cos(angle) * u + np.sin(angle) * along
        return np.hstack([x, np.clip(rho + JITTER * angle * longer, -FARTHEST, FARTHEST)])
