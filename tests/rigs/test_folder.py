"""A folder between two computers: files that are not yet whole, changed on the way, or answered long ago."""

from __future__ import annotations

import json
import time

import pytest

from closedloop.errors import InvalidArgumentError, RigError, SubjectError
from closedloop.loop import notices
from closedloop.rigs import folder
from closedloop.rigs.folder import FolderListener, FolderTransport
from closedloop.rigs.messages import message, sha256
from tests.rigs.test_server import block


@pytest.fixture
def both(tmp_path):
    listener = FolderListener(tmp_path)
    return FolderTransport(tmp_path), listener, tmp_path / "sessions" / "s"


def answer_to(sent):
    return message("answer", **{name: sent.header[name] for name in ("session", "seq", "block")})


def test_the_layout_is_that_of_the_documents(both):
    asker, rig, place = both
    sent = block(12, encoding="png")
    asker.send(sent)
    header = json.loads((place / "000012" / "block.json").read_text())
    assert header == dict(sent.header)
    assert {p.stem for p in (place / "000012" / "images").iterdir()} == {e["sha256"] for e in header["images"]}
    assert (place / "000012" / "READY").read_text() == sha256((place / "000012" / "block.json").read_bytes())
    where, got = rig.receive(0)
    assert got.header == sent.header
    assert list(got.parts) == list(sent.parts)
    rig.reply(where, answer_to(sent))
    assert asker.receive(0).type == "answer"
    assert rig.receive(0) is None
    assert not [p for p in place.rglob("*") if p.name.startswith(".tmp") or p.name.endswith(".partial")]


def test_one_rig_answers_in_a_folder(both, tmp_path):
    """Two with journals of their own would both show what is asked. What is over, or died, holds nothing."""
    with pytest.raises(InvalidArgumentError, match="listen: another rig answers in the folder"):
        FolderListener(tmp_path)
    both[1].close()
    FolderListener(tmp_path).close()


def test_a_share_without_locks_is_listened_to(tmp_path, monkeypatch):
    def none(self, **options):
        raise NotImplementedError("no locks")

    monkeypatch.setattr(folder.FileLock, "acquire", none)
    asker, rig = FolderTransport(tmp_path), FolderListener(tmp_path)
    asker.send(block(12, encoding="png"))
    assert rig.receive(0) is not None


def test_what_is_not_whole_yet_is_waited_for(both, monkeypatch):
    asker, rig, place = both
    asker.send(block(encoding="png"))
    image = next((place / "000001" / "images").iterdir())
    whole = image.read_bytes()
    image.write_bytes(whole[:-1])  # a share that copies
    assert rig.receive(0) is None
    image.write_bytes(whole)
    assert rig.receive(0) is not None
    (place / "000001" / "READY").write_text("0" * 64)
    assert rig.receive(0) is None
    monkeypatch.setattr(folder, "COPYING_S", 0.0)
    time.sleep(0.01)
    assert rig.receive(0) is None
    got = asker.receive(0)
    assert (got.type, got.header["code"]) == ("error", "damaged")
    asker.send(block(encoding="png"))  # puts right what was damaged
    assert rig.receive(0) is not None


def test_half_an_answer_is_none(both):
    asker, _, place = both
    asker.send(block(encoding="png"))
    answer = place / "000001" / "answer.json"
    answer.write_text('{"proto": "closedloop-rig/1", "type": "ans')
    assert asker.receive(0) is None
    answer.write_bytes(answer_to(block(encoding="png")).encoded())
    assert asker.receive(0).type == "answer"


def test_an_answer_that_stays_none_is_told(both, monkeypatch):
    """It would be waited for in vain: the rig has answered."""
    asker, _, place = both
    asker.send(block(encoding="png"))
    answer = place / "000001" / "answer.json"
    answer.write_text('{"proto": "closedloop-rig/1", "type": "answer", "trials": [{"spike_s": NaN}]}')
    assert asker.receive(0) is None
    monkeypatch.setattr(folder, "COPYING_S", 0.0)
    time.sleep(0.01)
    with pytest.raises(SubjectError, match=r"expected an answer in JSON .*000001/answer.json.*remove that file"):
        asker.receive(0)
    answer.write_text('{"proto": "closedloop-rig/9", "type": "answer"}')
    with pytest.raises(RigError, match="update the older side"):
        asker.receive(0)
    answer.write_bytes(answer_to(block(encoding="png")).encoded())
    assert asker.receive(0).type == "answer"


def test_progress_is_seen_once(both):
    asker, rig, _ = both
    asker.send(block(encoding="png"))
    where, _ = rig.receive(0)
    rig.reply(where, message("progress", seq=1, done=1, of=2))
    assert asker.receive(0).type == "progress"
    assert asker.receive(0) is None
    rig.reply(where, message("progress", seq=1, done=2, of=2))
    assert asker.receive(0).header["done"] == 2


def test_an_answer_of_before_is_found_at_once(both):
    asker, rig, _ = both
    asker.send(block(encoding="png"))
    where, _ = rig.receive(0)
    rig.reply(where, answer_to(block(encoding="png")))
    again = FolderTransport(asker._root)
    again.send(block(encoding="png"))
    assert again.receive(0).type == "answer"


def test_another_block_of_the_same_number_lies_beside_it(both):
    asker, rig, place = both
    asker.send(block(encoding="png"))
    other = block(1, (7,), encoding="png")
    asker.send(other)
    assert (place / f"000001-{other.header['block'][:12]}").is_dir()
    assert len([1 for _ in range(2) if rig.receive(0)]) == 2


