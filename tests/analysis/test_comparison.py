"""Evolved against natural images: closed forms, enumeration, and what luck does to a maximum."""

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from closedloop import summarize
from closedloop.analysis import best_of_k, bootstrap, evolved_vs_reference, reference_means, winners_curse
from closedloop.analysis.resampling import cohens_d, rank_auc
from closedloop.errors import InvalidArgumentError

RETESTS = {
    "main-g0002-003": ([9.0, 11.0], [8.0, 10.0, 12.0]),
    "main-g0002-002": ([7.0, 8.0], []),
    "ref-001": ([4.0, 6.0], [3.0, 5.0]),
}
SCORES = np.array([[0.0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 20]])
NATURAL = [[1.0, 5.0, 2.0], [2.0, 6.0, 3.0]]


@pytest.fixture
def recording(evolution):
    return evolution(SCORES, NATURAL, retests=RETESTS)


def test_populations(recording):
    found = evolved_vs_reference(recording, "main", window=1, resamples=300, seed=2)
    evolved, natural = SCORES[-1], np.array([1.5, np.mean([5, 6, 4, 6, 3, 5]), 2.5])
    assert found["evolved"].item() == evolved.mean()
    assert found["reference"].item() == pytest.approx(natural.mean())
    assert found["effect_size"].item() == pytest.approx(cohens_d(evolved, natural))
    assert found["auc"].item() == 1 == stats.mannwhitneyu(evolved, natural).statistic / 12
    expected = bootstrap([evolved, natural], cohens_d, resamples=300, seed=2)
    assert found["effect_size_high"].item() == expected["high"].item()
    assert (found["n_evolved"], found["n_reference"]) == (4, 3)
    assert "auc interval: the statistic is the same in all resamples" in found["reason"].item()


def test_overlapping_populations(evolution, rng):
    scores, natural = rng.standard_normal((4, 20)) + 1, [rng.standard_normal(30)]
    found = evolved_vs_reference(evolution(scores, natural), "main", resamples=300)
    assert found["auc"].item() == pytest.approx(rank_auc(scores[-2:].ravel(), np.array(natural[0])))
    assert 0.5 < found["auc_low"] < found["auc"] < found["auc_high"] < 1
    assert 0 < found["effect_size_low"] < found["effect_size"] < found["effect_size_high"]


def test_selected_images_are_compared_in_fresh_presentations(recording):
    found = evolved_vs_reference(recording, "main", resamples=300)
    assert found["ratio"].item() == summarize(recording)[0].ratio == 10 / 4
    expected = bootstrap([[8.0, 10, 12], [3.0, 5, 3, 5]], lambda a, b, axis=-1: a.mean(axis) / b.mean(axis))
    assert np.isnan(found["ratio_low"])
    assert "ratio interval: fewer than three values (2)" in found["reason"].item()
    assert expected["low"] < 2.5
    assert found["percentile"].item() == 100


def test_percentile_counts_ties_half(evolution):
    retests = {"main-g0002-003": ([5.0, 5.0], [5.0, 5.0])}
    recording = evolution(SCORES, [[1.0, 5.0, 9.0, 5.0]], retests=retests)
    assert evolved_vs_reference(recording, "main")["percentile"].item() == 50


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"retests": None},
            "ratio: the evolved image was not re-tested; percentile: the evolved image was not re-tested",
        ),
        ({"objective": "unit(0) + 1"}, "ratio: the objective is not the response of a single unit"),
        ({"references": None, "retests": {k: v for k, v in RETESTS.items() if k[0] == "m"}}, "reference: no reference"),
        ({"retests": {**RETESTS, "ref-001": ([-4.0], [-4.0, -5.0])}}, "ratio: a re-tested mean is not above 0"),
    ],
)
def test_what_is_missing_is_said(evolution, change, reason):
    options = {"references": NATURAL, "retests": RETESTS, **change}
    found = evolved_vs_reference(evolution(SCORES, options.pop("references"), **options), "main", resamples=100)
    assert reason in found["reason"].item()
    assert np.isnan(found["ratio"])


def test_a_noiseless_unit_has_a_ratio_but_no_interval(evolution):
    retests = {"main-g0002-003": ([20.0] * 3, [20.0] * 3), "ref-001": ([5.0] * 3, [5.0] * 3)}
    found = evolved_vs_reference(evolution(SCORES, NATURAL, retests=retests), "main", resamples=100)
    assert found["ratio"].item() == 4
    assert np.isnan([found["ratio_low"], found["ratio_high"]]).all()
    assert "ratio interval: all values are equal" in found["reason"].item()


