"""Any optimizer of nevergrad by name: ``load_optimizer("nevergrad:DiagonalCMA", space, images=3000)``.

Source: Rapin & Teytaud 2018, "Nevergrad - A gradient-free optimization platform". Needs
``pip install 'closedloop[nevergrad]'``.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, ClassVar, final

import numpy as np

from closedloop.checks import check_positive
from closedloop.errors import (
    InvalidArgumentError,
    MissingExtraError,
    OptimizerError,
    UnknownNameError,
    closest,
    require,
)
from closedloop.interfaces import BUDGET, FloatArray, Space, State
from closedloop.optimizers.base import AskTell, check_budget, check_population, check_state, exponent_of
from closedloop.seeds import OwnGlobals, current_stream, legacy_random_state

nevergrad = require("nevergrad", "nevergrad", "optimizer 'nevergrad'")


@contextmanager
def _unwarned() -> Iterator[None]:
    """Silences the warnings of the many packages behind nevergrad's names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@final
class Nevergrad(AskTell):
    """One of nevergrad's optimizers, minimizing the negative score.

    Its objects cannot be saved without running code on reading. What is saved are the scores so far; since its draws
    come from the seed alone, also where they are from the global random state, asking and telling again brings it back
    exactly, in the time that its own work took. The few that depend on time or on threads are refused then. Lost codes
    are never told. Scores count from the first generation's median in units of its spread, for many methods stop at
    absolute differences.

    Above 300 dimensions nevergrad 1.0.12 loses step with pycma 4.5 and fails after some 2,000 codes, in "CMA" and in
    what chooses it, such as "NGOpt"; that is an `OptimizerError`, and the loop's record stays whole.

    Args:
        method: Its name in ``nevergrad.optimizers.registry``, such as "CMA", "DiagonalCMA", "NGOpt", "TwoPointsDE".
        space: Where to search. Bounds are kept by nevergrad.
        seed: Seed of its own random generator.
        images: Budget of codes, at least 1; default 4000. Many of its optimizers plan with it.
        population: Codes for each generation, asked for without knowing each other's scores; default 4 + 8 ln(dim),
            70 for 4096 dimensions, the largest population that nevergrad's own CMA takes by itself.
        sigma: First standard deviation of mutations, in units of the space's prior standard deviation.

    Raises:
        UnknownNameError: No such optimizer.
        InvalidArgumentError: It cannot be asked for several codes at a time, or an option does not fit.
    """

    memory: ClassVar[tuple[str, ...]] = ("told",)

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
        if method == "CmaFmin2":  # it draws in ways that no seed reaches
            raise InvalidArgumentError(
                f"nevergrad: {method!r} does not repeat itself from a seed, so a run of it could not go on; take "
                "another method, such as 'CMA'."
            )
        self.population: int = 4 + int(8 * np.log(space.dim)) if population is None else int(population)
        super().__init__(space, seed, images=images, population=self.population, sigma=sigma)
        self.name: str = f"nevergrad:{method}"
        self.method: str = method
        # Many of its optimizers choose themselves by the budget, so it is always told one.
        self.images: int = BUDGET if images is None else int(images)
        self.sigma: float = sigma
        self._stream = current_stream()
        self._level = 0.0
        self._exponent: int | None = None
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
        """Builds a fresh optimizer from the seed.

        Raises:
            MissingExtraError: It needs a package that is not installed.
            InvalidArgumentError: It cannot be built for this space, budget and population.
        """
        self._globals = OwnGlobals(self._options["seed"], "optimizer Nevergrad")
        self._level, self._exponent, self._shown = 0.0, None, hashlib.sha256()
        code = nevergrad.p.Array(init=self.space.center)
        code.random_state = self._random_state()
        try:
            with self._at_work():
                if self.space.bounded:
                    code.set_bounds(self.space.low, self.space.high)
                code.set_mutation(sigma=self.sigma * self.space.scale)
                code.random_state = self._random_state()
                method = nevergrad.optimizers.registry[self.method]
                return method(code, budget=self.images, num_workers=self.population)
        except ImportError as error:
            raise _missing(self.method, error) from error
        except Exception as error:  # of any of some 500 names
            why = f"{self.space.dim} dimensions, {self.images} codes and {self.population} at a time ({_words(error)})"
            cure = "take population=1, or another method" if "parallel" in str(error) else "take another method"
            raise InvalidArgumentError(f"nevergrad: {self.method!r} cannot be built for {why}; {cure}.") from error

    def _random_state(self) -> np.random.RandomState:
        return legacy_random_state(self._options["seed"], "optimizer Nevergrad", self._stream)

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """Silences warnings, and lends a global random state: some of nevergrad's optimizers draw from it."""
        with _unwarned(), self._globals if self._stream > 1 else nullcontext():
            yield

    @contextmanager
    def _named_failure(self) -> Iterator[None]:
        """Turns what any of nevergrad's optimizers raises into an error that names it."""
        try:
            with self._at_work():
                yield
        except ImportError as error:
            raise _missing(self.method, error) from error
        except Exception as error:
            # Its CMA above 300 dimensions loses step with pycma 4.5 after some generations; others fail with numpy 2.4.
            raise OptimizerError(
                f"{self.name}: nevergrad failed after {self._inner.num_tell} codes ({_words(error)}). What was "
                f"recorded is safe; take another method, or 'cma' and 'cma-diagonal' without nevergrad (nevergrad "
                f"{nevergrad.__version__} with numpy {np.__version__})."
            ) from error

    def _propose(self) -> FloatArray:
        """Returns the next codes ``(population, dim)``."""
        with self._named_failure():
            self._candidates = [self._inner.ask() for _ in range(self.population)]
            codes = np.stack([np.asarray(candidate.value, dtype=float) for candidate in self._candidates])
        if not np.isfinite(codes).all():
            raise OptimizerError(f"{self.name}: nevergrad asked for codes that are not finite; take another method.")
        codes = self.space.clip(codes)
        self._shown.update(np.ascontiguousarray(codes).tobytes())
        return codes

    def _learn(self, codes: FloatArray, scores: FloatArray) -> None:
        """Tells the losses of the codes that were not lost."""
        self._told = np.vstack([self._told, scores])
        self._choose_unit(scores[~np.isnan(scores)])
        with self._named_failure():
            for candidate, score in zip(self._candidates, scores, strict=True):
                if not np.isnan(score):
                    self._inner.tell(candidate, -float(np.ldexp(score - self._level, -(self._exponent or 0))))

    def _choose_unit(self, scores: FloatArray) -> None:
        """Fixes level and unit of the scores by the first that differ.

        Many of nevergrad's optimizers stop at differences of 1e-11 or so, whatever the scores are.
        """
        if self._stream > 1 and self._exponent is None and len(scores) and np.ptp(scores) > 0:
            self._level = float(np.median(scores))
            self._exponent = exponent_of(scores - self._level)

    def state(self) -> State:
        """Returns the scores so far, pending codes, how it draws, and a SHA-256 of all codes that it asked for."""
        return {**super().state(), "stream": self._stream, "shown": self._shown.hexdigest()}

    def restore(self, state: State) -> None:
        """Goes back to a saved state: asks and tells again, from the beginning.

        Raises:
            InvalidArgumentError: The saved codes are not those that come now: another seed, option or version, or a
                method that does not repeat itself.
        """
        check_state(self.name, state, ("told", "asked"), self.space.dim)
        told, asked = np.array(state["told"]), state["asked"]
        self._stream = int(state.get("stream", 1))  # runs of older versions do not say it
        self._inner, self._asked, self._told = self._build(), None, np.empty((0, self.population))
        for scores in told:
            self._propose()
            self._learn(np.empty(0), scores)
        same = asked is None or np.array_equal(self.ask(), asked)
        if not same or self._shown.hexdigest() != state.get("shown", self._shown.hexdigest()):
            raise InvalidArgumentError(
                f"{self.name}: expected the {'pending ' if not same else ''}codes of the saved state, got others; use "
                "the seed, the options and the version of nevergrad of the run. If they are the same, this method of "
                "nevergrad does not repeat itself, and a run of it cannot go on."
            )


def _words(error: Exception) -> str:
    """Returns the first line of an error, with its type."""
    return f"{type(error).__name__}: {error}".partition("\n")[0][:200]


def _missing(method: str, error: ImportError) -> MissingExtraError:
    package = error.name or str(error)
    return MissingExtraError(
        f"nevergrad: {method!r} needs the package {package!r}, which is not installed; install what provides it, or "
        "take another method."
    )
