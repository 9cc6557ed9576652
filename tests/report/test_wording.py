"""Numbers and sentences with known answers."""

import math
from dataclasses import replace

import numpy as np
from scipy import stats

from closedloop import open_recording, summarize
from closedloop.analysis import evolved_vs_reference, naturalness, success
from closedloop.analysis.summary import Estimate, ThreadSummary
from closedloop.readable import NO_NUMBER, number
from closedloop.report.wording import interval, natural_rows, presentations, table_rows, verdict

NOTHING = Estimate("", math.nan, math.nan, 0)
SUMMARY = ThreadSummary(
    thread="main", objective="unit(0)", target="unit 7", evolved=Estimate("a", 20.0, 1.0, 16),
    natural=Estimate("b", 10.0, 0.5, 16), ratio=2.0, ratio_sem=0.1414, noisy_maximum=30.0, curse=9.0, images=1000,
    generations=50, lost=0,
)  # fmt: skip


def test_the_interval_is_students():
    scores = np.array([3.0, 5.0, 4.0, 8.0])
    low, high = stats.t.interval(0.95, 3, scores.mean(), stats.sem(scores))
    assert interval(Estimate.of("a", scores)) == f"{low:.4g} to {high:.4g}"
    assert interval(Estimate("a", 3.0, math.nan, 1)) == NO_NUMBER


def test_presentations():
    assert presentations(Estimate("a", 1.0, 0.0, 10)) == "10 fresh presentations, all alike"
    assert presentations(Estimate("a", 1.0, math.nan, 1)) == "1 fresh presentation"
    assert presentations(NOTHING) == "no fresh presentation"


def test_verdicts():
    assert verdict(SUMMARY, 160) == (
        "The evolved image drives unit 7 to 20.0 ± 1.0 (16 fresh presentations): 2.00 ± 0.14 times the best of 160 "
        "reference images (10.00 ± 0.50, 16 fresh presentations)."
    )
    below = replace(SUMMARY, ratio=math.nan, ratio_sem=math.nan, natural=Estimate("b", 23.0, 0.0, 16))
    assert ": 3.0 ± 1.0 below the best of 160" in verdict(below, 160)
    assert verdict(replace(SUMMARY, natural=NOTHING), 0).endswith("; no reference image was re-tested beside it.")
    assert verdict(replace(SUMMARY, evolved=NOTHING), 5).startswith("No image has been re-tested for unit 7 yet")


def test_the_table_says_what_the_analysis_says(run):
    recording = open_recording(run)
    rows = dict(table_rows(recording, summarize(recording)))
    found, rise = evolved_vs_reference(recording, "red"), success(recording, alternative="end").sel(thread="red")
    low, high = float(found["ratio_low"]), float(found["ratio_high"])
    assert rows["95 % interval of the ratio"][0] == f"{low:.3g} to {high:.3g}"
    assert rows["AUC, evolved against references"][0].startswith(f"{float(found['auc']):.3g}")
    assert rows["effect size"][0].startswith(f"{float(found['effect_size']):.3g} (")
    assert rows["last against first generations"][0].startswith(
        f"{float(rise['first']):.4g} → {float(rise['last']):.4g}"
    )


def test_a_thread_that_has_not_begun_has_dashes(run):
    recording = open_recording(run)
    survey = recording.isel(presentation=np.flatnonzero(recording.generation.values < 0))
    rows = dict(table_rows(survey, summarize(survey)))
    assert rows["effect size"] == rows["last against first generations"] == [NO_NUMBER, NO_NUMBER]


def test_how_natural_it_looks_says_what_the_analysis_says(run):
    ds = open_recording(run)
    summary = summarize(ds)[0]
    found, rows = naturalness(ds, "red"), dict(natural_rows(ds, summary))
    assert list(rows) == [
        "black or white values", "total variation ÷ s.d.", "spectral slope", "fine detail",
        "distance to the nearest reference", "length of the code ÷ the prior’s",
    ]  # fmt: skip
    tv = found.sel(measure="tv")
    evolved, best, low, high = (number(float(tv[key]), 3) for key in ("evolved", "best_reference", "low", "high"))
    assert rows["total variation ÷ s.d."] == [evolved, best, f"{low} to {high}", NO_NUMBER]  # twelve references are few
    assert rows["length of the code ÷ the prior’s"][1:] == [NO_NUMBER] * 3


def test_where_it_lies(run, monkeypatch):
    monkeypatch.setattr("closedloop.analysis.natural.LEAST_REFERENCES", 12)
    ds = open_recording(run)
    rows = dict(natural_rows(ds, summarize(ds)[0]))  # smooth Fourier images among references of white noise
    assert rows["total variation ÷ s.d."][-1] == rows["spectral slope"][-1] == "outside"
    assert rows["black or white values"][-1] == "inside"


def test_runs_without_these_numbers_have_no_such_table(run):
    ds = open_recording(run)
    names = [m for m in naturalness(ds)["measure"].values if m in ds.coords]
    assert natural_rows(ds.drop_vars(names), summarize(ds)[0]) == []
