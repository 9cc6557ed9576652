"""The closed loop: threads, sessions, and what commits them."""

from typing import TYPE_CHECKING

from closedloop.errors import late_import

if TYPE_CHECKING:
    from closedloop.loop.blocks import Generation, Observer
    from closedloop.loop.session import Session
    from closedloop.loop.settings import Settings
    from closedloop.loop.thread import Thread

__getattr__ = late_import(
    __name__,
    {"Generation": "blocks", "Observer": "blocks", "Session": "session", "Settings": "settings", "Thread": "thread"},
)

__all__ = ["Generation", "Observer", "Session", "Settings", "Thread"]
