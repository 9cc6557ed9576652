"""What is reported: fresh means, and how much too high the noisy maximum was."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from closedloop import IsotropicES, Units
from closedloop.analysis import summary as summary_module
from closedloop.analysis.summary import Estimate, beside, reference_estimates, short_objective, single_scores, summarize
from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.generators import Fourier
from closedloop.objectives import TotalVariation
from closedloop.protocols import evolve
from closedloop.recording.render import render

#: thread, generation, kind, stimulus_id, score of the generation, response
ROWS = [
    ("reference", -1, "reference", "cat", np.nan, 4.0),
    ("reference", -1, "reference", "dog", np.nan, 2.0),
    ("main", 0, "evolved", "a", 9.0, 9.0),
    ("main", 0, "evolved", "b", 7.0, 7.0),
    ("main", 1, "evolved", "c", 8.0, 8.0),
    ("main", 1, "evolved", "lost", np.nan, np.nan),
    ("main", 2, "retest", "a", 4.0, 3.0),
    ("main", 2, "retest", "a", 4.0, 5.0),
    ("main", 2, "retest", "c", 7.0, 6.0),
    ("main", 2, "retest", "c", 7.0, 8.0),
    ("reference", 2, "retest", "cat", np.nan, 3.0),
    ("reference", 2, "retest", "dog", np.nan, 2.0),
    ("main", 3, "retest", "c", 6.0, 5.0),
    ("main", 3, "retest", "c", 6.0, 7.0),
    ("main", 3, "retest", "c", 6.0, np.nan),
    ("reference", 3, "retest", "cat", np.nan, 1.0),
    ("reference", 3, "retest", "cat", np.nan, 3.0),
]


def recording(rows=ROWS, threads=("main",), objective="unit(0)", time=None):
    thread, generation, kind, ids, scores, responses = zip(*rows, strict=True)
    values = np.stack([responses, -np.array(responses)], axis=1)
    dims = ("presentation", "neuroid")
    if time is not None:
        values, dims = np.repeat(values[..., None], time, axis=2), (*dims, "time_bin")
    return xr.Dataset(
        {"responses": (dims, values), "score": ("presentation", np.array(scores))},
        coords={
            "thread": ("presentation", np.array(thread, object)),
            "generation": ("presentation", np.array(generation)),
            "kind": ("presentation", np.array(kind, object)),
            "stimulus_id": ("presentation", np.array(ids, object)),
            "neuroid_id": ("neuroid", np.array(["v4.7", "v4.9"], object)),
            "label": ("neuroid", np.array(["owl", ""], object)),
            "evolution": ("evolution", np.array(threads, object)),
            "objective": ("evolution", np.array([objective] if isinstance(objective, str) else objective, object)),
            "subject": "v4",
        },
    )


def test_estimate():
    estimate = Estimate.of("x", np.array([1.0, np.nan, 3.0, 5.0]))
    assert (estimate.mean, estimate.n) == (3.0, 3)
    assert estimate.sem == pytest.approx(2 / 3**0.5)
    assert str(estimate) == "3.0 ± 1.2"
    single = Estimate.of("x", np.array([2.0, np.nan]))
    assert single.mean == 2
    assert np.isnan(single.sem)
    assert str(single) == "2"
    nothing = Estimate.of("x", np.array([np.nan]))
    assert np.isnan(nothing.mean)
    assert str(nothing) == "not re-tested"
    same = Estimate.of("x", np.full(3, 0.1))
    assert (same.mean, same.sem) == (0.1, 0)


@pytest.mark.parametrize("time", [None, 3])
def test_summary_of_one_thread(time):
    (found,) = summarize(recording(time=time))
    assert found.evolved == Estimate("c", 6.0, 1.0, 2)
    assert found.natural == Estimate("cat", 2.0, 1.0, 2)
    assert found.ratio == 3
    assert found.ratio_sem == pytest.approx(3 * np.hypot(1 / 6, 1 / 2))
    assert (found.images, found.generations, found.lost) == (4, 2, 2)


def test_winners_curse_is_of_the_very_image_with_the_highest_score():
    (found,) = summarize(recording())
    assert found.noisy_maximum == 9
    assert found.curse == 9 - 4


def test_curse_is_unknown_where_the_maximum_was_not_retested():
    (found,) = summarize(recording([r for r in ROWS if not (r[2] == "retest" and r[3] == "a")]))
    assert found.noisy_maximum == 9
    assert np.isnan(found.curse)


def test_another_objective_and_several_threads():
    second = [("other", *r[1:3], r[3] + "2", -r[4], r[5]) for r in ROWS if r[0] == "main"]
    main, other = summarize(recording(ROWS + second, ("main", "other"), ("unit(0)", "unit(1)")))
    assert (main.thread, other.thread) == ("main", "other")
    assert main.evolved.mean == 6
    assert (other.evolved.stimulus_id, other.evolved.mean) == ("c2", -6)
    assert other.natural.mean == -2
    assert np.isnan(other.ratio)


def test_each_thread_is_compared_with_the_reference_it_prefers():
    confirmed = [
        ("reference", 2, "retest", "fish", np.nan, -9.0),
        ("reference", 3, "retest", "fish", np.nan, -8.0),
        ("reference", 3, "retest", "fish", np.nan, -6.0),
    ]
    second = [("other", *r[1:]) for r in ROWS if r[0] == "main"]
    main, other = summarize(recording(ROWS + confirmed + second, ("main", "other"), ("unit(0)", "unit(1)")))
    assert main.natural.stimulus_id == "cat"
    assert other.natural == Estimate("fish", 7.0, 1.0, 2)


def test_a_reference_that_was_lost_in_the_selection_is_not_preferred():
    confirmed = [("reference", 2, "retest", "ant", np.nan, np.nan), ("reference", 3, "retest", "ant", np.nan, 50.0)]
    (found,) = summarize(recording(ROWS + confirmed))
    assert found.natural.stimulus_id == "cat"


def test_without_a_retest():
    (found,) = summarize(recording([r for r in ROWS if r[2] != "retest"]))
    assert found.evolved.n == 0
    assert str(found.evolved) == "not re-tested"
    assert np.isnan([found.ratio, found.ratio_sem, found.curse]).all()


def test_without_references():
    (found,) = summarize(recording([r for r in ROWS if r[0] == "main"]))
    assert found.evolved.mean == 6
    assert found.natural.n == 0
    assert np.isnan(found.ratio)


def test_all_lost():
    (found,) = summarize(recording([(*r[:4], np.nan, np.nan) for r in ROWS if r[2] == "evolved"]))
    assert np.isnan(found.noisy_maximum)
    assert found.lost == found.images == 4


@pytest.mark.parametrize(
    ("objective", "target"),
    [
        ("unit(0)", "v4.7 (owl)"),
        ("unit(1)", "v4.9"),
        ("-unit(0)", "-unit(0) of v4"),
        ("unit(0) + 1.0", "unit(0) + 1.0 of v4"),
    ],
)
def test_target_in_words(objective, target):
    assert summarize(recording(objective=objective))[0].target == target
    bare = recording(objective="unit(0)").drop_vars("label")
    assert summarize(bare)[0].target == "v4.7"


def test_a_ratio_is_given_for_the_response_of_one_unit_only():
    assert np.isfinite(summarize(recording())[0].ratio)
    assert np.isnan(summarize(recording(objective="unit(0) + 5"))[0].ratio)


def test_single_scores():
    np.testing.assert_array_equal(single_scores(recording(), "unit(1) + 1", np.array([0, 2])), [-3.0, -8.0])


@pytest.fixture(scope="module")
def evolved():
    """A short evolution under an objective that is no weighted sum."""

    class Rig:
        name, units = "rig", Units.numbered("rig", 3)

        def record(self, images):
            return 9 * images.mean((2, 3))

    generator = Fourier(16, 3)
    references = np.random.default_rng(0).uniform(size=(4, 3, 16, 16)).astype(np.float32)
    optimizer = IsotropicES(generator.space, 0)
    return evolve(Rig(), generator, optimizer, objective="logprob(1)", images=60, references=references)


def test_objectives_that_are_no_weighted_sum(evolved):
    (summary,) = summarize(evolved)
    assert summary.target == "logprob(1) of rig"
    assert np.isnan(summary.ratio)
    rows = np.flatnonzero(np.isfinite(evolved["score"].values))
    np.testing.assert_allclose(single_scores(evolved, "logprob(1)", rows), evolved["score"].values[rows], rtol=1e-6)
    assert summary.evolved.mean > summary.natural.mean
    assert {e.n > 0 for e in reference_estimates(evolved, "logprob(1)")} == {True}


def test_images_are_made_again_where_an_objective_looks_at_them(evolved, monkeypatch):
    monkeypatch.setattr(summary_module._alike, "__defaults__", (3,))
    rows = np.flatnonzero(evolved["thread"].values == "main")[[0, 9, 3, 30]]
    tv = TotalVariation()(np.zeros((4, 1)), render(evolved, rows))
    responses = evolved["responses"].values[rows]
    np.testing.assert_allclose(single_scores(evolved, "tv()", rows), tv)
    np.testing.assert_allclose(single_scores(evolved, "unit(2) - 3*tv()", rows), responses[:, 2] - 3 * tv)
    assert single_scores(evolved, "tv()", rows[:0]).shape == (0,)


def test_images_that_cannot_be_made_again_score_nan(evolved):
    rows = np.array([0, 20])  # a reference, which this recording does not hold, and an evolved image
    assert evolved["thread"].values[rows].tolist() == ["reference", "main"]
    with pytest.warns(UserWarning, match=r"objective 'tv\(\)' looks at the images, and some cannot be made again, so"):
        scores = single_scores(evolved, "tv()", rows)
    assert np.isnan(scores).tolist() == [True, False]


def test_an_objective_of_a_unit_that_was_not_recorded():
    for objective in ("unit(2) - tv()", "layer([0, 5])"):
        with pytest.raises(InvalidArgumentError, match="expected a response column"):
            single_scores(recording(), objective, np.array([0]))


def test_long_objectives_are_short_in_titles():
    assert short_objective("unit(0)") == "unit(0)"
    assert len(short_objective("unit(0) + " * 20)) == 60
    assert short_objective('2.0*caption("a dog", {3: 0.5, 4: 0.5}) - l1()') == '2.0*caption("a dog") - l1()'
    assert short_objective("unit(0) + " * 20).endswith("…")


def test_another_dataset_is_refused():
    with pytest.raises(RecordingError, match="expected an evolution, but it has no coordinate evolution, objective"):
        summarize(xr.Dataset())


@pytest.mark.parametrize(
    ("value", "other", "rounded"),
    [
        (1.994e-05, 1.635, 0.0),
        (-3.6e-05, 0.3713, 0.0),
        (0.1992, 15.52, 0.2),
        (0.0004, 0.3713, 0.0004),
        (-3.21, 1234.5, -3.0),
        (2e-12, 1.635e-10, 2e-12),
        (0.25, 0.0, 0.25),
    ],
)
def test_a_difference_has_no_digits_beyond_those_of_its_numbers(value, other, rounded):
    assert beside(value, other) == rounded
    assert str(beside(value, other))[0] == "-" if rounded < 0 else True


def test_what_is_not_known_stays_unknown():
    assert np.isnan(beside(float("nan"), 1.0))
    assert np.isnan(beside(float("nan"), float("nan")))
