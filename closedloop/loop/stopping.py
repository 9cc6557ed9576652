"""When to stop before the budget is used up. A rule is a function of what has been scored so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, final

import numpy as np

from closedloop.checks import is_number, is_whole
from closedloop.errors import InvalidArgumentError
from closedloop.readable import percent


class Scored(NamedTuple):
    """The scores of one thread in one generation.

    Attributes:
        best: Highest score in the generation, NaN if all were lost.
        mean: Mean score.
        images: Evolved presentations of this thread up to and with this generation.
    """

    best: float
    mean: float
    images: int


class StoppingRule(Protocol):
    """Looks at the generations of one thread, oldest first, and gives a reason to stop or None."""

    def __call__(self, history: Sequence[Scored]) -> str | None:
        """Returns a sentence for the record, or None to go on."""
        ...


@final
@dataclass(frozen=True)
class Plateau:
    """Stops when the generation mean has not risen for a while.

    The mean, not the best: the best of a noisy generation is a matter of luck.

    Attributes:
        generations: Length of the two windows that are compared, the last one and the one before.
        gain: Relative rise of the window mean that counts as progress.
    """

    generations: int = 25
    gain: float = 0.01

    def __post_init__(self) -> None:
        whole = is_whole(self.generations) and self.generations >= 2
        if not whole or not is_number(self.gain) or not 0 <= self.gain < np.inf:
            raise InvalidArgumentError(
                f"Plateau: expected generations >= 2 and gain >= 0, got {self.generations!r:.80} and {self.gain!r:.80}."
            )

    def __call__(self, history: Sequence[Scored]) -> str | None:
        """Returns a reason once two whole windows differ by less than `gain`."""
        if len(history) < 2 * self.generations:
            return None
        means = np.array([s.mean for s in history[-2 * self.generations :]])
        windows = [w[~np.isnan(w)] for w in (means[: self.generations], means[self.generations :])]
        if any(len(w) == 0 for w in windows):
            return None  # all lost: nothing is known
        before, after = windows[0].mean(), windows[1].mean()
        if after - before > self.gain * abs(before):
            return None
        return f"plateau: the mean rose by less than {percent(self.gain, 1)} over {self.generations} generations"


@final
@dataclass(frozen=True)
class Target:
    """Stops when the mean of a generation reaches a score.

    Attributes:
        score: The score to reach.
    """

    score: float

    def __post_init__(self) -> None:
        if not is_number(self.score) or not np.isfinite(self.score):
            raise InvalidArgumentError(f"Target: expected a finite score, got {self.score!r:.80}.")

    def __call__(self, history: Sequence[Scored]) -> str | None:
        """Returns a reason once the last generation's mean is at the target."""
        if history and history[-1].mean >= self.score:
            return f"target: the generation mean reached {self.score:g}"
        return None
