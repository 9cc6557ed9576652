"""A rig as a subject: blocks over a folder and over ZeroMQ, exactly once, matched by name."""

from __future__ import annotations

import json
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from closedloop import CMAES, Session, Thread, Unit, open_recording
from closedloop.errors import (
    InvalidArgumentError,
    RecordingError,
    RigError,
    SubjectError,
    SubjectTimeoutError,
    UnknownNameError,
)
from closedloop.generators import Fourier
from closedloop.interfaces import Presenting
from closedloop.loop import notices
from closedloop.protocols import present, resume
from closedloop.protocols.probing import px_per_deg_of
from closedloop.rigs import client
from closedloop.rigs.reading import read_answer, units_of_welcome
from closedloop.rigs.simulated import SimulatedRig
from closedloop.rigs.spiking import Firing
from closedloop.subjects import GaborSubject, Lossy, Repeated, RigSubject, load_subject
from closedloop.testing import SubjectContract
from tests.running_rigs import Running, Scripted, blank, marked, number_of, telling
from tests.small_rig import SmallRig

OPTIONS = {"resolution": 12, "patience_s": 2.0, "connect_s": 5.0}


class TestRig(SubjectContract):
    noisy = True
    resolution = 16

    @pytest.fixture(autouse=True)
    def _rig(self, tmp_path):
        shows = SimulatedRig(GaborSubject(resolution=16))
        self.running = Running(shows, f"folder:{tmp_path / 'exchange'}", tmp_path / "journal")
        yield
        self.running.stop()

    def make(self):
        return RigSubject(self.running.address, resolution=16)

    def test_restored_state_continues_identically(self):
        pytest.skip("its state is the number of its blocks: what was asked is answered from the journal")

    def test_empty_batch(self):
        assert self.make().record(self.images(0)).shape == (0, 1)


def test_blocks_are_shown_and_matched(address, running):
    rig = running(SimulatedRig(telling()), address)
    subject = RigSubject(rig.address, **OPTIONS)
    assert subject.name == "rig-simulated-telling"
    assert subject.units.neuroid_id == ("telling.0", "telling.1", "telling.2", "telling.3")
    numbers = np.random.default_rng(0).permutation(40)
    np.testing.assert_array_equal(number_of(subject.record(marked(numbers))), numbers)
    assert [entry[1] for entry in rig.stop()] == [1]


def test_it_says_how_large_its_images_are_to_the_eye(address, running):
    rig = running(SimulatedRig(telling()), address)
    assert RigSubject(rig.address, **OPTIONS).px_per_deg == 32.0  # of the simulated screen
    wide = RigSubject(rig.address, size_deg=4.0, **OPTIONS)
    assert (wide.px_per_deg, wide.width_deg) == (3.0, 4.0)
    assert px_per_deg_of(wide, 48) == 12.0  # as large to the eye with more pixels
    assert px_per_deg_of(RigSubject(rig.address, **OPTIONS), 48) == 32.0  # a pixel on a pixel


def test_a_session_at_a_rig(address, running, tmp_path):
    gabor = GaborSubject(resolution=12)
    rig = running(SimulatedRig(gabor, Firing(1, (0.05, 0.2), np.array([20.0])), {"lost": {"rate": 0.1}}), address)
    subject = load_subject(f"rig:{rig.address}", **OPTIONS)
    space = Fourier(12, 2)
    threads = [Thread(space, CMAES(space.space, seed=1, population=6), Unit(0), "main")]
    settings = {"images": 24, "interleave": 2, "retest_candidates": 1, "retest_repeats": 2, "progress": False}
    ds = Session(subject, threads, references=marked(range(4)), save=tmp_path / "run", **settings).run()
    assert set(ds.status.values) == {"ok", "not_shown"}
    assert set(ds.onset_source.values[(ds.status == "ok").values]) == {"photodiode"}
    assert ds.sizes["spike"] > 0
    assert not np.isnan(ds.unit_snr.values[-1]).any()
    blocks = rig.stop()
    assert [entry[1] for entry in blocks] == list(range(1, len(blocks) + 1))
    assert ds.sizes["presentation"] == len(set(ds.trial_id.values))
    assert open_recording(tmp_path / "run").attrs["experiment"].count(rig.address) == 1


