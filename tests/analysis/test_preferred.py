"""Which presentations show what an evolution found."""

import numpy as np

from closedloop.analysis.preferred import evolved_codes, preferred

CODES = np.arange(12.0).reshape(2, 3, 2)
SCORES = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]


def test_a_retested_image_in_the_presentations_that_did_not_choose_it(evolution):
    retests = {"main-g0001-002": ([6.0, 7.0], [5.0, 7.0]), "main-g0001-001": ([1.0], [])}
    recording = evolution(SCORES, codes=CODES, retests=retests)
    found = preferred(recording, "main", "unit(0)")
    assert found.basis == "re-test"
    assert recording["responses"].values[found.rows, 0].tolist() == [5, 7]
    assert found.code.tolist() == CODES[1, 2].tolist()


def test_without_a_retest_the_last_generation(evolution):
    found = preferred(evolution(SCORES, codes=CODES), "main", "unit(0)")
    assert found.basis == "last generation"
    assert found.code.tolist() == CODES[1].mean(0).tolist()
    assert preferred(evolution(SCORES), "main", "unit(0)").code is None


def test_codes_come_once_and_without_padding(evolution):
    padded = np.concatenate([CODES, np.full((2, 3, 2), np.nan)], axis=2)
    recording = evolution(SCORES, codes=padded).isel(presentation=[0, 0, 1, 2, 3, 4, 5])
    codes, rows = evolved_codes(recording, "main")
    np.testing.assert_array_equal(codes, CODES.reshape(6, 2))
    assert rows.tolist() == [0, 2, 3, 4, 5, 6]
