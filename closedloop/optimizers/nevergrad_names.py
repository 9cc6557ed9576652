"""Any optimizer of nevergrad by name: ``load_optimizer("nevergrad:DiagonalCMA", space, images=3000)``.

Source: Rapin & Teytaud 2018, "Nevergrad - A gradient-free optimization platform". Needs
``pip install 'closedloop[nevergrad]'``.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

import numpy as np

from closedloop.checks import check_positive
from closedloop.errors import InvalidArgumentError, OptimizerError, UnknownNameError, closest, require
from closedloop.interfaces import FloatArray, Space, State
from closedloop.optimizers.base import AskTell, check_budget, check_population

nevergrad = require("nevergrad", "nevergrad", "optimizer 'nevergrad'")


@contextmanager
def _unwarned() -> Iterator[None]:
    """Without the warnings of the many packages behind nevergrad's names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@final
class Nevergrad(AskTell):
    """One of nevergrad's optimizers, minimizing the negative score.

    Its objects cannot be saved without running code on reading. What is saved are the scores so far; since its draws
    come from the seed alone, asking and telling again brings it back exactly, in the time that its own work took.
    Lost codes are never told.

    Above 300 dimensions nevergrad 1.0.12 loses step with pycma 4.5 and fails after some 2,000 codes, in "CMA" and in
    what chooses it, such as "NGOpt"; that is an `OptimizerError`, and the loop's record stays whole.

    Args:
        method: Its name in ``nevergrad.optimizers.registry``, such as "CMA", "DiagonalCMA", "NGOpt", "TwoPointsDE".
        space: Where to search. Bounds are kept by nevergrad.
        seed: Seed of its own random generator.
        images: Budget of codes, at least 1; default 3000. Many of its optimizers plan with it.
        population: Codes for each generation, asked for without knowing each other's scores; default 4 + 8 ln(dim),
            70 for 4096 dimensions, the largest population that nevergrad's own CMA takes by itself.
        sigma: First standard deviation of mutations, in units of the space's prior standard deviation.

    Raises:
        UnknownNameError: No such optimizer.
        InvalidArgumentError: It cannot be asked for several codes at a time, or an option does not fit.
    """

    memory = ("told",)

    def __init__(
        self,
        method: str,
        space: Space,
        seed: int = 0,
        *,
        images: int | None = None,
        population: int | None = None,
        sigma: float = 1.0,
    ) -> None:
        check_budget(images)
        check_population(population, 1)
        check_positive("sigma", sigma)
        if not isinstance(method, str):
            raise InvalidArgumentError("nevergrad: expected a method after the colon, for instance 'nevergrad:CMA'.")
        if method not in nevergrad.optimizers.registry:
            raise UnknownNameError(f"nevergrad: no method {method!r}.{closest(method, nevergrad.optimizers.registry)}")
        self.population = 4 + int(8 * np.log(space.dim)) if population is None else int(population)
        super().__init__(space, seed, images=images, population=self.population, sigma=sigma)
        self.name, self.method = f"nevergrad:{method}", method
        # Many of its optimizers choose themselves by the budget, so it is always told one.
        self.images, self.sigma = 3000 if images is None else int(images), sigma
        self._told: FloatArray = np.empty((0, self.population))
        self._inner = self._build()
        self._candidates: list[Any] = []

    @property
    def budget(self) -> int | None:
        """The codes that it was told it may ask for; None as long as nobody has said it."""
        images: int | None = self._options["images"]
        return images

    def plan(self, images: int) -> None:
        """Tells nevergrad a budget of `images` codes; before the first `ask`."""
        self.images = self._take_budget(images)
        self._inner = self._build()

    def _build(self) -> Any:
        """A fresh optimizer from the seed."""
        code = nevergrad.p.Array(init=self.space.center)
        code.random_state = np.random.RandomState(self._options["seed"])
        with _unwarned():
            if self.space.bounded:
                code.set_bounds(self.space.low, self.space.high)
            code.set_mutation(sigma=self.sigma * self.space.scale)
            code.random_state = np.random.RandomState(self._options["seed"])
            try:
                method = nevergrad.optimizers.registry[self.method]
                return method(code, budget=self.images, num_workers=self.population)
            except ValueError as error:
                raise InvalidArgumentError(
                    f"nevergrad: {self.method!r} cannot propose {self.population} codes at a time ({error}); take "
                    "population=1, or another method."
                ) from error

    def _propose(self) -> FloatArray:
        """The next codes ``(population, dim)``."""
        try:
            with _unwarned():
                self._candidates = [self._inner.ask() for _ in range(self.population)]
        except (RuntimeError, TypeError, ValueError, ArithmeticError, LookupError, ImportError) as error:
            # Its CMA above 300 dimensions loses step with pycma 4.5 after some generations.
            why = str(error).partition("\n")[0]
            raise OptimizerError(
                f"{self.name}: nevergrad failed after {self._inner.num_tell} codes ({why}). "
                "What was recorded is safe; take another method, or 'cma' and 'cma-diagonal' without nevergrad."
            ) from error
        return self.space.clip(np.stack([candidate.value for candidate in self._candidates]))

    def _learn(self, codes: FloatArray, scores: FloatArray) -> None:
        """Tells the losses of the codes that were not lost."""
        self._told = np.vstack([self._told, scores])
        with _unwarned():
            for candidate, score in zip(self._candidates, scores, strict=True):
                if not np.isnan(score):
                    self._inner.tell(candidate, -float(score))

    def restore(self, state: State) -> None:
        """Goes back to a saved state: asks and tells again, from the beginning.

        Raises:
            InvalidArgumentError: The saved codes are not those that come now: another seed, option or version.
        """
        told, asked = np.array(state["told"]), state["asked"]
        self._inner, self._asked, self._told = self._build(), None, np.empty((0, self.population))
        for scores in told:
            self._propose()
            self._learn(np.empty(0), scores)
        if asked is not None and not np.array_equal(self.ask(), asked):
            raise InvalidArgumentError(
                f"{self.name}: expected the pending codes of the saved state, got others; use the seed, the options "
                "and the version of nevergrad of the run."
            )