def test_reference_means_and_halves(evolution):
    table = reference_means(evolution(SCORES, NATURAL), "unit(0)")
    assert table["stimulus_id"].values.tolist() == ["ref-000", "ref-001", "ref-002"]
    assert table["mean"].values.tolist() == [1.5, 5.5, 2.5]
    assert table["half_a"].values.tolist() == [1, 5, 2]
    assert table["half_b"].values.tolist() == [2, 6, 3]
    assert table["n"].values.tolist() == [2, 2, 2]


def test_best_of_k_is_the_mean_over_all_choices(evolution, rng):
    values = rng.standard_normal(8)
    found = best_of_k(evolution(SCORES, [values]), [1, 2, 5, 8, 9], "main")
    expected = [np.mean([max(c) for c in combinations(values, k)]) for k in (1, 2, 5, 8)]
    np.testing.assert_allclose(found["expected"].values[:4], expected)
    assert np.isnan(found["expected"].values[4])
    assert "expected: k above the 8 reference images" in found["reason"].item()
    assert "retested: not every reference image was presented twice" in found["reason"].item()
    assert found["n_reference"].item() == 8


def test_best_of_k_of_many_images_is_exact(evolution):
    found = best_of_k(evolution(SCORES, [np.arange(1.0, 3001)]), 100, "main")
    assert found["expected"].item() == pytest.approx(100 * 3001 / 101)  # of k draws from 1 … n: k (n + 1) / (k + 1)


def test_best_of_k_of_presented_images(repeated):
    """A run of `present` holds no evolution; each of its units can be the judge."""
    table = np.stack([np.arange(6.0), -np.arange(6.0)], -1)[:, None].repeat(2, 1)
    one, both = repeated(table[..., 0]), repeated(table)
    found = best_of_k(one, [1, 6])
    assert found["expected"].values.tolist() == pytest.approx([2.5, 5.0])
    assert found["retested"].values.tolist() == pytest.approx([2.5, 5.0])
    assert (found["n_reference"], found["reason"].item()) == (6, "")
    assert best_of_k(both, 6, objective="unit(1)")["expected"].item() == pytest.approx(0)
    with pytest.raises(InvalidArgumentError, match="objective: the recording holds no evolution and 2 units"):
        best_of_k(both, 6)


def test_an_evolution_has_its_own_objective(evolution):
    with pytest.raises(InvalidArgumentError, match="objective: the evolutions have their own"):
        best_of_k(evolution(SCORES, NATURAL), 2, objective="unit(0)")


def test_the_best_of_k_owes_its_height_to_luck(evolution):
    rng = np.random.default_rng(3)
    found = [
        best_of_k(evolution(SCORES, rng.standard_normal((2, 30))), 30, "main")[["expected", "retested"]].to_array()[
            :, 0
        ]
        for _ in range(60)
    ]
    expected, retested = np.mean(found, axis=0)
    assert expected > 1  # all images are alike: the truth is 0
    assert abs(retested) < 3 / 60**0.5


@pytest.mark.parametrize("k", [0, [], 1.5, [[1]], "two"])
def test_wrong_k(recording, k):
    with pytest.raises(InvalidArgumentError, match="k: expected one or more whole numbers of at least 1"):
        best_of_k(recording, k)


def test_winners_curse(recording):
    found = winners_curse(recording, "main")
    assert found["maximum"].item() == 20
    assert found["retested"].item() == 10  # all presentations of its re-tests
    assert found["gap"].item() == summarize(recording)[0].curse == 10
    assert found["share"].item() == 0.5
    assert found["mean_gap"].item() == np.mean([20 - 10, 10 - 7.5])
    assert found["n"].item() == 2


def test_no_curse_without_a_retest(evolution):
    found = winners_curse(evolution(SCORES))
    assert np.isnan([found["gap"], found["retested"], found["mean_gap"]]).all()
    assert found["reason"].values.tolist() == ["the image with the highest score was not re-tested"]
    lost = winners_curse(evolution(SCORES * np.nan), "main")
    assert lost["reason"].item() == "no presentation of the evolution gave a score"
    below = winners_curse(evolution(-SCORES, retests={"main-g0000-000": ([-1.0], [-1.0])}), "main")
    assert below["gap"].item() == 1
    assert below["reason"].item() == "share: the highest score is not above 0"
