import numpy as np
import pytest
import xarray as xr

from closedloop.analysis import (
    allocation_dataset,
    extreme_parameters,
    layer_allocations,
    oscillation,
    read_allocation,
    step_shares,
)
from closedloop.analysis.allocation import decode_series, encode_series
from closedloop.errors import InvalidArgumentError, RecordingError


@pytest.mark.parametrize(("form", "error"), [("int8", 0.009), ("float16", 1e-3), ("float32", 1e-7)])
def test_series_come_back_as_well_as_their_form_can(form, error):
    rng, sizes = np.random.default_rng(0), [30, 5, 1]
    shares = rng.standard_t(2, 36) * np.repeat([1e-3, 1e-9, 0], sizes)
    kept, largest = encode_series(shares, sizes, form)
    assert kept.dtype == form
    found = decode_series(kept[None], largest[None], sizes)[0]
    assert (np.abs(found - shares) <= error * np.repeat(largest, sizes)).all()
    assert (np.sign(found[np.abs(shares) > 1e-4 * np.repeat(largest, sizes)]) != 0).all()


def allocation(values=None):
    values = np.array([[-2, 1, 0], [2, 1, 0], [-2, 1, 0], [-2, -1, 0.0]]) if values is None else values
    step, layer = values.shape
    counts = np.tile([6, 3, 1], (step, 1))
    return xr.Dataset(
        {
            "by_layer": (("step", "layer"), values),
            "by_part": (("step", "layer", "part"), np.stack([values, 0 * values, 0 * values], -1)),
            "by_parameter": (("step", "parameter"), np.repeat(values, 2, axis=1)),
            "helped": (("step", "layer"), counts - 1),
            "hurt": (("step", "layer"), np.ones((step, layer), int)),
            "still": (("step", "layer"), np.zeros((step, layer), int)),
            "parameters": ("layer", counts[0]),
        },
        {"layer": list("abc"), "part": ["kernel", "bias", "norm"], "step": np.arange(step),
         "parameter_layer": ("parameter", list("aabbcc"))},
    )  # fmt: skip


def test_what_each_layer_came_to():
    found = layer_allocations(allocation())
    assert found.total.values.tolist() == found.kernel.values.tolist() == [-4, 2, 0]
    np.testing.assert_allclose(found.helping, [5 / 6, 2 / 3, 0])
    np.testing.assert_allclose(found.helping + found.hurting + found.nothing, 1)


def test_shares_of_parameters_in_each_step():
    found = step_shares(allocation())
    np.testing.assert_allclose(found.helping, 0.7)
    np.testing.assert_allclose(found.helping_of_moving, 0.7)


def test_back_and_forth():
    found = oscillation(allocation(), "layer")
    np.testing.assert_allclose(found.sign_changes, [2 / 3, 1 / 3, np.nan])
    np.testing.assert_allclose(found.net, [0.5, 0.5, np.nan])
    assert oscillation(allocation(), "parameter").sizes == {"parameter": 6}
    with pytest.raises(InvalidArgumentError, match="of: expected 'layer', 'neuron'"):
        oscillation(allocation(), "synapse")


def test_parameters_that_helped_and_hurt_most():
    found = extreme_parameters(allocation(), 1)
    assert found.layer.values[:2].ravel().tolist() == ["a", "b"]
    np.testing.assert_allclose(found.course[0, 0], [-2, 0, -2, -4])
    with pytest.raises(InvalidArgumentError, match="record with series"):
        extreme_parameters(allocation().drop_vars("by_parameter"))


def test_another_recording_is_refused(tmp_path):
    with pytest.raises(RecordingError, match="one of loss change allocation"):
        allocation_dataset(xr.Dataset())
    with pytest.raises(RecordingError, match="not a run"):
        read_allocation(tmp_path)
