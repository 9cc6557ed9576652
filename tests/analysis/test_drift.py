"""Drift of references: ordinary least squares with a dummy for each image, and what must not look like drift."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats
from statsmodels.formula.api import ols

from closedloop.analysis import concat, reference_drift


def session(rng, generations=20, images=12, shown=4, loss=0.0, noise=1.0):
    """References in turn, with a share of the response lost over the run: generation, image, response."""
    level = rng.uniform(5, 40, images)
    g = np.repeat(np.arange(generations), shown)
    image = np.arange(generations * shown) % images
    response = level[image] * (1 - loss * g / (generations - 1)) + noise * rng.standard_normal(len(g))
    return g, image, response


def recorded(build, g, image, response):
    return build(response, generation=g, stimulus_id=np.char.add("ref-", image.astype(str)))


def test_it_is_the_regression_with_an_intercept_for_each_image(build, rng):
    g, image, response = session(rng, loss=0.1)
    response[[3, 17]] = np.nan
    found = reference_drift(recorded(build, g, image, response))
    table = pd.DataFrame({"y": response, "g": g, "image": image}).dropna()
    fit = ols("y ~ g + C(image)", table).fit()
    assert found["slope"].item() == pytest.approx(fit.params["g"])
    assert found["slope_sem"].item() == pytest.approx(fit.bse["g"])
    assert found["p_independent"].item() == pytest.approx(fit.pvalues["g"])
    partial = fit.tvalues["g"] / np.sqrt(fit.tvalues["g"] ** 2 + fit.df_resid)
    assert found["correlation"].item() == pytest.approx(partial)
    assert found["change"].item() == pytest.approx(fit.params["g"] * 19 / table["y"].mean())


def test_a_loss_of_a_tenth_is_found(build, rng):
    found = reference_drift(recorded(build, *session(rng, 60, loss=0.1)))
    assert found["change"].item() == pytest.approx(-0.105, abs=0.02)  # of the mean over the run, which is 5 % lower
    assert found["p"].item() < 0.001


def test_a_recording_that_wanders_does_not_drift(build, rng):
    """An autoregression about one level: a test that takes generations for independent has 30 % false alarms."""
    found = {"p": [], "p_independent": []}
    for _ in range(150):
        wander = np.zeros(40)
        for g in range(1, 40):
            wander[g] = 0.6 * wander[g - 1] + 0.8 * rng.standard_normal()
        g, image, response = session(rng, 40)
        drift = reference_drift(recorded(build, g, image, response + wander[g]))
        for name, values in found.items():
            values.append(drift[name].item())
    alarms = {name: np.mean(np.array(values) < 0.05) for name, values in found.items()}
    assert alarms["p"] < 0.16
    assert alarms["p_independent"] > 0.2


def test_p_is_uniform_without_drift(build, rng):
    p = [reference_drift(recorded(build, *session(rng)))["p"].item() for _ in range(150)]
    assert stats.kstest(p, "uniform").pvalue > 0.001


def test_it_does_not_matter_which_images_were_shown_when(build):
    g, image, response = session(np.random.default_rng(0), noise=0)
    order = np.argsort(response)  # good images late
    response, image = response[order], image[order]
    found = reference_drift(recorded(build, g, image, response))
    assert found["slope"].item() == 0
    assert found["change"].item() == 0
    assert np.isnan([found["p"].item(), found["correlation"].item()]).all()
    assert "noiseless" in found["reason"].item()


def test_cv_over_generations(build, rng):
    wobble = np.repeat(rng.standard_normal(50), 6)
    g, image, _ = session(rng, 50, 6, 6)
    found = reference_drift(recorded(build, g, image, 10 + wobble))
    assert found["cv"].item() == pytest.approx(wobble[::6].std(ddof=1) / (10 + wobble).mean())


def test_re_tests_of_chosen_references_are_no_drift(build, rng):
    g, image, response = session(rng)
    recording = recorded(build, g, image, response)
    again = build(np.zeros(5), generation=25, kind="retest", stimulus_id="ref-0")
    joined = xr.concat([recording, again], "presentation", data_vars="minimal", coords="minimal", compat="override")
    assert reference_drift(joined)["slope"].item() == reference_drift(recording)["slope"].item()


def test_each_run_has_its_own_clock(build, rng):
    g, image, response = session(rng)
    one = recorded(build, g, image, response)
    joined = concat([one, recorded(build, g, image, response + 100)])
    assert reference_drift(joined)["slope"].item() == pytest.approx(reference_drift(one)["slope"].item())


def test_what_cannot_be_said(build, evolution):
    shown_once = build(np.arange(6.0), stimulus_id=np.arange(6).astype(str))
    assert reference_drift(shown_once)["reason"].item() == "no reference image was shown in two generations"
    assert np.isnan(reference_drift(shown_once)["slope"].item())
    assert reference_drift(evolution([[1.0, 2.0]]))["reason"].item() == "no reference images"
    rng = np.random.default_rng(0)
    below = reference_drift(build(rng.standard_normal(40) - 9, generation=np.arange(40), stimulus_id="a"))
    assert np.isfinite(below["slope"].item())
    assert np.isnan([below["change"].item(), below["cv"].item()]).all()
    assert below["reason"].item() == "change, cv: the mean response is not above 0"
