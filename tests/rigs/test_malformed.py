"""Messages that are none: neither side ever ends by them, and no trial is taken for another."""

from __future__ import annotations

import contextlib
import copy
import json
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from closedloop.errors import ClosedLoopError, RigError
from closedloop.rigs.folder import FolderListener
from closedloop.rigs.journal import Journal
from closedloop.rigs.messages import (
    CODES,
    PROTOCOL,
    Message,
    block_name,
    decoded,
    encoded,
    opened,
    refuse_constant,
    sha256,
)
from closedloop.rigs.server import RigServer
from closedloop.rigs.serving import Desk, Talk, _checked
from closedloop.rigs.simulated import SimulatedRig
from closedloop.rigs.transports import parse_address
from closedloop.subjects import RigSubject
from tests.rigs.test_server import Counting, Way, block
from tests.running_rigs import Scripted, marked, telling
from tests.strategies import counted_settings

#: Values that nobody means.
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, -1, 1, 2, 3, 2**31, 2**53, 2**63, 2**64, -(2**70), 10**400, 1e308, -1e308, 1e-320, 1.5, 0.0]),
    st.sampled_from([float("nan"), float("inf"), float("-inf")]),
    st.text(max_size=5),
    st.sampled_from(["", "\ud800", "\0", "..", "../../x", "a" * 300, "ok", "1", "not_shown", PROTOCOL]),
    st.sampled_from([[], {}, [[]], [{}], {"": None}, [None], [1, "2"], [[1], [2, 3]], [True], {"trial": []}]),
)


def places(tree, path=()):
    """All places in a tree of plain values."""
    if isinstance(tree, dict):
        for key in tree:
            yield (*path, key)
            yield from places(tree[key], (*path, key))
    elif isinstance(tree, list):
        for i in range(min(len(tree), 3)):
            yield (*path, i)
            yield from places(tree[i], (*path, i))


def spoilt(data, tree, keep=()):
    """The tree with one to three things wrong with it."""
    tree = copy.deepcopy(tree)
    for _ in range(data.draw(st.integers(1, 3))):
        known = [path for path in places(tree) if path[0] not in keep]
        if not known:
            break
        *path, last = data.draw(st.sampled_from(known))
        at = tree
        for key in path:
            at = at[key]
        how = data.draw(st.sampled_from(["value", "value", "gone", "twice", "swap"]))
        if how == "value":
            at[last] = copy.deepcopy(data.draw(ODD))
        elif how == "gone":
            del at[last]
        elif how == "twice" and isinstance(at, list):
            at.append(copy.deepcopy(at[last]))
        elif isinstance(at, list) and len(at) > 1:
            at.reverse()
    return tree


def as_sent(tree):
    """As a stranger would write it down, with NaN and halves of characters."""
    return json.dumps(tree).encode()


def read(content):
    """The header that these bytes are; None where they are none."""
    try:
        return decoded(content)
    except RigError:
        return None


@pytest.mark.parametrize("encoding", ["rgb8", "png"])
def test_a_rig_answers_or_refuses_whatever_it_is_asked(encoding, counted, tally):
    way, shows = Way(), SimulatedRig(telling())
    server = RigServer(shows, way, Journal(":memory:"))
    seq = [0]

    @settings(counted_settings(counted, 60, 2_000, 50_000), suppress_health_check=list(HealthCheck))
    @given(st.data())
    def check(data):
        tally("messages to a rig")
        good = block(seq[0] + 1, (4, 9), encoding=encoding)
        tree = spoilt(data, dict(good.header))
        if data.draw(st.booleans()):
            with contextlib.suppress(ValueError):
                tree["block"] = block_name(tree)
        header = read(as_sent(tree))
        if header is None:
            return
        way.asked.append(Message(header, good.parts))
        assert server.step(0)
        reply = way.sent.pop()
        assert not way.sent
        assert opened(None, [b"", encoded(reply.header)]).type == reply.type
        if reply.type == "error":
            assert reply.header["code"] in CODES
            assert len(reply.header["text"]) < 2_000
        elif reply.type == "answer":  # what was changed was nothing that matters, or made another block
            named = {trial["trial"]: trial["image"] for trial in tree["trials"]}
            for trial in reply.header["trials"]:
                shown = (4, 9)[named[trial["trial"]]]
                assert trial["counts"][0] / trial["counts"][1] == pytest.approx(shown + 1)
            if reply.header["session"] == "s":
                seq[0] = max(seq[0], reply.header["seq"])

    check()
    way.asked.append(block(seq[0] + 1, (7,), session="another", supersede=True))
    assert server.step(0)
    assert way.sent.pop().type == "answer"


