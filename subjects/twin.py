"""A model that was fitted to a subject's answers, as a subject that can be differentiated."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import elu

from closedloop import recipes
from closedloop.checks import check_images
from closedloop.errors import InvalidArgumentError, WeightsError
from closedloop.interfaces import Differentiable, FloatArray, Located, Subject, Units
from closedloop.readable import ReadableSubject
from closedloop.recipes import OBJECT
from closedloop.twins.judging import usual_error
from closedloop.twins.poisson import LOWEST
from closedloop.twins.reading import answered
from closedloop.twins.storing import Readout, read_readout, write_readout


@final
class Twin(ReadableSubject):
    """Predicts what a subject would answer: a readout of a feature network, fitted by `fit_twin`.

    A subject like any other, `Differentiable`; but its numbers are predictions, and its units' names begin with
    ``twin.``. `table` says how well it predicted images that it was not fitted to.

    Args:
        readout: What was fitted.
        features: Turns images into features; it must be the network that the readout was fitted on.
        folder: Where it is stored; None for one in memory.

    Raises:
        InvalidArgumentError: The features have no gradient, or are of another number.
        WeightsError: They are those of another network.
    """

    def __init__(self, readout: Readout, features: Subject, folder: Path | None = None) -> None:
        if not isinstance(features, Differentiable):
            raise InvalidArgumentError(f"features: expected one with a forward(x), got {type(features).__name__}.")
        if len(features.units) != len(readout.weights):
            raise InvalidArgumentError(
                f"features: expected {len(readout.weights)}, got {len(features.units)}; it is another network."
            )
        now = recipes.fingerprint(features)
        if readout.fingerprint and now and not recipes.same_fingerprint(now, readout.fingerprint):
            raise WeightsError(
                f"twin: its feature network {features.name!r} has other weights or layers ({now[:20]}…) than the one "
                f"that it was fitted on ({readout.fingerprint[:20]}…)."
            )
        self.readout: Readout = readout
        self.features = features
        self._folder = folder
        self._forward = features.forward
        self.name: str = f"twin-of-{readout.subject}"
        self.resolution: int = readout.resolution
        device = features.torch_device if isinstance(features, Located) else "cpu"
        self._parts = [
            torch.from_numpy(np.ascontiguousarray(a)).to(device)
            for a in (readout.mean, readout.scale, readout.weights, readout.bias)
        ]
        sizes = torch.from_numpy(readout.sizes_of_units.astype(np.float32)).to(device)
        self._spikes, self._sizes = torch.isfinite(sizes), torch.nan_to_num(sizes)
        known = {n: tuple(c) for n, c in readout.units.items() if n != "neuroid_id"}
        # So none of its numbers is taken for a response.
        self.units: Units = Units(tuple("twin." + str(n) for n in readout.units["neuroid_id"]), known)

    @property
    def torch_device(self) -> str:
        """Where it runs."""
        return str(self._parts[0].device)

    @property
    def table(self) -> xr.Dataset:
        """How well it predicts each unit; see `closedloop.twins.storing.Readout.table`."""
        return self.readout.table()

    @property
    def recipe(self) -> Mapping[str, Any] | None:
        """``twin:FOLDER`` where it is stored; None in memory."""
        return None if self._folder is None else {"name": f"twin:{self._folder}"}

    @property
    def fingerprint(self) -> str:
        """SHA-256 of its readout and its features."""
        return self.readout.sha256()

    def forward(self, x: Tensor) -> Tensor:
        """Turns images ``(n, 3, h, w)`` in [0, 1] into predicted responses ``(n, units)``, graph kept."""
        mean, scale, weights, bias = self._parts
        z = ((self._forward(x).float() - mean) * scale) @ weights + bias
        if not self._spikes.any():
            return z
        f = self._sizes * (elu(z.clamp(min=LOWEST)) + 1)
        return torch.where(self._spikes, f, z)

    def record(self, images: NDArray[np.float32]) -> FloatArray:
        """Turns images ``(n, 3, h, w)``, RGB in [0, 1], into predicted responses ``(n, units)`` float32."""
        r = self.readout
        found = np.asarray(self.features.record(check_images(images)), np.float32)
        return answered(((found - r.mean) * r.scale) @ r.weights + r.bias, r.sizes_of_units).astype(np.float32)

    def intervals(self, images: NDArray[np.float32], level: float = 0.9) -> tuple[FloatArray, FloatArray]:
        """Returns both ends of predictive intervals of images ``(n, 3, h, w)``, ``(n, units)`` each.

        They hold the mean of as many presentations as images of the fit had, with a probability of ``level`` for images
        that are drawn as these were (`closedloop.twins.judging.half_widths`). Of images that were made to please the
        twin they hold less, for no interval knows what it imagines: `closedloop.protocols.verify` asks the subject.

        Args:
            images: RGB in [0, 1].
            level: 0.5, 0.8, 0.9, 0.95 or 0.99.

        Raises:
            InvalidArgumentError: The level is another one.
        """
        half, found = self.readout.half_width(level), self.record(images).astype(float)
        half = half * usual_error(found, self.readout.sizes_of_units)
        return found - half, found + half

    def save(self, folder: str | Path, replace: bool = False) -> Twin:
        """Writes it into a folder, as ``twin.safetensors`` and ``twin.json``; returns the twin that is stored there.

        Raises:
            InvalidArgumentError: Its feature network is a Python object, which no file can name.
            RecordingError: It cannot be written, or there is one and it is not to be replaced.
        """
        if self.readout.features.get("name") == OBJECT:
            raise InvalidArgumentError(
                recipes.by_hand(self.readout.features, "twin: its feature network", "fit it on one that has a name")
            )
        write_readout(folder, self.readout, replace)
        return Twin(self.readout, self.features, Path(folder).resolve())


def load_twin(twin: str | Path | Readout, *, features: Subject | None = None) -> Twin:
    """Returns a twin that is stored in a folder: what ``twin:FOLDER`` stands for.

    Args:
        twin: The folder, or a readout.
        features: Its feature network; None for the one that it names.

    Raises:
        WeightsError: There is none, it is damaged, or its feature network has other weights now.
    """
    readout = twin if isinstance(twin, Readout) else read_readout(twin)
    if features is None:
        features = recipes.build_again(
            "subjects",
            recipes.as_recorded(readout.features),
            "twin: its feature network",
            "hand it over: load_twin(FOLDER, features=…)",
        )
    return Twin(readout, features, None if isinstance(twin, Readout) else Path(twin).resolve())
