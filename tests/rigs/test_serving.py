"""A session that is held for a rig that drives itself: ask, tell, status, and kills of either side."""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import io
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from closedloop import open_recording
from closedloop.errors import InvalidArgumentError, RigError
from closedloop.rigs.serving import PROTOCOL, Desk, Talk, units_said
from closedloop.subjects import Served, load_subject
from closedloop.testing import SubjectContract

EXAMPLES = Path(__file__).parents[2] / "examples" / "rigs"
EXPERIMENT = """
subject: {name: served, units: [a, b], resolution: 16, patience_s: 5}
generator: {name: fourier, resolution: 16, cutoff: 2}
optimizer: {name: cma, population: 6}
objective: unit(0)
references: null
images: 30
retest_candidates: 1
retest_repeats: 2
"""


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as made:
        return made.getsockname()[1]


def client_module():
    spec = importlib.util.spec_from_file_location("closedloop_client", EXAMPLES / "closedloop_client.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


client = client_module()


def answer(image):
    """Answers an image by two numbers that follow from its pixels."""
    rgb = np.frombuffer(image["rgb"], np.uint8).reshape(image["height"], image["width"], 3).astype(float)
    return [float(rgb[4:12, 4:12].mean()), float(rgb[0, 0].sum())]


def play(session, most=10**6, note=None):
    """Shows blocks as they come; returns how many."""
    done = 0
    while done < most and (block := session.ask(1.0)) is not None:
        if note is not None:
            note.append((block["seq"], block["attempt"]))
        trials = [
            {"trial": t["trial"], "status": "ok", "counts": answer(block["images"][t["image"]]), "onset_s": 1.0 + i}
            for i, t in enumerate(block["trials"])
        ]
        session.tell(block, trials)
        done += 1
    return done


class TestServed(SubjectContract):
    resolution = 16

    @pytest.fixture(autouse=True)
    def _rig(self, tmp_path):
        self.path, self.made, self.threads = tmp_path, [], []
        yield
        for made in self.made:
            made.close()
        for thread in self.threads:
            thread.join(5)

    def make(self):
        journal = str(self.path / f"{len(self.made)}.sqlite")
        subject = Served(units=["a", "b"], listen="127.0.0.1:0", journal=journal, resolution=16)
        self.made.append(subject)
        session = client.Client(port=subject.port)
        self.threads.append(threading.Thread(target=play, args=(session,), daemon=True))
        self.threads[-1].start()
        return subject

    def test_restored_state_continues_identically(self):
        pytest.skip("its state is the number of its blocks: what was told is answered from the journal")


@pytest.fixture
def talk():
    desk = Desk({"units": units_said(2)})
    return Talk(desk, b"secret"), desk


def said(talk, **asked):
    return talk.answer(json.dumps(asked).encode())


def test_it_greets_and_refuses(talk):
    talk, desk = talk
    desk.patience_s = 0.01
    assert said(talk, type="status")["code"] == "auth"
    assert said(talk, type="hello", proto="closedloop-serve/9")["code"] == "version"
    assert said(talk, type="hello", proto=PROTOCOL, token="wrong")["code"] == "auth"
    assert talk.refused
    assert said(talk, type="hello", proto=PROTOCOL, token="secret")["type"] == "welcome"
    assert said(talk, type="dance")["code"] == "unknown"
    assert said(talk, type="ask", wait_s=-1)["code"] == "malformed"
    assert said(talk, type="ask", encoding="gif")["code"] == "malformed"
    assert said(talk, type="ask", wait_s=0)["type"] == "wait"
    assert talk.answer(b"{")["code"] == "malformed"
    assert talk.answer(b"[]")["code"] == "malformed"
    assert said(talk, type="tell", block="x", trials=[])["code"] == "conflict"
    assert said(talk, type="resume") == {"proto": PROTOCOL, "type": "resume", "told": 0, "pending": None, "over": None}


@pytest.mark.parametrize(
    ("trials", "text"),
    [
        ("none", "expected a list of trials"),
        ([{"trial": "z"}], "expected a trial of this block"),
        ([{"trial": "a"}, {"trial": "a"}], "expected each trial once"),
        ([{"trial": "a", "status": "great"}], "expected a status"),
        ([{"status": "ok"}], "expected a trial of this block"),
    ],
)
def test_wrong_answers_are_refused_and_the_block_stays(talk, trials, text):
    talk, desk = talk
    block = {
        "block": "b",
        "session": "s",
        "seq": 1,
        "phase": "",
        "window_s": [0.05, 0.2],
        "generation": 0,
        "images": [],
        "trials": [{"trial": "a"}],
    }
    thread = threading.Thread(target=lambda: desk.show(block, [], 1, lambda *_: None), daemon=True)
    thread.start()
    said(talk, type="hello", proto=PROTOCOL, token="secret")
    assert said(talk, type="ask")["type"] == "block"
    assert text in said(talk, type="tell", block="b", trials=trials)["text"]
    assert said(talk, type="status")["pending"]["block"] == "b"
    desk._kept = ""
    waiting = threading.Timer(0.05, desk.noted, ("b",))
    waiting.start()
    assert said(talk, type="tell", block="b", trials={"trial": "a", "status": "aborted"})["again"] is False
    assert said(talk, type="tell", block="b", trials=[])["again"] is True
    thread.join(5)


def test_images_come_as_png_too(tmp_path):
    subject = Served(units=1, listen="127.0.0.1:0", journal=str(tmp_path / "j"), resolution=8)
    shown = np.random.default_rng(0).random((2, 3, 8, 8), np.float32)
    refusals = []

    def record():
        with pytest.raises(RigError, match="the session is over") as refusal:
            subject.record(shown)
        refusals.append(refusal)

    thread = threading.Thread(target=record, daemon=True)
    thread.start()
    session = client.Client(port=subject.port)
    got = session._call({"type": "ask", "encoding": "png"})
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(got["images"][1]["data"]))))
    np.testing.assert_array_equal(pixels, np.rint(shown[1] * 255).astype(np.uint8).transpose(1, 2, 0))
    other = client.Client(port=subject.port)
    assert other.ask()["attempt"] == 2  # the first one has died
    assert session.status()["pending"]["attempt"] == 2
    subject.close()
    thread.join(5)
    assert refusals


