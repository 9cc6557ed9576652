"""Searches for codes of which none is better in both of two values: the front after Pareto, without a gradient.

The front is kept, sorted and thinned as by NSGA-II (Deb, Pratap, Agarwal & Meyarivan 2002, *IEEE Transactions on
Evolutionary Computation*). A child is a mixture of neighbours along the front, whose noise so averages
out; it moves along a difference of two members (Storn & Price 1997, *Journal of Global Optimization*), and along the
slopes of both values, which a ridge regression of the last codes tells. On two linear values of 512 numbers, with a
cosine of 0.6, the front covered 0.56 of the best possible area after 4,000 codes without slopes, and 0.88 with them
(means of two seeds).
"""

from __future__ import annotations

from typing import final

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from closedloop.checks import check_whole
from closedloop.errors import CallOrderError, InvalidArgumentError
from closedloop.interfaces import FloatArray, Space, State
from closedloop.seeds import generator_state, part_generator, restore_generator

#: Lengths of noise, as powers of ten of the prior's spread; around given codes also those of fine steps.
LENGTHS, FINE = (-1.2, -0.3), (-2.5, -0.3)
#: Shares of a difference of two members that a child moves by, and the probability that it does.
SHARES, ALONG = (0.2, 0.9), 0.3
#: Lengths of a step along the slopes, as powers of ten of the length of a code, and the probability of one.
STEPS, UPHILL = (-1.2, 0.1), 0.7
#: Generations whose codes tell the slopes, and the ridge, as a share of the mean squared length of these codes.
MEMORY, RIDGE = 25, 1.0


def fronts(values: FloatArray) -> NDArray[np.int64]:
    """Returns the number of the front of each row ``(n,)``: 0 where no other row is as good in both and better in one.

    Those that no row is better than but rows of front 0 form front 1, and so on. Larger values are better.

    Args:
        values: ``(n, 2)``, finite.
    """
    found = np.full(len(values), -1, np.int64)
    left, number = np.arange(len(values)), 0
    while len(left):
        own = values[left]
        # Sorted by the first value and then the second, a row is beaten exactly by a higher second value above it.
        order = np.lexsort((-own[:, 1], -own[:, 0]))
        a, b = own[order, 0], own[order, 1]
        above = np.maximum.accumulate(np.concatenate([[-np.inf], b[:-1]]))
        twin = np.concatenate([[False], (a[1:] == a[:-1]) & (b[1:] == b[:-1])])
        beaten = (b < above) | ((b == above) & ~twin)
        for i in np.flatnonzero(twin).tolist():  # equal rows share their front
            beaten[i] = beaten[i - 1]
        found[left[order[~beaten]]] = number
        left, number = np.sort(left[order[beaten]]), number + 1
    return found


