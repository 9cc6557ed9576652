"""Rise over generations: known curves, known tests, and a false alarm rate that is what it says."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from closedloop.analysis import concat, generation_scores, generations_to, images_to, success, trajectory
from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.testing.common import untouched_randomness


def test_mean_error_and_maximum(evolution):
    recording = evolution([[1.0, 3.0, np.nan], [2.0, 4.0, 9.0]], references=[[1.0, 2.0], [5.0, 7.0]])
    found = trajectory(recording, "main")
    assert found["mean"].values.tolist() == [2, 5]
    np.testing.assert_allclose(found["sem"], [1, stats.sem([2.0, 4, 9])])
    assert found["maximum"].values.tolist() == [3, 9]
    assert found["n"].values.tolist() == [2, 3]
    assert found["images"].values.tolist() == [3, 6]
    assert found["baseline"].values.tolist() == [1.5, 6]
    np.testing.assert_allclose(found["baseline_sem"], [0.5, 1])
    assert found["reason"].item() == ""


def test_the_survey_and_re_tests_are_no_baseline(evolution):
    retests = {"main-g0001-001": ([5.0], [5.0]), "ref-000": ([50.0], [50.0])}
    recording = evolution([[1.0, 2.0]] * 2, references=[[1.0, 3.0]] * 2, retests=retests)
    survey = recording.isel(presentation=[4]).copy(deep=True)
    survey["generation"][:], survey["responses"][:] = -1, 99.0
    joined = xr.concat([survey, recording], "presentation", data_vars="minimal", coords="minimal", compat="override")
    assert trajectory(joined, "main")["baseline"].values.tolist() == [2, 2]


def test_missing_baselines_have_a_reason(evolution):
    found = trajectory(evolution([[1.0, 2.0]] * 2), "main")
    assert np.isnan(found["baseline"]).all()
    assert found["reason"].item() == "baseline: no reference was shown during the evolution"
    unreadable = evolution([[1.0, 2.0]], references=[[1.0]], objective="my own")
    found = trajectory(unreadable, "main")
    assert "baseline: objective: expected an expression" in found["reason"].item()
    assert found["mean"].values.tolist() == [1.5]


def test_repeats_of_an_image_count_once(evolution):
    recording = evolution([[1.0, 5.0]])
    twice = recording.isel(presentation=[0, 0, 0, 1])
    assert trajectory(twice, "main")["mean"].values.tolist() == [3]
    assert trajectory(twice, "main")["images"].values.tolist() == [4]


def test_a_generation_that_was_lost_is_nan(evolution):
    recording = evolution([[1.0, 2.0], [np.nan, np.nan], [4.0, 5.0], [6.0, 8.0]])
    found = trajectory(recording, "main")
    assert np.isnan(found["mean"].values[1])
    assert np.isfinite(found["smoothed"]).all()
    assert np.isnan(generation_scores(recording)["best"].values[1])
    with pytest.raises(RecordingError, match="thread 'main' has no evolved image yet"):
        generation_scores(recording.isel(presentation=slice(0, 0)))


def test_time_constant_of_an_exponential(evolution):
    g = np.arange(40.0)
    recording = evolution(np.repeat(5 + 20 * (1 - np.exp(-g / 8))[:, None], 3, axis=1))
    found = generations_to(recording, 1 - np.exp(-1), "main")
    top = 1 - np.exp(-39 / 8)  # of the last generation, the highest
    assert found["generations"].item() == pytest.approx(-8 * np.log(1 - (1 - np.exp(-1)) * top), abs=0.05)


def test_images_on_a_ramp(evolution):
    recording = evolution(np.repeat(np.arange(21.0)[:, None], 10, axis=1))
    half, most = (images_to(recording, share, "main")["images"].item() for share in (0.5, 0.9))
    # The final response is that of generations 19 and 20, 19.5; generation g ends with image 10 (g + 1).
    assert half == pytest.approx(10 * (0.5 * 19.5 + 1), abs=1)
    assert most == pytest.approx(10 * (0.9 * 19.5 + 1), abs=1)


@pytest.mark.parametrize("measure", [generations_to, images_to])
def test_what_does_not_rise_has_no_time(evolution, measure):
    falling = measure(evolution(np.repeat(np.arange(10.0, 0, -1)[:, None], 3, axis=1)), 0.5)
    assert np.isnan(next(iter(falling.data_vars.values()))).all()
    assert "does not rise" in falling["reason"].values[0]
    short = measure(evolution([[1.0, 2.0]] * 2), 0.5)
    assert short["reason"].values.tolist() == ["fewer than three generations with a score"]
    with pytest.raises(InvalidArgumentError, match="share: expected a number above 0 and at most 1"):
        measure(evolution([[1.0, 2.0]]), 63)


def rising(rng, step=1.0, generations=8, images=12):
    return step * np.arange(generations)[:, None] + rng.standard_normal((generations, images))


def test_success_is_welchs_test_of_the_ends(evolution, rng):
    scores = rising(rng, 0.2)
    found = success(evolution(scores), "main", alternative="end")
    expected = stats.ttest_ind(scores[-2:].ravel(), scores[:2].ravel(), equal_var=False)
    assert found["t"].item() == pytest.approx(expected.statistic)
    assert found["p"].item() == found["p_adjusted"].item() == pytest.approx(expected.pvalue)
    assert found["df"].item() == pytest.approx(expected.df)
    permuted = stats.permutation_test(
        (scores[-2:].ravel(), scores[:2].ravel()), lambda a, b, axis: a.mean(axis) - b.mean(axis),
        alternative="greater", n_resamples=4999, rng=np.random.default_rng(0), vectorized=True,
    )  # fmt: skip
    assert found["p_permutation"].item() == pytest.approx(permuted.pvalue, abs=0.01)
    assert found["maximum"].item() == max(scores[i : i + 2].mean() for i in range(7))
    assert found["success"].item() == 1


def test_holm_counts_the_evolutions(evolution, rng):
    runs = [evolution(rising(rng, step), seed=i) for i, step in enumerate((0.5, 0.05, 0.0, -0.5))]
    found = success(concat(runs), alternative="end")
    assert found["thread"].values.tolist() == [f"{i}/main" for i in range(4)]
    order = np.argsort(found["p"].values)
    assert found["p_adjusted"].values[order[0]] == pytest.approx(min(1, 4 * found["p"].values[order[0]]))
    assert found["success"].values.tolist()[::3] == [1, 0]  # the last one falls, significantly


def test_false_alarms_of_the_selected_maximum(evolution):
    rng = np.random.default_rng(5)
    alarms, naive = 0, 0
    for seed in range(150):
        scores = rng.standard_normal((12, 8))
        found = success(evolution(scores), "main", permutations=99, alternative="maximum", seed=seed)
        alarms += found["success"].item()
        best = max((scores[i : i + 2].ravel() for i in range(2, 11)), key=np.mean)
        naive += stats.ttest_ind(best, scores[:2].ravel(), alternative="greater").pvalue < 0.05
    assert 0.01 <= alarms / 150 <= 0.09
    assert naive / 150 > 0.2  # what a t-test of the best would report


@pytest.mark.parametrize(("scale", "shift"), [(0.01, 0), (100, -50), (3, 7)])
def test_units_of_the_response_do_not_matter(evolution, rng, scale, shift):
    scores = rising(rng, 0.1)
    before, after = (
        success(evolution(s), "main", permutations=99, alternative="end") for s in (scores, scale * scores + shift)
    )
    for name in ("t", "p", "p_permutation", "p_maximum", "success"):
        assert after[name].item() == pytest.approx(before[name].item())
    times = [generations_to(evolution(s), 0.5, "main")["generations"].item() for s in (scores, scale * scores + shift)]
    assert times[0] == pytest.approx(times[1])


def test_too_little_to_test(evolution):
    found = success(evolution([[1.0, 2.0]] * 3), "main", alternative="end")
    assert np.isnan([found["p"], found["success"], found["p_adjusted"]]).all()
    assert "3 generations; the test needs at least 4" in found["reason"].item()
    same = success(evolution([[1.0, 1.0]] * 4), "main")
    assert "do not vary" in same["reason"].item()
    assert (same["first"], same["decline"]) == (1, 0)
    lost = success(evolution([[np.nan, np.nan]] * 4), "main")
    assert "fewer than two scores" in lost["reason"].item()


def test_seed_decides_the_permutations(evolution, rng):
    recording = evolution(rising(rng, 0.1))
    with untouched_randomness():
        one, same, other = (success(recording, "main", permutations=99, seed=s)["p_maximum"].item() for s in (1, 1, 2))
    assert one == same
    assert one != other


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "window: expected a whole number of at least 1"),
        ({"permutations": 0}, "permutations: expected a whole number of at least 1"),
        ({"alpha": 5}, "alpha: expected a number between 0 and 1"),
        ({"alternative": "max"}, "alternative: expected 'confirmed', 'end' or 'maximum', got 'max'"),
    ],
)
def test_wrong_arguments(evolution, options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        success(evolution([[1.0, 2.0]] * 4), **options)