def test_refuses(tmp_path):
    journal = str(tmp_path / "j")
    with pytest.raises(InvalidArgumentError, match="other computers reach"):
        Served(listen="0.0.0.0:0", journal=journal)
    for options, match in [
        ({"listen": "5580"}, "listen: expected HOST:PORT"),
        ({"units": []}, "units: expected"),
        ({"units": ["a", "a"]}, "different names"),
        ({"gives": "rates"}, "gives: expected"),
    ]:
        with pytest.raises(InvalidArgumentError, match=match):
            Served(**{"listen": "127.0.0.1:0", "journal": journal, **options})
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(InvalidArgumentError, match="cannot listen"):
            load_subject("served", listen=f"127.0.0.1:{taken.getsockname()[1]}", journal=journal)


def begin(folder, port):
    (folder / "e.yaml").write_text(EXPERIMENT)
    words = ["serve", str(folder / "e.yaml"), "--listen", f"127.0.0.1:{port}", "--out", str(folder / "run")]
    with (folder / "out.txt").open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "closedloop", *words, "--exists", "resume"],
            stdout=out,
            stderr=out,
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )


@pytest.mark.long
def test_a_session_is_the_same_whichever_side_dies(tmp_path):
    shown = {}
    for name, kills in (("whole", ()), ("killed", (2, 4))):
        folder, port = tmp_path / name, free_port()
        folder.mkdir()
        process, note = begin(folder, port), []
        for blocks in kills:
            session = client.Client(port=port, patience_s=15)
            play(session, blocks - len({seq for seq, _ in note}), note)
            held = session.ask()  # the rig dies with this block on the screen
            assert held["attempt"] == 1
            session.close()
            other = client.Client(port=port, patience_s=15)
            assert other.ask()["attempt"] == 2
            process.send_signal(signal.SIGKILL)
            process.wait(10)
            process = begin(folder, port)
            other.tell(
                held, [{"trial": t["trial"], "counts": answer(held["images"][t["image"]])} for t in held["trials"]]
            )
            note.append((held["seq"], 1))
        play(client.Client(port=port, patience_s=15), note=note)
        assert process.wait(60) == 0, (folder / "out.txt").read_text()
        shown[name] = [seq for seq, _ in note]
    assert shown["killed"] == shown["whole"] == list(range(1, len(shown["whole"]) + 1))
    one, two = (open_recording(tmp_path / name / "run") for name in shown)
    for name in ("responses", "score", "latent_code", "stimulus_id", "trial_id", "status"):
        np.testing.assert_array_equal(one[name].values, two[name].values)


@pytest.fixture
def octave():
    """Skips a test where Octave, or its package for sockets, is not installed."""
    if shutil.which("octave-cli") is None:
        pytest.skip("needs octave")
    words = ["octave-cli", "--norc", "--eval", "pkg load instrument-control"]
    if subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("needs octave's package instrument-control")


