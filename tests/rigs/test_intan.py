"""Intan's RHX by its documented bytes: however they are cut, and with some of them lost or wrong."""

from __future__ import annotations

import socket
import struct
import time

import numpy as np
import pytest

from closedloop.errors import InvalidArgumentError
from closedloop.rigs.collecting import Collector, Flip
from closedloop.rigs.intan import ARTIFACT, Intan, SpikeBytes, WaveformBytes
from closedloop.rigs.tape import Tape
from tests.recording_systems import RATE, Sender, intan_spikes, intan_waveforms, name_of, session
from tests.rigs.test_collecting import UNITS, block, numbers_of


def fed(reader, data, rng=None):
    """Feeds bytes in pieces of any length."""
    at = 0
    while at < len(data):
        size = len(data) if rng is None else int(rng.integers(1, 60))
        reader.feed(data[at : at + size])
        at += size


@pytest.mark.parametrize("seed", [None, 0, 1])
def test_spikes_however_they_are_cut(seed):
    _, spikes = session()
    tape = Tape()
    fed(SpikeBytes(tape, RATE), intan_spikes(spikes), None if seed is None else np.random.default_rng(seed))
    taken = tape.taken()
    np.testing.assert_allclose(taken.spike_s, [sample / RATE for sample, _ in spikes], atol=1e-9)
    assert sorted(taken.spike_key) == sorted((name_of(unit), 1) for _, unit in spikes)
    assert tape.damaged == 0


@pytest.mark.parametrize("seed", range(20))
def test_lost_and_wrong_bytes_cost_pieces_and_never_change_one(seed):
    _, spikes = session()
    data, rng = bytearray(intan_spikes(spikes)), np.random.default_rng(seed)
    for _ in range(5):
        at = int(rng.integers(len(data) - 20))
        if rng.random() < 0.7:
            del data[at : at + int(rng.integers(1, 14))]  # 14 would be a whole piece
        else:
            data[at : at + 3] = bytes(rng.integers(0, 256, int(rng.integers(1, 6)), dtype=np.uint8))
    tape = Tape()
    fed(SpikeBytes(tape, RATE), bytes(data), rng)
    taken, known = tape.taken(), {(sample, name_of(unit)) for sample, unit in spikes}
    found = {(round(t * RATE), key[0]) for t, key in zip(taken.spike_s, taken.spike_key, strict=True)}
    wrong = found - known
    # A wrong byte within a sample's number cannot be seen; a lost one can.
    assert len(wrong) <= 2
    assert len(known - found) <= 5 * 4
    assert len(taken.gaps_s) >= 1
    for sample, _ in known - found:
        inside = (taken.gaps_s[:, 0] - 0.001 <= sample / RATE) & (sample / RATE <= taken.gaps_s[:, 1] + 0.001)
        assert inside.any() or wrong


def test_bytes_that_are_lost_are_always_seen():
    _, spikes = session(n=4)
    data = intan_spikes(spikes)
    known = [(round(sample), name_of(unit)) for sample, unit in spikes]
    for at in range(14, 6 * 14):
        for length in (1, 2, 5, 13, 17):
            tape = Tape()
            fed(SpikeBytes(tape, RATE), data[:at] + data[at + length :])
            taken = tape.taken()
            found = [(round(t * RATE), key[0]) for t, key in zip(taken.spike_s, taken.spike_key, strict=True)]
            assert set(found) <= set(known)
            assert tape.damaged > 0
            for sample, _ in set(known) - set(found):
                gap = taken.gaps_s
                assert ((gap[:, 0] <= sample / RATE + 1e-9) & (gap[:, 1] >= sample / RATE - 1e-9)).any()


def test_samples_go_on_beyond_32_bits():
    onset, spikes = session()
    offset = 2**32 - int(onset[10] * RATE)
    tape = Tape()
    fed(SpikeBytes(tape, RATE), intan_spikes(spikes, offset))
    fed(WaveformBytes(tape, RATE), intan_waveforms(onset, onset[-1] + 0.5, offset=offset))
    taken = tape.taken()
    np.testing.assert_allclose(taken.spike_s, [(sample + offset) / RATE for sample, _ in spikes], atol=1e-6)
    np.testing.assert_allclose(taken.pulse_s, onset + offset / RATE, atol=1e-6)
    assert tape.restarts == 0


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize(("words", "line"), [(1, 0), (3, 5)])
def test_pulses_of_a_digital_input(words, line, seed):
    onset, _ = session(n=8)
    tape = Tape()
    rng = None if seed is None else np.random.default_rng(seed)
    data = intan_waveforms(onset, onset[-1] + 0.5, line, words)
    fed(WaveformBytes(tape, RATE, words, -1, line), data, rng)
    np.testing.assert_allclose(tape.taken().pulse_s, onset, atol=1e-9)
    assert tape.latest_s == pytest.approx(onset[-1] + 0.5, abs=128 / RATE)
    assert tape.damaged == 0


def test_light_on_a_photodiode():
    onset, _ = session(n=8)
    data = intan_waveforms(onset, onset[-1] + 0.5, line=14)
    tape = Tape()
    fed(WaveformBytes(tape, RATE, line=None, level=10_000), data)
    np.testing.assert_allclose(tape.taken().pulse_s, onset, atol=1e-9)


