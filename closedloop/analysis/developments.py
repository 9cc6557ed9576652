"""How preferences develop while a network is trained: what a recording of `closedloop.protocols.develop` says."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.analysis.tuning import sparseness_of
from closedloop.errors import InvalidArgumentError, RecordingError, closest
from closedloop.interfaces import FloatArray
from closedloop.recording.titles import OUTPUT
from closedloop.signatures import at_door

#: The entry `protocol` in a run's file, and the name of its evolutions.
DEVELOP = "develop"
#: The kind of presentations of images that were evolved at looks before.
EARLIER = "earlier"


@at_door
def development(recording: xr.Dataset) -> xr.Dataset:
    """Returns what each unit prefers at each look, how selective it is, how alike its preference stays, its layer.

    Likeness of a preference from look to look is said twice: by the evolved images, and by the responses to the fixed
    set of images, which no evolution has a part in. Codes are not compared, for several may draw one image.

    Args:
        recording: Of a run of `closedloop.protocols.develop`; of one that is not finished, the looks that are whole.

    Returns:
        Over ``look`` (coordinate ``step``: steps of training that were done), ``unit`` (``neuroid_id``, ``layer``,
        ``reason``) and ``start`` (of several evolutions):

        * ``response`` ``(look, unit, start)``: mean response to the unit's evolved image, in fresh presentations;
          ``image`` ``(look, unit, start, channel, row, col)``, 8 bits.
        * ``mean``, ``deviation`` and ``best`` ``(look, unit)`` of the responses to the fixed set; ``drive``, the mean
          of ``response`` over starts less ``mean``, in units of ``deviation``.
        * ``selectivity`` ``(look, unit)``: the share η² of the variance over the fixed set that its classes explain;
          where they are not known the sparseness of Vinje & Gallant (2000). The attribute of that name says which.
          ``preferred_class``, the class of the largest mean response, where classes are known; else "".
        * ``image_likeness``: mean correlation of the pixels of images that were evolved at this look and at the one
          before, over all pairs of starts; ``image_agreement``: the same among the starts of one look.
          ``tuning_likeness``: correlation of the responses to the fixed set with those at the look before.
        * ``carried`` ``(look, made, unit)``: what images evolved at look ``made`` are worth now: their response less
          ``mean``, ÷ the same of the images of now.
        * ``allocation``: sum of the shares of the unit's layer in the change of the loss since the look before, below 0
          it helped; ``allocation_so_far``, the same since the beginning. NaN, with the reason, where a layer has no
          parameters that learn.
        * ``loss`` ``(look,)``.

        NaN where a look has none before it, where a unit's responses do not vary, and where there is one start.

    Raises:
        RecordingError: It is another recording, or holds no whole look.
    """
    if "training_step" not in recording.coords or "allocation_layers" not in recording.coords:
        raise RecordingError("recording: expected one of a development, see closedloop.protocols.develop.")
    looks = _looks(recording)
    if not looks:
        raise RecordingError("recording: expected at least one whole look, got none yet; wait for the run, or resume.")
    steps = [step for step, _ in looks]
    starts = int(recording["starts"].item())
    answers = np.stack([_answers(recording, rows) for _, rows in looks])
    response, image = (
        np.stack(parts) for parts in zip(*(_evolved(recording, r, starts) for _, r in looks), strict=True)
    )
    mean, deviation = answers.mean(1), answers.std(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        drive = np.where(deviation > 0, (response.mean(2) - mean) / deviation, np.nan)
    selective, preferred, how = _selectivity(recording, looks, answers)
    shares, reason = _shares(recording, looks)
    by_unit = ("look", "unit")
    return xr.Dataset(
        {
            "response": ((*by_unit, "start"), response),
            "image": ((*by_unit, "start", "channel", "row", "col"), image),
            "mean": (by_unit, mean),
            "deviation": (by_unit, deviation),
            "best": (by_unit, answers.max(1)),
            "drive": (by_unit, drive),
            "selectivity": (by_unit, selective),
            "preferred_class": (by_unit, preferred),
            "image_likeness": (by_unit, _likeness(image)),
            "image_agreement": (by_unit, _agreement(image)),
            "tuning_likeness": (by_unit, _tuning_likeness(answers)),
            "carried": (("look", "made", "unit"), _carried(recording, looks, mean, response.mean(2))),
            "allocation": (by_unit, shares),
            "allocation_so_far": (by_unit, np.cumsum(shares, 0)),
            "loss": ("look", np.array([float(recording["loss"].values[rows[0]]) for _, rows in looks])),
        },
        {
            "step": ("look", np.array(steps)),
            "made_at": ("made", np.array(steps)),
            "neuroid_id": ("unit", recording["neuroid_id"].values),
            "layer": ("unit", _layers(recording)),
            "start": np.arange(starts),
            "reason": ("unit", reason),
        },
        {"selectivity": how, "subject": recording["subject"].item(), "seed": int(recording["seed"].item())},
    )


def _looks(recording: xr.Dataset) -> list[tuple[int, NDArray[np.intp]]]:
    """Returns step and rows of each look at which every unit's images were shown."""
    at, kind = recording["training_step"].values, recording["kind"].values
    wanted = recording.sizes["neuroid"] * int(recording["starts"].item())
    found = []
    for step in np.unique(at[kind == "reference"]):
        rows = np.flatnonzero(at == step)
        own = rows[kind[rows] == "retest"]
        if len(set(recording["stimulus_id"].values[own].tolist())) == wanted:
            found.append((int(step), rows))
    return found