def test_noise_around_a_rig_leaves_what_it_says():
    rig = SmallRig(lost=0.2)
    lossy = Lossy(rig, rate=0.5, seed=1)
    assert isinstance(lossy, Presenting)
    ds = present(
        lossy, np.random.default_rng(0).random((8, 3, 12, 12), np.float32), resolution=12, retries=0, repeats=4
    )
    ok, lost = (ds.status == "ok").values, np.isnan(ds.responses).all("neuroid").values
    assert lost[~ok].all()
    assert 0.2 < lost[ok].mean() < 0.8
    assert ds.sizes["spike"] > 0
    with pytest.raises(InvalidArgumentError, match="repeated: 'small-rig' is a rig"):
        Repeated(rig)


def test_a_finished_run_is_resumed_by_its_name(running, tmp_path):
    rig = running(SimulatedRig(telling()), f"folder:{tmp_path / 'exchange'}")
    subject = load_subject(f"rig:{rig.address}", **OPTIONS)
    present(subject, marked(range(4)), save=tmp_path / "run", progress=False)
    assert resume(tmp_path / "run").sizes["presentation"] == 4


def test_each_run_has_a_session_of_its_own_and_what_the_rig_said(running, tmp_path):
    rig = running(SimulatedRig(telling()), f"folder:{tmp_path / 'exchange'}")
    subject = RigSubject(rig.address, **OPTIONS)
    for name in ("one", "two"):
        present(subject, marked(range(4)), save=tmp_path / name, progress=False)
    shown = rig.stop()
    assert [entry[1] for entry in shown] == [1, 1]
    assert len({entry[0] for entry in shown}) == 2
    said = json.loads((tmp_path / "two" / "rig.json").read_text())
    assert said["screen"]["gamma"] == "linear: simulated"
    assert [unit["id"] for unit in said["units"]] == list(subject.units.neuroid_id)


def test_what_cannot_be_sent_now_is_sent_again(caplog):
    way = Scripted(lambda sent, count: [blank("welcome", units=[{"id": "a"}, {"id": "b"}], encoding="png")])
    subject = RigSubject(way, resolution=12, patience_s=0.02, on_s=0.001, off_s=0.0)
    tries = []

    def send(sent):
        tries.append(sent)
        if len(tries) < 3:
            raise OSError(112, "Host is down")
        way.waiting.append(answer_to(sent))

    way.send = send
    np.testing.assert_array_equal(subject.record(marked(range(3)))[:, 0], range(3))
    assert len(tries) == 3
    assert "the rig cannot be reached: Host is down" in caplog.text


def test_large_blocks_go_in_parts(address, running):
    class Small:
        def __init__(self):
            self.inner = SimulatedRig(telling())
            self.sizes = []

        def welcome(self):
            return {**self.inner.welcome(), "max_images": 7}

        def show(self, block, images, attempt, tell):
            self.sizes.append(len(images))
            return self.inner.show(block, images, attempt, tell)

    small = Small()
    rig = running(small, address)
    numbers = np.random.default_rng(1).integers(0, 20, 60)
    subject = RigSubject(rig.address, **OPTIONS)
    np.testing.assert_array_equal(number_of(subject.record(marked(numbers))), numbers)
    assert max(small.sizes) <= 7
    assert len(small.sizes) > 1


def test_a_block_that_was_answered_is_not_shown_again(address, running):
    shows = SimulatedRig(telling())
    rig = running(shows, address)
    subject = RigSubject(rig.address, **OPTIONS)
    before = subject.state()
    first = subject.record(marked(range(9)))
    again = RigSubject(rig.address, **OPTIONS)
    again.restore(before)
    np.testing.assert_array_equal(again.record(marked(range(9))), first)
    assert shows.state()["shown"] == 9
    other = RigSubject(rig.address, **OPTIONS)
    other.restore(before)
    with pytest.raises(RigError, match=r"refuses \(conflict\).*block 1 of session"):
        other.record(marked(range(1, 10)))
    superseding = RigSubject(rig.address, supersede=True, **OPTIONS)
    superseding.restore(before)
    np.testing.assert_array_equal(number_of(superseding.record(marked(range(1, 10)))), range(1, 10))
    assert [(entry[1], entry[3]) for entry in rig.stop()] == [(1, 1), (1, 1)]


