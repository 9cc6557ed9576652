"""What a person at a rig is told while it happens, and when it is told again."""

from __future__ import annotations

import io
import logging
import time

import numpy as np
import pytest

from closedloop.loop import notices
from closedloop.loop.health import Health
from closedloop.loop.progress import Meter
from closedloop.presentations import Answers, Spikes
from closedloop.recording.notes import read_notes
from tests.loop.test_answers import session
from tests.small_rig import SmallRig


def see(health, status=("ok",) * 10, gain=1.0, snr=(4.0, 4.0)):
    n = len(status)
    answers = Answers(status=list(status), quality={"snr": np.array(snr)})
    responses = gain * np.tile([10.0, 20.0], (n, 1))
    responses[np.array(status) != "ok"] = np.nan
    names = [f"r{i}" for i in range(n)]
    health.see(answers, responses, names, ["reference"] * n, ("u0", "u1"))


@pytest.fixture
def said():
    found = []
    health = Health(found.append)
    health.said = found
    return health


def test_nothing_is_said_while_all_is_well(said):
    for _ in range(10):
        see(said)
    assert said.said == []


def test_lost_trials_are_told_when_they_come_rise_and_go(said):
    bad, worse = ("ok",) * 7 + ("aborted",) * 3, ("ok",) * 2 + ("fixation_break",) * 8
    for status, times in ((bad, 5), (worse, 5), (("ok",) * 10, 5)):
        for _ in range(times):
            see(said, status)
    assert said.said[0] == "lost trials now 30 % (3 of the last 10: 3 aborted)"
    assert any("fixation breaks, " in text and text.endswith(" aborted)") for text in said.said)
    assert any(text.startswith(("lost trials now 8", "lost trials now 7")) for text in said.said)
    assert said.said[-1].startswith("lost trials now ")
    assert float(said.said[-1].split()[3]) < 10
    assert len(said.said) < 9


def test_of_a_share_of_lost_trials_that_stays_little_is_told():
    told = []
    for seed in range(20):
        rng, said = np.random.default_rng(seed), []
        health = Health(said.append)
        for _ in range(60):
            see(health, rng.choice(["ok", "aborted"], 10))
        told.append(len(said))
    assert np.median(told) <= 3  # half of them are lost all the time: what is told does not follow each whim of chance


@pytest.mark.parametrize(
    ("status", "first"),
    [
        ("dropped_frame", "dropped frames: 5 of the last 30 presentations; look at the monitor"),
        ("artifact", "artifacts: 5 of the last 30 presentations; look at cables, movement"),
    ],
)
def test_what_goes_wrong_with_the_equipment_is_told_while_it_is_seldom(said, status, first):
    see(said, (*("ok",) * 9, status))
    for lost in (2, 2, 0, 0, 0, 2, 2, 2, 2, 2):
        see(said, ("ok",) * (10 - lost) + (status,) * lost)
    for _ in range(10):
        see(said)
    told = [text for text in said.said if not text.startswith("lost trials")]
    assert told[0] == first
    assert all(len(f"Attention: {text}") <= 80 for text in told)  # a line of a terminal
    assert [text.partition(";")[0].rpartition(": ")[2] for text in told[1:]] == [
        "11 of the last 90 presentations",
        "0 of the last 100 presentations",
    ]
    assert [text.well for text in told] == [False, False, True]


def test_broken_fixations_are_no_fault_of_the_equipment(said):
    for _ in range(20):
        see(said, ("ok",) * 9 + ("fixation_break",))
    assert said.said == []


def test_drift_of_the_references(said):
    see(said)
    for gain in np.linspace(1, 0.7, 12):
        see(said, gain=gain)
    drifts = [text for text in said.said if "drift" in text]
    assert drifts[0].startswith("reference drift -")
    assert "%" in drifts[0]
    assert len(drifts) <= 4


@pytest.mark.parametrize(("gain", "told"), [(1.0, 0), (0.5, 1)])
def test_noise_of_few_spikes_is_no_drift(gain, told):
    alarmed = 0
    for seed in range(40):
        rng, said = np.random.default_rng(seed), []
        rates, health = rng.exponential(1.5, 80), Health(said.append)
        for block in range(20):
            which = np.arange(80) if block == 0 else rng.permutation(80)[:10]
            counts = rng.poisson((1.0 if block == 0 else gain) * 4 * rates[which])[:, None].astype(float)
            n = len(which)
            answers = Answers(status=["ok"] * n, quality={})
            health.see(answers, counts, [str(i) for i in which], ["reference"] * n, ("u",))
        alarmed += any("drift" in text for text in said)
    assert abs(alarmed - 40 * told) <= 4


def test_a_unit_that_fades_is_told_once_and_again_after_it_was_back(said):
    for snr in [(4, 4)] * 3 + [(4, 1.5)] * 3 + [(4, 4)] + [(4, 1)]:
        see(said, snr=snr)
    assert said.said == ["SNR of unit u1 fell from 4 to 1.5", "SNR of unit u1 fell from 4 to 1"]


def test_of_many_units_that_fade_at_once_the_worst_is_named(said):
    for snr in [(4, 4)] * 3 + [(1, 1.5)]:
        see(said, snr=snr)
    assert said.said == ["SNR of units u0, u1 fell, the worst, u0, from 4 to 1"]


