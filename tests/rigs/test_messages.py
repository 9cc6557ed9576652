"""Messages: what they look like, who sent them, and what is refused."""

from __future__ import annotations

import hashlib
import hmac
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from closedloop.errors import InvalidArgumentError, RigError
from closedloop.rigs.messages import (
    PROTOCOL,
    Consecutive,
    Message,
    block_name,
    code_of,
    decoded,
    encoded,
    frames_of,
    message,
    opened,
    read_token,
)

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(min_size=1), PLAIN, max_size=4), st.lists(st.binary(max_size=20), max_size=3))
def test_messages_come_as_they_were_sent(entries, parts):
    sent = message("block", parts, **{f"x{name}": value for name, value in entries.items()})
    for token in (None, b"secret"):
        got = opened(token, frames_of(token, sent))
        assert got.header == sent.header
        assert list(got.parts) == parts
        assert encoded(got.header) == encoded(sent.header)


@given(st.lists(st.binary(max_size=20), min_size=2, max_size=4), st.booleans())
def test_parts_that_were_sent_as_one_come_apart_again(parts, together):
    sizes = [len(part) for part in parts]
    held = Consecutive(b"".join(parts), sizes) if together else parts
    sent = message("block", held, images=[{"bytes": size} for size in sizes])
    for token in (None, b"secret"):
        frames = frames_of(token, sent, joined=True)
        assert len(frames) == 3
        got = opened(token, frames)
        assert (got.header, list(got.parts)) == (sent.header, parts)


def test_parts_that_lie_together_are_not_copied():
    parts = Consecutive(b"onetwo", [3, 3])
    assert list(parts) == [b"one", b"two"]
    assert frames_of(None, message("block", parts), joined=True)[2] is parts.whole


@pytest.mark.parametrize(
    "images",
    [None, {}, [], [{"bytes": 6}], [{"bytes": 3}, {"bytes": 2}], [{"bytes": 7}, {"bytes": -1}], [{"bytes": 6}, {}, 3]],
)
def test_one_part_that_does_not_fit_its_images_stays_as_it_is(images):
    assert list(opened(None, frames_of(None, message("block", [b"onetwo"], images=images))).parts) == [b"onetwo"]


@given(st.data())
def test_no_bit_can_be_changed(data):
    frames = frames_of(b"secret", message("block", [b"one", b"two"], seq=3))
    place = data.draw(st.integers(0, len(frames) - 1))
    at = data.draw(st.integers(0, len(frames[place]) - 1))
    changed = bytearray(frames[place])
    changed[at] ^= 1 << data.draw(st.integers(0, 7))
    frames[place] = bytes(changed)
    with pytest.raises(RigError, match="authenticated by the token"):
        opened(b"secret", frames)


@pytest.mark.parametrize(("sender", "receiver"), [(b"a", b"b"), (None, b"a"), (b"a", None)])
def test_another_token_is_refused(sender, receiver):
    with pytest.raises(RigError, match="expected a message authenticated by the token of this side") as raised:
        opened(receiver, frames_of(sender, message("hello")))
    assert raised.value.code == "auth"


def test_parts_cannot_be_moved_between_frames():
    code, header, *_ = frames_of(b"t", message("block", [b"ab", b"c"]))
    with pytest.raises(RigError, match="token"):
        opened(b"t", [code, header, b"a", b"bc"])


def test_the_code_is_what_the_documents_say():
    header = encoded(message("block", seq=1).header)
    expected = hmac.new(b"t", header + hashlib.sha256(b"part").digest(), "sha256").digest()
    assert code_of(b"t", header, [b"part"]) == expected


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"\x80\x04\x95", "malformed"),
        (b"[1, 2]", "malformed"),
        (b'{"proto": "closedloop-rig/1"}', "malformed"),
        (b'{"proto": "closedloop-rig/1", "type": "answer", "x": NaN}', "malformed"),
        (b'{"proto": "closedloop-rig/2", "type": "hello"}', "version"),
        (b'{"type": "hello"}', "version"),
        (b"[" * 100_000, "malformed"),
    ],
)
def test_what_is_no_header(content, code):
    with pytest.raises(RigError, match=r"expected a .*got") as raised:
        decoded(content)
    assert raised.value.code == code


def test_unknown_entries_are_ignored():
    assert decoded(json.dumps({"proto": PROTOCOL, "type": "hello", "later": [1]}).encode())["type"] == "hello"


def test_the_name_of_a_block_stands_for_all_of_its_header():
    header = {"proto": PROTOCOL, "type": "block", "seq": 1, "images": [{"sha256": "a"}]}
    name = block_name(header)
    assert block_name({**header, "block": "any"}) == name
    assert block_name({**header, "images": [{"sha256": "b"}]}) != name
    assert name == hashlib.sha256(encoded(header)).hexdigest()


def test_token(tmp_path, monkeypatch):
    monkeypatch.delenv("CLOSEDLOOP_RIG_TOKEN", raising=False)
    monkeypatch.delenv("CLOSEDLOOP_RIG_TOKEN_FILE", raising=False)
    assert read_token() is None
    monkeypatch.setenv("CLOSEDLOOP_RIG_TOKEN", "from the environment")
    assert read_token() == b"from the environment"
    file = tmp_path / "token"
    file.write_text("of a file\n")
    file.chmod(0o600)
    monkeypatch.setenv("CLOSEDLOOP_RIG_TOKEN", "\udcff\u00e4")  # bytes that are no UTF-8
    assert read_token() == b"\xff\xc3\xa4"
    monkeypatch.setenv("CLOSEDLOOP_RIG_TOKEN_FILE", str(file))
    assert read_token() == b"of a file"
    assert read_token(file) == b"of a file"
    if os.name == "posix":
        file.chmod(0o644)
        with pytest.raises(InvalidArgumentError, match="others may read"):
            read_token(file)
    file.chmod(0o600)
    file.write_text("")
    with pytest.raises(InvalidArgumentError, match="got an empty file"):
        read_token(file)
    with pytest.raises(InvalidArgumentError, match="cannot read"):
        read_token(tmp_path / "none")


def test_messages_are_never_pickled():
    assert Message({"type": 3}).type == "3"
    sources = [p.read_text() for p in __import__("pathlib").Path("closedloop/rigs").glob("*.py")]
    assert not [text for text in sources if "import pickle" in text or "recv_pyobj" in text]
