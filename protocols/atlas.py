"""An atlas: what every unit of some layers prefers, made by several methods and photographed, each with its number.

First all natural images are shown once. Then, for a few units at a time, the photographs that drove them most and least
are shown again, and images are made by one method after the other, each of which is shown afresh: the numbers of an
atlas come from presentations that had no part in choosing. All of it is one recording of all layers, and every block is
committed before the next begins.

A unit of a map is a channel at its central position, as everywhere: its photographs are those that drive it *there*,
and what it sees of them is its own receptive field.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.analysis.atlas import (
    ATLAS,
    NATURAL,
    NUMBERS,
    PATTERN,
    atlas_table,
    attribution_name,
    ends_of,
    natural_name,
)
from closedloop.analysis.reasons import ROUNDING
from closedloop.errors import ClosedLoopError, InvalidArgumentError
from closedloop.images.classes import images_fingerprint, sorted_images
from closedloop.images.eight_bit import from_bytes, quantize
from closedloop.images.naturalness import IMAGE_MEASURES, measure
from closedloop.images.resizing import resize_images
from closedloop.images.sets import ImageSet, read_images
from closedloop.interfaces import (
    STILL,
    Differentiable,
    FloatArray,
    Layered,
    Narrowing,
    State,
    Subject,
    form_of,
    resolution_of,
)
from closedloop.loop.commits import check_fingerprints, fingerprints, is_finished, record, run_course
from closedloop.loop.parts import ReferencePart, RunPart, UnitPart
from closedloop.loop.presenter import Presenter, Shown
from closedloop.loop.progress import Progress, as_progress, begin_progress, end_progress, move_progress
from closedloop.loop.protocol import Handed, RunProtocol, RunSummary, RunTable, nothing_more, summarize_responses
from closedloop.loop.settings import Timing, option, read_settings, settings
from closedloop.objectives.naming_units import UnitSpec
from closedloop.readable import percent
from closedloop.recipes import BUNDLED, fingerprint, network_fingerprint, recipe, version
from closedloop.recording.layout import EVOLUTION, IMAGE_BITS, REFERENCE, REFERENCES, Layout, Rows
from closedloop.recording.reader import open_recording
from closedloop.recording.references import keep_references, source
from closedloop.recording.writer import Recording
from closedloop.seeds import current_stream, generator_state, named_generator, restore_generator, streams
from closedloop.signatures import at_door

from .contenders import PUBLISHED, TOGETHER, Contender, as_contender, generator_of, run_contender
from .present import BLOCK, Library
from .stored import check_complete, stored_images, stored_settings, subject_of

#: How images are made where nothing else is asked for: by Fourier coefficients, phases, a generator, and evolved.
METHODS = ("lucid", "maco", "dgn-am", "evolved")
#: What a method is told within a budget, where it would spend it on a few steps otherwise.
_WITHIN_BUDGET: dict[str, dict[str, Any]] = {"maco": {"crops": 4}, "accentuate": {"crops": 4}}
#: Presentations of an image of a subject without noise: two, which show that it has none.
NOISELESS_REPEATS = 2
#: How attributions are made: the first that the network allows.
ATTRIBUTIONS: tuple[Literal["guided-backprop", "gradient"], ...] = ("guided-backprop", "gradient")
#: The longest side of a stored attribution, in pixels.
ATTRIBUTION_PX = 112


@settings
class AtlasSettings(Timing):
    """The numbers of an atlas."""

    budget: int = option(
        default=1600,
        least=0,
        help="Forward equivalents (a backward pass counts 2) that each method may spend on an image, at least 50; "
        "0 for each method's published number of steps.",
    )
    starts: int = option(
        default=1, least=1, help="Images that each method makes for each unit, from seeds seed, seed + 1 …"
    )
    repeats: int = option(
        default=10,
        least=2,
        help="Fresh presentations of each image whose number is shown; 2 of a subject that answers the same image "
        "alike.",
    )
    top: int = option(
        default=9,
        least=1,
        help="Natural images of each end that stand on a page: those that drive a unit most, and least.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if 0 < self.budget < 50:
            raise InvalidArgumentError(f"budget: expected 0, or at least 50 forward equivalents, got {self.budget}.")


@at_door
def atlas(
    subject: Subject,
    layers: str | Sequence[str] | None = None,
    methods: Sequence[str | Contender] = METHODS,
    *,
    units: UnitSpec | Mapping[str, UnitSpec] = UnitPart.units,
    naturals: ImageSet | str | Path | NDArray[Any] = ReferencePart.references,
    save: str | Path | None = None,
    exists: str = RunPart.exists,
    progress: Progress = True,
    **numbers: Any,
) -> xr.Dataset:
    """Fills the pages of whole layers: images by each method for each unit, and its best and worst photographs.

    Args:
        subject: The network or animal that is shown images, colour stills; differentiable, unless all methods evolve.
        layers: Names of its layers; None for what it records as it is, also for a subject without layers.
        methods: Names of gradient methods, "evolved" (`native` and the default optimizer), or `Contender` values.
        units: Of each layer, or a mapping from layer to units; see `closedloop.objectives.naming_units`. A channel of
            a map is its unit at the central position.
        naturals: Natural images: a folder, read a few at a time, whose subfolders are classes; an array
            ``(n, 3, h, w)`` in [0, 1], an `ImageSet`, or "bundled".
        save: Folder of the run; None keeps the numbers in memory, without pictures.
        exists: What to do if there is such a run: "fail", or "resume" it if it is of the same atlas.
        progress: Whether a bar, or in a log file lines, says on standard error how far it is; or a function that is
            called after each block with the number of parts done and of all, and what was done.
        **numbers: ``budget``, ``starts``, ``repeats``, ``top``, ``seed`` …; see `AtlasSettings`.

    Returns:
        The recording: natural images are of `kind` "reference" in the survey and "retest" when shown again, images
        that were made of `kind` "retest" with the method as `thread`, `unit` (the column) and `run_seed`.
        `closedloop.analysis.AtlasPages` reads it unit by unit.

    Raises:
        InvalidArgumentError: An argument does not fit; nothing is written.
        UnknownNameError: No such method, layer or generator.
        RecordingError: The folder exists, holds another run, or cannot be written.
    """
    chosen = read_settings(AtlasSettings, numbers)
    contenders = _contenders(methods, chosen)
    shown = _at_layers(subject, layers, units)
    if (form := form_of(shown)) != STILL:
        raise InvalidArgumentError(
            f"subject: expected one of colour stills for an atlas, got one of {form.describe()}."
        )
    library = library_of(naturals, resolution_of(shown))
    course = AtlasCourse(shown, contenders, library, chosen, progress, source(naturals) == REFERENCES)
    content = {
        "closedloop": version(),
        "protocol": ATLAS,
        "subject": recipe(shown),
        "methods": [asdict(c) for c in contenders],
        "naturals": source(naturals),
        **asdict(chosen),
        "fingerprints": course.fingerprints(),
    }
    return record(course, content, save, exists)


def _resume(run: Path, content: Mapping[str, Any], handed: Handed) -> xr.Dataset:
    """Goes on with an atlas; returns a finished one at once."""
    if is_finished(run):
        return open_recording(run)
    check_complete(run, content, AtlasSettings, "subject", "methods", "naturals")
    subject = subject_of(run, content, handed)
    own = stored_images(run, content["naturals"]) if content["naturals"] == REFERENCES else None
    library = library_of(content["naturals"] if own is None else own, resolution_of(subject))
    contenders = [Contender(**written) for written in content["methods"]]
    course = AtlasCourse(subject, contenders, library, stored_settings(AtlasSettings, content), handed.progress)
    check_fingerprints(run, content, course.fingerprints())
    return run_course(course, Recording.reopen(run))


def _summary(run: Path, recording: xr.Dataset) -> RunSummary:
    """Returns a table for each layer; before the end, the responses."""
    if not is_finished(run):
        return summarize_responses(run, recording)
    tables = [
        RunTable(
            f"{layer}: {len(part['unit'])} units, {int(part['natural_n'])} natural images",
            ("method", "÷ best natural", "above all natural", "percentile", "failed"),
            [_cells(part.sel(contender=name)) for name in part["contender"].values],
            "medians over units of re-tested responses; “above all natural”: share of the images, "
            "Benjamini–Hochberg over the layer at 5 %",
        )
        for layer, part in atlas_table(recording).items()
    ]
    return RunSummary(tables, [f"Look at it: closedloop view --atlas {run}"])


def _cells(row: xr.Dataset) -> list[str]:
    ratio = float(row["ratio"].median())
    return [
        str(row["contender"].item()),
        f"{ratio:.3g}" if np.isfinite(ratio) else "–",
        percent(float(((row["percentile"] >= 100) & (row["p_adjusted"] < 0.05)).mean())),
        f"{float(row['percentile'].median()):.1f}",
        percent(float((row["failure"] != "").mean())),
    ]


#: What others must know of atlases.
PROTOCOL = RunProtocol(ATLAS, _resume, _summary, section=nothing_more, command="atlas")


def _contenders(methods: Sequence[str | Contender], chosen: AtlasSettings) -> list[Contender]:
    """Returns the methods, checked; within a budget some are told to spend it on more steps."""
    found = [as_contender(method) for method in methods]
    labels = [c.label for c in found]
    if not labels or len(set(labels)) != len(labels):
        raise InvalidArgumentError(f"methods: expected one or more with different labels, got {labels}.")
    for contender in found:
        plain = contender.label.replace("-", "").replace("_", "")
        if not plain.isalnum() or not plain.isascii() or contender.label in (NATURAL, PATTERN, REFERENCE):
            raise InvalidArgumentError(
                f"label: expected letters, digits, '-' or '_', and no word of the atlas's own, got {contender.label!r}."
            )
    if chosen.budget == 0:
        return found
    return [replace(c, options={**_WITHIN_BUDGET.get(c.method, {}), **c.options}) for c in found]


def _at_layers(subject: Subject, layers: str | Sequence[str] | None, units: Any) -> Subject:
    """Returns a subject that records the layers; itself where none are named."""
    if layers is None:
        if units != "all":
            raise InvalidArgumentError(f"units: expected layers beside units, got {units!r:.80} and no layers.")
        return subject
    if not isinstance(subject, Layered):
        raise InvalidArgumentError(
            f"layers: subject {subject.name!r} cannot be recorded at other layers ({type(subject).__name__} has no "
            "at(…)); leave layers out, or around a network's noise load the subject with these layers."
        )
    return subject.at(layers, units)


def library_of(naturals: ImageSet | str | Path | NDArray[Any], resolution: int) -> Library:
    """Returns natural images with their classes as the coordinate `category`; those of a folder are read lazily."""
    if not isinstance(naturals, (str, Path)) or str(naturals) == BUNDLED:
        return Library.of(naturals, resolution)
    names, paths, classes = sorted_images(naturals)
    return Library(
        names,
        lambda which: read_images([paths[i] for i in which], resolution),
        coords={"category": np.array(classes)},
        fingerprint=images_fingerprint(names, paths),
    )


class Job(NamedTuple):
    """What is done between two commits for a few units of a layer: images by a method, or photographs shown again."""

    columns: list[int]
    contender: Contender | None = None
    seed: int = 0

    @property
    def label(self) -> str:
        """What its images are called by."""
        return "" if self.contender is None else self.contender.label

    @property
    def names(self) -> list[str]:
        """The names of its images."""
        return [f"{self.label}-{self.seed}-{column}" for column in self.columns]


class AtlasCourse:
    """An atlas under way: the course that `closedloop.loop.commits` follows.

    Args:
        subject: Records all layers.
        contenders: The methods.
        library: The natural images.
        chosen: The numbers.
        progress: Whether progress is shown, or who is told it; see `atlas`.
        own_copy: Whether all natural images are kept in the run's folder, since they have no other place.
    """

    reason = ""

    def __init__(
        self,
        subject: Subject,
        contenders: Sequence[Contender],
        library: Library,
        chosen: AtlasSettings,
        progress: Progress = None,
        own_copy: bool = False,
    ) -> None:
        self.subject: Subject = subject
        self._contenders = contenders
        self._library = library
        self._settings = chosen
        self._generators = [generator_of(c, subject) for c in contenders]
        self._progress, self._own_copy = as_progress(progress, "filling pages"), own_copy
        self._presenter = Presenter(subject, chosen.retries, chosen.timeout_s, chosen.lost_blocks)
        self._rng = named_generator(chosen.seed, "order")
        self._order = self._rng.permutation(len(library.ids))
        seeds = range(chosen.seed, chosen.seed + chosen.starts)
        made = list(product(contenders, seeds))
        self._groups = _side_by_side(subject)
        self._parts = [p for group in self._groups for p in (Job(group), *(Job(group, *how) for how in made))]
        self._top = min(chosen.top, max(1, len(library.ids) // 2))
        self._surveyed = self._done = self._blocks = self._presentations = 0
        self._noisy = True
        self._stored: set[int] = set()
        self._natural = np.full((len(library.ids), len(subject.units)), np.nan, np.float32)
        self._stream = current_stream()
        self._part: dict[str, Any] = {}
        self._inner: dict[str, Subject] = {}

    def fingerprints(self) -> dict[str, str]:
        """Returns SHA-256 of subject, natural images and the methods' generators, as far as they can tell."""
        made = {f"generator of {c.label}": g for c, g in zip(self._contenders, self._generators, strict=True)}
        network = network_fingerprint(self.subject)  # tells pages whether it is the one that they look at
        return fingerprints(subject=self.subject, network=network, naturals=self._library.fingerprint, **made)

    def layout(self) -> Layout:
        """Returns the shape of the recording: room for every presentation that may come."""
        chosen, images, units = self._settings, len(self._library.ids), len(self.subject.units)
        made = units * len(self._contenders) * chosen.starts
        again = min(images, 2 * self._top * TOGETHER) * len(self._groups)
        shown = images + BLOCK + (made + again) * max(chosen.repeats, NOISELESS_REPEATS)
        return Layout(
            capacity=shown * (1 + chosen.retries),
            latent=0,
            units=self.subject.units,
            scalars={
                "subject": self.subject.name,
                "seed": chosen.seed,
                "closedloop_version": version(),
                IMAGE_BITS: 8,
            },
            coords={
                "number": ("int64", -1),
                "category": ("str", ""),
                "unit": ("int64", -1),
                "run_seed": ("int64", -1),
                "failure": ("str", ""),
                "attributed": ("str", ""),
                **dict.fromkeys((*NUMBERS, *IMAGE_MEASURES), ("float64", np.nan)),
            },
            evolutions={
                EVOLUTION: [c.label for c in self._contenders],
                "generator": [g.name for g in self._generators],
                "generator_sha256": [fingerprint(g) for g in self._generators],
                "method": [c.method for c in self._contenders],
                "told": [_told(c, chosen) for c in self._contenders],
            },
        )

    def begin(self, recording: Recording) -> None:
        """Keeps natural images that have no other place; of an atlas that goes on, reads what they drove."""
        if self._own_copy and recording.path is not None:
            everything = np.arange(len(self._library.ids))
            keep_references(recording, ImageSet(self._library.ids, self._library.read(everything)))
        if self._surveyed:
            self._read_back(recording.dataset())
        begin_progress(self._progress, self._steps, self._all_steps)  # last, for what does not begin is not ended

    def _read_back(self, committed: xr.Dataset) -> None:
        """Takes the responses to natural images from what is committed."""
        rows = np.flatnonzero(committed["kind"].values == "reference")
        numbers, responses = committed["number"].values[rows], committed["responses"].values[rows].astype(float)
        for number in np.unique(numbers):
            self._natural[number] = _mean(responses[numbers == number])

    @property
    def _steps(self) -> int:
        """Blocks that are done."""
        return -(-self._surveyed // BLOCK) + self._done

    @property
    def _all_steps(self) -> int:
        """Blocks of the whole atlas."""
        return -(-len(self._order) // BLOCK) + len(self._parts)

    @property
    def _repeats(self) -> int:
        """Fresh presentations of each image whose number is shown."""
        return self._settings.repeats if self._noisy else NOISELESS_REPEATS

    def show(self) -> Shown | None:
        """Shows the next natural images, best and worst ones of the next units again, or images made for these."""
        if self._surveyed < len(self._order):
            return self._show_naturals()
        if self._done == len(self._parts):
            return None
        job = self._parts[self._done]
        if job.contender is None:
            return self._show_again(job.columns)
        with streams(self._stream):
            return self._show_made(job, job.contender)

    def _show_naturals(self) -> Shown:
        block = self._order[self._surveyed : self._surveyed + BLOCK]
        images = quantize(self._library.read(block))
        self._part = {"what": "natural images", "numbers": block, "measures": measure(images)}
        # The first block twice: it says whether the subject answers the same image alike.
        return self._shown(images, 1 if self._surveyed else NOISELESS_REPEATS, [self._library.ids[i] for i in block])

    def _show_made(self, job: Job, contender: Contender) -> Shown:
        budget = self._settings.budget or PUBLISHED
        subject, columns = self._seen_by(job)
        found = run_contender(subject, contender, budget, "forward_equivalents", job.seed, columns)
        images = from_bytes(found["image"])
        self._part = {"what": contender.label, "job": job, "found": found, "images": images}
        self._part["measures"] = measure(images)
        return self._shown(images, self._repeats, job.names)

    def _seen_by(self, job: Job) -> tuple[Subject, list[int]]:
        """Returns who is climbed, and the columns there: the job's layer alone, and what its units see of an image."""
        coords = self.subject.units.coords
        layers = coords.get("layer", ("",) * len(self.subject.units))
        own = layers[job.columns[0]]
        subject = self.subject
        several = len(set(layers)) > 1 and isinstance(subject, Layered)
        columns = [i for i, layer in enumerate(layers) if layer == own or not several]
        if own not in self._inner:
            if several and isinstance(subject, Layered):
                subject = subject.at([own], _places(coords, columns))
            self._inner[own] = subject.narrowed() if isinstance(subject, Narrowing) else subject
        return self._inner[own], [columns.index(column) for column in job.columns]

    def _show_again(self, columns: Sequence[int]) -> Shown:
        best = {column: self.best_and_worst(column) for column in columns}
        numbers = np.unique(np.concatenate([numbers for ends in best.values() for numbers in ends]))
        numbers = numbers if len(numbers) else self._order[:1]  # of a subject that never answered
        images = quantize(self._library.read(numbers))
        drawn = {c: self._attributed(c, images[np.searchsorted(numbers, np.concatenate(e))]) for c, e in best.items()}
        self._part = {"what": "best and worst again", "numbers": numbers, "images": images, "columns": columns}
        self._part |= {"measures": measure(images), "attributions": drawn}
        return self._shown(images, self._repeats, [self._library.ids[i] for i in numbers])

    def best_and_worst(self, column: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns the numbers of the natural images that drove a unit most, the best first, and least."""
        return ends_of(self._natural[:, column], self._top)

    def _attributed(self, column: int, images: NDArray[np.float32]) -> tuple[str, NDArray[np.float32] | None]:
        """Returns by which method, and a strip ``(3, h, n · w)`` of what the responses to images come from."""
        subject, (place,) = self._seen_by(Job([column]))
        if not isinstance(subject, Differentiable) or not len(images):
            return "", None
        from closedloop.gradients.attribution import attribute, attribution_pictures

        for method in ATTRIBUTIONS:  # the second has a rule for every network, and needs captum
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # one that is zero everywhere is a grey picture
                    found = attribute(subject, images, place, method)
            except ClosedLoopError:
                continue
            # Cut first: a picture's contrast is that of what the unit sees, not of the zeros around it.
            pictures = attribution_pictures(_within_field(found.values, self.subject, column), "gray")
            return method, np.concatenate(list(_made_small(pictures)), axis=-1)
        return "", None

    def _shown(self, images: NDArray[np.float32], repeats: int, ids: Sequence[str]) -> Shown:
        return self._presenter.show(images, np.full(len(images), repeats), self._rng, ids=ids)

    def learn(self, shown: Shown) -> Rows:
        """Returns the rows of what was shown, and goes on to the next."""
        part, first = self._part, self._presentations
        self._presentations += len(shown.stimulus)
        self._blocks += 1
        if "job" in part:
            self._done += 1
            return self._rows(shown, first, *_made_facts(part["job"], part["found"]))
        if "columns" in part:
            self._done += 1
            return self._rows(shown, first, self._natural_facts(part["numbers"], "retest"), self._pictures(part))
        if not self._surveyed:
            self._noisy = _varies(shown)
        self._surveyed += len(part["numbers"])
        for place, number in enumerate(part["numbers"]):
            self._natural[number] = _mean(shown.responses[shown.stimulus == place])
        return self._rows(shown, first, self._natural_facts(part["numbers"], "reference"), {})

    def _natural_facts(self, numbers: NDArray[np.int64], kind: str) -> dict[str, Any]:
        classes = self._library.coords.get("category")
        return {
            "thread": [REFERENCE] * len(numbers),
            "kind": [kind] * len(numbers),
            "stimulus_id": [self._library.ids[i] for i in numbers],
            "number": numbers,
            "category": [""] * len(numbers) if classes is None else classes[numbers],
            "attributed": [self._method_of_pictures] * len(numbers) if kind == "retest" else [""] * len(numbers),
        }

    @property
    def _method_of_pictures(self) -> str:
        return next((method for method, strip in self._part["attributions"].values() if strip is not None), "")

    def _pictures(self, part: Mapping[str, Any]) -> dict[str, NDArray[np.float32]]:
        """Returns natural images that were not kept yet, and strips of attributions, by the names of their files."""
        new = [i for i, number in enumerate(part["numbers"].tolist()) if number not in self._stored]
        self._stored |= set(part["numbers"].tolist())
        strips = {attribution_name(c): strip for c, (_, strip) in part["attributions"].items() if strip is not None}
        return {natural_name(int(part["numbers"][i])): part["images"][i] for i in new} | strips

    def _rows(self, shown: Shown, first: int, facts: Mapping[str, Any], images: Mapping[str, Any]) -> Rows:
        """Returns rows with what is known of each image, and fill values for the rest."""
        which, n = shown.stimulus, len(shown.stimulus)
        columns = {name: np.asarray(values)[which] for name, values in {**facts, **self._part["measures"]}.items()}
        missing = {name: np.full(n, fill) for name, (_, fill) in self._columns.items() if name not in columns}
        coords = {
            "generation": np.full(n, self._blocks - 1, np.int32),
            "repeat": shown.repeat.astype(np.int32),
            "onset_s": (first + np.arange(n)) * self._settings.soa_s,
            **columns,
            **missing,
        }
        return Rows(coords, shown.responses, np.empty((n, 0)), np.full(n, np.nan), images)

    @property
    def _columns(self) -> Mapping[str, tuple[str, Any]]:
        return self.layout().coords

    def committed(self) -> None:
        """Moves the progress on."""
        move_progress(self._progress, self._steps, self._all_steps, self._part["what"])

    def end(self) -> None:
        """Ends the progress."""
        end_progress(self._progress)

    def state(self) -> State:
        """Returns all that is needed to go on identically; what natural images drove stands in the recording."""
        return {
            "surveyed": self._surveyed,
            "done": self._done,
            "blocks": self._blocks,
            "presentations": self._presentations,
            "noisy": self._noisy,
            "stored": sorted(self._stored),
            "order": generator_state(self._rng),
            "images": len(self._order),
            "stream": self._stream,
        }

    def restore(self, state: State) -> None:
        """Goes back to a saved state.

        Raises:
            InvalidArgumentError: It is that of other natural images.
        """
        if state["images"] != len(self._order):
            raise InvalidArgumentError("naturals: they are not those with which the atlas began; put them back.")
        self._surveyed, self._done = int(state["surveyed"]), int(state["done"])
        self._blocks, self._presentations = int(state["blocks"]), int(state["presentations"])
        self._noisy, self._stored = bool(state["noisy"]), {int(number) for number in state["stored"]}
        restore_generator(self._rng, state["order"])
        self._stream = int(state["stream"])


def _side_by_side(subject: Subject) -> list[list[int]]:
    """Returns columns in groups of a few units of one layer."""
    layers = subject.units.coords.get("layer", ("",) * len(subject.units))
    found = []
    for layer in dict.fromkeys(layers):
        columns = [i for i, other in enumerate(layers) if other == layer]
        found += [columns[i : i + TOGETHER] for i in range(0, len(columns), TOGETHER)]
    return found


def _places(coords: Mapping[str, Sequence[Any]], columns: Sequence[int]) -> list[Any]:
    """Returns units as a layer takes them: ``(channel, y, x)``, or the number alone where there are no positions."""
    rows = [tuple(int(coords[name][i]) for name in ("channel", "y", "x")) for i in columns]
    return [row if row[1] >= 0 else row[0] for row in rows]


def _told(contender: Contender, chosen: AtlasSettings) -> str:
    """Returns what a method was told, in words."""
    spent = f"{chosen.budget:,} forward equivalents" if chosen.budget else "published steps"
    options = [f"{name} {value}" for name, value in contender.options.items()]
    return ", ".join([spent, *([contender.optimizer] if contender.method == "evolve" else []), *options])


def _made_facts(job: Job, found: State) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
    """Returns what is known of the images of a job, and the images by the names of their files."""
    n, images = len(job.columns), from_bytes(found["image"])
    facts = {
        "thread": [job.label] * n,
        "kind": ["retest"] * n,
        "stimulus_id": job.names,
        "unit": job.columns,
        "run_seed": [job.seed] * n,
        "failure": found["failure"],
        **{name: found[name] for name in NUMBERS if name in found},
    }
    return facts, dict(zip(job.names, images, strict=True))


def _within_field(maps: NDArray[np.float32], subject: Subject, column: int) -> NDArray[np.float32]:
    """Returns maps ``(n, 3, h, w)`` cut to a unit's receptive field, where it has one."""
    coords = subject.units.coords
    if not {"rf_y0", "rf_x0", "rf_y1", "rf_x1"} <= set(coords):
        return maps
    y0, x0, y1, x1 = (int(coords[name][column]) for name in ("rf_y0", "rf_x0", "rf_y1", "rf_x1"))
    return maps[..., y0:y1, x0:x1]


def _made_small(pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns square pictures of at most `ATTRIBUTION_PX`; others as they are."""
    if max(pictures.shape[-2:]) <= ATTRIBUTION_PX or pictures.shape[-1] != pictures.shape[-2]:
        return pictures
    small: NDArray[np.float32] = resize_images(np.ascontiguousarray(pictures), ATTRIBUTION_PX)
    return np.clip(small, 0, 1)


def _mean(responses: FloatArray) -> FloatArray:
    """Returns the mean ``(units,)`` of presentations ``(n, units[, time])``; NaN where all were lost."""
    flat = responses if responses.ndim == 2 else responses.mean(-1)
    known = ~np.isnan(flat)
    total: FloatArray = np.where(known, flat, 0).sum(0) / np.where(known.any(0), known.sum(0), np.nan)
    return total


def _varies(shown: Shown) -> bool:
    """Tells whether answers to the same image differ by more than rounding; also where none can be compared."""
    least, most = (np.full((shown.stimulus.max() + 1, *shown.responses.shape[1:]), e) for e in (np.inf, -np.inf))
    answered = ~np.isnan(shown.responses).any(tuple(range(1, shown.responses.ndim)))
    np.minimum.at(least, shown.stimulus[answered], shown.responses[answered])
    np.maximum.at(most, shown.stimulus[answered], shown.responses[answered])
    if np.bincount(shown.stimulus[answered]).max(initial=0) < 2:
        return True
    spread = np.where(np.isfinite(least), most - least, 0).max()
    return bool(spread > ROUNDING * np.nanmax(np.abs(shown.responses)))
