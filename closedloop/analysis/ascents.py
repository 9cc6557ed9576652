"""What gradient ascents found, in one Dataset: images, clean responses, confidence, the way up, and what went wrong.

All numbers of the result are responses to the last image as a file holds it: rounded to 8 bits, whole, and shown as any
other image, whatever the method showed the subject on its way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.special import softmax

from closedloop.images.naturalness import CLIPPED_SHARE, clipped
from closedloop.interfaces import FloatArray, Generator, Objective, State, Units
from closedloop.objectives import evaluate, looks_at_images
from closedloop.objectives.naming_units import read_columns
from closedloop.readable import percent
from closedloop.recording.layout import REFERENCE
from closedloop.recording.render import render
from closedloop.recording.titles import recorded_title

#: The entry `protocol` in a run's file.
ASCEND = "ascend"
#: Confidence whose first step is noted, as in the logs of the fooling paper.
MILESTONES = (0.99, 0.999, 0.9999)
#: What a backward pass costs, in forward passes.
BACKWARD = 2


def classes_of(units: Units, column: int) -> tuple[int, ...]:
    """Returns the columns of all channels of a unit's layer at its place, its own among them: those of a softmax.

    Only the unit itself where not all of them are recorded, or the layer is unknown.
    """
    if not {"layer", "y", "x", "layer_channels"} <= units.coords.keys():
        return (column,)
    place = list(zip(*(units.coords[name] for name in ("layer", "y", "x")), strict=True))
    beside = tuple(i for i, other in enumerate(place) if other == place[column])
    return beside if len(beside) == units.coords["layer_channels"][column] else (column,)


def rivals_of(content: Mapping[str, Any], i: int) -> list[int]:
    """Returns the classes' columns of the i-th ascent: text in a run's file, numbers in files of older runs."""
    written = content["rivals"][i]
    return read_columns(written) if isinstance(written, str) else list(written)


def is_output(units: Units, classes: Sequence[int]) -> bool:
    """Tells whether the columns are all units of a layer without positions: a softmax over them is a confidence."""
    return len(classes) > 1 and all(units.coords["y"][i] < 0 for i in classes)


def ascent_dataset(
    recording: xr.Dataset,
    evolutions: Sequence[State],
    content: Mapping[str, Any],
    objectives: Sequence[Objective],
    generator: Generator | None = None,
) -> xr.Dataset:
    """Returns the result of a finished run of ascents.

    Args:
        recording: The session's recording.
        evolutions: The saved state of each thread.
        content: What the run's file holds.
        objectives: What was wanted of each, without a method's penalties.
        generator: Where it has no name to be loaded by.

    Returns:
        One entry along ``unit`` for each ascent; see `closedloop.protocols.ascend`.
    """
    found = [
        _one(recording, state, objective, content, i, generator)
        for i, (state, objective) in enumerate(zip(evolutions, objectives, strict=True))
    ]
    scalars = {key: recording[key].item() for key in ("subject", "seed", "closedloop_version")}
    generator_name = str(recording["generator"].values[0])  # all ascents of a run have one generator
    result = xr.concat(found, dim="unit").assign_coords(
        {**scalars, "generator": generator_name, "method": content["method"]}
    )
    result.encoding["source"] = recording.encoding.get("source")
    return result


def _one(
    recording: xr.Dataset,
    state: State,
    objective: Objective,
    content: Mapping[str, Any],
    i: int,
    generator: Generator | None,
) -> xr.Dataset:
    """Returns the result of one ascent, without the dimension of units."""
    name, column, rivals = content["names"][i], content["columns"][i], rivals_of(content, i)
    own, kind = recording["thread"].values == name, recording["kind"].values
    last = recording["generation"].values == recording["generation"].values.max()
    rows, way = np.flatnonzero(own & last & (kind == "retest")), np.flatnonzero(own & (kind == "evolved"))
    responses = recording["responses"].values[rows].mean(0)
    image = render(recording, rows[:1], generators=None if generator is None else {name: generator})[0]
    response = float(np.asarray(evaluate(objective, responses[None], image[None]))[0])
    climbed, every, output = state["climbed"], int(content["every"]), bool(content["outputs"][i])
    leader = int(np.argmax(np.nan_to_num(climbed[-1, 0], nan=-np.inf)))
    score, norm, pictures = climbed[:, 0, leader], climbed[:, 1, leader], climbed[:, 2, 0]
    shown = _shown(recording, way, objective)
    trust = _trust(recording, way, column, rivals) if output else np.full((2, len(shown)), np.nan)
    # "raw" climbs the confidence of the image as it is, where the unit is an output: its score at each step is exact.
    exact = score if output and content["method"] == "raw" else None
    natural = _natural(recording, objective)
    facts = {
        "response": response,
        "confidence": _confidence(responses[None], column, rivals)[0] if output else np.nan,
        "best_response": max([response, *shown], key=lambda value: -np.inf if np.isnan(value) else value),
        "forwards": int(pictures.sum()) + len(shown),
        "forward_equivalents": int((1 + BACKWARD) * pictures.sum()) + len(shown),
        "failure": "; ".join(failures(image, score, norm, response, float(shown[0]))),
        "natural": natural.max() if len(natural) else np.nan,
        "above_natural": (natural < response).mean() if len(natural) else np.nan,
        "column": -1 if column is None else int(column),
        "objective": objective.describe(),
    }
    return xr.Dataset(
        {
            **{key: ((), value) for key, value in facts.items()},
            "image": (("rgb", "row", "col"), image, {"long_name": "last image, 8 bits, RGB in [0, 1]"}),
            "code": (("latent",), recording["latent_code"].values[rows[0]]),
            "reached": (("milestone",), reached(trust, every, exact)),
            "score": (("step",), score),
            "gradient_norm": (("step",), norm),
            "shown_response": (("shown",), shown),
            "shown_confidence": (("shown",), trust[0]),
        },
        {
            "step": np.arange(len(climbed)),
            "shown": np.arange(len(shown)) * every,
            "milestone": ["largest", *map(str, MILESTONES)],
            "neuroid_id": objective.describe() if column is None else str(recording["neuroid_id"].values[column]),
            "title": objective.describe() if column is None else recorded_title(recording, column),
            "label": "" if column is None or "label" not in recording else str(recording["label"].values[column]),
        },
    )


def _shown(recording: xr.Dataset, rows: NDArray[np.int64], objective: Objective) -> FloatArray:
    """Returns the clean response of the best copy at each presentation, ``(presentations,)``."""
    if looks_at_images(objective):
        scores = recording["score"].values[rows]
    else:
        scores = np.asarray(objective(recording["responses"].values[rows]))
    generation = recording["generation"].values[rows]
    return np.array([np.max(scores[generation == g]) for g in np.unique(generation)])


def _natural(recording: xr.Dataset, objective: Objective) -> FloatArray:
    """Returns the mean response to each reference image, ``(references,)``."""
    names = recording["stimulus_id"].values
    rows = np.flatnonzero(recording["thread"].values == REFERENCE)
    if not len(rows):
        return np.empty(0)
    kinds = [rows[names[rows] == name] for name in np.unique(names[rows])]
    means = np.stack([recording["responses"].values[own].mean(0) for own in kinds])
    images = render(recording, [own[0] for own in kinds]) if looks_at_images(objective) else None
    return np.asarray(evaluate(objective, means, images), dtype=float)


def _confidence(responses: FloatArray, column: int, classes: Sequence[int]) -> FloatArray:
    """Returns the softmax probability ``(n,)`` of one of the classes, of responses ``(n, units)``."""
    among = softmax(responses[:, list(classes)].astype(np.float64), axis=1)
    return np.asarray(among[:, list(classes).index(column)])


def _trust(recording: xr.Dataset, rows: NDArray[np.int64], column: int, classes: Sequence[int]) -> FloatArray:
    """Returns each presentation's surest copy's confidence, and whether it is the largest output: ``(2, shown)``."""
    responses, generation = recording["responses"].values[rows], recording["generation"].values[rows]
    sure = _confidence(responses, column, classes)
    largest = (responses[:, column] >= responses[:, list(classes)].max(1)).astype(float)
    groups = [generation == g for g in np.unique(generation)]
    return np.array([[np.max(values[group]) for group in groups] for values in (sure, largest)])


def reached(trust: FloatArray, every: int, exact: FloatArray | None = None) -> FloatArray:
    """Returns the first steps, from 0, at which a unit was the largest output and passed each of `MILESTONES`.

    Args:
        trust: Confidence, and 1 where the unit was the largest output, of each presentation, ``(2, shown)``.
        every: Steps from one presentation to the next.
        exact: Confidence in each step, ``(steps,)``, where it is known. Above one half it is the largest.

    Returns:
        ``(milestones,)``, NaN for never.
    """
    first = [every * _first(passed) for passed in (trust[1] == 1, *(trust[0] > m for m in MILESTONES))]
    sooner = [np.nan] * len(first) if exact is None else [_first(exact > m) for m in (0.5, *MILESTONES)]
    return np.fmin(first, sooner)


def _first(passed: NDArray[np.bool_]) -> float:
    """Returns the first place that is true; NaN where none is."""
    return float(np.argmax(passed)) if passed.any() else float("nan")


def failures(
    image: NDArray[np.float32], score: FloatArray, norm: FloatArray, response: float, first: float
) -> list[str]:
    """Says what a reader must know of an ascent, in words; empty where nothing was found.

    Args:
        image: The last image ``(3, h, w)``.
        score: Of each step, ``(steps,)``.
        norm: Length of the gradient in each step, ``(steps,)``.
        response: To the last image.
        first: To the first image.
    """
    found = []
    if (norm == 0).all():
        found.append("dead gradient: it was zero in every step, so the image is the one it began with")
    elif (norm == 0).any():
        found.append(f"zero gradient in {int((norm == 0).sum())} of {len(norm)} steps")
    if not np.isfinite(norm + score).all():
        found.append(f"score or gradient not finite in {int((~np.isfinite(norm + score)).sum())} of {len(norm)} steps")
    if not response > first:
        found.append(f"did not rise: response {response:.3g} at the end, {first:.3g} at the beginning")
    extreme = float(clipped(image[None])[0])
    if extreme > CLIPPED_SHARE:
        found.append(f"saturated: {percent(extreme)} of the pixel values are black or white")
    if len(score) >= 20 and _rises(score):
        found.append("not converged: the score still rises in the last tenth of the steps")
    return found


def _rises(score: FloatArray) -> bool:
    """Tells whether the last tenth of the steps brought a twentieth of the whole rise; False where it is unknown."""
    tenth = len(score) // 10
    before, end = score[-2 * tenth : -tenth].mean(), score[-tenth:].mean()
    return bool(end - before > 0.05 * max(score.max() - score[0], 1e-12))
