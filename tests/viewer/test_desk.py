"""The desk: calls of one model never meet, the newest of a lane wins, lanes take turns."""

import asyncio
import threading

import pytest

from closedloop.viewer.desk import Desk, SupersededError


def test_the_newest_of_a_lane_wins_and_others_are_served():
    async def play():
        desk, gate, done = Desk(), threading.Event(), []
        first = asyncio.create_task(desk.run("a", gate.wait))
        await asyncio.sleep(0.02)
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


def test_an_error_reaches_the_one_who_waits():
    async def play():
        desk = Desk()
        with pytest.raises(ZeroDivisionError, match="division"):
            await desk.run("a", lambda: 1 / 0)
        return await desk.run("a", lambda: 3)

    assert asyncio.run(play()) == 3
