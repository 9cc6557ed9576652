"""Tolerance curves, of units whose tuning to place, size and rotation is known."""

import numpy as np
import pytest

from closedloop.analysis import tolerance, tolerance_curves
from closedloop.analysis.tolerances import crossings
from closedloop.errors import RecordingError
from closedloop.protocols import invariance
from closedloop.subjects import FunctionSubject

AMOUNTS = np.linspace(-4, 4, 17)


def recording(build, sigma=1.5, repeats=1, noise=0.0, seed=0, base=10.0, blank=2.0):
    """A Gaussian along each factor, above ``blank``."""
    rng, rows = np.random.default_rng(seed), [("base", 0.0, base), ("blank", np.nan, 0.0)]
    for name in ("x", "y", "size", "rotation"):
        rows += [(name, a, base * np.exp(-0.5 * (a / sigma) ** 2)) for a in AMOUNTS if a]
    rows = [row for row in rows for _ in range(repeats)]
    factor, amount, mean = (np.array(v) for v in zip(*rows, strict=True))
    return build(
        blank + mean + noise * rng.standard_normal(len(mean)), kind="invariance", factor=factor, amount=amount,
        stimulus_id=np.array([f"{f}{a}" for f, a in zip(factor, amount, strict=True)]),
    )  # fmt: skip


def test_the_width_at_half_height(build):
    found = tolerance(recording(build)).isel(neuroid=0)
    np.testing.assert_allclose(found["tolerance"], 2 * 1.5 * np.sqrt(2 * np.log(2)), rtol=0.02)
    np.testing.assert_allclose(found["below"], -found["above"])
    assert np.isnan(found["tolerance_low"]).all()  # shown once
    assert (found["reason"] == "").all()
    curves = tolerance_curves(recording(build))
    assert list(curves) == ["x", "y", "size", "rotation"]
    assert curves["x"]["mean"].sel(amount=0).item() == 12
    assert curves["x"]["blank"].item() == 2


def test_intervals_of_noisy_curves_cover(build):
    truth, inside = 2 * 1.5 * np.sqrt(2 * np.log(2)), []
    for seed in range(40):
        found = (
            tolerance(recording(build, repeats=8, noise=1.5, seed=seed), resamples=200).sel(factor="x").isel(neuroid=0)
        )
        inside.append(float(found["tolerance_low"]) < truth < float(found["tolerance_high"]))
    assert np.mean(inside) > 0.8


def test_what_does_not_fall(build):
    found = tolerance(recording(build, sigma=100.0)).isel(neuroid=0)
    assert np.isnan(found["tolerance"]).all()
    assert found["reason"].values[0] == "the response does not fall to half up to -4 and up to 4"
    assert (found["least"] > 0.99).all()
    nothing = tolerance(recording(build, base=0.0)).isel(neuroid=0)
    assert (nothing["reason"] == "the response to the image is not above that to grey").all()


def test_crossings_are_interpolated():
    below, above, least = crossings(np.array([-2.0, -1, 0, 1, 2]), np.array([[0.0], [0.8], [1.0], [0.4], [0.1]]))
    assert below[0] == pytest.approx(-1.375)
    assert above[0] == pytest.approx(5 / 6)
    assert least[0] == 0


def test_a_unit_with_a_known_field():
    """The sum of what lies under a Gaussian: a small bright spot falls off with it."""
    rows, columns = np.mgrid[:64, :64]
    window = np.exp(-((rows - 31.5) ** 2 + (columns - 31.5) ** 2) / (2 * 6.0**2))
    who = FunctionSubject(lambda x: (x[:, 0] * window).sum((1, 2))[:, None], units=1)
    who.resolution = 64
    ds = invariance(who, np.ones((3, 4, 4)), size=4, shift=16, steps=8, octaves=0.5, background=0.0, progress=False)
    found = tolerance(ds).isel(neuroid=0)
    for factor in ("x", "y"):
        assert found["tolerance"].sel(factor=factor) == pytest.approx(2 * 6.1 * np.sqrt(2 * np.log(2)), rel=0.04)
    assert np.isnan(found["tolerance"].sel(factor="rotation"))  # a round field, and a small square


def test_what_is_no_invariance(build):
    with pytest.raises(RecordingError, match="expected an image at several places"):
        tolerance(build(np.ones(3)))
