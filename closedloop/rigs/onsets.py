"""Which pulse belongs to which image: by time, and never by counting.

A program that shows images knows when it flipped the screen, on its own clock; the recording system knows when a pulse
came, on another. Pulses get lost, and come where there was no image. Here the offset between both clocks is found at
which most of them agree, and each image gets the pulse at its time, or none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import numpy as np
from numpy.typing import NDArray

#: How much less likely an assignment is for an image without a pulse, and how much less likely any other one must be
#: than the best, as minus logarithms: e⁻⁸ and e⁻⁵.
MISSING, CERTAIN = 8.0, 5.0


@final
@dataclass(frozen=True)
class Matched:
    """What was found.

    Attributes:
        pulse: Number of the pulse of each image, −1 for none, ``(n,)``.
        onset_s: When each image appeared on the clock of the pulses, ``(n,)``: its pulse, or where that one is missing
            what its neighbours say; NaN where nothing is known.
        extra: How many pulses belong to no image.
        offset_s: Time of a pulse minus that of its flip, at the end of the block; None where none was found.
        certain: Whether all other assignments are far less likely. Where they are not, none is returned.
        late_s: How far each pulse is from where its neighbours say, ``(n,)``; NaN where there is none.
    """

    pulse: NDArray[np.int64]
    onset_s: NDArray[np.float64]
    extra: int
    offset_s: float | None
    certain: bool
    late_s: NDArray[np.float64]

    @property
    def missing(self) -> int:
        """How many images have no pulse."""
        return int((self.pulse < 0).sum())


def match_onsets(
    flips_s: NDArray[np.float64],
    pulses_s: NDArray[np.float64],
    tolerance_s: float,
    offset_s: float | None = None,
    slack_s: float = np.inf,
) -> Matched:
    """Finds the pulse of each image.

    Args:
        flips_s: When each image was shown on the clock of the program, ascending, ``(n,)``.
        pulses_s: When pulses came on that of the recording, ascending, ``(m,)``.
        tolerance_s: How far a pulse may be from where its neighbours say; at most a quarter of the shortest time
            between two images is taken.
        offset_s: The offset between both clocks where it is roughly known; it decides where several fit as well.
        slack_s: How far the true offset may be from `offset_s`.
    """
    n, m = len(flips_s), len(pulses_s)
    none = Matched(np.full(n, -1), np.full(n, np.nan), m, None, True, np.full(n, np.nan))
    if n == 0 or m == 0:
        return none
    if n > 1:
        tolerance_s = min(tolerance_s, float(np.diff(flips_s).min()) / 4)
    candidates = _candidates(flips_s, pulses_s, tolerance_s, offset_s, slack_s)
    found = [_followed(flips_s, pulses_s, tolerance_s, *candidate) for candidate in candidates]
    found = [one for one in found if one.missing < n]
    if not found:
        return none
    most = max(n - one.missing for one in found)
    spread_s = min(_spread_s(one) for one in found if n - one.missing >= most / 2)
    # Pulses are taken to vary by at least a millisecond.
    costs = [_cost(one, float(np.clip(spread_s, 0.001, tolerance_s))) for one in found]
    best = found[int(np.argmin(costs))]
    if offset_s is None:
        for other, cost in zip(found, costs, strict=True):
            apart = abs(_begin(flips_s, pulses_s, other) - _begin(flips_s, pulses_s, best)) > 2 * tolerance_s
            if apart and cost < min(costs) + CERTAIN:
                return replace(none, certain=False)
    return best


def _candidates(
    flips: NDArray[np.float64], pulses: NDArray[np.float64], tolerance: float, offset: float | None, slack: float
) -> list[tuple[float, int]]:
    """Returns offsets at which many pulses agree with many flips, those with most first, with one of these flips."""
    apart = (pulses[None, :] - flips[:, None]).ravel()
    order = np.argsort(apart, kind="stable")
    if offset is not None:
        order = order[abs(apart[order] - offset) <= slack]
    apart, whose = apart[order], order // len(pulses)
    number = np.searchsorted(apart, apart + 2 * tolerance, side="right") - np.arange(len(apart))
    tried: list[tuple[float, int]] = []
    for i in np.argsort(-number, kind="stable").tolist():
        middle = i + int(number[i]) // 2
        if all(abs(apart[middle] - other) > tolerance for other, _ in tried):
            tried.append((float(apart[middle]), int(whose[middle])))
        if len(tried) == 12:  # those that are tried out in full, the most promising first
            break
    return tried


def _followed(
    flips: NDArray[np.float64], pulses: NDArray[np.float64], tolerance: float, offset: float, start: int
) -> Matched:
    """Goes from one image on to the last, and back to the first, and follows the offset from one pulse to the next."""
    which, onset, late = np.full(len(flips), -1), np.empty(len(flips)), np.full(len(flips), np.nan)
    end = offset
    for images in (range(start, len(flips)), range(start - 1, -1, -1)):
        now = offset
        for i in images:
            expected = flips[i] + now
            place = int(np.searchsorted(pulses, expected))
            near = [j for j in (place - 1, place) if 0 <= j < len(pulses) and j not in which]
            at = min(near, key=lambda j: abs(pulses[j] - expected), default=-1)
            onset[i] = expected
            if at >= 0 and abs(pulses[at] - expected) <= tolerance:
                which[i], onset[i], late[i] = at, pulses[at], pulses[at] - expected
                # So much of what a pulse is late or early moves the next expectation: clocks drift, and frames drop.
                now += 0.3 * (pulses[at] - expected)
            end = now if i == len(flips) - 1 else end
    return Matched(which, onset, len(pulses) - int((which >= 0).sum()), float(end), True, late)


def _begin(flips: NDArray[np.float64], pulses: NDArray[np.float64], found: Matched) -> float:
    """Returns the median offset of an assignment."""
    has = found.pulse >= 0
    return float(np.median(pulses[found.pulse[has]] - flips[has]))


def _spread_s(found: Matched) -> float:
    """Returns how far pulses are from where they were expected, root mean square."""
    late = found.late_s[found.pulse >= 0]
    return float(np.sqrt(np.mean(late**2))) if len(late) > 2 else np.inf


def _cost(found: Matched, spread_s: float) -> float:
    """Returns minus the log likelihood of an assignment: pulses are late by N(0, spread²), and some are missing."""
    late = found.late_s[found.pulse >= 0]
    return MISSING * found.missing + float(np.sum((late / spread_s) ** 2)) / 2