def _layers(recording: xr.Dataset) -> NDArray[np.object_]:
    """Returns the layer of each unit; of a subject that does not say it one for all."""
    known = recording["layer"].values if "layer" in recording.coords else ["units"] * recording.sizes["neuroid"]
    return np.array([str(name) for name in known], dtype=object)


def _answers(recording: xr.Dataset, rows: NDArray[np.intp]) -> FloatArray:
    """Returns responses to the fixed set at a look, in the order of its images: ``(images, units)``."""
    own = rows[recording["kind"].values[rows] == "reference"]
    own = own[np.argsort(recording["stimulus_id"].values[own], kind="stable")]
    answers: FloatArray = recording["responses"].values[own].astype(float)
    return answers


def _evolved(recording: xr.Dataset, rows: NDArray[np.intp], starts: int) -> tuple[FloatArray, NDArray[np.uint8]]:
    """Returns mean response of each unit to its own images ``(units, starts)``, and these."""
    own = rows[recording["kind"].values[rows] == "retest"]
    unit, start = recording["unit"].values[own], recording["start"].values[own]
    units = recording.sizes["neuroid"]
    cell = unit * starts + start
    values = recording["responses"].values[own, unit].astype(float)
    means = np.bincount(cell, values, units * starts) / np.bincount(cell, minlength=units * starts)
    first = own[np.unique(cell, return_index=True)[1]]
    images = recording["image"].isel(presentation=first).values
    return means.reshape(units, starts), images.reshape(units, starts, *images.shape[1:])


def _selectivity(
    recording: xr.Dataset, looks: list[tuple[int, NDArray[np.intp]]], answers: FloatArray
) -> tuple[FloatArray, NDArray[np.object_], str]:
    """Returns selectivity and preferred class ``(looks, units)``, and which selectivity it is."""
    rows = looks[0][1]
    own = rows[recording["kind"].values[rows] == "reference"]
    own = own[np.argsort(recording["stimulus_id"].values[own], kind="stable")]
    names = recording["category"].values[own].astype(str)
    shape = answers.shape[0], answers.shape[2]
    if (names == "").any() or len(set(names.tolist())) < 2:
        return np.stack([sparseness_of(a)[0]["sparseness"] for a in answers]), np.full(shape, "", object), "sparseness"
    classes, member = np.unique(names, return_inverse=True)
    count = np.bincount(member)
    sums = np.stack([[np.bincount(member, column) for column in a.T] for a in answers])  # looks, units, classes
    means, whole = sums / count, answers.mean(1)[..., None]
    between = (count * (means - whole) ** 2).sum(-1)  # SS_between
    total = ((answers - answers.mean(1, keepdims=True)) ** 2).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        eta = np.where(total > 0, between / total, np.nan)
    return eta, classes.astype(object)[means.argmax(-1)], "share of variance explained by class"


def _likeness(images: NDArray[np.uint8]) -> FloatArray:
    """Returns mean correlation of images with those of the look before, over pairs of starts: ``(looks, units)``."""
    flat = _standard(images)
    found = np.full(images.shape[:2], np.nan)
    found[1:] = np.einsum("luap,lubp->luab", flat[:-1], flat[1:]).mean((2, 3))
    return found


def _agreement(images: NDArray[np.uint8]) -> FloatArray:
    """Returns mean correlation among the starts of one look, ``(looks, units)``."""
    flat, starts = _standard(images), images.shape[2]
    if starts < 2:
        return np.full(images.shape[:2], np.nan)
    products = np.einsum("luap,lubp->luab", flat, flat)
    return np.asarray(products[..., ~np.eye(starts, dtype=bool)].mean(-1))


