"""Readouts with a mask: the place where a unit looks, and the weights of its colours, are found again."""

import numpy as np
import pytest

from closedloop.errors import InvalidArgumentError, UnknownNameError
from closedloop.protocols import present
from closedloop.twins import fit_twin
from closedloop.twins.places import Places, find_masks, overlap
from tests import small_places, small_twins
from tests.small_places import MASKS, Patches

IMAGES = small_places.shown()


def placed():
    features = Patches()
    x = features.record(IMAGES.images)
    x = (x - x.mean(0)) / x.std(0)
    return Places.of(features, np.ones(x.shape[1], np.float32)), x


@pytest.fixture(scope="module")
def recording():
    return present(small_places.looking(), IMAGES, progress=False, resolution=small_places.SIZE)


@pytest.fixture(scope="module")
def twin(recording):
    return fit_twin(recording, Patches(), readout="factorized", references=IMAGES)


def test_a_mask_over_a_layer_of_larger_places_is_its_mean_there():
    np.testing.assert_allclose(overlap(2, 4), [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])
    np.testing.assert_allclose(overlap(2, 3), [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]])
    np.testing.assert_allclose(overlap(3, 3), np.eye(3))


def test_weights_of_channels_are_weights_of_features():
    places, x = placed()
    rng = np.random.default_rng(0)
    mask, weights = rng.random((4, 4)), rng.standard_normal((2, 6))
    expected = places.seen(x, mask / mask.sum()) @ weights.T
    np.testing.assert_allclose(x @ places.whole(weights, mask / mask.sum()).T, expected, atol=1e-5)


def test_what_places_add_is_the_readout():
    places, x = placed()
    mask, weights = MASKS[1], np.random.default_rng(0).standard_normal(6)
    found = places.by_place(x, weights, mask) @ mask.ravel()
    np.testing.assert_allclose(found, places.seen(x, mask) @ weights, atol=1e-5)


def test_one_place_and_two_places_are_found(twin):
    for unit, expected in enumerate(MASKS):
        found = twin.table["mask"].values[unit]
        assert found.min() >= 0
        assert found.sum() == pytest.approx(1)
        assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.95
    assert twin.table["readout"].values.tolist() == ["factorized"] * 2


def test_weights_of_colours_are_found(twin):
    """Of the first unit: what colour patches of single colours, at its place, change."""
    images = np.full((4, 3, small_places.SIZE, small_places.SIZE), 0.5, np.float32)
    for colour in range(3):
        images[colour, colour, 4:8, 8:12] = 0.8
    found = twin.record(images)[:, 0]
    np.testing.assert_allclose(found[:3] - found[3], 3 * 0.3 * small_places.COLOURS, atol=0.25)


def test_with_few_images_a_mask_predicts_more_than_a_weight_for_each_place():
    few = small_places.shown(20)
    recording = present(small_places.looking(), few, progress=False, resolution=small_places.SIZE)
    fresh = small_places.shown(200, seed=9).images
    truth = small_places.drives(fresh)[:, 0]
    r = {}
    for readout in ("ridge", "factorized"):
        found = fit_twin(recording, Patches(), readout=readout, references=few, units=[0]).record(fresh)[:, 0]
        r[readout] = np.corrcoef(found, truth)[0, 1]
    assert r["factorized"] > 0.85
    assert r["factorized"] > r["ridge"] + 0.1


def test_flat_units_look_everywhere():
    places, x = placed()
    np.testing.assert_allclose(find_masks(x, places, np.ones((len(x), 1)), np.ones(len(x))), 1 / 16)


def test_features_without_places_have_no_mask():
    assert Places.of(small_twins.Means(), np.ones(6, np.float32)) is None
    recording = present(small_twins.lab(), small_twins.shown(), progress=False, resolution=16)
    with pytest.raises(InvalidArgumentError, match="expected features with places"):
        fit_twin(recording, small_twins.Means(), readout="factorized", references=small_twins.shown())
    with pytest.raises(UnknownNameError, match="expected ridge, factorized"):
        fit_twin(recording, small_twins.Means(), readout="factorised", references=small_twins.shown())
