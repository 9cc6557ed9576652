"""Signatures: arguments of other types than they state are named."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from closedloop import open_recording, protocols
from closedloop.analysis import bootstrap, fano_factor, hurting_layers, latent_regression, learning_peaks
from closedloop.analysis.units import Kind
from closedloop.errors import ClosedLoopError, InvalidArgumentError
from closedloop.images.sets import read_folder
from closedloop.signatures import at_door


@pytest.mark.parametrize("path", ["x" * 300, "x/" * 3000 + "y"])
def test_a_path_that_is_too_long(path):
    with pytest.raises(InvalidArgumentError, match="longer than this system takes"):
        read_folder(path, 8)
    with pytest.raises(InvalidArgumentError, match="longer than this system takes"):
        open_recording(Path(path))


def test_one_text_is_not_several():
    """A text where several belong would be taken apart into its letters."""

    @at_door
    def named(names: Sequence[str | int]) -> list[str | int]:
        return list(names)

    @at_door
    def either(names: Sequence[str] | str) -> Sequence[str] | str:
        return names

    with pytest.raises(ClosedLoopError, match=r"names: expected a list, got 'raw'; make it \['raw'\]"):
        named("raw")
    assert named(["raw", 2]) == ["raw", 2]
    assert either("raw") == "raw"


@pytest.mark.parametrize("kinds", [3, {"a": 3}])
def test_an_alias_beside_and_within_other_types_is_held(kinds):
    @at_door
    def first(kinds: Kind | Mapping[str, Kind]) -> str:
        return kinds["a"].upper()

    with pytest.raises(ClosedLoopError, match=r"^kinds: expected a text or a list or None or a mapping, got"):
        first(kinds)
    assert first({"a": "reference"}) == "REFERENCE"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda recording: fano_factor(recording, kind=3), "kind: expected a text or a list or None, got 3"),
        (lambda recording: fano_factor(recording, kind=Path("reference")), "kind: expected a text or a list or None"),
        (lambda _: bootstrap([1.0, 2.0, 4.0], np.mean, method=np.zeros(2)), "method: expected one of 'BCa', 'percent"),
        (lambda _: protocols.develop(3), "training: expected Training or None, got 3"),
        (lambda _: hurting_layers(np.array(3.0)), "allocations: expected a list"),
        (
            lambda _: learning_peaks(xr.DataArray([1.0, 2.0])),
            "by_layer: expected a DataArray, got a DataArray over dim",
        ),
        (lambda _: latent_regression(xr.Dataset(), alphas={1.0}), "alphas: expected numbers, got object from set"),
    ],
)
def test_what_an_alias_of_types_stands_for_is_held(call, message):
    recording = xr.Dataset(
        {"responses": (("presentation", "neuroid"), np.zeros((4, 1)))},
        coords={"kind": ("presentation", ["reference"] * 4), "stimulus_id": ("presentation", list("aabb"))},
    )
    with pytest.raises(ClosedLoopError, match="^" + re.escape(message)):
        call(recording)
