"""The side of the rig: takes blocks, has them shown once, writes them down, and answers.

A program that shows images hands over an object that is `Shows`; all else, the journal, resends, versions and refusals,
is done here. No call needs POSIX, for the computers of rigs often run Windows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeGuard, final

import numpy as np
from numpy.typing import NDArray

from closedloop.arrays import is_plain
from closedloop.checks import is_number
from closedloop.errors import RigError, SubjectError
from closedloop.interfaces import Stateful
from closedloop.presentations import STATUSES
from closedloop.rigs.journal import Entry, Journal
from closedloop.rigs.messages import Message, block_name, decoded, encoded, message, refusal, units_name
from closedloop.rigs.pixels import ENCODINGS, decode
from closedloop.rigs.reading import gives_spikes, read_answer, units_of_welcome
from closedloop.rigs.transports import Listener

#: The longest name of a session, in letters, the highest number of a block, the longest time within one in seconds, and
#: the most bins.
LONGEST_NAME, LAST_SEQ, LONGEST_S, MOST_BINS = 200, 2**53, 86_400.0, 100_000
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
    """

    def __init__(self, shows: Shows, listener: Listener, journal: Journal) -> None:
        self._shows, self._listener, self._journal = shows, listener, journal
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
            session, seq = asked.header.get("session"), asked.header.get("seq")
            known = {"session": session} if is_session(session) else {}
            self._listener.reply(peer, refusal(error, **known, **({"seq": seq} if _is_seq(seq) else {})))
        return True

    def _answer(self, peer: Any, asked: Message) -> None:
        if asked.type == "hello":
            self._listener.reply(peer, self._welcome(asked))
        elif asked.type == "block":
            self._block(peer, asked)
        else:
            raise RigError(f"expected hello or block, got {asked.type!r:.40}.", "unknown")

    def _welcome(self, asked: Message) -> Message:
        session, wants = asked.header.get("session"), asked.header.get("wants")
        if not is_session(session):
            raise RigError(f"hello: expected a session, got {session!r:.60}.", "malformed")
        wants = wants.get("encodings") if isinstance(wants, dict) else None
        encoding = next((name for name in wants if name in ENCODINGS), None) if isinstance(wants, list) else None
        if encoding is None:
            raise RigError(
                f"hello: expected one of the encodings {', '.join(ENCODINGS)}, got {wants!r:.80}.", "version"
            )
        known = {"max_images": 1000, "max_bytes": 2**28, "joined": True, **self._shows.welcome()}
        return message(
            "welcome", session=session, last_done=self._journal.last_done(session), encoding=encoding, **known
        )

    def _block(self, peer: Any, asked: Message) -> None:
        """Answers a block from the journal, or has it shown and writes that down first and last."""
        header = asked.header
        session, seq, block = check_block(header, len(asked.parts))
        if (known := self._known(session, seq, block)) is not None:
            self._listener.reply(peer, Message(decoded(known), content=known))
            return
        encoding = str(header["encoding"])
        images = [decode(encoding, entry, part) for entry, part in zip(header["images"], asked.parts, strict=True)]
        supersede = bool(header.get("supersede"))
        units = units_of_welcome(self._shows.welcome()).neuroid_id
        _check_meant(header.get("units"), units)
        self._journal.check_units(session, units, supersede=supersede)
        attempt = self._journal.begin(session, seq, block, supersede=supersede)
        last = [time.monotonic()]

        def tell(done: int, of: int, text: str = "") -> None:
            if time.monotonic() - last[0] >= 0.5:  # seconds between two messages
                last[0] = time.monotonic()
                news = message("progress", session=session, seq=seq, done=done, of=of, text=text)
                self._listener.reply(peer, news)

        found = self._shows.show(header, images, attempt, tell)
        answer = message("answer", session=session, seq=seq, block=block, attempt=attempt, **found)
        content = self._checked(header, answer)
        state = self._shows.state() if isinstance(self._shows, Stateful) else None
        self._journal.finish(session, seq, block, content, state)
        self._listener.reply(peer, Message(answer.header, content=content))

    def _checked(self, block: Mapping[str, Any], answer: Message) -> bytes:
        """Returns an answer as it is written down, if the other side can read it: what is written down stays."""
        try:
            names = [str(trial["trial"]) for trial in block["trials"]]
            said = self._shows.welcome()
            units, fires = units_of_welcome(said).neuroid_id, gives_spikes(said)
            read_answer(answer.header, names, units, block["window_s"], block.get("bins_s"), fires)
            return encoded(answer.header)
        except (SubjectError, ValueError, TypeError) as error:
            raise RigError(f"what the rig's program says of this block cannot be read: {error}", "unknown") from error

    def _known(self, session: str, seq: int, block: str) -> bytes | None:
        """Returns the answer to a block that was shown; None for any other."""
        entries: list[Entry] = self._journal.entries(session, seq)
        return next((entry.answer for entry in entries if entry.block == block), None)


