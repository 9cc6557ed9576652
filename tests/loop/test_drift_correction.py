"""Drift correction: exact where the drift is what it assumes, and a help in a noisy session."""

from __future__ import annotations

import functools

import numpy as np
import pytest

import closedloop
from closedloop import RandomSearch, Session, Thread, Unit
from closedloop.errors import InvalidArgumentError
from closedloop.generators import Fourier
from closedloop.loop.drift_correction import DriftCorrection
from closedloop.protocols import resume
from closedloop.subjects import Drift, EnergySubject, Poisson
from closedloop.testing.common import through_a_file

CELL = EnergySubject(orientation_deg=45.0, cycles_per_image=3.0, resolution=16)
GENERATOR = Fourier(16, cutoff=5)
natural_references = functools.cache(closedloop.natural_references)


def session(subject, seed=0, images=1200, **options):
    threads = [Thread(GENERATOR, RandomSearch(GENERATOR.space, seed=seed), Unit(0))]
    settings = {"interleave": 20, "retest_candidates": 0, "images": images, "keep": "none", "seed": seed, **options}
    return Session(subject, threads, references=natural_references(16), **settings)


def clean_and_scored(recording):
    """Noiseless responses and scores ``(n,)`` of what was evolved."""
    rows = recording.isel(presentation=np.flatnonzero(recording["kind"].values == "evolved"))
    return CELL.record(GENERATOR(rows["latent_code"].values))[:, 0], rows["score"].values


@pytest.mark.parametrize("method", ["divide", "regress"])
def test_a_common_gain_is_taken_out_exactly(method):
    rng = np.random.default_rng(0)
    baseline, images = rng.random((9, 3, 4)), rng.random((5, 3, 4))
    correction = DriftCorrection(method, memory=0.01)
    correction.begin(baseline)
    for gain in (1.0, 0.5, 2.0):
        correction.learn([1, 4, 5, 8], gain * baseline[[1, 4, 5, 8]])
        np.testing.assert_allclose(correction.correct(gain * images), images)


def test_an_offset_is_regressed_out_exactly():
    rng = np.random.default_rng(0)
    baseline, images = rng.standard_normal((9, 2)), rng.standard_normal((5, 2))
    correction = DriftCorrection("regress", memory=1.0)
    correction.begin(baseline)
    for _ in range(3):
        correction.learn(range(9), 0.7 * baseline - 3)
    np.testing.assert_allclose(correction.correct(0.7 * images - 3), images)


def test_what_references_cannot_tell_is_left_alone():
    """No reference answered; a single one has no slope; a lost one tells nothing."""
    divide, regress = DriftCorrection("divide", 1.0), DriftCorrection("regress", 1.0)
    for correction in (divide, regress):
        np.testing.assert_array_equal(correction.correct(np.ones((2, 1))), np.ones((2, 1)))  # before the survey
        correction.begin(np.array([[1.0], [3.0], [np.nan]]))
        correction.learn([0, 2], np.array([[0.0], [5.0]]))
    np.testing.assert_array_equal(divide.correct(np.full((2, 1), 7.0)), np.full((2, 1), 7.0))
    np.testing.assert_allclose(regress.correct(np.full((2, 1), 7.0)), np.full((2, 1), 8.0))
    divide.learn([1], np.array([[np.nan]]))
    np.testing.assert_array_equal(divide.correct(np.full((2, 1), 7.0)), np.full((2, 1), 7.0))


def test_forgets():
    correction = DriftCorrection("divide", memory=2.0)
    correction.begin(np.ones((1, 1)))
    correction.learn([0], np.array([[1.0]]))
    correction.learn([0], np.array([[0.5]]))
    w = np.exp(-0.5)
    assert correction.correct(np.ones((1, 1)))[0, 0] == pytest.approx((1 + w) / (0.5 + w))


def test_state():
    one, again = DriftCorrection("regress", 2.0), DriftCorrection("regress", 2.0)
    again.restore(through_a_file(one.state()))
    one.begin(np.array([[1.0], [3.0]]))
    one.learn([0, 1], np.array([[2.0], [5.0]]))
    again.restore(through_a_file(one.state()))
    np.testing.assert_array_equal(again.correct(np.ones((1, 1))), one.correct(np.ones((1, 1))))


@pytest.mark.parametrize("method", ["divide", "regress"])
def test_without_noise_scores_are_those_without_drift(method):
    """But for what drifts within the survey and within a generation."""
    for options, largest in (({"drift": method, "drift_memory": 0.05}, (0, 0.1)), ({}, (0.3, 1))):
        subject = Drift(CELL, change=-0.6, session=1500, wander=0.0)
        clean, scores = clean_and_scored(session(subject, **options).run())
        assert largest[0] < np.abs(scores - clean).max() / clean.max() < largest[1]


@pytest.mark.long
@pytest.mark.parametrize("method", ["divide", "regress"])
def test_helps_to_find_the_best_image_of_a_noisy_drifting_session(method):
    """Scores of a whole session rank images better; mean over sessions with two to three times the recorded drift."""
    found = {}
    for drift in ("none", method):
        ranks = []
        for seed in range(6):
            subject = Poisson(Drift(CELL, change=-0.3, wander=0.3, memory=200, seed=seed), spikes=50, seed=seed)
            clean, scores = clean_and_scored(session(subject, seed=seed, drift=drift).run())
            ranks.append(np.corrcoef(clean, scores)[0, 1])
        found[drift] = np.array(ranks)
    assert (found[method] > found["none"]).sum() >= 5
    assert found[method].mean() > found["none"].mean() + 0.02


