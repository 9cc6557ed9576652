"""Arrays by the thousand at the doors of the loop: each is recorded as it was handed over, or refused by name."""

from __future__ import annotations

import numpy as np

from closedloop.errors import ClosedLoopError
from closedloop.images.eight_bit import quantize
from closedloop.interfaces import Space, Units
from closedloop.loop.session import Session
from closedloop.loop.thread import Thread
from closedloop.recording.reader import open_recording
from tests.loop.dressed import dressed, spoilt

SIDE, DIM, POPULATION, GENERATIONS, UNITS = 2, 3, 3, 2, 2


class Course:
    """An experiment whose parts hand over arrays in any form, and note what these must be read as.

    Args:
        seed: Of all draws.

    Attributes:
        part: Whose array is spoilt, at its call number `call`; empty for none.
        said: What was handed over, in words.
    """

    def __init__(self, seed):
        rng = self.rng = np.random.default_rng(seed)
        self.seed, self.steady, self.bins = seed, rng.random() < 0.8, int(rng.integers(4))
        self.part = str(rng.choice(["subject", "generator", "optimizer", "objective"])) if rng.random() < 0.5 else ""
        self.call, self.said = int(rng.integers(GENERATIONS)), ""
        self.expected = {"subject": [], "generator": [], "optimizer": [], "objective": []}
        self.saw, self.told = [], []

    def hand(self, part, values, **forms):
        """What a part returns."""
        number = len(self.expected[part])
        if part == self.part and number == self.call:
            word, made = spoilt(values, self.rng, lost=part in ("subject", "objective"), rows=part != "optimizer")
            self.said += f"; {part} {number}: {word}"
            return made
        rng = np.random.default_rng([self.seed, len(part)]) if self.steady else self.rng
        word, made, expected = dressed(values, rng, **forms)
        self.said += f"; {part} {number}: {word}"
        self.expected[part].append(expected)
        return made


class Part:
    """One of the parts of a course."""

    units = Units(("a", "b"), {})
    space = Space(DIM)
    resolution, needs_gradient = SIDE, False

    def __init__(self, name, course):
        self.name, self.course = name, course

    def describe(self):
        return self.name


class Cells(Part):
    def record(self, images):
        self.course.saw.append(images.copy())
        shape = (len(images), UNITS, *([self.course.bins] if self.course.bins else []))
        rng = self.course.rng
        values = rng.standard_normal(shape) * 10.0 ** rng.integers(-3, 3)
        values[rng.random(shape) < 0.1] = np.nan
        return self.course.hand("subject", values, whole=True, booleans=True)


class Drawing(Part):
    fingerprint = "0" * 64  # else its images tell it, for which it is called besides

    def __call__(self, codes):
        values = self.course.rng.random((len(codes), 3, SIDE, SIDE))
        return self.course.hand("generator", values, lost=False)


class Proposing(Part):
    def ask(self):
        return self.course.hand("optimizer", self.course.rng.standard_normal((POPULATION, DIM)), whole=True, lost=False)

    def tell(self, codes, scores, gradients=None):
        self.course.told.append((codes, scores))

    def state(self):
        return {}

    def restore(self, state):
        pass


class Scoring(Part):
    def __call__(self, responses):
        return self.course.hand("objective", self.course.rng.standard_normal(len(responses)), whole=True)


def run(course, save):
    parts = Drawing("drawing", course), Proposing("proposing", course), Scoring("scoring", course)
    options = {"images": POPULATION * GENERATIONS, "retest_candidates": 0, "lost_blocks": 99, "retries": 0}
    return Session(Cells("cells", course), [Thread(*parts, "x")], save=save, progress=False, **options).run()


def assert_as_handed(found, course):
    """What is recorded, shown and told is, number for number, what was handed over; in all finished blocks."""
    blocks, n = found.attrs["n_generations"], found.sizes["presentation"]
    ids = found["stimulus_id"].values.astype(str)
    place = [POPULATION * int(i[3:7]) + int(i[8:]) for i in ids]  # x-g0000-000
    np.testing.assert_array_equal(found["responses"], np.concatenate(course.expected["subject"])[:n])
    codes, scores = np.concatenate(course.expected["optimizer"]), np.concatenate(course.expected["objective"])
    np.testing.assert_array_equal(found["latent_code"], codes[place])
    np.testing.assert_array_equal(found["score"], scores[place])
    images = quantize(np.concatenate(course.expected["generator"]).astype(np.float32))
    np.testing.assert_array_equal(np.concatenate(course.saw)[:n], images[place])
    for i, (told, valued) in enumerate(course.told[:blocks]):
        np.testing.assert_array_equal(told, codes[POPULATION * i : POPULATION * (i + 1)])
        np.testing.assert_array_equal(valued, scores[POPULATION * i : POPULATION * (i + 1)])


def one_course(seed, save):
    """Does one experiment; returns how many arrays were handed over."""
    course = Course(seed)
    try:
        try:
            found = run(course, save)
        except ClosedLoopError as error:
            text = str(error)  # which error it is decides the answer
            changed = not course.steady and "they came as" in text
            assert changed or (course.part and course.part in text), text
            if save is None or (course.call == 0 and not changed):
                assert save is None or not save.exists() or course.part == "subject"
                return course.said.count(";")
            found = open_recording(save)
        else:
            assert not course.part, "it was taken"
        assert_as_handed(found.load(), course)
    except Exception as error:
        raise AssertionError(f"case {seed}{course.said}") from error
    return course.said.count(";")


def test_arrays_are_recorded_as_they_were_handed_over_or_refused(tmp_path, counted, tally):
    for seed in range(counted(quick=10, reduced=150, full=3_250)):
        tally("arrays", one_course(seed, tmp_path / str(seed) / "run" if seed % 10 == 0 else None))