class Renamed:
    """A rig whose units have other names, in the same number."""

    def __init__(self, units=4):
        self.inner = SimulatedRig(telling(units))

    def welcome(self):
        known = self.inner.welcome()
        return {**known, "units": [{"id": f"other {i}"} for i in range(len(known["units"]))]}

    def show(self, *asked):
        raise AssertionError("it shows what is meant for another rig")


@pytest.mark.parametrize("supersede", [False, True])
@pytest.mark.parametrize("units", [4, 6])
def test_a_rig_with_other_units_shows_nothing_and_answers_for_none(address, running, units, supersede):
    """One that was begun in its place, or beside it over the same folder, with a journal of its own."""
    if address.startswith("zmq"):
        address = f"zmq://127.0.0.1:{free_port()}"
    first = running(SimulatedRig(telling()), address)
    subject, begun = (RigSubject(first.address, supersede=supersede, give_up_s=5, **OPTIONS) for _ in range(2))
    begun.record(marked(range(4)))
    first.stop()
    running(Renamed(units), address)
    with pytest.raises(RigError, match=r"\(conflict\): the experiment was welcomed by a rig with other units than"):
        subject.record(marked(range(4)))
    with pytest.raises(
        RigError, match=r"other units than it had.*4 such as 'telling.0' at first, now . such as 'other"
    ):
        begun.begin_run()


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def test_a_journal_that_lacks_blocks_is_said(address, running):
    rig = running(SimulatedRig(telling()), address)
    subject = RigSubject(rig.address, **OPTIONS)
    subject.restore({**subject.state(), "seq": 7})
    with pytest.raises(RigError, match=r"refuses \(gap\).*expected block 1 .*got 8"):
        subject.record(marked([1]))


def answer_to(sent, **changes):
    header = sent.header
    trials = [{"trial": t["trial"], "counts": [t["image"], 1]} for t in header["trials"]]
    known = {name: header[name] for name in ("session", "seq", "block")}
    return blank("answer", **{**known, "trials": trials, **changes})


def scripted(respond, **options):
    """A subject over a way that welcomes, and then does what `respond(sent, count)` says."""
    units = [{"id": "a", "channel": 3}, {"id": "b", "channel": 9, "snr": 2.0, "rf_deg": [1, 2]}]

    def answer(sent, count):
        if sent.type == "hello":
            return [blank("welcome", units=units, rig_id="x", encoding="rgb8")]
        return respond(sent, count)

    way = Scripted(answer)
    return RigSubject(way, resolution=12, patience_s=0.05, connect_s=1.0, **options), way


def test_late_double_and_foreign_answers_are_dropped():
    def respond(sent, count):
        own = answer_to(sent)
        strangers = [answer_to(sent, session="other"), answer_to(sent, seq=99), answer_to(sent, block="0" * 64)]
        return [*strangers, RigError("damaged", "damaged"), own, own]

    subject, way = scripted(respond)
    for _ in range(3):
        np.testing.assert_array_equal(subject.record(marked(range(4)))[:, 0], range(4))
    assert subject.told["stale"] == 4 * 3 + 2
    assert way.renewed == 0


