"""Runs of treat and judge in a few numbers, made by hand."""

from __future__ import annotations

import numpy as np
import xarray as xr

#: Treatments and seeds of a judgement.
ARMS, SEEDS = ["none", "reweight", "cut"], [4, 5, 6, 7, 8]


def accuracies() -> list[np.ndarray]:
    """Accuracy of each arm in two groups, ``(seeds, groups)`` each: the last one helps the second group."""
    none = np.array([[0.9, 0.3 + 0.02 * i] for i in range(5)])
    return [none, none + np.array([0, 0.1]), none + [[-0.1, 0.3 + 0.01 * i] for i in range(5)]]


def judgement(arms=ARMS, seeds=SEEDS, accuracy=None) -> xr.Dataset:
    """A run of judge: accuracy of each arm and seed, ``(arms, seeds, groups)``; groups of 30 and 10 images."""
    accuracy = accuracies() if accuracy is None else accuracy
    rows = [("before", "", s, accuracy[0][i]) for i, s in enumerate(seeds)]
    rows += [("after", arm, s, accuracy[j][i]) for i, s in enumerate(seeds) for j, arm in enumerate(arms)]
    kind, arm, seed, values = zip(*rows, strict=True)
    return xr.Dataset(
        {
            "responses": (("presentation", "neuroid"), np.array(values, float)),
            "found": ("presentation", [int(a == "cut") for a in arm]),
        },
        {
            "kind": ("presentation", list(kind)),
            "arm": ("presentation", list(arm)),
            "run_seed": ("presentation", list(seed)),
            "neuroid_id": ("neuroid", ["a", "b"]),
            "group_size": ("neuroid", [30, 10]),
            "data": "toy",
            "subject": "conv",
        },
    )


def treatment() -> xr.Dataset:
    """A run of treat: before, at once, and after ten steps."""
    return xr.Dataset(
        {
            "responses": (("presentation", "neuroid"), np.array([[0.5, 0.1], [0.5, 0.1], [0.6, 0.9]])),
            "loss": ("presentation", [2.0, 2.0, 1.0]),
            "found": ("presentation", [0, 1, 1]),
        },
        {
            "neuroid_id": ("neuroid", ["a", "$b$"]),
            "group_size": ("neuroid", [30, 10]),
            "phase": ("presentation", ["before", "treated", "treated"]),
            "step": ("presentation", [10, 10, 20]),
            "treatment": "cut",
            "data": "toy",
            "seed": 1,
            "subject": "conv",
        },
    )