@pytest.mark.usefixtures("octave")
def test_octave_drives_a_session(tmp_path):
    subject = Served(units=["a", "b"], listen="127.0.0.1:0", journal=str(tmp_path / "j"), resolution=16)
    shown = (np.random.default_rng(0).integers(0, 256, (5, 3, 16, 12)) / 255).astype(np.float32)
    shown = np.concatenate([shown, shown[..., :4]], -1)
    found = []
    thread = threading.Thread(target=lambda: found.append(subject.record(shown)), daemon=True)
    thread.start()
    script = (
        f"addpath('{EXAMPLES}'); c = closedloop_client('open', '127.0.0.1', {subject.port}, '');"
        "block = closedloop_client('ask', c);"
        "for i = 1:numel(block.trials) rgb = closedloop_client('image', block, block.trials(i).image + 1);"
        "trials(i).trial = block.trials(i).trial; trials(i).status = 'ok';"
        "trials(i).counts = [double(rgb(3, 7, 1)), double(rgb(16, 1, 3))]; end;"
        "closedloop_client('tell', c, block, trials); s = closedloop_client('status', c); printf('told %d', s.told);"
    )
    done = subprocess.run(["octave-cli", "--norc", "--eval", script], capture_output=True, check=False, timeout=60)
    assert b"told 1" in done.stdout, done.stderr.decode()
    thread.join(5)
    levels = np.rint(shown * 255)
    np.testing.assert_array_equal(found[0], np.stack([levels[:, 0, 2, 6], levels[:, 2, 15, 0]], 1))
    subject.close()


def test_what_was_told_is_not_shown_again_after_this_side_died(tmp_path):
    images = np.random.default_rng(0).random((3, 3, 16, 16), np.float32)
    journal = str(tmp_path / "j")
    first = Served(units=["a", "b"], listen="127.0.0.1:0", journal=journal, resolution=16)
    before = first.state()
    thread = threading.Thread(target=play, args=(client.Client(port=first.port), 1), daemon=True)
    thread.start()
    told = first.record(images)
    thread.join(5)
    first.close()  # before its session was committed
    second = Served(units=["a", "b"], listen="127.0.0.1:0", journal=journal, resolution=16)
    second.restore(before)
    np.testing.assert_array_equal(second.record(images), told)  # nobody is asked
    second.close()


def test_a_journal_that_cannot_be_written_ends_the_session(tmp_path):
    """Nobody waits for an answer that cannot come; the client hears that its answer was not written down."""
    subject = Served(units=["a", "b"], listen="127.0.0.1:0", journal=str(tmp_path / "j"), resolution=16)

    def full(*_):
        raise sqlite3.OperationalError("database or disk is full")

    subject._way._journal.finish = full
    refusals = []

    def drive():
        with pytest.raises(client.Refused, match="before it was written down: the journal of the session cannot be"):
            play(client.Client(port=subject.port))
        refusals.append(True)

    thread = threading.Thread(target=drive, daemon=True)
    thread.start()
    with pytest.raises(RigError, match=r"cannot be written \(OperationalError: database or disk is full\)"):
        subject.record(np.zeros((2, 3, 16, 16), np.float32))
    thread.join(5)
    assert refusals
    subject.close()


