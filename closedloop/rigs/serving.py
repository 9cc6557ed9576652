"""A session that is held for a rig which drives itself: ask, tell, status and resume, a line of JSON each, over TCP.

Inside it is a rig like any other: a `RigServer` with its journal, asked through a pair of queues, whose blocks wait at
a `Desk` until a client has asked for them and told what became of them. An answer is in the journal before the client
hears that it was taken. So either side may die at any time: a block that was told is never shown again, and one that
was handed out and not told is handed out once more, with the next `attempt`.
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import json
import queue
import socket
import socketserver
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from closedloop.errors import InvalidArgumentError, RigError, SubjectError
from closedloop.images.eight_bit import encode_png, from_bytes
from closedloop.rigs.journal import Journal
from closedloop.rigs.messages import Message, encoded, refusal, refuse_constant
from closedloop.rigs.pixels import ENCODINGS
from closedloop.rigs.places import SESSION, is_loopback, parse_place
from closedloop.rigs.reading import gives_spikes, read_answer
from closedloop.rigs.server import RigServer, Tell

#: Name and version of the protocol; what stands behind the slash changes when an older client would misunderstand.
PROTOCOL = "closedloop-serve/1"
#: The longest line that a client may send, in bytes: spikes of a large block.
LONGEST = 2**28
#: Seconds that `ask` waits for a block unless it says otherwise, and at most.
WAIT_S, MOST_S = 10.0, 600.0


@final
class Desk:
    """Where blocks lie until a client has told what became of them; a rig for `RigServer`.

    Args:
        said: What is said of the rig: `rig_id`, `units`, `gives`.

    Attributes:
        written: Tells whether the journal holds the answer to a block.
        again: Writes into the journal that a block is handed out once more; returns which attempt that is.
        patience_s: Seconds that an answer waits for its block, where none is to be shown.
        taken: Blocks whose answers were written down since it began.
        reason: Why there is nothing more to show; None while there may be.
    """

    def __init__(self, said: Mapping[str, Any]) -> None:
        self._said = dict(said)
        self._changed = threading.Condition()
        self._block: Mapping[str, Any] | None = None
        self._images: Sequence[NDArray[np.uint8]] = ()
        self._attempt, self._asker = 0, ""
        self._answer: Mapping[str, Any] | None = None
        self._kept = ""
        self.written: Callable[[str], bool] = lambda block: False
        self.again: Callable[[Mapping[str, Any]], int] = lambda block: self._attempt + 1
        self.patience_s: float = 10.0
        self.taken: int = 0
        self.reason: str | None = None

    def welcome(self) -> Mapping[str, Any]:
        """Returns what is said of the rig."""
        return self._said

    def show(
        self, block: Mapping[str, Any], images: Sequence[NDArray[np.uint8]], attempt: int, tell: Tell
    ) -> Mapping[str, Any]:
        """Waits until a client has told what became of a block; keeps the session patient meanwhile."""
        with self._changed:
            self._block, self._images, self._attempt = block, images, attempt
            self._asker, self._answer = "", None
            self._changed.notify_all()
            while self._answer is None:
                if self.reason is not None:
                    raise RigError("the session is over.", "unknown")
                self._changed.wait(0.5)
                taken = f"handed to {self._asker}" if self._asker else "nobody has asked for it"
                tell(0, len(block["trials"]), taken)
            answer = self._answer
            self._block = None
            return answer

    def noted(self, block: str) -> None:
        """Takes note that the answer to a block is in the journal."""
        with self._changed:
            self._kept, self.taken = block, self.taken + 1
            self._changed.notify_all()

    def ask(self, client: str, wait_s: float) -> dict[str, Any] | None:
        """Returns the block that is to be shown, with its images; None where there is none in time.

        Another client than the one that was handed it before gets it with the next `attempt`: that one died.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._ready() or self.reason is not None, wait_s)
            if not self._ready() or self._block is None:
                return None
            if self._asker not in ("", client):
                self._attempt = self.again(self._block)  # before it is shown: this side may die, too
            self._asker = client
            return {**self._block, "attempt": self._attempt, "pixels": list(self._images)}

    def _ready(self) -> bool:
        return self._block is not None and self._answer is None

    def tell(self, block: str, answer: Mapping[str, Any]) -> bool:
        """Takes what became of a block; returns once it is in the journal, and whether it was there before.

        Raises:
            RigError: It is not the block that is to be shown ("conflict"), or names trials that are none of it.
        """
        with self._changed:
            if block == self._kept or self.written(block):
                return True
            if self._block is None:  # a session that has begun again asks for it in a moment
                self._changed.wait_for(lambda: self._ready() or self.reason is not None, self.patience_s)
            if not self._ready() or self._block is None or self._block["block"] != block:
                raise RigError("tell: this block is not the one that is to be shown; ask for it again.", "conflict")
            self._answer = _checked(self._block, answer, self._attempt, self._said)
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: self._kept == block or self.reason is not None, 60):
                raise RigError("tell: the answer was not written down within 60 s; tell it again.", "busy")
            if self._kept != block:
                raise RigError(f"tell: the session ended before it was written down: {self.reason}", "unknown")
            return False

    def pending(self) -> dict[str, Any]:
        """Returns number, name and attempt of the block that is to be shown; empty where there is none."""
        with self._changed:
            if self._block is None or self._answer is not None:
                return {}
            names = ("session", "seq", "block", "phase", "generation")
            return {**{name: self._block.get(name) for name in names}, "attempt": self._attempt}

    def end(self, reason: str) -> None:
        """Says that there is nothing more to show."""
        with self._changed:
            self.reason = reason
            self._changed.notify_all()