def welcome_of(seq):
    units = [{"id": "a", "channel": 1}, {"id": "b", "channel": 2}]
    screen, clock = {"px_per_deg": 30, "hz": 100, "gamma": 1.0}, {"name": "x", "hz": 1}
    known = {"rig_id": "r", "units": units, "gives": "counts", "encoding": "rgb8", "screen": screen, "clock": clock}
    return {"proto": PROTOCOL, "type": "welcome", "max_images": 9, "max_bytes": 10**6, **known}


def answer_of(sent, spikes):
    """What a rig would say to a block of marked images: as counts, or as so many spikes."""
    numbers = [int(part[0]) for part in sent.parts]
    trials = []
    for trial in sent.header["trials"]:
        counts = [numbers[trial["image"]] + 1, 1]
        said = {"counts": counts}
        if spikes:
            said = {"spike_s": [0.1] * sum(counts), "spike_unit": [0] * counts[0] + [1] * counts[1]}
        when = {"onset_s": 1.5, "onset_source": "ttl", "attempt": 1}
        trials.append({"trial": trial["trial"], "status": "ok", **when, **said})
    same = {name: sent.header[name] for name in ("proto", "session", "seq", "block")}
    return {**same, "type": "answer", "attempt": 1, "trials": trials, "quality": {"a": {"snr": 2.0}}}


@pytest.mark.parametrize("spikes", [False, True])
def test_an_experiment_takes_no_trial_for_another_whatever_a_rig_answers(spikes, counted, tally):
    @settings(counted_settings(counted, 60, 2_000, 50_000), suppress_health_check=list(HealthCheck))
    @given(st.data())
    def check(data):
        tally("answers of a rig")

        def say(sent, count):
            if sent.type == "hello":
                return [Message({**welcome_of(0), "gives": "spikes" if spikes else "counts"})]
            whole = answer_of(sent, spikes)
            tree = spoilt(data, whole, keep=("session", "seq", "block", "proto", "type"))
            try:
                return [Message(decoded(as_sent(tree)))]
            except RigError:
                return [Message(decoded(encoded({**whole, "trials": []})))]

        subject = RigSubject(Scripted(say), resolution=12, patience_s=0.01, give_up_s=0.03, on_s=0.001, off_s=0.0)
        numbers = np.array([50, 120, 80])
        try:
            responses = subject.record(marked(numbers))
        except ClosedLoopError:
            return
        ok = ~np.isnan(responses).any(axis=1)
        found = responses[ok, 0] - responses[ok, 1]
        assert (np.isin(found, numbers) <= (found == numbers[ok])).all()  # that of another image is nowhere
        subject.close()

    check()


def test_a_welcome_that_is_none_is_refused_by_name(counted, tally):
    @settings(counted_settings(counted, 80, 2_000, 20_000), suppress_health_check=list(HealthCheck))
    @given(st.data())
    def check(data):
        tally("welcomes of a rig")

        def say(sent, count):
            tree = spoilt(data, welcome_of(0), keep=("proto", "type"))
            try:
                return [Message(decoded(as_sent(tree)))]
            except RigError:
                return [Message(welcome_of(0))]

        try:
            subject = RigSubject(Scripted(say), resolution=12)
        except ClosedLoopError:
            return
        assert subject.units.neuroid_id
        assert subject.px_per_deg is None or subject.px_per_deg > 0
        encoded(subject.begin_run())
        subject.state()

    check()


def test_whatever_bytes_come_are_a_message_or_an_error(counted, tally):
    good = encoded(block().header)

    @settings(counted_settings(counted, 150, 3_000, 100_000))
    @given(st.one_of(st.binary(max_size=60), st.builds(cut, st.integers(0, len(good)), st.binary(max_size=3))))
    @example(b"\xff\xfe{\x00}\x00")
    @example(b'{"a":' * 5000)
    @example(b'{"proto":"closedloop-rig/1","type":"hello","x":' + b"9" * 5000 + b"}")
    def check(content):
        tally("bytes to a rig")
        for frames in ([content], [b"", content], [content, good], [b"", content, content]):
            with contextlib.suppress(RigError):
                assert isinstance(opened(None, frames).header, dict)

    check()


def cut(at, inserted):
    """A header with some bytes put in the place of others."""
    good = encoded(block().header)
    return good[:at] + inserted + good[at + len(inserted) + 1 :]


