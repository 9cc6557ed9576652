"""The way over a folder that both computers see: what ZeroMQ carries as messages lies there as files.

::

    DIR/rig.lock                held by the rig that answers
    DIR/sessions/SESSION/
      hello-CLIENT.json       asked by the experiment; answered by
      welcome-CLIENT.json     (or refused-CLIENT.json)
      000012/                 a block, under a temporary name until all of it is there
        block.json            its header
        images/SHA256.png
        READY                 SHA-256 of block.json: shares copy files one by one, and not at once
        progress.json         while the rig shows it
        answer.json           written under a temporary name, then renamed; or error.json

Everything is a plain file, so a rig in MATLAB needs `jsondecode` and `imread` alone. Nothing here needs more of a file
system than renaming; on a share the rig's own disk holds the journal.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, final

from filelock import FileLock, Timeout

from closedloop.errors import InvalidArgumentError, RigError, SubjectError
from closedloop.files import replace_file, synchronize
from closedloop.loop.notices import Notice, notice
from closedloop.rigs.messages import Message, decoded, refusal, sha256

#: Seconds between two looks at the folder: soon after something was asked, and later.
SOON_S, LATER_S = 0.002, 0.02
#: Seconds after which a file that does not fit, or cannot be read, is told to be wrong; a share may still be copying.
COPYING_S = 5.0
#: Seconds after which a session in which nothing is asked is looked at in turn with others like it, and how many looks
#: it takes until all of these had their turn: the sessions of months lie in a lab's folder.
QUIET_S, LOOKS = 10.0, 50
#: Blocks of a session of which answers may have been removed, since they could not be read: they are asked for again.
LAST = 2
#: Seconds until a rig tries once more to write an answer that cannot be written, and what notices of it are about.
AGAIN_S, UNWRITTEN = 1.0, "unwritten answers"
#: Held by the rig that answers, as far as the file system has locks.
LOCK = "rig.lock"
#: Names of folders of blocks: a number, and where another block has taken that, the beginning of its own name.
_BLOCK = re.compile(r"\d{6,}(-[0-9a-f]{12})?")


def put(path: Path, data: bytes) -> None:
    """Writes a file in full under a temporary name, brings it to the disk and renames it, and makes its name last.

    Windows lets no file be replaced that somebody has open; then it is tried for a second.
    """
    for left in range(20, -1, -1):
        try:
            replace_file(path, data)
            break
        except PermissionError:
            if left == 0 or os.name == "posix":
                raise
            time.sleep(0.05)
    synchronize(path.parent)


def _read(path: Path) -> bytes | None:
    """Returns what a file holds; None where there is none, or where it cannot be read at this moment."""
    try:
        return path.read_bytes()
    except OSError:
        return None


def _header(path: Path) -> dict[str, Any] | None:
    """Returns a header; None where the file is not there, or not yet whole.

    Raises:
        RigError: It is of another version.
    """
    content = _read(path)
    if content is None:
        return None
    try:
        return decoded(content)
    except RigError as error:
        if error.code == "version":
            raise
        return None


def _safe(name: Any) -> str:
    """Returns a name that a file can have on any computer.

    Raises:
        RigError: It is none.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z_.-]{0,127}", name):
        raise RigError(f"expected a name of letters, digits, '-' and '_', got {name!r:.80}.", "malformed")
    return name


