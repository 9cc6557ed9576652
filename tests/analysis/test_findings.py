"""What threads found, as plain values: the numbers of `summarize`, no more and no less."""

from __future__ import annotations

from closedloop import IsotropicES, parse_objective, summarize
from closedloop.analysis.findings import all_findings, thread_findings
from closedloop.generators import Fourier
from closedloop.protocols import evolve
from tests import small_runs


def test_they_are_those_of_summarize():
    recording = small_runs.run("evolve")
    found, summaries = thread_findings(recording), summarize(recording)
    assert [f["thread"] for f in found] == ["cells", "pixels"]
    for row, summary in zip(found, summaries, strict=True):
        assert row["evolved"] == summary.evolved.mean
        assert (row["natural_sem"], row["natural_n"]) == (summary.natural.sem, summary.natural.n)
        assert (row["images"], row["generations"], row["lost"]) == (18, summary.generations, 0)
    assert found[0]["unit"] == str(recording["neuroid_id"].values[0])
    assert (found[0]["generator"], found[0]["optimizer"]) == ("fourier", "isotropic")
    assert found[1]["unit"] == found[1]["layer"] == ""  # a difference of two units


def test_recorded_images_have_no_threads():
    assert thread_findings(small_runs.run("present")) == all_findings(small_runs.run("present")) == []


def test_objectives_that_look_at_images_are_left_for_later():
    subject = small_runs.cells()
    generator = Fourier(small_runs.SIDE, 2)
    recording = evolve(
        subject,
        generator,
        IsotropicES(generator.space, seed=1, population=6),
        objective=parse_objective("unit(0) - 0.1 * tv()", subject.units),
        references=None,
        images=12,
        retest_repeats=1,
        progress=False,
    )
    assert thread_findings(recording) is None
    assert len(all_findings(recording)) == 1
