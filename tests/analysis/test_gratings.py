"""Tuning to gratings, recovered from model neurons that have it."""

import numpy as np
import pytest

from closedloop.analysis import fit_gratings, grating_responses
from closedloop.errors import RecordingError
from closedloop.protocols import gratings
from closedloop.subjects import EnergySubject, FunctionSubject, GaborSubject, Lossy, Poisson

ANGLES, CYCLES = [10.0, 75.0, 131.0, 178.0], [4.0, 6.0, 5.0, 8.0]


def cells(kind, **options):
    return kind(resolution=48, orientation_deg=ANGLES, cycles_per_image=CYCLES, **options)


def off_deg(found):
    """How far fitted orientations are from the true ones."""
    return np.abs((found["preferred_orientation_deg"].values - ANGLES + 90) % 180 - 90)


@pytest.mark.parametrize(("kind", "cell"), [(GaborSubject, "simple"), (EnergySubject, "complex")])
def test_model_neurons(kind, cell):
    options = {"phase_deg": [0.0, 40.0, 90.0, 200.0]} if kind is GaborSubject else {}
    found = fit_gratings(gratings(cells(kind, **options), progress=False))
    assert (off_deg(found) < 1.5).all()
    # The frequency tuning of a Gabor is a Gaussian over frequency, and not over its logarithm: the fit lies lower.
    assert (abs(np.log2(found["preferred_cycles_per_image"] / CYCLES)) < 0.25).all()
    assert found["cell"].values.tolist() == [cell] * 4
    assert ((found["f1_f0"] > 1.3) if cell == "simple" else (found["f1_f0"] < 0.1)).all()
    # A Gabor of one octave at half height of its frequency tuning.
    np.testing.assert_allclose(found["bandwidth_octaves"], 1.0, rtol=0.3)
    assert (found["r_squared"] > 0.97).all()
    assert (found["p"] < 0.01).all()


def test_an_orientation_bandwidth_that_is_known():
    """A response that is itself the model, on gratings that fill the image."""
    ds = gratings(cells(EnergySubject), progress=False)
    theta, cycles = ds["grating_orientation_deg"].values, ds["grating_cycles_per_image"].values
    drive = np.exp(3 * (np.cos(2 * np.deg2rad(theta - 30)) - 1) - 0.5 * (np.log2(cycles / 5) / 0.6) ** 2)
    ds = ds.isel(neuroid=[0]).copy()
    ds["responses"] = (("presentation", "neuroid"), (2 + 9 * np.nan_to_num(drive))[:, None])
    found = fit_gratings(ds).isel(neuroid=0)
    assert found["preferred_orientation_deg"].item() == pytest.approx(30, abs=0.01)
    assert found["half_width_deg"].item() == pytest.approx(np.rad2deg(np.arccos(1 - np.log(2) / 3)) / 2, abs=0.01)
    assert found["preferred_cycles_per_image"].item() == pytest.approx(5, rel=1e-3)
    assert found["bandwidth_octaves"].item() == pytest.approx(0.6 * 2.3548, rel=1e-3)


def test_noise_and_lost_presentations():
    noisy = Lossy(Poisson(cells(EnergySubject), spikes=30, best=1.0, seed=1), 0.1, seed=2)
    found = fit_gratings(gratings(noisy, progress=False, repeats=3))
    assert (off_deg(found) < 4 * found["preferred_orientation_deg_se"]).all()
    assert (found["preferred_orientation_deg_se"] < 5).all()
    assert found["cell"].values.tolist() == ["complex"] * 4


def test_units_without_a_tuning():
    rng = np.random.default_rng(0)

    def answer(x):
        return np.stack([rng.poisson(4, len(x)), np.ones(len(x)), x.std((1, 2, 3))], 1)

    nothing = FunctionSubject(answer, units=3)
    nothing.resolution = 32
    found = fit_gratings(gratings(nothing, progress=False))
    first, second, third = found["reason"].values
    assert "do not depend on the grating (p =" in first
    assert second == "the response is the same to all gratings"
    assert third
    assert np.isnan(found["preferred_orientation_deg"].values[:2]).all()


def test_orientations_that_all_drive_alike():
    ds = gratings(cells(EnergySubject), progress=False).isel(neuroid=[0]).copy()
    octave = np.log2(np.nan_to_num(ds["grating_cycles_per_image"].values, nan=1e-9) / 4)
    ds["responses"] = (("presentation", "neuroid"), np.exp(-0.5 * (octave / 0.8) ** 2)[:, None])
    found = fit_gratings(ds).isel(neuroid=0)
    assert np.isnan(found["preferred_orientation_deg"])
    assert found["reason"].item() == "orientation: all drive the unit alike"
    assert found["preferred_cycles_per_image"].item() == pytest.approx(4, rel=0.01)


def test_degrees_where_the_screen_is_known():
    numbers = {"lowest": 0.5, "highest": 3.0, "frequencies": 9}
    found = fit_gratings(gratings(cells(EnergySubject), px_per_deg=12.0, progress=False, **numbers))
    np.testing.assert_allclose(found["preferred_cycles_per_deg"], found["preferred_cycles_per_image"] / 4)
    assert (abs(np.log2(found["preferred_cycles_per_image"] / CYCLES)) < 0.15).all()
    assert "preferred_cycles_per_deg" not in fit_gratings(gratings(cells(EnergySubject), progress=False))


def test_harmonics():
    table = grating_responses(gratings(cells(GaborSubject), progress=False, phases=8))
    assert table.responses.shape == (12, 6, 8, 4)
    f0, f1 = table.harmonics(0)
    best = np.unravel_index(f1.argmax(), f1.shape)
    assert f1[best] / f0[best] == pytest.approx(np.pi / 2, rel=0.06)  # of a half-rectified cosine


def test_what_is_no_recording_of_gratings(build):
    with pytest.raises(RecordingError, match="expected responses to gratings"):
        fit_gratings(build(np.ones(3)))