def test_a_folder_with_other_things_in_it(tmp_path, counted, tally):
    """What lies in the place of a block is refused, or left alone, and the next block is answered."""
    root = tmp_path / "exchange"
    way = FolderListener(root)
    server = RigServer(Counting(), way, Journal(":memory:"))
    place_of = [0]

    @settings(counted_settings(counted, 40, 500, 10_000), suppress_health_check=list(HealthCheck))
    @given(st.data())
    def check(data):
        tally("files in the folder of a rig")
        place_of[0] += 1
        place = root / "sessions" / f"s{place_of[0]}" / "000001"
        (place / "images").mkdir(parents=True)
        good = block(1, (1, 2), session=f"s{place_of[0]}", encoding="png")
        tree = spoilt(data, dict(good.header))
        content = data.draw(st.one_of(st.just(as_sent(tree)), st.binary(max_size=20)))
        for part in good.parts:
            (place / "images" / f"{sha256(part)}.png").write_bytes(part)
        (place / "block.json").write_bytes(content)
        (place / "READY").write_bytes(data.draw(st.sampled_from([sha256(content).encode(), b"", b"\xff", b"x y"])))
        (place.parent / "hello-x.json").write_bytes(data.draw(st.sampled_from([b"{}", b"[", as_sent({"proto": 1})])))
        while server.step(0):
            pass
        for name in ("answer.json", "error.json"):
            if (place / name).exists():
                decoded((place / name).read_bytes())

    check()
    place = root / "sessions" / "last" / "000001"
    (place / "images").mkdir(parents=True)
    good = block(1, (1, 2), session="last", encoding="png")
    for part in good.parts:
        (place / "images" / f"{sha256(part)}.png").write_bytes(part)
    (place / "block.json").write_bytes(encoded(good.header))
    (place / "READY").write_text(sha256(encoded(good.header)))
    while server.step(0):
        pass
    assert decoded((place / "answer.json").read_bytes())["type"] == "answer"


def test_a_session_that_is_served_goes_on_whatever_a_client_says(counted, tally):
    desk = Desk({"rig_id": "served", "units": [{"id": "a"}, {"id": "b"}], "gives": "counts"})
    desk.patience_s = 0.0
    good = block(1, (4, 9))
    told = []

    def session():
        pixels = [np.frombuffer(part, np.uint8).reshape(12, 12, 3) for part in good.parts]
        told.append(desk.show(good.header, pixels, 1, lambda *_: None))
        desk.noted(str(good.header["block"]))

    thread = threading.Thread(target=session, daemon=True)
    thread.start()
    trials = [{"trial": f"1-{i}", "status": "ok", "counts": [i, 1], "onset_s": 0.5} for i in range(2)]
    lines = [
        {"type": "hello", "proto": "closedloop-serve/1", "client": "c", "token": "t"},
        {"type": "ask", "wait_s": 0, "encoding": "rgb8"},
        {"type": "status"},
        {"type": "tell", "block": "x", "attempt": 1, "trials": trials, "quality": {"a": {"snr": 1.0}}},
        {"type": "tell", "block": good.header["block"], "attempt": 1, "trials": trials},
    ]

    @settings(counted_settings(counted, 100, 2_000, 50_000), suppress_health_check=list(HealthCheck))
    @given(st.data())
    def check(data):
        tally("lines to a session that is served")
        talk = Talk(desk, b"t")
        if data.draw(st.booleans()):
            assert talk.answer(json.dumps(lines[0]).encode())["type"] == "welcome"
        which = data.draw(st.integers(0, len(lines) - 1))
        tree = spoilt(data, lines[which], keep=("block",) if which == 4 else ())
        if which == 4 and told_well(tree):
            return
        if isinstance(tree.get("wait_s"), int) and tree["wait_s"] > 0:
            tree["wait_s"] = 0
        line = data.draw(st.one_of(st.just(as_sent(tree)), st.binary(max_size=20)))
        said = talk.answer(line)
        json.dumps(said)
        assert said["type"] in ("welcome", "block", "wait", "over", "told", "status", "resume", "error")
        if said["type"] == "error":
            assert said["code"] in CODES

    def told_well(tree):
        """Whether it may still be a proper answer, which would end the test."""
        return not told and tree.get("type") == "tell" and _readable(tree, good.header)

    check()
    assert not told
    talk = Talk(desk, None)
    talk.answer(json.dumps(lines[0]).encode())
    assert talk.answer(json.dumps(lines[4]).encode())["type"] == "told"
    thread.join(5)
    assert [trial["counts"] for trial in told[0]["trials"]] == [[0, 1], [1, 1]]


def _readable(tree, header):
    """Whether an answer is a proper one."""
    said = {"units": [{"id": "a"}, {"id": "b"}], "gives": "counts"}
    try:
        _checked(header, json.loads(as_sent(tree), parse_constant=refuse_constant), 1, said)
    except (RigError, ValueError):
        return False
    return True


@pytest.mark.parametrize(
    "folder", ["C:\\data", "C:\\data\\rig 1", "D:/rig", "\\\\server\\share\\rig", "/tmp/rig", "rig"]
)
def test_folders_of_any_system(folder):
    assert parse_address(f"folder:{folder}") == ("folder", folder)