@final
class FolderTransport:
    """The side of the experiment.

    Args:
        folder: The folder, on a disk or share that both computers see. The rig makes it; until then nothing is sent.
    """

    encodings: tuple[str, ...] = ("png",)

    def __init__(self, folder: str | Path) -> None:
        self.address: str = f"folder:{folder}"
        self._root = Path(folder)
        self._awaited: list[Path] = []
        self._told: bytes | None = None
        self._asked: Mapping[str, Any] = {}
        self._unread: dict[Path, float] = {}
        self._client = secrets.token_hex(6)

    def send(self, sent: Message) -> None:
        """Puts a message where the rig finds it. What lies there already, and is the same, stays.

        Raises:
            OSError: The folder is not there, or not at this moment.
        """
        if not self._root.is_dir():
            raise FileNotFoundError(errno.ENOENT, f"there is no folder {self._root}")
        if sent.type == "block":
            self._send_block(sent)
        else:
            self._send_hello(sent)

    def _send_hello(self, sent: Message) -> None:
        folder = self._root / "sessions" / _safe(sent.header.get("session"))
        folder.mkdir(parents=True, exist_ok=True)
        if self._awaited and self._awaited[0].name.startswith("welcome"):
            # Asked before, and not answered: a rig that comes late finds one question.
            self._forget_hello(self._awaited[0])
        name = f"{self._client}-{secrets.token_hex(3)}"
        self._awaited, self._told = [folder / f"{kind}-{name}.json" for kind in ("welcome", "refused")], None
        put(folder / f"hello-{name}.json", sent.encoded())

    def _send_block(self, sent: Message) -> None:
        header = sent.header
        folder = self._root / "sessions" / _safe(header.get("session"))
        place = folder / f"{int(header['seq']):06d}"
        known = _header(place / "block.json")
        if known is not None and known.get("block") != header["block"]:
            place = folder / f"{int(header['seq']):06d}-{header['block'][:12]}"  # the rig says whether it takes it
        content = sent.encoded()
        files = {
            place / "images" / f"{entry['sha256']}.png": bytes(part)
            for entry, part in zip(header["images"], sent.parts, strict=True)
        }
        if place.is_dir():
            (place / "error.json").unlink(missing_ok=True)
            for path, data in {place / "block.json": content, **files}.items():
                if _read(path) != data:
                    path.parent.mkdir(exist_ok=True)
                    put(path, data)
            if _read(place / "READY") != sha256(content).encode():
                put(place / "READY", sha256(content).encode())
        else:
            self._put_block(folder, place, content, files)
        self._awaited, self._told = [place / name for name in ("answer.json", "error.json")], None
        self._asked = {name: header[name] for name in ("session", "seq", "block")}

    def _put_block(self, folder: Path, place: Path, content: bytes, files: Mapping[Path, bytes]) -> None:
        """Makes a block under a temporary name, and renames it.

        Nothing waits for the disk: what a power failure damages does not fit its SHA-256, and is asked for again.
        """
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".tmp-{place.name}-{self._client}"
        shutil.rmtree(temporary, ignore_errors=True)
        (temporary / "images").mkdir(parents=True)
        for path, data in {place / "block.json": content, **files}.items():
            (temporary / path.relative_to(place)).write_bytes(data)
        (temporary / "READY").write_bytes(sha256(content).encode())
        temporary.rename(place)

    def receive(self, timeout_s: float) -> Message | None:
        """Looks for the answer to what was sent last, and for news of it.

        Raises:
            SubjectError: What lies in the place of the answer is none, and is not written any more.
            RigError: It is of another version.
        """
        end, pause = time.monotonic() + timeout_s, SOON_S
        while True:
            for path in self._awaited:
                header = self._answer(path)
                if header is not None:
                    if path.name.startswith(("welcome", "refused")):
                        self._forget_hello(path)
                    self._awaited = [] if header["type"] != "error" else self._awaited
                    return Message(header)
            if (news := self._news()) is not None:
                return news
            if (left := end - time.monotonic()) <= 0:
                return None
            time.sleep(min(pause, left))
            pause = min(LATER_S, 1.5 * pause)

    def _answer(self, path: Path) -> dict[str, Any] | None:
        """Returns the header of an answer; None where it is not there, or may still be on its way.

        Raises:
            SubjectError: It has been there for long, and is none: it would be waited for in vain.
        """
        header = _header(path)
        if header is not None or not path.exists():
            self._unread.pop(path, None)
            if header is not None and path.name == "answer.json":
                self._check_answer(path, header)
            return header
        if time.monotonic() - self._unread.setdefault(path, time.monotonic()) > COPYING_S:
            del self._unread[path]
            raise SubjectError(
                f"rig: expected an answer in JSON with proto and type in {path}, got something else. Mend the rig's "
                "program, remove that file, and go on; the rig is then asked for it again."
            )
        return None

    def _check_answer(self, path: Path, header: Mapping[str, Any]) -> None:
        """Raises SubjectError where what lies beside a block answers another one: no other answer will come there."""
        expected = {"type": "answer", **self._asked}
        wrong = next((name for name, value in expected.items() if header.get(name) != value), None)
        if wrong is not None:
            raise SubjectError(
                f"rig: expected {wrong} {expected[wrong]!r:.80} in {path}, as in its block.json, got "
                f"{header.get(wrong)!r:.80}. Mend the rig's program, remove that file, and go on; the rig is then "
                "asked for it again."
            )

    def _news(self) -> Message | None:
        """Returns the progress of the block, where it is another than the last one seen."""
        if not self._awaited or self._awaited[0].name != "answer.json":
            return None
        content = _read(self._awaited[0].with_name("progress.json"))
        if content is None or content == self._told:
            return None
        self._told = content
        with suppress(RigError):
            return Message(decoded(content))
        return None

    def _forget_hello(self, answer: Path) -> None:
        """Removes a question, with its answer where there is one."""
        for path in (answer, answer.with_name("hello-" + answer.name.partition("-")[2])):
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def renew(self) -> None:
        """Does nothing: what lies in the folder stays."""

    def close(self) -> None:
        """Leaves everything as it is."""


