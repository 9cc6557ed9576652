"""What does backpropagation buy? Every method on every unit, at equal budgets, with one record for each image.

Each part (a method at a budget with a seed, on a few units) is stored when it is finished, so that a comparison that
was interrupted goes on where it was: call it again with the same arguments.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.special import softmax

from closedloop.analysis.ascents import BACKWARD, classes_of, is_output
from closedloop.checks import check_whole
from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.files import replace_file
from closedloop.gradients.methods import METHODS, Request, find_method, make_plan
from closedloop.images.eight_bit import to_bytes
from closedloop.images.naturalness import MEASURES, band, code_measures, measure
from closedloop.images.nearest import Bank, nearest
from closedloop.images.resizing import resize_images
from closedloop.images.sets import ImageSet, as_image_set
from closedloop.interfaces import RESOLUTION, STILL, FloatArray, Generator, State, Subject, form_of, resolution_of
from closedloop.loop.session import Session
from closedloop.loop.thread import Thread
from closedloop.objectives import Unit
from closedloop.optimizers import load_optimizer
from closedloop.optimizers.loading import DEFAULT
from closedloop.recipes import fingerprint, matched_generator, plain, recipe, version
from closedloop.recording.references import source
from closedloop.recording.render import render
from closedloop.recording.states import pack_state, unpack_state
from closedloop.seeds import check_seed, named_seed

from .ascend import ascend

#: Stands for a method's own number of steps or images instead of a budget.
PUBLISHED = "published"
#: The method of a contender that evolves without gradients, and its images where the budget is the published one.
EVOLVE, EVOLVE_IMAGES = "evolve", 3000
#: Units that are climbed side by side.
TOGETHER = 4
#: Points on each curve of the best response so far, and presentations of an ascent that it is drawn from.
POINTS = 20


@dataclass(frozen=True)
class Contender:
    """One way to a preferred stimulus.

    Attributes:
        label: Its name in the result.
        method: A method of `closedloop.protocols.ascend`, or "evolve".
        generator: Name of a generator, or a mapping with its name and options; None for the method's own, "native" for
            "evolve".
        optimizer: Name of the optimizer for "evolve".
        options: Options of `ascend` (such as `copies`) and of its method, or of the optimizer.
    """

    label: str
    method: str
    generator: str | Mapping[str, Any] | None = None
    optimizer: str = DEFAULT
    options: Mapping[str, Any] = field(default_factory=dict)


#: What is compared where nothing else is asked for: fooling, regularized, Fourier, phases, by a generator, evolved.
CONTENDERS = ("raw", "yosinski-4", "lucid", "maco", "dgn-am", "ppgn", "evolved")


def compare(
    subject: Subject,
    units: Sequence[int],
    methods: Sequence[str | Contender] = CONTENDERS,
    *,
    budgets: Sequence[int | str] = (PUBLISHED,),
    count: str = "forward_equivalents",
    seeds: Sequence[int] = (0,),
    naturals: ImageSet | str | Path | NDArray[Any] = "bundled",
    features: Subject | None = None,
    save: str | Path | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> xr.Dataset:
    """Finds a preferred stimulus of each unit by each method, and measures all of them alike.

    Args:
        subject: Who looks; differentiable, unless all methods evolve. All outputs of a classifier should be recorded,
            so that confidence is known.
        units: Columns.
        methods: Names of gradient methods, "evolved" (`native` and the default optimizer), or `Contender` values.
        budgets: Numbers to be counted as `count` says, and "published" for each method's own.
        count: "forward_equivalents" (a backward pass counts 2) or "forwards" (a backward pass is free).
        seeds: Each is a run of its own.
        naturals: Natural images: a folder, an array ``(n, 3, h, w)`` in [0, 1], an `ImageSet`, or "bundled".
        features: A subject whose responses say which images are alike; default the subject itself.
        save: Folder of the comparison, also to go on with an interrupted one, by generators of the same weights; None
            keeps it in memory.
        progress: Called after each part with the number of parts done and of all, and what was done.

    Returns:
        Dims ``contender × budget × seed × unit``. Of the last image, 8 bits and whole: `response`, `confidence`,
        `image`, `failure`, the measures of `closedloop.images.naturalness` and `feature_distance` (to the nearest
        natural image ÷ their own typical distance); `percentile` among the natural images, `ratio` to the best;
        `forwards`, `forward_equivalents`, and `curve_response` (best so far) over `curve_cost`. Of the natural images:
        `natural_best`, `natural_image` on ``unit``, and the band of each measure as ``{measure}_low`` and ``_high``.
        The coordinate `generator_sha256` tells the weights of each contender's generator from others.

    Raises:
        InvalidArgumentError: An argument does not fit, or the folder holds another comparison.
        UnknownNameError: No such method, generator or optimizer.
    """
    contenders = [_contender(method) for method in methods]
    columns = _check(subject, units, contenders, budgets, count, seeds)
    if (form := form_of(subject)) != STILL:
        raise InvalidArgumentError(
            f"subject: expected one of colour stills, which a comparison stores, got one of {form.describe()}; evolve "
            "and ascend take it."
        )
    images = as_image_set(naturals, resolution_of(subject))
    weights = [fingerprint(_generator(c, subject)) for c in contenders]
    store = _Store(save, {
        "closedloop": version(), "protocol": "compare", "subject": recipe(subject), "units": columns,
        "methods": [asdict(c) for c in contenders], "generator_sha256": weights, "budgets": list(budgets),
        "count": count, "seeds": list(seeds), "naturals": source(naturals),
    })  # fmt: skip
    jobs = [
        (contender, budget, seed, columns[i : i + TOGETHER])
        for contender in contenders
        for budget in budgets
        for seed in seeds
        for i in range(0, len(columns), TOGETHER)
    ]
    parts = []
    for done, (contender, budget, seed, some) in enumerate(jobs, 1):
        key = f"{contender.label}-{budget}-{seed}-{some[0]}"
        part = store.get(key)
        if part is None:
            part = _part(subject, contender, budget, count, seed, some)
            store.put(key, part)
        parts.append(part)
        if progress is not None:
            progress(done, len(jobs), f"{contender.label}, {budget}, seed {seed}")
    shape = (len(contenders), len(budgets), len(seeds), -(-len(columns) // TOGETHER))
    found = _joined(parts, shape, len(columns))
    coords = {
        "contender": [c.label for c in contenders], "budget": [str(b) for b in budgets], "seed": list(seeds),
        "unit": columns, "neuroid_id": ("unit", [subject.units.neuroid_id[c] for c in columns]),
        "generator_sha256": ("contender", weights),
        "subject": subject.name, "count": count, "closedloop_version": version(),
    }  # fmt: skip
    dataset = xr.Dataset(found, coords)
    return _beside_natural(dataset, subject, images, features or subject, store)


def _contender(method: str | Contender) -> Contender:
    if isinstance(method, Contender):
        return method
    if method == "evolved":
        return Contender("evolved", EVOLVE)
    find_method(method)
    return Contender(method, method)


def _check(
    subject: Subject,
    units: Sequence[int],
    contenders: Sequence[Contender],
    budgets: Sequence[int | str],
    count: str,
    seeds: Sequence[int],
) -> list[int]:
    """The columns; raises for what does not fit before anything is run."""
    columns = [int(unit) for unit in units]
    if not columns or len(set(columns)) != len(columns) or not 0 <= min(columns) <= max(columns) < len(subject.units):
        raise InvalidArgumentError(
            f"units: expected one or more different columns from 0 to {len(subject.units) - 1}, got "
            f"{list(units)!r:.80}."
        )
    labels = [c.label for c in contenders]
    if not labels or len(set(labels)) != len(labels):
        raise InvalidArgumentError(f"methods: expected one or more with different labels, got {labels}.")
    for contender in contenders:
        if not contender.label.replace("-", "").replace("_", "").isalnum():
            raise InvalidArgumentError(f"label: expected letters, digits, '-' or '_', got {contender.label!r}.")
        if contender.method != EVOLVE:
            find_method(contender.method)
    if count not in ("forwards", "forward_equivalents"):
        raise InvalidArgumentError(f"count: expected 'forwards' or 'forward_equivalents', got {count!r}.")
    for budget in budgets:
        if budget != PUBLISHED:
            check_whole("budgets", budget, 50)
    if not budgets or not seeds:
        raise InvalidArgumentError(f"budgets, seeds: expected at least one each, got {budgets!r} and {seeds!r}.")
    for seed in seeds:
        check_seed(seed)
    return columns


class _Store:
    """Finished parts in a folder, or nowhere.

    Args:
        folder: Made where it does not exist.
        content: What is compared; an existing folder must hold the same.
    """

    def __init__(self, folder: str | Path | None, content: Mapping[str, Any]) -> None:
        self._folder = None if folder is None else Path(folder)
        if self._folder is None:
            return
        text = json.dumps(plain(content), indent=1)
        file = self._folder / "comparison.json"
        if file.exists() and file.read_text(encoding="utf-8") != text:
            wanted, held = json.loads(text), json.loads(file.read_text(encoding="utf-8"))
            other = sorted(key for key in wanted.keys() | held.keys() if wanted.get(key) != held.get(key))
            raise InvalidArgumentError(
                f"save: {self._folder} holds another comparison (see {file.name}: {', '.join(other)}); give its "
                "arguments, or a new folder."
            )
        if not file.exists() and self._folder.exists() and any(self._folder.iterdir()):
            raise RecordingError(f"{self._folder}: expected a new or empty folder, or one of a comparison.")
        self._folder.mkdir(parents=True, exist_ok=True)
        replace_file(file, text.encode())

    def get(self, key: str) -> State | None:
        """A part that was finished before."""
        if self._folder is None or not (self._folder / f"{key}.state").exists():
            return None
        return unpack_state((self._folder / f"{key}.state").read_bytes())

    def put(self, key: str, part: State) -> None:
        """Stores a part; it appears under its name only when complete."""
        if self._folder is not None:
            replace_file(self._folder / f"{key}.state", pack_state(part))


def _part(
    subject: Subject, contender: Contender, budget: int | str, count: str, seed: int, columns: Sequence[int]
) -> State:
    """One method at one budget on a few units: arrays with an entry for each unit."""
    if contender.method == EVOLVE:
        return _evolved(subject, contender, EVOLVE_IMAGES if budget == PUBLISHED else int(budget), seed, columns)
    return _ascended(subject, contender, None if budget == PUBLISHED else int(budget), count, seed, columns)


def _generator(contender: Contender, subject: Subject) -> Generator:
    named = contender.generator
    if named is None:
        named = {"name": "native"} if contender.method == EVOLVE else METHODS[contender.method].generator
    return matched_generator({"name": named} if isinstance(named, str) else named, subject, RESOLUTION)


def _ascended(
    subject: Subject, contender: Contender, budget: int | None, count: str, seed: int, columns: Sequence[int]
) -> State:
    generator = _generator(contender, subject)
    steps, every = _schedule(subject, contender, generator, budget, count)
    settings = {"seed": seed, "steps": steps, "every": every, **contender.options}
    found = ascend(subject, generator, contender.method, unit=list(columns), **settings)
    pictures = (found["forwards"].values - found.sizes["shown"]) // steps
    cost = found["shown"].values[None] * pictures[:, None] * (1 + BACKWARD if count == "forward_equivalents" else 1)
    cost = cost + 1 + np.arange(found.sizes["shown"])
    return {
        "response": found["response"].values, "confidence": found["confidence"].values,
        "best_response": found["best_response"].values, "forwards": found["forwards"].values,
        "forward_equivalents": found["forward_equivalents"].values,
        "failure": [str(f) for f in found["failure"].values],
        "image": _stored(found["image"].values, subject), **_codes(found["code"].values, generator),
        **_curve(cost, found["shown_response"].values),
    }  # fmt: skip


def _schedule(
    subject: Subject, contender: Contender, generator: Generator, budget: int | None, count: str
) -> tuple[int, int]:
    """Steps, and steps between presentations, that keep within a budget."""
    published = METHODS[contender.method].steps
    if budget is None:
        return published, -(-published // POINTS)
    options = dict(contender.options)
    copies = options.pop("copies", 1)
    request = Request(
        generator, Unit(0), 0, (0,), False, 0, published, None, copies, resolution_of(subject), len(subject.units),
        options,
    )  # fmt: skip
    view = make_plan(contender.method, request).gradient.view
    pictures = copies * (1 if view is None else view.copies)
    each = pictures * (1 + BACKWARD if count == "forward_equivalents" else 1)
    steps = max(1, (budget - POINTS * copies) // each)
    return steps, -(-steps // POINTS)


def _evolved(subject: Subject, contender: Contender, images: int, seed: int, columns: Sequence[int]) -> State:
    generator = _generator(contender, subject)
    threads = [
        Thread(
            generator,
            load_optimizer(
                contender.optimizer,
                generator.space,
                seed=named_seed(seed, f"unit-{c}"),
                images=images,
                **contender.options,
            ),
            Unit(c),
            f"unit-{c}",
        )
        for c in columns
    ]
    session = Session(subject, threads, images=images, interleave=0, retest_repeats=1, keep="none", seed=seed)
    recording = session.run()
    thread, kind = recording["thread"].values, recording["kind"].values
    last = recording["generation"].values == recording["generation"].values.max()
    rows = [int(np.flatnonzero((thread == t.name) & last)[0]) for t in threads]
    responses = recording["responses"].values[rows].astype(float)
    scores = [recording["score"].values[(thread == t.name) & (kind == "evolved")] for t in threads]
    shown = np.array([len(s) for s in scores])
    points = np.linspace(0, shown.min() - 1, POINTS).astype(int)
    best = np.stack([np.maximum.accumulate(np.nan_to_num(s, nan=-np.inf))[points] for s in scores])
    return {
        "response": responses[np.arange(len(columns)), columns], "confidence": _confidence(subject, responses, columns),
        "best_response": best[:, -1], "forwards": shown, "forward_equivalents": shown, "failure": [""] * len(columns),
        "image": _stored(render(recording, rows, generators={t.name: generator for t in threads}), subject),
        **_codes(recording["latent_code"].values[rows], generator),
        **_curve(np.tile(points + 1, (len(columns), 1)), best),
    }  # fmt: skip


def _confidence(subject: Subject, responses: FloatArray, columns: Sequence[int]) -> FloatArray:
    """Softmax probability of each unit in its row; NaN where not all classes are recorded."""
    found = np.full(len(columns), np.nan)
    for i, column in enumerate(columns):
        classes = classes_of(subject.units, column)
        if is_output(subject.units, classes):
            found[i] = softmax(responses[i, list(classes)])[classes.index(column)]
    return found


def _stored(images: NDArray[np.float32], subject: Subject) -> NDArray[np.uint8]:
    """Images as 8 bits, at the subject's resolution where they are of another."""
    return to_bytes(resize_images(images, resolution_of(subject)))