def test_a_lost_block_is_a_gap_and_makes_no_pulse():
    onset, _ = session(n=8)
    data = bytearray(intan_waveforms(onset, onset[-1] + 0.5))
    size = 4 + 128 * 6
    at = int(onset[3] * RATE) // 128
    del data[at * size : (at + 1) * size]  # a whole block: nothing is wrong but the samples
    del data[40 * size + 100 : 40 * size + 103]  # and three bytes within one
    tape = Tape()
    fed(WaveformBytes(tape, RATE), bytes(data), np.random.default_rng(0))
    taken = tape.taken()
    np.testing.assert_allclose(taken.pulse_s, np.delete(onset, 3), atol=1e-9)
    assert len(taken.gaps_s) == 2
    assert ((taken.gaps_s[:, 0] <= onset[3]) & (taken.gaps_s[:, 1] >= onset[3])).any()


def test_a_byte_that_is_lost_at_the_end_of_a_block_makes_no_pulse():
    """What follows begins with 0x08, which would be the twelfth line."""
    data = bytearray(intan_waveforms([], 1.0, line=11))
    del data[5 * 772 - 2]
    tape = Tape()
    fed(WaveformBytes(tape, RATE, line=11), bytes(data), np.random.default_rng(1))
    assert len(tape.taken().pulse_s) == 0
    assert tape.damaged > 0


def test_over_tcp_and_when_it_breaks_off():
    one, two = Sender(), Sender()
    source = Intan(spike_port=one.port, waveform_port=two.port, sample_rate_hz=RATE)
    try:
        onset, spikes = session(jitter_s=0.02)
        half = int(onset[9] * RATE)
        until = onset[-1] + 1.5
        waveforms = intan_waveforms(onset, until)
        one.send(intan_spikes([s for s in spikes if s[0] < half]))
        two.send(waveforms[: 772 * (half // 128)])
        source.tape.wait(onset[9] - 0.1, 5)
        one.break_off()  # what comes meanwhile is lost
        assert one.there.wait(5)
        two.send(waveforms[772 * (half // 128) :])
        source.tape.wait(until - 0.2, 5)
        one.send(intan_spikes([s for s in spikes if s[0] > onset[12] * RATE]))
        time.sleep(0.1)
        collector = Collector(source, UNITS, wait_s=0.5, same_clock=False, artifacts=source.artifacts)
        answer = collector.answer(block(20), [Flip("ok", t - 3.0) for t in onset.tolist()])
        status = [trial["status"] for trial in answer["trials"]]
        assert set(status[:8] + status[14:]) == {"ok"}
        assert set(status[9:12]) == {"artifact"}
        good = [i for i, word in enumerate(status) if word == "ok"]
        assert [numbers_of(answer["trials"])[i] for i in good] == good
    finally:
        source.close()
        one.close()
        two.close()


def answered_by(source, two):
    """What a collector makes of twenty images whose pulses come, and the text for who is at the experiment."""
    onset, _ = session(jitter_s=0.02)
    collector = Collector(source, UNITS, wait_s=0.5, same_clock=False, artifacts=source.artifacts)
    collector.begin()
    two.send(intan_waveforms(onset, onset[-1] + 1.5))
    assert source.tape.wait(onset[-1] + 1.3, 5)
    answer = collector.answer(block(20), [Flip("ok", t - 3.0) for t in onset.tolist()])
    assert answer["collected"]["matched"] == 20
    return {trial["status"] for trial in answer["trials"]}, answer["text"]


def test_without_its_spikes_no_trial_is_good():
    """Nobody has connected their output in RHX: these are no trials without a spike."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    two = Sender()
    source = Intan(spike_port=port, waveform_port=two.port, sample_rate_hz=RATE)
    try:
        status, text = answered_by(source, two)
        assert status == {"artifact"}
        assert f"no spikes from RHX at 127.0.0.1, port {port} (" in text
    finally:
        source.close()
        two.close()


def test_a_connection_that_is_reset_is_a_loss():
    one, two = Sender(), Sender()
    source = Intan(spike_port=one.port, waveform_port=two.port, sample_rate_hz=RATE)
    try:
        one.send(intan_spikes([(10, 0)]))
        assert source.tape.wait(10 / RATE, 5)
        one.way.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.way.close()
        end = time.monotonic() + 5
        while not source.tape.damaged and time.monotonic() < end:
            time.sleep(0.01)
        assert answered_by(source, two)[0] == {"artifact"}
    finally:
        source.close()
        one.close()
        two.close()


def test_an_artifact_is_a_number():
    tape = Tape()
    SpikeBytes(tape, RATE).feed(struct.pack("<I5sIB", 0x3AE2710F, b"A-001", 5, 128))
    assert tape.taken().spike_key == [("A-001", ARTIFACT)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"words": 0}, "words: expected a whole number of at least 1, got 0"),
        ({"word": 1}, "word: expected one of 1, from 0, got 1"),
        ({"level": 5}, "line, level: expected one of both, got 0 and 5"),
        ({"line": None}, "line, level: expected one of both, got None and None"),
        ({"sample_rate_hz": 0}, "sample_rate_hz: expected a finite number above 0"),
        ({"spike_port": 0}, "spike_port: expected a whole number of at least 1, got 0"),
        ({"waveform_port": 70_000}, "waveform_port: expected a port up to 65535, got 70000"),
        ({"line": 16}, "line: expected one of the 16 bits of a word, from 0, got 16"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        Intan(**options)
