"""Spikes into trials: what is lost is lost, what is doubtful too, and no spike is that of another image."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from closedloop.errors import InvalidArgumentError
from closedloop.loop import notices
from closedloop.rigs import tape as tape_module
from closedloop.rigs.collecting import Collector, Flip, RecordedRig
from closedloop.rigs.server import answered
from closedloop.rigs.tape import Tape
from closedloop.subjects import RigSubject
from tests.recording_systems import RATE, name_of, session
from tests.running_rigs import IMAGES, address, marked, running  # noqa: F401 - fixtures

UNITS = [{"id": f"u{unit}", "electrode": name_of(unit)} for unit in range(3)]


class Played:
    """A recording system whose tape a test writes."""

    def __init__(self):
        self.tape = Tape()

    def play(self, pulses_s, spikes, until_s=None):
        found = [(float(t), None) for t in pulses_s] + [(sample / RATE, unit) for sample, unit in spikes]
        for t, unit in sorted(found, key=lambda entry: entry[0]):
            if unit is None:
                self.tape.pulse(t)
            else:
                self.tape.spike((name_of(unit), 1), t)
        self.tape.now(found[-1][0] + 1.0 if until_s is None else until_s)

    def close(self):
        pass


def block(n):
    trials = [{"trial": f"000001-{i:04d}", "image": i} for i in range(n)]
    return {"seq": 1, "trials": trials, "window_s": [0.05, 0.2], "baseline_s": [-0.05, 0.0], "bins_s": None}


def collected(onset, spikes, there=None, extra=(), flips=None, options=None, prepare=None):
    source, told = Played(), []
    there = np.ones(len(onset), bool) if there is None else there
    collector = Collector(source, UNITS, **{"wait_s": 0.01, "same_clock": False, **(options or {})})
    source.play(np.concatenate([onset[there], extra]), spikes)
    if prepare:
        prepare(source.tape)
    notices.listen(told.append)
    try:
        flips = [Flip("ok", t - 100.0) for t in onset.tolist()] if flips is None else flips
        answer = collector.answer(block(len(onset)), flips)
    finally:
        notices.leave(told.append)
    return answer["trials"], answer, collector, told


def numbers_of(trials):
    """The images that the spikes of each trial tell, by all three units; −1 where it has none."""
    found = []
    for trial in trials:
        said = {
            round((t - 0.06) * 1000) - 1
            for t in trial.get("spike_s", [])
            if 0.055 < t < 0.14  # before those of the next image
        }
        assert len(said) <= 1
        found.append(said.pop() if said else -1)
    return found


def test_every_image_gets_its_own_spikes():
    onset, spikes = session(jitter_s=0.02)
    trials, answer, collector, told = collected(onset, spikes)
    assert numbers_of(trials) == list(range(20))
    assert [trial["onset_s"] for trial in trials] == [round(t, 6) for t in onset.tolist()]
    assert {trial["onset_source"] for trial in trials} == {"ttl"}
    assert {trial["status"] for trial in trials} == {"ok"}
    assert told == []
    report = collector.report
    assert (report.images, report.pulses, report.matched, report.extra, report.lost) == (20, 20, 20, 0, 0)
    assert report.strangers == 80
    assert answer["collected"]["offset_s"] == pytest.approx(100, abs=0.001)
    assert sorted(trials[3]["spike_unit"])[-1] == 2
    assert set(answer["quality"]) == {"u0", "u1", "u2"}
    assert answer["quality"]["u1"]["rate_hz"] > 0


def test_a_mismatch_is_resolved_by_time_and_said():
    onset, spikes = session(jitter_s=0.02)
    there = np.ones(20, bool)
    there[[0, 7, 8, 19]] = False
    trials, answer, _, told = collected(onset, spikes, there, extra=[onset[4] + 0.11])
    assert numbers_of(trials) == list(range(20))
    assert [trial["onset_source"] == "flip" for trial in trials] == (~there).tolist()
    np.testing.assert_allclose([trial["onset_s"] for trial in trials], onset, atol=0.004)
    assert told == [
        "block 1: 17 pulses for 20 images: by their times 16 belong together, 4 are missing and 1 belong to no image"
    ]
    assert answer["collected"]["extra"] == 1


def test_an_image_that_the_photodiode_did_not_see_is_lost():
    onset, spikes = session(jitter_s=0.02)
    there = np.arange(20) != 5
    trials, *_ = collected(onset, spikes, there, options={"onsets": "photodiode"})
    assert [trial["status"] for trial in trials] == ["dropped_frame" if i == 5 else "ok" for i in range(20)]
    assert {trial["onset_source"] for i, trial in enumerate(trials) if i != 5} == {"photodiode"}


def test_what_fits_in_two_ways_is_lost_and_not_guessed():
    onset, spikes = session()  # at regular times, and the clocks of both are strangers
    trials, answer, _, told = collected(onset, spikes, np.arange(20) != 0)
    assert {trial["status"] for trial in trials} == {"artifact"}
    assert not any("spike_s" in trial for trial in trials)
    assert "fit in more than one way; these trials count as lost" in told[0]
    assert answer["collected"]["certain"] is False


@pytest.mark.parametrize("gone", [[0], [19], [0, 1, 19], [3, 4]])
def test_the_clock_of_the_computer_tells_regular_ones_apart(gone, monkeypatch):
    """Messages come 20 to 60 ms late."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(tape_module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    onset, spikes = session()
    there = ~np.isin(np.arange(20), gone)
    source = Played()
    collector = Collector(source, UNITS, wait_s=0.01)
    rng = np.random.default_rng(0)
    events = [(t, None) for t in onset[there]] + [(sample / RATE, unit) for sample, unit in spikes]
    for t, unit in sorted(events, key=lambda entry: entry[0]):
        clock.now = t - 100.0 + rng.uniform(0.02, 0.06)
        source.tape.pulse(t) if unit is None else source.tape.spike((name_of(unit), 1), t)
    clock.now += 1.0
    source.tape.now(onset[-1] + 1.0 - 0.02)
    answer = collector.answer(block(20), [Flip("ok", t - 100.0) for t in onset.tolist()])
    assert numbers_of(answer["trials"]) == list(range(20))
    assert answer["collected"]["matched"] == there.sum()


