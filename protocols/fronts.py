"""Searches along fronts under way: what `pareto` and `stretch_and_squeeze` share.

Images are shown that the search compares with, then generations of codes of each search, then some images of each front
again in fresh presentations. What the two values of an image are, a `Goal` says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.analysis.fronts import FIRST, FIRST_NAME, RETEST, SEARCHED, SECOND, SECOND_NAME, pareto_front
from closedloop.checks import make_images
from closedloop.errors import InvalidArgumentError
from closedloop.images.eight_bit import quantize
from closedloop.images.sets import ImageSet
from closedloop.interfaces import FloatArray, Generator, State, Subject
from closedloop.loop.ending import EndRequest, ended_on_request
from closedloop.loop.presenter import Presenter, Shown
from closedloop.loop.progress import Progress, as_progress, begin_progress, end_progress, move_progress
from closedloop.loop.protocol import RunFigure, RunTable
from closedloop.loop.settings import Timing, option, settings
from closedloop.loop.sparing import one_thread
from closedloop.optimizers.pareto import ParetoSearch
from closedloop.recipes import fingerprint, recipe, version
from closedloop.recording.layout import EVOLUTION, IMAGE_BITS, REFERENCE, Layout, Rows, form_scalars
from closedloop.recording.references import keep_references
from closedloop.recording.writer import Recording
from closedloop.seeds import generator_state, named_generator, named_seed, restore_generator

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@settings
class FrontSettings(Timing):
    """The numbers of a search along a front."""

    images: int = option(default=2000, least=1, help="Presentations of each search; it is never exceeded.")
    population: int = option(default=40, least=4, help="Images of each generation, and members that are kept.")
    retest_candidates: int = option(default=8, least=1, help="Images of each front that are shown again.")
    retest_repeats: int = option(
        default=10, least=1, help="Fresh presentations of each of these, and of what they are compared with."
    )


class Goal(Protocol):
    """What the two values of an image are. Both are maximized."""

    @property
    def names(self) -> tuple[str, str]:
        """What they are called."""
        ...

    @property
    def searches(self) -> tuple[str, ...]:
        """Names of the searches, each with a front of its own: threads of the recording."""
        ...

    @property
    def references(self) -> ImageSet:
        """Images that are shown before the searches, at the resolution of the generator."""
        ...

    @property
    def start(self) -> FloatArray | None:
        """Codes ``(k, dim)`` around which the searches begin; None for the prior."""
        ...

    def scores(self, responses: FloatArray, images: NDArray[np.float32]) -> FloatArray:
        """Returns what the objective, or the first one, says of presentations ``(n,)``."""
        ...

    def values(self, search: str, responses: FloatArray, images: NDArray[np.float32], scores: FloatArray) -> FloatArray:
        """Returns the two values of presentations ``(n, 2)``; NaN where they are not defined. "" for references."""
        ...

    def learn(self, ids: Sequence[str], scores: FloatArray, values: FloatArray) -> None:
        """Takes in mean scores ``(k,)`` and values ``(k, 2)`` of the references, before any search begins."""
        ...

    def beside(self) -> Sequence[str]:
        """Returns the names of those references that are shown again beside the fronts."""
        ...

    def chosen(self, search: str, values: FloatArray) -> int:
        """Returns which member of a front, with values ``(m, 2)``, must be among those shown again."""
        ...

    def state(self) -> State:
        """Returns what was learnt."""
        ...

    def restore(self, state: State) -> None:
        """Goes back to a saved state."""
        ...


class Searching:
    """Searches along fronts under way, side by side: a course.

    Args:
        subject: The network or animal that is shown images.
        generator: Turns codes into images.
        goal: What the two values are.
        chosen: The numbers.
        progress: Whether progress is shown, or who is told it.
        before: Presentations of each reference before the searches.
        scalars: What else identifies the run.
        files: Further files of the run's folder, by name.
    """

    def __init__(
        self,
        subject: Subject,
        generator: Generator,
        goal: Goal,
        chosen: FrontSettings,
        progress: Progress,
        before: int = 1,
        scalars: Mapping[str, float] | None = None,
        files: Mapping[str, bytes] | None = None,
    ) -> None:
        if chosen.population > chosen.images:
            raise InvalidArgumentError(
                f"images: expected at least the {chosen.population} of a generation, got {chosen.images}."
            )
        self.subject: Subject = subject
        self._generator = generator
        self._goal = goal
        self._settings = chosen
        self._before, self._scalars, self._files = before, scalars or {}, files or {}
        self._progress = as_progress(progress, "searching")
        self._presenter = Presenter(subject, chosen.retries, chosen.timeout_s, chosen.lost_blocks)
        self._rng = named_generator(chosen.seed, "order")
        self._searches = {
            name: ParetoSearch(
                generator.space, named_seed(chosen.seed, name), population=chosen.population, start=goal.start
            )
            for name in goal.searches
        }
        self._generation, self._presentations = -1, 0
        self._spent = dict.fromkeys(goal.searches, 0)
        self._phase = "before"
        self._ids: list[str] = []
        self._threads: list[str] = []
        self._codes: FloatArray = np.empty((0, generator.space.dim))
        self._images: NDArray[np.float32] = np.empty((0, 3, 1, 1), np.float32)
        self._asked = EndRequest()
        self.reason: str = ""

    @property
    def handed(self) -> Mapping[str, Any]:
        """The generator, which may be an object without a name."""
        return {"generator": self._generator}

    def layout(self) -> Layout:
        """Returns the shape of the recording: room for every presentation that may come."""
        chosen, goal = self._settings, self._goal
        known = len(goal.references)
        again = (chosen.retest_candidates * len(self._searches) + known) * chosen.retest_repeats
        capacity = len(self._searches) * chosen.images + (known * self._before + again) * (1 + chosen.retries)
        scalars: dict[str, str | int | float] = {
            "subject": self.subject.name,
            **form_scalars(self._presenter.form),
            "seed": chosen.seed,
            "closedloop_version": version(),
            IMAGE_BITS: 8,
            FIRST_NAME: goal.names[0],
            SECOND_NAME: goal.names[1],
            **self._scalars,
        }
        count = len(self._searches)
        evolutions = {
            EVOLUTION: list(self._searches),
            "generator": [self._generator.name] * count,
            "generator_sha256": [fingerprint(self._generator)] * count,
            "generator_recipe": [json.dumps(recipe(self._generator))] * count,
        }
        coords: dict[str, tuple[str, Any]] = {FIRST: ("float64", np.nan), SECOND: ("float64", np.nan)}
        return Layout(capacity, self._generator.space.dim, self.subject.units, scalars, coords, evolutions=evolutions)

    def begin(self, recording: Recording) -> None:
        """Keeps the references, and begins the progress."""
        recording.keep_files(self._files)
        keep_references(recording, self._goal.references)
        self._asked = EndRequest(recording.path)
        begin_progress(self._progress, sum(self._spent.values()), self._settings.images * len(self._searches))

    def show(self) -> Shown | None:
        """Shows the references, a generation of each search, or images of the fronts again."""
        chosen = self._settings
        if self._phase == "done":
            return None
        self._ids, self._threads, codes = [], [], []
        repeats, spare = 1, None
        if self._phase == "search":
            if self._generation and self._asked():
                self.reason = ended_on_request(self._generation - 1)
            left = {name: 0 if self.reason else chosen.images - self._spent[name] for name in self._searches}
            for name, search in self._searches.items():
                with one_thread():
                    own = search.ask()[: left[name]] if left[name] else np.empty((0, self._generator.space.dim))
                self._ids += [f"{name}-g{self._generation:04d}-{i:03d}" for i in range(len(own))]
                self._threads += [name] * len(own)
                codes.append(own)
            if not self._ids:
                self._phase = "again"
        known = self._goal.references
        beside: Sequence[str] = []
        if self._phase == "before":
            beside, repeats = known.ids, self._before
        elif self._phase == "again":
            codes, repeats, beside = self._finalists(), chosen.retest_repeats, self._goal.beside()
        self._codes = np.concatenate(codes) if codes else np.empty((0, self._generator.space.dim))
        at = [known.ids.index(name) for name in beside]
        parts = [known.images[at]] * bool(at)
        if len(self._codes):
            parts.append(quantize(self._presenter.fitted(make_images(self._generator, self._codes))))
        self._ids, self._threads = [*beside, *self._ids], [REFERENCE] * len(at) + self._threads
        blank = np.full((len(at), self._generator.space.dim), np.nan)
        self._codes = np.concatenate([blank, self._codes])
        self._images = np.concatenate(parts)
        groups = list(dict.fromkeys(self._threads))
        group = np.array([groups.index(name) for name in self._threads])
        if self._phase == "search":
            spare = np.array([chosen.images - self._spent[name] - self._threads.count(name) for name in groups])
        times = np.full(len(self._ids), repeats)
        return self._presenter.show(self._images, times, self._rng, spare, group, ids=self._ids)

    def _finalists(self) -> list[FloatArray]:
        """Returns the codes of the images of each front that are shown again, evenly along it."""
        found = []
        for name, search in self._searches.items():
            front = search.front
            if not len(front):
                continue
            even = np.linspace(0, len(front) - 1, min(self._settings.retest_candidates, len(front))).round().astype(int)
            best = self._goal.chosen(name, search.values[front])
            at = front[sorted({best, *[int(i) for i in even if i != best][: self._settings.retest_candidates - 1]})]
            size = self._settings.population
            self._ids += [f"{name}-g{n // size:04d}-{n % size:03d}" for n in search.numbers[at].tolist()]
            self._threads += [name] * len(at)
            found.append(search.codes[at])
        return found

    def learn(self, shown: Shown) -> Rows:
        """Takes in the values, and returns the rows."""
        n, phase = len(shown.stimulus), self._phase
        images = self._images[shown.stimulus]
        threads = np.array(self._threads, object)[shown.stimulus]
        scores = self._goal.scores(shown.responses, images)
        values = np.full((n, 2), np.nan)
        for thread in dict.fromkeys(self._threads):
            own = threads == thread
            if own.any():
                called = "" if thread == REFERENCE else thread
                values[own] = self._goal.values(called, shown.responses[own], images[own], scores[own])
        mean = _means(np.column_stack([scores, values]), shown.stimulus, len(self._ids))
        if phase == "before":
            self._goal.learn(self._ids, mean[:, 0], mean[:, 1:])
        if phase == "search":
            for name, search in self._searches.items():
                own = np.array(self._threads) == name
                if own.any():
                    search.tell(self._codes[own], mean[own, 1:])
                    self._spent[name] += int((threads == name).sum())
        coords = {
            "thread": threads,
            "generation": np.full(n, self._generation, np.int32),
            "kind": np.full(n, {"before": "reference", "search": SEARCHED, "again": RETEST}[phase]),
            "stimulus_id": np.array(self._ids, object)[shown.stimulus],
            "repeat": shown.repeat.astype(np.int32),
            "onset_s": (self._presentations + np.arange(n))
            * max(self._settings.soa_s, self._presenter.form.duration_s),
            FIRST: values[:, 0],
            SECOND: values[:, 1],
        }
        self._phase = {"before": "search", "search": "search", "again": "done"}[phase]
        self._generation += 1
        self._presentations += n
        return Rows(coords, shown.responses, self._codes[shown.stimulus], scores)

    def committed(self) -> None:
        """Moves the progress on."""
        move_progress(self._progress, sum(self._spent.values()), self._settings.images * len(self._searches))

    def end(self) -> None:
        """Ends the progress."""
        end_progress(self._progress)

    def state(self) -> State:
        """Returns all that is needed to go on identically."""
        return {
            "phase": self._phase,
            "generation": self._generation,
            "presentations": self._presentations,
            "spent": dict(self._spent),
            "searches": {name: search.state() for name, search in self._searches.items()},
            "goal": self._goal.state(),
            "order": generator_state(self._rng),
            "reason": self.reason,
        }

    def restore(self, state: State) -> None:
        """Goes back to a saved state."""
        self._phase = str(state["phase"])
        self.reason = str(state["reason"])
        self._generation, self._presentations = int(state["generation"]), int(state["presentations"])
        self._spent = {name: int(n) for name, n in state["spent"].items()}
        for name, search in self._searches.items():
            search.restore(state["searches"][name])
        self._goal.restore(state["goal"])
        restore_generator(self._rng, state["order"])


def _means(values: FloatArray, index: NDArray[np.int64], images: int) -> FloatArray:
    """Returns the mean of each image's presentations that were not lost, ``(images, columns)``; NaN where all were."""
    total, count = np.zeros((images, values.shape[1])), np.zeros((images, values.shape[1]))
    known = ~np.isnan(values)
    np.add.at(total, index, np.where(known, values, 0))
    np.add.at(count, index, known)
    found: FloatArray = total / np.where(count > 0, count, np.nan)
    return found