def _standard(images: NDArray[np.uint8]) -> FloatArray:
    """Returns images as vectors of mean 0 and length 1; NaN for one of a single colour."""
    flat = images.reshape(*images.shape[:3], -1).astype(float)
    flat = flat - flat.mean(-1, keepdims=True)
    length = np.linalg.norm(flat, axis=-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(length > 0, flat / length, np.nan))


def _tuning_likeness(answers: FloatArray) -> FloatArray:
    """Returns correlation over the fixed set with the responses at the look before, ``(looks, units)``."""
    centred = answers - answers.mean(1, keepdims=True)
    size = np.linalg.norm(centred, axis=1)
    found = np.full((len(answers), answers.shape[2]), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        found[1:] = (centred[:-1] * centred[1:]).sum(1) / (size[:-1] * size[1:])
    return found


def _carried(
    recording: xr.Dataset, looks: list[tuple[int, NDArray[np.intp]]], mean: FloatArray, own: FloatArray
) -> FloatArray:
    """Returns what images of each look are worth at each later one, ``(looks, made, units)``."""
    units = recording.sizes["neuroid"]
    found = np.full((len(looks), len(looks), units), np.nan)
    for now, (_, rows) in enumerate(looks):
        found[now, now] = np.where(own[now] > mean[now], 1, np.nan)
        earlier = rows[recording["kind"].values[rows] == EARLIER]
        unit, made = recording["unit"].values[earlier], recording["made_at"].values[earlier]
        values = recording["responses"].values[earlier, unit].astype(float)
        for before, (step, _) in enumerate(looks[:now]):
            of = made == step
            if not of.any():  # the look is under way
                continue
            count = np.bincount(unit[of], minlength=units)
            with np.errstate(divide="ignore", invalid="ignore"):
                gain = np.bincount(unit[of], values[of], units) / count - mean[now]
                found[now, before] = np.where(own[now] > mean[now], gain / (own[now] - mean[now]), np.nan)
    return found


def _shares(recording: xr.Dataset, looks: list[tuple[int, NDArray[np.intp]]]) -> tuple[FloatArray, NDArray[np.object_]]:
    """Returns the shares of each unit's layer since the look before ``(looks, units)``, and why they are missing."""
    names = str(recording["allocation_layers"].item()).split()
    allocated = np.stack([recording["allocated"].values[rows[0]] for _, rows in looks])
    layers = _layers(recording).tolist()
    own = {layer: parameter_columns(layer, names) for layer in layers}
    shares = np.stack(
        [allocated[:, own[layer]].sum(1) if own[layer] else np.full(len(looks), np.nan) for layer in layers], axis=1
    )
    reason = ["" if own[layer] else f"layer {layer} has no parameters that learn, so no shares" for layer in layers]
    return shares, np.array(reason, dtype=object)


def parameter_columns(layer: str, names: list[str]) -> list[int]:
    """Returns which layers with parameters a recorded layer is made of: itself, and those within it.

    The network's output is that of its last layer, whatever that is called.

    Args:
        layer: Name of the recorded layer, with the number of a call or without.
        names: Names of the layers with parameters, in their order.
    """
    base = layer.partition("#")[0]
    found = [i for i, name in enumerate(names) if name == base or name.startswith(f"{base}.")]
    return found or ([len(names) - 1] if base == OUTPUT and names else [])


def check_development(found: xr.Dataset) -> xr.Dataset:
    """Returns what `development` returned.

    Raises:
        InvalidArgumentError: It is another Dataset.
    """
    if not isinstance(found, xr.Dataset) or "image_likeness" not in found:
        raise InvalidArgumentError("found: expected what closedloop.analysis.development returns, got something else.")
    return found


@at_door
def layer_table(found: xr.Dataset, layer: str) -> xr.Dataset:
    """Medians over the units of a layer, look by look.

    Args:
        found: See `development`.
        layer: Its name.

    Returns:
        ``drive``, ``selectivity``, ``image_likeness``, ``image_agreement``, ``tuning_likeness``, ``allocation``,
        ``allocation_so_far`` and ``loss``, ``(look,)``; NaN where no unit has a number.

    Raises:
        InvalidArgumentError: It is another Dataset, or there is no such layer.
    """
    layers = check_development(found)["layer"].values.tolist()
    if layer not in layers:
        raise InvalidArgumentError(f"layer: no layer {layer!r}.{closest(layer, list(dict.fromkeys(layers)))}")
    own = found.isel(unit=[i for i, name in enumerate(layers) if name == layer])
    names = ("drive", "selectivity", "image_likeness", "image_agreement", "tuning_likeness", "allocation")
    medians = {name: own[name].median("unit") for name in (*names, "allocation_so_far")}
    return xr.Dataset({**medians, "loss": found["loss"]}, {"step": found["step"]})
