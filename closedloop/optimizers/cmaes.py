"""CMA-ES by pycma (Hansen 2016), full or diagonal covariance, with an exact saved state.

pycma minimizes, draws from numpy's global random state and keeps its state in a web of objects. Here it maximizes,
draws from a random generator of its own, and its state is saved as plain arrays and brought back exactly.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, final

import cma
import numpy as np

from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import FloatArray, Space, State
from closedloop.optimizers.base import (
    check_population,
    check_positive,
    check_start,
    check_tell,
)
from closedloop.seeds import generator_state, restore_generator

#: Above this dimension the full covariance (8 · dim² bytes, several copies) is left for the diagonal one.
FULL_LIMIT = 1024
#: Parts of a pycma strategy that change from generation to generation; all else follows from its options.
_STRATEGY = (
    "sigma", "mean", "mean_old", "mean_old_old", "mean_after_tell", "pc", "pc2", "pc_neg", "countiter", "countevals",
    "itereigenupdated", "count_eigen", "noiseS", "hsiglist", "_sigma_old", "_isotropic_mean_shift",
    "_isotropic_mean_shift_iteration", "number_of_solutions_asked", "number_of_injections_delivered",
    "_is_independent_sample", "_flgtelldone",
)  # fmt: skip
_PARTS = ("sm", "adapt_sigma", "fit")
_COVARIANCE = ("C", "B", "D", "dC")


def _plain(value: Any) -> bool:
    """Whether a value can be saved as it is."""
    if isinstance(value, list):
        return all(_plain(v) for v in value)
    if isinstance(value, dict):
        return all(isinstance(k, str) and _plain(v) for k, v in value.items())
    return value is None or isinstance(value, (bool, int, float, str, np.ndarray, np.generic))


def _copy(value: Any) -> Any:
    """A copy of a plain value, with numpy scalars as numpy arrays stay: type and bits unchanged."""
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, list):
        return [_copy(v) for v in value]
    if isinstance(value, dict):
        return {k: _copy(v) for k, v in value.items()}
    return value.item() if isinstance(value, np.generic) else value


@final
class CMAES:
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
            covariance = "full" if space.dim <= FULL_LIMIT else "diagonal"
        self.space = space
        self.covariance = covariance
        self.name = "cma" if covariance == "full" else "cma-diagonal"
        self._rng = np.random.default_rng(seed)
        self._es = self._strategy(check_start(start, space), sigma * space.scale, population)
        self.population: int = self._es.sp.popsize
        self._options = {"seed": seed, "covariance": covariance, "population": self.population, "sigma": sigma}
        self._asked: FloatArray | None = None

    def _strategy(self, start: FloatArray, sigma: float, population: int | None) -> Any:
        options = {
            "randn": lambda *shape: self._rng.standard_normal(shape),
            "seed": np.nan,
            "verbose": -9,
            "CMA_diagonal": self.covariance == "diagonal",
            "bounds": [self.space.low, self.space.high] if self.space.bounded else [None, None],
            **({} if population is None else {"popsize": int(population)}),
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pycma speaks of options that are set on purpose
            return cma.CMAEvolutionStrategy(start, sigma, options)

    @property
    def recipe(self) -> Mapping[str, Any]:
        """How `load_optimizer` makes it again."""
        return {"name": self.name, **self._options}

    def ask(self) -> FloatArray:
        """Draws λ codes ``(λ, dim)`` from N(m, σ² C)."""
        self._asked = np.asarray(self._es.ask(), dtype=float)
        return self._asked.copy()

    def tell(self, codes: FloatArray, scores: FloatArray, gradients: FloatArray | None = None) -> None:
        """Updates mean, step size and covariance.

        A lost code takes part as the mean itself, in the middle of the ranking: it moves nothing.
        """
        codes, scores = check_tell(self._asked, codes, scores)
        self._asked = None
        lost = np.isnan(scores)
        if lost.all():
            self._es._flgtelldone = True
            self._es.number_of_solutions_asked = 0
            return
        costs = np.where(lost, -np.median(scores[~lost]), -scores)
        center = self._es.gp.pheno(self._es.mean, into_bounds=self._es.boundary_handler.repair)
        told = [center.copy() if gone else code.copy() for gone, code in zip(lost, codes, strict=True)]
        self._es.tell(told, costs.tolist())

    def state(self) -> State:
        """Mean, step size, covariance, paths, pending codes and random generator."""
        es = self._es
        parts = {name: _plain_attributes(getattr(es, name)) for name in _PARTS}
        return {
            "strategy": {k: _copy(getattr(es, k)) for k in _STRATEGY if hasattr(es, k)},
            "sigma_vec": _plain_attributes(es.sigma_vec),
            **parts,
            "asked": None if self._asked is None else self._asked.copy(),
            "rng": generator_state(self._rng),
        }

    def restore(self, state: State) -> None:
        """Goes back to a saved state."""
        es = self._es
        if state["strategy"]["countiter"] > 0 and es.countiter == 0:
            es.tell(es.ask(), [0.0] * self.population)  # pycma makes some of its parts in the first generation
        for name, value in state["strategy"].items():
            setattr(es, name, _copy(value))
        for name in (*_PARTS, "sigma_vec"):
            for key, value in state[name].items():
                setattr(getattr(es, name), key, _copy(value))
        for name in _COVARIANCE:
            if hasattr(es.sm, name):
                setattr(es, name, getattr(es.sm, name))
        self._asked = None if state["asked"] is None else np.array(state["asked"])
        restore_generator(self._rng, state["rng"])


def _plain_attributes(part: Any) -> State:
    """The attributes of one of pycma's objects that are plain values, copied."""
    return {k: _copy(v) for k, v in vars(part).items() if _plain(v)}


def diagonal_cmaes(space: Space, seed: int = 0, **options: Any) -> CMAES:
    """`CMAES` with a diagonal covariance: O(dim) memory."""
    return CMAES(space, seed, **{**options, "covariance": "diagonal"})
