"""XDream's layout: a task in MATLAB that knows nothing of this project, played by a thread that writes its files."""

from __future__ import annotations

import re
import threading
import time

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from closedloop.errors import InvalidArgumentError, RigError, SubjectError
from closedloop.rigs import xdream
from closedloop.rigs.xdream import read_block
from closedloop.subjects import RigSubject, load_subject
from tests.running_rigs import marked


def save_hdf5(path, names, responses):
    """As MATLAB's ``save -v7.3`` does: a header of 512 bytes, a cell of references to texts, axes turned around."""
    with h5py.File(path, "w", userblock_size=512) as file:
        letters = [np.array([[ord(letter)] for letter in name], np.uint16) for name in names]
        texts = [file.create_dataset(f"#refs#/{i}", data=data) for i, data in enumerate(letters)]
        cell = file.create_dataset("stimulusID", (1, len(names)), dtype=h5py.ref_dtype)
        for i, text in enumerate(texts):
            cell[0, i] = text.ref
        file["tEvokedResp"] = np.asarray(responses)
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: PCWIN64".ljust(512, b" "))


def save_older(path, names, responses):
    savemat(path, {"stimulusID": np.array(names, object), "tEvokedResp": np.asarray(responses).T})


class Task(threading.Thread):
    """Shows what lies in a folder, block by block; `change` may alter names and responses."""

    def __init__(self, folder, save, change=lambda names, responses: (names, responses)):
        super().__init__(daemon=True)
        self.folder, self.save, self.change, self.ended, self.shown = folder, save, change, threading.Event(), []

    def run(self):
        done = set()
        while not self.ended.wait(0.01):
            files = sorted(self.folder.glob("block*.png"))
            blocks = {path.name[:8] for path in files} - done
            if not blocks or (not self.ended.wait(0.05) and len(files) != len(list(self.folder.glob("block*.png")))):
                continue
            for block in sorted(blocks):
                own = [path for path in files if path.name.startswith(block)]
                self.shown += [path.name for path in own]
                value = [np.asarray(Image.open(path))[0, 0, 0] for path in own]
                responses = np.array([[float(v), 7.0] for v in value])
                names, responses = self.change([f"C:\\stimuli\\{path.name}" for path in own], responses)
                partial = self.folder / f"{block}.tmp"
                self.save(partial, names, responses)
                partial.replace(self.folder / f"{block}.mat")
                done.add(block)


@pytest.fixture
def task(tmp_path):
    begun = []

    def begin(*arguments):
        begun.append(Task(tmp_path, *arguments))
        begun[-1].start()
        return begun[-1]

    yield begin
    for one in begun:
        one.ended.set()
        one.join(5)


@pytest.mark.parametrize("save", [save_hdf5, save_older])
def test_a_task_of_xdream_works_unchanged(save, task, tmp_path):
    running = task(save)
    subject = load_subject(f"rig:folder:{tmp_path}", layout="xdream", units=2, resolution=12, patience_s=1.0)
    for numbers in ([4, 9, 9, 2], [11]):
        found = subject.record(marked(numbers))
        np.testing.assert_array_equal(found, [[n, 7] for n in numbers])
    assert all(re.fullmatch(r"block\d{3}_\d{3}_\d{4}\.png", name) for name in running.shown)
    assert subject.units.neuroid_id == ("channel.0", "channel.1")


def test_what_the_task_does_not_name_was_not_shown_and_what_comes_twice_is_averaged(task, tmp_path):
    def change(names, responses):
        return [names[2], names[0], names[2]], np.array([[1.0, np.nan], [5.0, 6.0], [3.0, 4.0]])

    task(save_older, change)
    subject = RigSubject(f"folder:{tmp_path}", layout="xdream", units=("a", "b"), resolution=12)
    np.testing.assert_array_equal(subject.record(marked([1, 2, 3])), [[5, 6], [np.nan] * 2, [2, 4]])


def test_images_of_nobody_are_an_error(task, tmp_path):
    task(save_older, lambda names, responses: (["block001_000_other.png", *names[1:]], responses))
    subject = RigSubject(f"folder:{tmp_path}", layout="xdream", units=2, resolution=12)
    with pytest.raises(Exception, match=r"expected a trial of this block.*unknown image block001_000_other"):
        subject.record(marked([1, 2]))