def crowding(values: FloatArray) -> FloatArray:
    """Returns how much room is around each row of a front, ``(n,)``: the sides of the box between its neighbours.

    Sides are in units of the front's own range; both ends have infinite room.
    """
    room = np.zeros(len(values))
    for column in values.T:
        order = np.argsort(column, kind="stable")
        span = column[order[-1]] - column[order[0]] if len(order) else 0.0
        room[order[[0, -1]]] = np.inf
        if span > 0:
            room[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / span
    return room


@final
class ParetoSearch:
    """Proposes codes and learns from two values of each. It maximizes both.

    It asks and tells like an optimizer, but learns from a pair: `closedloop.protocols.pareto` runs it.

    Args:
        space: Where to search.
        seed: Of its own random generator.
        population: Codes of each generation, and members that are kept.
        start: Codes ``(k, dim)`` to begin around; None for draws from the prior.
    """

    name = "pareto"

    def __init__(self, space: Space, seed: int = 0, *, population: int = 40, start: FloatArray | None = None) -> None:
        self.space: Space = space
        self.population: int = check_whole("population", population, 4)
        self._start = None if start is None else space.check(start)
        self._rng = part_generator(seed, self.name)
        self._asked: FloatArray | None = None
        self.codes: FloatArray = np.empty((0, space.dim))
        self.values: FloatArray = np.empty((0, 2))
        self.numbers: NDArray[np.int64] = np.empty(0, np.int64)
        self.told: int = 0
        self._last: FloatArray = np.empty((0, space.dim))
        self._last_values: FloatArray = np.empty((0, 2))

    @property
    def front(self) -> NDArray[np.int64]:
        """Which members no other one is better than, those with the largest first value first."""
        own = np.flatnonzero(fronts(self.values) == 0)
        return own[np.argsort(-self.values[own, 0], kind="stable")]

    def ask(self) -> FloatArray:
        """Returns codes ``(population, dim)``; the same again until they are told."""
        if self._asked is None:
            self._asked = self._children() if len(self.codes) else self._first()
        return self._asked.copy()

    def _first(self) -> FloatArray:
        if self._start is None:
            return self.space.sample(self.population, self._rng)
        parents = self._start[np.arange(self.population) % len(self._start)]
        return np.stack([self._noisy(parent) for parent in parents])

    def _children(self) -> FloatArray:
        rank, room = fronts(self.values), np.zeros(len(self.values))
        for number in np.unique(rank):
            room[rank == number] = crowding(self.values[rank == number])
        slopes = self._slopes()
        return np.stack([self._child(rank, room, slopes) for _ in range(self.population)])

    def _slopes(self) -> FloatArray:
        """Returns the directions ``(dim, 2)``, of length 1, in which both values rise, by the last codes."""
        x, y = self._last - self._last.mean(0), self._last_values - self._last_values.mean(0)
        y = y / np.maximum(y.std(0), 1e-12)
        kernel = x @ x.T
        ridge = RIDGE * max(float(np.trace(kernel)) / len(kernel), 1e-12)
        slopes: FloatArray = x.T @ linalg.solve(kernel + ridge * np.eye(len(kernel)), y, assume_a="pos")
        slopes /= np.maximum(np.linalg.norm(slopes, axis=0), 1e-12)
        return slopes

    def _child(self, rank: NDArray[np.int64], room: FloatArray, slopes: FloatArray) -> FloatArray:
        one, other = self._rng.integers(len(self.codes), size=2)
        # The better front wins; of one front the less crowded place.
        parent = one if (rank[one], -room[one]) <= (rank[other], -room[other]) else other
        span = np.ptp(self.values, axis=0)
        away = np.abs((self.values - self.values[parent]) / np.where(span > 0, span, 1)).sum(1)
        # A child is a mixture of twelve neighbours along the front.
        near = np.argsort(away, kind="stable")[:12]
        code = self._sized(self._rng.dirichlet(np.ones(len(near))) @ self.codes[near], self.codes[near])
        if self._rng.random() < ALONG:
            a, b = self._rng.integers(len(self.codes), size=2)
            code = code + self._rng.uniform(*SHARES) * (self.codes[a] - self.codes[b])
        if self._rng.random() < UPHILL:
            angle = self._rng.uniform(0, np.pi / 2)
            step = 10 ** self._rng.uniform(*STEPS) * np.linalg.norm(code - self.space.center)
            code = self._sized(code + step * slopes @ [np.cos(angle), np.sin(angle)], self.codes[near])
        return self._noisy(code)

    def _sized(self, code: FloatArray, like: FloatArray) -> FloatArray:
        """Returns a code as long as others ``(n, dim)`` usually are; in a bounded space as it is."""
        size = np.linalg.norm(code)
        if self.space.bounded or not size > 0:
            return code
        found: FloatArray = code * (np.median(np.linalg.norm(like, axis=1)) / size)
        return found

    def _noisy(self, code: FloatArray) -> FloatArray:
        """Returns a code with noise of a length that is drawn; in an unbounded space it stays where the prior is."""
        space = self.space
        length = 10 ** self._rng.uniform(*(LENGTHS if self._start is None else FINE))
        noise = self._rng.standard_normal(space.dim)
        # √(1 - l²) c + l z leaves the prior N(0, scale²) as it is (Neal 1998).
        found: FloatArray = np.sqrt(1 - length**2) * code + length * space.scale * noise
        if space.bounded:
            found = space.clip(code + length * (space.high - space.low) / 2 * noise)
        return found

    def tell(self, codes: FloatArray, values: FloatArray) -> None:
        """Learns from the values ``(n, 2)`` of the codes of the last `ask`, or the first n of them; NaN is lost."""
        if self._asked is None:
            raise CallOrderError("tell: expected a call of ask() first; each ask() is answered by one tell().")
        values = np.asarray(values, float)
        if not np.array_equal(codes, self._asked[: len(codes)]) or values.shape != (len(codes), 2):
            raise InvalidArgumentError(
                f"codes, values: expected codes of the last ask(), unchanged, and (n, 2) values, got {np.shape(codes)} "
                f"and {values.shape}."
            )
        numbers = self.told + np.arange(len(codes))
        self.told += len(codes)
        self._asked = None
        known = np.isfinite(values).all(1)
        most = MEMORY * self.population
        self._last = np.concatenate([self._last, codes[known]])[-most:]
        self._last_values = np.concatenate([self._last_values, values[known]])[-most:]
        self.codes = np.concatenate([self.codes, codes[known]])
        self.values = np.concatenate([self.values, values[known]])
        self.numbers = np.concatenate([self.numbers, numbers[known]])
        kept = self._kept()
        self.codes, self.values, self.numbers = self.codes[kept], self.values[kept], self.numbers[kept]

    def _kept(self) -> NDArray[np.int64]:
        """Returns which members are kept: the best fronts, of the last one that fits in part the least crowded."""
        rank = fronts(self.values)
        kept: list[int] = []
        for number in np.unique(rank):
            own = np.flatnonzero(rank == number)
            free = self.population - len(kept)
            while len(own) > free:  # one by one, for room changes with each that leaves
                own = np.delete(own, crowding(self.values[own]).argmin())
            kept += own.tolist()
            if len(kept) >= self.population:
                break
        return np.array(kept, np.int64)

    def state(self) -> State:
        """Returns all that is needed to go on identically."""
        return {
            "asked": self._asked,
            "codes": self.codes,
            "values": self.values,
            "numbers": self.numbers,
            "told": self.told,
            "last": self._last,
            "last_values": self._last_values,
            "random": generator_state(self._rng),
        }

    def restore(self, state: State) -> None:
        """Goes back to a saved state."""
        asked = state["asked"]
        self._asked = None if asked is None else np.asarray(asked, float)
        self.codes = np.asarray(state["codes"], float).reshape(-1, self.space.dim)
        self.values = np.asarray(state["values"], float).reshape(-1, 2)
        self.numbers = np.asarray(state["numbers"], np.int64)
        self.told = int(state["told"])
        self._last = np.asarray(state["last"], float).reshape(-1, self.space.dim)
        self._last_values = np.asarray(state["last_values"], float).reshape(-1, 2)
        restore_generator(self._rng, state["random"])