@final
class FolderListener:
    """The side of the rig: of one, for two would both show what is asked here.

    Args:
        folder: The folder; it is made if it is not there.

    Raises:
        InvalidArgumentError: It cannot be made, or another rig answers in it.
    """

    def __init__(self, folder: str | Path) -> None:
        self._root = Path(folder)
        try:
            (self._root / "sessions").mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            raise InvalidArgumentError(
                f"listen: cannot make the folder {folder} ({getattr(error, 'strerror', None) or error}); name another."
            ) from error
        self._lock = FileLock(self._root / LOCK)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise InvalidArgumentError(
                f"listen: another rig answers in the folder {folder}, and images would be shown twice; end that one, "
                "or name another folder."
            ) from None
        except (OSError, NotImplementedError):  # a share without locks: nobody can tell who else is there
            self._lock.release(force=True)
        self._done: set[Path] = set()
        self._unfit: dict[Path, float] = {}
        self._heard: dict[Path, float] = {}
        self._again: dict[Path, float] = {}
        self._turn = 0

    def receive(self, timeout_s: float) -> tuple[Any, Message] | None:
        """Returns the place of the next question, and the question."""
        end, pause = time.monotonic() + timeout_s, SOON_S
        while True:
            for place in self._open():
                found = self._message(place)
                if found is not None:
                    return place, found
            if (left := end - time.monotonic()) <= 0:
                return None
            time.sleep(min(pause, left))
            pause = min(LATER_S, 1.5 * pause)

    def _open(self) -> Iterator[Path]:
        """Yields the questions that have no answer yet, in the order of their names."""
        now = time.monotonic()
        for session in self._in_turn(sorted(_entries(self._root / "sessions")), now):
            for place in self._open_in(session):
                self._heard[session] = now
                if self._again.get(place, now) <= now:
                    yield place

    def _in_turn(self, sessions: Sequence[Path], now: float) -> list[Path]:
        """Returns the sessions to look at: those in which something was asked of late, and a few of the others."""
        quiet = [session for session in sessions if now - self._heard.setdefault(session, now) > QUIET_S]
        few = -(-len(quiet) // LOOKS)
        chosen = {quiet[(self._turn + i) % len(quiet)] for i in range(few)}
        self._turn += few
        return [session for session in sessions if session in chosen or now - self._heard[session] <= QUIET_S]

    def _open_in(self, session: Path) -> Iterator[Path]:
        """Yields the questions of a session that have no answer yet."""
        places = sorted(_entries(session))
        blocks = [place for place in places if _BLOCK.fullmatch(place.name)]
        for place in places:
            name = place.name
            if name.startswith("hello-") and name.endswith(".json"):
                asked = name.removeprefix("hello-")
                if not any((session / f"{kind}-{asked}").exists() for kind in ("welcome", "refused")):
                    yield place
            elif _BLOCK.fullmatch(name) and (place not in self._done or place in blocks[-LAST:]):
                if (place / "answer.json").exists():
                    self._done.add(place)
                elif (place / "READY").exists() and not (place / "error.json").exists():
                    yield place

    def _message(self, place: Path) -> Message | None:
        """Returns the question at a place; None where it is not whole yet. What is none is refused."""
        try:
            if place.name.startswith("hello-"):
                header = _header(place)
                return None if header is None else Message(header)
            return self._block(place)
        except RigError as error:
            self.reply(place, refusal(error))
            return None

    def _block(self, place: Path) -> Message | None:
        content, ready = _read(place / "block.json"), _read(place / "READY")
        if content is None or ready is None or ready.decode(errors="replace").split()[:1] != [sha256(content)]:
            self._waited(place, "its block.json is not the one of which READY holds the SHA-256.")
            return None
        header = decoded(content)
        entries, parts = header.get("images", []), []
        if not isinstance(entries, list):
            raise RigError(f"block: expected a list of images, got {entries!r:.60}.", "malformed")
        for entry in entries:
            name = str(entry.get("sha256")) if isinstance(entry, dict) else ""
            part = _read(place / "images" / f"{_safe(name)}.png")
            if part is None or sha256(part) != name:
                self._waited(place, f"image {name[:12]}… is missing, or not the one that was sent.")
                return None
            parts.append(part)
        self._unfit.pop(place, None)
        return Message(header, parts)

    def _waited(self, place: Path, what: str) -> None:
        """Waits for a share that may still be copying.

        Raises:
            RigError: It has done so for long.
        """
        first = self._unfit.setdefault(place, time.monotonic())
        if time.monotonic() - first > COPYING_S:
            del self._unfit[place]
            raise RigError(f"block {place.name}: {what}", "damaged")

    def reply(self, peer: Any, sent: Message) -> None:
        """Puts an answer beside its question.

        One that cannot be written now, since the share is away or full, is said and tried again: its question has no
        answer yet.
        """
        place = Path(peer)
        path = place / f"{sent.type}.json"
        if place.name.startswith("hello-"):
            kind = "refused" if sent.type == "error" else "welcome"
            path = place.with_name(f"{kind}-{place.name.removeprefix('hello-')}")
        try:
            put(path, sent.encoded())
        except OSError as error:
            self._again = {known: when for known, when in self._again.items() if known.exists()}
            if not self._again:
                why = error.strerror or error
                notice(Notice(f"{path} cannot be written ({why}); trying again every {AGAIN_S:g} s", UNWRITTEN))
            self._again[place] = time.monotonic() + AGAIN_S
        else:
            if self._again.pop(place, None) is not None and not self._again:
                notice(Notice("what was to be answered is written", UNWRITTEN, well=True))

    def close(self) -> None:
        """Leaves everything as it is; another rig may answer now."""
        self._lock.release()


def _entries(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError:
        return []
