"""A rig without an animal: spikes in time, and what drifts, dies, moves and adapts."""

from __future__ import annotations

import numpy as np
import pytest

from closedloop.rigs.faults import parse_faults
from closedloop.rigs.simulated import SimulatedRig
from closedloop.rigs.spiking import Course, Firing
from closedloop.subjects import FunctionSubject, GaborSubject, MotionEnergySubject

WINDOW = (0.05, 0.2)
SPAN = (-0.1, 0.4)


def fire(responses, course=None, spikes=10.0, on_s=0.1, units=None, seed=0):
    responses = np.asarray(responses, float)
    firing = Firing(responses.shape[1], WINDOW, np.array([spikes]), course, seed)
    return firing, firing.fire(responses, on_s, SPAN, np.ones(responses.shape))


def test_the_expected_count_in_the_window_is_what_a_response_says():
    responses = np.repeat(np.array([[0.0, 0.5, 2.0]]), 3000, axis=0)
    _, spikes = fire(responses, Course(coarse=0.0, baseline_hz=4.0, latency_spread_s=0.0))
    counts = spikes.counts(WINDOW, 3)[..., 0]
    expected = 10 * responses[0] + 4.0 * 0.15
    np.testing.assert_allclose(counts.mean(0), expected, atol=5 * np.sqrt(expected.max() / 3000))
    np.testing.assert_allclose(counts.var(0), expected, rtol=0.15)


def test_a_response_begins_at_its_latency_with_a_transient_and_ends_after_the_image():
    course = Course(latency_s=0.08, latency_spread_s=0.0, baseline_hz=2.0, coarse=0.0)
    _, spikes = fire(np.ones((4000, 1)), course)
    rate = spikes.counts(np.arange(-0.1, 0.401, 0.02), 1)[:, 0].mean(0) / 0.02
    times = np.arange(-0.1, 0.4, 0.02)
    before, first, later, after = (rate[np.argmin(abs(times - t))] for t in (0.02, 0.08, 0.16, 0.36))
    assert before == pytest.approx(2.0, abs=0.6)
    assert first > 2 * later > 10
    assert after == pytest.approx(2.0, abs=2.0)
    longer = fire(np.ones((1000, 1)), course, on_s=0.3)[1].counts((0.25, 0.35), 1).mean()
    assert longer > 2 * spikes.counts((0.25, 0.35), 1).mean()


def test_the_transient_tells_images_apart_less_than_what_follows():
    drive = np.tile([[0.2], [1.8]], (3000, 1))
    _, spikes = fire(drive, Course(coarse=0.8, latency_spread_s=0.0, baseline_hz=0.0))
    early, late = (spikes.counts(window, 1)[:, 0, 0] for window in ((0.06, 0.08), (0.13, 0.16)))

    def selectivity(counts):
        weak, strong = counts[::2].mean(), counts[1::2].mean()
        return (strong - weak) / (strong + weak)

    assert selectivity(early) < 0.6 * selectivity(late)


def test_what_is_shown_later_does_not_change_the_answer_to_an_image():
    """The transient is drawn to the mean of the first images, and not to that of the last ones, which evolve."""
    firing, first = fire(np.ones((300, 1)), Course(coarse=0.8, latency_spread_s=0.0))
    for _ in range(5):
        firing.fire(np.full((200, 1), 8.0), 0.1, SPAN, np.ones((200, 1)))
    again = firing.fire(np.ones((300, 1)), 0.1, SPAN, np.ones((300, 1)))
    then, now = (spikes.counts(WINDOW, 1).mean() for spikes in (first, again))
    assert now == pytest.approx(then, abs=4 * np.sqrt(2 * then / 300))


def test_a_firing_that_is_restored_goes_on_alike():
    one, _ = fire(np.ones((30, 2)), units=2)
    state = one.state()
    other = Firing(2, WINDOW, np.array([10.0]))
    other.restore(state)
    later = np.full((100, 2), 2.0)
    a, b = (f.fire(later, 0.1, SPAN, np.ones((100, 2))) for f in (one, other))
    np.testing.assert_array_equal(a.time_s, b.time_s)


