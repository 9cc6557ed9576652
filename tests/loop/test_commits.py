"""The one loop that commits: what it asks of a course, in which order, and what it refuses to go on with."""

from __future__ import annotations

import hashlib
import json
import time

import numpy as np
import pytest

from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.interfaces import Units
from closedloop.loop.commits import check_fingerprints, fingerprints, is_finished, record, run_course
from closedloop.loop.presenter import Shown
from closedloop.recording.layout import Layout, Rows
from closedloop.recording.reader import open_recording, read_experiment
from closedloop.recording.states import pack_state
from closedloop.recording.writer import Recording


class Still:
    """A subject that answers with ones."""

    name = "still"

    def __init__(self, units: int = 1) -> None:
        self.units = Units.numbered("still", units)

    def record(self, images):
        return np.ones((len(images), len(self.units)))


class Counting:
    """A course of a few blocks of one presentation each; it notes what it is asked."""

    reason = "counted"

    def __init__(self, blocks: int = 3, fails_at: int | None = None, units: int = 1) -> None:
        self.subject, self.blocks, self.fails_at, self.done = Still(units), blocks, fails_at, 0
        self.asked: list[str] = []

    def layout(self) -> Layout:
        return Layout(50, 0, self.subject.units, {"subject": "still", "seed": 0, "closedloop_version": "0"})

    def begin(self, recording) -> None:
        self.asked.append("begin")

    def show(self):
        self.asked.append("show")
        if self.done == self.fails_at:
            raise RuntimeError("the subject fell asleep")
        shown = Shown(np.zeros(1, int), np.zeros(1, int), np.full((1, len(self.subject.units)), float(self.done)))
        return None if self.done == self.blocks else shown

    def learn(self, shown) -> Rows:
        self.asked.append("learn")
        self.done += 1
        coords = {
            "thread": np.array(["t"]),
            "generation": np.array([self.done], np.int32),
            "kind": np.array(["reference"]),
            "stimulus_id": np.array([f"i{self.done}"]),
            "repeat": np.zeros(1, np.int32),
            "onset_s": np.array([float(self.done)]),
        }
        return Rows(coords, shown.responses, np.empty((1, 0)), np.array([np.nan]))

    def committed(self) -> None:
        self.asked.append("committed")

    def end(self) -> None:
        self.asked.append("end")

    def state(self):
        return {"done": self.done}

    def restore(self, state) -> None:
        self.done = state["done"]


class Ahead(Counting):
    """A course that makes its next block while the disk takes the one before, and so changes what its state holds."""

    def __init__(self, *given, **options) -> None:
        super().__init__(*given, **options)
        self.made = np.zeros(1)

    def prepare(self) -> None:
        self.asked.append("prepare")
        self.made += 1

    def state(self):
        return {**super().state(), "made": self.made}

    def restore(self, state) -> None:
        super().restore(state)
        self.made = state["made"]


EXPERIMENT = {"protocol": "counting", "closedloop": "1", "depth": (3, 4)}


def test_the_order_of_a_course():
    course = Counting(2)
    found = record(course, EXPERIMENT)
    assert course.asked == ["begin", *["show", "learn", "committed"] * 2, "show", "end"]
    np.testing.assert_array_equal(found["responses"].values[:, 0], [0, 1])
    assert found.attrs["reason"] == "counted"


@pytest.mark.parametrize("save", [None, "run"])
def test_the_next_block_is_made_beside_the_disk_and_never_shown_before_it(tmp_path, monkeypatch, save):
    course, append = Ahead(2), Recording.append

    def slow(recording, rows, state):
        until = time.monotonic() + (60 if save else 0)
        while course.asked[-1] != "prepare" and time.monotonic() < until:
            time.sleep(0.001)
        append(recording, rows, state)
        course.asked.append("disk")

    monkeypatch.setattr(Recording, "append", slow)
    record(course, EXPERIMENT, save and tmp_path / save)
    block = ["prepare", "disk"] if save else ["disk", "prepare"]
    assert course.asked == ["begin", *["show", "learn", *block, "committed"] * 2, "show", "end"]