def test_another_number_of_channels(task, tmp_path):
    task(save_older)
    subject = RigSubject(f"folder:{tmp_path}", layout="xdream", units=3, resolution=12)
    with pytest.raises(InvalidArgumentError, match=r"units: expected the channels of tEvokedResp, 2, got 3"):
        subject.record(marked([1, 2]))


def test_a_folder_of_another_session_is_not_taken(task, tmp_path):
    task(save_older)
    first = RigSubject(f"folder:{tmp_path}", layout="xdream", units=2, resolution=12)
    first.record(marked([1, 2]))
    state = first.state()
    again = RigSubject(f"folder:{tmp_path}", layout="xdream", units=2, resolution=12)
    with pytest.raises(RigError, match="holds blocks of another session"):
        again.record(marked([1, 2]))
    again.restore({**state, "seq": 0})  # a run that is resumed finds its answer there
    begun = time.monotonic()
    np.testing.assert_array_equal(again.record(marked([1, 2]))[:, 0], [1, 2])
    assert time.monotonic() - begun < 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "KeyError: 'tEvokedResp'"),
        ({"tEvokedResp": np.ones((2, 5))}, "2 names for responses of shape"),
        ({"tEvokedResp": np.full((2, 2), 1j)}, "TypeError: complex numbers"),
    ],
)
def test_a_file_that_stays_none_is_told(content, message, tmp_path, monkeypatch):
    """It would be waited for in vain: the task has answered."""
    monkeypatch.setattr(xdream, "COPYING_S", 0.0)
    monkeypatch.setattr(xdream, "POLL_S", 0.01)
    subject = RigSubject(f"folder:{tmp_path}", layout="xdream", units=2, resolution=12)
    savemat(tmp_path / "wrong.mat", {"stimulusID": np.array(["a", "b"], object), **content})
    threading.Timer(0.1, lambda: (tmp_path / "wrong.mat").replace(tmp_path / "block001.mat")).start()
    with pytest.raises(SubjectError, match=rf"expected stimulusID and tEvokedResp .*{message}.*Mend the task"):
        subject.record(marked([1, 2]))


def test_a_file_that_stays_none_is_told_however_often_it_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(xdream, "COPYING_S", 0.3)
    monkeypatch.setattr(xdream, "POLL_S", 0.01)
    few = {"patience_s": 0.05, "give_up_s": 5.0, "on_s": 0.001, "off_s": 0.0}
    subject = RigSubject(f"folder:{tmp_path}", layout="xdream", units=2, resolution=12, **few)
    threading.Timer(0.1, lambda: (tmp_path / "block001.mat").write_bytes(b"none")).start()
    with pytest.raises(SubjectError, match=r"expected stimulusID and tEvokedResp .*Mend the task"):
        subject.record(marked([1, 2]))


def test_a_note_of_the_session_that_is_no_text(tmp_path):
    (tmp_path / "closedloop-session.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(RigError, match="holds blocks of another session, '\ufffd\ufffd'; clear it"):
        RigSubject(f"folder:{tmp_path}", layout="xdream", units=2, resolution=12).record(marked([1, 2]))


def test_half_a_file_is_none(tmp_path):
    save_hdf5(tmp_path / "x.mat", ["a", "b"], np.ones((2, 3)))
    whole = (tmp_path / "x.mat").read_bytes()
    assert read_block(whole)[0] == ["a", "b"]
    with pytest.raises(OSError, match=r"truncated|file"):
        read_block(whole[: len(whole) // 2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "xdream"}, "units: expected the names of the channels, or their number"),
        ({"layout": "other"}, "layout: expected 'closedloop' or 'xdream'"),
        ({"units": 3}, "units: expected none"),
    ],
)
def test_options(options, message, tmp_path):
    with pytest.raises(InvalidArgumentError, match=message):
        RigSubject(f"folder:{tmp_path}", **options)
    if options == {"layout": "xdream"}:
        with pytest.raises(InvalidArgumentError, match="layout: expected 'xdream' with a folder"):
            RigSubject("zmq://127.0.0.1:5", layout="xdream", units=2)