def test_latencies_differ_between_units_and_are_those_of_the_seed():
    one, two, other = (Firing(20, WINDOW, np.ones(20), seed=seed).latency_s for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert np.std(one) == pytest.approx(0.01, rel=0.5)
    assert not np.array_equal(one, other)


def test_spikes_lie_in_the_span_in_order():
    _, spikes = fire(np.ones((50, 3)), spikes=30.0)
    assert spikes.time_s.min() >= SPAN[0]
    assert spikes.time_s.max() <= SPAN[1]
    inside = np.diff(spikes.presentation) == 0
    assert (np.diff(spikes.time_s)[inside] >= 0).all()


def show(rig, values, times=1, k=1):
    """Shows uniform images of these 8-bit values, in their order, so many times; counts or spikes of each trial."""
    pixels = [np.full((8, 8, 3), value, np.uint8) for value in sorted(set(values))]
    order = [sorted(set(values)).index(value) for value in values] * times
    trials = [{"trial": f"{k}-{i}", "image": image} for i, image in enumerate(order)]
    timing = {"show": {"on_s": 0.1, "off_s": 0.1}, "window_s": [0.05, 0.2], "baseline_s": [-0.1, 0.0]}
    return rig.show({"session": "s", "seq": k, "trials": trials, **timing}, pixels, 1, lambda *_: None)


def counts(answer):
    return np.array([trial["counts"] for trial in answer["trials"]])


def three_units(images):
    grey = images.mean(axis=(1, 2, 3))
    return np.stack([1 + grey, 2 + grey, 3 + grey], axis=1)


def rig(*faults, seed=0):
    return SimulatedRig(FunctionSubject(three_units, 3, name="three"), None, parse_faults(faults), seed)


def test_without_faults_it_answers_as_its_subject():
    answer = show(rig(), [0, 51, 102])
    grey = np.array([0, 0.2, 0.4])[:, None, None, None] * np.ones((1, 3, 2, 2))
    np.testing.assert_allclose(counts(answer), three_units(grey), atol=1e-6)
    onsets = [trial["onset_s"] for trial in answer["trials"]]
    np.testing.assert_allclose(np.diff(onsets), 0.2, atol=0.001)


def test_drift_changes_all_units_slowly():
    found = counts(show(rig("drift:-0.5:100"), [51], times=101))
    np.testing.assert_allclose(found[100] / found[0], 0.5, atol=1e-6)
    assert (np.diff(found, axis=0) < 0).all()


def test_a_unit_dies():
    found = counts(show(rig("dead:1:30"), [51], times=60))
    assert (found[:30, 1] > 0).all()
    assert (found[30:, 1] == 0).all()
    assert (found[:, [0, 2]] > 0).all()


def test_an_electrode_swaps_two_units_at_a_presentation():
    moving = rig("swap:0:2:20")
    found = np.concatenate([counts(show(moving, [51], times=10)), counts(show(moving, [51], times=20, k=2))])
    np.testing.assert_array_equal(found[:20], np.repeat(found[:1], 20, axis=0))
    np.testing.assert_array_equal(found[20:, [2, 1, 0]], np.repeat(found[:1], 10, axis=0))


def test_spikes_swap_as_counts_do():
    def strong(images):
        return np.tile([5.0, 1.0, 0.0], (len(images), 1))

    firing = Firing(3, WINDOW, np.ones(3), Course(baseline_hz=0.0, coarse=0.0))
    moving = SimulatedRig(FunctionSubject(strong, 3, name="strong"), firing, parse_faults(["swap:0:2:50"]), 0)
    units = [set(trial["spike_unit"]) for trial in show(moving, [51], times=100)["trials"]]
    assert set().union(*units[:50]) == {0, 1}
    assert set().union(*units[50:]) == {1, 2}


def test_an_image_that_was_seen_is_answered_less():
    found = counts(show(rig("adaptation:0.3"), [51, 51, 51, 102]))
    assert found[0, 0] > found[1, 0] > found[2, 0]
    assert found[1, 0] / found[0, 0] == pytest.approx(0.7, abs=0.02)
    np.testing.assert_allclose(found[3], counts(show(rig(), [102]))[0])


def test_a_task_that_is_aborted_takes_its_rest_along():
    statuses = [trial["status"] for trial in show(rig("aborted:1"), [51], times=40)["trials"]]
    for start in range(0, 40, 10):
        own = statuses[start : start + 10]
        at = own.index("aborted")
        assert set(own[:at]) <= {"ok"}
        assert set(own[at + 1 :]) <= {"not_shown"}


def test_quality_tells_of_a_unit_that_dies():
    firing = Firing(3, WINDOW, np.full(3, 5.0))
    dying = SimulatedRig(FunctionSubject(three_units, 3, name="three"), firing, parse_faults(["dead:1:250"]), 0)
    first = show(dying, [51], times=200)["quality"]["three.1"]["snr"]
    last = show(dying, [51], times=250, k=2)["quality"]["three.1"]["snr"]
    assert last < 0.6 * first


def test_quality_tells_spikes_in_a_second():
    firing = Firing(3, WINDOW, np.zeros(3), Course(baseline_hz=20.0))
    said = show(SimulatedRig(FunctionSubject(three_units, 3, name="three"), firing), [51], times=200)["quality"]
    assert [said[f"three.{i}"]["rate_hz"] for i in range(3)] == pytest.approx([20.0] * 3, rel=0.1)
    counted = show(rig(), [51], times=2)["quality"]["three.0"]["rate_hz"]
    assert counted == pytest.approx(1.2 / 0.15, rel=1e-3)


def test_the_subject_gets_its_own_size_and_form():
    for subject in (GaborSubject(resolution=16), MotionEnergySubject(resolution=16)):
        assert len(show(SimulatedRig(subject), [0, 200])["trials"]) == 2
