"""Numbers of a diagnosis, against ones counted by hand."""

import numpy as np
import pytest
import xarray as xr

from closedloop.analysis import answers_of, confusions, driving_units, error_clusters, explanations, single_units
from closedloop.analysis.errors import confidences
from closedloop.errors import InvalidArgumentError

NAMES = ["cat", "dog", ""]


def recording(survey, explained=(), units=3):
    """A diagnosis: (name, target, outputs) of each image, and (name, kind, target, outputs, effects, answers after)."""
    rows = [
        (name, "labelled", target, outputs, np.full(units, np.nan), np.full(units, -1))
        for name, target, outputs in survey
    ]
    rows += [(*row[:4], np.asarray(row[4]), np.asarray(row[5])) for row in explained]
    outputs = np.array([row[3] for row in rows], float)
    answer = np.where(np.isnan(outputs).any(1), -1, np.nan_to_num(outputs).argmax(1))
    target = np.array([row[2] for row in rows])
    each = np.arange(len(rows))
    effect = np.stack([row[4] for row in rows])
    difference = outputs[each, answer] - outputs[each, target]
    wide = ("presentation", "unit")
    return xr.Dataset(
        {
            "responses": (("presentation", "neuroid"), outputs),
            "attribution_wrong": (wide, effect),
            "attribution_right": (wide, -effect),
            "ablated_difference": (wide, difference[:, None] - effect),
            "ablated_answer": (wide, np.stack([row[5] for row in rows])),
        },
        {
            "stimulus_id": ("presentation", [row[0] for row in rows]),
            "kind": ("presentation", [row[1] for row in rows]),
            "target": ("presentation", target),
            "answer": ("presentation", answer),
            "label": ("neuroid", NAMES),
            "diagnosed_layer": "relu",
        },
    )


LOST = [np.nan] * 3
SURVEY = [
    ("c", 0, [1, 2, 0]),
    ("a", 0, [0, 3, 1]),
    ("b", 1, [0, 3, 1]),
    ("d", 1, [5, 1, 2]),
    ("e", 2, LOST),
    ("e", 2, [0, 0, 1]),
    ("f", 2, LOST),
]
EXPLAINED = [
    ("a", "explained", 0, [0, 3, 1], [4, 0.1, 0], [0, 1, 2]),
    ("c", "explained", 0, [1, 2, 0], [2, 0, 0], [0, 1, 1]),
    ("d", "explained", 1, [5, 1, 2], [0, 0, 1], [0, 0, 0]),
    ("b", "correct", 2, [0, 3, 1], [1, 0, 3], [0, 1, 2]),
    ("e", "correct", 0, [0, 0, 1], [0, 0, 0], [2, 2, 2]),
]


def test_answers():
    found = answers_of(recording(SURVEY))
    assert found["image"].values.tolist() == list("abcde")
    assert found["wrong"].values.tolist() == [True, False, True, True, False]
    assert found["answer_name"].values.tolist() == ["dog", "dog", "dog", "cat", "2"]
    assert found["rank"].values.tolist() == [3, 1, 2, 3, 1]
    assert found["answer_output"].values.tolist() == [3, 3, 2, 5, 1]
    assert found["target_output"].values.tolist() == [0, 3, 1, 1, 1]
    assert float(found["confidence"][0]) == pytest.approx(np.exp(3) / (1 + np.exp(3) + np.exp(1)))
    assert found.attrs["lost"] == 1
    with pytest.raises(InvalidArgumentError, match="recording: expected a run of diagnose"):
        answers_of(recording(SURVEY).drop_vars("target"))


def test_confidences_of_probabilities_are_themselves():
    shares = np.array([[0.2, 0.8], [0.5, 0.5]])
    np.testing.assert_array_equal(confidences(shares), shares)
    np.testing.assert_allclose(confidences([[0.0, np.log(3)]]), [[0.25, 0.75]])


def test_confusions():
    found = confusions(answers_of(recording(SURVEY)))
    assert found["target_name"].values.tolist() == ["cat", "dog"]
    assert found["answer_name"].values.tolist() == ["dog", "cat"]
    assert found["count"].values.tolist() == [2, 1]
    assert found["back"].values.tolist() == [1, 2]
    none = confusions(answers_of(recording(SURVEY[2:3])))
    assert none.sizes["pair"] == 0


def test_explanations():
    found = explanations(recording(SURVEY, EXPLAINED))
    assert found["image"].values.tolist() == ["a", "c", "d"]
    np.testing.assert_allclose(found["effect"].values[0], [4, 0.1, 0])
    np.testing.assert_allclose(found["attribution"].values[0], [8, 0.2, 0])
    assert found["to_target"].values.tolist() == [[True, False, False], [True, False, False], [False] * 3]
    assert explanations(recording(SURVEY)).sizes == {"image": 0, "unit": 3}


def test_units_over_all_errors():
    found = driving_units(recording(SURVEY, EXPLAINED))
    assert found["corrects"].values.tolist() == [2, 0, 0]
    assert found["breaks"].values.tolist() == [1, 0, 1]
    assert found["breaks_share"].values.tolist() == [0.5, 0, 0.5]
    assert found["drives"].values.tolist() == [2, 0, 1]
    np.testing.assert_allclose(found["effect"], [2, 0.1 / 3, 1 / 3])


def test_how_many_errors_one_unit_corrects_and_what_else_would():
    found = single_units(recording(SURVEY, EXPLAINED))
    shares = {name: (float(found[name]), found[name].attrs["n"]) for name in found.data_vars}
    assert shares["corrected"] == (pytest.approx(2 / 3), 3)
    assert shares["corrected_by_top"] == (pytest.approx(2 / 3), 3)
    assert shares["random_unit"] == (pytest.approx(2 / 9), 9)
    assert shares["changed_elsewhere"] == (pytest.approx(1 / 3), 3)
    # a and c are cats called dogs; d is the one error of another pair: its unit 2 on a and c, theirs on d
    assert shares["other_top"] == (0, 4)
    assert shares["broken"] == (0.5, 2)
    assert shares["broken_by_random"] == (pytest.approx(2 / 6), 6)
    assert shares["broken_by_correcting"] == (0.5, 4)
    nothing = single_units(recording(SURVEY))
    assert np.isnan(float(nothing["corrected"]))


def test_clusters_of_the_units_that_drove_the_answers():
    rng = np.random.default_rng(0)
    explained = [
        (f"{i:02d}", "explained", 0, [0, 3, 1], np.eye(6)[i % 3 if i < 9 else 5] + 0.05 * rng.random(6), [1] * 6)
        for i in range(10)
    ]
    found = error_clusters(recording([], explained, units=6))
    assert found["cluster"].values.tolist() == [*[found["cluster"].values[i % 3] for i in range(9)], 0]
    assert sorted(found["size"].values.tolist()) == [3, 3, 3]
    for group in found["group"].values:
        members = np.flatnonzero(found["cluster"].values == group)
        assert int(found["units"].sel(group=group)[0]) == members[0] % 3
    assert error_clusters(recording(SURVEY)).sizes["group"] == 0
