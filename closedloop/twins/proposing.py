"""The optimizer `twin`: it shows what a model of the subject, fitted to its answers so far, takes for the best.

Related: inception loops (Walker et al. 2019, *Nature Neuroscience*) and Bashivan, Kar & DiCarlo 2019, *Science*, which
fit once and verify on another day; Thompson sampling (Thompson 1933, *Biometrika*).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from closedloop import recipes
from closedloop.analysis.provenance import BY_TWIN, PRIOR, WAYS
from closedloop.checks import check_whole
from closedloop.errors import CallOrderError
from closedloop.interfaces import FloatArray, Generator, Space, State, Subject
from closedloop.loop.parts import FeaturesPart
from closedloop.optimizers.base import AskTell, check_population, check_state
from closedloop.signatures import at_door
from closedloop.twins.fitting import feature_network
from closedloop.twins.online import OnlineTwin
from closedloop.twins.reading import RIDGE

#: The ways in which a code is found, in the order in which a state numbers them.
_ORDER = tuple(WAYS)


class Ways:
    """Remembers how codes were found, by a hash of each."""

    def __init__(self) -> None:
        self._keys: NDArray[np.uint64] = np.empty(0, np.uint64)
        self._ways: NDArray[np.int64] = np.empty(0, np.int64)

    def note(self, codes: FloatArray, ways: Sequence[str]) -> None:
        """Notes how codes ``(n, dim)`` were found."""
        self._keys = np.append(self._keys, _keys(codes))
        self._ways = np.append(self._ways, [_ORDER.index(way) for way in ways])

    def of(self, codes: FloatArray) -> list[str]:
        """Returns how codes ``(n, dim)`` were found; "" for unknown ones."""
        known = {int(key): _ORDER[way] for key, way in zip(self._keys, self._ways, strict=True)}
        return [known.get(int(key), "") for key in _keys(codes)]

    def share(self, way: str) -> float:
        """Returns the share of codes that were found in a way."""
        return float((self._ways == _ORDER.index(way)).mean()) if len(self._ways) else 0.0

    def state(self) -> State:
        """Returns all of it."""
        return {"keys": self._keys.astype(np.int64), "ways": self._ways.copy()}

    def restore(self, state: State) -> None:
        """Goes back to a saved state."""
        self._keys, self._ways = np.array(state["keys"], np.int64).astype(np.uint64), np.array(state["ways"], np.int64)


def _keys(codes: FloatArray) -> NDArray[np.uint64]:
    """Returns a hash of 8 bytes of each code ``(n, dim)``."""
    found = [hashlib.sha256(np.ascontiguousarray(code, float).tobytes()).digest()[:8] for code in codes]
    return np.frombuffer(b"".join(found), np.uint64)


def described(features: str | Mapping[str, Any] | Subject) -> Any:
    """Returns a feature network as a recipe has it: a name, a mapping, or None for an object without a recipe."""
    if isinstance(features, str):
        return features
    known = dict(features) if isinstance(features, Mapping) else recipes.recipe(features)
    return None if known.get("name") == recipes.OBJECT else known


def said(readout: str) -> dict[str, str]:
    """Returns a readout as a recipe has it: left out where it is that of runs of older versions, which name none."""
    return {} if readout == RIDGE else {"readout": readout}


def network_name(features: Subject) -> str:
    """Returns what a record calls a feature network."""
    return features.name.removeprefix("pooled-")


@final
class TwinOptimizer(AskTell):
    """Asks for the tops of draws from the posterior of a twin, which is fitted anew after every generation.

    The twin reads activations of a network, standardized over the images that were shown, by a Bayesian linear readout
    (`closedloop.twins.online`). A draw of its weights is climbed through the generator, in steps of 5° from promising
    codes; one code of each generation is the top of its mean. The better it has predicted images before they were
    shown, the further a climb may go: 12 steps at most. Where generator or feature network have no gradient, the best
    of many candidate codes is taken instead.

    It is `Sighted`: a session shows it the generator; by hand that is ``optimizer.see(generator)``.

    Args:
        space: Where to search.
        seed: Seed of its own random generator.
        features: "lite0", "lite1", "random" … or a subject; see `closedloop.twins.fit_twin`.
        layers: Likewise.
        readout: Likewise.
        population: Codes for each generation.
        initial: Codes of the prior that are shown first.
    """

    @at_door
    def __init__(
        self,
        space: Space,
        seed: int = 0,
        *,
        features: str | Mapping[str, Any] | Subject = FeaturesPart.features,
        layers: str | Sequence[str] = FeaturesPart.layers,
        readout: str = RIDGE,
        population: int = 20,
        initial: int = 40,
    ) -> None:
        check_population(population, 2)
        check_whole("initial", initial, 2)
        super().__init__(
            space,
            seed,
            features=described(features),
            layers=layers,
            **said(readout),
            population=int(population),
            initial=int(initial),
        )
        self.population: int = int(population)
        self.initial: int = int(initial)
        self.twin: OnlineTwin = OnlineTwin(space, feature_network(features, layers, seed), readout)
        self.name: str = f"twin+{network_name(self.twin.features)}"
        self._ways, self._told = Ways(), 0

    @property
    def recipe(self) -> Mapping[str, Any] | None:
        """How `load_optimizer` makes it again; None where its feature network is a Python object."""
        known = super().recipe or {}
        return {**known, "name": "twin"} if "features" in known else None

    def see(self, generator: Generator) -> None:
        """Takes the generator whose images it looks at; before the first `ask`."""
        self.twin.see(generator)

    def proposers(self, codes: FloatArray) -> list[str]:
        """Returns "prior" or "twin" for codes ``(n, dim)`` that it asked for or recommends."""
        return [way or BY_TWIN for way in self._ways.of(codes)]

    def recommend(self, n: int) -> FloatArray:
        """Returns up to ``n`` codes, best first: the top of the readout's mean, then what it expects most of."""
        if not self._told or not self.twin.ready:
            return np.empty((0, self.space.dim))
        return np.concatenate([self.twin.top()[None], self.twin.best_shown(n)])[:n]

    def _propose(self) -> FloatArray:
        if self.twin.generator is None:
            raise CallOrderError(
                "twin: expected see(generator) before the first ask(), for it looks at images; a session calls it."
            )
        found = self._told >= self.initial and self.twin.ready
        if found:
            codes = self.twin.propose(self.population, self._rng)
        else:
            shell = self.twin.shell
            codes = shell.codes(shell.inside(shell.units(self.space.sample(self.population, self._rng))))
        self._ways.note(codes, [BY_TWIN if found else PRIOR] * len(codes))
        return codes

    def _learn(self, codes: FloatArray, scores: FloatArray) -> None:
        self.twin.learn(codes, scores)
        self._told += len(codes)

    def state(self) -> State:
        """Returns codes, scores and what follows from them but features, and the random generator."""
        own = {
            "told": self._told,
            "ways": self._ways.state(),
            "twin": self.twin.state(),
        }
        return {**super().state(), **own}

    def restore(self, state: State) -> None:
        """Goes back to a saved state."""
        check_state(self.name, state, ("twin", "ways", "told", "asked", "rng"), self.space.dim)
        super().restore(state)
        self.twin.restore(state["twin"])
        self._ways.restore(state["ways"])
        self._told = int(state["told"])
