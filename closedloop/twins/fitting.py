"""Fits a twin to recordings: features, readout, and what held-out images say of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop import recipes
from closedloop.analysis.units import correlations
from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.images.sets import ImageSet
from closedloop.interfaces import Differentiable, FloatArray, Generator, Subject
from closedloop.loop.parts import FeaturesPart
from closedloop.loop.progress import Progress, as_progress
from closedloop.seeds import check_seed
from closedloop.signatures import at_door
from closedloop.twins.gathering import Gathered, gather
from closedloop.twins.judging import (
    LEAST,
    LEVELS,
    ceiling,
    correlation_interval,
    half_widths,
    held_out,
    images_needed,
    normalized_interval,
    within,
)
from closedloop.twins.places import Places
from closedloop.twins.reading import RIDGE, Read, check_readout, fit_best, kinds_of
from closedloop.twins.storing import Readout, half_name

#: The feature network that is a control: lite0 with random weights.
RANDOM = "random"


@at_door
def fit_twin(
    recording: xr.Dataset | Sequence[xr.Dataset],
    features: str | Mapping[str, Any] | Subject = FeaturesPart.features,
    layers: str | Sequence[str] = FeaturesPart.layers,
    *,
    readout: str = RIDGE,
    units: Sequence[int] | None = None,
    generators: Mapping[str, Generator] | None = None,
    references: ImageSet | str | Path | None = None,
    seed: int = 0,
    progress: Progress = None,
) -> Any:
    """Fits a model to what a subject answered: activations of a network, and a linear readout of them for each unit.

    Activations of the layers are averaged to at most 6 × 6 places and standardized over the images. The readout is
    Bayesian ridge regression (`closedloop.twins.ridge`): the ratio of noise to signal, and whether all layers are
    read or one alone, are those of the highest marginal likelihood. It may have a spatial mask
    (`closedloop.twins.places`), and may be one of spikes (`closedloop.twins.poisson`), or be chosen by
    cross-validation within each training set. Each image counts once, with its mean response,
    weighted by how often it was shown. The correlation with held-out images is cross-validated over images in five
    parts, never over repeats of an image, with all choices made anew in each part.

    Args:
        recording: What `closedloop.open_recording` or a protocol returned, or several of one subject.
        features: "lite0", or "lite1", "lite2" (extra `lite`), "torchvision:NAME" …; "native" for the encoder of that
            generator; "random" for lite0 with random weights, a control; a recipe ``{"name": …, **options}``; a
            `TorchSubject`; or any other differentiable subject, whose responses are then the features as they are.
        layers: Names of layers, or "auto": of the network's blocks the last one of each size of map. Not for a
            subject whose responses are the features.
        readout: "ridge", "factorized" (a mask over places, and weights of channels), "poisson" (spikes),
            "factorized-poisson", or "auto", for each unit what predicts held-out parts of the images best.
        units: Columns of the responses; None for all.
        generators: By thread, where a generator was a Python object; see `closedloop.render`.
        references: Where the reference images are, if not in the run's folder; see `closedloop.render`.
        seed: Of random weights, of the parts of the cross-validation, and of the intervals.
        progress: Whether a bar says how many images were made again; or a function that is told.

    Returns:
        A `closedloop.subjects.Twin`, whose `table` says how well it predicts each unit.

    Raises:
        InvalidArgumentError: An argument does not fit, the recordings have different units, the features have no
            gradient, or no places for a mask; or responses below 0 are to be read as spikes.
        UnknownNameError: There is no such network or readout.
        RecordingError: There are fewer than 10 images, or they cannot be made again.
        MissingExtraError: Networks need the extra `networks`.
    """
    check_seed(seed)
    check_readout(readout)
    recordings = [recording] if isinstance(recording, xr.Dataset) else list(recording)
    if not recordings:
        raise InvalidArgumentError("recording: expected at least one recording, got none.")
    network = feature_network(features, layers, seed)
    shown = as_progress(progress, "features")
    found = gather(recordings, network, units, generators, references, shown)
    fitted = fit_readout(found, network, seed, readout)
    return recipes.build("subjects", "twin", fitted, features=network)


def feature_network(features: str | Mapping[str, Any] | Subject, layers: str | Sequence[str], seed: int) -> Subject:
    """Returns what turns images into features; see `fit_twin`."""
    network: Any = features
    if isinstance(features, str) and features == "native":  # its encoder
        network = {"name": "encoder", "generator": features}
    elif isinstance(features, str):
        name = FeaturesPart.features if features == RANDOM else features
        control = {"weights": "random", "seed": seed} if features == RANDOM else {}
        recipes.check_name("subjects", name)
        # It sees images 96 pixels high and wide, if it is one that can be told.
        side = {"resolution": 96} if recipes.has_option("subjects", name, "resolution") else {}
        network = {"name": name, **control, **side}
    if isinstance(network, Mapping):
        network = recipes.build_again("subjects", network, "features: the network", "hand it over")
    if hasattr(network, "probe"):
        named_layers = layers if isinstance(layers, str) else list(layers)
        made: Subject = recipes.build("subjects", "pooled", network, layers=named_layers)
        return made
    own: Any = network
    if not isinstance(network, Differentiable):
        raise InvalidArgumentError(
            f"features: expected a network, or a subject with a forward(x) that keeps torch's graph, got "
            f"{type(network).__name__}; a twin is there to be differentiated."
        )
    if layers != "auto":
        raise InvalidArgumentError(
            f"layers: {type(network).__name__} has none; its responses are the features. Leave it out."
        )
    plain: Subject = own
    return plain


def fit_readout(found: Gathered, features: Subject, seed: int, readout: str = RIDGE) -> Readout:
    """Fits the readout of every unit, and judges it by images that were held out."""
    x, mean, scale = standardized(found.features)
    read = Read.of(x, layer_columns(features), None if readout == RIDGE else Places.of(features, scale))
    units = found.mean.shape[1]
    weights, bias = np.zeros((x.shape[1], units), np.float32), np.zeros(units, np.float32)
    sizes: NDArray[np.int64] = np.zeros(0, np.int64)
    curve: list[Any] = [[]] * units
    size, kinds = np.full(units, np.nan), [RIDGE] * units
    masks: list[Any] = [[]] * units
    shares = np.zeros((len(read.columns), units))
    rows: list[Any] = [None] * units
    for alike in _alike(found.count, found.mean, readout):
        known, name = np.flatnonzero(found.count[:, alike[0]] > 0), found.units["neuroid_id"][alike[0]]
        if len(known) < LEAST:
            raise RecordingError(
                f"recording: expected at least {LEAST} images that {name} answered, got {len(known)}; record more."
            )
        y, n = found.mean[known[:, None], alike], found.count[known, alike[0]]
        choice = kinds_of(readout, read.places, float(y.min()), str(name))
        own = read.rows(known)
        fit = fit_best(own, choice, y, n, seed)
        bias[alike], shares[:, alike], size[alike] = fit.bias, fit.shares, fit.size
        weights[:, alike] = fit.weights()
        predicted, sizes = held_out(_fitted(own, choice, y, n, seed), len(y), len(alike), seed)
        for j, unit in enumerate(alike):
            squares = found.squares[known, unit]
            rows[unit] = _score(predicted[-1, :, j], y[:, j], n, squares, float(fit.ratio[j]), found.group[known], seed)
            curve[unit] = [float(_r(p[:, j], y[:, j])) for p in predicted]
            rows[unit]["needed"], rows[unit]["limit"] = images_needed(sizes, np.array(curve[unit]))
            halves = half_widths(predicted[-1, :, j], y[:, j], float(fit.size[j]))
            rows[unit] |= {half_name(level): half for level, half in zip(LEVELS, halves, strict=True)}
            kinds[unit], mask = fit.kinds[j], fit.masks[j]
            masks[unit] = [] if mask is None else mask.tolist()
    return Readout(
        weights,
        bias,
        mean,
        scale,
        recipes.recipe(features),
        recipes.fingerprint(features),
        dict(found.units),
        found.subject,
        found.resolution,
        found.sha256,
        {name: [row[name] for row in rows] for name in rows[0]},
        tuple(int(s) for s in sizes),
        np.array(curve).T.tolist(),
        shares.tolist(),
        tuple(read.columns),
        seed,
        tuple(kinds),
        tuple(size.tolist()),
        masks,
    )


def _fitted(
    read: Read, kinds: Sequence[str], y: FloatArray, count: FloatArray, seed: int
) -> Callable[[NDArray[np.int64]], Callable[[NDArray[np.int64]], FloatArray]]:
    """Returns what fits readouts to some of the images, for `held_out`; the kind is chosen by these alone."""

    def fit(train: NDArray[np.int64]) -> Callable[[NDArray[np.int64]], FloatArray]:
        made = fit_best(read.rows(train), kinds, y[train], count[train], seed)
        return lambda test: made.predict(read, train, test)

    return fit


def standardized(
    features: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Returns features with mean 0 and variance 1 over images, their means, and what multiplied them."""
    mean, scale = standardization(features)
    return ((features - mean) * scale).astype(np.float32), mean, scale


