from __future__ import annotations

import numpy as np
import pytest

from closedloop.errors import InvalidArgumentError
from closedloop.optimizers.directions import check_pairs, draw_directions, score_weights


def test_mirrored_directions():
    rng = np.random.default_rng(0)
    u = draw_directions(rng, 6, 4, antithetic=True)
    np.testing.assert_array_equal(u[:3], -u[3:])
    free = draw_directions(rng, 5, 4, antithetic=False)
    assert np.linalg.matrix_rank(free) == 4


def test_an_odd_number_has_no_pairs():
    check_pairs(3, antithetic=False)
    with pytest.raises(InvalidArgumentError, match="population: expected an even number for antithetic pairs, got 3"):
        check_pairs(3, antithetic=True)
    with pytest.raises(InvalidArgumentError, match="antithetic: expected True or False, got 'no'"):
        check_pairs(4, antithetic="no")


def test_weights_know_no_scale():
    scores = np.array([1.0, 5.0, 2.0, 0.0])
    weights = score_weights(scores, antithetic=False)
    np.testing.assert_allclose(weights, (scores - 2) / scores.std() / 4)
    np.testing.assert_allclose(score_weights(1e6 * scores - 7, antithetic=True), weights)
    np.testing.assert_array_equal(score_weights(np.ones(4), antithetic=True), np.zeros(4))


def test_a_lost_code_takes_its_mirror_image_with_it():
    scores = np.array([np.nan, 3.0, 1.0, 9.0, 1.0, 3.0])
    np.testing.assert_allclose(score_weights(scores, antithetic=True), np.array([0, 1, -1, 0, -1, 1]) / 4)
    assert score_weights(scores, antithetic=False)[3] > 0
    np.testing.assert_array_equal(score_weights(np.full(4, np.nan), antithetic=True), np.zeros(4))