def test_what_was_lost_takes_the_trials_near_it_along():
    onset, spikes = session(jitter_s=0.02)

    def prepare(tape):
        tape._gaps.append([onset[6] + 0.1, onset[6] + 0.11])

    trials, answer, collector, _ = collected(onset, spikes, prepare=prepare)
    status = [trial["status"] for trial in trials]
    assert status[6] == "artifact"
    assert set(status[:5] + status[8:]) == {"ok"}
    assert collector.report.lost == answer["collected"]["lost"] >= 1


def test_a_recording_that_ends_too_early_loses_the_last_trials():
    onset, spikes = session(jitter_s=0.02)
    source = Played()
    collector = Collector(source, UNITS, wait_s=0.01, same_clock=False)
    until = onset[15] + 0.1
    source.play(onset[onset < until], [s for s in spikes if s[0] / RATE < until], until)
    trials = collector.answer(block(20), [Flip("ok", t) for t in onset.tolist()])["trials"]
    assert [trial["status"] for trial in trials] == ["ok"] * 15 + ["artifact"] * 5


def test_what_the_program_says_stays():
    onset, spikes = session(jitter_s=0.02)
    flips = [Flip("ok", float(t)) for t in onset]
    flips[2], flips[3], flips[4] = Flip("fixation_break", float(onset[2])), Flip("not_shown", None), Flip("ok", None)
    trials, *_ = collected(onset, spikes, np.arange(20) != 3, flips=flips)
    assert [trial["status"] for trial in trials[:6]] == [
        *("ok", "ok", "fixation_break", "not_shown", "not_shown", "ok"),
    ]
    assert "onset_s" not in trials[3]
    assert numbers_of(trials) == [-1 if i in (3, 4) else i for i in range(20)]


def test_later_blocks_know_the_clock_and_find_it_again_when_it_moves():
    source, told = Played(), []
    collector = Collector(source, UNITS, wait_s=0.01, same_clock=False)
    onset, spikes = session(jitter_s=0.02)
    source.play(onset, spikes)
    collector.answer(block(20), [Flip("ok", t - 100.0) for t in onset.tolist()])
    notices.listen(told.append)
    try:
        second, spikes = session(first_s=20.0, seed=1)  # regular ones, of which the first is missing
        collector.begin()
        source.play(second[1:], spikes)
        answer = collector.answer(block(20), [Flip("ok", t - 100.0) for t in second.tolist()])
        assert numbers_of(answer["trials"]) == list(range(20))
        third, spikes = session(first_s=40.0, seed=2, jitter_s=0.02)  # the program was begun anew
        collector.begin()
        source.play(third, spikes)
        answer = collector.answer(block(20), [Flip("ok", t - 37.5) for t in third.tolist()])
        assert numbers_of(answer["trials"]) == list(range(20))
    finally:
        notices.leave(told.append)
    assert any("the clock of the recording has moved by -62.500 s" in text for text in told)


def test_no_pulse_at_all():
    onset, spikes = session(jitter_s=0.02)
    trials, _, _, told = collected(onset, spikes, np.zeros(20, bool))
    assert {trial["status"] for trial in trials} == {"artifact"}
    assert "0 pulses for 20 images" in told[0]
    source = Played()
    collector = Collector(source, UNITS, wait_s=0.01, same_clock=False)
    trials = collector.answer(block(2), [Flip("ok", 1.0), Flip("ok", 2.0)])["trials"]
    assert trials == [answered("000001-0000", "artifact"), answered("000001-0001", "artifact")]