def standardization(features: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Returns the mean of each feature over images, and 1 / its standard deviation; 0 for one that does not vary."""
    mean = features.mean(0, dtype=float)
    sd = features.std(0, dtype=float)
    varies = sd > 1e-6 * np.maximum(np.abs(mean), 1e-6)
    scale = np.where(varies, 1 / np.where(varies, sd, 1), 0)
    return mean.astype(np.float32), scale.astype(np.float32)


def layer_columns(features: Subject) -> dict[str, NDArray[np.int64]]:
    """Returns the columns of each layer of the features; one layer where they name none."""
    named = features.units.coords.get("layer")
    names = ["features"] * len(features.units) if named is None else [str(name) for name in named]
    return {name: np.flatnonzero(np.array(names) == name) for name in dict.fromkeys(names)}


def _alike(count: FloatArray, mean: FloatArray, readout: str) -> list[NDArray[np.int64]]:
    """Returns groups of units that answered the same presentations of the same images, and can be read alike."""
    groups: dict[Any, list[int]] = {}
    for unit, column in enumerate(count.T):
        negative = readout != RIDGE and bool(np.nanmin(mean[:, unit], initial=0) < 0)
        groups.setdefault((column.tobytes(), negative), []).append(unit)
    return [np.array(group) for group in groups.values()]


def _score(
    predicted: FloatArray,
    y: FloatArray,
    n: FloatArray,
    squares: FloatArray,
    ratio: float,
    group: NDArray[np.int64],
    seed: int,
) -> dict[str, Any]:
    """Returns what held-out images say of one unit."""
    r, low, high = correlation_interval(predicted, y, seed)
    most, why = ceiling(y, n, squares)
    share = normalized_interval(predicted, y, n, squares, seed) if most > 0 else (np.nan, np.nan)
    if not np.isfinite(r):
        why = "unpredictable: its predictions, or its responses, do not vary"
    elif not low > 0:
        why = "unpredictable: the interval of its held-out correlation reaches 0"
    return {
        "r": r,
        "low": low,
        "high": high,
        "within": _r(within(predicted, group), within(y, group)),
        "ceiling": most,
        "normalized": r / most if most > 0 else np.nan,
        "normalized_low": share[0],
        "normalized_high": share[1],
        "images": len(y),
        "presentations": int(n.sum()),
        "ratio": ratio,
        "reason": why,
    }


def _r(predicted: FloatArray, y: FloatArray) -> float:
    return float(correlations(predicted[:, None], y[:, None])[0])
