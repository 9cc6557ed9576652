"""A run that died at its birth is begun again by the same call; bad input leaves nothing at all."""

from __future__ import annotations

import os
import shutil

import pytest

from closedloop import open_recording
from closedloop.errors import ClosedLoopError, RecordingError
from closedloop.protocols import resume
from closedloop.recording import verify
from tests.small_runs import RUNS, finished, run


class Died(BaseException):
    """The process ends here."""


#: Those that take long at their birth.
_LONG = {"atlas", "controversial", "cross_units", "pareto", "stretch_and_squeeze"}
KINDS = [pytest.param(name, marks=pytest.mark.long) if name in _LONG else name for name in RUNS]


@pytest.fixture(scope="module", params=KINDS)
def whole(request, tmp_path_factory):
    folder = finished(request.param, tmp_path_factory.getbasetemp())
    return request.param, open_recording(folder).load().drop_attrs()


def born_dead(name, folder, changes):
    """Begins a run whose process ends at a renaming of a file; returns whether it did before its first commit."""
    rename, left = os.replace, [changes]

    def replace(source, target):
        left[0] -= 1
        if left[0] < 0:
            raise Died
        rename(source, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", replace)
        patch.setattr("closedloop.recording.writer.Recording.discard", lambda recording: recording.close())
        try:
            run(name, folder)
        except Died:
            return not (folder / "COMMITTED.json").exists()
    return False


def go_on_or_begin(name, folder):
    """Resumes a run, or does what the error says."""
    try:
        resume(folder, subject=RUNS[name][0]())
    except RecordingError as error:
        if not any(words in str(error) for words in ("not a run of closedloop", "begin it again, in the same folder")):
            raise
        run(name, folder)


@pytest.mark.sampled(6)
@pytest.mark.parametrize("way", ["begin", "exists", "resume"])
def test_a_run_that_died_at_its_birth(whole, way, tmp_path, counted, tally):
    name, expected = whole
    changes, folder = 0, tmp_path / "run"
    while born_dead(name, folder, changes):
        if way == "resume":
            go_on_or_begin(name, folder)
        else:
            run(name, folder, "resume" if way == "exists" else "fail")
        assert open_recording(folder).load().drop_attrs().identical(expected)
        assert verify(folder) == expected.sizes["presentation"]
        shutil.rmtree(folder)
        tally("deaths at a run's birth")
        changes += counted(quick=17, reduced=3, full=1)
    assert changes


def test_a_foreign_file_keeps_a_dead_birth(tmp_path):
    assert born_dead("evolve", tmp_path / "run", 3)
    (tmp_path / "run" / "thesis.txt").write_text("mine")
    with pytest.raises(RecordingError, match=r"which holds something; .* closedloop resume"):
        run("evolve", tmp_path / "run")
    assert (tmp_path / "run" / "thesis.txt").read_text() == "mine"


@pytest.mark.sampled(8)
@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("where", ["a/b/run", "run"])
def test_bad_input_that_is_met_in_the_first_block_leaves_nothing(name, where, tmp_path, monkeypatch, tally):
    def refuse(course, *shown, **options):
        raise ClosedLoopError("input: expected another.")

    tally("bad input that leaves nothing")
    subject, call, _ = RUNS[name]
    monkeypatch.setattr("closedloop.loop.presenter.Presenter.show", refuse)
    with pytest.raises(ClosedLoopError, match="expected another"):
        call(subject(), tmp_path / where, "fail")
    assert list(tmp_path.iterdir()) == []