def _checked(
    block: Mapping[str, Any], answer: Mapping[str, Any], attempt: int, said: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns trials and quality of an answer, if the session can read them: what is written down stays.

    Args:
        block: The block that it is the answer to.
        answer: What the client said.
        attempt: Which one it is, where it does not say so.
        said: What is said of the rig: its units, and whether it gives spikes.

    Raises:
        RigError: It cannot ("malformed").
    """
    trials = answer.get("trials")
    trials = [trials] if isinstance(trials, dict) else trials  # MATLAB makes one of a single entry
    if not isinstance(trials, list) or not all(isinstance(entry, dict) for entry in trials):
        raise RigError("tell: expected a list of trials, each with a name and what it brought.", "malformed")
    more = {name: answer[name] for name in ("quality", "rig_clock_s") if name in answer}
    told = answer.get("attempt", attempt)  # of a client that was handed it before this side died
    which = told if type(told) is int and told >= 1 else attempt
    found = {"trials": [{"attempt": which, **entry} for entry in trials], **more}
    names, units = [trial["trial"] for trial in block["trials"]], [str(unit["id"]) for unit in said["units"]]
    try:
        encoded(found)
        read_answer(found, names, units, block["window_s"], block.get("bins_s"), gives_spikes(said))
    except (SubjectError, ValueError) as error:
        raise RigError(f"tell: {str(error).removeprefix('rig: ')}", "malformed") from error
    return found


@final
class DeskTransport:
    """The way to a desk in this process: a rig's server with its journal in a thread, and a server for clients.

    Args:
        place: ``HOST:PORT`` where clients ask; port 0 for a free one.
        desk: Where blocks lie.
        journal: File of what was told.
        token: What clients must say; required where other computers reach the port.

    Raises:
        InvalidArgumentError: The place is none, others reach it and there is no token, or the port is taken.
    """

    encodings: tuple[str, ...] = ("rgb8",)
    address = ""

    def __init__(self, place: str, desk: Desk, journal: str | Path, token: bytes | None = None) -> None:
        self.desk = desk
        host, port = parse_place("listen", place, SESSION)
        if token is None and not is_loopback(host):
            raise InvalidArgumentError(
                f"listen: other computers reach {place}; give both sides a token (--token-file, of mode 0600), or "
                "listen at 127.0.0.1."
            )
        self._there: queue.Queue[Message] = queue.Queue()
        self._back: queue.Queue[Message] = queue.Queue()
        self._journal = Journal(journal)
        desk.written = lambda block: any(b == block and done for _, _, b, _, done in self._journal.shown())
        desk.again = lambda block: self._journal.begin(
            str(block["session"]), int(block["seq"]), str(block["block"]), supersede=True
        )
        try:
            self._server = _Server((host, port), desk, token)
        except OSError as error:
            self._journal.close()
            raise InvalidArgumentError(f"listen: cannot listen at {place} ({error.strerror or error}).") from error
        self.port: int = int(self._server.server_address[1])
        self._ended = threading.Event()
        rig = RigServer(desk, _Listening(self), self._journal)
        self._threads = [
            threading.Thread(target=self._run, args=(rig,), daemon=True, name="closedloop-desk"),
            threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True, name="closedloop-serve"),
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, rig: RigServer) -> None:
        """Answers until it is closed; what goes wrong ends the session, which would wait in vain, and its clients."""
        try:
            rig.run(self._ended.is_set)
        except Exception as error:  # noqa: BLE001 - whatever it is, the session is told
            why = f"the journal of the session cannot be written ({type(error).__name__}: {error})"
            self.desk.end(why)
            self._back.put(refusal(RigError(why)))

    def send(self, sent: Message) -> None:
        """Hands a message to the rig's server."""
        self._there.put(sent)

    def receive(self, timeout_s: float) -> Message | None:
        """Returns the next message of the rig's server; None where none comes in time."""
        try:
            return self._back.get(timeout=max(timeout_s, 1e-3))
        except queue.Empty:
            return None

    def renew(self) -> None:
        """Does nothing: a queue has no cable."""

    def close(self) -> None:
        """Ends both servers."""
        if self._ended.is_set():
            return
        self._ended.set()
        self.desk.end(self.desk.reason or "the session was closed")
        self._server.shutdown()
        self._server.server_close()
        self._threads[0].join(5)
        self._journal.close()


@final
class _Listening:
    """The rig's side of the queues."""

    def __init__(self, way: DeskTransport) -> None:
        self._way = way

    def receive(self, timeout_s: float) -> tuple[Any, Message] | None:
        """Returns the next message of the session."""
        try:
            return None, self._way._there.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def reply(self, peer: Any, sent: Message) -> None:
        """Hands a message to the session; an answer is in the journal by then, and its client hears so."""
        self._way._back.put(sent)
        if sent.type == "answer":
            self._way.desk.noted(str(sent.header["block"]))

    def close(self) -> None:
        """Does nothing."""


class _Server(socketserver.ThreadingTCPServer):
    """Answers clients, each in a thread of its own."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, place: tuple[str, int], desk: Desk, token: bytes | None) -> None:
        self.address_family = socket.AF_INET6 if ":" in place[0] else socket.AF_INET
        self.desk, self.token = desk, token
        super().__init__(place, _Conversation)


class _Conversation(socketserver.StreamRequestHandler):
    """One client: lines in, lines out."""

    def handle(self) -> None:
        """Answers until the client goes."""
        server: Any = self.server
        talk = Talk(server.desk, server.token)
        with contextlib.suppress(OSError):
            while line := self.rfile.readline(LONGEST + 1):
                self.wfile.write(json.dumps(talk.answer(line), separators=(",", ":")).encode() + b"\n")
                self.wfile.flush()
                if talk.refused:
                    return


@final
class Talk:
    """What is answered to the lines of one client.

    Args:
        desk: Where blocks lie.
        token: What it must say with its hello; None for nothing.
    """

    def __init__(self, desk: Desk, token: bytes | None) -> None:
        self._desk, self._token = desk, token
        self._client = ""
        self.refused: int = False

    def answer(self, line: bytes) -> dict[str, Any]:
        """Returns the answer to one line; an error where it cannot be understood."""
        try:
            return self._answered(_read(line))
        except RigError as error:
            self.refused = error.code in ("auth", "version", "too_large")
            return {"proto": PROTOCOL, "type": "error", "code": error.code, "text": str(error)}

    def _answered(self, asked: dict[str, Any]) -> dict[str, Any]:
        kind = asked["type"]
        if kind == "hello":
            self._greet(asked)
        elif not self._client:
            raise RigError("expected hello first.", "auth")
        answers = {"hello": self._welcome, "ask": self._ask, "tell": self._tell, "status": self._status}
        answers["resume"] = self._status
        if kind not in answers:
            raise RigError(f"expected hello, ask, tell, status or resume, got {kind!r:.40}.", "unknown")
        return {"proto": PROTOCOL, **answers[kind](asked)}

    def _greet(self, asked: Mapping[str, Any]) -> None:
        if asked.get("proto") != PROTOCOL:
            raise RigError(f"expected {PROTOCOL}, got {asked.get('proto')!r:.60}; update the older side.", "version")
        said = str(asked.get("token") or "").encode(errors="replace")
        if self._token is not None and not hmac.compare_digest(said, self._token):
            raise RigError("the token differs from that of the session; give both sides the same.", "auth")
        self._client = str(asked.get("client") or "client")[:80]

    def _welcome(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        return {"type": "welcome", **self._desk.welcome(), **self._said()}

    def _said(self) -> dict[str, Any]:
        pending = self._desk.pending()
        return {"told": self._desk.taken, "pending": pending or None, "over": self._desk.reason}

    def _status(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        return {"type": str(asked["type"]), **self._said()}

    def _ask(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        wait_s, encoding = asked.get("wait_s", WAIT_S), asked.get("encoding", "png")
        if not isinstance(wait_s, (int, float)) or isinstance(wait_s, bool) or not 0 <= wait_s <= MOST_S:
            raise RigError(f"ask: wait_s: expected seconds from 0 to {MOST_S:g}, got {wait_s!r:.40}.", "malformed")
        if encoding not in ENCODINGS:
            raise RigError(f"ask: expected an encoding of {', '.join(ENCODINGS)}, got {encoding!r:.40}.", "malformed")
        block = self._desk.ask(self._client, float(wait_s))
        if block is None:
            over = self._desk.reason
            return {"type": "wait"} if over is None else {"type": "over", "text": over}
        pixels = block.pop("pixels")
        images = [
            {**{k: v for k, v in entry.items() if k != "bytes"}, "data": _data(image, encoding)}
            for entry, image in zip(block["images"], pixels, strict=True)
        ]
        return {**block, "type": "block", "proto": PROTOCOL, "encoding": encoding, "images": images}

    def _tell(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        known = self._desk.tell(str(asked.get("block")), asked)
        return {"type": "told", "block": asked.get("block"), "again": known}


def _read(line: bytes) -> dict[str, Any]:
    """Returns what a line holds.

    Raises:
        RigError: It is too long, or no JSON object with a type.
    """
    if len(line) > LONGEST:
        raise RigError(f"expected lines of at most {LONGEST} bytes.", "too_large")
    try:
        asked = json.loads(line, parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        raise RigError(f"expected a line of JSON, got something else ({error!s:.80}).", "malformed") from error
    if not isinstance(asked, dict) or not isinstance(asked.get("type"), str):
        raise RigError("expected a JSON object with a type.", "malformed")
    return asked


def _data(image: NDArray[np.uint8], encoding: str) -> str:
    """Returns an image ``(h, w, 3)`` as base64 of its bytes, row by row, or of a PNG."""
    if encoding == "rgb8":
        return base64.b64encode(np.ascontiguousarray(image).tobytes()).decode()
    return base64.b64encode(encode_png(from_bytes(image.transpose(2, 0, 1)))).decode()


def units_said(units: Any) -> list[dict[str, Any]]:
    """Returns units as a rig says them, from their number or their names.

    Raises:
        InvalidArgumentError: Something else.
    """
    if type(units) is int and units >= 1:
        return [{"id": f"unit.{i}"} for i in range(units)]
    if isinstance(units, (list, tuple)) and units and all(isinstance(name, str) and name for name in units):
        if len(set(units)) == len(units):
            return [{"id": name} for name in units]
        raise InvalidArgumentError(f"units: expected different names, got {list(units)!r:.80}.")
    raise InvalidArgumentError(f"units: expected names of the units, or their number, got {units!r:.80}.")


def not_over(desk: Desk) -> None:
    """Raises SubjectError if a session is over."""
    if desk.reason is not None:
        raise SubjectError(f"served: {desk.reason}.")
