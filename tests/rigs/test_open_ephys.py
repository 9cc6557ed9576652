"""Open Ephys by its documented messages: read as they were written, with some of them lost, damaged or of strangers."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from closedloop.errors import InvalidArgumentError
from closedloop.rigs import open_ephys
from closedloop.rigs.collecting import Collector, Flip
from closedloop.rigs.open_ephys import OpenEphys, OpenEphysReader
from closedloop.rigs.tape import Tape
from tests.recording_systems import RATE, OpenEphysWriter, name_of, session
from tests.rigs.test_collecting import UNITS, block, numbers_of


def read(messages, line=2, rate=RATE, stream=None):
    tape = Tape()
    reader = OpenEphysReader(tape, line, rate, stream)
    for message in messages:
        reader.feed(message)
    return tape


def written(jitter_s=0.02, seed=0):
    onset, spikes = session(jitter_s=jitter_s, seed=seed)
    return onset, spikes, [message for _, message in OpenEphysWriter().session(onset, spikes, onset[-1] + 2)]


def test_reads_what_was_written():
    onset, spikes, messages = written()
    tape = read(messages)
    taken = tape.taken()
    np.testing.assert_allclose(taken.pulse_s, onset, atol=1e-9)
    np.testing.assert_allclose(taken.spike_s, [sample / RATE for sample, _ in spikes], atol=1e-9)
    assert sorted(taken.spike_key) == sorted((name_of(unit), 1) for _, unit in spikes)
    assert len(taken.gaps_s) == 0
    assert tape.damaged == 0
    assert tape.latest_s >= onset[-1] + 1.9


def test_other_lines_streams_and_falling_edges_are_no_pulses():
    writer, other = OpenEphysWriter(), OpenEphysWriter("LFP")
    tape = read([writer.ttl(100, 1, line=3), writer.ttl(200, 0), writer.ttl(300, 1)])
    np.testing.assert_allclose(tape.taken().pulse_s, [0.1])
    other.number = 3
    tape = read([writer.data(0), other.ttl(100, 1), other.spike(100, "A-000", 1)], stream="AP")
    assert len(tape.taken().pulse_s) == len(tape.taken().spike_s) == 0


def test_lost_messages_are_known_and_take_the_trials_near_them_along():
    onset, _, messages = written()
    header = [json.loads(message[1]) for message in messages]
    sample = np.array([(h.get("content") or h["spike"])["sample_num"] for h in header]) / RATE
    gone = (sample > onset[7] + 0.05) & (sample < onset[7] + 0.12)
    tape = read([message for message, lost in zip(messages, gone, strict=True) if not lost])
    assert tape.damaged == gone.sum()
    collector = Collector(type("Source", (), {"tape": tape})(), UNITS, wait_s=0.01, same_clock=False)
    trials = collector.answer(block(20), [Flip("ok", t - 3.0) for t in onset.tolist()])["trials"]
    status = [trial["status"] for trial in trials]
    assert status[7] == "artifact"
    assert set(status[:6] + status[9:]) == {"ok"}
    good = [i for i, word in enumerate(status) if word == "ok"]
    assert [numbers_of(trials)[i] for i in good] == good


@pytest.mark.parametrize(
    "message",
    [
        [],
        [b"EVENT\0"],
        [b"EVENT\0", b"{"],
        [b"EVENT\0", b"[" * 100_000],
        [b"EVENT\0", b"[]"],
        [b"EVENT\0", b'{"message_num": 5}'],
        [b"EVENT\0", b'{"message_num": "5", "type": "event", "content": {"sample_num": 1}}'],
        [b"EVENT\0", b'{"message_num": 5, "type": "event", "content": {"sample_num": -1}}'],
        [b"EVENT\0", b'{"message_num": 5, "type": "event", "content": {"sample_num": NaN}}'],
        [b"EVENT\0", b'{"message_num": 5, "type": "event", "content": {"sample_num": 100, "stream": "AP", "type": 3}}'],
        [b"EVENT\0", b'{"message_num": 5, "type": "spike", "spike": {"sample_num": 100, "stream": "AP"}}'],
        [b"DATA\0", b'{"message_num": 5, "type": "data", "content": {"sample_num": 100, "stream": "AP"}}'],
        [b"DATA\0", b"\xff\xfe", b"x"],
        [b"EVENT\0", b'{"message_num": 5, "type": "spike", "spike": 7}'],
        [b"EVENT\0", b'{"message_num": 5, "type": [], "content": {"sample_num": 100, "stream": {}}}'],
    ],
)
def test_what_cannot_be_understood_is_lost(message):
    writer = OpenEphysWriter()
    first, last = writer.spike(90, "A-000", 1), writer.spike(300, "A-000", 1)
    tape = read([first, message, last])
    assert len(tape.taken().spike_s) == 2
    assert tape.damaged >= 1 or message[-1].count(b'"stream": {}')
    assert tape.damaged == 0 or (tape.taken().gaps_s[0] == [0.03, 0.1]).all()


def test_a_rate_that_the_data_say_counts(caplog):
    writer = OpenEphysWriter()
    tape = read([writer.data(0), writer.spike(RATE, "A-000", 1)], rate=30_000)
    np.testing.assert_allclose(tape.taken().spike_s, [1.0])
    assert "Open Ephys says 3000 samples a second, and not 30000" in caplog.text


def test_over_zeromq_with_signs_of_life():
    zmq = pytest.importorskip("zmq")
    context = zmq.Context()
    data, life = context.socket(zmq.PUB), None
    for _ in range(50):  # two neighbouring ports
        port = data.bind_to_random_port("tcp://127.0.0.1")
        life = context.socket(zmq.REP)
        try:
            life.bind(f"tcp://127.0.0.1:{port + 1}")
            break
        except zmq.ZMQError:
            life.close()
            data.unbind(f"tcp://127.0.0.1:{port}")
    source = OpenEphys(f"127.0.0.1:{port}", line=2, sample_rate_hz=RATE)
    try:
        assert life.poll(5000)
        said = json.loads(life.recv())
        life.send(b"heartbeat received")
        assert said["type"] == "heartbeat"
        assert said["application"] == "closedloop"
        assert said["uuid"]
        time.sleep(0.1)  # a subscription has no answer
        onset, _, messages = written()
        for message in messages:
            data.send_multipart(message)
        collector = Collector(source, UNITS, wait_s=2.0, same_clock=False)
        source.tape.wait(onset[-1] + 1.9, 5)
        trials = collector.answer(block(20), [Flip("ok", t - 3.0) for t in onset.tolist()])["trials"]
        assert numbers_of(trials) == list(range(20))
    finally:
        source.close()
        data.close(linger=0)
        life.close(linger=0)
        context.term()


def test_a_gui_that_is_not_there_is_named(monkeypatch):
    pytest.importorskip("zmq")
    monkeypatch.setattr(open_ephys, "UNANSWERED_S", 0.1)
    monkeypatch.setattr(open_ephys, "HEARTBEAT_S", 0.05)
    source = OpenEphys("127.0.0.1:5999")
    try:
        end = time.monotonic() + 10
        while not source.tape.troubles and time.monotonic() < end:
            time.sleep(0.01)
        collector = Collector(source, UNITS, wait_s=0.01, same_clock=False)
        collector.begin()
        said = collector.answer(block(2), [Flip("ok", 1.0), Flip("ok", 2.0)])["text"]
        assert said.endswith("while 2 images were shown; Open Ephys does not answer at tcp://127.0.0.1:6000")
    finally:
        source.close()
    with pytest.raises(InvalidArgumentError, match="place: cannot connect to no such host:5556"):
        OpenEphys("no such host:5556")


@pytest.mark.parametrize("place", ["here", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65535", "127.0.0.1:x"])
def test_bad_places(place):
    with pytest.raises(InvalidArgumentError, match=r"place: expected HOST:PORT, such as 127\.0\.0\.1:5556"):
        OpenEphys(place)
