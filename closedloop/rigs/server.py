"""The side of the rig: takes blocks, has them shown once, writes them down, and answers.

A program that shows images hands over an object that is `Shows`; all else, the journal, resends, versions and refusals,
is done here. No call needs POSIX, for the computers of rigs often run Windows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, final

import numpy as np
from numpy.typing import NDArray

from closedloop.errors import RigError
from closedloop.interfaces import Stateful
from closedloop.presentations import STATUSES
from closedloop.rigs.journal import Entry, Journal
from closedloop.rigs.messages import Message, block_name, decoded, encoded, message, refusal
from closedloop.rigs.pixels import ENCODINGS, decode
from closedloop.rigs.transports import Listener

#: Seconds between two messages of progress, at least.
PROGRESS_S = 0.5
#: Tells how many presentations of how many were shown, and what else there is to say.
Tell = Callable[[int, int, str], None]


class Shows(Protocol):
    """What shows images at a rig. One that is `Stateful` has its state kept in the journal."""

    def welcome(self) -> Mapping[str, Any]:
        """Returns what is said of the rig: `rig_id`, `units`, and `screen`, `clock`, `max_images` where known."""
        ...

    def show(
        self, block: Mapping[str, Any], images: Sequence[NDArray[np.uint8]], attempt: int, tell: Tell
    ) -> Mapping[str, Any]:
        """Shows a block, and returns `trials`, and `quality` and `rig_clock_s` where known.

        Args:
            block: Its header: `trials` name which of the images is shown when, `show` how.
            images: Its images, ``(h, w, 3)`` RGB each.
            attempt: 2 and more where the rig died while it showed this block before.
            tell: Is told how far it is; called at least every few seconds, it keeps the experiment patient.
        """
        ...


@final
class RigServer:
    """A rig that is asked.

    Args:
        shows: Shows images.
        listener: Where it is asked.
        journal: What it has shown. A rig with a state goes on where its journal says.

    Attributes:
        sessions: Those that have said hello, by name, with their clients.
    """

    def __init__(self, shows: Shows, listener: Listener, journal: Journal) -> None:
        self._shows, self._listener, self._journal = shows, listener, journal
        self.sessions: dict[str, str] = {}
        state = journal.state()
        if state is not None and isinstance(shows, Stateful):
            shows.restore(state)

    def run(self, ended: Callable[[], bool] = lambda: False) -> None:
        """Answers until `ended` says so."""
        while not ended():
            self.step(0.2)

    def step(self, timeout_s: float) -> bool:
        """Answers the next message; returns False where none came in time."""
        got = self._listener.receive(timeout_s)
        if got is None:
            return False
        peer, asked = got
        try:
            self._answer(peer, asked)
        except RigError as error:
            known = {name: asked.header[name] for name in ("session", "seq") if name in asked.header}
            self._listener.reply(peer, refusal(error, **known))
        return True

    def _answer(self, peer: Any, asked: Message) -> None:
        if asked.type == "hello":
            self._listener.reply(peer, self._welcome(asked))
        elif asked.type == "block":
            self._block(peer, asked)
        else:
            raise RigError(f"expected hello or block, got {asked.type!r:.40}.", "unknown")

    def _welcome(self, asked: Message) -> Message:
        session = asked.header.get("session")
        if not isinstance(session, str) or not session:
            raise RigError("hello: expected a session.", "malformed")
        self.sessions[session] = str(asked.header.get("client", ""))
        wants = (
            asked.header.get("wants", {}).get("encodings", []) if isinstance(asked.header.get("wants"), dict) else []
        )
        encoding = next((name for name in wants if name in ENCODINGS), None)
        if encoding is None:
            raise RigError(
                f"hello: expected one of the encodings {', '.join(ENCODINGS)}, got {wants!r:.80}.", "version"
            )
        known = {"max_images": 1000, "max_bytes": 2**28, **self._shows.welcome()}
        return message(
            "welcome", session=session, last_done=self._journal.last_done(session), encoding=encoding, **known
        )

    def _block(self, peer: Any, asked: Message) -> None:
        """Answers a block from the journal, or has it shown and writes that down first and last."""
        header = asked.header
        session, seq, block = check_block(header, len(asked.parts))
        if (known := self._known(session, seq, block)) is not None:
            self._listener.reply(peer, Message(decoded(known)))
            return
        encoding = str(header["encoding"])
        images = [decode(encoding, entry, part) for entry, part in zip(header["images"], asked.parts, strict=True)]
        attempt = self._journal.begin(session, seq, block, supersede=bool(header.get("supersede")))
        last = [time.monotonic()]

        def tell(done: int, of: int, text: str = "") -> None:
            if time.monotonic() - last[0] >= PROGRESS_S:
                last[0] = time.monotonic()
                news = message("progress", session=session, seq=seq, done=done, of=of, text=text)
                self._listener.reply(peer, news)

        found = self._shows.show(header, images, attempt, tell)
        answer = message("answer", session=session, seq=seq, block=block, attempt=attempt, **found)
        state = self._shows.state() if isinstance(self._shows, Stateful) else None
        self._journal.finish(session, seq, block, encoded(answer.header), state)
        self._listener.reply(peer, answer)

    def _known(self, session: str, seq: int, block: str) -> bytes | None:
        """Returns the answer to a block that was shown; None for any other."""
        entries: list[Entry] = self._journal.entries(session, seq)
        return next((entry.answer for entry in entries if entry.block == block), None)


def check_block(header: Mapping[str, Any], parts: int) -> tuple[str, int, str]:
    """Returns session, number and name of a block, if its header is one.

    Raises:
        RigError: Something is missing ("malformed"), or its name is not that of its header ("damaged").
    """
    session, seq, block = (header.get(name) for name in ("session", "seq", "block"))
    images, trials = header.get("images"), header.get("trials")
    if not isinstance(session, str) or type(seq) is not int or seq < 1 or not isinstance(block, str):
        raise RigError("block: expected a session, a number from 1 and a name.", "malformed")
    if header.get("encoding") not in ENCODINGS:
        raise RigError(f"block: expected an encoding of {', '.join(ENCODINGS)}.", "malformed")
    if not isinstance(images, list) or not all(isinstance(entry, dict) for entry in images) or len(images) != parts:
        raise RigError(f"block: expected an entry for each of {parts} images.", "malformed")
    fits = isinstance(trials, list) and all(isinstance(t, dict) and type(t.get("image")) is int for t in trials)
    if not fits or not all(0 <= t["image"] < len(images) for t in trials or ()):
        raise RigError("block: expected trials that name an image each.", "malformed")
    names = [t.get("trial") for t in trials or ()]
    if len(set(map(str, names))) < len(names) or not all(isinstance(name, str) for name in names):
        raise RigError("block: expected trials with different names.", "malformed")
    if block_name(header) != block:
        raise RigError("block: its name is not the SHA-256 of its header.", "damaged")
    return session, seq, block


def answered(
    trial: str,
    status: str = "ok",
    *,
    onset_s: float | None = None,
    onset_source: str = "nominal",
    values: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Makes the entry of one trial in an answer.

    Args:
        trial: Its name, as in the block.
        status: One of `closedloop.presentations.STATUSES`.
        onset_s: When the image appeared, in seconds on the rig's clock; None where it did not.
        onset_source: How that was measured.
        values: ``spike_unit`` (places in the welcome's units, from 0) and ``spike_s`` (after the onset), or ``counts``.
    """
    if status not in STATUSES:
        raise ValueError(f"status: expected one of {', '.join(STATUSES)}, got {status!r}.")
    when = {} if onset_s is None else {"onset_s": float(onset_s), "onset_source": onset_source}
    return {"trial": trial, "status": status, **when, **(values or {})}
