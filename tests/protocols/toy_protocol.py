"""A protocol in one file, as a package of somebody else would bring it: shows grey levels, and counts."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np

from closedloop.loop.commits import is_finished, record, run_course
from closedloop.loop.presenter import Presenter
from closedloop.protocols import RunProtocol, RunSummary, RunTable
from closedloop.recording.layout import Layout, Rows
from closedloop.recording.reader import open_recording
from closedloop.recording.writer import Recording
from closedloop.subjects import load_subject

SUBJECT = {"name": "gabor", "resolution": 16}


class GreyLevels:
    """Shows ten grey images one by one."""

    reason = "all levels were shown"

    def __init__(self, levels: int, die_at: int | None = None) -> None:
        self.subject = load_subject(**SUBJECT)
        self.levels, self.done, self.die_at = levels, 0, die_at

    def layout(self) -> Layout:
        return Layout(
            self.levels,
            0,
            self.subject.units,
            {"subject": "gabor", "seed": 0, "closedloop_version": "0"},
            {"level": ("float64", np.nan)},
        )

    def begin(self, recording: Recording) -> None:
        recording.keep("note.txt", b"a toy")

    def show(self):
        if self.done == self.levels:
            return None
        image = np.full((1, 3, 16, 16), self.done / self.levels, np.float32)
        return Presenter(self.subject).show(image, np.ones(1, int), np.random.default_rng(0))

    def learn(self, shown) -> Rows:
        level, n = self.done / self.levels, len(shown.stimulus)
        self.done += 1
        coords = {
            "thread": np.full(n, "reference"),
            "generation": np.full(n, self.done, np.int32),
            "kind": np.full(n, "reference"),
            "stimulus_id": np.full(n, f"level-{level:.2f}"),
            "repeat": shown.repeat.astype(np.int32),
            "onset_s": np.full(n, float(self.done)),
            "level": np.full(n, level),
        }
        return Rows(coords, shown.responses, np.empty((n, 0)), np.full(n, np.nan))

    def committed(self) -> None:
        if self.done == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def end(self) -> None:
        pass

    def state(self):
        return {"done": self.done}

    def restore(self, state) -> None:
        self.done = int(state["done"])


def grey_levels(levels: int = 10, save=None, exists: str = "fail", die_at: int | None = None):
    return record(GreyLevels(levels, die_at), {"protocol": "toy", "levels": levels}, save, exists)


def _resume(run: Path, content, handed):
    if is_finished(run):
        return open_recording(run)
    return run_course(GreyLevels(content["levels"]), Recording.reopen(run))


def _summary(run: Path, recording) -> RunSummary:
    rows = [
        [f"{level:.1f}", f"{response:.3g}"]
        for level, response in zip(recording["level"].values, recording["responses"].values[:, 0], strict=True)
    ]
    return RunSummary([RunTable("Responses to grey levels", ("level", "response"), rows)], ["A toy was here."])


PROTOCOL = RunProtocol("toy", _resume, _summary)
