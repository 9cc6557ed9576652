"""The Kent function and tuning along distance: recovered from what made them."""

import numpy as np
import pytest

from closedloop.analysis import distance_to_peak, fit_kent, kent, landscape_responses, radial_tuning
from closedloop.analysis.landscapes import fit_kent_function, half_width_deg, sphere_points
from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.generators import Fourier
from closedloop.protocols import landscape
from closedloop.subjects import GaborSubject

ANGLES = np.linspace(-90, 90, 11)
THETA, PHI = (a.ravel() for a in np.meshgrid(ANGLES, ANGLES, indexing="ij"))
PEAK = (20.0, -15.0, 30.0, 6.0, 2.0, 12.0, 3.0)


def grid(build, responses, plane="pc1-pc2"):
    """A landscape of known responses ``(121,)`` or ``(121, units)``."""
    return build(
        responses, kind="landscape", thread="landscape", plane=plane, theta_deg=THETA, phi_deg=PHI,
        stimulus_id=np.char.add("p", np.arange(len(THETA)).astype(str)),
    )  # fmt: skip


def test_the_sphere():
    np.testing.assert_allclose(sphere_points([0, 90, 45, 0], [0, 0, 0, 90])[:2], [[1, 0, 0], [0, 1, 0]], atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(sphere_points(THETA, PHI), axis=1), 1)
    assert sphere_points(0.0, 90.0)[2] == pytest.approx(1)


def test_values_of_the_kent_function():
    assert kent([20], [-15], PEAK)[0] == pytest.approx(15)  # baseline + amplitude at the peak
    # Round, 60 degrees away along the equator: exp(κ (cos 60° - 1)).
    assert kent([60], [0], (0, 0, 0, 2, 0, 10, 1))[0] == pytest.approx(1 + 10 * np.exp(-1))
    # 90 degrees away along the long axis and the short one: exp(-κ ± β).
    elongated = (0, 0, 0, 2, 0.5, 1, 0)
    assert kent([90], [0], elongated)[0] == pytest.approx(np.exp(-1.5))
    assert kent([0], [90], elongated)[0] == pytest.approx(np.exp(-2.5))
    turned = (0, 0, 90, 2, 0.5, 1, 0)
    assert kent([0], [90], turned)[0] == pytest.approx(np.exp(-1.5))


def test_half_width():
    width = half_width_deg(6.0)
    assert kent([width], [0], (0, 0, 0, 6, 0, 1, 0))[0] == pytest.approx(0.5)
    assert half_width_deg(np.log(2) / 2) == pytest.approx(180)
    assert np.isnan(half_width_deg(0.3))


@pytest.mark.parametrize(
    "parameters", [PEAK, (0.0, 0.0, -60.0, 1.5, 0.4, 5.0, 0.0), (-70.0, 60.0, 10.0, 20.0, 5.0, 100.0, 10.0)]
)
def test_a_noiseless_fit_finds_every_parameter(parameters):
    fit = fit_kent_function(THETA, PHI, kent(THETA, PHI, parameters))
    assert fit.reason == ""
    assert fit.r_squared == pytest.approx(1, abs=1e-8)
    np.testing.assert_allclose(fit.parameters, parameters, rtol=1e-3, atol=1e-2)


def test_a_noisy_fit_over_units(build, rng):
    clean = kent(THETA, PHI, PEAK)
    noisy = clean + rng.standard_normal(len(clean))
    found = fit_kent(grid(build, np.stack([clean, noisy, 5 * noisy + 2], axis=1)))
    assert found["theta_deg"].dims == ("plane", "neuroid")
    np.testing.assert_allclose(found["theta_deg"][0], 20, atol=5)
    np.testing.assert_allclose(found["phi_deg"][0], -15, atol=5)
    np.testing.assert_allclose(found["width_deg"][0], half_width_deg(6.0), rtol=0.2)
    share = 1 - ((noisy - clean) ** 2).sum() / ((noisy - noisy.mean()) ** 2).sum()
    assert share <= found["r_squared"].values[0, 1] < share + 0.1
    assert found["theta_deg"].values[0, 2] == pytest.approx(found["theta_deg"].values[0, 1], abs=0.1)
    peak = sphere_points(20.0, -15.0)
    assert found["offset_deg"].values[0, 0] == pytest.approx(np.rad2deg(np.arccos(peak[0])), abs=0.1)
    only = fit_kent(grid(build, np.stack([clean, noisy], axis=1)), units=[1])
    assert only["neuroid_id"].values.tolist() == ["v4.1"]
    assert only["r_squared"].item() == pytest.approx(found["r_squared"].values[0, 1])


def test_a_cosine_stands_on_no_baseline_below_zero(build):
    found = fit_kent(grid(build, np.maximum(10 * sphere_points(THETA, PHI)[:, 0], 0)))
    assert found["baseline"].item() == 0
    assert found["amplitude"].item() == pytest.approx(10, rel=0.3)
    assert found["width_deg"].item() == pytest.approx(60, abs=15)  # of the cosine
    assert found["r_squared"].item() > 0.9