def _codes(codes: FloatArray, generator: Generator) -> dict[str, FloatArray]:
    """`code_norm` and `code_at_bound` of codes ``(n, dim)``."""
    measured = [code_measures(code[: generator.space.dim], generator.space) for code in codes]
    return {name: np.array([m[name] for m in measured]) for name in measured[0]}


def _curve(cost: NDArray[Any], responses: FloatArray) -> dict[str, FloatArray]:
    """Best response so far ``(units, POINTS)`` over what it cost; the last value is carried on."""
    best = np.maximum.accumulate(np.nan_to_num(responses, nan=-np.inf), axis=1)
    places = np.minimum(np.arange(POINTS), best.shape[1] - 1)
    return {"curve_cost": cost[:, places].astype(float), "curve_response": best[:, places].astype(float)}


def _joined(parts: Sequence[State], shape: tuple[int, ...], units: int) -> dict[str, Any]:
    """Variables ``(method, budget, seed, unit, …)`` of the parts in their order."""
    dims: dict[str, tuple[str, ...]] = {
        "image": ("rgb", "row", "col"), "curve_cost": ("point",), "curve_response": ("point",)
    }  # fmt: skip
    found: dict[str, Any] = {}
    for name in parts[0]:
        rows = [np.asarray(part[name]) for part in parts]
        per_run = shape[3]
        runs = [np.concatenate(rows[i : i + per_run]) for i in range(0, len(rows), per_run)]
        whole = np.stack(runs).reshape(*shape[:3], units, *runs[0].shape[1:])
        found[name] = (("contender", "budget", "seed", "unit", *dims.get(name, ())), whole)
    return found


