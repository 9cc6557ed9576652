"""The side of the experiment: asks a rig for a block until it answers, whatever is lost, late or doubled on the way."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any, final

from closedloop.errors import RigError, SubjectTimeoutError
from closedloop.loop.notices import Notice
from closedloop.loop.progress import duration
from closedloop.rigs.messages import Message, message
from closedloop.rigs.transports import Transport

#: Seconds of silence after which a person is told of it; again after twice as many, and from the most on every so many.
SILENT_S, MOST_S = 5.0, 60.0
#: What notices of it are about.
SILENCE, STAYING = "silence", "a block that goes no further"
#: How often a block is sent again that the rig calls damaged.
DAMAGED = 3


@final
class RigClient:
    """Asks one rig.

    Args:
        transport: The way to it.
        patience_s: Seconds without news after which a message is sent again, over a fresh socket.
        give_up_s: Seconds without news after which it is given up; None for never.
        tell: Is told, in words, what a person should know while it waits.

    Attributes:
        resent: How many messages were sent again.
        stale: How many came that answered something else, or twice.
    """

    def __init__(
        self,
        transport: Transport,
        patience_s: float = 10.0,
        give_up_s: float | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self.transport: Transport = transport
        self._patience_s = patience_s
        self._give_up_s = give_up_s
        self._tell = tell or (lambda text: None)
        self.name: str = secrets.token_hex(6)
        self.resent: int = 0
        self.stale: int = 0
        self._stale_told = 10  # late or double messages of which a person is told, and of each ten times as many
        self._unsent = ""

    def hello(self, session: str, connect_s: float) -> Mapping[str, Any]:
        """Asks who is there, again and again, and tells a person that it waits; returns the header of the welcome.

        Raises:
            RigError: Nobody answers within `connect_s`, or the rig refuses.
        """
        asked = message("hello", session=session, client=self.name, wants={"encodings": list(self.transport.encodings)})
        place, told, why = self.transport.address or "this transport", False, ""
        end = time.monotonic() + connect_s
        while (left := end - time.monotonic()) > 0:
            try:
                self.transport.send(asked)
                why = ""
            except OSError as error:
                why = f" ({error.strerror or error})"
            got = self._answer("welcome", min(left, 2.0))  # then it is asked again who it is
            if got is not None:
                if told:
                    self._tell(Notice(f"the rig at {place} answers", SILENCE, well=True))
                return got
            if not told and end - time.monotonic() > 0:
                self._tell(Notice(f"no rig answers at {place} yet{why}; waiting up to {duration(connect_s)}", SILENCE))
                told = True
            self.transport.renew()
        raise RigError(
            f"no rig answered at {place} within {connect_s:g} s{why}; start it "
            "(closedloop rig-sim is one without an animal), and look at address, cable and token."
        )

    def _answer(self, kind: str, timeout_s: float) -> Mapping[str, Any] | None:
        """Returns the header of the next message of a kind; None where none comes in time."""
        end = time.monotonic() + timeout_s
        while (left := end - time.monotonic()) > 0:
            got = self.transport.receive(left)
            if got is not None and got.type == "error":
                raise refused(got.header)
            if got is not None and got.type == kind:
                return got.header
            self.stale += got is not None
        return None

    def ask(self, block: Message, expected_s: float = 0.0) -> Mapping[str, Any]:
        """Asks for a block; returns the header of the answer to this very block.

        Args:
            block: It.
            expected_s: Seconds that the rig may take to show it, before silence counts.

        Raises:
            RigError: The rig refuses it, or speaks another version.
            SubjectTimeoutError: There was no news for `give_up_s`.
        """
        waiting, damaged = _Waiting(expected_s, self._patience_s), 0
        self._send(block)
        while True:
            got = self._receive(waiting.left())
            if got is None:
                self._still_waiting(waiting, block)
            elif got.type == "answer" and _concerns(got, block):
                waiting.say_that_it_is_back(self._tell)
                waiting.say_that_it_goes_on(self._tell)
                return got.header
            elif got.type == "progress" and _concerns(got, block):
                waiting.heard(self._patience_s)
                waiting.say_that_it_is_back(self._tell)
                waiting.say_that_it_stays(self._tell, got.header)
            elif got.type == "error" and got.header.get("seq", block.header["seq"]) == block.header["seq"]:
                damaged += got.header.get("code") == "damaged"
                if got.header.get("code") not in ("busy", "damaged") or damaged > DAMAGED:
                    raise refused(got.header)
                if not waiting.refused:
                    why = got.header.get("code")
                    words = f"the rig does not take block {block.header['seq']} yet ({why}); asking again"
                    self._tell(Notice(words, SILENCE))
                    waiting.refused = True
                waiting.heard(self._patience_s)
                time.sleep(0.5 if got.header.get("code") == "busy" else 0)
                self._again(block)
            else:
                self._note_stale()

    def _note_stale(self) -> None:
        """Counts a message that answers nothing that is asked, and tells of many."""
        self.stale += 1
        if self.stale >= self._stale_told:
            self._stale_told *= 10
            words = f"{self.stale} answers came late, twice or damaged so far, and were dropped"
            self._tell(Notice(words, "late answers", well=True))

    def _receive(self, timeout_s: float) -> Message | None:
        """Returns the next message; what is damaged, or of a stranger, counts as stale.

        Raises:
            RigError: It is of another version: to ask again brings no other.
        """
        try:
            return self.transport.receive(timeout_s)
        except RigError as error:
            if error.code == "version":
                raise
            self._note_stale()
            return None

    def _still_waiting(self, waiting: _Waiting, block: Message) -> None:
        """Tells of silence, sends a message again when it is time, and gives up when that time has come."""
        silent = waiting.silent_s
        waiting.say(self._tell, int(block.header["seq"]))
        if self._give_up_s is not None and silent > self._give_up_s:
            raise SubjectTimeoutError(
                f"no answer from the rig at {self.transport.address or 'this transport'} to block "
                f"{block.header['seq']}, and no news for {silent:.0f} s (give_up_s={self._give_up_s:g}); look at it."
                f"{self._unsent} What it has shown meanwhile stands in its journal, and is answered when the run goes "
                "on."
            )
        if waiting.over():
            self.transport.renew()
            self._again(block)
            waiting.patient_again(self._patience_s)

    def _again(self, block: Message) -> None:
        self._send(block)
        self.resent += 1

    def _send(self, sent: Message) -> None:
        """Sends a message; where that cannot be done now, a person is told, and it is sent again after the patience."""
        try:
            self.transport.send(sent)
            self._unsent = ""
        except OSError as error:
            self._unsent = f" It cannot be reached: {error.strerror or error}."
            self._tell(Notice(f"the rig cannot be reached: {error.strerror or error}", SILENCE))


class _Waiting:
    """How long a rig has been silent, and when to ask it again."""

    def __init__(self, expected_s: float, patience_s: float) -> None:
        self._heard = time.monotonic() + expected_s
        self._until = self._heard + patience_s
        self._said = 0.0
        self.asked_again = self.refused = False
        self._moved, self._stayed, self._done = self._heard, 0.0, None

    @property
    def silent_s(self) -> float:
        """Seconds without news beyond those that were expected."""
        return max(0.0, time.monotonic() - self._heard)

    def left(self) -> float:
        """Returns how many seconds to wait at most before something is to be done."""
        return max(0.0, min(1.0, self._until - time.monotonic()))

    def over(self) -> bool:
        """Tells whether patience is at its end."""
        return time.monotonic() >= self._until

    def heard(self, patience_s: float) -> None:
        """Takes note that there was news."""
        self._heard = max(self._heard, time.monotonic())
        self.patient_again(patience_s)

    def patient_again(self, patience_s: float) -> None:
        """Waits as long as before once more."""
        self._until = max(self._until, time.monotonic() + patience_s)

    def say(self, tell: Callable[[str], None], block: int) -> None:
        """Tells how long it has been silent, first after a few seconds, and that it is asked again for a block."""
        again = self.over() and not self.asked_again
        if again or self.silent_s - self._said >= min(max(SILENT_S, self._said), MOST_S):
            self._said, self.asked_again = self.silent_s, self.asked_again or again
            asked = f"; asking again for block {block}" if again else ""
            tell(Notice(f"rig silent for {duration(self._said)}{asked}", SILENCE))

    def say_that_it_is_back(self, tell: Callable[[str], None]) -> None:
        """Tells that there is news again, where silence was told of, or that it took no block."""
        if self._said or self.refused:
            tell(Notice("the rig answers again", SILENCE, well=True))
            self._said, self.refused = 0.0, False

    def say_that_it_stays(self, tell: Callable[[str], None], news: Mapping[str, Any]) -> None:
        """Tells of a rig that has news all the time, and shows nothing: one that waits for somebody, or hangs."""
        now = time.monotonic()
        if news.get("done") != self._done:
            self._moved, self._done = max(self._moved, now), news.get("done")
            self.say_that_it_goes_on(tell)
        elif now - self._moved - self._stayed >= MOST_S:
            self._stayed = now - self._moved
            says = " ".join(str(news.get("text") or "").split())
            shown = f"{news.get('done')!s:.20} of {news.get('of')!s:.20}"
            words = f"block {news.get('seq')}: {shown} shown, and no more for {duration(self._stayed)}"
            tell(Notice(f"{words}{f' ({says:.300})' if says else ''}", STAYING))

    def say_that_it_goes_on(self, tell: Callable[[str], None]) -> None:
        """Tells that a block goes on, where it was told that it does not."""
        if self._stayed:
            tell(Notice("the rig goes on with the block", STAYING, well=True))
            self._stayed = 0.0


def _concerns(got: Message, block: Message) -> bool:
    """Tells whether a message is about this block: of this session, number and name."""
    names = ("session", "seq", "block") if got.type == "answer" else ("session", "seq")
    return all(got.header.get(name) == block.header[name] for name in names)


def refused(header: Mapping[str, Any]) -> RigError:
    """Returns the error that a rig's refusal is."""
    code = str(header.get("code", "unknown"))
    return RigError(f"the rig refuses ({code}): {header.get('text', '')!s:.600}", code)
