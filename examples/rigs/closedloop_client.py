"""Asks a session of ``closedloop serve`` for blocks, and tells what became of them. One file, Python's own library.

    with Client("127.0.0.1", 5580) as session:
        while (block := session.ask()) is not None:
            trials = [{"trial": t["trial"], "status": "ok", "counts": show(block, t)} for t in block["trials"]]
            session.tell(block, trials)

A lost connection is made again. Whoever dies: begin again, and `ask`; a block that was told is not handed out again.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import time
from typing import Any

PROTOCOL = "closedloop-serve/1"


class Refused(Exception):  # noqa: N818 - what the session says
    """The session refuses something; `code` says why."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


class Client:
    """A connection to a session, made again where it is lost.

    Args:
        host: Its computer.
        port: Its port.
        token: What both sides know; default the environment's CLOSEDLOOP_RIG_TOKEN.
        patience_s: Seconds for which a lost connection is tried again; None for ever.
    """

    def __init__(
        self, host: str = "127.0.0.1", port: int = 5580, token: str | None = None, patience_s: float | None = 60.0
    ) -> None:
        self.place, self.patience_s = (host, port), patience_s
        self.token = os.environ.get("CLOSEDLOOP_RIG_TOKEN", "") if token is None else token
        self.name = f"python-{os.getpid()}-{time.time_ns()}"
        self._file: Any = None
        self.welcome = self._call({"type": "status"})

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, wait_s: float = 10.0) -> dict[str, Any] | None:
        """Returns the next block, waiting as long as it takes; None when the session is over.

        ``block["images"]`` have `id`, `kind`, `thread`, `width`, `height` and `rgb`, bytes row by row;
        ``block["trials"]`` say in which order they are to be shown: `trial` (its name) and `image` (from 0).
        """
        while (got := self._call({"type": "ask", "wait_s": wait_s, "encoding": "rgb8"}))["type"] == "wait":
            pass
        if got["type"] == "over":
            return None
        for image in got["images"]:
            image["rgb"] = base64.b64decode(image.pop("data"))
        return got

    def tell(self, block: dict[str, Any], trials: list[dict[str, Any]], **more: Any) -> None:
        """Tells what became of a block; returns when it is written down.

        Args:
            block: What `ask` returned.
            trials: For each its name `trial`, `status`, and `counts` (one for each unit) or `spike_s` and `spike_unit`;
                `onset_s` and `onset_source` where they are known. What is left out was not shown.
            **more: `quality` of the units.
        """
        self._call({"type": "tell", "block": block["block"], "attempt": block["attempt"], "trials": trials, **more})

    def status(self) -> dict[str, Any]:
        """Returns how many blocks were told (`told`), which one is to be shown (`pending`), and why it is `over`."""
        return self._call({"type": "status"})

    def close(self) -> None:
        """Ends the connection; the session goes on waiting."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _call(self, asked: dict[str, Any]) -> dict[str, Any]:
        end = None if self.patience_s is None else time.monotonic() + self.patience_s
        while True:
            try:
                if self._file is None:
                    self._connect()
                return self._exchange(asked)
            except OSError:
                self.close()
                if end is not None and time.monotonic() > end:
                    raise
                time.sleep(0.2)

    def _connect(self) -> None:
        with socket.create_connection(self.place, timeout=30) as made:
            made.settimeout(620)
            self._file = made.makefile("rwb")
        hello = {"type": "hello", "proto": PROTOCOL, "client": self.name, "token": self.token}
        self._exchange(hello)

    def _exchange(self, asked: dict[str, Any]) -> dict[str, Any]:
        self._file.write(json.dumps(asked).encode() + b"\n")
        self._file.flush()
        line = self._file.readline()
        if not line.endswith(b"\n"):
            raise ConnectionError("the session has gone")
        got = json.loads(line)
        if got["type"] == "error":
            raise Refused(got["code"], got["text"])
        return got
