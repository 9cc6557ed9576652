"""Watches a rig while an experiment goes on, and says in words what a person at it should know.

Lost trials, blocks that were shown twice, references that are answered less or more than at first, units whose signal
faded or that fell silent, and two units that answer like each other did. Silence is noticed by who waits
(`closedloop.rigs.client`). Nothing here changes an experiment; what is said goes to `closedloop.loop.notices`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from closedloop.interfaces import FloatArray
from closedloop.loop.notices import Notice, notice
from closedloop.presentations import Answers, lost_words
from closedloop.readable import percent

#: Presentations over which the share of lost ones is taken.
RECENT = 50
#: Share of lost trials of which it is told; how far it must change to be told again, at least, and in standard errors
#: of the difference between two such shares.
LOST, LOST_STEP, LOST_SURE = 0.2, 0.1, 2.0
#: Presentations over which faults of the equipment are counted, and from how many on they are told: they should not be
#: there at all, and can be mended.
OF_EQUIPMENT, FEW = 100, 5
#: What such faults are called, and what to look at.
EQUIPMENT = {
    "dropped_frame": ("dropped frames", "look at the monitor"),
    "artifact": ("artifacts", "look at cables, movement"),
}
#: Presentations of references over which drift is taken, how far it must go to be told, and told again, and how many
#: standard errors that must be, since it is looked at after every block.
REFERENCES, DRIFT_STEP, SURE = 40, 0.08, 4.0
#: Blocks whose median is a unit's signal to noise at first, the share of it below which it fell, and above which it is
#: back.
FIRST_BLOCKS, FELL, BACK = 3, 0.5, 0.75
#: Spikes that a unit would have fired by its mean so far, and has not, from which on it is silent (chance: e⁻¹⁵); and
#: presentations over which that mean is taken, at least.
SILENT, KNOWN = 15.0, 20
#: Presentations of references by which it is told that two units changed places; how far their correlations with each
#: other's first responses must be above those with their own, in standard errors of Fisher's z; and above 0.
SWAP_REFERENCES, SWAP_SURE, ALIKE = 80, 4.5, 0.3
#: What notices of silent units are about.
SILENT_UNITS = "silent units"
#: Names of units that one notice says.
NAMED = 5


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
        self._why: deque[str] = deque(maxlen=RECENT)
        self._equipment: deque[str] = deque(maxlen=OF_EQUIPMENT)
        self._equipment_told = dict.fromkeys(EQUIPMENT, 0)
        self._first: dict[str, FloatArray] = {}
        self._pairs: deque[tuple[FloatArray, FloatArray]] = deque(maxlen=SWAP_REFERENCES)
        self._drift_told = 0.0
        self._swapped: set[tuple[int, int]] = set()
        self._snr: list[NDArray[np.float64]] = []
        self._faded: set[int] = set()
        self._known: FloatArray | None = None
        self._silent: set[int] = set()

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
        status = np.asarray(answers.status).astype(str)
        self._see_attempts(np.asarray(answers.attempt))
        self._see_lost(status)
        self._see_equipment(status)
        rows = [i for i, kind in enumerate(kinds) if kind == "reference"]
        means = responses if responses.ndim == 2 else responses.mean(axis=2)
        self._see_references([names[i] for i in rows], means[rows])
        self._see_swaps(units)
        if answers.spikes is not None:
            self._see_silence(means[status == "ok"], units)
        if "snr" in answers.quality:
            self._see_snr(np.asarray(answers.quality["snr"]), units)

    def _see_attempts(self, attempt: NDArray[np.int32]) -> None:
        again = attempt > 1
        if again.any():
            self._tell(
                f"the rig had died while it showed a block, and showed it again: {again.sum()} presentations are "
                f"attempt {attempt.max()}"
            )

    def _see_lost(self, status: NDArray[Any]) -> None:
        self._lost.extend((status != "ok").tolist())
        self._why.extend(status.tolist())
        if len(self._lost) < 10:
            return
        share = sum(self._lost) / len(self._lost)
        step = 0.0
        if self._lost_told:  # by the standard error of the difference, were both shares the mean of the two
            both = (share + self._lost_told) / 2
            step = max(LOST_STEP, LOST_SURE * np.sqrt(2 * both * (1 - both) / len(self._lost)))
        worse = share >= LOST and abs(share - self._lost_told) >= step
        better = self._lost_told > 0 and share < LOST / 2
        if worse or better:
            self._lost_told = share if worse else 0.0
            why = lost_words(self._why)
            words = f"lost trials now {percent(share)} ({sum(self._lost)} of the last {len(self._lost)}"
            self._tell(Notice(f"{words}{': ' if why else ''}{why})", "lost trials", well=better))

    def _see_equipment(self, status: NDArray[Any]) -> None:
        """Counts what goes wrong with monitor and recording: few are told, and again when there are twice as many."""
        self._equipment.extend(status.tolist())
        seen = len(self._equipment)
        for name, (words, look) in EQUIPMENT.items():
            count, told = self._equipment.count(name), self._equipment_told[name]
            worse, better = count >= max(FEW, 2 * told), told > 0 and count <= FEW // 5
            if worse or better:
                self._equipment_told[name] = count if worse else 0
                advice = f"; {look}" if worse else ""
                self._tell(Notice(f"{words}: {count} of the last {seen} presentations{advice}", words, well=better))

    def _see_references(self, names: list[str], responses: FloatArray) -> None:
        for name, now in zip(names, responses, strict=True):
            if np.isnan(now).any():
                continue
            if name in self._first:
                self._pairs.append((self._first[name], now.copy()))
            else:
                self._first[name] = now.copy()
        if len(self._pairs) < REFERENCES // 2:
            return
        then, now_too = np.array(self._pairs)[-REFERENCES:].sum(axis=2).T
        if not then.sum() > 0:
            return
        ratio = now_too.sum() / then.sum()
        error = float(np.sqrt(np.sum((now_too - ratio * then) ** 2)) / then.sum())  # of the ratio, by the delta method
        change = float(ratio - 1)
        if abs(change - self._drift_told) >= max(DRIFT_STEP, SURE * error):
            self._drift_told = change
            words = f"reference drift {percent(change, sign='+')} against their first responses"
            self._tell(Notice(words, "drift", well=abs(change) < DRIFT_STEP))

    def _see_swaps(self, units: Sequence[str]) -> None:
        """Looks for two units each of which answers the references as the other did at first, and not as itself did.

        Fisher's z of a correlation has the standard error 1/√(n - 3); of the four that are added and subtracted here
        twice that.
        """
        n = len(self._pairs)
        if n < SWAP_REFERENCES // 2 or len(units) < 2:
            return
        first, now = (_standardized(values) for values in np.array(self._pairs).swapaxes(0, 1))
        r = first.T @ now / n  # of each unit's first responses with each unit's of now
        z = np.arctanh(np.clip(r, -0.999, 0.999))
        own = np.diag(z)
        far = (z + z.T - own[:, None] - own[None]) * np.sqrt(n - 3) / 2
        for i, j in zip(*np.nonzero(np.triu((far > SWAP_SURE) & (np.minimum(r, r.T) > ALIKE), 1)), strict=True):
            pair = (int(i), int(j))
            if pair not in self._swapped:
                self._swapped.add(pair)
                words = (
                    f"units {units[i]} and {units[j]} may have changed places: each answers the references as the "
                    f"other did at first (r = {min(r[i, j], r[j, i]):.2f}, with its own {max(r[i, i], r[j, j]):.2f})"
                )
                self._tell(Notice(words, f"places of {units[i]} and {units[j]}"))

    def _see_silence(self, counts: FloatArray, units: Sequence[str]) -> None:
        """Looks for units without a spike for as long as their mean so far makes impossible."""
        if self._known is None:
            self._known = np.zeros((3, counts.shape[1]))
        seen, total, since = self._known  # presentations and spikes until the last spike, presentations since then
        for row in counts:
            fired = row > 0
            seen[fired] += since[fired] + 1
            total += row
            since[:] = np.where(fired, 0, since + 1)
        expected = since * total / np.maximum(seen, 1)
        silent = {int(i) for i in np.flatnonzero((expected > SILENT) & (seen >= KNOWN))}
        if new := sorted(silent - self._silent):
            words = (
                f"{_named(new, units)}: no spike in the last {int(since[new].min())} presentations "
                f"({float((total / np.maximum(seen, 1))[new].min()):.2g} each before)"
            )
            self._tell(Notice(words, SILENT_UNITS))
        elif self._silent and not silent:
            self._tell(Notice(f"{_named(sorted(self._silent), units)}: spikes again", SILENT_UNITS, well=True))
        self._silent = silent

    def _see_snr(self, snr: NDArray[np.float64], units: tuple[str, ...]) -> None:
        if len(self._snr) < FIRST_BLOCKS:
            self._snr.append(snr)
            return
        first = np.median(np.stack(self._snr), axis=0)
        known = np.isfinite(first) & np.isfinite(snr) & (first > 0)
        fell = set(np.flatnonzero(known & (snr < FELL * first)).tolist())
        if new := sorted(fell - self._faded):
            worst = min(new, key=lambda unit: snr[unit] / first[unit])
            which = f"the worst, {units[worst]}, " if len(new) > 1 else ""
            several = f"SNR of {_named(new, units)} fell"
            words = f"{several}{', ' if which else ' '}{which}from {first[worst]:.2g} to {snr[worst]:.2g}"
            self._tell(Notice(words, f"SNR of {_named(new, units)}"))
        back = set(np.flatnonzero(known & (snr > BACK * first)).tolist())
        self._faded = (self._faded | fell) - back


def _standardized(values: FloatArray) -> FloatArray:
    """Returns columns with mean 0 and variance 1; 0 where a column does not vary."""
    centered = values - values.mean(axis=0)
    sd = values.std(axis=0)
    return np.asarray(np.where(sd > 0, centered / np.where(sd > 0, sd, 1), 0))


def _named(which: Sequence[int], units: Sequence[str]) -> str:
    """Returns "unit a", "units a, b", or the first of many with how many more there are."""
    more = f" and {len(which) - NAMED} more" if len(which) > NAMED else ""
    return f"unit{'s' if len(which) > 1 else ''} {', '.join(units[i] for i in which[:NAMED])}{more}"