def test_the_state_that_is_committed_is_that_from_before_the_next_block(tmp_path, monkeypatch):
    monkeypatch.setattr("closedloop.recording.writer.pack_state", lambda state: time.sleep(0.05) or pack_state(state))
    with pytest.raises(RuntimeError, match="fell asleep"):
        record(Ahead(4, fails_at=2), EXPERIMENT, tmp_path / "run")
    course = Ahead(4)
    record(course, EXPERIMENT, tmp_path / "run", "resume")
    assert (course.done, course.made) == (4, 3)  # the second block was committed with one made, the one after it


def test_what_fails_at_the_next_block_leaves_the_one_before(tmp_path, monkeypatch):
    def fail(course):
        raise InvalidArgumentError("codes: expected some, got none.")

    monkeypatch.setattr(Ahead, "prepare", fail)
    with pytest.raises(
        InvalidArgumentError, match=r"expected some, got none\. It happened in block 1\. 1 block is safe"
    ):
        record(Ahead(), EXPERIMENT, tmp_path / "run")
    monkeypatch.undo()
    later = Ahead()
    assert record(later, EXPERIMENT, tmp_path / "run", "resume").sizes["presentation"] == 3
    assert later.asked.count("learn") == 2


def test_goes_on_after_a_failure(tmp_path):
    with pytest.raises(RuntimeError, match="fell asleep"):
        record(Counting(4, fails_at=2), EXPERIMENT, tmp_path / "run")
    assert not is_finished(tmp_path / "run")
    later = Counting(4)
    found = record(later, {**EXPERIMENT, "closedloop": "2"}, tmp_path / "run", "resume")  # of another version
    assert later.asked.count("learn") == 2
    np.testing.assert_array_equal(found["responses"].values[:, 0], [0, 1, 2, 3])
    again = Counting(4)
    assert record(again, EXPERIMENT, tmp_path / "run", "resume").identical(found)
    assert again.asked == []  # a finished run is returned as it is


def test_resume_begins_where_there_is_nothing(tmp_path):
    assert record(Counting(1), EXPERIMENT, tmp_path / "new", "resume").sizes["presentation"] == 1


def test_a_failure_ends_the_course_and_frees_the_folder(tmp_path):
    course = Counting(4, fails_at=1)
    with pytest.raises(RuntimeError, match="fell asleep"):
        record(course, EXPERIMENT, tmp_path / "run")
    assert course.asked[-1] == "end"
    Recording.reopen(tmp_path / "run").close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": [3, 5]}, r"depth is \[3, 4\] there, and \[3, 5\] here"),
        ({"width": 1}, "width is None there, and 1 here"),
        ({"protocol": "other"}, "protocol is 'counting' there"),
    ],
)
def test_another_experiment_is_refused(tmp_path, change, message):
    record(Counting(2), EXPERIMENT, tmp_path / "run")
    before = sorted((p, p.stat().st_mtime_ns) for p in (tmp_path / "run").rglob("*"))
    with pytest.raises(RecordingError, match="exists: .*" + message):
        record(Counting(2), {**EXPERIMENT, **change}, tmp_path / "run", "resume")
    assert sorted((p, p.stat().st_mtime_ns) for p in (tmp_path / "run").rglob("*")) == before


def test_an_entry_that_only_the_run_has(tmp_path):
    record(Counting(2), EXPERIMENT, tmp_path / "run")
    with pytest.raises(RecordingError, match=r"depth is \[3, 4\] there, and None here"):
        record(Counting(2), {"protocol": "counting"}, tmp_path / "run", "resume")


def test_exists_and_save(tmp_path):
    with pytest.raises(InvalidArgumentError, match="exists: expected 'fail' or 'resume', got 'append'"):
        record(Counting(), EXPERIMENT, tmp_path / "run", "append")
    with pytest.raises(InvalidArgumentError, match="save: expected the folder of the run"):
        record(Counting(), EXPERIMENT, None, "resume")
    assert not (tmp_path / "run").exists()


def test_other_units_and_other_states_are_refused(tmp_path):
    with pytest.raises(RuntimeError, match="fell asleep"):
        record(Counting(4, fails_at=2), EXPERIMENT, tmp_path / "run")
    with pytest.raises(InvalidArgumentError, match="subject: expected the units of the run"):
        run_course(Counting(4, units=2), Recording.reopen(tmp_path / "run"))

    class Other(Counting):
        def restore(self, state) -> None:
            self.done = state["steps"]

    with pytest.raises(InvalidArgumentError, match=r"saved state does not fit them .KeyError: 'steps'"):
        run_course(Other(4), Recording.reopen(tmp_path / "run"))
    assert open_recording(tmp_path / "run").sizes["presentation"] == 2