class Stop:
    """An observer that interrupts after some blocks."""

    def __init__(self, after):
        self.after = after

    def begin(self, session):
        pass

    def generation(self, generation):
        self.after -= 1
        if self.after == 0:
            raise KeyboardInterrupt("stop")

    def end(self, session):
        pass


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path):
    def noisy():
        return Poisson(Drift(CELL), best=1.0)

    options = {"images": 200, "drift": "divide", "retest_candidates": 1, "retest_repeats": 2}
    stopped = session(noisy(), **options)
    stopped.save, stopped.observers = tmp_path / "run", (Stop(3),)
    with pytest.raises(KeyboardInterrupt, match="stop"):
        stopped.run()
    found, expected = resume(tmp_path / "run"), session(noisy(), **options).run()
    for name in ("score", "responses", "stimulus_id"):
        np.testing.assert_array_equal(found[name].values, expected[name].values)


def test_responses_on_record_are_what_was_answered():
    runs = [session(Poisson(Drift(CELL), best=1.0), images=80, drift=drift).run() for drift in ("none", "divide")]
    np.testing.assert_array_equal(runs[0]["responses"], runs[1]["responses"])
    assert not np.array_equal(runs[0]["score"], runs[1]["score"], equal_nan=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drift": "subtract"}, "drift: expected 'none', 'divide' or 'regress', got 'subtract'"),
        ({"drift": "divide", "interleave": 0}, "interleave: expected references in each generation"),
        ({"drift_memory": 0}, "drift_memory: expected generations above 0, got 0"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        session(CELL, **options)


def test_drift_needs_references():
    thread = Thread(GENERATOR, RandomSearch(GENERATOR.space), Unit(0))
    with pytest.raises(InvalidArgumentError, match="references: expected some for drift='divide', got None"):
        Session(CELL, [thread], references=None, drift="divide")


@pytest.mark.parametrize(("gain", "shift", "tolerance"), [(1.0, 0.0, 0.8), (1.0, 10.0, 1.5), (0.5, 0.0, 1.7)])
def test_noise_of_the_references_does_not_tilt_the_line(gain, shift, tolerance):
    """Spikes of 100 references, 20 in a generation; an image whose response was 40 in the survey."""
    rng, found = np.random.default_rng(8), []
    rates = rng.gamma(1.5, 10, (100, 60))
    correction = DriftCorrection("regress", memory=10.0)
    correction.begin(rng.poisson(rates).astype(float))
    for g in range(40):
        which = [(20 * g + i) % 100 for i in range(20)]
        correction.learn(which, rng.poisson(gain * rates[which] + shift).astype(float))
    found = correction.correct(np.full((1, 60), 40 * gain + shift))[0]
    assert abs(found.mean() - 40) < tolerance  # the ordinary line gives 42.5
    assert found.std() < 6


def test_references_that_all_answer_alike_tell_no_slope():
    rng = np.random.default_rng(8)
    correction = DriftCorrection("regress", memory=10.0)
    correction.begin(rng.poisson(20, (100, 60)).astype(float))
    for g in range(40):
        which = [(20 * g + i) % 100 for i in range(20)]
        correction.learn(which, rng.poisson(20, (20, 60)).astype(float))
    found = correction.correct(np.full((1, 60), 40.0))[0]
    assert abs(np.median(found) - 40) < 1
    assert np.abs(found - 40).max() < 10  # the ordinary line gives some hundreds


def test_a_run_of_an_older_version_goes_on_with_its_line():
    rng = np.random.default_rng(0)
    x, y = rng.random((9, 1)), rng.random((9, 1))
    older = DriftCorrection("regress", memory=1e-3)
    older.restore({"baseline": x, "sums": np.zeros((5, 1))})
    older.learn(range(9), y)
    assert older.state()["sums"].shape == (5, 1)
    slope, offset = np.polyfit(x[:, 0], y[:, 0], 1)
    expected = (0.5 - offset) / slope if slope > 0 else 0.5 - y.mean() + x.mean()
    np.testing.assert_allclose(older.correct(np.array([[0.5]])), expected)


@pytest.mark.parametrize("method", ["divide", "regress"])
def test_a_summary_is_in_one_unit(method):
    """Half of all responses is gone in the end: that is no winner's curse."""
    subject = Drift(CELL, change=-0.5, session=900, wander=0)
    found = session(subject, images=600, drift=method, retest_candidates=3, retest_repeats=2).run()
    (summary,) = closedloop.summarize(found)
    assert summary.drift == method
    kind, ids = found["kind"].values, found["stimulus_id"].values
    evolved = np.flatnonzero(kind == "evolved")
    best = ids[evolved[np.nanargmax(found["score"].values[evolved])]]
    raw = found["responses"].values[:, 0]
    assert summary.noisy_maximum == raw[(kind == "evolved") & (ids == best)].mean()
    assert summary.curse == summary.noisy_maximum - raw[(kind == "retest") & (ids == best)].mean()
    versus = closedloop.analysis.evolved_vs_reference(found, "main", resamples=100)
    assert versus["evolved"].item() == pytest.approx(raw[evolved[-80:]].mean())
