"""Messages of the protocol ``closedloop-rig/1``: a JSON header, and binary parts behind it. Nothing is ever unpickled.

``hello`` is answered by ``welcome``, ``block`` by ``answer``, with ``progress`` on the way; either by ``error``. The
name of a block is the SHA-256 of its header without the name; the header holds the SHA-256 of each part, so that name,
and the code that authenticates the header, stand for the images, too.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, final

from closedloop.errors import InvalidArgumentError, RigError

#: Name and version of the protocol; what stands behind the slash changes when an older rig would misunderstand.
PROTOCOL = "closedloop-rig/1"
#: Why a rig refuses something.
CODES = ("auth", "version", "malformed", "damaged", "conflict", "gap", "busy", "too_large", "unknown")
#: Where a token may stand: itself, or the name of its file.
TOKEN, TOKEN_FILE = "CLOSEDLOOP_RIG_TOKEN", "CLOSEDLOOP_RIG_TOKEN_FILE"
#: The largest header that is read, in bytes; spikes of a large block take some MB.
LARGEST_HEADER = 2**28


@final
@dataclass(frozen=True)
class Message:
    """One message.

    Attributes:
        header: Plain values, as JSON has them; `proto` and `type` among them.
        parts: Binary parts: the images of a block.
        content: The header as it is sent, where somebody encoded it before; None where nobody did.
    """

    header: Mapping[str, Any]
    parts: Sequence[bytes | memoryview] = ()
    content: bytes | None = field(default=None, compare=False, repr=False)

    @property
    def type(self) -> str:
        """What it is: "hello", "welcome", "block", "answer", "progress" or "error"."""
        return str(self.header.get("type", ""))

    def encoded(self) -> bytes:
        """Returns the header as it is sent."""
        return encoded(self.header) if self.content is None else self.content


@final
class Consecutive(list[memoryview]):
    """Parts that lie one behind the other in one piece of memory, and so can be sent as one without being copied.

    Args:
        whole: That memory.
        sizes: Bytes of each part.

    Attributes:
        whole: All of it.
    """

    def __init__(self, whole: bytes | memoryview, sizes: Iterable[int]) -> None:
        self.whole = memoryview(whole)
        super().__init__(self.whole[begin:end] for begin, end in pairwise(accumulate(sizes, initial=0)))


def message(kind: str, parts: Sequence[bytes | memoryview] = (), **entries: Any) -> Message:
    """Makes a message of this version."""
    return Message({"proto": PROTOCOL, "type": kind, **entries}, parts)


def refusal(error: RigError, **entries: Any) -> Message:
    """Makes the message with which a rig refuses something."""
    return message("error", code=error.code, text=str(error), **entries)


def encoded(header: Mapping[str, Any]) -> bytes:
    """Returns a header as it is sent: sorted, without spaces, UTF-8; the same values give the same bytes."""
    return json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def decoded(content: bytes) -> dict[str, Any]:
    """Returns what a header holds.

    Raises:
        RigError: It is no JSON object ("malformed"), or of another version ("version").
    """
    if len(content) > LARGEST_HEADER:
        raise RigError(f"expected a header of at most {LARGEST_HEADER} bytes, got {len(content)}.", "too_large")
    try:
        header = json.loads(content, parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        raise RigError(f"expected a header in JSON, got something else ({error}).", "malformed") from error
    if not isinstance(header, dict) or not isinstance(header.get("type"), str):
        raise RigError("expected a JSON object with a type as header, got something else.", "malformed")
    if header.get("proto") != PROTOCOL:
        raise RigError(
            f"expected a message of {PROTOCOL}, got {header.get('proto')!r:.60}; update the older side.", "version"
        )
    return header


def refuse_constant(word: str) -> Any:
    """Refuses NaN and Infinity, which Python's library would read; for its argument `parse_constant`."""
    raise ValueError(f"{word} is no JSON")


