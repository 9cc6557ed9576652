"""What a pilot says: on sessions whose noise, drift, losses and rise are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from closedloop.analysis import NoiseModel, pilot_models
from closedloop.analysis.planning import _drawn_counts
from closedloop.errors import InvalidArgumentError, RecordingError


def pilot(model, generations=30, per_generation=40, references=20, interleave=10, fall=0.6, seed=0):
    """Draws a recording of one unit from a model, without images."""
    rng = np.random.default_rng(seed)
    rows = [("reference", "reference", -1, f"r{i}") for i in range(references)]
    for g in range(generations):
        block = [("main", "evolved", g, f"main-g{g:04d}-{i:03d}") for i in range(per_generation)]
        block += [("reference", "reference", g, f"r{(g * interleave + i) % references}") for i in range(interleave)]
        rows += [block[i] for i in rng.permutation(len(block))]
    rows += [("main", "retest", generations, f"main-g{generations - 1:04d}-000")] * 40
    rows += [("reference", "retest", generations, "r0")] * 40
    true = {f"r{i}": model.spikes * (1 - fall * i / references) for i in range(references)}
    s2 = np.log1p(model.signal**2)
    means = []
    for n, (thread, kind, g, name) in enumerate(rows):
        if thread != "reference" and name not in true:
            luck = np.exp(np.sqrt(s2) * rng.standard_normal() - s2 / 2)
            true[name] = model.spikes * float(model.rise(g * per_generation, 1)) * luck
        if kind == "retest" and thread == "main":
            true[name] = model.spikes * model.lift * float(model.rise((generations - 1) * per_generation, 1))
        means.append(true[name] * model.gain(n))
    counts = _drawn_counts(np.array(means), model.fano, rng)
    counts[rng.random(len(counts)) < model.lost] = np.nan
    thread, kind, generation, name = map(np.array, zip(*rows, strict=True))
    return xr.Dataset(
        {"responses": (("presentation", "neuroid"), counts[:, None]), "score": ("presentation", counts)},
        coords={
            "thread": ("presentation", thread.astype(object)),
            "kind": ("presentation", kind.astype(object)),
            "generation": ("presentation", generation.astype(int)),
            "stimulus_id": ("presentation", name.astype(object)),
            "neuroid_id": ("neuroid", ["u0"]),
            "evolution": ("evolution", np.array(["main"], object)),
            "objective": ("evolution", np.array(["unit(0)"], object)),
            "subject": "drawn",
            "seed": 0,
        },
    )


TRUE = NoiseModel(
    spikes=25, fano=1.5, drift=-0.06, lost=0.1, start=0.7, ceiling=1.4, pace=350, signal=0.3, lift=1.1, spread=0.0
)


def test_what_is_measured_is_what_was_drawn():
    found = pilot_models(pilot(TRUE), resamples=0)
    assert len(found) == 1
    for name, tolerance in [
        ("spikes", 0.08), ("fano", 0.15), ("start", 0.12), ("ceiling", 0.12), ("signal", 0.25), ("lift", 0.12),
    ]:  # fmt: skip
        assert getattr(found[0], name) == pytest.approx(getattr(TRUE, name), rel=tolerance), name
    assert found[0].drift == pytest.approx(TRUE.drift, abs=0.05)
    assert found[0].lost == pytest.approx(TRUE.lost, abs=0.03)
    assert found[0].pace == pytest.approx(TRUE.pace, rel=0.4)


def test_drift_is_measured_where_some_references_drive_nothing():
    """As of nearly every neuron."""
    model = replace(TRUE, drift=-0.3)
    ds = pilot(model, interleave=20)
    for name in ("responses", "score"):
        ds[name][np.flatnonzero(ds.stimulus_id == "r19")] = 0
    assert pilot_models(ds, resamples=0)[0].drift == pytest.approx(model.drift, abs=0.06)


def test_a_reference_that_won_by_luck_is_no_drift():
    """The best of many at first is re-tested at the end, and is as good there as it always was."""
    found = []
    for seed in range(40):
        model = replace(TRUE, spikes=12, drift=0, lost=0)
        ds = pilot(model, generations=8, references=160, interleave=6, fall=0, seed=seed)
        survey = ds.isel(presentation=slice(0, 160))
        best = survey.stimulus_id.values[survey.score.values.argmax()]
        again = ((ds.thread == "reference") & (ds.kind == "retest")).values
        ds["stimulus_id"] = ("presentation", np.where(again, best, ds.stimulus_id.values))
        found.append(pilot_models(ds, resamples=0)[0].drift)
    assert abs(np.mean(found)) < 3 * np.std(found, ddof=1) / len(found) ** 0.5, found


def test_intervals_hold_what_was_drawn():
    inside = dict.fromkeys(("spikes", "fano", "ceiling", "pace", "drift"), 0)
    for seed in range(10):
        _, *drawn = pilot_models(pilot(TRUE, generations=20, seed=seed), resamples=60, seed=seed)
        for name in inside:
            low, high = np.quantile([getattr(model, name) for model in drawn], [0.025, 0.975])
            inside[name] += low <= getattr(TRUE, name) <= high
    assert all(count >= 6 for count in inside.values()), inside  # 10 of 10 on average 9.5


def test_resamples_are_those_of_their_seed():
    ds = pilot(TRUE, generations=8)
    assert pilot_models(ds, resamples=3, seed=1) == pilot_models(ds, resamples=3, seed=1)
    assert pilot_models(ds, resamples=3, seed=1) != pilot_models(ds, resamples=3, seed=2)


def test_refuses_what_cannot_tell():
    ds = pilot(TRUE, generations=8)
    with pytest.raises(RecordingError, match="expected reference images"):
        pilot_models(ds.isel(presentation=np.flatnonzero(ds.thread.values == "main")))
    with pytest.raises(RecordingError, match="at least 4 generations"):
        pilot_models(ds.isel(presentation=np.flatnonzero(ds.generation.values < 3)))
    once = ds.isel(
        presentation=np.flatnonzero(
            (ds.kind != "retest").values & ~((ds.thread == "reference") & (ds.generation > -1)).values
        )
    )
    with pytest.raises(RecordingError, match="shown at least twice"):
        pilot_models(once)
    with pytest.raises(InvalidArgumentError, match="no thread 'mian'"):
        pilot_models(ds, "mian")