def is_session(value: Any) -> TypeGuard[str]:
    """Tells whether a value is the name of a session: a text of one line that can be written down."""
    return isinstance(value, str) and 0 < len(value) <= LONGEST_NAME and is_plain(value)


def _is_seq(value: Any) -> TypeGuard[int]:
    """Tells whether a value is the number of a block."""
    return type(value) is int and 1 <= value <= LAST_SEQ


def check_block(header: Mapping[str, Any], parts: int) -> tuple[str, int, str]:
    """Returns session, number and name of a block, if its header is one.

    Raises:
        RigError: Something is missing ("malformed"), or its name is not that of its header ("damaged").
    """
    session, seq, block = (header.get(name) for name in ("session", "seq", "block"))
    images, trials = header.get("images"), header.get("trials")
    if not is_session(session) or not _is_seq(seq) or not isinstance(block, str):
        raise RigError("block: expected a session, a number from 1 and a name.", "malformed")
    if header.get("encoding") not in ENCODINGS:
        raise RigError(f"block: expected an encoding of {', '.join(ENCODINGS)}.", "malformed")
    if not isinstance(images, list) or not all(isinstance(entry, dict) for entry in images) or len(images) != parts:
        raise RigError(f"block: expected an entry for each of {parts} images.", "malformed")
    fits = isinstance(trials, list) and all(isinstance(t, dict) and type(t.get("image")) is int for t in trials)
    if not fits or not trials or not all(0 <= t["image"] < len(images) for t in trials):
        raise RigError("block: expected trials that name an image each.", "malformed")
    names = [t.get("trial") for t in trials]
    if not all(isinstance(name, str) and name for name in names) or len(set(names)) < len(names):
        raise RigError("block: expected trials with different names.", "malformed")
    _check_timing(header)
    try:
        name = block_name(header)
    except ValueError as error:
        raise RigError(f"block: expected plain text and finite numbers, got others ({error}).", "malformed") from None
    if name != block:
        raise RigError("block: its name is not the SHA-256 of its header.", "damaged")
    return session, seq, block


def _check_meant(said: Any, units: Sequence[str]) -> None:
    """Raises RigError where a block is for other units: answers name them by place, and would be taken for others'.

    Args:
        said: What the block says of them (`units_name`); None where it says nothing.
        units: Those that this rig records.
    """
    if said is not None and said != units_name(units):
        raise RigError(
            f"the experiment was welcomed by a rig with other units than the {len(units)} of this one, such as "
            f"{units[0]!r:.60}, or in another order. Only one rig may be asked at this place: end the other one, or "
            "start this one with the units that it had; or begin the experiment anew.",
            "conflict",
        )


def _check_timing(header: Mapping[str, Any]) -> None:
    """Raises RigError unless a block says how long images are shown, and when spikes are wanted."""
    show = header.get("show")
    if not isinstance(show, dict) or not all(_seconds(show.get(name), 0) for name in ("on_s", "off_s")):
        raise RigError(f"block: show: expected on_s and off_s in seconds, got {show!r:.80}.", "malformed")
    for name in ("window_s", "baseline_s"):
        pair = header.get(name)
        if not isinstance(pair, list) or len(pair) != 2 or not all(map(_seconds, pair)) or not pair[0] < pair[1]:
            raise RigError(f"block: {name}: expected begin < end in seconds, got {pair!r:.80}.", "malformed")
    bins = header.get("bins_s")
    fits = isinstance(bins, list) and len(bins) == 3 and all(map(_seconds, bins[:2])) and type(bins[2]) is int
    if bins is not None and not (fits and bins[1] > 0 and 1 <= bins[2] <= MOST_BINS):
        raise RigError(f"block: bins_s: expected begin, width and number, got {bins!r:.80}.", "malformed")


def _seconds(value: Any, least: float = -LONGEST_S) -> bool:
    """Tells whether a value is a number of seconds that an experiment can mean."""
    return is_number(value) and bool(least <= value <= LONGEST_S)


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
