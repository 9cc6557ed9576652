"""Attribution and ablation of channels for one image."""

import numpy as np
import pytest

from closedloop.errors import InvalidArgumentError
from closedloop.protocols.explaining import Means, explain
from tests.planted import picture, planted_subject


def mean_activations(opened, batches):
    """The mean of each channel at each place, as a diagnosis takes it: batch by batch."""
    means = Means(opened.channels, opened.grid[0] * opened.grid[1])
    for images in batches:
        means.add(opened.look(images)[0])
    return means.value


def test_the_planted_unit_spoke_for_the_wrong_class():
    subject = planted_subject()
    opened, spurious = subject.opened("relu"), subject.model.spurious
    rng = np.random.default_rng(1)
    image = picture("green", True, rng)
    means = mean_activations(opened, [np.stack([picture(c, False, rng) for c in ("red", "green")]) for _ in range(2)])
    found = explain(opened, image, 0, 1, means)
    assert found.difference > 0
    assert found.attribution.argmax() == found.effect.argmax() == spurious
    assert found.attribution_wrong[spurious] > 0
    assert found.attribution_right[spurious] == pytest.approx(0, abs=1e-6)
    assert found.ablated_answer[spurious] == 1
    assert np.delete(found.ablated_answer, spurious).tolist() == [0] * 7
    np.testing.assert_allclose(found.effect, found.difference - found.ablated_difference)


def test_the_mean_is_taken_at_each_place():
    opened = planted_subject().opened("relu")
    shown = np.random.default_rng(0).random((5, 3, 16, 16), dtype=np.float32)
    expected = opened.look(shown)[0].mean(0)
    np.testing.assert_allclose(mean_activations(opened, [shown[:2], shown[2:]]), expected, atol=1e-6)
    with pytest.raises(InvalidArgumentError, match="means: expected at least one reference image"):
        _ = Means(2, 2).value


@pytest.mark.parametrize(("wrong", "right"), [(0, 0), (0, 2), (-1, 0)])
def test_two_different_classes_are_compared(wrong, right):
    opened = planted_subject().opened("relu")
    with pytest.raises(InvalidArgumentError, match="wrong, right: expected two of 2 classes"):
        explain(opened, np.zeros((3, 16, 16), np.float32), wrong, right, np.zeros((8, 256), np.float32))
