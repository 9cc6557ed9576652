"""The side of the rig: what it takes, what it refuses, and what it writes down before it answers."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys

import numpy as np
import pytest

from closedloop.errors import InvalidArgumentError, MissingExtraError, RecordingError, RigError
from closedloop.rigs.journal import Journal
from closedloop.rigs.messages import Message, block_name, encoded, message, sha256
from closedloop.rigs.pixels import Encoder, decode, floats
from closedloop.rigs.server import RigServer, answered
from closedloop.rigs.transports import listen, parse_address
from tests.running_rigs import marked


class Way:
    """Takes what a test hands over, and keeps what is answered."""

    def __init__(self):
        self.asked, self.sent = [], []

    def receive(self, timeout_s):
        return ("peer", self.asked.pop(0)) if self.asked else None

    def reply(self, peer, sent):
        self.sent.append(sent)


class Counting:
    """Shows blocks, and counts them."""

    def __init__(self, fail=False):
        self.attempts, self.fail = [], fail

    def welcome(self):
        return {"rig_id": "r", "units": [{"id": "a"}]}

    def show(self, block, images, attempt, tell):
        self.attempts.append(attempt)
        if self.fail:
            raise KeyboardInterrupt("power failure")
        return {"trials": [answered(t["trial"], values={"counts": [t["image"]]}) for t in block["trials"]]}


def block(seq=1, numbers=(1, 2), session="s", encoding="rgb8", **changes):
    """A block of marked images, one trial each."""
    parts = Encoder(encoding).encode(marked(numbers))
    images = [
        {"sha256": sha256(p), "bytes": len(p), "id": str(n), "height": 12, "width": 12}
        for p, n in zip(parts, numbers, strict=True)
    ]
    trials = [{"trial": f"{seq}-{i}", "image": i} for i in range(len(parts))]
    header = message("block", session=session, seq=seq, encoding=encoding, images=images, trials=trials).header
    show = {"on_s": 0.1, "off_s": 0.1, "size_deg": None, "position_deg": None, "background": 0.5}
    times = {"show": show, "window_s": [0.05, 0.2], "baseline_s": [-0.1, 0.0], "bins_s": None}
    header = {**header, **times, **changes}
    return Message({"block": block_name(header), **header}, parts)


def serve(shows, journal, *asked):
    way = Way()
    way.asked += asked
    server = RigServer(shows, way, journal)
    while server.step(0):
        pass
    return way.sent


def test_welcome_says_what_is_known():
    journal = Journal(":memory:")
    hello = message("hello", session="s", client="c", wants={"encodings": ["jpeg", "png"]})
    sent = serve(Counting(), journal, block(), hello)
    assert (sent[1].header["last_done"], sent[1].header["encoding"]) == (1, "png")
    assert sent[1].header["units"] == [{"id": "a"}]
    assert sent[1].header["joined"] is True
    refused = serve(Counting(), journal, message("hello", session="s", wants={"encodings": ["jpeg"]}))
    assert refused[0].header["code"] == "version"


def test_a_block_is_shown_once_however_often_it_is_asked_for():
    shows, journal = Counting(), Journal(":memory:")
    sent = serve(shows, journal, block(), block(), block(2, (3,)), block())
    assert shows.attempts == [1, 1]
    assert [s.type for s in sent] == ["answer"] * 4
    assert encoded(sent[0].header) == encoded(sent[1].header) == encoded(sent[3].header)
    assert sent[0].content == sent[3].content == journal.entries("s", 1)[0].answer  # encoded once


def test_it_is_written_down_before_it_is_answered():
    class Broken(Way):
        def reply(self, peer, sent):
            raise KeyboardInterrupt("cable")

    shows, journal, way = Counting(), Journal(":memory:"), Broken()
    way.asked.append(block())
    with pytest.raises(KeyboardInterrupt, match="cable"):
        RigServer(shows, way, journal).step(0)
    assert [s.type for s in serve(shows, journal, block())] == ["answer"]
    assert shows.attempts == [1]


def test_a_rig_that_dies_while_it_shows_says_that_it_showed_twice():
    journal = Journal(":memory:")
    for attempt in (1, 2):
        dying = Counting(fail=True)
        with pytest.raises(KeyboardInterrupt, match="power failure"):
            serve(dying, journal, block())
        assert dying.attempts == [attempt]
    sent = serve(Counting(), journal, block())
    assert sent[0].header["attempt"] == 3


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (block(1, (5,)), "conflict"),
        (block(3), "gap"),
        (message("dance"), "unknown"),
        (message("hello"), "malformed"),
        (block(0), "malformed"),
        (block(2, session=7), "malformed"),
        (block(2, trials=[{"trial": "a", "image": 9}]), "malformed"),
        (block(2, trials=[{"trial": "a", "image": 0}, {"trial": "a", "image": 1}]), "malformed"),
        (block(2, encoding="png", images=[{}]), "malformed"),
        (Message({**block(2).header, "block": "0" * 64}, block(2).parts), "damaged"),
        (Message(block(2).header, [b"x" * 432, b"y" * 432]), "damaged"),
    ],
)
def test_what_is_refused(asked, code):
    shows, journal = Counting(), Journal(":memory:")
    sent = serve(shows, journal, block(), asked)
    assert (sent[1].type, sent[1].header["code"]) == ("error", code)
    assert shows.attempts == [1]


def test_superseded_blocks_are_shown_and_both_are_kept():
    shows, journal = Counting(), Journal(":memory:")
    other = block(1, (5,), supersede=True)
    sent = serve(shows, journal, block(), other, other, block(9, supersede=True), block(10))
    assert [s.type for s in sent] == ["answer"] * 5
    assert len(journal.entries("s", 1)) == 2
    assert len(shows.attempts) == 4


def test_a_session_keeps_its_units():
    """Answers name them by their place: a rig that is begun again with others shows nothing for it."""

    class Others(Counting):
        def welcome(self):
            return {"rig_id": "r", "units": [{"id": "b"}]}

    journal, others = Journal(":memory:"), Others()
    serve(Counting(), journal, block())
    sent = serve(others, journal, block(), block(2), block(session="t"), block(2, supersede=True), block(3))
    assert [s.type for s in sent] == ["answer", "error", "answer", "answer", "answer"]
    assert "answered for 1 units such as 'a', and this rig records 1 such as 'b'" in sent[1].header["text"]
    assert sent[1].header["code"] == "conflict"
    assert len(others.attempts) == 3


def test_a_journal_is_that_of_one_rig(tmp_path, monkeypatch):
    """Two that answer one folder would show each block twice; a rig that was killed leaves none behind."""
    monkeypatch.setattr("closedloop.rigs.journal.LOCKED_S", 0.1)
    words = "import sys, time; from closedloop.rigs.journal import Journal; Journal(sys.argv[1]); print(1, flush=True)"
    other = subprocess.Popen(
        [sys.executable, "-c", f"{words}; time.sleep(60)", str(tmp_path / "journal")], stdout=subprocess.PIPE
    )
    try:
        other.stdout.readline()
        with pytest.raises(RecordingError, match=r"is locked\); another rig writes it; end that one, or name another"):
            Journal(tmp_path / "journal")
    finally:
        other.kill()
        other.communicate(timeout=10)
    Journal(tmp_path / "journal").close()


def test_sessions_do_not_know_each_other():
    shows, journal = Counting(), Journal(":memory:")
    sent = serve(shows, journal, block(), block(session="t"))
    assert [s.type for s in sent] == ["answer"] * 2


def test_the_journal_lasts(tmp_path):
    journal = Journal(tmp_path / "journal")
    serve(Counting(), journal, block())
    journal.close()
    again = Journal(tmp_path / "journal")
    assert again.last_done("s") == 1
    assert again.shown() == [("s", 1, block().header["block"], 1, True)]
    assert again.state() is None
    again.close()
    mode = sqlite3.connect(tmp_path / "journal")
    assert mode.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    mode.close()
    (tmp_path / "other").write_bytes(b"not a journal at all" * 100)
    with pytest.raises(RecordingError, match="journal: cannot open"):
        Journal(tmp_path / "other")


@pytest.mark.parametrize("encoding", ["rgb8", "png"])
def test_pixels_come_as_they_were_sent(encoding):
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 9, 9)).astype(np.float32) / np.float32(255)
    parts = Encoder(encoding).encode(images)
    entries = [{"sha256": sha256(p), "bytes": len(p), "height": 9, "width": 9} for p in parts]
    got = floats([decode(encoding, e, p) for e, p in zip(entries, parts, strict=True)])
    np.testing.assert_array_equal(got, images)
    assert Encoder(encoding).encode(images) == parts
    with pytest.raises(RigError, match="its bytes are not those"):
        decode(encoding, entries[0], parts[1])
    junk = b"GIF89a"
    with pytest.raises(RigError, match="expected"):
        decode(encoding, {"sha256": sha256(junk), "bytes": len(junk), "height": 9, "width": 9}, junk)


def test_addresses():
    assert parse_address("folder:C:\\data\\rig") == ("folder", "C:\\data\\rig")
    assert parse_address("zmq://[::1]:5555") == ("zmq", "[::1]:5555")


def test_an_open_port_needs_a_token():
    pytest.importorskip("zmq")
    with pytest.raises(InvalidArgumentError, match=r"listen: 0.0.0.0 can be reached from other computers"):
        listen("zmq://0.0.0.0:0")
    way = listen("zmq://127.0.0.1:0")
    with pytest.raises(InvalidArgumentError, match="listen: cannot listen at"):
        listen(f"zmq://127.0.0.1:{way.port}")
    way.close()


def test_a_status_is_one_of_those_that_are_known():
    with pytest.raises(ValueError, match="status: expected one of ok"):
        answered("a", "fine")


def test_zeromq_is_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "zmq", None)
    with pytest.raises(MissingExtraError, match=r"a rig over ZeroMQ needs zmq.*pip install 'closedloop\[rig\]'"):
        listen("zmq://127.0.0.1:0")


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_journal_that_cannot_be_written_is_said_to_the_experiment(tmp_path, when):
    """Before a block is shown, or when it is answered: it is shown once there is room, and says that it was before."""
    journal = Journal(tmp_path / "journal.sqlite")

    def lock(closed):
        journal._file.execute(f"PRAGMA query_only = {closed:d}")

    class Locking(Counting):
        def show(self, *asked):
            lock(True)
            return super().show(*asked)

    lock(when == "before")
    shows = Locking()
    (failed,) = serve(shows, journal, block())
    assert re.search(r"journal.sqlite cannot be read or written \(attempt to write.*; make room", failed.header["text"])
    assert (failed.type, shows.attempts) == ("error", [] if when == "before" else [1])
    lock(False)
    (answer,) = serve(Counting(), journal, block())
    assert (answer.type, answer.header["attempt"]) == ("answer", 1 if when == "before" else 2)
    journal.close()