def test_a_rig_that_has_news_and_shows_nothing_is_told_of(monkeypatch):
    """One whose program hangs in its loop, or that waits for somebody to ask."""
    monkeypatch.setattr(client, "MOST_S", 0.05)
    news, told = [("0", "waits\nfor Sue"), ("0", None), ([3], 7), (None, "")], []

    def respond(sent, count):
        known = {name: sent.header[name] for name in ("session", "seq")}
        for done, text in news:
            for _ in range(4):
                way.slow.append(blank("progress", **known, done=done, of=4, text=text))
        way.slow.append(answer_to(sent))
        return []

    subject, way = scripted(respond, on_s=0.001, off_s=0.0)
    way.slow = []
    way.receive = lambda timeout_s: (time.sleep(0.02), way.slow.pop(0))[1]
    notices.listen(told.append)
    try:
        subject.record(marked(range(4)))
    finally:
        notices.leave(told.append)
    assert re.match(r"block 1: 0 of 4 shown, and no more for .*s \(waits for Sue\)$", told[0])
    assert {"block 1: [3] of 4", "block 1: None of 4"} <= {text.partition(" shown")[0] for text in told}
    assert told[-1] == "the rig goes on with the block"
    assert all(notice.well == (notice == told[-1]) for notice in told)
    assert {notice.about for notice in told} == {client.STAYING}


def test_what_is_not_answered_is_sent_again_unchanged():
    def respond(sent, count):
        return [] if count < 4 else [answer_to(sent)]

    subject, way = scripted(respond)
    subject.record(marked(range(4)))
    blocks = [sent for sent in way.sent if sent.type == "block"]
    assert len(blocks) == 3
    assert all(sent is blocks[0] for sent in blocks)
    assert (way.renewed, subject.told["resent"]) == (2, 2)


def test_progress_extends_patience_and_is_no_answer():
    def respond(sent, count):
        if count > 2:
            return [answer_to(sent)]
        known = {name: sent.header[name] for name in ("session", "seq")}
        return [blank("progress", **known, done=k, of=4) for k in range(4)]

    subject, _ = scripted(respond)
    subject.record(marked(range(4)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trials": [{"trial": "000009-0000", "counts": [1, 1]}]}, "expected a trial of this block"),
        ({"trials": [{"trial": "000001-0000", "counts": [1, 1]}] * 2}, "expected each trial once"),
        ({"trials": [{"trial": "000001-0000", "counts": [1, 1], "status": "fine"}]}, "expected a status of ok"),
        ({"trials": [{"trial": "000001-0000", "counts": [1]}]}, r"expected counts of shape \(2,\)"),
        ({"trials": [{"trial": "000001-0000", "counts": ["x", 1]}]}, "expected numbers as counts of trial"),
        ({"trials": None}, "expected a list of trials"),
    ],
)
def test_an_answer_that_does_not_fit_is_an_error(changes, message):
    subject, _ = scripted(lambda sent, count: [answer_to(sent, **changes)])
    with pytest.raises(SubjectError, match=message):
        subject.record(marked(range(4)))


@pytest.mark.parametrize(
    ("gives", "values", "message"),
    [
        ("spikes", {}, "expected spike_s and spike_unit of trial '000001-0000', whose status is ok, empty where"),
        ("spikes", {"spike_s": []}, "expected spike_unit of trial"),
        ("counts", {}, "expected counts of trial '000001-0000', whose status is ok; got none"),
        ("counts", {"counts": [True, 1]}, r"expected numbers as counts of trial .*got \[True, 1\]"),
        ("counts", {"counts": [1e16, 1]}, r"expected counts from -1e\+15 to 1e\+15.*got 1e\+16"),
        ("counts", {"counts": [2, 1], "onset_s": 1e299}, r"onset_s: expected a finite number from -1e\+15 to 1e\+15"),
        ("spikes", {"spike_s": [0.1, -1e9], "spike_unit": [0, 1]}, "expected spikes in seconds from the onset, within"),
        ("spikes", {"spike_s": [0.1, 0.2], "spike_unit": [0, True]}, "expected numbers as spike_unit of trial"),
    ],
)
def test_a_value_that_nobody_means_is_an_error(gives, values, message):
    """A good trial without its spikes is none without a spike, and true among numbers is none."""
    welcome = blank("welcome", units=[{"id": "a"}, {"id": "b"}], encoding="png", gives=gives)

    def respond(sent, count):
        if sent.type == "hello":
            return [welcome]
        return [answer_to(sent, trials=[{"trial": trial["trial"], **values} for trial in sent.header["trials"]])]

    with pytest.raises(SubjectError, match=message):
        RigSubject(Scripted(respond), resolution=12).record(marked(range(4)))


