"""CMA-ES by pycma (Hansen 2016), full or diagonal covariance, with an exact saved state.

pycma minimizes, draws from numpy's global random state and keeps its state in a web of objects. Here it maximizes,
draws from a random generator of its own, and its state is saved as plain arrays and brought back exactly.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, final

import numpy as np

from closedloop.checks import check_positive
from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import FloatArray, Space, State
from closedloop.optimizers.base import (
    averaged,
    check_population,
    check_start,
    check_state,
    check_tell,
)
from closedloop.readable import ReadableOptimizer
from closedloop.seeds import generator_state, part_generator, restore_generator
from closedloop.signatures import at_door

#: Attributes of a pycma strategy that change from generation to generation; all else follows from its options.
_STRATEGY = (
    "sigma",  # σ
    "mean",  # m
    "mean_old",
    "mean_old_old",
    "mean_after_tell",
    "pc",  # p_c, the path of the covariance (Hansen 2016, eq. 45)
    "pc2",
    "pc_neg",
    "countiter",
    "countevals",
    "itereigenupdated",
    "count_eigen",
    "noiseS",
    "hsiglist",  # h_σ of the last generations
    "_sigma_old",
    "_isotropic_mean_shift",
    "_isotropic_mean_shift_iteration",
    "number_of_solutions_asked",
    "number_of_injections_delivered",
    "pop_injection_directions",
    "_is_independent_sample",
    "_flgtelldone",
)
#: Its objects that change as well: the sampler with the covariance, the step-size adaptation, the last ranking.
_PARTS = ("sm", "adapt_sigma", "fit")


def _plain(value: Any) -> bool:
    """Tells whether a value can be saved as it is."""
    if isinstance(value, list):
        return all(_plain(v) for v in value)
    if isinstance(value, dict):
        return all(isinstance(k, str) and _plain(v) for k, v in value.items())
    return value is None or isinstance(value, (bool, int, float, str, np.ndarray, np.generic))


def _copy(value: Any) -> Any:
    """Copies a plain value, with numpy scalars as numpy arrays stay: type and bits unchanged."""
    if isinstance(value, np.ndarray):
        return value.copy(order="K")  # a matrix in another order is multiplied with other rounding
    if isinstance(value, list):
        return [_copy(v) for v in value]
    if isinstance(value, dict):
        return {k: _copy(v) for k, v in value.items()}
    return value.item() if isinstance(value, np.generic) else value


@contextmanager
def _unwarned() -> Iterator[None]:
    """Silences pycma's warnings: they speak of options set on purpose, and of samples that it corrects itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@final
