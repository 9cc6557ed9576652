"""Two computers in one: network namespaces with a cable between them that delays and loses packets, and can be pulled.

The kernel's own `netem` is not there everywhere, so the cable is a process that hands packets from one TUN device to
the other: what TCP makes of lost packets is the kernel's own doing.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import sys
import time
from pathlib import Path

RIG, SESSION = "10.77.19.1", "10.77.19.2"
_CLONE_NEWNET, _TUNSETIFF, _TUN, _NO_PI = 0x40000000, 0x400454CA, 0x0001, 0x1000


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def possible():
    """Why this computer cannot be two; empty where it can."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "needs Linux, and root"
    if not os.path.exists("/dev/net/tun"):
        return "needs /dev/net/tun"
    name = f"clcan{os.getpid()}"
    try:
        ip("netns", "add", name)
        ip("netns", "del", name)
        with open("/dev/net/tun", "r+b", buffering=0):
            return ""
    except (OSError, subprocess.CalledProcessError) as error:
        return f"needs network namespaces and TUN devices ({error})"


class Computers:
    """Namespaces for a rig and a session, each with its own end of the cable."""

    def __init__(self, folder, delay_s, loss):
        self.names, self.folder = [f"cl{side}{os.getpid()}" for side in ("rig", "ses")], Path(folder)
        for name in self.names:
            ip("netns", "add", name)
        words = [__file__, *self.names, str(delay_s), str(loss), str(self.folder / "pulled"), str(self.folder / "told")]
        self.cable = subprocess.Popen([sys.executable, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.cable.stdout.readline() == b"ready\n"
        for name, own, other in zip(self.names, (RIG, SESSION), (SESSION, RIG), strict=True):
            ip("-n", name, "addr", "add", own, "peer", other, "dev", "cable")
            ip("-n", name, "link", "set", "cable", "up", "mtu", "1400")
            ip("-n", name, "link", "set", "lo", "up")

    def begin(self, side, *words, **options):
        """Begins a program on one of both computers."""
        return subprocess.Popen(["ip", "netns", "exec", self.names[side], sys.executable, *words], **options)

    def pull(self, seconds):
        """Pulls the cable for a while."""
        (self.folder / "pulled").touch()
        time.sleep(seconds)
        (self.folder / "pulled").unlink()

    def close(self):
        """Takes everything away; returns how many packets came, and how many were lost."""
        self.cable.stdin.close()
        self.cable.wait(10)
        self.cable.stdout.close()
        for name in self.names:
            with contextlib.suppress(subprocess.CalledProcessError):
                ip("netns", "del", name)
        return [int(word) for word in (self.folder / "told").read_text().split()]


def tun_in(name):
    """Opens a TUN device in a namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/run/netns/{name}", "rb") as space:
        if libc.setns(space.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {name}")
    end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(end, _TUNSETIFF, struct.pack("16sH", b"cable", _TUN | _NO_PI))
    return end


def carry(ends, delay_s, loss, pulled, told):
    """Hands packets on until its standard input ends."""
    rng, waiting, number, lost = random.Random(19), [], 0, 0
    other = {ends[0]: ends[1], ends[1]: ends[0]}
    while True:
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, _, end, packet = heapq.heappop(waiting)
            with contextlib.suppress(OSError):
                os.write(end, packet)
        timeout = max(0.0, waiting[0][0] - now) if waiting else 0.2
        for end in select.select([*ends, 0], [], [], timeout)[0]:
            if end == 0:
                told.write_text(f"{number} {lost}")
                return
            packet = os.read(end, 65536)
            number += 1
            if pulled.exists() or rng.random() < loss:
                lost += 1
            else:
                heapq.heappush(waiting, (time.monotonic() + delay_s, number, other[end], packet))


if __name__ == "__main__":
    ends = [tun_in(name) for name in sys.argv[1:3]]
    os.write(1, b"ready\n")
    carry(ends, float(sys.argv[3]), float(sys.argv[4]), Path(sys.argv[5]), Path(sys.argv[6]))
