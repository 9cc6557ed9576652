"""Markers for LSL: what is sent, by a stand-in with the real names, and through the library where it is there."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest

from closedloop.errors import InvalidArgumentError, MissingExtraError
from closedloop.rigs.markers import MarkedRig, Markers
from closedloop.rigs.simulated import SimulatedRig
from closedloop.subjects import RigSubject
from tests.running_rigs import address, marked, running, telling  # noqa: F401 - fixtures


class StandIn(SimpleNamespace):
    """`pylsl` as far as it is used."""

    IRREGULAR_RATE, cf_string = 0.0, 3

    def __init__(self):
        super().__init__(opened=[], sent=[])

    def StreamInfo(self, *arguments):  # noqa: N802 - its name
        self.opened.append(arguments)
        return arguments

    def StreamOutlet(self, info):  # noqa: N802 - its name
        return SimpleNamespace(push_sample=lambda sample, at: self.sent.append((sample, at)))

    def local_clock(self):
        return 12.5


@pytest.fixture
def lsl(monkeypatch):
    stand_in = StandIn()
    monkeypatch.setitem(sys.modules, "pylsl", stand_in)
    return stand_in


def test_a_stream_of_texts_at_irregular_times(lsl):
    markers = Markers("room 3")
    assert lsl.opened == [("room 3", "Markers", 1, 0.0, 3, "closedloop-room 3")]
    markers.say("reward", ml=0.1)
    markers.say("flip", 3.25)
    assert lsl.sent == [(['{"event":"reward","ml":0.1}'], 12.5), (['{"event":"flip"}'], 3.25)]


def test_what_a_rig_shows_is_marked(lsl, running, address):  # noqa: F811 - fixtures
    rig = MarkedRig(SimulatedRig(telling(), pace=0.001), Markers())
    subject = RigSubject(running(rig, address).address, resolution=12, on_s=0.1, off_s=0.0)
    subject.record(marked([3, 1, 2]))
    subject.close()
    said = [json.loads(text) for (text,), _ in lsl.sent]
    assert [one["event"] for one in said] == ["block", "image", "image", "image", "answered"]
    assert said[0] | {"session": ""} == {
        "event": "block",
        "session": "",
        "seq": 1,
        "phase": "",
        "generation": -1,
        "attempt": 1,
        "trials": 3,
    }
    assert [one["trial"] for one in said[1:4]] == ["000001-0000", "000001-0001", "000001-0002"]
    assert [one["id"] for one in said[1:4]] == ["0000", "0001", "0002"]
    assert said[4]["ok"] == 3


def test_a_rig_with_markers_goes_on_like_one_without(lsl):
    rig = SimulatedRig(telling(), seed=3)
    rig._shown = 7
    again = SimulatedRig(telling(), seed=3)
    MarkedRig(again, Markers()).restore(MarkedRig(rig, Markers()).state())
    assert again._shown == 7


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pylsl", None)
    with pytest.raises(MissingExtraError, match=r"closedloop\[lsl\]"):
        Markers()


@pytest.mark.parametrize("name", ["", None, 3])
def test_a_stream_has_a_name(name):
    with pytest.raises(InvalidArgumentError, match="name: expected the name of a stream"):
        Markers(name)


def test_through_the_library():
    """Outlet and inlet in this process, over loopback."""
    pylsl = pytest.importorskip("pylsl")
    markers = Markers("closedloop-test", "closedloop-test-of-markers")
    found = pylsl.resolve_byprop("source_id", "closedloop-test-of-markers", timeout=5)
    if not found:
        pytest.skip("this computer lets no multicast through")
    inlet = pylsl.StreamInlet(found[0])
    inlet.open_stream(timeout=5)
    before = pylsl.local_clock()
    markers.say("flip", trial="000001-0000")
    sample, at = inlet.pull_sample(timeout=5)
    assert json.loads(sample[0]) == {"event": "flip", "trial": "000001-0000"}
    assert 0 <= at - before < 5
    assert found[0].type() == "Markers"
