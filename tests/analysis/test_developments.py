import numpy as np
import pytest
import xarray as xr

from closedloop.analysis import development, layer_table
from closedloop.analysis.developments import parameter_columns
from closedloop.errors import InvalidArgumentError, RecordingError

STEPS, UNITS, STARTS, IMAGES = (0, 10, 40), 2, 2, 6


def recorded(last_is_whole=True, categories=True):
    """Three looks at two units whose responses, images and shares are known."""
    rng = np.random.default_rng(0)
    fixed = rng.standard_normal((IMAGES, UNITS))
    fixed[:, 0] = [0, 0, 0, 3, 3, 3]  # says the class, and nothing else
    rows = []
    pictures = {}
    for look, step in enumerate(STEPS):
        answers = fixed * (look + 1)
        if look == 2:
            answers = answers * [1, -1]  # the second unit turns around
        for i in range(IMAGES):
            category = "ab"[i // 3] if categories else ""
            rows.append((step, "reference", f"image-{i}", -1, -1, -1, category, answers[i], None))
        for start in range(STARTS):
            for unit in range(UNITS):
                if not last_is_whole and look == 2 and (start, unit) == (1, 1):
                    continue
                picture = rng.integers(0, 255, (1, 4, 4)).astype(np.uint8)
                if unit == 0:
                    picture = np.arange(16, dtype=np.uint8).reshape(1, 4, 4) * (look + 1)  # the same but for contrast
                pictures[step, unit, start] = picture
                response = np.full(UNITS, -9.0)
                response[unit] = answers[:, unit].mean() + 2 * answers[:, unit].std()
                for _ in range(2):
                    name = f"step{step}-unit{unit}-{start}"
                    rows.append((step, "retest", name, step, unit, start, "", response, picture))
        for before in STEPS[:look]:
            for unit in range(UNITS):
                response = np.full(UNITS, -9.0)
                response[unit] = answers[:, unit].mean() + answers[:, unit].std()  # half as good as those of now
                rows.append((step, "earlier", f"step{before}-unit{unit}-0", before, unit, 0, "", response, None))
    blank = np.zeros((1, 4, 4), np.uint8)
    allocated = {0: [0.0, 0.0, 0.0], 10: [-1.0, 0.5, -0.25], 40: [0.125, 0.0, -2.0]}
    order = rng.permutation(len(rows))
    rows = [rows[i] for i in order]
    columns = ("training_step", "kind", "stimulus_id", "made_at", "unit", "start", "category")
    coords = {name: ("presentation", np.array([row[i] for row in rows])) for i, name in enumerate(columns)}
    return xr.Dataset(
        {
            "responses": (("presentation", "neuroid"), np.stack([row[7] for row in rows])),
            "image": (("presentation", "c", "y", "x"), np.stack([blank if r[8] is None else r[8] for r in rows])),
            "allocated": (("presentation", "allocation_layer"), np.array([allocated[row[0]] for row in rows])),
        },
        {
            **coords,
            "loss": ("presentation", np.array([1.0 / (1 + row[0]) for row in rows])),
            "repeat": ("presentation", np.zeros(len(rows), int)),
            "neuroid_id": ("neuroid", ["net.block.0", "net.relu.0"]),
            "layer": ("neuroid", ["block", "relu"]),
            "allocation_layers": "block.conv block.bn fc",
            "starts": STARTS,
            "subject": "net",
            "seed": 3,
        },
    )


def test_what_is_known_is_found():
    found = development(recorded())
    assert found["step"].values.tolist() == list(STEPS)
    np.testing.assert_allclose(found["drive"], 2)
    np.testing.assert_allclose(found["selectivity"][:, 0], 1)
    assert (found["selectivity"][:, 1] < 1).all()
    assert found["preferred_class"][:, 0].values.tolist() == ["b"] * 3
    np.testing.assert_allclose(found["tuning_likeness"], [[np.nan] * 2, [1, 1], [1, -1]])
    np.testing.assert_allclose(found["image_likeness"][1:, 0], 1)
    np.testing.assert_allclose(found["image_agreement"][:, 0], 1)
    assert (abs(found["image_likeness"][1:, 1]) < 0.6).all()
    np.testing.assert_allclose(found["carried"][2, :, 0], [0.5, 0.5, 1])
    assert np.isnan(found["carried"][0, 1:]).all()
    np.testing.assert_allclose(found["loss"], [1, 1 / 11, 1 / 41])
    assert found.attrs["selectivity"] == "share of variance explained by class"


def test_a_block_has_the_shares_of_all_within_it_and_an_activation_none():
    found = development(recorded())
    np.testing.assert_allclose(found["allocation"][:, 0], [0, -0.5, 0.125])
    np.testing.assert_allclose(found["allocation_so_far"][:, 0], [0, -0.5, -0.375])
    assert np.isnan(found["allocation"][:, 1]).all()
    assert found["reason"].values.tolist() == ["", "layer relu has no parameters that learn, so no shares"]


@pytest.mark.parametrize(
    ("layer", "columns"),
    [("block", [0, 1]), ("block.bn", [1]), ("block#1", [0, 1]), ("fc", [2]), ("output", [2]), ("bl", [])],
)
def test_a_recorded_layer_is_made_of(layer, columns):
    assert parameter_columns(layer, ["block.conv", "block.bn", "fc"]) == columns


def test_without_classes_selectivity_is_sparseness():
    found = development(recorded(categories=False))
    assert found.attrs["selectivity"] == "sparseness"
    # Three of six equal responses, the others 0: a = (1/2)² / (1/2) = 1/2, S = (1 - 1/2) / (1 - 1/6) = 0.6.
    np.testing.assert_allclose(found["selectivity"][:, 0], 0.6)
    assert (found["preferred_class"] == "").all()


def test_a_look_that_is_under_way_is_left_out():
    assert development(recorded(last_is_whole=False))["step"].values.tolist() == [0, 10]


def test_medians_of_a_layer():
    found = development(recorded())
    table = layer_table(found, "block")
    np.testing.assert_allclose(table["allocation"], [0, -0.5, 0.125])
    with pytest.raises(InvalidArgumentError, match=r"layer: no layer 'blok'\. Did you mean 'block'"):
        layer_table(found, "blok")


def test_another_recording_is_refused():
    with pytest.raises(RecordingError, match="expected one of a development"):
        development(xr.Dataset())
    whole = recorded()
    with pytest.raises(RecordingError, match="at least one whole look"):
        development(whole.isel(presentation=np.flatnonzero(whole["kind"].values == "reference")))
