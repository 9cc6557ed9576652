"""What a classifier gets wrong, and which channels of a layer drove it there: read from a run of `diagnose`."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage

from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import FloatArray
from closedloop.signatures import at_door

#: Kinds of rows of a diagnosis: each image as it was answered; errors that were explained; controls, answered rightly.
LABELLED, EXPLAINED, CORRECT = "labelled", "explained", "correct"


def confidences(responses: Any) -> FloatArray:
    """Returns outputs ``(n, classes)`` as probabilities: themselves where they are some already, else their softmax."""
    values = np.asarray(responses, np.float64)
    if values.size and (values >= 0).all() and np.allclose(values.sum(1), 1, atol=1e-3):
        return values
    powers = np.exp(values - values.max(1, keepdims=True))
    shares: FloatArray = powers / powers.sum(1, keepdims=True)
    return shares


def class_names(recording: xr.Dataset) -> tuple[str, ...]:
    """Returns what the outputs of a recording are called; those without a name by their number."""
    labels = recording["label"].values if "label" in recording.coords else [""] * recording.sizes["neuroid"]
    return tuple(str(name) or str(i) for i, name in enumerate(labels))


@at_door
def answers_of(recording: xr.Dataset) -> xr.Dataset:
    """Returns the answer to each labelled image that was not lost.

    Args:
        recording: A run of `closedloop.protocols.diagnose`.

    Returns:
        Along the dimension ``image`` (its name), in the order of the names: `target` and `answer`, numbers of classes,
        with `target_name` and `answer_name`; `wrong`; `confidence`, the probability of the answer, and
        `target_confidence`; `answer_output` and `target_output`, the two classes' outputs (logits); `rank` of the true
        class, 1 for the answer. The attribute ``lost`` counts images without an answer.

    Raises:
        InvalidArgumentError: It is no diagnosis.
    """
    if not {"target", "answer"} <= set(recording.coords):
        raise InvalidArgumentError("recording: expected a run of diagnose, with the coordinates target and answer.")
    shown = np.flatnonzero(recording["kind"].values == LABELLED)
    answer = recording["answer"].values[shown]
    rows = shown[answer >= 0]
    rows = rows[~np.isnan(recording["responses"].values[rows]).any(1)]
    ids = recording["stimulus_id"].values
    rows = rows[np.argsort(ids[rows].astype(str), kind="stable")]
    outputs = recording["responses"].values[rows]
    target, answer = (recording[name].values[rows] for name in ("target", "answer"))
    names, shares = np.array(class_names(recording), object), confidences(outputs)
    each = np.arange(len(rows))
    columns = {
        "target": target,
        "answer": answer,
        "target_name": names[target],
        "answer_name": names[answer],
        "wrong": target != answer,
        "confidence": shares[each, answer],
        "target_confidence": shares[each, target],
        "answer_output": outputs[each, answer],
        "target_output": outputs[each, target],
        "rank": 1 + (outputs > outputs[each, target][:, None]).sum(1),
    }
    lost = len(set(ids[shown].tolist()) - set(ids[rows].tolist()))
    found = xr.Dataset({name: ("image", value) for name, value in columns.items()}, {"image": ids[rows]})
    return found.assign_attrs(lost=lost)


@at_door
def confusions(answers: xr.Dataset) -> xr.Dataset:
    """Counts the pairs of a true class and a wrong answer, the most frequent first, then the most confident.

    Args:
        answers: Of `answers_of`.

    Returns:
        Along the dimension ``pair``: `target`, `answer`, `target_name`, `answer_name`, `count`, mean `confidence`, and
        `back`, how often it happens the other way round.
    """
    wrong = answers.isel(image=np.flatnonzero(answers["wrong"].values))
    pairs, place, counts = np.unique(
        np.stack([wrong["target"].values, wrong["answer"].values], 1), axis=0, return_inverse=True, return_counts=True
    )
    place = place.reshape(-1)
    mean = np.bincount(place, wrong["confidence"].values, len(pairs)) / np.maximum(counts, 1)
    many = {(int(t), int(a)): int(n) for (t, a), n in zip(pairs, counts, strict=True)}
    back = np.array([many.get((int(a), int(t)), 0) for t, a in pairs], np.int64)
    names = {
        int(number): str(name)
        for which in ("target", "answer")
        for number, name in zip(answers[which].values, answers[f"{which}_name"].values, strict=True)
    }
    order = np.lexsort((-mean, -counts))
    columns: dict[str, NDArray[Any]] = {
        "target": pairs[order, 0],
        "answer": pairs[order, 1],
        "target_name": np.array([names[int(t)] for t in pairs[order, 0]], object),
        "answer_name": np.array([names[int(a)] for a in pairs[order, 1]], object),
        "count": counts[order],
        "confidence": mean[order],
        "back": back[order],
    }
    return xr.Dataset({name: ("pair", value) for name, value in columns.items()})


@at_door
def explanations(recording: xr.Dataset, kind: str = EXPLAINED) -> xr.Dataset:
    """Returns what each channel did for each explained image of a kind.

    Args:
        recording: A run of `closedloop.protocols.diagnose`.
        kind: "explained" for errors, "correct" for controls, whose second class is the `target`.

    Returns:
        ``(image, unit)``: `attribution_wrong`, `attribution_right`, `attribution` (their difference), `effect` (how far
        ablation lowers the difference of the two outputs), `ablated_answer`, and `to_target`, whether the answer is the
        target with this one channel at its mean; ``(image)``: `target`, `answer`, `difference`.
    """
    rows = np.flatnonzero(recording["kind"].values == kind) if "ablated_answer" in recording else np.empty(0, np.intp)
    rows = rows[~np.isnan(recording["responses"].values[rows]).any(1)]
    _, first = np.unique(recording["stimulus_id"].values[rows], return_index=True)
    rows = rows[first]
    part = recording.isel(presentation=rows)
    target, answer = part["target"].values, part["answer"].values
    each = np.arange(len(rows))
    outputs = part["responses"].values
    difference = outputs[each, answer] - outputs[each, target]
    image = part["stimulus_id"].values
    found = xr.Dataset(coords={"image": image, "unit": np.arange(recording.sizes.get("unit", 0))})
    found = found.assign(target=("image", target), answer=("image", answer), difference=("image", difference))
    if not len(rows):
        empty = np.empty((0, found.sizes["unit"]))
        names = ("attribution_wrong", "attribution_right", "attribution", "effect", "ablated_answer", "to_target")
        return found.assign(dict.fromkeys(names, (("image", "unit"), empty)))
    wrong, right, ablated = (
        part[name].values for name in ("attribution_wrong", "attribution_right", "ablated_difference")
    )
    after = part["ablated_answer"].values
    return found.assign(
        {
            "attribution_wrong": (("image", "unit"), wrong),
            "attribution_right": (("image", "unit"), right),
            "attribution": (("image", "unit"), wrong - right),
            "effect": (("image", "unit"), difference[:, None] - ablated),
            "ablated_answer": (("image", "unit"), after),
            "to_target": (("image", "unit"), after == target[:, None]),
        }
    )


@at_door
def driving_units(recording: xr.Dataset) -> xr.Dataset:
    """Tells what the ablation of each channel does over all explained errors, and to the answers that were right.

    Returns:
        Along the dimension ``unit``: `corrects`, errors whose answer becomes the right class; `breaks`, controls whose
        answer becomes another, and `breaks_share` of them (NaN without controls); `effect`, the mean of how far it
        lowers wrong against right over the errors; `drives`, errors in which its effect is the largest of all.
    """
    wrong, right = explanations(recording), explanations(recording, CORRECT)
    broken = right["ablated_answer"].values != right["answer"].values[:, None]
    effect = wrong["effect"].values
    units, n = wrong.sizes["unit"], wrong.sizes["image"]
    columns = {
        "corrects": wrong["to_target"].values.astype(bool).sum(0),
        "breaks": broken.sum(0),
        "breaks_share": broken.mean(0) if len(broken) else np.full(units, np.nan),
        "effect": effect.mean(0) if n else np.full(units, np.nan),
        "drives": np.bincount(effect.argmax(1), minlength=units) if n else np.zeros(units, int),
    }
    found = xr.Dataset({name: ("unit", value) for name, value in columns.items()}, {"unit": wrong["unit"]})
    return found.assign_attrs(errors=n, controls=right.sizes["image"])


@at_door
def single_units(recording: xr.Dataset) -> xr.Dataset:
    """Counts the errors that one channel's ablation turns right, beside what would happen anyway.

    Returns:
        Shares, each with the attributes ``n`` (of how many) and ``title``: `corrected`, errors with such a channel;
        `corrected_by_top`, errors that the channel of the largest attribution corrects; `random_unit`, of all pairs of
        an error and a channel; `other_top`, of pairs of an error and the channel with the largest effect on another
        error (of another true class and answer); `changed_elsewhere`, errors where some channel's ablation gives a
        class that is neither; `broken`, controls with a channel whose ablation gives another answer;
        `broken_by_random`, of all pairs of a control and a channel; `broken_by_correcting`, of
        pairs of a control and a channel that corrects an error, a channel as often as it does.
    """
    wrong, right = explanations(recording), explanations(recording, CORRECT)
    hits = wrong["to_target"].values.astype(bool)
    target, answer = wrong["target"].values, wrong["answer"].values
    after = wrong["ablated_answer"].values
    elsewhere = (after != answer[:, None]) & ~hits
    broken = right["ablated_answer"].values != right["answer"].values[:, None]
    best = wrong["effect"].values.argmax(1) if len(hits) else np.empty(0, int)
    loudest = wrong["attribution"].values.argmax(1) if len(hits) else np.empty(0, int)
    other = (target[:, None] != target) & (answer[:, None] != answer)
    weights = hits.sum(0)
    by_correcting = (
        float((broken * weights).sum() / (weights.sum() * len(broken))) if weights.sum() * len(broken) else 0
    )
    shares = {
        "corrected": (_share(hits.any(1)), len(hits), "errors that one unit's ablation corrects"),
        "corrected_by_top": (
            _share(hits[np.arange(len(hits)), loudest]),
            len(hits),
            "… the unit of the largest attribution",
        ),
        "random_unit": (_share(hits), hits.size, "… a random unit"),
        "other_top": (_share(hits[:, best][other]), int(other.sum()), "… the top unit of another error"),
        "changed_elsewhere": (_share(elsewhere.any(1)), len(hits), "errors that one unit's ablation turns elsewhere"),
        "broken": (_share(broken.any(1)), len(broken), "right answers that one unit's ablation breaks"),
        "broken_by_random": (_share(broken), broken.size, "… a random unit"),
        "broken_by_correcting": (by_correcting, int(weights.sum()) * len(broken), "… a unit that corrects an error"),
    }
    return xr.Dataset({name: ((), value, {"n": n, "title": title}) for name, (value, n, title) in shares.items()})


def _share(found: Any) -> float:
    return float(found.mean()) if found.size else float("nan")


@at_door
def error_clusters(recording: xr.Dataset, distance: float = 0.8) -> xr.Dataset:
    """Groups explained errors by the channels that drove the answer.

    Each error is the vector of its channels' effects; two are as far apart as 1 minus the cosine of theirs, and
    clusters are joined by mean distance (average linkage) while that is below `distance`.

    Returns:
        Along ``image``: `cluster`, from 1 for the largest on, 0 for errors that are alone; along ``group`` (1, 2, …):
        `size`, and ``(group, driver)`` `units`, the three channels with the largest mean effect.
    """
    found = explanations(recording)
    vectors = found["effect"].values.astype(float)
    raw = _grouped(vectors, distance)
    sizes = np.bincount(raw, minlength=1)
    order = [c for c in np.argsort(-sizes, kind="stable") if sizes[c] > 1]
    number = {int(c): i + 1 for i, c in enumerate(order)}
    cluster = np.array([number.get(int(c), 0) for c in raw], np.int64)
    groups = np.arange(1, len(order) + 1)
    units = np.array([np.argsort(-vectors[cluster == g].mean(0), kind="stable")[:3] for g in groups], np.int64)
    return xr.Dataset(
        {
            "cluster": ("image", cluster),
            "size": ("group", np.array([(cluster == g).sum() for g in groups], np.int64)),
            "units": (("group", "driver"), units.reshape(len(groups), -1 if len(groups) else 0)),
        },
        {"image": found["image"], "group": groups},
    )


def _grouped(vectors: FloatArray, distance: float) -> NDArray[np.int64]:
    """Returns the number of the cluster of each vector ``(n, units)``; a vector of zeros is alone."""
    lengths = np.linalg.norm(vectors, axis=1)
    labels = -np.arange(1, len(vectors) + 1)  # each alone
    some = np.flatnonzero(lengths > 0)
    if len(some) > 1:
        tree = linkage(vectors[some] / lengths[some, None], "average", "cosine")
        labels[some] = fcluster(tree, distance, "distance")
    return np.unique(labels, return_inverse=True)[1].reshape(-1).astype(np.int64)
