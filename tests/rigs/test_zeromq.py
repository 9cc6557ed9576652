"""The way over ZeroMQ: in how many frames the images of a block go."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from closedloop.rigs.messages import Message, frames_of, message, opened
from closedloop.rigs.server import answered
from closedloop.subjects import RigSubject
from tests.running_rigs import SIDE, marked

zmq = pytest.importorskip("zmq")


def frames_sent(welcome, encoding, numbers):
    """How many frames a rig gets that says this in its welcome, and the numbers that the images of the block tell."""
    context = zmq.Context()
    router = context.socket(zmq.ROUTER)
    port, got = router.bind_to_random_port("tcp://127.0.0.1"), []

    def rig():
        while len(got) < 2 and router.poll(10_000):
            peer, *frames = router.recv_multipart()
            asked = opened(None, frames)
            got.append((len(frames), asked))
            names = {name: asked.header.get(name) for name in ("session", "seq", "block")}
            if asked.type == "hello":
                units = [{"id": "a"}]
                said = message("welcome", rig_id="r", units=units, last_done=0, encoding=encoding, **names, **welcome)
            else:
                trials = [answered(trial["trial"], values={"counts": [1.0]}) for trial in asked.header["trials"]]
                said = message("answer", trials=trials, attempt=1, **names)
            router.send_multipart([peer, *frames_of(None, said)])

    thread = threading.Thread(target=rig, daemon=True)
    thread.start()
    subject = RigSubject(f"zmq://127.0.0.1:{port}", resolution=SIDE)
    try:
        subject.record(marked(numbers))
    finally:
        thread.join(10)
        subject.close()
        context.destroy(linger=0)
    frames, block = got[1]
    return frames, block


@pytest.mark.parametrize("encoding", ["rgb8", "png"])
def test_images_go_in_one_frame_to_a_rig_that_takes_them_apart(encoding):
    frames, block = frames_sent({"joined": True}, encoding, [3, 7, 9])
    assert frames == 3
    assert [len(part) for part in block.parts] == [entry["bytes"] for entry in block.header["images"]]
    if encoding == "rgb8":
        assert [np.frombuffer(part, np.uint8).max() for part in block.parts] == [3, 7, 9]


@pytest.mark.parametrize("welcome", [{}, {"joined": False}, {"joined": 1}])
def test_images_go_in_a_frame_each_to_any_other_rig(welcome):
    frames, _ = frames_sent(welcome, "rgb8", [3, 7, 9])
    assert frames == 2 + 3


def test_an_answer_is_sent_as_it_was_written_down():
    content = b'{"proto":"closedloop-rig/1","type":"answer","written":1}'
    assert frames_of(None, Message({"type": "answer"}, content=content))[1] == content
