"""Watches a rig while an experiment goes on, and says in words what a person at it should know.

Lost trials, references that are answered less or more than at first, and units whose signal faded. Silence is noticed
by who waits (`closedloop.rigs.client`). Nothing here changes an experiment; what is said goes to
`closedloop.loop.notices`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import final

import numpy as np
from numpy.typing import NDArray

from closedloop.interfaces import FloatArray
from closedloop.loop.notices import Notice, notice
from closedloop.presentations import Answers

#: Presentations over which the share of lost ones is taken.
RECENT = 50
#: Share of lost trials of which it is told, and how far it must change to be told again.
LOST, LOST_STEP = 0.2, 0.1
#: Presentations of references over which drift is taken, how far it must go to be told, and told again, and how many
#: standard errors that must be, since it is looked at after every block.
REFERENCES, DRIFT_STEP, SURE = 40, 0.08, 4.0
#: Blocks whose median is a unit's signal to noise at first, and the share of it below which it fell.
FIRST_BLOCKS, FELL = 3, 0.5


@final
class Health:
    """What is known of a rig since this process began.

    Args:
        tell: Is told.
    """

    def __init__(self, tell: Callable[[str], None] = notice) -> None:
        self._tell = tell
        self._lost: deque[bool] = deque(maxlen=RECENT)
        self._lost_told = 0.0
        self._first: dict[str, FloatArray] = {}
        self._pairs: deque[tuple[float, float]] = deque(maxlen=REFERENCES)
        self._drift_told = 0.0
        self._snr: list[NDArray[np.float64]] = []
        self._faded: set[int] = set()

    def see(
        self, answers: Answers, responses: FloatArray, names: list[str], kinds: list[str], units: tuple[str, ...]
    ) -> None:
        """Looks at a block.

        Args:
            answers: What the rig said, in the order of the presentations.
            responses: ``(n, units[, time])``, NaN where lost.
            names: Name of the image of each presentation.
            kinds: "reference" and others, of each.
            units: Names of the units.
        """
        self._see_lost(np.asarray(answers.status) != "ok")
        rows = [i for i, kind in enumerate(kinds) if kind == "reference"]
        means = responses if responses.ndim == 2 else responses.mean(axis=2)
        self._see_references([names[i] for i in rows], means[rows])
        if "snr" in answers.quality:
            self._see_snr(np.asarray(answers.quality["snr"]), units)

    def _see_lost(self, lost: NDArray[np.bool_]) -> None:
        self._lost.extend(lost.tolist())
        if len(self._lost) < 10:
            return
        share = sum(self._lost) / len(self._lost)
        worse = share >= LOST and abs(share - self._lost_told) >= LOST_STEP
        better = self._lost_told > 0 and share < LOST / 2
        if worse or better:
            self._lost_told = share if worse else 0.0
            words = f"lost trials now {100 * share:.0f} % ({sum(self._lost)} of the last {len(self._lost)})"
            self._tell(Notice(words, "lost trials", well=better))

    def _see_references(self, names: list[str], responses: FloatArray) -> None:
        for name, now in zip(names, responses, strict=True):
            if np.isnan(now).any():
                continue
            if name in self._first:
                self._pairs.append((float(self._first[name].sum()), float(now.sum())))
            else:
                self._first[name] = now.copy()
        if len(self._pairs) < REFERENCES // 2:
            return
        then, now_too = np.array(self._pairs).T
        if not then.sum() > 0:
            return
        ratio = now_too.sum() / then.sum()
        error = float(np.sqrt(np.sum((now_too - ratio * then) ** 2)) / then.sum())  # of the ratio, by the delta method
        change = float(ratio - 1)
        if abs(change - self._drift_told) >= max(DRIFT_STEP, SURE * error):
            self._drift_told = change
            words = f"reference drift {100 * change:+.0f} % against their first responses"
            self._tell(Notice(words, "drift", well=abs(change) < DRIFT_STEP))

    def _see_snr(self, snr: NDArray[np.float64], units: tuple[str, ...]) -> None:
        if len(self._snr) < FIRST_BLOCKS:
            self._snr.append(snr)
            return
        first = np.median(np.stack(self._snr), axis=0)
        for unit in np.flatnonzero(np.isfinite(first) & np.isfinite(snr) & (first > 0)).tolist():
            fell = snr[unit] < FELL * first[unit]
            if fell and unit not in self._faded:
                words = f"SNR of unit {units[unit]} fell from {first[unit]:.2g} to {snr[unit]:.2g}"
                self._tell(Notice(words, f"SNR of unit {units[unit]}"))
            if fell:
                self._faded.add(unit)
            elif snr[unit] > 0.75 * first[unit]:
                self._faded.discard(unit)
