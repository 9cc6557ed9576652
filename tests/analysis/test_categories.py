"""Selectivity for categories, of units whose d′ is known."""

import numpy as np
import pytest

from closedloop.analysis import category_selectivity
from closedloop.analysis.categories import d_prime
from closedloop.errors import RecordingError


def simulated(build, distance=1.5, images=40, repeats=4, noise=0.0, seed=0, categories=3):
    """Normal responses: the first category lies ``distance`` standard deviations above the others."""
    rng = np.random.default_rng(seed)
    label = np.repeat([f"c{i}" for i in range(categories)], images)
    mean = rng.standard_normal((len(label), 1)) + distance * (label == "c0")[:, None]
    responses = np.repeat(mean, repeats, 0) + noise * rng.standard_normal((len(label) * repeats, 1))
    names = np.repeat([f"i{i:04d}" for i in range(len(label))], repeats)
    return build(responses, kind="category", stimulus_id=names, category=np.repeat(label, repeats))


def test_it_is_the_distance_in_standard_deviations():
    rng = np.random.default_rng(0)
    a, b = rng.normal(3, 2, (100_000, 1)), rng.normal(0, 1, (100_000, 1))
    assert d_prime(a, b)[0] == pytest.approx(3 / np.sqrt(2.5), rel=0.02)
    small = np.array([[1.0], [2.0], [4.0]]), np.array([[0.0], [1.0]])
    assert d_prime(*small)[0] == pytest.approx((7 / 3 - 0.5) / np.sqrt((np.var(small[0], ddof=1) + 0.5) / 2))
    assert np.isnan(d_prime(np.ones((5, 1)), np.ones((4, 1))))[0]


def test_intervals_cover(build):
    inside = []
    for seed in range(60):
        found = (
            category_selectivity(simulated(build, seed=seed, repeats=1), resamples=300)
            .sel(category="c0")
            .isel(neuroid=0)
        )
        inside.append(float(found["d_prime_low"]) < 1.5 < float(found["d_prime_high"]))
    assert 0.85 <= np.mean(inside) <= 1


def test_the_best_category_and_its_numbers(build):
    ds = simulated(build, distance=3.0, noise=0.5)
    found = category_selectivity(ds)
    assert found["best"].values.tolist() == ["c0"]
    assert found["n"].values[:, 0].tolist() == [40, 40, 40]
    own = ds["responses"].values[ds["category"].values == "c0"].reshape(40, 4).mean(1)
    assert found["mean"].sel(category="c0").item() == pytest.approx(own.mean())
    assert found["sem"].sel(category="c0").item() == pytest.approx(own.std(ddof=1) / 40**0.5)
    assert (found["d_prime_low"] <= found["d_prime"]).all()
    assert (found["d_prime"] <= found["d_prime_high"]).all()


def test_reliability_is_that_of_the_design(build):
    found = category_selectivity(simulated(build, distance=0.0, images=200, noise=1.0, repeats=4)).isel(neuroid=0)
    assert found["reliability"].item() == pytest.approx(0.8, abs=0.04)  # 1 ÷ (1 + 1 ÷ 4)
    assert found["reliability_low"] < 0.8 < found["reliability_high"]
    assert found["reliability_high"] - found["reliability_low"] < 0.12


def test_what_cannot_be_told(build):
    once = category_selectivity(simulated(build, repeats=1))
    assert np.isnan(once["reliability"]).all()
    few = category_selectivity(simulated(build, images=2))
    assert "fewer than 3 images of the category" in few["reason"].values[0, 0]
    assert np.isnan(few["d_prime"]).all()
    ds = simulated(build)
    ds["responses"] = ds["responses"] * 0 + 2.0
    flat = category_selectivity(ds)
    assert "the response is the same to all images" in flat["reason"].values[0, 0]
    assert flat["best"].values.tolist() == [""]
    with pytest.raises(RecordingError, match="expected a coordinate 'category' on presentations"):
        category_selectivity(build(np.ones(3)))
    with pytest.raises(RecordingError, match="expected images of two categories or more"):
        category_selectivity(simulated(build, categories=1))


def test_lost_presentations_are_left_out(build):
    ds = simulated(build, distance=3.0, noise=0.5)
    ds["responses"][::7] = np.nan
    found = category_selectivity(ds)
    assert found["best"].values.tolist() == ["c0"]
    assert abs(found["d_prime"].sel(category="c0").item() - 3) < 1