def test_fingerprints():
    class Weighted:
        fingerprint = "ab" * 32

    found = fingerprints(a=Weighted(), b=b"bytes", c="given", d=b"", e=Still())
    assert found.keys() == {"a", "b", "c"}
    assert found["a"] == "ab" * 32
    assert len(found["b"]) == 64
    check_fingerprints("run", {}, found)  # runs of older versions do not say
    check_fingerprints("run", {"fingerprints": {**found, "z": "gone"}}, found)
    with pytest.raises(InvalidArgumentError, match=r"a: expected the a with which run began, got another .*restore"):
        check_fingerprints("run", {"fingerprints": {"a": "cd" * 32}}, found)


class Loaded(Still):
    """A subject that was loaded by name, with an engine, with weights or without."""

    def __init__(self, engine: str = "onnx", best: float = 2.0, weights: str = "", layer: str = "a") -> None:
        super().__init__()
        inside = {"name": "net", "layer": layer, "engine": engine, "device": None if engine == "onnx" else "cpu"}
        self.recipe = {"name": "poisson", "best": [best], "seed": 0, "subject": inside}
        if weights:
            self.fingerprint = weights * 32


def test_a_run_of_an_older_version_goes_on_though_it_did_not_note_weights():
    older = hashlib.sha256(json.dumps(Loaded("onnx").recipe, sort_keys=True).encode()).hexdigest()
    content = {"fingerprints": {"subject": older}}
    check_fingerprints("run", content, fingerprints(subject=Loaded("onnx")))
    check_fingerprints("run", content, fingerprints(subject=Loaded("onnx", weights="ab")))
    one = Loaded("eager", weights="ab")
    one.recipe["subject"]["device"] = None
    check_fingerprints("run", content, fingerprints(subject=one))
    for other in (Loaded("onnx", layer="b", weights="ab"), Loaded("onnx", best=3)):
        with pytest.raises(InvalidArgumentError, match="subject: expected the subject with which run began"):
            check_fingerprints("run", content, fingerprints(subject=other))
    with pytest.raises(InvalidArgumentError, match="subject: expected the subject with which run began"):
        check_fingerprints("run", {"fingerprints": {"subject": "ab" * 32}}, fingerprints(subject=Loaded(weights="cd")))


def test_the_engine_is_noted_and_not_compared(tmp_path):
    def experiment(subject):
        return {"subject": subject.recipe, "fingerprints": fingerprints(subject=subject)}

    begun = Loaded("onnx", 2.0, "ab")
    record(Counting(), experiment(begun), tmp_path / "run")
    record(Counting(), experiment(Loaded("eager", 2.0 + 1e-6, "ab")), tmp_path / "run", "resume")
    assert read_experiment(tmp_path / "run")["subject"]["subject"]["engine"] == "onnx"
    for other in (Loaded("eager", 2.1, "ab"), Loaded("onnx", layer="b", weights="ab")):
        with pytest.raises(RecordingError, match="holds another experiment: subject is"):
            record(Counting(), experiment(other), tmp_path / "run", "resume")
    with pytest.raises(InvalidArgumentError, match=r"subject: expected the subject with which .*run began"):
        record(Counting(), experiment(Loaded("onnx", 2.0, "cd")), tmp_path / "run", "resume")


def test_what_is_safe_is_said_once_of_a_run_within_a_run(tmp_path):
    class Nested(Counting):
        def show(self):
            if self.done == 2:
                inner = Counting()
                inner.show = interrupted
                run_course(inner, Recording.create(None, inner.layout(), {}))
            return super().show()

    def interrupted():
        raise KeyboardInterrupt("enough")

    with pytest.raises(KeyboardInterrupt, match="enough") as caught:
        record(Nested(), EXPERIMENT, tmp_path / "run")
    (note,) = caught.value.__notes__
    assert "2 finished generations" in note
    assert "closedloop resume" in note