def lost(sent):
    """An answer in which the rig shows nothing."""
    return answer_to(sent, trials=[{"trial": trial["trial"], "status": "aborted"} for trial in sent.header["trials"]])


def test_a_block_in_which_all_is_lost_does_not_tell_counts_from_spikes():
    """Counts that come after it are none that nobody looks at."""
    subject, _ = scripted(lambda sent, count: [lost(sent)])
    before = subject.state()
    with pytest.raises(SubjectError, match="whether it gives spikes or counts is not known: its welcome"):
        subject.record(marked(range(4)))
    assert subject.state() == before  # the block is asked for again
    subject, _ = scripted(lambda sent, count: [answer_to(sent) if sent.header["seq"] == 1 else lost(sent)])
    subject.record(marked(range(4)))
    assert np.isnan(subject.record(marked(range(4)))).all()
    units = [{"id": "a"}, {"id": "b"}]
    for gives in ("counts", "spikes"):
        welcome = blank("welcome", units=units, encoding="png", gives=gives)
        way = Scripted(lambda sent, count, said=welcome: [said] if sent.type == "hello" else [lost(sent)])
        assert np.isnan(RigSubject(way, resolution=12).record(marked(range(4)))).all()


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ({"counts": [1, 2]}, {"spike_s": [0.1], "spike_unit": [0]}),
        ({"spike_s": [0.1], "spike_unit": [0]}, {"counts": [1, 2]}),
    ],
)
def test_a_rig_that_gives_spikes_gives_no_counts(first, then):
    def respond(sent, count):
        values = first if sent.header["seq"] == 1 else then
        return [answer_to(sent, trials=[{"trial": trial["trial"], **values} for trial in sent.header["trials"]])]

    subject, _ = scripted(respond)
    subject.record(marked(range(4)))
    with pytest.raises(SubjectError, match=r"a rig gives spikes or counts\. Mend the rig"):
        subject.record(marked(range(4)))


def test_an_answer_of_another_version_is_told_at_once():
    subject, way = scripted(
        lambda sent, count: [RigError("expected closedloop-rig/1; update the older side", "version")]
    )
    with pytest.raises(RigError, match="update the older side"):
        subject.record(marked(range(4)))
    assert way.renewed == 0


def test_what_a_rig_has_to_say_of_a_block_is_said():
    texts, told = ["2 pulses are\nmissing " + 400 * "x", None, None, 7, "again"], []
    subject, _ = scripted(lambda sent, count: [answer_to(sent, text=texts[sent.header["seq"] - 1])])
    notices.listen(told.append)
    try:
        for _ in texts:
            subject.record(marked(range(4)))
    finally:
        notices.leave(told.append)
    assert [(notice.partition(":")[0], notice.well) for notice in told] == [
        ("block 1 at the rig", False),
        ("the rig has nothing more to say of its blocks", True),
        ("block 5 at the rig", False),
    ]
    assert told[0].startswith("block 1 at the rig: 2 pulses are missing xxx")
    assert len(told[0]) < 350


def test_numbers_may_be_arrays(running, tmp_path):
    rig = running(SimulatedRig(telling()), f"folder:{tmp_path / 'exchange'}")
    arrays = {"window_s": np.array([0.05, 0.2]), "position_deg": np.array([1.0, 2.0]), "bins_s": np.array([0, 0.1, 2])}
    known = dict(RigSubject(rig.address, **arrays, **OPTIONS).recipe)
    assert (known["position_deg"], known["bins_s"]) == ([1.0, 2.0], [0.0, 0.1, 2.0])
    assert "window_s" not in known


