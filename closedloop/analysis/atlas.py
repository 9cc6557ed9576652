"""Reads an atlas unit by unit: what a page about a unit says, and a table of each layer.

Every response is a mean over presentations that had no part in choosing the image, with its standard error. Tests are
corrected for their number within a layer: of images that were made by Benjamini & Hochberg, of classes by Holm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import stats

from closedloop.analysis.reasons import ROUNDING
from closedloop.analysis.resampling import benjamini_hochberg, holm
from closedloop.analysis.students import spread
from closedloop.analysis.tuning import sparseness
from closedloop.analysis.units import rounding
from closedloop.errors import InvalidArgumentError, RecordingError, closest
from closedloop.images.naturalness import IMAGE_MEASURES, Band
from closedloop.interfaces import FloatArray
from closedloop.recording.layout import EVOLUTION, REFERENCE
from closedloop.recording.titles import recorded_title
from closedloop.signatures import at_door

#: Stands as `protocol` in a run's file.
ATLAS = "atlas"
#: What the names of the files of natural images, and of strips of attributions, begin with.
NATURAL, PATTERN = "natural", "attribution"
#: Numbers that are noted of each image that was made.
NUMBERS = ("best_response", "forwards", "forward_equivalents", "code_norm", "code_at_bound")
#: The layer of a subject without layers, or that cannot be looked into: what it answers.
RESPONSES = "responses"
#: Images of a class that a test of tuning needs, and share of images at the floor or ceiling that is told of.
_LEAST_OF_CLASS, _SILENT, _SATURATED = 3, 0.99, 0.01


def natural_name(number: int) -> str:
    """Returns the name of the file of a natural image in the run's folder of images."""
    return f"{NATURAL}-{number}"


def attribution_name(column: int) -> str:
    """Returns the name of the strip of attributions of a unit: of its best natural images, then of its worst."""
    return f"{PATTERN}-{column}"


@dataclass(frozen=True)
class Response:
    """A re-tested response.

    Attributes:
        mean: Over fresh presentations; NaN where all were lost.
        sem: Its standard error; NaN below two presentations, 0 of a subject without noise.
        n: Presentations.
    """

    mean: float
    sem: float
    n: int

    @classmethod
    def of(cls, values: FloatArray) -> Response:
        """Returns that of presentations ``(n,)``; lost ones are left out."""
        known = values[~np.isnan(values)]
        if len(known) < 2:
            return cls(float(known[0]) if len(known) else float("nan"), float("nan"), len(known))
        alike = np.ptp(known) <= float(rounding(known[:, None])[0]) * np.abs(known).max()
        return cls(float(known.mean()), 0.0 if alike else float(spread(known)) / len(known) ** 0.5, len(known))


@dataclass(frozen=True)
class Made:
    """An image that a method made for a unit.

    Attributes:
        stimulus_id: Its name, and that of its file.
        label: The method as it is called here.
        method: The method of the field.
        generator: The generator's name.
        told: What the method was told, in words.
        seed: Its seed.
        response: Re-tested.
        percentile: Share of the natural images that drive the unit less, in per cent.
        ratio: Response ÷ that of the best natural image; NaN where that is not above 0.
        p: Chance that a natural image would rank as high, (1 + those that drive it as much or more) ÷ (n + 1).
        p_adjusted: The same, corrected for all images of the layer (Benjamini & Hochberg).
        failure: What went wrong, in words; empty for nothing.
        cost: Forward equivalents that were spent.
        outside: Measures of naturalness on which it lies outside the natural band.
    """

    stimulus_id: str
    label: str
    method: str
    generator: str
    told: str
    seed: int
    response: Response
    percentile: float
    ratio: float
    p: float
    p_adjusted: float
    failure: str
    cost: float
    outside: tuple[str, ...]


@dataclass(frozen=True)
class Photograph:
    """A natural image that drives a unit most, or least.

    Attributes:
        stimulus_id: Its name.
        number: In the set of natural images; `natural_name` gives its file.
        category: Its class; empty for none.
        response: Re-tested.
        place: In the unit's strip of attributions.
    """

    stimulus_id: str
    number: int
    category: str
    response: Response
    place: int


@dataclass(frozen=True)
class ClassResponse:
    """A unit's mean response to the natural images of a class."""

    name: str
    response: Response


