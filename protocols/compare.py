"""What does backpropagation buy? Every method on every unit, at equal budgets, with one record for each image.

First the natural images are shown, then, method after method, the last image for each unit; each block of a few units
is committed before the next is sought.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from functools import partial
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.analysis.atlas import NUMBERS
from closedloop.analysis.contenders import comparison_dataset, contender_failures, contender_table, reached_in_words
from closedloop.checks import check_whole, record_images
from closedloop.errors import InvalidArgumentError, RecordingError, closest
from closedloop.gradients.methods import find_method
from closedloop.images.eight_bit import from_bytes
from closedloop.images.naturalness import MEASURES
from closedloop.images.nearest import nearest
from closedloop.images.sets import ImageSet, as_image_set
from closedloop.interfaces import STILL, FloatArray, State, Stateful, Subject, form_of, resolution_of
from closedloop.loop.commits import check_fingerprints, fingerprints, is_finished, record, run_course
from closedloop.loop.experiment import load_recorded_subject
from closedloop.loop.parts import ReferencePart, RunPart
from closedloop.loop.presenter import Presenter, Shown
from closedloop.loop.progress import Meter, Progress, as_progress, begin_progress, end_progress, move_progress
from closedloop.loop.protocol import Handed, RunFigure, RunProtocol, RunSummary, RunTable, summarize_responses
from closedloop.loop.settings import Timing, check_options, option, settings
from closedloop.objectives.naming_units import UnitSpec, parse_columns
from closedloop.readable import percent, some
from closedloop.recipes import fingerprint, plain, recipe, version
from closedloop.recording.layout import EARLIER, EVOLUTION, REFERENCE, Layout, Rows, Variable
from closedloop.recording.reader import kept_sums, open_recording
from closedloop.recording.references import keep_references, read_references, source
from closedloop.recording.states import unpack_state
from closedloop.recording.writer import Recording
from closedloop.seeds import check_seed, current_stream, generator_state, named_generator, restore_generator, streams
from closedloop.signatures import at_door

from .contenders import (
    CONTENDERS,
    EVOLVE,
    POINTS,
    PUBLISHED,
    TOGETHER,
    Contender,
    as_contender,
    generator_of,
    run_contender,
)
from .stored import check_complete, experiment_of_protocol, stored_images, subject_of
from .sweep_plan import check_entries, look_at, whole_layer

#: Stands as `protocol` in a run's file.
COMPARE = "compare"
#: Numbers that are noted of each image, besides the responses to it.
_NUMBERS = (*NUMBERS, "feature_distance")


@settings
class CompareSettings:
    """How budgets are counted."""

    count: str = option(
        default="forward_equivalents",
        choices=("forward_equivalents", "forwards"),
        help="What budgets count: forward equivalents (a backward pass counts 2) or forward passes.",
    )


@at_door
def compare(
    subject: Subject,
    units: UnitSpec,
    methods: Sequence[str | Contender] = CONTENDERS,
    *,
    budgets: Sequence[int | str] = (PUBLISHED,),
    count: str = CompareSettings.count,
    seeds: Sequence[int] = (Timing.seed,),
    naturals: ImageSet | str | Path | NDArray[Any] = ReferencePart.references,
    features: Subject | None = None,
    save: str | Path | None = None,
    exists: str = RunPart.exists,
    progress: Progress = True,
) -> xr.Dataset:
    """Finds a preferred stimulus of each unit by each method, and measures all of them alike.

    Args:
        subject: The network that is shown images; differentiable, unless all methods evolve. All outputs of a
            classifier should be recorded, so that confidence is known.
        units: Columns, see `closedloop.objectives.naming_units`.
        methods: Names of gradient methods, "evolved" (`native` and the default optimizer), or `Contender` values.
        budgets: Numbers to be counted as `count` says, and "published" for each method's own.
        count: "forward_equivalents" (a backward pass counts 2) or "forwards" (a backward pass is free).
        seeds: Each is a run of its own.
        naturals: Natural images: a folder, an array ``(n, 3, h, w)`` in [0, 1], an `ImageSet`, or "bundled".
        features: A subject whose responses say which images are alike; default the subject itself.
        save: Folder of the comparison; None keeps it in memory. `closedloop.open_recording` reads what was presented,
            `read_comparison` this result; `resume` goes on after a crash.
        exists: What to do if there is such a run: "fail", or "resume" it if it is of the same comparison.
        progress: Whether a bar, or in a log file lines, says on standard error how far it is; or a function that is
            called after each part with the number of parts done and of all, and what was done.

    Returns:
        Dims ``contender × budget × seed × unit``. Of the last image, 8 bits and whole: `response`, `confidence`,
        `image`, `failure`, the measures of `closedloop.images.naturalness` and `feature_distance` (to the nearest
        natural image ÷ their own typical distance); `percentile` among the natural images, `ratio` to the best;
        `forwards`, `forward_equivalents`, and `curve_response` (best so far) over `curve_cost`. Of the natural images:
        `natural_best`, `natural_image` on ``unit``, and the band of each measure as ``{measure}_low`` and ``_high``.
        The coordinate `generator_sha256` tells the weights of each contender's generator from others.

    Raises:
        InvalidArgumentError: An argument does not fit; nothing is written.
        UnknownNameError: No such method, generator or optimizer.
        RecordingError: The folder exists, holds another comparison, or cannot be written.
    """
    contenders = [as_contender(method) for method in methods]
    columns = _check(subject, units, contenders, budgets, count, seeds)
    if (form := form_of(subject)) != STILL:
        raise InvalidArgumentError(
            f"subject: expected one of colour stills, which a comparison stores, got one of {form.describe()}; evolve "
            "and ascend take it."
        )
    images = as_image_set(naturals, resolution_of(subject), name="naturals")
    content: dict[str, Any] = {
        "closedloop": version(),
        "protocol": COMPARE,
        "subject": recipe(subject),
        "units": columns,
        "methods": [asdict(c) for c in contenders],
        "budgets": list(budgets),
        "count": count,
        "seeds": list(seeds),
        "naturals": source(naturals),
        "features": None if features is None else recipe(features),
    }
    course = Comparison(subject, contenders, content, images, features, as_progress(progress, "comparing"))
    if save is not None and exists == "resume":
        course.earlier = _set_earlier_aside(Path(save), content, course.weights)
    recording = record(course, {**content, "fingerprints": course.fingerprints()}, save, exists)
    return comparison_dataset(recording, content, images)


@at_door
def read_comparison(run: str | Path) -> xr.Dataset:
    """Returns the result of a finished run of `compare`.

    Args:
        run: The run's folder.

    Raises:
        RecordingError: Not a run of `compare`, or not finished: `resume` goes on with it.
    """
    content = experiment_of_protocol(run, COMPARE)
    images = read_references(Path(run))
    if not is_finished(run) or images is None:
        raise RecordingError(f"{run}: it is not finished; go on with closedloop resume {run}.")
    return comparison_dataset(open_recording(run), content, images)


def _resume(run: Path, content: Mapping[str, Any], handed: Handed) -> xr.Dataset:
    """Goes on with a comparison; returns its result, of a finished one at once."""
    if is_finished(run):
        return read_comparison(run)
    check_complete(
        run, content, None, "subject", "units", "methods", "budgets", "count", "seeds", "naturals", "features"
    )
    subject = subject_of(run, content, handed)
    features = None if content["features"] is None else load_recorded_subject(content["features"], str(run))
    stored = stored_images(run, content["naturals"])
    if stored is None:
        stored = as_image_set(content["naturals"], resolution_of(subject))
    contenders = [Contender(**written) for written in content["methods"]]
    told = as_progress(handed.progress, "comparing")
    progress = told if told is None or isinstance(told, Meter) else _without_words(told)
    course = Comparison(subject, contenders, content, stored, features, progress)
    if "earlier" in (content.get("fingerprints") or {}) or kept_sums(run) is None:
        course.earlier = run / EARLIER
    check_fingerprints(run, content, course.fingerprints())
    return comparison_dataset(run_course(course, Recording.reopen(run)), content, stored)


def _without_words(progress: Callable[..., None]) -> Callable[[int, int, str], None]:
    return lambda done, total, _what: progress(done, total)


def _summary(run: Path, recording: xr.Dataset) -> RunSummary:
    """Returns a table for each budget and two figures; before the end, the responses."""
    from closedloop.figures import plot_budgets, plot_contenders
    from closedloop.figures.style import whole_figure

    if not is_finished(run):
        return summarize_responses(run, recording)
    result = read_comparison(run)
    figures = {
        "contenders": RunFigure(
            partial(plot_contenders, result), "Each unit’s best photograph beside what each method found."
        ),
        "budgets": RunFigure(
            lambda: whole_figure(plot_budgets(result)), "The best response so far over what it cost, for each method."
        ),
    }
    return RunSummary(
        [_table(result, str(budget)) for budget in result["budget"].values],
        contender_failures(result),
        figures,
        f"What do {some(result['contender'].values)} find for {some(result['title'].values)}?",
        units=[int(column) for column in result["unit"].values],
        found=[reached_in_words(result, str(budget)) for budget in result["budget"].values],
    )


def _table(result: xr.Dataset, budget: str) -> RunTable:
    """Returns one row for each contender: medians over units, with intervals where there are units enough."""
    table = contender_table(result).sel(budget=budget)
    words = "as published" if budget == PUBLISHED else f"{budget} {str(result['count'].item()).replace('_', '-')}"
    n = result.sizes["unit"]
    few = "" if np.isfinite(table["ratio_low"].values).any() else "; no interval: that of a median takes six units"
    return RunTable(
        f"Budget: {words}; {'one unit' if n == 1 else f'medians over {n} units'}",
        (
            "contender",
            "÷ best natural",
            "[95\u00a0%]",
            "above natural",
            "centile",
            "softmax",
            "in natural band",
            "cost",
            "failed",
        ),
        [_cells(table.sel(contender=contender)) for contender in table["contender"].values],
        f"“above natural”: share of units whose image beats the best of {int(result['natural_n'])} natural images; "
        f"“in natural band”: measures, of {len(MEASURES)}, on which most images lie in the central 95 % of these{few}",
    )


def _cells(row: xr.Dataset) -> list[str]:
    low, high = float(row["ratio_low"]), float(row["ratio_high"])
    ratio, confidence = (f"{v:.3g}" if np.isfinite(v := float(row[k])) else "–" for k in ("ratio", "confidence"))
    return [
        str(row["contender"].item()),
        ratio,
        f"{low:.2f}–{high:.2f}" if np.isfinite([low, high]).all() else "–",
        percent(float(row["above_natural"])),
        f"{float(row['percentile']):.0f}",
        confidence,
        f"{int((row['inside'] > 0.5).sum())} of {len(MEASURES)}",
        f"{float(row['forward_equivalents']):.0f}",
        percent(float(row["failed"])),
    ]


def _planned(content: Mapping[str, Any], units: Sequence[str], alone: bool) -> tuple[dict[str, Any], int]:
    """Returns the experiment of a comparison in a sweep, and about how many images it takes.

    The whole layer is recorded: which images are alike is said by all of its units, however few share a run.
    """
    check_entries(content, ("contenders", "budgets", "count", "seed", "naturals"), COMPARE)
    if not units:
        raise InvalidArgumentError(
            "units: expected the units of a comparison, got none; name them, such as units: 0-9."
        )
    methods = _contenders(content.get("contenders", CONTENDERS))
    budgets, seed = content.get("budgets", [PUBLISHED]), content.get("seed", 0)
    if not isinstance(budgets, (list, tuple)):
        raise InvalidArgumentError(f"budgets: expected a list, such as [published, 3000], got {budgets!r:.80}.")
    _check_choices(methods, budgets, content.get("count", CompareSettings.count), [seed])
    subject, columns = whole_layer(content["subject"], units)
    told = {"subject": subject, "units": columns, "contenders": [asdict(m) for m in methods], "budgets": budgets}
    each = sum(1000 if budget == PUBLISHED else int(budget) for budget in budgets)
    return {**content, **told}, each * len(methods) * len(columns)


def _contenders(named: Any) -> list[Contender]:
    """Returns the contenders that a plan names, each looked at as far as it can be before it runs."""
    if not isinstance(named, (list, tuple)):
        raise InvalidArgumentError(
            f"contenders: expected a list of methods, such as [raw, evolved], got {named!r:.80}."
        )
    found = [_contender(method) for method in named]
    for one in found:
        if one.method == EVOLVE:
            look_at("optimizers", {"name": one.optimizer, **one.options})
        if one.generator is not None:
            look_at("generators", {"name": one.generator} if isinstance(one.generator, str) else one.generator)
    return found


def _contender(method: Any) -> Contender:
    """Returns a contender from its name, or from what a file says of it."""
    if not isinstance(method, Mapping):
        return as_contender(method)
    known = [entry.name for entry in fields(Contender)]
    for name in method:
        if name not in known:
            raise InvalidArgumentError(f"contenders: one has no entry {name!r}.{closest(str(name), known)}")
    if not {"label", "method"} <= method.keys():
        raise InvalidArgumentError(f"contenders: expected a label and a method of each, got {dict(method)!r:.80}.")
    return Contender(**method)


def _begin(content: Mapping[str, Any], save: Path, told: Callable[[int], None]) -> xr.Dataset:
    """Does a run of a sweep."""
    numbers = {name: content[name] for name in ("budgets", "count", "naturals") if name in content}
    return compare(
        load_recorded_subject(content["subject"], str(save)),
        content["units"],
        [_contender(method) for method in content["contenders"]],
        seeds=(content.get("seed", 0),),
        save=save,
        exists="resume",
        progress=False,
        **numbers,
    )


#: What others must know of comparisons.
PROTOCOL = RunProtocol(COMPARE, _resume, _summary, command="compare", planned=_planned, begin=_begin)


def _check(
    subject: Subject,
    units: UnitSpec,
    contenders: Sequence[Contender],
    budgets: Sequence[int | str],
    count: str,
    seeds: Sequence[int],
) -> list[int]:
    """Returns the columns; raises for what does not fit before anything is run."""
    columns = parse_columns(units, len(subject.units))
    _check_choices(contenders, budgets, count, seeds)
    return columns


def _check_choices(
    contenders: Sequence[Contender], budgets: Sequence[int | str], count: str, seeds: Sequence[int]
) -> None:
    """Raises for what does not fit, whatever the subject."""
    labels = [c.label for c in contenders]
    if not labels or len(set(labels)) != len(labels):
        raise InvalidArgumentError(f"methods: expected one or more with different labels, got {labels}.")
    for contender in contenders:
        if not contender.label.replace("-", "").replace("_", "").isalnum():
            raise InvalidArgumentError(f"label: expected letters, digits, '-' or '_', got {contender.label!r}.")
        if contender.method != EVOLVE:
            find_method(contender.method)
    check_options(CompareSettings(count=count))
    for budget in budgets:
        if budget != PUBLISHED:
            check_whole("budgets", budget, 50)
    if not budgets or not seeds:
        raise InvalidArgumentError(f"budgets, seeds: expected at least one each, got {budgets!r} and {seeds!r}.")
    for seed in seeds:
        check_seed(seed)


class Job(NamedTuple):
    """What is sought between two commits: the images of one method for a few units."""

    contender: Contender
    budget: int | str
    seed: int
    columns: list[int]

    @property
    def key(self) -> str:
        """Its name."""
        return f"{self.contender.label}-{self.budget}-{self.seed}-{self.columns[0]}"


class Comparison:
    """A comparison under way: the course that `closedloop.loop.commits` follows.

    Args:
        subject: The network that is shown images.
        contenders: The methods.
        content: What the run's file holds.
        naturals: Natural images at the subject's resolution.
        features: A subject whose responses say which images are alike; None for the subject itself.
        progress: Is called after each job with the number of jobs done and of all, and what was done.

    Attributes:
        earlier: A folder with finished parts of a comparison that an older version began; None for none.
    """

    reason = ""

    def __init__(
        self,
        subject: Subject,
        contenders: Sequence[Contender],
        content: Mapping[str, Any],
        naturals: ImageSet,
        features: Subject | None,
        progress: Callable[..., None] | None = None,
    ) -> None:
        self.subject: Subject = subject
        self._contenders = contenders
        self._content = content
        self._naturals, self._features, self._progress = naturals, features, progress
        self._generators = [generator_of(c, subject) for c in contenders]
        self._presenter = Presenter(subject)
        self._order = named_generator(0, "order")
        self._jobs = [
            Job(contender, budget, seed, content["units"][i : i + TOGETHER])
            for contender, budget, seed in product(contenders, content["budgets"], content["seeds"])
            for i in range(0, len(content["units"]), TOGETHER)
        ]
        self._surveyed, self._done, self._presentations = False, 0, 0
        self._part: State = {}
        self._natural_features: FloatArray | None = None
        self.earlier: Path | None = None
        self._stream = current_stream()

    @property
    def handed(self) -> Mapping[str, Any]:
        """Who says which images are alike, if another subject does."""
        return {} if self._features is None else {"features": self._features}

    @property
    def weights(self) -> list[str]:
        """SHA-256 of each contender's generator."""
        return [fingerprint(g) for g in self._generators]

    def fingerprints(self) -> dict[str, str]:
        """Returns SHA-256 of subject, natural images and the contenders' generators, as far as they can tell."""
        made = {f"generator of {c.label}": g for c, g in zip(self._contenders, self._generators, strict=True)}
        known: dict[str, Any] = {} if self._features is None else {"features": self._features}
        if self.earlier is not None and self.earlier.is_dir():
            parts = sorted(self.earlier.glob("*.state"))
            known["earlier"] = b"\n".join(part.name.encode() + sha256(part.read_bytes()).digest() for part in parts)
        return fingerprints(subject=self.subject, naturals=self._naturals.fingerprint, **made, **known)

    def layout(self) -> Layout:
        """Returns the shape of the recording: the natural images, and one image for each unit of each job."""
        images = len(self._naturals) + sum(len(job.columns) for job in self._jobs)
        side = self._naturals.images.shape[-1]
        return Layout(
            capacity=images * (1 + self._presenter.retries),
            latent=0,
            units=self.subject.units,
            scalars={
                "subject": self.subject.name,
                "count": self._content["count"],
                "seed": int(self._content["seeds"][0]),
                "closedloop_version": version(),
            },
            coords={
                "budget": ("str", ""),
                "run_seed": ("int64", -1),
                "unit": ("int64", -1),
                "failure": ("str", ""),
                **dict.fromkeys(_NUMBERS, ("float64", np.nan)),
            },
            evolutions={
                EVOLUTION: [c.label for c in self._contenders],
                "generator": [g.name for g in self._generators],
                "generator_sha256": self.weights,
                "method": [c.method for c in self._contenders],
            },
            variables={
                "image": Variable("uint8", 0, ("rgb", "row", "col"), (3, side, side)),
                "curve_cost": Variable("float64", np.nan, ("point",), (POINTS,)),
                "curve_response": Variable("float64", np.nan, ("point",), (POINTS,)),
            },
        )

    def begin(self, recording: Recording) -> None:
        """Keeps the natural images beside the data."""
        keep_references(recording, self._naturals)
        begin_progress(self._progress, self._done, len(self._jobs))  # last, for what does not begin is not ended

    def show(self) -> Shown | None:
        """Shows the natural images, then the last images of the next job, once each."""
        if not self._surveyed:
            return self._shown(self._naturals.images, self._naturals.ids)
        if self._done == len(self._jobs):
            return None
        job = self._jobs[self._done]
        with streams(self._stream):
            self._part = self._finished_earlier(job) or run_contender(
                self.subject, job.contender, job.budget, self._content["count"], job.seed, job.columns
            )
        return self._shown(from_bytes(self._part["image"]), self._names(job))

    def _shown(self, images: NDArray[np.float32], ids: Sequence[str]) -> Shown:
        return self._presenter.show(images, np.ones(len(images), np.int64), self._order, ids=ids)

    def _names(self, job: Job) -> list[str]:
        return [f"{job.contender.label}-{job.budget}-{job.seed}-{c}" for c in job.columns]

    def _finished_earlier(self, job: Job) -> State | None:
        """Returns a part that an older version finished."""
        file = None if self.earlier is None else self.earlier / f"{job.key}.state"
        if file is None or not file.exists():
            return None
        try:
            part = unpack_state(file.read_bytes())
            wanted = {name: len(part[name]) for name in ("image", "failure", "curve_cost", "curve_response")}
        except (OSError, KeyError, TypeError, RecordingError) as error:
            raise RecordingError(
                f"{file}: not a part of a comparison, or a damaged one ({error}); remove it."
            ) from error
        if set(wanted.values()) != {len(job.columns)}:
            raise RecordingError(f"{file}: expected the images of {len(job.columns)} units, got {wanted}; remove it.")
        return part

    def learn(self, shown: Shown) -> Rows:
        """Returns the rows of what was shown, and goes on to the next job."""
        n, index, first = len(shown.stimulus), self._done, self._presentations
        self._presentations += n
        if not self._surveyed:
            self._surveyed = True
            facts: dict[str, Any] = {
                "thread": [REFERENCE] * len(self._naturals),
                "stimulus_id": list(self._naturals.ids),
            }
            return self._rows(shown, -1, first, "reference", facts, {})
        self._done += 1
        job, part = self._jobs[index], self._part
        facts = {
            "thread": [job.contender.label] * len(job.columns),
            "stimulus_id": self._names(job),
            "budget": [str(job.budget)] * len(job.columns),
            "run_seed": [job.seed] * len(job.columns),
            "unit": job.columns,
            "failure": part["failure"],
            **{name: part[name] for name in _NUMBERS if name in part},
            **self._feature_distance(part["image"]),
        }
        arrays = {name: part[name] for name in ("image", "curve_cost", "curve_response")}
        return self._rows(shown, index, first, "retest", facts, arrays)

    def _feature_distance(self, images: NDArray[np.uint8]) -> dict[str, FloatArray]:
        """Measures how far images are from the nearest natural one, for a subject of its own that says it."""
        if self._features is None:
            return {}
        if self._natural_features is None:
            self._natural_features = record_images(self._features, self._naturals.images, "features").astype(float)
        own = record_images(self._features, from_bytes(images), "features").astype(float)
        return {"feature_distance": nearest(own, self._natural_features).ratio}

    def _rows(
        self,
        shown: Shown,
        index: int,
        first: int,
        kind: str,
        facts: Mapping[str, Any],
        arrays: Mapping[str, NDArray[Any]],
    ) -> Rows:
        """Returns rows with what is known of each image, and fill values for the rest."""
        layout, which, n = self.layout(), shown.stimulus, len(shown.stimulus)
        columns = {name: np.asarray(values)[which] for name, values in facts.items()}
        missing = {name: np.full(n, fill) for name, (_, fill) in layout.coords.items() if name not in columns}
        coords = {
            "generation": np.full(n, index, np.int32),
            "kind": np.full(n, kind),
            "repeat": shown.repeat.astype(np.int32),
            "onset_s": first + np.arange(n, dtype=float),
            **columns,
            **missing,
        }
        variables = {
            name: arrays[name][which] if name in arrays else np.full((n, *known.shape), known.fill, known.dtype)
            for name, known in layout.variables.items()
        }
        nothing = np.full(n, np.nan)
        return Rows(coords, shown.responses, np.empty((n, 0)), nothing, variables=variables)

    def committed(self) -> None:
        """Moves the progress on."""
        if self._done:
            job = self._jobs[self._done - 1]
            move_progress(
                self._progress, self._done, len(self._jobs), f"{job.contender.label}, {job.budget}, seed {job.seed}"
            )

    def end(self) -> None:
        """Ends the progress."""
        end_progress(self._progress)

    def state(self) -> State:
        """Returns all that is needed to go on identically, but for the subject's own state."""
        return {
            "surveyed": self._surveyed,
            "done": self._done,
            "presentations": self._presentations,
            "order": generator_state(self._order),
            "features": self._features.state() if isinstance(self._features, Stateful) else None,
            "natural_features": self._natural_features,
            "stream": self._stream,
        }

    def restore(self, state: State) -> None:
        """Goes back to a saved state."""
        self._surveyed, self._done = bool(state["surveyed"]), int(state["done"])
        self._presentations = int(state["presentations"])
        restore_generator(self._order, state["order"])
        if isinstance(self._features, Stateful):
            self._features.restore(state["features"])
        self._natural_features = state["natural_features"]
        self._stream = int(state.get("stream", 1))  # runs of earlier versions do not say it


