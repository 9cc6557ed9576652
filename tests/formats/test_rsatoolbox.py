"""rsatoolbox: a real Dataset, whose RDMs are those that one computes by hand."""

import numpy as np
import pytest
import rsatoolbox
import xarray as xr
from scipy.spatial.distance import pdist

from closedloop import open_recording
from closedloop.errors import InvalidArgumentError, MissingExtraError
from closedloop.formats import rdm_movie, to_rsatoolbox

from .conftest import Cells, evolution


def complete(recording):
    return ~np.isnan(recording["responses"].values).any(axis=1)


def test_a_dataset_of_rsatoolbox(run):
    recording = open_recording(run)
    kept = complete(recording)
    data = to_rsatoolbox(recording)
    assert type(data) is rsatoolbox.data.Dataset
    np.testing.assert_array_equal(data.measurements, recording["responses"].values[kept])
    assert list(data.obs_descriptors["stimulus_id"]) == recording["stimulus_id"].values[kept].tolist()
    assert list(data.channel_descriptors["neuroid_id"]) == ["cell.0", "cell.1", "cell.2"]
    assert data.descriptors["subject"] == "cells/12"
    assert 0 < (~kept).sum() < len(kept)


@pytest.mark.parametrize("method", ["euclidean", "correlation"])
def test_rdms_of_images(run, method):
    recording = open_recording(run)
    rdm = rsatoolbox.rdm.calc_rdm(to_rsatoolbox(recording), method=method, descriptor="stimulus_id")
    part = recording.isel(presentation=complete(recording)).load()
    names = list(rdm.pattern_descriptors["stimulus_id"])
    patterns = np.stack([part["responses"].values[(part["stimulus_id"] == n).values].mean(0) for n in names])
    expected = pdist(patterns, "correlation") if method == "correlation" else pdist(patterns, "sqeuclidean") / 3
    np.testing.assert_allclose(rdm.dissimilarities[0], expected, rtol=1e-4, atol=1e-6)


def test_repeats_cross_validate(run):
    recording = open_recording(run)
    retests = recording.isel(presentation=np.flatnonzero((recording["kind"] == "retest").values & complete(recording)))
    first = np.flatnonzero(retests["generation"].values == retests["generation"].values.min())
    retests = retests.isel(presentation=first)
    names, repeats = retests["stimulus_id"].values.astype(str), retests["repeat"].values
    common = [name for name in np.unique(names) if {0, 1} <= set(repeats[names == name])]
    wanted = np.isin(names, common) & (repeats < 2)
    data = to_rsatoolbox(retests.isel(presentation=np.flatnonzero(wanted)))
    rdm = rsatoolbox.rdm.calc_rdm(data, method="crossnobis", descriptor="stimulus_id", cv_descriptor="repeat")
    assert np.isfinite(rdm.dissimilarities).all()


def test_a_time_axis():
    recording = evolution(None, Cells(2, bins=4), threads=1)
    data = to_rsatoolbox(recording)
    assert type(data) is rsatoolbox.data.TemporalDataset
    assert data.measurements.shape[1:] == (2, 4)
    assert list(data.time_descriptors["time"]) == [0, 1, 2, 3]


def known(generations=3, images=4):
    """A recording whose images become more alike: response of image i in generation g is i / 2**g, in any order."""
    rng = np.random.default_rng(0)
    rows = [(g, i) for g in range(generations) for i in rng.permutation(images)]
    g, i = np.array(rows).T
    n = len(rows)
    value = i / 2.0**g
    along = {
        "thread": np.full(n, "main", object), "kind": np.full(n, "evolved", object), "generation": g.astype(np.int32),
        "stimulus_id": np.array([f"g{a}-{b}" for a, b in rows], object),
    }  # fmt: skip
    return xr.Dataset(
        {"responses": (("presentation", "neuroid"), np.stack([value, -value], 1)), "score": ("presentation", value)},
        {**{k: ("presentation", v) for k, v in along.items()}, "neuroid_id": ("neuroid", ["a", "b"])},
    )


def test_the_movie_of_a_converging_evolution_is_known():
    movie = rdm_movie(known())
    assert isinstance(movie, rsatoolbox.rdm.RDMs)
    assert list(movie.rdm_descriptors["time"]) == [0, 1, 2]
    assert list(movie.pattern_descriptors["rank"]) == [0, 1, 2, 3]
    ranks = np.arange(4.0)[:, None]
    for g, frame in enumerate(movie.dissimilarities):  # two units, mean over units
        np.testing.assert_allclose(frame, pdist(ranks, "sqeuclidean") / 4**g)
    assert rdm_movie(known(), images=2).dissimilarities.shape == (3, 1)


def test_the_movie_of_a_run(run):
    movie = rdm_movie(open_recording(run), "pixels", images=3)
    assert movie.dissimilarities.shape[1] == 3
    assert np.isfinite(movie.dissimilarities).all()


def test_what_cannot_be_shown(run):
    recording = open_recording(run)
    for options, message in (
        ({}, r"thread: expected one of \['fourier', 'pixels'\], got None"),
        ({"thread": "natural"}, "got 'natural'"),
        ({"thread": "pixels", "images": 500}, r"images: expected 2 to \d, as many as every generation has, got 500"),
    ):
        with pytest.raises(InvalidArgumentError, match=message):
            rdm_movie(recording, **options)
    lost = known()
    lost["responses"] = lost["responses"] * np.nan
    with pytest.raises(InvalidArgumentError, match="each lost some"):
        to_rsatoolbox(lost)


def test_the_extra_is_named(run, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "rsatoolbox.data", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'closedloop\[rsa\]'"):
        to_rsatoolbox(open_recording(run))
