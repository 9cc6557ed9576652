"""How many images it will take: against closed forms, and against simulated sessions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from closedloop.analysis import Design, NoiseModel, plan, simulated_power, success_probability, welch_power
from closedloop.analysis.planning import _drawn_counts
from closedloop.errors import InvalidArgumentError
from closedloop.generators import Fourier
from closedloop.optimizers import load_optimizer
from closedloop.protocols import evolve
from closedloop.subjects import GaborSubject


def test_power_of_welch_is_that_of_student_for_equal_variances():
    n, effect = 12, 0.9  # the noncentral t distribution with 2n - 2 degrees of freedom
    expected = stats.nct.sf(stats.t.isf(0.05, 2 * n - 2), 2 * n - 2, effect * np.sqrt(n / 2))
    assert welch_power((effect, 0), (1, 1), (n, n)) == pytest.approx(expected, rel=1e-9)
    assert welch_power((0, 0), (1, 3), (9, 20), alpha=0.01) == pytest.approx(0.01, rel=1e-9)
    large = stats.norm.sf(stats.norm.isf(0.05) - 0.02 / np.sqrt(2 / 20000))
    assert welch_power((0.02, 0), (1, 1), (20000, 20000)) == pytest.approx(large, abs=1e-3)
    assert welch_power((50, 0), (1, 1), (9, 9)) == pytest.approx(1.0)


def test_the_rise_is_the_exponential_of_its_definition():
    model = NoiseModel(start=0.5, ceiling=1.5, pace=200)
    assert model.rise(0, 1) == pytest.approx(0.5)
    assert model.rise(200, 1) == pytest.approx(1.5 - np.exp(-1))
    noise = 1 / (20 * 0.5)
    faster = np.sqrt((0.25**2 / (0.25**2 + noise / 4)) / (0.25**2 / (0.25**2 + noise)))
    assert model.rise(200 / faster, 4) == pytest.approx(1.5 - np.exp(-1))
    assert 1 < faster < 2  # which never pays for four times the presentations


@pytest.mark.parametrize("success", ["beats", "rises"])
@pytest.mark.parametrize(("fano", "lost"), [(1.0, 0.0), (1.6, 0.1), (0.5, 0.05)])
def test_simulated_sessions_succeed_as_often(success, fano, lost):
    model = NoiseModel(spikes=12, fano=fano, lost=lost, start=0.9, ceiling=1.35, pace=150, drift=-0.02)
    design = Design(generations=9, per_generation=30, repeats=2, retest_repeats=20)
    expected = success_probability(model, design, success)
    assert 0.2 < expected < 0.999
    found = simulated_power(model, design, success, runs=4000, seed=1)
    assert abs(float(found["power"]) - expected) < 0.035
    assert float(found["low"]) < float(found["power"]) < float(found["high"])


@pytest.mark.parametrize("success", ["beats", "rises"])
@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_without_an_effect_it_succeeds_at_the_level(success, alpha):
    model = NoiseModel(spikes=20, start=1.0, ceiling=1.0, drift=0.0)
    design = Design(generations=10, retest_repeats=10)
    assert success_probability(model, design, success, alpha) == pytest.approx(alpha, rel=1e-6)
    found = simulated_power(model, design, success, alpha, runs=10000, seed=2)
    assert abs(float(found["power"]) - alpha) < 4 * np.sqrt(alpha / 10000) + 0.1 * alpha


def test_units_that_differ_are_averaged():
    model, design = NoiseModel(spread=0.3), Design(retest_repeats=10)
    rng = np.random.default_rng(0)
    each = [
        success_probability(NoiseModel(ceiling=1.3 * float(np.exp(0.3 * z))), design) for z in rng.standard_normal(800)
    ]
    assert success_probability(model, design) == pytest.approx(np.mean(each), abs=0.03)
    found = simulated_power(model, design, runs=4000)
    assert float(found["power"]) == pytest.approx(np.mean(each), abs=0.04)


def test_more_costs_more_and_finds_more():
    found = plan(NoiseModel(drift=0.0, start=1.0), repeats=(1, 2))
    for axis in ("generations", "retest_repeats"):
        assert (found["power"].diff(axis) > -1e-9).all()
        assert (found["presentations"].diff(axis) > 0).all()
    assert np.isnan(found["low"]).all()
    assert found["images"].sel(generations=20, repeats=2, retest_repeats=10) == 20 * 10 * 2


def test_a_design_counts_what_an_evolution_shows():
    subject, generator = GaborSubject(resolution=16), Fourier(16, 2)
    numbers = {"images": 30, "retest_repeats": 2, "progress": False}
    naturals = np.random.default_rng(0).random((6, 3, 16, 16), np.float32)
    found = evolve(subject, generator, load_optimizer("auto", generator.space), references=naturals, **numbers)
    assert Design(generations=3, references=6, retest_repeats=2).presentations(0) == found.sizes["presentation"]


def test_the_cheapest_design_reaches_what_is_wanted_and_no_cheaper_one_does():
    found = plan(NoiseModel(spikes=30), generations=range(5, 60, 5), retest_repeats=range(5, 45, 5), wanted=0.9)
    place = dict(zip(found["axis"].values, found["cheapest"].values, strict=True))
    best = found.isel(place)
    assert best["power"] >= 0.9
    cheaper = found["presentations"] < best["presentations"]
    assert cheaper.any()
    assert (found["power"].where(cheaper) < 0.9).sum() == cheaper.sum()
    none = plan(NoiseModel(ceiling=0.7), wanted=0.9)
    assert (none["cheapest"] == -1).all()
    assert "no design reaches 0.9" in none["reason"].item()


def test_several_models_give_intervals():
    models = [NoiseModel(), *(NoiseModel(ceiling=c) for c in np.linspace(1.1, 1.5, 41))]
    found, sure = plan(models), plan(models, sure=True, wanted=0.5, retest_repeats=(20, 200))
    assert (found["low"] <= found["power"]).all()
    assert (found["power"] <= found["high"]).all()
    assert sure["low"].isel(dict(zip(sure["axis"].values, sure["cheapest"].values, strict=True))) >= 0.5


@pytest.mark.parametrize("fano", [0.4, 1.0, 2.5])
def test_counts_have_the_fano_factor(fano):
    counts = _drawn_counts(np.full(40000, 30.0), fano, np.random.default_rng(0))
    assert counts.mean() == pytest.approx(30, rel=0.02)
    assert counts.var() / counts.mean() == pytest.approx(fano, rel=0.06)


def test_drift_and_losses_cost():
    design = Design(retest_repeats=10)
    plain = success_probability(NoiseModel(drift=0, lost=0), design)
    assert success_probability(NoiseModel(drift=-0.4, lost=0), design) < plain
    assert success_probability(NoiseModel(drift=0, lost=0.5), Design(retest_repeats=10, retries=0)) < plain
    assert Design(retries=2).presentations(0.5) == Design(retries=2).presentations(0) * 1.75
    assert success_probability(NoiseModel(lost=0.95), Design(retest_repeats=1, retries=0)) == 0


def test_refuses():
    for options, match in [
        ({"spikes": 0}, "spikes"),
        ({"fano": -1}, "fano"),
        ({"lost": 1}, "lost"),
        ({"drift": -1}, "drift"),
        ({"spread": -1}, "spread"),
    ]:
        with pytest.raises(InvalidArgumentError, match=match):
            NoiseModel(**options)
    with pytest.raises(InvalidArgumentError, match="generations"):
        Design(generations=0)
    with pytest.raises(InvalidArgumentError, match="wanted"):
        plan(NoiseModel(), wanted=1.0)
    with pytest.raises(InvalidArgumentError, match="models"):
        plan([])
    with pytest.raises(InvalidArgumentError, match="repeats: expected at least one"):
        plan(NoiseModel(), repeats=[])
    with pytest.raises(InvalidArgumentError, match="success"):
        success_probability(NoiseModel(), Design(), "wins")
    with pytest.raises(InvalidArgumentError, match="variances"):
        welch_power((1, 0), (0, 1), (5, 5))


@pytest.mark.parametrize("success", ["beats", "rises"])
@pytest.mark.parametrize("name", ["spikes", "fano", "start", "ceiling", "pace", "signal", "lift"])
def test_numbers_at_their_ends_and_beyond(name, success):
    """A probability comes out wherever it leads; what nobody means is refused by name."""
    for value in (1e-12, 1e12):
        for drift in (-0.999, 10):
            for design in (Design(), Design(generations=10**6, per_generation=10**6, repeats=10**6)):
                found = success_probability(NoiseModel(drift=drift, **{name: value}), design, success)
                assert 0 <= found <= 1
    for value in (1e-13, 1e200, 0, -1, np.nan, np.inf, True, "1"):
        with pytest.raises(InvalidArgumentError, match=f"{name}: expected a finite number"):
            NoiseModel(**{name: value})
