"""Places on a network: hosts and ports, also of IPv6."""

from __future__ import annotations

import socket

import pytest

from closedloop.errors import InvalidArgumentError
from closedloop.rigs.places import is_loopback, joined_place, parse_place
from closedloop.rigs.simulated import SimulatedRig
from closedloop.rigs.transports import listen
from closedloop.subjects import RigSubject
from tests.running_rigs import Running, marked, telling


def test_hosts_and_ports():
    assert parse_place("place", "rig.lab:5570", "") == ("rig.lab", 5570)
    assert parse_place("place", "[::1]:0", "") == ("::1", 0)
    for wrong in ("rig.lab", ":5570", "rig:x", "rig:-1", "rig:65536", "[]:1", "", 7):
        with pytest.raises(InvalidArgumentError, match="place: expected HOST:PORT, such as a:1, got"):
            parse_place("place", wrong, "a:1")
    assert joined_place("::1", 5) == "[::1]:5"
    assert joined_place("rig.lab", "*") == "rig.lab:*"


def test_hosts_that_no_other_computer_reaches():
    assert all(map(is_loopback, ("127.0.0.1", "127.3.2.1", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.5", "rig.lab", "*", "")))


def test_a_rig_at_an_address_of_ipv6():
    pytest.importorskip("zmq")
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    with pytest.raises(InvalidArgumentError, match="can be reached from other computers"):
        listen("zmq://[::]:0")
    rig = Running(SimulatedRig(telling()), "zmq://[::1]:0")
    subject = RigSubject(rig.address, resolution=12, patience_s=2.0, connect_s=5.0)
    assert subject.record(marked([1, 2])).shape == (2, 4)
    subject.close()
    rig.stop()