@dataclass(frozen=True)
class Tuning:
    """How a unit's responses differ between the classes of a sorted folder.

    Attributes:
        classes: The highest mean first.
        h: Kruskal & Wallis' H; NaN where it cannot be said.
        p: Its p-value.
        p_adjusted: Corrected for the units of the layer (Holm).
        epsilon_squared: H ÷ (n − 1): 0 for no difference between classes, 1 where class says all.
    """

    classes: tuple[ClassResponse, ...] = ()
    h: float = float("nan")
    p: float = float("nan")
    p_adjusted: float = float("nan")
    epsilon_squared: float = float("nan")


@dataclass(frozen=True)
class UnitPage:
    """What is known of a unit.

    Attributes:
        column: Of the recording.
        layer: Its layer.
        key: Its name within the layer: ``"30"``, or ``"30@2,3"`` away from the centre.
        title: What a person calls it.
        field: Its receptive field ``(y0, x0, y1, x1)`` in pixels of the image, half-open; None where it is not known.
        made: Images that were made for it, the highest response first.
        best: Natural images that drive it most, the highest first.
        worst: Natural images that drive it least, the lowest first.
        attributed: By which method the strip of attributions was made; empty for none.
        natural: Responses to the natural images, ascending, ``(n,)``.
        counts: Natural images in each bar of the histogram.
        edges: Of its bars, one more.
        sparseness: Lifetime sparseness over natural images, 0 to 1.
        kurtosis: Excess kurtosis over natural images.
        tuning: Over classes.
        noiseless: Whether its answers to the same image are alike.
        warnings: What must be known first: that it is dead, or saturated.
    """

    column: int
    layer: str
    key: str
    title: str
    field: tuple[int, int, int, int] | None
    made: tuple[Made, ...]
    best: tuple[Photograph, ...]
    worst: tuple[Photograph, ...]
    attributed: str
    natural: FloatArray
    counts: NDArray[np.int64]
    edges: FloatArray
    sparseness: float
    kurtosis: float
    tuning: Tuning = Tuning()
    noiseless: bool = False
    warnings: tuple[str, ...] = ()


