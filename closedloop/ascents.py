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

from closedloop.cautions import CLIPPED
from closedloop.interfaces import FloatArray, Generator, Objective, State, Units
from closedloop.naturalness import clipped
from closedloop.objectives import ImageObjective, evaluate
from closedloop.stimuli import render
from closedloop.summary import thread_objectives

#: The entry `protocol` in a run's file.
ASCEND = "ascend"
#: Confidence whose first step is noted, as in the logs of the fooling paper.
MILESTONES = (0.99, 0.999, 0.9999)
#: What a backward pass costs, in forward passes.
BACKWARD = 2
#: Share of the whole rise that is left to the last tenth of the steps when a method has not arrived yet.
RISING = 0.05


def classes_of(units: Units, column: int) -> tuple[int, ...]:
    """Columns of the units that compete with one in a softmax: same layer, same position, itself among them.

    Only the unit itself where the layer is unknown.
    """
    if not {"layer", "y", "x"} <= units.coords.keys():
        return (column,)
    place = list(zip(*(units.coords[name] for name in ("layer", "y", "x")), strict=True))
    return tuple(i for i, other in enumerate(place) if other == place[column])


def is_whole(units: Units, classes: Sequence[int]) -> bool:
    """Whether these columns are all channels of their layer, so that a softmax over them is the network's own."""
    if "layer_channels" not in units.coords or len(classes) < 2:
        return False
    return bool(len(classes) == units.coords["layer_channels"][classes[0]])


def ascent_dataset(
    recording: xr.Dataset,
    evolutions: Sequence[State],
    content: Mapping[str, Any],
    objectives: Sequence[Objective],
    generator: Generator | None = None,
) -> xr.Dataset:
    """The result of a finished run of ascents.

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
    scalars = {key: recording[key] for key in ("subject", "generator", "seed", "closedloop_version")}
    return xr.concat(found, dim="unit").assign_coords({**scalars, "method": content["method"]})


def _one(
    recording: xr.Dataset,
    state: State,
    objective: Objective,
    content: Mapping[str, Any],
    i: int,
    generator: Generator | None,
) -> xr.Dataset:
    """The result of one ascent, without the dimension of units."""
    name, column, rivals = (content[key][i] for key in ("names", "columns", "rivals"))
    own, kind = recording["thread"].values == name, recording["kind"].values
    last = recording["generation"].values == recording["generation"].values.max()
    rows = np.flatnonzero(own & last & (kind == "retest"))
    responses = recording["responses"].values[rows].mean(0)
    image = render(recording, rows[:1], generators=None if generator is None else {name: generator})[0]
    response = float(np.asarray(evaluate(objective, responses[None], image[None]))[0])
    climbed = state["climbed"]
    shown = _shown(recording, np.flatnonzero(own & (kind == "evolved")), objective)
    pictures = climbed[:, 2, 0]
    facts = {
        "response": response,
        "confidence": _confidence(responses, column, rivals) if content["whole"][i] else np.nan,
        "best_response": float(np.nanmax([response, *shown])),
        "forwards": int(pictures.sum()) + len(shown),
        "forward_equivalents": int((1 + BACKWARD) * pictures.sum()) + len(shown),
        "failure": "; ".join(failures(image, climbed, response, float(shown[0]))),
        "column": -1 if column is None else int(column),
        "objective": objective.describe(),
    }
    leader = int(np.argmax(np.nan_to_num(climbed[-1, 0], nan=-np.inf)))
    return xr.Dataset(
        {
            **{key: ((), value) for key, value in facts.items()},
            "image": (("rgb", "row", "col"), image, {"long_name": "last image, 8 bits, RGB in [0, 1]"}),
            "code": (("latent",), recording["latent_code"].values[rows[0]]),
            "reached": (("milestone",), _reached(climbed[:, 0].max(1), _climbs_probability(recording, name))),
            "score": (("step",), climbed[:, 0, leader]),
            "gradient_norm": (("step",), climbed[:, 1, leader]),
            "shown_response": (("shown",), shown),
        },
        {
            "step": np.arange(len(climbed)),
            "shown": np.arange(len(shown)) * content["every"],
            "milestone": list(MILESTONES),
            "neuroid_id": objective.describe() if column is None else str(recording["neuroid_id"].values[column]),
        },
    )


def _shown(recording: xr.Dataset, rows: NDArray[np.int64], objective: Objective) -> FloatArray:
    """Clean response of the best copy at each presentation, ``(presentations,)``."""
    if isinstance(objective, ImageObjective) and objective.needs_images:
        scores = recording["score"].values[rows]
    else:
        scores = np.asarray(objective(recording["responses"].values[rows]))
    generation = recording["generation"].values[rows]
    return np.array([np.max(scores[generation == g]) for g in np.unique(generation)])


def _confidence(responses: FloatArray, column: int, classes: Sequence[int]) -> float:
    """Softmax probability of one of the classes."""
    return float(softmax(responses[list(classes)].astype(np.float64))[list(classes).index(column)])


def _climbs_probability(recording: xr.Dataset, name: str) -> bool:
    """Whether the scores of a thread are softmax probabilities."""
    return dict(thread_objectives(recording))[name].startswith("probability(")


def _reached(scores: FloatArray, probabilities: bool) -> FloatArray:
    """First step, counted from 0, whose score ``(steps,)`` passes each milestone; NaN where none does."""
    passed = [(scores > m) & probabilities for m in MILESTONES]
    return np.array([np.argmax(p) if p.any() else np.nan for p in passed])


def failures(image: NDArray[np.float32], climbed: FloatArray, response: float, first: float) -> list[str]:
    """What a reader must know of an ascent, in words; empty where nothing was found.

    Args:
        image: The last image ``(3, h, w)``.
        climbed: Scores, gradient norms and pictures of each step, ``(steps, 3, copies)``.
        response: To the last image.
        first: To the first image.
    """
    score, norm = climbed[:, 0].max(1), climbed[:, 1].max(1)
    found = []
    if (norm == 0).all():
        found.append("dead gradient: it was zero in every step, so the image is the one it began with")
    elif (norm == 0).any():
        found.append(f"zero gradient in {int((norm == 0).sum())} of {len(norm)} steps")
    if not np.isfinite(norm).all() or not np.isfinite(score).all():
        found.append(f"score or gradient not finite in {int((~np.isfinite(norm + score)).sum())} of {len(norm)} steps")
    if not response > first:
        found.append(f"did not rise: response {response:.3g} at the end, {first:.3g} at the beginning")
    extreme = float(clipped(image[None])[0])
    if extreme > CLIPPED:
        found.append(f"saturated: {extreme:.0%} of the pixel values are black or white")
    tenth = max(1, len(score) // 10)
    if len(score) >= 20:
        before, end = score[-2 * tenth : -tenth].mean(), score[-tenth:].mean()
        if end - before > RISING * max(score.max() - score[0], 1e-12):
            found.append("not converged: the score still rises in the last tenth of the steps")
    return found