def _set_earlier_aside(folder: Path, content: Mapping[str, Any], weights: Sequence[str]) -> Path | None:
    """Makes room in a comparison that an older version began: its finished parts move into a folder of their own.

    Args:
        folder: Of the comparison.
        content: What the run's file will hold.
        weights: SHA-256 of each contender's generator.

    Raises:
        RecordingError: It is another comparison; nothing is moved.
    """
    parts, listed = folder / EARLIER, "comparison.json"
    file = folder / listed if (folder / listed).exists() else parts / listed
    if not file.exists():
        return None
    wanted = json.loads(json.dumps(plain({**content, "generator_sha256": list(weights)})))
    try:
        known = dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise RecordingError(f"exists: cannot read {file} ({error}); give a new folder.") from error
    for name, held in known.items():
        if name != "closedloop" and wanted.get(name) != held:
            raise RecordingError(
                f"exists: {folder} holds another comparison: {name} is {held!r:.200} there, and "
                f"{wanted.get(name)!r:.200} here. Give the arguments of that one, or a new folder."
            )
    parts.mkdir(exist_ok=True)
    for found in [*folder.glob("*.state"), *folder.glob(listed)]:  # the list last, should this be interrupted
        found.replace(parts / found.name)
    return parts


@at_door
def transfer(
    result: xr.Dataset, subjects: Mapping[str, Subject], naturals: Any = ReferencePart.references
) -> xr.Dataset:
    """Measures how much of the response the images drive in other subjects.

    Args:
        result: What `compare` returned.
        subjects: Other subjects by name; the same column must stand for the same class or unit in each.
        naturals: Natural images to compare with, as for `compare`.

    Returns:
        `response` and `ratio` to the best natural image of that subject, and `percentile`, on ``to × contender ×
        budget × seed × unit``.

    Raises:
        InvalidArgumentError: A subject does not record such a unit.
    """
    columns = result["unit"].values
    found = []
    if not subjects:
        raise InvalidArgumentError("subjects: expected at least one by name, got none.")
    for name, subject in subjects.items():
        if columns.max() >= len(subject.units):
            raise InvalidArgumentError(
                f"subjects: expected {name!r} to record the columns of the comparison, up to {columns.max()}, got "
                f"{len(subject.units)} units."
            )
        images = result["image"].values
        flat = (images.reshape(-1, *images.shape[4:]) / 255).astype(np.float32)
        responses = record_images(subject, flat, f"subjects[{name!r}]").astype(float).reshape(*images.shape[:4], -1)
        own = np.take_along_axis(responses, columns[None, None, None, :, None], -1)[..., 0]
        shown = as_image_set(naturals, flat.shape[-1], name="naturals").images
        natural = record_images(subject, shown, f"subjects[{name!r}]").astype(float)[:, columns]
        best = natural.max(0)
        dims = result["response"].dims
        found.append(
            xr.Dataset(
                {
                    "response": (dims, own),
                    "ratio": (dims, np.where(best > 0, own / np.where(best > 0, best, 1), np.nan)),
                    "percentile": (dims, 100 * (natural < own[..., None, :]).mean(-2)),
                },
                {key: result[key] for key in ("contender", "budget", "seed", "unit", "neuroid_id")},
            )
        )
    return xr.concat(found, dim="to").assign_coords(to=list(subjects))
