"""A run of train_seeds in a few numbers, made by hand."""

from __future__ import annotations

import numpy as np
import xarray as xr

from closedloop.analysis.observations import OBSERVED

#: Columns: sort and name of each measure.
MEASURES = [
    ("end", "loss_train"),
    ("end", "accuracy_train"),
    *(("observed", name) for name in OBSERVED),
    ("layer", "fc1"),
    ("layer", "$out$"),
]


def trainings(seeds: int = 4) -> xr.Dataset:
    """Trainings with some seeds, plain and with a frozen layer: fc1 helps, $out$ hurts, frozen it is worse."""
    rng = np.random.default_rng(0)
    middle = np.array([0.5, 0.9, 0.6, 0.6, 0.2, 2.0, 0.01, 0.001, -1.0, 0.3])
    plain = middle * (1 + 0.05 * rng.standard_normal((seeds, len(middle))))
    frozen = plain + 0.01 * rng.standard_normal(plain.shape) + np.array([0.4, -0.2, *[0] * 8])
    sorts, measures = zip(*MEASURES, strict=True)
    return xr.Dataset(
        {"responses": (("presentation", "neuroid"), np.concatenate([plain, frozen]))},
        {
            "change": ("presentation", [""] * seeds + ["freeze=$out$"] * seeds),
            "run_seed": ("presentation", [*range(seeds)] * 2),
            "sort": ("neuroid", list(sorts)),
            "measure": ("neuroid", list(measures)),
            "neuroid_id": ("neuroid", [f"{sort}: {name}" for sort, name in MEASURES]),
            "subject": "mlp",
            "seed": 0,
        },
    )
