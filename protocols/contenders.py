"""Runs the contenders of a comparison: each method on a few units within a budget, with one record for each image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from closedloop.analysis.ascents import BACKWARD
from closedloop.gradients.methods import METHODS, Request, find_method, make_plan
from closedloop.images.eight_bit import to_bytes
from closedloop.images.naturalness import code_measures
from closedloop.images.resizing import resize_images
from closedloop.interfaces import RESOLUTION, FloatArray, Generator, State, Subject, resolution_of
from closedloop.loop.session import Session
from closedloop.loop.thread import Thread
from closedloop.objectives import Unit
from closedloop.optimizers import load_optimizer
from closedloop.recipes import OPTIMIZER, matched_generator
from closedloop.recording.render import render
from closedloop.seeds import named_seed
from closedloop.signatures import check_fields

from .ascend import ascend

#: Stands for a method's own number of steps or images instead of a budget.
PUBLISHED = "published"
#: The method of a contender that evolves without gradients.
EVOLVE = "evolve"
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
    optimizer: str = OPTIMIZER
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)


#: What is compared where nothing else is asked for: fooling, regularized, Fourier, phases, by a generator, evolved.
CONTENDERS = ("raw", "yosinski-4", "lucid", "maco", "dgn-am", "ppgn", "evolved")


def as_contender(method: str | Contender) -> Contender:
    """Returns a contender, given itself or the name of a method."""
    if isinstance(method, Contender):
        return method
    if method == "evolved":
        return Contender("evolved", EVOLVE)
    find_method(method)
    return Contender(method, method)


def run_contender(
    subject: Subject, contender: Contender, budget: int | str, count: str, seed: int, columns: Sequence[int]
) -> State:
    """Runs one method at one budget on a few units; returns arrays with an entry for each unit."""
    if contender.method == EVOLVE:
        images = 3000 if budget == PUBLISHED else int(budget)  # an evolution has no published length
        return _evolved(subject, contender, images, seed, columns)
    return _ascended(subject, contender, None if budget == PUBLISHED else int(budget), count, seed, columns)


def generator_of(contender: Contender, subject: Subject) -> Generator:
    """Returns the generator of a contender at the subject's resolution: its own, or that of its method."""
    named = contender.generator
    if named is None:
        named = {"name": "native"} if contender.method == EVOLVE else METHODS[contender.method].generator
    return matched_generator({"name": named} if isinstance(named, str) else named, subject, RESOLUTION)


def _ascended(
    subject: Subject, contender: Contender, budget: int | None, count: str, seed: int, columns: Sequence[int]
) -> State:
    """Climbs by a gradient method."""
    generator = generator_of(contender, subject)
    steps, every = _schedule(subject, contender, generator, budget, count)
    settings = {"seed": seed, "steps": steps, "every": every, **contender.options}
    found = ascend(subject, generator, contender.method, unit=list(columns), progress=False, **settings)
    pictures = (found["forwards"].values - found.sizes["shown"]) // steps
    # A step costs each picture a forward pass and, in forward-equivalents, BACKWARD for the way back; a presentation 1.
    cost = found["shown"].values[None] * pictures[:, None] * (1 + BACKWARD if count == "forward_equivalents" else 1)
    cost = cost + 1 + np.arange(found.sizes["shown"])
    return {
        "best_response": found["best_response"].values,
        "forwards": found["forwards"].values,
        "forward_equivalents": found["forward_equivalents"].values,
        "failure": [str(f) for f in found["failure"].values],
        "image": _stored(found["image"].values, subject),
        **_codes(found["code"].values, generator),
        **_curve(cost, found["shown_response"].values),
    }