class CMAES(ReadableOptimizer):
    """Covariance matrix adaptation evolution strategy.

    Args:
        space: Where to search. Bounds are kept by pycma's boundary transformation.
        seed: Seed of its own random generator.
        covariance: ``"full"``, ``"diagonal"``, or ``"auto"``: full up to 1024 dimensions.
        population: Samples for each generation, λ; default pycma's 4 + 3 ln(dim).
        sigma: First step size in units of the space's prior standard deviation.
        start: First mean ``(dim,)``; default the middle of the prior.
    """

    needs_gradient = False

    @at_door
    def __init__(
        self,
        space: Space,
        seed: int = 0,
        *,
        covariance: str = "auto",
        population: int | None = None,
        sigma: float = 1.0,
        start: FloatArray | None = None,
    ) -> None:
        if covariance not in ("auto", "full", "diagonal"):
            raise InvalidArgumentError(f"covariance: expected 'auto', 'full' or 'diagonal', got {covariance!r}.")
        check_population(population, 4)
        check_positive("sigma", sigma)
        if covariance == "auto":
            covariance = "full" if space.dim <= 1024 else "diagonal"  # 8 · dim² bytes, and several copies of them
        self.space = space
        self.covariance = covariance
        self.name = "cma" if covariance == "full" else "cma-diagonal"
        self._rng = part_generator(seed, "optimizer CMAES")
        self._first = (check_start(start, space), sigma * space.scale, population)
        self._es = self._strategy(*self._first)
        self.population: int = self._es.sp.popsize
        self._options: dict[str, Any] = {
            "seed": seed,
            "covariance": covariance,
            "population": self.population,
            "sigma": sigma,
        }
        self._options |= {} if start is None else {"start": self._first[0].tolist()}
        self._asked: FloatArray | None = None
        self._before: State | None = None
        self._average: FloatArray | None = None
        self._moves = 0

    def _strategy(self, start: FloatArray, sigma: float, population: int | None) -> Any:
        """Makes a strategy of pycma before its first generation; every draw comes from this optimizer's generator."""
        import cma  # with matplotlib and scipy.stats behind it: seconds that other optimizers need not wait for

        options: dict[str, Any] = {
            "randn": lambda *shape: self._rng.standard_normal(shape),
            "seed": np.nan,
            "verbose": -9,
            "CMA_diagonal": self.covariance == "diagonal",
            "bounds": [self.space.low, self.space.high] if self.space.bounded else [None, None],
            **({} if population is None else {"popsize": int(population)}),
        }
        with _unwarned():
            return cma.CMAEvolutionStrategy(start, sigma, options)

    @property
    def recipe(self) -> Mapping[str, Any]:
        """How `load_optimizer` makes it again."""
        return {"name": self.name, **self._options}

    def ask(self) -> FloatArray:
        """Draws λ codes ``(λ, dim)`` from N(m, σ² C); the same again until they are told."""
        if self._asked is None:
            self._before = self._snapshot()
            with _unwarned():
                self._asked = np.asarray(self._es.ask(), dtype=float)
        return self._asked.copy()

    def tell(self, codes: FloatArray, scores: FloatArray, gradients: FloatArray | None = None) -> None:
        """Updates mean, step size and covariance.

        A lost code takes part as the mean itself, in the middle of the ranking: it moves nothing.
        """
        codes, scores = check_tell(self._asked, codes, scores)
        self._asked, self._before = None, None
        lost = np.isnan(scores)
        if lost.all():
            self._es._flgtelldone = True
            self._es.number_of_solutions_asked = 0
            return
        costs = np.where(lost, -np.median(scores[~lost]), -scores)  # pycma minimizes
        center = self._mean()
        told = [center.copy() if gone else code.copy() for gone, code in zip(lost, codes, strict=True)]
        with _unwarned():
            self._es.tell(told, costs.tolist())
        self._average = averaged(self._average, self._mean(), self._moves)
        self._moves += 1

    def _mean(self) -> FloatArray:
        """Returns the mean m as a code ``(dim,)``."""
        return np.array(self._es.gp.pheno(self._es.mean, into_bounds=self._es.boundary_handler.repair), dtype=float)

    def recommend(self, n: int) -> FloatArray:
        """Returns the mean, then the average of the last means, ``(≤ n, dim)``; none before it has learnt."""
        if self._average is None:
            return np.empty((0, self.space.dim))
        return self.space.clip(np.stack([self._mean(), self._average])[:n])

    def state(self) -> State:
        """Returns mean, step size, covariance, paths and random generator as they were before a pending `ask`.

        Drawing the pending codes again brings back all that pycma remembers of them until `tell`.
        """
        snapshot = self._snapshot() if self._before is None else _copy(self._before)
        means = {"average": _copy(self._average), "moves": self._moves}
        return {**snapshot, **means, "pending": self._asked is not None, "dim": self.space.dim}

    def _snapshot(self) -> State:
        """Copies all of the strategy that changes, and the random generator."""
        es = self._es
        parts = {name: _plain_attributes(getattr(es, name)) for name in _PARTS}
        return {
            "strategy": {k: _copy(getattr(es, k)) for k in _STRATEGY if hasattr(es, k)},
            "sigma_vec": _plain_attributes(es.sigma_vec),
            # Above a condition number of 1e12 pycma moves the covariance into a linear map from samples to codes.
            "transform": {k: _copy(v) for k, v in vars(es.gp).items() if k in ("_tf_matrix", "_tf_matrix_inv")},
            **parts,
            "rng": generator_state(self._rng),
        }

    def restore(self, state: State) -> None:
        """Goes back to a saved state; see `AskTell.restore`."""
        check_state(self.name, state, ("strategy", *_PARTS, "sigma_vec", "pending"), self.space.dim)
        es = self._es = self._strategy(*self._first)
        if state["strategy"]["countiter"] > 0:
            es.tell(es.ask(), [0.0] * self.population)  # pycma makes some of its parts in the first generation
        for name, value in state["strategy"].items():
            setattr(es, name, _copy(value))
        for name in (*_PARTS, "sigma_vec"):
            for key, value in state[name].items():
                setattr(getattr(es, name), key, _copy(value))
        for name in ("C", "B", "D", "dC"):  # the covariance, its axes and their lengths: the sampler's own arrays
            if hasattr(es.sm, name):
                setattr(es, name, getattr(es.sm, name))
        if state["transform"]:
            for name, value in state["transform"].items():
                setattr(es.gp, name, _copy(value))
            es.gp.tf_pheno, es.gp.tf_geno, es.gp.isidentity = es._tfp, es._tfg, False
        self._asked, self._before = None, None
        # A state of an older version has no average, and recommends nothing yet.
        self._average, self._moves = _copy(state.get("average")), int(state.get("moves", 0))
        restore_generator(self._rng, state["rng"])
        if state["pending"]:
            self.ask()


def _plain_attributes(part: Any) -> State:
    """Copies the attributes of one of pycma's objects that are plain values."""
    return {k: _copy(v) for k, v in vars(part).items() if _plain(v)}


def diagonal_cmaes(
    space: Space,
    seed: int = 0,
    *,
    covariance: str = "diagonal",
    population: int | None = None,
    sigma: float = 1.0,
    start: FloatArray | None = None,
) -> CMAES:
    """Makes a `CMAES` with a diagonal covariance: O(dim) memory."""
    if covariance != "diagonal":
        raise InvalidArgumentError(f"covariance: expected 'diagonal' for cma-diagonal, got {covariance!r}.")
    return CMAES(space, seed, covariance=covariance, population=population, sigma=sigma, start=start)
