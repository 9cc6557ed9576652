"""Going on with a run: from its file alone, or with what has no name."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import yaml

from closedloop import CMAES, IsotropicES, Session, Thread, Unit, load_optimizer, open_recording
from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.generators import Fourier
from closedloop.protocols import evolve, present, resume
from closedloop.subjects import FunctionSubject, GaborSubject

SMALL = {"images": 24, "retest_candidates": 1, "retest_repeats": 2, "interleave": 1, "seed": 4}
GENERATOR = Fourier(resolution=16, cutoff=2)


class Stop:
    """An observer that interrupts after some blocks."""

    def __init__(self, after):
        self.after = after

    def begin(self, session):
        if self.after == 0:
            raise KeyboardInterrupt("stop")

    def generation(self, generation):
        self.after -= 1
        if self.after == 0:
            raise KeyboardInterrupt("stop")

    def end(self, session):
        pass


def subject():
    return GaborSubject(resolution=16, count=2, seed=1)


def pictures():
    return np.random.default_rng(0).random((3, 3, 16, 16), dtype=np.float32)


def interrupted(folder, after=3, who=None, optimizer=None, **options):
    optimizer = optimizer or IsotropicES(GENERATOR.space, seed=2, population=6)
    with pytest.raises(KeyboardInterrupt, match="stop"):
        evolve(
            who or subject(), GENERATOR, optimizer, objective=Unit(1), save=folder, observers=[Stop(after)],
            **{**SMALL, "references": pictures(), **options},
        )  # fmt: skip
    return folder


def whole(optimizer=None, **options):
    optimizer = optimizer or IsotropicES(GENERATOR.space, seed=2, population=6)
    return evolve(subject(), GENERATOR, optimizer, objective=Unit(1), **{**SMALL, "references": pictures(), **options})


def assert_equal(found, expected):
    assert set(found.variables) == set(expected.variables)
    for name in expected.variables:
        assert found[name].dtype == expected[name].dtype
        np.testing.assert_array_equal(found[name].values, expected[name].values, err_msg=name)


@pytest.mark.parametrize("after", range(7))
def test_from_the_file_alone_after_any_block(tmp_path, after):
    found = resume(interrupted(tmp_path / "run", after))
    assert_equal(found, whole())
    assert_equal(open_recording(tmp_path / "run"), found)


@pytest.mark.parametrize("name", ["auto", "cma", "cma-diagonal", "cholesky-cma", "sphere-cma", "xdream-ga", "random"])
def test_each_optimizer(tmp_path, name):
    def optimizer():
        return load_optimizer(name, GENERATOR.space, seed=2, population=6)

    assert_equal(resume(interrupted(tmp_path / "run", optimizer=optimizer())), whole(optimizer()))


@pytest.mark.parametrize("references", [None, "bundled"])
def test_other_references(tmp_path, references):
    found = resume(interrupted(tmp_path / "run", references=references))
    assert_equal(found, whole(references=references))


def test_the_folder_may_move(tmp_path):
    interrupted(tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "moved")
    assert_equal(resume(tmp_path / "moved"), whole())


def test_references_that_were_never_stored(tmp_path):
    folder = interrupted(tmp_path / "run", 0)
    shutil.rmtree(folder / "references")
    with pytest.raises(RecordingError, match="it ended before its reference images were stored; begin it again"):
        resume(folder)


def test_python_objects_are_handed_over_again(tmp_path):
    gabor = subject()
    folder = interrupted(tmp_path / "run", who=FunctionSubject(gabor.record, units=2, name="mine"))
    with pytest.raises(InvalidArgumentError, match=r"Python object \(FunctionSubject mine\).*resume\(RUN, subject=…\)"):
        resume(folder)
    found = resume(folder, subject=FunctionSubject(gabor.record, units=2, name="mine"))
    np.testing.assert_array_equal(found["responses"], whole()["responses"])


def thread(name="main", population=6, make=IsotropicES):
    return Thread(GENERATOR, make(GENERATOR.space, seed=2, population=population), Unit(1), name)


def test_threads_and_rules_are_handed_over_again(tmp_path):
    class Own:
        name, resolution, space = "own", 16, GENERATOR.space

        def __call__(self, codes):
            return GENERATOR(codes)

    def patience(history):
        return "enough" if len(history) == 3 else None

    def threads():
        return [Thread(Own(), thread().optimizer, Unit(1), n) for n in ("a", "b")]

    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt, match="stop"):
        Session(subject(), threads(), stop=[patience], save=folder, observers=[Stop(2)], **SMALL).run()
    with pytest.raises(InvalidArgumentError, match=r"Python object \(Own own\).*resume\(RUN, threads=…\)"):
        resume(folder)
    with pytest.raises(InvalidArgumentError, match=r"Python object \(.*patience.*resume\(RUN, stop=…\)"):
        resume(folder, threads=threads())
    found = resume(folder, threads=threads(), stop=[patience])
    assert_equal(found, Session(subject(), threads(), stop=[patience], **SMALL).run())
    assert (found["kind"].values == "evolved").sum() == 36


@pytest.mark.parametrize(
    ("threads", "message"),
    [
        ([thread("other")], r"threads: expected those of the run, \['main'\], got \['other'\]"),
        ([thread(), thread("b")], r"threads: expected those of the run"),
        ([thread(make=CMAES)], r"subject, threads: the saved state does not fit them .*build them as for the run"),
    ],
)
def test_other_threads_than_those_of_the_run(tmp_path, threads, message):
    folder = interrupted(tmp_path / "run")
    with pytest.raises(InvalidArgumentError, match=message) as caught:
        resume(folder, threads=threads)
    assert_equal(resume(folder), whole())  # nothing is lost, and the lock is free
    assert caught.value


def test_another_subject_than_that_of_the_run(tmp_path):
    folder = interrupted(tmp_path / "run")
    with pytest.raises(InvalidArgumentError, match="subject: expected the units of the run"):
        resume(folder, subject=GaborSubject(resolution=16, count=3, seed=1))
    assert_equal(resume(folder), whole())


def test_a_damaged_state(tmp_path):
    folder = interrupted(tmp_path / "run")
    state = max((folder / "state").iterdir())
    data = state.read_bytes()
    state.write_bytes(data[:100])
    with pytest.raises(RecordingError, match=r"cannot go on, for state/.* cannot be read") as caught:
        resume(folder)
    assert open_recording(folder).attrs["n_generations"] == 3
    state.write_bytes(data)
    assert_equal(resume(folder), whole())
    assert caught.value


def test_not_a_run(tmp_path):
    with pytest.raises(RecordingError, match=r"not a run of closedloop \(no experiment.yaml in it\)"):
        resume(tmp_path)
    (tmp_path / "experiment.yaml").write_text("subject: gabor\nimagse: 5\n")
    with pytest.raises(InvalidArgumentError, match=r"not a valid experiment.*imagse"):
        resume(tmp_path)
    (tmp_path / "experiment.yaml").write_text("protocol: present\nsubject: gabor\n")
    with pytest.raises(RecordingError, match=r"experiment.yaml lacks images, repeats"):
        resume(tmp_path)


def test_a_presentation_from_its_file_alone(tmp_path):
    folder = tmp_path / "run"

    def stop(done, total):
        raise KeyboardInterrupt("stop")

    images = np.random.default_rng(0).random((70, 3, 16, 16), dtype=np.float32)
    with pytest.raises(KeyboardInterrupt, match="stop"):
        present(subject(), images, save=folder, progress=stop)
    assert yaml.safe_load((folder / "experiment.yaml").read_text())["images"] == "references"
    assert_equal(resume(folder), present(subject(), images))
    assert_equal(resume(folder), present(subject(), images))