@final
class AtlasPages:
    """The pages of an atlas, one for each unit, also of one that is still being filled.

    Args:
        recording: Of a run of `closedloop.protocols.atlas`.

    Raises:
        RecordingError: It is of something else.
    """

    @at_door
    def __init__(self, recording: xr.Dataset) -> None:
        if "number" not in recording.coords or "told" not in recording.coords:
            raise RecordingError("recording: expected that of an atlas, got one without the coordinates of an atlas.")
        self._recording = recording
        values = recording["responses"].values
        self._responses: FloatArray = values.mean(-1) if values.ndim == 3 else values
        names = ("kind", "thread", "stimulus_id", "number", "category", "unit", "run_seed", "attributed", "failure")
        self._rows = {name: recording[name].values for name in names}
        self._survey = self._rows["kind"] == "reference"
        self._made_rows = (self._rows["kind"] == "retest") & (self._rows["thread"] != REFERENCE)
        self._again = (self._rows["kind"] == "retest") & (self._rows["thread"] == REFERENCE)
        self._known_made: dict[int, tuple[Made, ...]] = {}
        self._known_ranks: dict[str, dict[str, float]] = {}
        self._known_ends: dict[int, tuple[tuple[Photograph, ...], tuple[Photograph, ...]]] = {}

    @cached_property
    def keys(self) -> dict[str, dict[str, int]]:
        """The columns of the recording by layer, and within a layer by the unit's name."""
        found: dict[str, dict[str, int]] = {}
        for column in range(self._recording.sizes["neuroid"]):
            found.setdefault(str(self._fact("layer", column, RESPONSES)), {})[self._key(column)] = column
        return found

    def _fact(self, name: str, column: int, default: Any) -> Any:
        held = self._recording.coords
        return held[name].values[column] if name in held and held[name].dims == ("neuroid",) else default

    def _key(self, column: int) -> str:
        channel, place = self._fact("channel", column, column), str(self._fact("position", column, "none"))
        if place != "given":
            return str(int(channel))
        return f"{int(channel)}@{int(self._fact('y', column, 0))},{int(self._fact('x', column, 0))}"

    def column(self, layer: str, key: str) -> int:
        """Returns the column of a unit.

        Raises:
            InvalidArgumentError: There is no such layer, or no such unit in it.
        """
        if layer not in self.keys:
            raise InvalidArgumentError(f"layer: no layer {layer!r:.80} in this atlas.{closest(layer, self.keys)}")
        if key not in self.keys[layer]:
            raise InvalidArgumentError(
                f"unit: no unit {key!r:.80} of {layer} in this atlas, which has {len(self.keys[layer])} of them."
            )
        return self.keys[layer][key]

    @cached_property
    def _naturals(self) -> tuple[NDArray[np.int64], NDArray[Any], NDArray[Any], FloatArray]:
        """Numbers, names, classes and mean responses ``(n, units)`` of the natural images, by number."""
        rows = np.flatnonzero(self._survey)
        numbers, first, index = np.unique(self._rows["number"][rows], return_index=True, return_inverse=True)
        values = self._responses[rows]
        known = ~np.isnan(values)
        total, count = np.zeros((len(numbers), values.shape[1])), np.zeros((len(numbers), values.shape[1]))
        np.add.at(total, index, np.where(known, values, 0))
        np.add.at(count, index, known)
        means: FloatArray = total / np.where(count > 0, count, np.nan)
        ids, classes = (self._rows[name][rows[first]] for name in ("stimulus_id", "category"))
        return numbers, ids, classes, means

    @property
    def natural_n(self) -> int:
        """How many natural images were shown."""
        return len(self._naturals[0])

    @cached_property
    def _bands(self) -> dict[str, Band]:
        rows = np.flatnonzero(self._survey)
        _, first = np.unique(self._rows["number"][rows], return_index=True)
        return {name: Band.of(name, self._recording[name].values[rows[first]]) for name in IMAGE_MEASURES}

    @cached_property
    def _images(self) -> dict[str, NDArray[np.intp]]:
        """Presentations of each image that was made, by its name."""
        found: dict[str, list[int]] = {}
        for row in np.flatnonzero(self._made_rows).tolist():
            found.setdefault(str(self._rows["stimulus_id"][row]), []).append(row)
        return {name: np.array(rows) for name, rows in found.items()}

    @cached_property
    def _by_unit(self) -> dict[int, list[str]]:
        """Names of the images that were made for each unit, by its column."""
        found: dict[int, list[str]] = {}
        for name, rows in self._images.items():
            found.setdefault(int(self._rows["unit"][rows[0]]), []).append(name)
        return found

    def ranked(self, layer: str) -> dict[str, float]:
        """Returns the p-value of each image that was made for a unit of a layer, by its name."""
        if layer not in self._known_ranks:
            names = (name for column in self.keys.get(layer, {}).values() for name in self._by_unit.get(column, ()))
            self._known_ranks[layer] = {name: self._rank(name) for name in names}
        return self._known_ranks[layer]

    @cached_property
    def _p(self) -> dict[str, tuple[float, float]]:
        """The p-value of each image that was made, and the same corrected for those of its layer."""
        found: dict[str, tuple[float, float]] = {}
        for layer in self.keys:
            (adjusted,) = corrected([self], layer)
            found |= {name: (p, adjusted[name]) for name, p in self.ranked(layer).items()}
        return found

    def _rank(self, name: str) -> float:
        """Returns the chance that a natural image ranks as high as one that was made."""
        rows = self._images[name]
        column = int(self._rows["unit"][rows[0]])
        natural = self._naturals[3][:, column]
        own = Response.of(self._responses[rows, column]).mean
        known = natural[np.isfinite(natural)]
        return float((1 + (known >= own).sum()) / (len(known) + 1)) if np.isfinite(own) and len(known) else float("nan")

    @cached_property
    def _sparseness(self) -> xr.Dataset:
        return sparseness(self._recording, kind="reference")

    @cached_property
    def _tested(self) -> dict[str, tuple[FloatArray, FloatArray, FloatArray]]:
        """H, p and corrected p of each unit of a layer, over classes."""
        found: dict[str, tuple[FloatArray, FloatArray, FloatArray]] = {}
        for layer, columns in self.keys.items():
            h = np.array([_kruskal(*self._classes(column)) for column in columns.values()])
            found[layer] = (h[:, 0], h[:, 1], holm(h[:, 1]))
        return found

    def _classes(self, column: int) -> tuple[list[str], list[FloatArray]]:
        """Names of the classes with enough images, and a unit's responses to the images of each."""
        _, _, classes, means = self._naturals
        values = means[:, column]
        groups = {name: values[(classes == name) & np.isfinite(values)] for name in np.unique(classes) if name}
        kept = {str(name): group for name, group in groups.items() if len(group) >= _LEAST_OF_CLASS}
        return list(kept), list(kept.values())

    def differing(self, layer: str) -> dict[str, float]:
        """Returns the p-value of the difference between classes of each unit of a layer, by the unit's name.

        Empty for another layer, and where natural images are not sorted into classes.
        """
        units = self.keys.get(layer, {}) if len(set(self._naturals[2]) - {""}) > 1 else {}
        return dict(zip(units, self._tested[layer][1].tolist(), strict=True)) if units else {}

    def tuning(self, layer: str, key: str) -> Tuning:
        """Returns how a unit's responses differ between classes; empty where there are not two classes."""
        column = self.column(layer, key)
        names, groups = self._classes(column)
        if len(names) < 2:
            return Tuning()
        place = list(self.keys[layer]).index(key)
        h, p, adjusted = (float(values[place]) for values in self._tested[layer])
        each = [ClassResponse(name, Response.of(group)) for name, group in zip(names, groups, strict=True)]
        each.sort(key=lambda one: -one.response.mean)
        return Tuning(tuple(each), h, p, adjusted, h / (sum(map(len, groups)) - 1))

    def made(self, column: int) -> tuple[Made, ...]:
        """Returns the images that were made for a unit, the highest response first."""
        if column not in self._known_made:
            found = [self._one(name, column) for name in self._by_unit.get(column, ())]
            found.sort(key=lambda one: (not np.isfinite(one.response.mean), -one.response.mean))
            self._known_made[column] = tuple(found)
        return self._known_made[column]

    def _one(self, name: str, column: int) -> Made:
        rows, held = self._images[name], self._recording
        label = str(self._rows["thread"][rows[0]])
        place = held[EVOLUTION].values.tolist().index(label)
        response = Response.of(self._responses[rows, column])
        natural = self._naturals[3][:, column]
        natural = natural[np.isfinite(natural)]
        best = self.best(column)
        most = best[0].response.mean if best else float(natural.max(initial=np.nan))
        values = {measure: float(held[measure].values[rows[0]]) for measure in IMAGE_MEASURES}
        p, adjusted = self._p[name]
        return Made(
            stimulus_id=name,
            label=label,
            method=str(held["method"].values[place]),
            generator=str(held["generator"].values[place]),
            told=str(held["told"].values[place]),
            seed=int(self._rows["run_seed"][rows[0]]),
            response=response,
            percentile=100 * float((natural < response.mean).mean()) if len(natural) else float("nan"),
            ratio=response.mean / most if most > 0 else float("nan"),
            p=p,
            p_adjusted=adjusted,
            failure=str(self._rows["failure"][rows[0]]),
            cost=float(held["forward_equivalents"].values[rows[0]]),
            outside=tuple(m for m, value in values.items() if self._bands[m].holds(value) == 0),
        )

    def best(self, column: int) -> tuple[Photograph, ...]:
        """Returns the natural images that drive a unit most, in the order of the survey, which chose them."""
        return self._ends(column)[0]

    def worst(self, column: int) -> tuple[Photograph, ...]:
        """Returns the natural images that drive a unit least, the lowest first."""
        return self._ends(column)[1]

    def _ends(self, column: int) -> tuple[tuple[Photograph, ...], tuple[Photograph, ...]]:
        if column not in self._known_ends:
            self._known_ends[column] = self._found_ends(column)
        return self._known_ends[column]

    def _found_ends(self, column: int) -> tuple[tuple[Photograph, ...], tuple[Photograph, ...]]:
        numbers, ids, classes, means = self._naturals
        best, worst = ends_of(means[:, column], self._top)
        found = []
        for end, first in ((best, 0), (worst, len(best))):
            places = [
                Photograph(str(ids[i]), int(numbers[i]), str(classes[i]), self._retested(int(numbers[i]), column), j)
                for j, i in enumerate(end, first)
            ]
            shown = all(one.number in self._again_rows for one in places)  # not yet of an atlas that is being filled
            again = [one for one in places if shown and one.response.n]
            found.append(tuple(sorted(again, key=lambda one: one.response.mean * (1 if first else -1))))
        return found[0], found[1]

    @cached_property
    def _top(self) -> int:
        from closedloop.recording.evolutions import experiment_of

        return int(experiment_of(self._recording).get("top", 9))

    @cached_property
    def _again_rows(self) -> dict[int, NDArray[np.intp]]:
        rows = np.flatnonzero(self._again)
        numbers = self._rows["number"][rows]
        order = np.argsort(numbers, kind="stable")
        kinds, first = np.unique(numbers[order], return_index=True)
        return dict(zip(kinds.tolist(), np.split(rows[order], first[1:]), strict=True)) if len(rows) else {}

    def _retested(self, number: int, column: int) -> Response:
        rows = self._again_rows.get(number)
        return Response(float("nan"), float("nan"), 0) if rows is None else Response.of(self._responses[rows, column])

    def sparseness(self, column: int) -> float:
        """Returns a unit's lifetime sparseness over natural images, 0 to 1."""
        return float(self._sparseness["sparseness"].values[column])

    def warnings(self, column: int) -> tuple[str, ...]:
        """Returns in words whether a unit is dead or saturated; none where it is neither."""
        natural = np.sort(self._naturals[3][:, column])
        made = [one.response.mean for one in self.made(column)]
        return tuple(_warnings(natural[np.isfinite(natural)], made))

    def unit(self, layer: str, key: str) -> UnitPage:
        """Returns all that a page about a unit says.

        Raises:
            InvalidArgumentError: There is no such unit.
        """
        column = self.column(layer, key)
        made, (best, worst) = self.made(column), self._ends(column)
        natural = np.sort(self._naturals[3][:, column])
        natural = natural[np.isfinite(natural)]
        counts, edges = np.histogram(natural, bins=40) if len(natural) else (np.zeros(0, int), np.zeros(0))
        responses = [*(one.response for one in made), *(one.response for one in (*best, *worst))]
        again = [self._again_rows.get(one.number, np.empty(0, int)) for one in (*best, *worst)]
        attributed = {str(self._rows["attributed"][rows[0]]) for rows in again if len(rows)} - {""}
        return UnitPage(
            column,
            layer,
            key,
            recorded_title(self._recording, column),
            self.field(column),
            made,
            best,
            worst,
            min(attributed, default=""),
            natural,
            counts,
            edges,
            self.sparseness(column),
            float(self._sparseness["kurtosis"].values[column]),
            self.tuning(layer, key),
            bool(responses) and all(one.n < 2 or one.sem == 0 for one in responses),
            self.warnings(column),
        )

    @property
    def units(self) -> int:
        """How many units were recorded, of all layers."""
        return int(self._recording.sizes["neuroid"])

    @property
    def subject(self) -> str:
        """The subject's name."""
        return str(self._recording["subject"].item())

    def field(self, column: int) -> tuple[int, int, int, int] | None:
        """Returns the receptive field of a unit ``(y0, x0, y1, x1)`` in pixels, half-open; None if it is not known."""
        names = ("rf_y0", "rf_x0", "rf_y1", "rf_x1")
        if not set(names) <= set(self._recording.coords):
            return None
        y0, x0, y1, x1 = (int(self._fact(name, column, 0)) for name in names)
        return y0, x0, y1, x1