def _beside_natural(
    dataset: xr.Dataset, subject: Subject, naturals: ImageSet, features: Subject, store: _Store
) -> xr.Dataset:
    """Adds what the natural images tell."""
    images = dataset["image"].values
    flat = (images.reshape(-1, *images.shape[4:]) / 255).astype(np.float32)
    columns = dataset["unit"].values
    kept = store.get("naturals")
    if kept is None:
        kept = {"responses": subject.record(naturals.images)[:, columns], "features": features.record(naturals.images)}
        store.put("naturals", kept)
    natural, bands = kept["responses"].astype(float), band(naturals.images)
    dims = ("contender", "budget", "seed", "unit")
    measured = measure(flat) | {"natural_distance": Bank.of(naturals.images).nearest(flat).ratio}
    measured["feature_distance"] = nearest(features.record(flat), kept["features"]).ratio
    shape = images.shape[:4]
    dataset = dataset.assign({name: (dims, values.reshape(shape)) for name, values in measured.items()})
    response = dataset["response"].values
    best = natural.max(0)
    edges = {f"{name}_low": bands[name].low for name in MEASURES} | {
        f"{name}_high": bands[name].high for name in MEASURES
    }
    return dataset.assign({name: ((), edge) for name, edge in edges.items()}).assign(
        percentile=(dims, 100 * (natural < response[..., None, :]).mean(-2)),
        ratio=(dims, np.where(best > 0, response / np.where(best > 0, best, 1), np.nan)),
        natural_best=("unit", best),
        natural_image=(("unit", "rgb", "row", "col"), to_bytes(naturals.images[natural.argmax(0)])),
        natural_n=((), len(naturals.images)),
    )


def transfer(result: xr.Dataset, subjects: Mapping[str, Subject], naturals: Any = "bundled") -> xr.Dataset:
    """How much of the response do the images drive in other subjects?

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
    for name, subject in subjects.items():
        if columns.max() >= len(subject.units):
            raise InvalidArgumentError(
                f"subjects: expected {name!r} to record the columns of the comparison, up to {columns.max()}, got "
                f"{len(subject.units)} units."
            )
        images = result["image"].values
        flat = (images.reshape(-1, *images.shape[4:]) / 255).astype(np.float32)
        responses = np.asarray(subject.record(flat), dtype=float).reshape(*images.shape[:4], -1)
        own = np.take_along_axis(responses, columns[None, None, None, :, None], -1)[..., 0]
        natural = np.asarray(subject.record(as_image_set(naturals, flat.shape[-1]).images), dtype=float)[:, columns]
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
