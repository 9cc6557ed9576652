"""Rehearse an evening at a rig with four units, from the mapping of their fields to the report.

    python examples/evening.py [FOLDER]

A rig without an animal is a process of its own: four units of lite0 that fire Poisson spikes, whose gain falls by a
tenth in 2,000 presentations, while one trial in twenty is lost and the animal looks away now and then. On the first
evening fields are mapped, and images of four threads are evolved until half of them were shown; on the next day the
references are shown again and the run goes on. Then the evolved images are shown beside controls. What is shown and how
stands in evening.yaml: at a real rig its address changes, and `Rig` below is left out.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from closedloop import Session, export, summarize
from closedloop.analysis import field_box, fit_field, reference_days
from closedloop.analysis.preferred import evolved_picture
from closedloop.images.sets import ImageSet, natural_references
from closedloop.loop.experiment import build_threads, parse_experiment, read_yaml
from closedloop.protocols import map_field, resume, verify
from closedloop.protocols.map_field import at_field
from closedloop.report import write_report
from closedloop.subjects import load_subject

#: The animal, and what goes wrong: see closedloop rig-sim --help.
ANIMAL = ("--subject", "lite0", "--layer", "blocks.3", "--units", "20,46,66,72", "--spikes", "20")
FAULTS = "lost:0.05,fixation:0.005:8,drift:-0.1:2000"


class Rig:
    """The rig: a process that shows images; begun again it goes on where its journal says."""

    def __init__(self, folder: Path, words: Sequence[str] = ANIMAL, faults: str = FAULTS) -> None:
        self.address = f"folder:{folder / 'rig'}"
        self._words = ["--listen", self.address, "--journal", str(folder / "rig.sqlite"), "--pace", "0", *words]
        self._faults = faults

    def __enter__(self) -> Rig:
        words = ["-m", "closedloop", "rig-sim", *self._words, "--faults", self._faults, "--seed", "1"]
        self._process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True)
        print(self._process.stdout.readline().strip())  # it is ready
        return self

    def __exit__(self, *error: Any) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.communicate(timeout=30)


class Home:
    """Ends the sitting after so many presentations, as Ctrl-C does; it can be gone on with."""

    def __init__(self, presentations: int) -> None:
        self._left = presentations

    def begin(self, session: Session) -> None:
        """Does nothing: a sitting begins."""

    def generation(self, generation: Any) -> None:
        """Counts what was shown."""
        self._left -= len(generation.shown.stimulus)
        if self._left <= 0:
            raise KeyboardInterrupt

    def end(self, session: Session) -> None:
        """Does nothing: it is over."""


def tomorrow(begins: bool = True) -> None:
    """Makes it the next day in this process, by the time zone, or today again; the day is all that matters here."""
    os.environ.update({"TZ": "NEXT-23:59"} if begins else {})
    if not begins:
        os.environ.pop("TZ", None)
    time.tzset()


def in_square(box: Sequence[int], resolution: int, number: int) -> ImageSet:
    """Returns photographs within a square on grey, where the evolved images stand, so that both are compared alike."""
    photographs, (y0, x0, y1, x1) = natural_references(max(box[2] - box[0], box[3] - box[1])), box
    images = np.full((len(photographs), 3, resolution, resolution), 0.5, np.float32)
    images[:, :, y0:y1, x0:x1] = photographs.images[:, :, : y1 - y0, : x1 - x0]
    which = np.linspace(0, len(images) - 1, min(number, len(images))).round().astype(int)
    return ImageSet(tuple(photographs.ids[i] for i in which), images[which])


def evening(folder: Path, words: Sequence[str] = ANIMAL, naturals: int = 80, looks: int = 20, **changed: Any) -> None:
    """Plays the evening.

    Args:
        folder: Where its runs go.
        words: Which animal.
        naturals: Photographs beside the evolved images.
        looks: Presentations of each image in the verification.
        **changed: Entries of evening.yaml, and `mapping`, the numbers of the fields' mapping, where they are others.
    """
    folder.mkdir(parents=True)
    mapping: Mapping[str, Any] = changed.pop("mapping", {"sizes": 2, "repeats": 2})
    content = read_yaml(Path(__file__).with_suffix(".yaml")) | changed
    with Rig(folder, words) as rig:
        content["subject"] = {**content["subject"], "name": f"rig:{rig.address}"}
        subject = load_subject(**content["subject"])

        # 1. Where do they look? Small pictures at many places.
        found = fit_field(map_field(subject, stimuli="patches", save=folder / "field", **mapping))
        for unit, place in zip(found["neuroid_id"].values, field_lines(found), strict=True):
            print(f"{unit}: {place}")

        # 2. Evolve an image for each, side by side, in its field; photographs beside them in the square around all.
        experiment = at_field(parse_experiment(content, "evening"), folder / "field", subject)
        boxes = np.array([field_box(found, unit) for unit in range(len(experiment.threads))])
        square = squared(boxes, subject.resolution)
        session = Session(
            subject,
            build_threads(experiment, subject),
            references=in_square(square, subject.resolution, naturals),
            save=folder / "evolution",
            observers=[Home(naturals + 2 * experiment.images)],
            **experiment.settings,
        )
        try:
            session.run()
        except KeyboardInterrupt:
            print("The animal has had enough for today.")

    # 3. The next day. The rig goes on from its journal, and all references are shown again.
    tomorrow()
    with Rig(folder, words):
        recording = resume(folder / "evolution")
        for thread in summarize(recording):
            print(f"{thread.thread:8s}{thread.target}: evolved {thread.evolved}, best photograph {thread.natural}")
        days = reference_days(recording)
        print(f"References on the second day: {days['ratio'].values[-1].round(2)} of those on the first.")

        # 4. Is it true? Fresh presentations of the evolved images, beside controls.
        subject = load_subject(**content["subject"])
        images = np.stack([evolved_picture(recording, thread.name)[1] for thread in experiment.threads])
        natural = recording.isel(presentation=(recording["thread"] == "reference").values)
        units = list(range(len(images)))
        verify(subject, images, units, recording=natural, repeats=looks, save=folder / "verified", seed=1)

    tomorrow(begins=False)

    # 5. For others: one file with spikes, units, trials and images, and a page to read.
    animal = {"subject_id": "rehearsal", "species": "Macaca mulatta", "sex": "U", "age": "P5Y"}
    export(recording, "nwb", folder / "evening.nwb", subject=animal)
    write_report([folder / name for name in ("field", "evolution", "verified")], folder / "report.html")
    print(f"Report: {folder / 'report.html'}")


def squared(boxes: np.ndarray, side: int) -> tuple[int, int, int, int]:
    """Returns the smallest square of the image around boxes (y0, x0, y1, x1)."""
    low, high = boxes[:, :2].min(0), boxes[:, 2:].max(0)
    width = int(min((high - low).max(), side))
    y0, x0 = np.clip((low + high - width) // 2, 0, side - width).tolist()
    return y0, x0, y0 + width, x0 + width


def field_lines(found: Any) -> list[str]:
    """Returns what was found of each field, in degrees."""
    scale = float(found["px_per_deg"])
    middle = (float(found["resolution_px"]) - 1) / 2
    lines = []
    for i in range(found.sizes["neuroid"]):
        one = found.isel(neuroid=i)
        x, y, size = (
            (float(one["x_px"]) - middle) / scale,
            (middle - float(one["y_px"])) / scale,
            one["sigma_px"] / scale,
        )
        lines.append(one["reason"].item() or f"{x:+.2f}° right, {y:+.2f}° up, σ {float(size):.2f}°")
    return lines


if __name__ == "__main__":
    evening(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/evening"))