def test_a_recording_that_begins_anew_is_another_clock():
    tape = Tape()
    tape.spike(("a", 1), 100.0)
    tape.lost(stream="x")
    tape.spike(("b", 1), 2.0)
    taken = tape.taken()
    assert taken.spike_key == [("b", 1)]
    assert tape.restarts == 1
    np.testing.assert_array_equal(taken.gaps_s, [[-np.inf, 2.0]])


def test_a_gap_ends_with_what_comes_next_of_the_same_stream():
    tape = Tape()
    tape.now(1.0, "one")
    tape.now(1.5, "two")
    tape.lost(3, "one")
    tape.lost(1, "one")
    tape.now(2.0, "two")
    np.testing.assert_array_equal(tape.taken().gaps_s, [[1.0, np.inf]])
    tape.now(2.5, "one")
    np.testing.assert_array_equal(tape.taken().gaps_s, [[1.0, 2.5]])
    assert tape.damaged == 4


def test_bounces_are_one_pulse_and_artifacts_no_spikes():
    onset, spikes = session(jitter_s=0.02)
    source = Played()
    collector = Collector(source, UNITS, wait_s=0.01, same_clock=False, artifacts=[128])
    source.tape.pulse(1.0)
    source.tape.spike(("A-000", 128), onset[2] + 0.1)
    source.play(np.sort(np.concatenate([onset, onset + 0.002])), spikes)
    answer = collector.answer(block(20), [Flip("ok", float(t)) for t in onset])
    assert answer["collected"]["pulses"] == 21
    assert answer["collected"]["matched"] == 20
    assert not any(abs(t - 0.1) < 0.004 for t in answer["trials"][2]["spike_s"])


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_units_by_their_sorted_number(order):
    """A spike is of the unit with its number, and else of the rest, wherever that stands."""
    source = Played()
    known = [
        {"id": "a", "electrode": "A-000", "sorted_id": 2},
        {"id": "b", "electrode": "A-000", "sorted_id": 1},
        {"id": "rest", "electrode": "A-000"},
    ]
    collector = Collector(source, [known[i] for i in order], wait_s=0.01, same_clock=False)
    source.tape.pulse(1.0)
    for number in (1, 2, 4):
        source.tape.spike(("A-000", number), 1.0 + number / 100)
    source.tape.now(5.0)
    (trial,) = collector.answer(block(1), [Flip("ok", 0.0)])["trials"]
    found = [known[order[unit]]["id"] for unit in trial["spike_unit"]]
    assert list(zip(trial["spike_s"], found, strict=True)) == [(0.01, "b"), (0.02, "a"), (0.04, "rest")]


def test_what_comes_between_blocks_is_soon_forgotten():
    """A rig waits for hours, and its recording goes on."""
    source = Played()
    collector = Collector(source, UNITS, wait_s=0.01, same_clock=False)

    class Late:
        def show(self, block, images, attempt, tell):
            spikes = len(source.tape.taken().spike_key)
            for k in range(400):  # a long block is kept
                source.tape.spike(("A-000", 1), 1000.0 + k / 10)
            assert len(source.tape.taken().spike_key) == spikes + 400
            return [Flip("not_shown", None) for _ in block["trials"]]

    recorded = RecordedRig(Late(), collector)
    for _ in range(2):
        for k in range(9000):
            source.tape.spike(("A-000", 1), 100.0 + k / 10)
            assert len(source.tape._spikes) <= 101
        assert len(source.tape._spikes) >= 49
        source.tape.pulse(999.9)
        recorded.show(block(3), [], 1, print)
        source.tape.spike(("A-000", 1), 50.0)  # the recording is begun anew


def test_a_recording_system_that_says_nothing_is_told_to_the_experiment(running, address):  # noqa: F811 - fixtures
    class Silent:
        def show(self, block, images, attempt, tell):
            return [Flip("ok", 1.0 + i) for i in range(len(block["trials"]))]

    collector = Collector(Played(), UNITS, wait_s=0.01, same_clock=False)
    rig, told = running(RecordedRig(Silent(), collector), address), []
    subject = RigSubject(rig.address, resolution=12, on_s=0.001, off_s=0.0, patience_s=2.0)
    notices.listen(told.append)
    try:
        assert np.isnan(subject.record(marked([1, 2]))).all()
    finally:
        notices.leave(told.append)
        subject.close()
    said = "nothing came from the recording system while 2 images were shown; is it recording?"
    assert f"block 1 at the rig: {said}" in told


