"""The desk: calls of one model never meet, the newest of a lane wins, lanes take turns."""

import asyncio
import threading

import pytest

from closedloop.errors import ClosedLoopError
from closedloop.viewer.desk import Desk, ModelFailedError, SupersededError


def test_the_newest_of_a_lane_wins_and_others_are_served():
    async def play():
        desk, begun, gate, done = Desk(), threading.Event(), threading.Event(), []

        def hold():
            begun.set()
            gate.wait(60)

        first = asyncio.create_task(desk.run("a", hold))
        assert await asyncio.to_thread(begun.wait, 60)
        old = asyncio.create_task(desk.run("a", lambda: done.append("old")))
        other = asyncio.create_task(desk.run("b", lambda: done.append("other")))
        await asyncio.sleep(0.02)
        new = asyncio.create_task(desk.run("a", lambda: done.append("new")))
        with pytest.raises(SupersededError, match="superseded"):
            await old
        gate.set()
        await asyncio.gather(first, other, new)
        return done

    assert asyncio.run(play()) == ["new", "other"]


def test_who_waits_in_a_lane_that_is_cleared_is_told():
    async def play():
        desk, begun, gate = Desk(), threading.Event(), threading.Event()
        first = asyncio.create_task(desk.run("a", lambda: (begun.set(), gate.wait(60))))
        assert await asyncio.to_thread(begun.wait, 60)
        waits = asyncio.create_task(desk.run("a", lambda: None))
        await asyncio.sleep(0.02)
        desk.clear("a")
        desk.clear("nobody")
        with pytest.raises(SupersededError, match="superseded"):
            await waits
        gate.set()
        await first

    asyncio.run(play())


class OursError(ClosedLoopError):
    """An error of ours."""


@pytest.mark.parametrize(
    ("raised", "told", "said"),
    [
        (OursError("as it is"), OursError, "^as it is$"),
        (ZeroDivisionError("one\nline"), ModelFailedError, r"^model: it failed with ZeroDivisionError \(one line\); "),
        (StopIteration(), ModelFailedError, "^model: it failed with StopIteration; choose another layer"),
        (SystemExit(3), ModelFailedError, "SystemExit"),
        (KeyboardInterrupt(), ModelFailedError, "KeyboardInterrupt"),
    ],
)
def test_whatever_a_model_raises_reaches_the_one_who_waits(raised, told, said):
    def fail():
        raise raised

    async def play():
        desk = Desk()
        with pytest.raises(told, match=said):
            await asyncio.wait_for(desk.run("a", fail), 5)
        return await desk.run("a", lambda: 3)

    assert asyncio.run(play()) == 3
