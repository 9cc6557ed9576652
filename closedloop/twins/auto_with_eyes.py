"""`auto` with eyes: what a twin proposes and what learning from codes proposes, in one evolution.

Learning from codes (`closedloop.optimizers.auto`) needs no model of what a picture is, and gets there in the end; a
twin (`closedloop.twins.online`) knows pictures, and may know the wrong ones. Both are told all scores. Two measurements
decide who asks:

1. **Does the twin predict?** What it said of images before they were shown is correlated with their scores, within
   generations. Below `LEAST_SKILL` all codes are those of `auto`, until it predicts again (`AGAIN_SKILL`).
2. **Who is ahead?** In each generation the code that each of them takes for the best is shown once. Nobody chose these
   two presentations by their scores, so their difference has no winner's curse. The probability that the twin's are
   better, with older generations counting less, is its share of the codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np
from scipy.special import ndtr

from closedloop.analysis.provenance import BY_TWIN, CODES, PRIOR
from closedloop.errors import CallOrderError
from closedloop.interfaces import FloatArray, Generator, Space, State, Subject
from closedloop.loop.notices import notice
from closedloop.optimizers.auto import Auto
from closedloop.optimizers.base import AskTell, check_population, check_state, exponent_of
from closedloop.signatures import at_door
from closedloop.twins.fitting import feature_network
from closedloop.twins.online import OnlineTwin
from closedloop.twins.proposing import Ways, described, network_name, said
from closedloop.twins.reading import RIDGE

#: Skill below which a twin asks for nothing; it begins at 0.25, and one that knows nothing is there after 60 images.
LEAST_SKILL = 0.1
#: Skill from which one that was left out asks again: of twins that know nothing a third seem to have 0.1, few this.
AGAIN_SKILL = 0.2


@final
class SightedAuto(AskTell):
    """`Auto` that looks at images, too; ``load_optimizer("auto", space, features="lite1")``.

    It is `Sighted`: a session shows it the generator; by hand that is ``optimizer.see(generator)``.

    Args:
        space: Where to search.
        seed: Seed of its own random generators.
        features: What the twin reads; see `closedloop.twins.fit_twin`.
        readout: How it does; likewise.
        images: Budget of codes; see `Auto`.
        population: Codes for each generation, at least 6.
        start: See `Auto`.
    """

    @at_door
    def __init__(
        self,
        space: Space,
        seed: int = 0,
        *,
        features: str | Mapping[str, Any] | Subject,
        readout: str = RIDGE,
        images: int | None = None,
        population: int = 10,
        start: FloatArray | None = None,
    ) -> None:
        check_population(population, 6)
        super().__init__(
            space,
            seed,
            images=images,
            population=int(population),
            start=start,
            features=described(features),
            **said(readout),
        )
        self.population: int = int(population)
        self.auto: Auto = Auto(space, seed, images=images, population=population, start=start)
        self.twin: OnlineTwin = OnlineTwin(space, feature_network(features, "auto", seed), readout)
        self.name: str = f"auto+{network_name(self.twin.features)}"
        self._ways, self._pending = Ways(), [""]
        self._duels: FloatArray = np.empty((0, 2))  # score of the code that each takes for the best: the twin's, auto's
        self._k, self._blind = 0, False

    @property
    def recipe(self) -> Mapping[str, Any] | None:
        """How `load_optimizer` makes it again; None where its feature network is a Python object."""
        known = super().recipe or {}
        return {**known, "name": "auto"} if "features" in known else None

    @property
    def budget(self) -> int | None:
        """The codes that it was told it may ask for; None as long as nobody has said it."""
        return self.auto.budget

    def plan(self, images: int) -> None:
        """Plans with a budget of `images` codes; before the first `ask`."""
        self._take_budget(images)
        self.auto.plan(images)

    def see(self, generator: Generator) -> None:
        """Takes the generator whose images it looks at; before the first `ask`."""
        self.twin.see(generator)

    def proposers(self, codes: FloatArray) -> list[str]:
        """Returns "prior", "codes" or "twin" for codes ``(n, dim)`` that it asked for or recommends."""
        found = self._ways.of(codes)
        if "" in found and self._trusted():
            top = self.twin.top()
            found = [
                way or (BY_TWIN if np.array_equal(code, top) else "") for way, code in zip(found, codes, strict=True)
            ]
        return [way or CODES for way in found]

    @property
    def share(self) -> float:
        """The probability that what the twin takes for the best is better than what `auto` does; 0.5 before duels."""
        known = self._duels[np.isfinite(self._duels).all(1)]
        if len(known) < 3:
            return 0.5
        d = np.ldexp(known, -exponent_of(known.ravel()))
        d = d[:, 0] - d[:, 1]
        w = 0.85 ** np.arange(len(d))[::-1]  # weights of a generation's duel, relative to the next one's
        w /= w.sum()
        mean = float(w @ d)
        # The standard error of a weighted mean: s² Σ w², with s² over 1 - Σ w² for the degrees of freedom.
        error = float(np.sqrt(w @ (d - mean) ** 2 / (1 - (w**2).sum()) * (w**2).sum()))
        return float(ndtr(mean / error)) if error > 0 else float(np.sign(mean) / 2 + 0.5)

    def _trusted(self) -> bool:
        """Tells whether the twin predicts images before they are shown."""
        return self._k > 0 and self.twin.ready and self.twin.skill >= (AGAIN_SKILL if self._blind else LEAST_SKILL)

    def recommend(self, n: int) -> FloatArray:
        """Returns up to ``n`` codes, best first: what `auto` and the twin take for the best, who is ahead first."""
        own = self.auto.recommend(n)
        if not len(own) or not self._trusted():
            return own
        theirs = np.concatenate([self.twin.top()[None], self.twin.best_shown(1)])
        ahead = (theirs[:1], own[:1], theirs[1:]) if self.share > 0.5 else (own[:1], theirs)
        found = np.concatenate([*ahead, own[1:]])
        return found[np.sort(np.unique(found, axis=0, return_index=True)[1])][:n]

    def _propose(self) -> FloatArray:
        codes = self._asked_of_both()
        self._ways.note(codes, self._pending)
        return codes

    def _asked_of_both(self) -> FloatArray:
        """Returns the next codes ``(n, dim)``: those of `auto`, what it takes for the best, and those of the twin."""
        if self.twin.generator is None:
            raise CallOrderError(
                "auto: expected see(generator) before the first ask(), for it looks at images; a session calls it."
            )
        best, count = self.auto.recommend(1), self._turn()
        if not len(best) or not count:
            self.auto.population = self.population
            codes = self.auto.ask()
            self._pending = [CODES if len(best) else PRIOR] * len(codes)
            return codes
        self.auto.population = self.population - count - 1
        codes = np.concatenate([self.auto.ask(), best, self.twin.propose(count, self._rng)])
        self._pending = [CODES] * (self.population - count) + [BY_TWIN] * count
        return codes

    def _turn(self) -> int:
        """Returns how many codes of the next generation are the twin's; one more is what `auto` takes for the best."""
        if not self._trusted():
            return 0
        share = self.share
        if share < 0.1 and self._k % 4:  # then the twin asks only in every fourth generation
            return 0
        most = self.population - 4  # auto's best guess, and three codes around its mean
        return int(np.clip(round(share * most), 1, most))

    def _learn(self, codes: FloatArray, scores: FloatArray) -> None:
        count, rest = self._pending.count(BY_TWIN), len(codes)
        if count:
            rest -= count + 1
            self._duels = np.concatenate([self._duels, [[scores[rest + 1], scores[rest]]]])
            self.auto.hear(codes[rest:], scores[rest:])
        self.auto.tell(codes[:rest], scores[:rest])
        self.twin.learn(codes, scores)
        self._k += 1
        self._say()

    def _say(self) -> None:
        """Says when the twin is left out, and when it is back."""
        blind = self.twin.ready and not self._trusted()
        if blind != self._blind:
            what = f"auto: the twin that reads {self.twin.features.name}"
            skill = f"skill {self.twin.skill:.2f}, generation {self._k}"
            does = "does not predict" if blind else "predicts again"
            notice(f"{what} {does} ({skill}); {'codes alone from here' if blind else 'it proposes images again'}.")
        self._blind = blind

    def state(self) -> State:
        """Returns the states of `auto` and of the twin, the duels, and how codes were found."""
        return {
            **super().state(),
            "auto": self.auto.state(),
            "twin": self.twin.state(),
            "ways": self._ways.state(),
            "pending": list(self._pending),
            "own": self.auto.population,
            "duels": self._duels.copy(),
            "k": self._k,
            "blind": self._blind,
        }

    def restore(self, state: State) -> None:
        """Goes back to a saved state."""
        check_state(self.name, state, ("auto", "twin", "ways", "duels", "asked", "rng"), self.space.dim)
        super().restore(state)
        self.auto.restore(state["auto"])
        self.twin.restore(state["twin"])
        self._ways.restore(state["ways"])
        self.auto.population, self._pending = int(state["own"]), list(state["pending"])
        self._duels, self._k, self._blind = np.array(state["duels"], float), int(state["k"]), bool(state["blind"])