def front_table(recording: xr.Dataset, found: xr.Dataset, thread: str, title: str) -> RunTable:
    """Returns the images of one front that were shown again."""
    own = found.isel(image=np.flatnonzero(found["thread"].values == thread))
    first, second = str(found[FIRST_NAME].item()), str(found[SECOND_NAME].item())
    rows = [
        [
            str(one["stimulus_id"].item()),
            *(interval(one, name) for name in (FIRST, SECOND, "score")),
            _yes(one["front"]),
        ]
        for one in (own.isel(image=i) for i in range(own.sizes["image"]))
    ]
    columns = ("image", f"{first} (95 %)", f"{second} (95 %)", "score (95 %)", "still on the front")
    return RunTable(title, columns, rows, "Means of fresh presentations.")


def _yes(value: xr.DataArray) -> str:
    return "yes" if bool(value) else "no"


def interval(one: xr.Dataset, name: str) -> str:
    """Writes a number with its interval; "–" where there is none."""
    value, low, high = (float(one[n]) for n in (name, f"{name}_low", f"{name}_high"))
    if not np.isfinite(value):
        return "–"
    return f"{value:.3g}" + (f" ({low:.3g} to {high:.3g})" if np.isfinite(low) and high > low else "")


def front_images(recording: xr.Dataset) -> xr.Dataset:
    """Returns what is known of the images that were shown again, with their names, for a table."""
    return pareto_front(recording).reset_coords(["stimulus_id", "thread"])


def front_figure(recording: xr.Dataset, said: str) -> RunFigure:
    """Returns the figure of a search along fronts."""
    return RunFigure(partial(_draw, recording), said)


def _draw(recording: xr.Dataset) -> Figure:
    from closedloop.figures import plot_front

    return plot_front(recording)


def retested(recording: xr.Dataset) -> xr.Dataset | None:
    """Returns the images that were shown again; None where none was yet."""
    return pareto_front(recording) if (recording["kind"].values.astype(str) == RETEST).any() else None