def test_a_rig_may_move_and_be_waited_for_longer(running, tmp_path):
    """What a run goes on with is the same rig, wherever it is, and however long it may be silent."""
    options = {"on_s": 0.001, "off_s": 0.0, **OPTIONS}

    def session(address, **more):
        space = Fourier(12, 2)
        threads = [Thread(space, CMAES(space.space, seed=1, population=6), Unit(0), "main")]
        subject = Lossy(load_subject(f"rig:{address}", **(options | more)), rate=0.1, seed=1)
        settings = {"images": 24, "retest_candidates": 1, "retest_repeats": 2, "progress": False}
        return Session(subject, threads, references=None, save=tmp_path / "run", exists="resume", **settings)

    class Home:
        def generation(self, generation):
            raise KeyboardInterrupt("enough for today")

        def begin(self, session):
            pass

        end = begin

    first = running(SimulatedRig(telling()), f"folder:{tmp_path / 'here'}", tmp_path / "journal")
    begun = session(first.address)
    begun.observers = [Home()]
    with pytest.raises(KeyboardInterrupt, match="enough for today"):
        begun.run()
    first.stop()
    second = running(SimulatedRig(telling()), f"folder:{tmp_path / 'there'}", tmp_path / "journal")
    ds = session(second.address, patience_s=3.0, supersede=True, give_up_s=60.0).run()
    assert (ds["kind"] == "evolved").sum() >= 24
    with pytest.raises(RecordingError, match="subject is"):
        session(second.address, window_s=(0.07, 0.17)).run()


def test_a_refusal_is_told_and_damage_is_sent_again():
    def respond(sent, count):
        if count < 4:
            return [blank("error", code="damaged", text="bytes", seq=sent.header["seq"])]
        return [blank("error", code="too_large", text="at most 3 images", seq=sent.header["seq"])]

    subject, way = scripted(respond)
    with pytest.raises(RigError, match=r"refuses \(too_large\): at most 3 images") as raised:
        subject.record(marked(range(4)))
    assert raised.value.code == "too_large"
    assert sum(sent.type == "block" for sent in way.sent) == 3


def test_silence_ends_where_it_is_asked_to():
    units = [{"id": "a"}]
    way = Scripted(lambda sent, count: [blank("welcome", units=units, encoding="png")] if sent.type == "hello" else [])
    subject = RigSubject(way, resolution=12, patience_s=0.02, give_up_s=0.1, on_s=0.001, off_s=0.0)
    with pytest.raises(SubjectTimeoutError, match=r"no answer from the rig at this transport to block 1"):
        subject.record(marked([1]))


