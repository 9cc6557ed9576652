"""Small runs to export: noise, lost presentations, two threads, references; and their odd relatives."""

from __future__ import annotations

import numpy as np
import pytest

from closedloop import CMAES, IsotropicES, Session, Thread, Unit, Units
from closedloop.generators import Fourier, Pixels
from closedloop.protocols import present

SIDE = 12


class Cells:
    """Linear cells that answer with noise, and lose some trials; with a time axis where asked for."""

    def __init__(self, units=3, bins=None, dtype=np.float32):
        self.name, self._bins, self._dtype = "cells/12", bins, dtype
        ids = tuple(f"cell.{i}" for i in range(units))
        coords = {"layer": tuple("ab"[i % 2] for i in range(units)), "rf_size": (1.5,) * units,
                  "channel": tuple(i % 2 for i in range(units)), "unknown": (np.nan,) * units}  # fmt: skip
        self.units = Units(ids, coords)
        self._rng = np.random.default_rng(3)
        self._filters = self._rng.standard_normal((3 * SIDE**2, units)) / SIDE

    def record(self, images):
        drive = (images.reshape(len(images), -1) - 0.5) @ self._filters
        answer = drive + 0.2 * self._rng.standard_normal(drive.shape)
        answer[self._rng.random(len(images)) < 0.05] = np.nan
        if self._bins:
            answer = answer[..., None] * np.linspace(0.5, 1, self._bins)
        return answer.astype(self._dtype)


def photographs(n=5):
    rng = np.random.default_rng(5)
    return rng.integers(0, 256, (n, 3, SIDE, SIDE)).astype(np.float32) / np.float32(255)


def evolution(folder, subject=None, threads=2, references=True, images=40, **settings):
    fourier, pixels = Fourier(SIDE, 2), Pixels(4)
    both = [
        Thread(fourier, CMAES(fourier.space, seed=1, population=8), Unit(0), "fourier"),
        Thread(pixels, IsotropicES(pixels.space, seed=2, population=6), name="pixels"),
    ]
    settings = {"retest_repeats": 3, "retest_candidates": 2, "interleave": 2, "seed": 4} | settings
    session = Session(
        subject or Cells(), both[:threads], references=photographs() if references else None, images=images,
        save=folder, **settings,
    )  # fmt: skip
    return session.run()


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A run of two threads with references; its folder."""
    folder = tmp_path_factory.mktemp("exports") / "run"
    evolution(folder)
    return folder


KINDS = ("two threads", "one unit", "time axis", "half precision", "more units than images", "no references",
         "presented", "once lost for ever")  # fmt: skip


@pytest.fixture(scope="session", params=KINDS)
def any_run(request, tmp_path_factory, run):
    """The folder of each kind of run in turn."""
    folder = tmp_path_factory.mktemp("kinds") / "run"
    match request.param:
        case "two threads":
            return run
        case "one unit":
            evolution(folder, Cells(1), threads=1)
        case "time axis":
            evolution(folder, Cells(2, bins=3), threads=1)
        case "half precision":
            evolution(folder, Cells(2, dtype=np.float16), threads=1)
        case "more units than images":
            evolution(folder, Cells(120), threads=1, images=8, retest_candidates=0)
        case "no references":
            evolution(folder, references=False, threads=1, images=16)
        case "presented":
            present(Cells(2), photographs(), resolution=SIDE, repeats=2, save=folder)
        case "once lost for ever":
            evolution(folder, Cells(1), threads=1, retries=0)
    return folder


def assert_same(found, expected):
    """Every variable, coordinate and attribute: names, dims, types, bits."""
    assert set(found.variables) == set(expected.variables)
    assert set(found.coords) == set(expected.coords)
    for name in expected.variables:
        assert found[name].dims == expected[name].dims, name
        assert found[name].dtype == expected[name].dtype, name
        np.testing.assert_array_equal(found[name].values, expected[name].values, err_msg=name)
    assert found.attrs == expected.attrs
    assert {k: type(v) for k, v in found.attrs.items()} == {k: type(v) for k, v in expected.attrs.items()}