def test_psychopy_shows_what_is_asked(tmp_path):
    """Stand-ins have PsychoPy's names: Window.flip, ImageStim.draw, core.Clock.getTime, core.wait."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        spec = importlib.util.spec_from_file_location("psychopy_rig", EXAMPLES / "psychopy_rig.py")
        rig = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(rig)
    finally:
        sys.path.remove(str(EXAMPLES))

    class Window:
        screen, drawn = None, None

        def flip(self):
            self.screen, self.drawn = self.drawn, None
            if self.screen is not None:
                self.last = self.screen

    class ImageStim:
        def __init__(self, win, image, size=None, units=None, pos=None):
            self.win, self.image, self.size, self.pos = win, image, size, pos

        def draw(self):
            self.win.drawn = self

    class Clock:
        now = 0.0

        def getTime(self):  # noqa: N802
            Clock.now += 0.01
            return Clock.now

    class Module:
        pass

    visual, core, window = Module(), Module(), Window()
    visual.ImageStim, core.Clock, core.wait = ImageStim, Clock, lambda seconds: None
    subject = Served(units=2, listen="127.0.0.1:0", journal=str(tmp_path / "j"), resolution=16, size_deg=4.0)
    images = (np.random.default_rng(0).integers(0, 256, (4, 3, 16, 16)) / 255).astype(np.float32)
    found = []

    def record():
        found.append(subject.record(images))
        subject.desk.end("the end")

    thread = threading.Thread(target=record, daemon=True)
    thread.start()

    def responses(onset_s):
        assert window.last.size == 4.0
        return [(window.last.image[-1, 0, 0] + 1) / 2, onset_s]  # the first row is the upper one

    with client.Client(port=subject.port) as session:
        assert rig.show_session(session, window, visual, core, responses) == 1
    thread.join(5)
    np.testing.assert_allclose(found[0][:, 0], images[:, 0, 0, 0], atol=1e-6)
    subject.close()


@pytest.mark.usefixtures("octave")
def test_monkeylogics_user_loop_shows_what_is_asked(tmp_path):
    """A stand-in calls the user loop as MonkeyLogic does: before the first trial, then before each."""
    subject = Served(units=2, listen="127.0.0.1:0", journal=str(tmp_path / "j"), resolution=8, size_deg=4)
    images = (np.random.default_rng(0).integers(0, 256, (13, 3, 8, 8)) / 255).astype(np.float32)
    found = []

    def record():
        found.append(subject.record(images))
        subject.desk.end("the end")

    thread = threading.Thread(target=record, daemon=True)
    thread.start()
    # MonkeyLogic's TrialRecord is a handle, which Octave's structs are not: a wrapper keeps it.
    (tmp_path / "drive.m").write_text("""
      function drive(port, folder)
        addpath(folder);
        T = TrialHandle();
        T.User.closedloop = struct('host', '127.0.0.1', 'port', port, 'token', '');
        M.PixelsPerDegree = [24 -24];
        monkeylogic_userloop(M, T);
        trials = 0;
        while ~T.Quit && trials < 10
          [C, timing] = monkeylogic_userloop(M, T);
          if isempty(C), break, end
          trials = trials + 1;
          T.CurrentTrialNumber = trials;
          T.User.shown = T.User.asked;
          T.User.counts = zeros(numel(C), 2);
          T.TrialErrors(end + 1) = 0;
          if trials == 2
            T.User.shown = T.User.asked(1);
            T.TrialErrors(end) = 3;
          end
          for i = 1:numel(C)
            file = regexp(C{i}, 'pic\\((.*),0,0,96,96\\)', 'tokens'){1}{1};
            pixels = imread(file);
            T.User.counts(i, :) = [double(pixels(1, 1, 1)), numel(C)];
          end
        end
        printf('trials %d', trials);
      end
    """)
    (tmp_path / "TrialHandle.m").write_text("""
      classdef TrialHandle < handle
        properties
          CurrentTrialNumber = 0;
          TrialErrors = [];
          Quit = false;
          User = struct();
        end
      end
    """)
    words = f"addpath('{tmp_path}'); drive({subject.port}, '{EXAMPLES}');"
    done = subprocess.run(["octave-cli", "--norc", "--eval", words], capture_output=True, check=False, timeout=60)
    assert b"trials 2" in done.stdout, done.stderr.decode()
    thread.join(5)
    ok = ~np.isnan(found[0][:, 0])
    assert ok.sum() == 11  # ten of the first trial, and the first of the second, in which fixation broke
    np.testing.assert_allclose(found[0][ok, 0], np.rint(images[ok, 0, 0, 0] * 255))
    subject.close()


def test_attempts_go_on_counting_where_a_session_dies(tmp_path):
    """Two clients were handed a block; the session that begins again says that the third showing is the third."""
    images, journal, handed = np.zeros((1, 3, 16, 16), np.float32), str(tmp_path / "journal.sqlite"), []

    def begin(state=None):
        subject = Served(units=2, listen="127.0.0.1:0", journal=journal, resolution=16)
        before = subject.state() if state is None else state
        subject.restore(before)

        def record():
            with contextlib.suppress(Exception):  # it is closed while it waits
                subject.record(images)

        waiting = threading.Thread(target=record, daemon=True)
        waiting.start()
        return subject, before, waiting

    def ask(subject, *, twice=False):
        with client.Client(port=subject.port) as asking:
            handed.extend(asking.ask(5.0)["attempt"] for _ in range(1 + twice))

    subject, state, waiting = begin()
    for twice in (False, True, False):
        ask(subject, twice=twice)
    subject.close()
    waiting.join(10)
    subject, _, waiting = begin(state)
    ask(subject)
    subject.close()
    waiting.join(10)
    assert handed == [1, 2, 2, 3, 4]
