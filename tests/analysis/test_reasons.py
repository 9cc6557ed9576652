"""Words for what is missing."""

import numpy as np

from closedloop.analysis.reasons import all_nan, choose, scalar, words


def test_words():
    assert words({"ratio": "no zero", "auc": "", "": "lost"}) == "ratio: no zero; lost"
    assert words({"a": ""}) == ""


def test_the_first_reason_counts():
    found = choose((np.array([True, False, False]), "one"), (np.array([True, True, False]), "two"))
    assert found.tolist() == ["one", "two", ""]
    assert choose((np.array(True), "one")).item() == "one"


def test_results():
    assert np.isnan(all_nan(("a", "b"), "why")["a"])
    assert all_nan(("a",), "why")["reason"].item() == "why"
    assert scalar({"a": 1.0}, level=0.9)["level"].item() == 0.9