def block_name(header: Mapping[str, Any]) -> str:
    """Returns the name of a block: SHA-256, in hexadecimal, of its header without the name."""
    return sha256(encoded({key: value for key, value in header.items() if key != "block"}))


def units_name(units: Sequence[str]) -> str:
    """Returns what stands for units and their order in a block: SHA-256 of their ids."""
    return sha256(encoded({"units": list(units)}))


def sha256(data: bytes | memoryview) -> str:
    """Returns SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def code_of(token: bytes | None, header: bytes, parts: Sequence[bytes | memoryview] = ()) -> bytes:
    """Returns HMAC-SHA256 of a header and of the SHA-256 of each part, by a token; empty without one."""
    if token is None:
        return b""
    made = hmac.new(token, header, "sha256")
    for part in parts:
        made.update(hashlib.sha256(part).digest())
    return made.digest()


def opened(token: bytes | None, frames: Sequence[bytes | memoryview]) -> Message:
    """Returns the message of the frames ``[code, header, part …]`` if its code is the one that the token makes.

    Raises:
        RigError: It is not ("auth"), or the header is none.
    """
    if len(frames) < 2:
        raise RigError(f"expected a code and a header, got {len(frames)} frames.", "malformed")
    code, header, *parts = bytes(frames[0]), bytes(frames[1]), *frames[2:]
    if not hmac.compare_digest(code, code_of(token, header, parts)):
        said = "another token, or none" if token else "one that was sent with a token, but this side has none"
        raise RigError(
            f"expected a message authenticated by the token of this side, got {said}; give both sides the same, by a "
            f"file of mode 0600 or in {TOKEN}.",
            "auth",
        )
    read = decoded(header)
    return Message(read, _apart(read, parts))


def _apart(header: Mapping[str, Any], parts: Sequence[bytes | memoryview]) -> Sequence[bytes | memoryview]:
    """Returns the images of a block one by one, also where they came as one part; what does not fit stays as it is."""
    entries = header.get("images")
    if len(parts) != 1 or not isinstance(entries, list) or len(entries) < 2:
        return parts
    said = [entry.get("bytes") if isinstance(entry, dict) else None for entry in entries]
    sizes = [size for size in said if type(size) is int and size >= 0]
    if len(sizes) < len(said) or sum(sizes) != len(parts[0]):
        return parts
    return Consecutive(parts[0], sizes)


def frames_of(token: bytes | None, sent: Message, joined: bool = False) -> list[bytes | memoryview]:
    """Returns the frames ``[code, header, part …]`` of a message.

    Args:
        token: Authenticates it; None for none.
        sent: The message.
        joined: Whether all parts go as one, one behind the other: each frame costs both sides some calls of the system.
    """
    header, parts = sent.encoded(), sent.parts
    if joined and len(parts) > 1:
        parts = [parts.whole if isinstance(parts, Consecutive) else b"".join(parts)]
    return [code_of(token, header, parts), header, *parts]


def read_token(file: str | Path | None = None) -> bytes | None:
    """Returns the token: of a file, else of the environment; None where there is none.

    Args:
        file: A file that nobody else may read (mode 0600); None for the one that the environment names.

    Raises:
        InvalidArgumentError: The file cannot be read, others may read it, or it is empty.
    """
    named = file or os.environ.get(TOKEN_FILE)
    if not named:
        said = os.environ.get(TOKEN, "").strip()
        return said.encode(errors="surrogateescape") or None  # the very bytes that the environment holds
    try:
        path = Path(named).expanduser()
        others = os.name == "posix" and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)
        content = path.read_bytes().strip()
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or error
        raise InvalidArgumentError(f"token_file: cannot read {named!s:.200} ({why}).") from error
    if others:
        raise InvalidArgumentError(f"token_file: others may read {path}; run: chmod 600 {path}")
    if not content:
        raise InvalidArgumentError(f"token_file: expected a token in {path}, got an empty file.")
    return content