def test_a_folder_of_many_sessions_is_looked_at_in_turn(tmp_path, monkeypatch):
    """Those of months lie there; one that is gone on with is heard soon, and the one under way at once."""
    old = [f"s{i:02d}" for i in range(60)]
    for name in old:
        (tmp_path / "sessions" / name).mkdir(parents=True)
    looked, entries = [], folder._entries
    monkeypatch.setattr(folder, "_entries", lambda path: looked.append(path.name) or entries(path))
    rig, asker = FolderListener(tmp_path), FolderTransport(tmp_path)
    assert rig.receive(0) is None
    assert set(looked) == {"sessions", *old}  # a rig that begins looks at all
    monkeypatch.setattr(folder, "QUIET_S", 0.05)
    time.sleep(0.1)
    asker.send(message("hello", session="now"))
    looked.clear()
    where, _ = rig.receive(0)
    assert where.parent.name == "now"
    assert len(looked) <= 4
    rig.reply(where, message("welcome", session="now"))
    asker.send(message("hello", session=old[40]))
    looks = 0
    while rig.receive(0) is None:
        looks += 1
    assert looks <= 2 * folder.LOOKS
    looked.clear()
    time.sleep(0.1)
    for _ in range(folder.LOOKS):
        rig.receive(0)
    assert {*old, "now"} <= set(looked)


def test_hello(both):
    asker, rig, place = both
    asker.send(message("hello", session="s"))
    where, got = rig.receive(0)
    assert got.type == "hello"
    rig.reply(where, message("welcome", session="s"))
    assert rig.receive(0) is None
    assert asker.receive(0).type == "welcome"
    assert not list(place.glob("*.json"))


def test_a_rig_that_comes_late_finds_one_question(both):
    asker, rig, place = both
    for _ in range(5):
        asker.send(message("hello", session="s"))
        assert asker.receive(0) is None
    assert len(list(place.glob("hello-*.json"))) == 1
    where, _ = rig.receive(0)
    rig.reply(where, message("welcome", session="s"))
    assert rig.receive(0) is None
    assert asker.receive(0).type == "welcome"
    asker.send(block(encoding="png"))
    asker.send(message("hello", session="t"))
    assert (place / "000001" / "READY").exists()


def test_another_version_is_refused(both):
    _, rig, place = both
    place.mkdir(parents=True)
    (place / "hello-x.json").write_text('{"proto": "closedloop-rig/9", "type": "hello"}')
    assert rig.receive(0) is None
    assert json.loads((place / "refused-x.json").read_text())["code"] == "version"


@pytest.mark.parametrize("name", ["../s", "a/b", "C:\\x", "", "a" * 200, 7])
def test_names_that_are_none(both, name):
    with pytest.raises(RigError, match="expected a name of letters"):
        both[0].send(message("hello", session=name))


def test_no_folder(tmp_path):
    """A rig that is begun beside it makes it; until then nothing is sent, and no folder is made."""
    with pytest.raises(OSError, match="there is no folder"):
        FolderTransport(tmp_path / "none").send(message("hello", session="s"))
    assert not (tmp_path / "none").exists()


def test_an_answer_that_cannot_be_written_is_said_once_and_tried_again_later(both, monkeypatch):
    asker, rig, place = both
    asker.send(block(encoding="png"))
    full, told, puts, put = [True], [], [], folder.put

    def maybe(path, data):
        puts.append(path)
        if full[0]:
            raise OSError(28, "No space left on device")
        put(path, data)

    monkeypatch.setattr(folder, "put", maybe)
    monkeypatch.setattr(folder, "AGAIN_S", 0.05)
    notices.listen(told.append)
    try:
        where, _ = rig.receive(0)
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            rig.reply(where, message("answer", session="s"))
            while rig.receive(0.01) is None:
                pass
        full[0] = False
        rig.reply(where, message("answer", session="s"))
    finally:
        notices.leave(told.append)
    assert 2 < len(puts) < 10
    assert (place / "000001" / "answer.json").exists()
    assert rig.receive(0) is None
    assert [(text.partition(" (")[2], text.well) for text in told] == [
        ("No space left on device); trying again every 0.05 s", False),
        ("", True),
    ]


@pytest.mark.parametrize("wrong", ["session", "seq", "block", "type"])
@pytest.mark.parametrize("missing", [True, False])
def test_an_answer_to_something_else_is_said_and_asked_for_again(both, wrong, missing):
    """A task that forgets what an answer says of its block: it would be waited for in vain."""
    asker, rig, place = both
    sent = block(encoding="png")
    asker.send(sent)
    said = {name: sent.header[name] for name in ("proto", "session", "seq", "block")} | {"type": "answer"}
    where, _ = rig.receive(0)
    answer = place / "000001" / "answer.json"
    if missing and wrong != "type":
        del said[wrong]
    else:
        said[wrong] = 7 if wrong == "seq" else "progress"
    answer.write_text(json.dumps(said))
    assert rig.receive(0) is None
    with pytest.raises(
        SubjectError, match=rf"expected {wrong} .* in .*answer.json, as in its block.json, got .*remove"
    ):
        asker.receive(0)
    answer.unlink()
    asker.send(sent)
    assert rig.receive(0)[0] == where  # it is looked at again, though it was answered