def ends_of(means: FloatArray, top: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Returns the numbers of the natural images that drive a unit most, the best first, and least, the worst first.

    Args:
        means: Response to each, ``(n,)``; those that are NaN have no number.
        top: At most so many, and no more than half of all, that none is both.
    """
    known = np.flatnonzero(np.isfinite(means))
    ascending = known[np.argsort(means[known].astype(np.float32), kind="stable")]
    top = min(top, max(1, len(known) // 2))
    return ascending[::-1][:top], ascending[:top]


def corrected(atlases: Sequence[AtlasPages], layer: str) -> list[dict[str, float]]:
    """Returns the p-values of images that were made for a layer, corrected for all of them together.

    By Benjamini & Hochberg over the images of all atlases, by name for each atlas; several atlases of a layer that are
    read side by side are one family of tests.
    """
    raw = [one.ranked(layer) for one in atlases]
    values = benjamini_hochberg(np.array([p for own in raw for p in own.values()]))
    ends = np.cumsum([len(own) for own in raw])[:-1]
    return [dict(zip(own, part.tolist(), strict=True)) for own, part in zip(raw, np.split(values, ends), strict=True)]


def corrected_classes(atlases: Sequence[AtlasPages], layer: str, sets: Sequence[str]) -> list[dict[str, float]]:
    """Returns the p-values of differences between classes, corrected for all units of a layer together.

    By Holm over all atlases, by the unit's name for each; what is read side by side is one family of tests.

    Args:
        atlases: Their pages.
        layer: The layer.
        sets: Which natural images each was made with; one unit with one set in two atlases is one test.
    """
    tests = {
        (which, key): p for one, which in zip(atlases, sets, strict=True) for key, p in one.differing(layer).items()
    }
    adjusted = dict(zip(tests, holm(list(tests.values())).tolist(), strict=True))
    return [
        {key: adjusted[which, key] for key in one.differing(layer)} for one, which in zip(atlases, sets, strict=True)
    ]


def _kruskal(names: list[str], groups: list[FloatArray]) -> tuple[float, float]:
    """Returns Kruskal & Wallis' H and its p-value; NaN for fewer than two classes, or where all values are equal."""
    if len(names) < 2 or np.ptp(np.concatenate(groups)) == 0:
        return float("nan"), float("nan")
    found = stats.kruskal(*groups)
    return float(found.statistic), float(found.pvalue)


def _warnings(natural: FloatArray, made: list[float]) -> list[str]:
    """Returns in words whether a unit is dead or saturated, from responses to natural images, ascending ``(n,)``."""
    n = len(natural)
    if n < 2:
        return []
    low, high = float(natural[0]), float(natural[-1])
    near = max(float(rounding(natural[:, None])[0]) * max(abs(low), abs(high)), ROUNDING * (high - low))
    driven = max((value for value in made if np.isfinite(value)), default=float("-inf"))
    if high - low <= near:
        other = f" Images that were made drive it to {driven:.4g}." if driven > high + near else ""
        return [f"Dead: it answers {high:.4g} to every one of {n:,} natural images.{other}"]
    found = []
    floor, ceiling = int((natural <= low + near).sum()), int((natural >= high - near).sum())
    if floor >= _SILENT * n:
        found.append(f"Almost silent: it answers {low:.4g} to {floor:,} of {n:,} natural images.")
    if ceiling >= max(3, _SATURATED * n) and driven <= high + near:
        found.append(f"Saturated: {ceiling:,} of {n:,} natural images drive it to {high:.4g}, and no image higher.")
    return found


@at_door
def atlas_table(recording: xr.Dataset) -> Mapping[str, xr.Dataset]:
    """Returns the numbers of an atlas, a table for each layer.

    Args:
        recording: Of a run of `closedloop.protocols.atlas`.

    Returns:
        By layer, over ``contender``, ``seed`` and ``unit``: `response` and `sem` (re-tested), `percentile` among the
        natural images, `ratio` to the best of them, `p` (rank among them) and `p_adjusted` (Benjamini & Hochberg over
        the layer), `failure`; over ``unit``: `natural_best`, `sparseness`; `natural_n`.

    Raises:
        RecordingError: It is the recording of something else.
    """
    pages = AtlasPages(recording)
    return {layer: _layer_table(pages, recording, list(columns.values())) for layer, columns in pages.keys.items()}


def _layer_table(pages: AtlasPages, recording: xr.Dataset, columns: list[int]) -> xr.Dataset:
    found = {column: {(m.label, m.seed): m for m in pages.made(column)} for column in columns}
    methods = recording[EVOLUTION].values.astype(str).tolist()
    seeds = sorted({seed for each in found.values() for _, seed in each})
    shape = (len(methods), len(seeds), len(columns))
    numbers = {name: np.full(shape, np.nan) for name in ("response", "sem", "percentile", "ratio", "p", "p_adjusted")}
    failure = np.full(shape, "", dtype=object)
    for i, j, k in np.ndindex(*shape):
        one = found[columns[k]].get((methods[i], seeds[j]))
        if one is not None:
            values = (one.response.mean, one.response.sem, one.percentile, one.ratio, one.p, one.p_adjusted)
            for name, value in zip(numbers, values, strict=True):
                numbers[name][i, j, k] = value
            failure[i, j, k] = one.failure
    best = [ends[0].response.mean if (ends := pages.best(column)) else np.nan for column in columns]
    dims = ("contender", "seed", "unit")
    return xr.Dataset(
        {
            **{name: (dims, values) for name, values in numbers.items()},
            "failure": (dims, failure),
            "natural_best": ("unit", best),
            "sparseness": ("unit", sparseness(recording, kind="reference")["sparseness"].values[columns]),
            "natural_n": ((), pages.natural_n),
        },
        {
            "contender": methods,
            "seed": seeds,
            "unit": columns,
            "neuroid_id": ("unit", recording["neuroid_id"].values[columns]),
            "title": ("unit", [recorded_title(recording, column) for column in columns]),
        },
    )
