"""Population control: one site high, one high and the others at their baseline, or a wanted pattern.

Bashivan, Kar & DiCarlo 2019, *Science*: "stretch" drives one site as high as it goes; "one-hot" also holds the others
at their baseline. Sites differ in their range, so responses are measured from a baseline in units of a scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from closedloop.checks import check_positive, real_numbers
from closedloop.errors import InvalidArgumentError
from closedloop.objectives.algebra import Linear, Term
from closedloop.objectives.linear import Unit
from closedloop.objectives.nonlinear import LogProbability
from closedloop.objectives.selecting import by_column, one_column, selected, several_columns


def Stretch(column: int) -> Linear:  # noqa: N802 - reads as the noun it makes
    """Returns the response of one site, to be driven as high as it goes; the same as `Unit`."""
    return Unit(column)


@final
@dataclass(frozen=True)
class OneHot(Term):
    """One site high and the others at their baseline: log-softmax over sites of (response - baseline) / scale.

    Attributes:
        column: The site that is to be high.
        sites: All sites, this one included; None for all units.
        baselines: Response of each site where nothing drives it, such as its mean over natural images, in the order of
            `sites`; None for 0.
        scales: Range of each site, such as its standard deviation over natural images; None for 1.
    """

    column: int
    sites: tuple[int, ...] | None = None
    baselines: tuple[float, ...] | None = None
    scales: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        among = LogProbability(self.column, self.sites).among
        object.__setattr__(self, "column", one_column(self.column))
        object.__setattr__(self, "sites", among)
        for name in ("baselines", "scales"):
            object.__setattr__(self, name, _numbers(name, getattr(self, name), among, positive=name == "scales"))

    def __call__(self, responses: Any, images: Any = None) -> Any:
        """Turns responses ``(n, units[, time])`` into scores ``(n,)``, at most 0."""
        x = selected(responses, self.sites, self.describe)
        place = self.column if self.sites is None else self.sites.index(self.column)
        return LogProbability(place)(_standardized(x, self.baselines, self.scales))

    def describe(self) -> str:
        """Writes ``onehot(3)``, or ``onehot(3, [3, 7], baselines=[0.5, 1.0], scales=[2.0, 1.0])``."""
        sites = "" if self.sites is None else f", {list(self.sites)}"
        return f"onehot({self.column}{sites}{_named(self.baselines, self.scales)})"

    @property
    def columns(self) -> tuple[int, ...] | None:
        """All sites."""
        return self.sites

    def moved(self, columns: Sequence[int]) -> OneHot:
        """Returns the same sites at their new places."""
        sites = tuple(columns) if self.sites is None else tuple(columns[c] for c in self.sites)
        return OneHot(columns[self.column], sites, self.baselines, self.scales)


@final
@dataclass(frozen=True)
class Pattern(Term):
    """A wanted vector of responses: minus the mean squared distance from it, in units of each site's scale.

    Attributes:
        wanted: Response of each site; by column, or ``(sites,)`` for the first columns.
        scales: Range of each site, in the order of `wanted`; None for 1.
    """

    wanted: Mapping[int, float] | Sequence[float]
    scales: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        wanted = by_column(self.wanted, "pattern")
        object.__setattr__(self, "wanted", wanted)
        object.__setattr__(self, "scales", _numbers("scales", self.scales, tuple(wanted), positive=True))

    @property
    def _by_column(self) -> dict[int, float]:
        return dict(self.wanted if isinstance(self.wanted, Mapping) else enumerate(self.wanted))

    def __call__(self, responses: Any, images: Any = None) -> Any:
        """Turns responses ``(n, units[, time])`` into scores ``(n,)``: 0 where the pattern is met, else less."""
        x = selected(responses, self.columns, self.describe)
        away = _standardized(x, tuple(self._by_column.values()), self.scales)
        return -(away * away).mean(1)

    def describe(self) -> str:
        """Writes ``pattern([0.5, 1.0])``, or ``pattern({3: 1.0, 7: 0.0}, scales=[2.0, 1.0])``."""
        by_column = self._by_column
        plain = list(by_column) == list(range(len(by_column)))
        shown = list(by_column.values()) if plain else by_column
        return f"pattern({shown!r}{_named(None, self.scales)})"

    @property
    def columns(self) -> tuple[int, ...]:
        """The sites that have a wanted response."""
        return tuple(self._by_column)

    def moved(self, columns: Sequence[int]) -> Pattern:
        """Returns the same pattern on ``columns[i]`` instead of i."""
        return Pattern({columns[c]: v for c, v in self._by_column.items()}, self.scales)


@final
@dataclass(frozen=True)
class Controversial(Term):
    """One response high and another one not above its baseline: z_a - 2 max(z_b, 0).

    Responses are those of two models of one unit, in standard deviations over natural images. What drives both alike
    scores below 0, and how far the second falls below its baseline does not matter: many units are silent there.

    Attributes:
        column: The response that is to be high.
        against: The one that is not.
        baselines: Mean of each over natural images, `column` first; None for 0.
        scales: Standard deviation of each, likewise; None for 1.
    """

    column: int
    against: int
    baselines: tuple[float, ...] | None = None
    scales: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        both = several_columns([self.column, self.against], "controversial")
        object.__setattr__(self, "column", both[0])
        object.__setattr__(self, "against", both[1])
        for name in ("baselines", "scales"):
            object.__setattr__(self, name, _numbers(name, getattr(self, name), both, positive=name == "scales"))

    def __call__(self, responses: Any, images: Any = None) -> Any:
        """Turns responses ``(n, units[, time])`` into scores ``(n,)``."""
        z = _standardized(selected(responses, self.columns, self.describe), self.baselines, self.scales)
        return z[:, 0] - 2 * z[:, 1].clip(min=0)

    def describe(self) -> str:
        """Writes ``controversial(0, 1)``, or ``controversial(0, 1, baselines=[0.5, 1.0], scales=[2.0, 1.0])``."""
        return f"controversial({self.column}, {self.against}{_named(self.baselines, self.scales)})"

    @property
    def columns(self) -> tuple[int, ...]:
        """Both."""
        return self.column, self.against

    def moved(self, columns: Sequence[int]) -> Controversial:
        """Returns the same responses at their new places."""
        return Controversial(columns[self.column], columns[self.against], self.baselines, self.scales)


def _numbers(
    name: str, values: Sequence[float] | None, sites: tuple[int, ...] | None, positive: bool
) -> tuple[float, ...] | None:
    """Returns a number for each site, checked; None where none are given."""
    if values is None:
        return None
    numbers = real_numbers(name, values)
    if numbers.ndim != 1 or not np.isfinite(numbers).all() or (sites is not None and len(numbers) != len(sites)):
        count = "each site" if sites is None else f"each of {len(sites)} sites"
        raise InvalidArgumentError(f"{name}: expected a finite number for {count}, got {values!r:.80}.")
    return tuple(check_positive(name, v) for v in numbers.tolist()) if positive else tuple(numbers.tolist())


def _standardized(x: Any, baselines: Sequence[float] | None, scales: Sequence[float] | None) -> Any:
    """Returns (x - baseline) / scale, for arrays and tensors ``(n, sites)``."""
    for name, values in (("baselines", baselines), ("scales", scales)):
        if values is not None and len(values) != x.shape[1]:
            raise InvalidArgumentError(f"{name}: expected a number for each of {x.shape[1]} sites, got {len(values)}.")
    like = np.asarray if isinstance(x, np.ndarray) else x.new_tensor
    x = x if baselines is None else x - like(list(baselines))
    return x if scales is None else x / like(list(scales))


def _named(baselines: Sequence[float] | None, scales: Sequence[float] | None) -> str:
    """Writes numbers of sites as arguments by name."""
    given = (("baselines", baselines), ("scales", scales))
    return "".join(f", {name}={list(values)!r}" for name, values in given if values is not None)