def test_nobody_there(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(RigError, match=r"no rig answered at folder:.*empty within 0.2 s; start it"):
        RigSubject(f"folder:{tmp_path / 'empty'}", connect_s=0.2)


def test_a_rig_that_is_not_there_yet_is_waited_for(tmp_path, running):
    """A session that is begun beside its rig says that it waits, and why, and that it waits no more."""
    told, address = [], f"folder:{tmp_path / 'later'}"
    notices.listen(told.append)
    try:
        with ThreadPoolExecutor(1) as pool:
            began = pool.submit(RigSubject, address, resolution=12, connect_s=20.0)
            while not told:
                time.sleep(0.01)
            running(SimulatedRig(telling()), address)
            assert len(began.result().units) == 4
        with pytest.raises(RigError, match=r"within 0.1 s \(there is no folder .*none\); start it"):
            RigSubject(f"folder:{tmp_path / 'none'}", connect_s=0.1)
    finally:
        notices.leave(told.append)
    assert re.match(r"no rig answers at folder:.*later yet \(there is no folder .*later\); waiting up to 20 s", told[0])
    assert told[1].endswith("later answers")


def test_spikes_as_matlab_writes_them():
    """One entry comes as a bare value, and a single trial without a list around it."""
    units = units_of_welcome({"units": [{"id": 1}, {"id": 2}]})
    trial = {"trial": "t0", "onset_s": 3.5, "onset_source": "ttl", "spike_s": 0.1, "spike_unit": 1}
    answers = read_answer({"trials": trial, "attempt": 2}, ["t0", "t1"], units.neuroid_id, (0.05, 0.2))
    assert list(answers.status) == ["ok", "not_shown"]
    assert (answers.spikes.time_s.tolist(), answers.spikes.unit.tolist()) == ([0.1], [1])
    assert list(answers.attempt) == [2, 2]
    assert answers.onset_source == ["ttl", ""]
    assert np.isnan(answers.onset_s[1])


def test_what_a_struct_of_matlab_leaves_open():
    """All entries of a struct array have all fields; one of a trial that was lost is an empty list."""
    lost = {"trial": "t0", "status": "fixation_break", "onset_s": [], "onset_source": [], "counts": []}
    good = {"trial": "t1", "status": "ok", "onset_s": 1.5, "onset_source": [], "counts": [1, 2]}
    answers = read_answer({"trials": [lost, good]}, ["t0", "t1"], ["a", "b"], (0.05, 0.2))
    np.testing.assert_array_equal(answers.responses, [[np.nan, np.nan], [1, 2]])
    np.testing.assert_array_equal(answers.onset_s, [np.nan, 1.5])
    assert answers.onset_source == ["", "nominal"]
    quiet = {"trial": "t0", "spike_s": [], "spike_unit": []}
    assert len(read_answer({"trials": [quiet]}, ["t0"], ["a"], (0.05, 0.2)).spikes.time_s) == 0
    with pytest.raises(SubjectError, match=r"expected counts of shape \(2,\)"):
        read_answer({"trials": [{**lost, "status": "ok"}]}, ["t0"], ["a", "b"], (0.05, 0.2))


def test_columns_of_the_units():
    subject, _ = scripted(lambda sent, count: [answer_to(sent)])
    assert dict(subject.units.coords) == {"channel": (3, 9)}
    with pytest.raises(SubjectError, match="expected units with an id each"):
        units_of_welcome({"units": []})
    for name in ({}, None, True, ["a"]):
        with pytest.raises(SubjectError, match="expected a text or a number as id of each unit"):
            units_of_welcome({"units": [{"id": "a"}, {"id": name}]})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window_s": (0.2, 0.1)}, "window_s: expected begin < end"),
        ({"window_s": (0.2,)}, "window_s: expected 2 numbers"),
        ({"bins_s": (0, 0.1, 0)}, "bins_s: number: expected a whole number of at least 1"),
        ({"bins_s": (0, 0.1, 2.5)}, "bins_s: number: expected a whole number of at least 1, got 2.5"),
        ({"token_file": "a\0b"}, "token_file: cannot read a.b .*null"),
        ({"token_file": 5}, "token_file: cannot read 5"),
        ({"encoding": "jpeg"}, "encoding: expected 'rgb8'"),
        ({"encoding": "rgb8"}, "encoding: expected one of png on this way"),
        ({"on_s": 0}, "on_s"),
        ({"position_deg": (1, 2, 3)}, "position_deg: expected 2 numbers"),
    ],
)
def test_options_that_do_not_fit(options, message, running, tmp_path):
    rig = running(SimulatedRig(telling()), f"folder:{tmp_path / 'exchange'}")
    with pytest.raises(InvalidArgumentError, match=message):
        RigSubject(rig.address, **options)


@pytest.mark.parametrize(("subject", "wrong"), [("rig:folder:a", "window"), ("served", "window"), ("served", "layout")])
def test_an_option_that_is_none(subject, wrong):
    with pytest.raises(UnknownNameError, match=rf"no option named '{wrong}'\..*"):
        load_subject(subject, **{wrong: 1})


def test_addresses():
    for address in ("tcp://x:1", "zmq://x", "zmq://:5", "zmq://x:99999", "folder:", ""):
        with pytest.raises(InvalidArgumentError, match="address: expected zmq://HOST:PORT or folder:DIR"):
            RigSubject(address)


def test_what_a_block_says():
    subject, way = scripted(lambda sent, count: [answer_to(sent)])
    subject.record(marked([3, 3, 5]))
    header = way.sent[-1].header
    assert len(header["images"]) == 3
    assert {"on_s": 0.1, "off_s": 0.1, "background": 0.5}.items() <= header["show"].items()
    assert header["window_s"] == [0.05, 0.2]
    assert header["seq"] == 1