def test_planes_are_fitted_apart(build):
    import xarray as xr

    planes = [grid(build, kent(THETA, PHI, (t, *PEAK[1:])), plane) for t, plane in ((20.0, "pc1-pc2"), (-40.0, "b"))]
    planes[1] = planes[1].assign_coords(stimulus_id=("presentation", np.char.add("q", np.arange(121).astype(str))))
    both = xr.concat(planes, "presentation", data_vars="minimal", coords="minimal", compat="override")
    found = fit_kent(both)
    assert found["plane"].values.tolist() == ["pc1-pc2", "b"]
    np.testing.assert_allclose(found["theta_deg"].values.ravel(), [20, -40], atol=0.01)
    theta, phi, table = landscape_responses(both)["b"]
    np.testing.assert_array_equal(table[:, 0], kent(theta, phi, (-40.0, *PEAK[1:])))


@pytest.mark.parametrize(
    ("responses", "reason"),
    [
        (np.full(121, 3.0), "the response is the same everywhere"),
        (np.full(121, np.nan), "0 points of the grid have a response; the fit needs at least 10"),
        (np.where(np.arange(121) == 5, 1e-300, 0), "the response is the same everywhere"),
    ],
)
def test_a_fit_that_fails_is_nan_with_a_reason(build, responses, reason):
    found = fit_kent(grid(build, responses))
    assert np.isnan(found["kappa"].item())
    assert np.isnan(found["r_squared"].item())
    assert found["reason"].item() == reason


def test_a_peak_wider_than_the_sphere_has_no_width(build):
    found = fit_kent(grid(build, kent(THETA, PHI, (0, 0, 0, 0.2, 0, 5.0, 1.0))))
    assert found["kappa"].item() == pytest.approx(0.2, rel=0.3)
    assert np.isnan(found["width_deg"].item())
    assert found["reason"].item() == "width_deg: the peak does not fall to half its height on the sphere"


def test_other_recordings_are_refused(build, repeated):
    with pytest.raises(RecordingError, match="expected a tuning landscape, with plane, theta_deg and phi_deg"):
        fit_kent(repeated(np.ones((3, 2))))
    with pytest.raises(InvalidArgumentError, match="units: 1 is out of range; the subject has response columns 0 to 0"):
        fit_kent(grid(build, np.ones(121)), units=[1])


def test_distances_are_those_of_the_images():
    generator = Fourier(resolution=16, cutoff=2)
    code = np.random.default_rng(0).standard_normal(generator.space.dim)
    subject = GaborSubject(resolution=16, count=3, seed=1)
    recording = landscape(subject, generator, code, planes=["random-random"], steps=5, seed=2)
    images = generator(recording["latent_code"].values)
    middle = int(np.flatnonzero((recording["theta_deg"].values == 0) & (recording["phi_deg"].values == 0))[0])
    found = distance_to_peak(recording, generator, batch=7)
    expected = np.sqrt(((images - images[middle]) ** 2).mean((1, 2, 3)))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)
    assert found.values[middle] == 0
    in_features = distance_to_peak(recording, generator, subject)
    assert not np.allclose(in_features, found)
    away = recording.isel(presentation=np.arange(recording.sizes["presentation"]) != middle)
    with pytest.raises(RecordingError, match="the center of the landscape"):
        distance_to_peak(away, generator)


def test_radial_tuning_of_a_known_curve(build, rng):
    x = rng.uniform(0, 2, 4000)
    responses = np.stack([10 * np.exp(-x), 3 * x, np.ones_like(x)], axis=1)
    found = radial_tuning(build(responses, distance=x, stimulus_id="a"), "distance", bins=8)
    assert found.sizes == {"bin": 8, "neuroid": 3}
    np.testing.assert_allclose(found["distance"], 0.125 + 0.25 * np.arange(8), atol=1e-3)
    inside = (x >= 0.25) & (x < 0.5)
    assert found["mean"].values[1, 0] == pytest.approx(responses[inside, 0].mean(), rel=0.01)
    np.testing.assert_allclose(found["spearman"].values[:2], [-1, 1])
    # Half way between the highest value, 10, and the lowest, 10 exp(-2).
    assert found["half_distance"].values[0] == pytest.approx(-np.log((1 + np.exp(-2)) / 2), abs=0.01)
    assert np.isnan(found["half_distance"].values[1:]).all()
    assert found["reason"].values.tolist() == [
        "", "half_distance: the response does not fall with distance", "the response does not vary"
    ]  # fmt: skip


def test_radial_tuning_takes_an_array_and_leaves_nan_out(build):
    x = np.array([0.0, 1.0, 2.0, np.nan])
    found = radial_tuning(build([4.0, 2.0, 1.0, 99.0], stimulus_id="a"), x, bins=2)
    assert found["n"].values.ravel().tolist() == [1, 2]
    assert found["mean"].values.ravel().tolist() == [4, 1.5]


@pytest.mark.parametrize(
    ("distance", "message"),
    [
        ("how far", "distance: expected numbers or a coordinate's name, got 'how far'"),
        ([1.0, 2.0], "distance: expected one finite number of at least 0 for each of 3 presentations"),
        ([1.0, -2.0, 3.0], "distance: expected one finite number of at least 0"),
        ([1.0, 1.0, 1.0], "distance: expected at least three presentations at different distances"),
    ],
)
def test_wrong_distances(build, distance, message):
    with pytest.raises(InvalidArgumentError, match=message):
        radial_tuning(build([1.0, 2.0, 3.0], stimulus_id="a"), distance)
