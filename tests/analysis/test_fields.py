"""Receptive fields whose centre and size are known."""

import numpy as np
import pytest

from closedloop.analysis import field_box, field_responses, fit_field
from closedloop.analysis.fields import _SIZED, _fit, _sizes, combined, gaussian
from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.protocols import map_field
from closedloop.subjects import EnergySubject, FunctionSubject, GaborSubject, Lossy, Poisson

SIDE = 48
#: Row and column of the centres, and standard deviations along rows and columns, of two linear fields.
CENTRES, SIZES = np.array([[20.0, 27.0], [30.0, 18.0]]), np.array([[5.0, 5.0], [4.0, 8.0]])


def linear(gain=1.0):
    """Sums of images under two Gaussian windows, as deviations from grey; 100 at rest."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    windows = np.stack([
        np.exp(-((rows - cy) ** 2) / (2 * sy**2) - (columns - cx) ** 2 / (2 * sx**2)) / (2 * np.pi * sy * sx)
        for (cy, cx), (sy, sx) in zip(CENTRES, SIZES, strict=True)
    ])  # fmt: skip
    made = FunctionSubject(lambda x: 1 + gain * np.einsum("nchw,uhw->nu", x - 0.5, windows), units=2, name="linear")
    made.resolution = SIDE
    return made


@pytest.fixture(scope="module")
def mapped():
    return map_field(linear(), progress=False)


def test_a_linear_field_is_found_with_its_size(mapped):
    found = fit_field(mapped)
    np.testing.assert_allclose(np.stack([found["y_px"], found["x_px"]], 1), CENTRES, atol=0.05)
    np.testing.assert_allclose(np.stack([found["sigma_y_px"], found["sigma_x_px"]], 1), SIZES, rtol=0.02)
    np.testing.assert_allclose(found["sigma_px"], SIZES.prod(1) ** 0.5, rtol=0.02)
    assert found["aspect"].values[1] == pytest.approx(2.0, rel=0.02)
    assert min(found["angle_deg"].values[1], 180 - found["angle_deg"].values[1]) < 2
    assert (found["r_squared"] > 0.999).all()
    assert (found["p"] < 0.01).all()


def test_patches_of_several_sizes_tell_the_size_of_the_field_and_not_their_own():
    found = fit_field(map_field(linear(), np.full((1, 3, 8, 8), 0.9), stimuli="patches", progress=False))
    np.testing.assert_allclose(np.stack([found["y_px"], found["x_px"]], 1), CENTRES, atol=0.2)
    np.testing.assert_allclose(np.stack([found["sigma_y_px"], found["sigma_x_px"]], 1), SIZES, rtol=0.06)


@pytest.mark.parametrize("kind", [GaborSubject, EnergySubject])
def test_cells_with_stripes(kind):
    cells = kind(resolution=SIDE, cycles_per_image=5, orientation_deg=[0.0, 60.0, 90.0], y=[20.0, 24.0, 29.0],
                 x=[22.0, 30.0, 20.0])  # fmt: skip
    found = fit_field(map_field(cells, progress=False, steps=16))
    coords = cells.units.coords
    near = 0.5 if kind is GaborSubject else 0.2  # a simple cell has stripes, and squares must be smaller than these
    np.testing.assert_allclose(found["y_px"], coords["y"], atol=near)
    np.testing.assert_allclose(found["x_px"], coords["x"], atol=near)
    if kind is EnergySubject:  # whose envelope is what any place of a square meets
        np.testing.assert_allclose(4 * found["sigma_px"], coords["rf_size"], rtol=0.05)


def test_standard_errors_cover_under_poisson_noise():
    """Of 80 simulated sessions 95 % intervals hold the truth about as often as they say."""
    places = np.stack(
        [*(v.ravel() for v in np.meshgrid(*[np.arange(10) * 4.8 + 1.9] * 2, indexing="ij")), np.full(100, 1.4)]
    )
    places, shown = np.tile(places, 2), np.repeat(np.array(["bright", "dark"], object), 100)
    truth, rng = np.array([22.0, 26.0, np.log(7.0), np.log(5.0), 2.0]), np.random.default_rng(0)
    drive = gaussian(places, truth)
    found = [_fit(rng.poisson(2 + np.where(shown == "bright", 20, 8) * drive).astype(float), places, shown, 0)
             for _ in range(80)]  # fmt: skip
    for name, value in zip(_SIZED, _sizes(truth), strict=True):
        inside = np.mean([abs(f[name] - value) < 1.96 * f[f"{name}_se"] for f in found])
        assert 0.87 <= inside <= 1.0, (name, inside)


def test_noise_and_lost_presentations():
    noisy = Lossy(
        Poisson(EnergySubject(resolution=SIDE, cycles_per_image=5, y=20.0, x=30.0), spikes=20, best=1.0, seed=1), 0.2
    )
    found = fit_field(map_field(noisy, progress=False, repeats=4, retries=0)).isel(neuroid=0)
    for name, truth in (("y_px", 20.0), ("x_px", 30.0)):
        assert abs(found[name] - truth) < 3.5 * found[f"{name}_se"] < 3.5


def test_a_unit_that_sees_no_place_has_no_field():
    rng = np.random.default_rng(0)
    nothing = FunctionSubject(
        lambda x: np.stack([rng.poisson(5, len(x)), np.ones(len(x)), x.mean((1, 2, 3))], 1), units=3
    )
    nothing.resolution = SIDE
    found = fit_field(map_field(nothing, progress=False))
    assert np.isnan(found["sigma_px"]).all()
    first, second, third = found["reason"].values
    assert "do not depend on the place (p =" in first
    assert second == "the response is the same everywhere"
    assert third  # a wide field is the same wherever the square is
    with pytest.raises(InvalidArgumentError, match="has no receptive field in this mapping: the resp"):
        field_box(found)


def test_a_field_that_is_smaller_or_outside(mapped):
    point = FunctionSubject(lambda x: (x[:, :, 24, 24] - 0.5).mean(1)[:, None], units=1)
    point.resolution = SIDE
    ds = map_field(point, progress=False, repeats=1)
    assert fit_field(ds)["reason"].values[0]
    ds = map_field(linear(), progress=False, extent=16, x=16, y=-16)
    assert fit_field(ds)["reason"].values[1] == "the centre lies at the edge of what was shown or beyond"


def test_the_box_of_a_field(mapped):
    found = fit_field(mapped)
    y0, x0, y1, x1 = field_box(found, 0)
    assert (y1 - y0, x1 - x0) == (20, 20)
    assert ((y0 + y1) / 2, (x0 + x1) / 2) == (pytest.approx(20.5, abs=0.6), pytest.approx(27.5, abs=0.6))
    whole = field_box(found, 0, sigmas=100)
    assert whole == (0, 0, SIDE, SIDE)
    with pytest.raises(InvalidArgumentError, match="found: expected what closedloop"):
        field_box(mapped)


def test_degrees_where_the_screen_is_known():
    degrees = fit_field(map_field(linear(), progress=False, px_per_deg=12.0))
    np.testing.assert_allclose(degrees["x_deg"], (CENTRES[:, 1] - 23.5) / 12, atol=0.01)
    np.testing.assert_allclose(degrees["y_deg"], (23.5 - CENTRES[:, 0]) / 12, atol=0.01)
    np.testing.assert_allclose(degrees["sigma_deg"], degrees["sigma_px"] / 12)
    assert "x_deg" not in fit_field(map_field(linear(), progress=False))


def test_maps_are_averaged_whatever_drives():
    places = np.array([[0.0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]])
    value, at, size = combined(np.array([0, 5, 5, 0.0]), places, np.array(["bright", "bright", "dark", "dark"]))
    np.testing.assert_allclose(at, [[0, 1], [0, 0], [1, 1]])
    np.testing.assert_allclose(value, [0, 0])
    assert size.tolist() == [0, 0]
    table, where, shown = field_responses(map_field(linear(), progress=False, steps=3))
    assert table.shape == (18, 2)
    assert where.shape == (3, 18)
    assert set(shown) == {"bright", "dark"}


def test_what_is_no_mapping(build):
    with pytest.raises(RecordingError, match="expected a receptive field's mapping"):
        fit_field(build(np.ones(3)))