def _schedule(
    subject: Subject, contender: Contender, generator: Generator, budget: int | None, count: str
) -> tuple[int, int]:
    """Returns steps, and steps between presentations, that keep within a budget."""
    published = METHODS[contender.method].steps
    if budget is None:
        return published, -(-published // POINTS)
    options = dict(contender.options)
    copies = options.pop("copies", 1)
    request = Request(
        generator,
        Unit(0),
        0,
        (0,),
        False,
        0,
        published,
        None,
        copies,
        resolution_of(subject),
        len(subject.units),
        options,
    )
    view = make_plan(contender.method, request).gradient.view
    pictures = copies * (1 if view is None else view.copies)
    each = pictures * (1 + BACKWARD if count == "forward_equivalents" else 1)
    steps = max(1, (budget - POINTS * copies) // each)
    return steps, -(-steps // POINTS)


def _evolved(subject: Subject, contender: Contender, images: int, seed: int, columns: Sequence[int]) -> State:
    """Evolves without gradients."""
    optimizer = {"name": contender.optimizer, **contender.options}
    return evolve_units(session_of_units(subject, generator_of(contender, subject), optimizer, images, seed, columns))


def session_of_units(
    subject: Subject,
    generator: Generator,
    optimizer: Mapping[str, Any],
    images: int,
    seed: int,
    columns: Sequence[int],
) -> Session:
    """Makes a session that evolves an image for each of a few units, a thread for each.

    Args:
        subject: Who looks.
        generator: Turns codes into images.
        optimizer: Name and options of the optimizer.
        images: Presentations for each unit.
        seed: Of the optimizers and of the order.
        columns: The units.
    """
    named = dict(optimizer)
    name = str(named.pop("name"))
    threads = [
        Thread(
            generator,
            load_optimizer(name, generator.space, seed=named_seed(seed, f"unit-{c}"), **named),
            Unit(c),
            f"unit-{c}",
        )
        for c in columns
    ]
    numbers: dict[str, Any] = {"interleave": 0, "retest_repeats": 1, "keep": "none", "seed": seed}
    return Session(subject, threads, images=images, progress=False, **numbers)


def evolve_units(session: Session) -> State:
    """Runs a session of `session_of_units`; the last image of each unit is that of the final re-test.

    Returns:
        Arrays with an entry for each unit; ``image`` ``(units, channels, h, w)``, 8 bits.
    """
    threads = [evolution.thread for evolution in session.evolutions]
    generator = threads[0].generator
    recording = session.run()
    thread, kind = recording["thread"].values, recording["kind"].values
    last = recording["generation"].values == recording["generation"].values.max()
    rows = [int(np.flatnonzero((thread == t.name) & last)[0]) for t in threads]
    scores = [recording["score"].values[(thread == t.name) & (kind == "evolved")] for t in threads]
    shown = np.array([len(s) for s in scores])
    points = np.linspace(0, shown.min() - 1, POINTS).astype(int)
    best = np.stack([np.maximum.accumulate(np.nan_to_num(s, nan=-np.inf))[points] for s in scores])
    return {
        "best_response": best[:, -1],
        "forwards": shown,
        "forward_equivalents": shown,
        "failure": [""] * len(threads),
        "image": _stored(render(recording, rows, generators={t.name: generator for t in threads}), session.subject),
        **_codes(recording["latent_code"].values[rows], generator),
        **_curve(np.tile(points + 1, (len(threads), 1)), best),
    }


def _stored(images: NDArray[np.float32], subject: Subject) -> NDArray[np.uint8]:
    """Returns images as 8 bits, at the subject's resolution where they are of another."""
    return to_bytes(resize_images(images, resolution_of(subject)))


def _codes(codes: FloatArray, generator: Generator) -> dict[str, FloatArray]:
    """Returns `code_norm` and `code_at_bound` of codes ``(n, dim)``."""
    measured = [code_measures(code[: generator.space.dim], generator.space) for code in codes]
    return {name: np.array([m[name] for m in measured]) for name in measured[0]}


def _curve(cost: NDArray[Any], responses: FloatArray) -> dict[str, FloatArray]:
    """Returns the best response so far ``(units, POINTS)`` over what it cost; the last value is carried on."""
    best = np.maximum.accumulate(np.nan_to_num(responses, nan=-np.inf), axis=1)
    places = np.minimum(np.arange(POINTS), best.shape[1] - 1)
    return {"curve_cost": cost[:, places].astype(float), "curve_response": best[:, places].astype(float)}