class Showing:
    """A program that shows images at irregular times, while the recording goes on."""

    def __init__(self, source):
        self.source, self.rng, self.clock = source, np.random.default_rng(5), 10.0

    def show(self, block, images, attempt, tell):
        flips = []
        for trial in block["trials"]:
            self.clock = round(self.clock + 0.2 + 0.05 * self.rng.random(), 4)
            if self.rng.random() > 0.1:
                self.source.tape.pulse(self.clock)
            number = int(images[trial["image"]][0, 0, 0])
            for k in range(3):
                for j in range((number + 1, 1, number)[k] if k != 2 else 2):
                    self.source.tape.spike((name_of(k), 1), self.clock + 0.06 + 0.0003 * j)
            flips.append(Flip("ok", self.clock - 3.0))
        self.source.tape.now(self.clock + 1.0)
        self.clock += 2.0
        return flips


def test_a_rig_with_a_recording_system_over_each_way(running, address):  # noqa: F811 - fixtures
    source = Played()
    collector = Collector(source, UNITS, wait_s=0.05, same_clock=False)
    rig = running(RecordedRig(Showing(source), collector, {"rig_id": "room 3"}), address)
    subject = RigSubject(rig.address, resolution=12, on_s=0.001, off_s=0.0, patience_s=2.0)
    assert subject.name == "rig-room 3"
    assert subject.units.neuroid_id == ("u0", "u1", "u2")
    for seed in range(2):
        numbers = np.random.default_rng(seed).permutation(IMAGES)[:15]
        responses = subject.record(marked(numbers))
        np.testing.assert_array_equal(responses[:, 0], numbers + 1)
    subject.close()


@pytest.mark.parametrize(
    ("units", "options", "message"),
    [
        (UNITS, {"onsets": "sound"}, "onsets: expected 'ttl' or 'photodiode', got 'sound'"),
        (UNITS, {"missing": "guess"}, "missing: expected 'flip', 'lost' or None, got 'guess'"),
        ([], {}, "units: expected of each unit an id and the electrode's name"),
        ([{"id": "a"}], {}, "units: expected of each unit an id and the electrode's name"),
        ([UNITS[0], UNITS[0]], {}, "units: expected different ids"),
        ([UNITS[0], {**UNITS[0], "id": "x"}], {}, "units: expected each electrode and sorted_id once"),
        ([{**UNITS[0], "sorted_id": "1"}], {}, "units: expected whole numbers as sorted_id"),
        (UNITS, {"tolerance_s": 0}, "tolerance_s: expected a finite number above 0"),
    ],
)
def test_bad_arguments(units, options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        Collector(Played(), units, **options)


def test_a_program_that_says_too_little():
    collector = Collector(Played(), UNITS)
    with pytest.raises(ValueError, match="shown: expected of each of 2 trials a Flip"):
        collector.answer(block(2), [Flip("ok", 1.0)])
    with pytest.raises(ValueError, match="shown: expected of each of 1 trials a Flip"):
        collector.answer(block(1), [Flip("fine", 1.0)])


@pytest.mark.parametrize("time_s", [float("nan"), float("inf"), 6.5])
def test_an_image_without_a_time_of_its_own_is_lost_alone(time_s):
    """The program forgot to note a flip, or noted that of another image: no spikes are those of two images."""
    onset, spikes = session(jitter_s=0.02)
    flips = [Flip("ok", t - 100.0) for t in onset.tolist()]
    same = [3, 4] if np.isfinite(time_s) and time_s == 6.5 else [3]
    flips[3] = Flip("ok", flips[4].flip_s if len(same) == 2 else time_s)
    trials, _, _, told = collected(onset, spikes, flips=flips)
    assert [i for i, trial in enumerate(trials) if trial["status"] == "artifact"] == same
    expected = [-1 if i in same else i for i in range(20)]
    assert numbers_of(trials) == expected
    assert f"the program says no time of its own for {len(same)} images" in told[0]


def test_a_program_that_says_one_time_for_all_images_brings_no_good_trial():
    onset, spikes = session(jitter_s=0.02)
    trials, *_ = collected(onset, spikes, flips=[Flip("ok", 5.0)] * 20)
    assert {trial["status"] for trial in trials} == {"artifact"}


@pytest.mark.parametrize("shown", [None, [("ok", 1.0)] * 20, [Flip(None, 1.0)] * 20, [Flip("ok", "1")] * 20, []])
def test_what_a_program_cannot_mean_is_refused(shown):
    onset, spikes = session(jitter_s=0.02)
    source = Played()
    source.play(onset, spikes)
    with pytest.raises(InvalidArgumentError, match="shown: expected of each of 20 trials a Flip, with a status of ok"):
        Collector(source, UNITS, wait_s=0.01).answer(block(20), shown)
