"""Twins in files: numbers as safetensors, facts as JSON. Nothing that is opened can run code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from closedloop.errors import InvalidArgumentError, WeightsError, reason, require
from closedloop.files import complete, make_folders
from closedloop.interfaces import FloatArray
from closedloop.twins.judging import LEVELS

#: The files of a twin in its folder.
NUMBERS, FACTS = "twin.safetensors", "twin.json"
#: What the facts begin with, and their version.
FORMAT = "closedloop-twin/1"
#: Attributes of a readout that are arrays of their own in its file.
_ARRAYS = ("weights", "bias", "mean", "scale")
#: Numbers of each unit that a twin keeps.
SCORES = ("r", "low", "high", "within", "ceiling", "normalized", "images", "presentations", "ratio")
#: Those that twins of older versions do not have.
LATER = ("normalized_low", "normalized_high", "needed", "limit")


@dataclass(frozen=True)
class Readout:
    """A linear readout of features, and what is known of it.

    Attributes:
        weights: ``(features, units)`` float32, on standardized features.
        bias: ``(units,)``.
        mean: Of each feature over the images of the fit, ``(features,)``; it is subtracted.
        scale: What multiplies a feature after that, 1 / its standard deviation; 0 for one that does not vary.
        features: Recipe of the feature network; its name is that of a Python object where it has none.
        fingerprint: SHA-256 of the feature network; "" where it cannot tell.
        units: Coordinates of the units, by name, `neuroid_id` among them.
        subject: Name of the subject whose answers it was fitted to.
        resolution: Height and width in pixels of the images.
        recordings: SHA-256 of each recording that it was fitted to.
        scores: Numbers of each unit by name, see `SCORES`, and ``reason``.
        sizes: Numbers of images at which the learning curve was measured.
        curve: Held-out correlation at each, ``(sizes, units)``.
        shares: Share of each layer in the readout of each unit, ``(layers, units)``.
        layers: Names of these layers.
        seed: Dealt the images for cross-validation.
        kinds: Readout of each unit, see `closedloop.twins.reading`; empty for ridge regression of all.
        sizes_of_spikes: Mean response of units that are read as spikes, NaN of others; empty for none.
        masks: Spatial mask of each unit, ``(rows, columns)`` of sum 1; an empty one for none.
    """

    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    features: Mapping[str, Any]
    fingerprint: str
    units: Mapping[str, Sequence[Any]]
    subject: str
    resolution: int
    recordings: tuple[str, ...]
    scores: Mapping[str, Sequence[Any]]
    sizes: tuple[int, ...]
    curve: Sequence[Sequence[float]]
    shares: Sequence[Sequence[float]]
    layers: tuple[str, ...]
    seed: int
    kinds: tuple[str, ...] = ()
    sizes_of_spikes: tuple[float, ...] = ()
    masks: Sequence[Sequence[Sequence[float]]] = ()

    @property
    def sizes_of_units(self) -> FloatArray:
        """Mean response of units that are read as spikes, ``(units,)``; NaN of others."""
        return np.array(self.sizes_of_spikes or [np.nan] * len(self.bias), float)

    def half_width(self, level: float) -> FloatArray:
        """Returns half the width of predictive intervals, ``(units,)``; see `closedloop.twins.judging.half_widths`.

        Raises:
            InvalidArgumentError: They are not kept for this probability.
        """
        if level not in LEVELS:
            raise InvalidArgumentError(f"level: expected one of {', '.join(map(str, LEVELS))}, got {level!r}.")
        return np.array(self.scores.get(half_name(level), [np.nan] * len(self.bias)), float)

    def table(self) -> xr.Dataset:
        """Returns what is known of each unit, over ``neuroid``; `curve` over ``size`` and `share` over ``layer``, too.

        ``r`` is the correlation of predictions with mean responses over images that were held out, with its 95 %
        interval ``low`` to ``high``; ``within`` the same after the mean of each generation, and of the reference
        images, was taken out of both; ``ceiling`` what a perfect model could reach, and ``normalized`` their ratio;
        its interval ``normalized_low`` to ``normalized_high``; ``needed``, how many images would bring r to nine tenths
        of the ``limit`` of its learning curve; ``images`` and ``presentations`` that it was fitted to, ``ratio`` λ of
        noise to prior variance. `readout` is the kind of readout of each unit; `mask` over ``neuroid, mask_y, mask_x``
        where one is factorized, NaN for units without a mask.
        """
        none = [np.nan] * len(self.bias)
        known = {name: ("neuroid", np.array(self.scores.get(name, none), float)) for name in (*SCORES, *LATER)}
        curve = np.array(self.curve, float).reshape(len(self.sizes), -1)
        shares = np.array(self.shares, float).reshape(len(self.layers), -1)
        return xr.Dataset(
            {
                **known,
                "curve": (("size", "neuroid"), curve),
                "share": (("layer_name", "neuroid"), shares),
                **self._masks(),
            },
            {
                "neuroid_id": ("neuroid", np.array(self.units["neuroid_id"], object)),
                "reason": ("neuroid", np.array(self.scores["reason"], object)),
                "readout": ("neuroid", np.array(self.kinds or ["ridge"] * len(self.bias), object)),
                "size": list(self.sizes),
                "layer_name": list(self.layers),
            },
            {"subject": self.subject, "seed": self.seed},
        )

    def _masks(self) -> dict[str, Any]:
        """Returns the masks of all units, where there are any."""
        side = max((len(mask) for mask in self.masks), default=0)
        if not side:
            return {}
        none = np.full((side, side), np.nan)
        found = np.stack([np.array(mask, float) if len(mask) else none for mask in self.masks])
        return {"mask": (("neuroid", "mask_y", "mask_x"), found)}

    def sha256(self) -> str:
        """Returns SHA-256 of what decides its predictions."""
        digest = hashlib.sha256(f"{self.fingerprint} {json.dumps(dict(self.features), sort_keys=True)}".encode())
        if np.isfinite(self.sizes_of_units).any():
            digest.update(self.sizes_of_units.tobytes())
        for name in _ARRAYS:
            digest.update(np.ascontiguousarray(getattr(self, name)).tobytes())
        return digest.hexdigest()


def half_name(level: float) -> str:
    """Returns what half the width of predictive intervals is called among the scores."""
    return f"half_{level:g}"


def write_readout(folder: str | Path, readout: Readout, replace: bool = False) -> None:
    """Writes a readout into a folder: ``twin.safetensors`` and ``twin.json``.

    Raises:
        RecordingError: It cannot be written, or there is one and it is not to be replaced.
        MissingExtraError: The package safetensors is not installed.
    """
    save = require("safetensors.numpy", "networks", "a twin").save
    place = Path(folder)
    data = save({name: np.ascontiguousarray(getattr(readout, name), np.float32) for name in _ARRAYS})
    facts = {
        "format": FORMAT,
        "sha256": hashlib.sha256(data).hexdigest(),
        **{name: _plain(getattr(readout, name)) for name in Readout.__dataclass_fields__ if name not in _ARRAYS},
    }
    text = json.dumps(facts, indent=1, allow_nan=False)
    make_folders(place)
    for name, content in ((NUMBERS, data), (FACTS, text.encode())):
        with complete(place / name, replace=replace, argument="save") as temporary:
            temporary.write_bytes(content)


def read_readout(folder: str | Path) -> Readout:
    """Reads a readout from a folder.

    Raises:
        WeightsError: There is none, it is damaged, or of a later version.
    """
    place = Path(folder)
    place = place.parent if place.name in (NUMBERS, FACTS) else place
    if not (place / FACTS).is_file() or not (place / NUMBERS).is_file():
        raise WeightsError(
            f"twin: expected a folder with {FACTS} and {NUMBERS}, got {folder}; closedloop fit-twin RUN makes one."
        )
    load = require("safetensors.numpy", "networks", "a twin").load
    try:
        facts = json.loads((place / FACTS).read_text(encoding="utf-8"))
        data = (place / NUMBERS).read_bytes()
        if facts.pop("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        if facts.pop("sha256") != hashlib.sha256(data).hexdigest():
            raise ValueError(f"{NUMBERS} is not the file that {FACTS} was written with")
        arrays = load(data)
        told = {name: _read(value) for name, value in facts.items()}
        for name in ("recordings", "layers", "sizes", "kinds", "sizes_of_spikes"):
            told[name] = tuple(told.get(name, ()))
        readout = Readout(**{name: arrays[name] for name in _ARRAYS}, **told)
        _check(readout)
    except Exception as error:
        raise WeightsError(f"twin: cannot read {place} as a twin ({reason(error)}).") from error
    return readout


def _check(readout: Readout) -> None:
    """Raises ValueError unless the sizes of a readout's parts agree."""
    features, units = readout.weights.shape
    if readout.mean.shape != (features,) or readout.scale.shape != (features,) or readout.bias.shape != (units,):
        raise ValueError("its arrays do not fit each other")
    some = [told for told in (readout.kinds, readout.sizes_of_spikes, readout.masks) if told]
    if any(len(column) != units for column in (*readout.units.values(), *readout.scores.values(), *some)):
        raise ValueError("its facts are of another number of units")
    if not all(np.isfinite(getattr(readout, name)).all() for name in _ARRAYS):
        raise ValueError("it holds numbers that are not finite")


def _plain(value: Any) -> Any:
    """Turns a value into what JSON holds; NaN becomes null."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _read(value: Any) -> Any:
    """Returns lists with NaN where JSON has null."""
    if isinstance(value, list):
        return [np.nan if v is None else _read(v) for v in value]
    return {k: _read(v) if isinstance(v, list) else v for k, v in value.items()} if isinstance(value, dict) else value