def test_presentations_that_were_shown_a_second_time_are_told(said):
    answers = Answers(status=["ok"] * 4, attempt=np.array([1, 1, 2, 2]))
    said.see(answers, np.ones((4, 2)), list("abcd"), ["evolved"] * 4, ("u0", "u1"))
    assert said.said == ["the rig had died while it showed a block, and showed it again: 2 presentations are attempt 2"]


def blocks(health, counts, kinds="evolved", names=None):
    """Shows blocks of ten of these counts ``(n, units)``, with spikes."""
    for start in range(0, len(counts), 10):
        own = counts[start : start + 10]
        n = own.sum(axis=1).astype(int)
        offsets = np.concatenate([[0], np.cumsum(n)])
        spikes = Spikes(np.zeros(offsets[-1]), np.zeros(offsets[-1], np.int32), offsets)
        answers = Answers(status=["ok"] * len(own), spikes=spikes, attempt=np.ones(len(own), np.int32))
        which = ["x"] * len(own) if names is None else names[start : start + 10]
        health.see(answers, own.astype(float), which, [kinds] * len(own), tuple(f"u{i}" for i in range(own.shape[1])))


@pytest.mark.parametrize("mean", [0.3, 3.0, 20.0])
def test_a_unit_that_falls_silent_is_told_once_and_soon(said, mean):
    rng = np.random.default_rng(0)
    alive = rng.poisson(mean, (300, 3))
    blocks(said, alive)
    assert said.said == []
    dead = rng.poisson(mean, (120, 3))
    dead[:, 1] = 0
    blocks(said, dead)
    assert len(said.said) == 1
    assert said.said[0].startswith("unit u1: no spike in the last ")
    blocks(said, rng.poisson(mean, (100, 3)))  # it fires again, and may fall silent again
    blocks(said, dead)
    assert said.said[1:] == ["unit u1: spikes again", said.said[2]]
    assert said.said[2].startswith("unit u1: no spike")


def references(rng, shown, tuning, swap=False):
    """Draws counts of shown references, of units with a tuning each."""
    counts = rng.poisson(tuning[shown])
    return counts[:, [1, 0, *range(2, counts.shape[1])]] if swap else counts


@pytest.mark.parametrize("swap", [False, True])
def test_units_that_change_places_are_told(swap):
    told = 0
    for seed in range(20):
        rng, said = np.random.default_rng(seed), []
        health, tuning = Health(said.append), rng.exponential(10, (60, 4))
        survey = np.arange(60)
        blocks(health, references(rng, survey, tuning), "reference", [str(i) for i in survey])
        for _ in range(15):
            which = rng.permutation(60)[:10]
            blocks(health, references(rng, which, tuning, swap), "reference", [str(i) for i in which])
        told += any(text.startswith("units u0 and u1 may have changed places") for text in said)
        assert not [text for text in said if "places" in text and "u0 and u1" not in text]
    assert told == (20 if swap else 0)


def test_notices_go_to_who_listens_else_to_the_log(caplog):
    heard = []
    with caplog.at_level(logging.WARNING, "closedloop"):
        notices.notice("alone")
        notices.listen(heard.append)
        notices.notice("heard")
        notices.leave(heard.append)
    assert heard == ["heard"]
    assert [record.getMessage() for record in caplog.records] == ["alone"]


def test_a_meter_prints_them(monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr("closedloop.loop.progress.stream", lambda: out)
    with Meter("evolving", 10) as meter:
        meter.move(3)
        notices.notice("rig silent for 12 s")
    notices.notice("after it")
    lines = out.getvalue().splitlines()
    assert lines[1] == "Attention: rig silent for 12 s"
    assert "after it" not in out.getvalue()


def test_a_session_at_a_rig_that_loses_trials_says_so(monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr("closedloop.loop.progress.stream", lambda: out)
    session(SmallRig(lost=0.4), progress=True).run()
    assert "Attention: lost trials now" in out.getvalue()


def test_what_is_said_is_kept_with_the_run_and_with_no_other(tmp_path):
    session(SmallRig(lost=0.4), save=tmp_path / "run", progress=False).run()
    found = read_notes(tmp_path / "run")
    assert found[0].text.startswith("lost trials now")
    assert found[0].about == "lost trials"
    assert not found[0].well
    assert abs(found[0].at_s - time.time()) < 60
    notices.notice("after it")
    assert read_notes(tmp_path / "run") == found
    session(SmallRig(lost=0.0), save=tmp_path / "well", progress=False).run()
    assert [entry.name for entry in (tmp_path / "well").iterdir() if entry.name.startswith("NOTICES")] == []


def test_a_notice_that_cannot_be_kept_ends_no_run(tmp_path, monkeypatch):
    def full(run, entry):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("closedloop.recording.writer.add_note", full)
    assert session(SmallRig(lost=0.4), save=tmp_path / "run", progress=False).run().sizes["presentation"]


def test_what_is_over_says_so(said):
    see(said, ("ok",) * 7 + ("aborted",) * 3)
    for _ in range(5):
        see(said)
    see(said, gain=0.5)
    assert [(text.about, text.well) for text in said.said[:2]] == [("lost trials", False), ("lost trials", True)]
    assert {text.about for text in said.said[2:]} <= {"drift"}
