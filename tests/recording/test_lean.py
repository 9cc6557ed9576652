"""Lean recordings: the response of each image's own unit, and of all units to references."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import xarray as xr

from closedloop import analysis, summarize
from closedloop.analysis import concat
from closedloop.analysis.quality import cautions
from closedloop.analysis.summary import ThreadSummary
from closedloop.errors import RecordingError
from closedloop.formats.export import export
from closedloop.generators import Fourier
from closedloop.interfaces import Units
from closedloop.protocols import evolve, resume
from closedloop.recording.layout import NEWEST, SCHEMA, Layout, Rows
from closedloop.recording.lean import ALL, OWN, all_units, complete, is_lean, lost, of_thread, responses_at
from closedloop.recording.reader import open_recording, read_pointer
from closedloop.recording.writer import Recording
from closedloop.subjects import FunctionSubject

SIDE, UNITS = 16, 5
SMALL = {"images": 36, "retest_candidates": 2, "retest_repeats": 2, "seed": 3, "progress": False}


def cells(lose=()):
    """Linear cells that lose the presentations of some numbers."""
    weights = np.random.default_rng(3).standard_normal((3 * SIDE**2, UNITS)) / SIDE
    shown = [0]

    def record(x):
        answers = np.array([i.ravel() @ weights for i in x]).reshape(-1, UNITS)
        numbers = shown[0] + np.arange(len(x))
        shown[0] += len(x)
        answers[np.isin(numbers, list(lose))] = np.nan
        return answers

    return FunctionSubject(record, UNITS, name="linear")


def pictures(n=6):
    return np.random.default_rng(0).integers(0, 256, (n, 3, SIDE, SIDE)).astype(np.float32) / np.float32(255)


def run(save=None, lose=(), **options):
    settings = {**SMALL, "references": pictures(), **options}
    return evolve(cells(lose), Fourier(SIDE, 2), "isotropic", units="all", save=save, **settings)


def told(recording):
    """What is said of each thread, as text: NaN is like NaN."""
    names = [f.name for f in fields(ThreadSummary) if f.name != "recording"]
    return [[str(getattr(summary, name)) for name in names] for summary in summarize(recording)]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """The same session, lean and with all units."""
    folder = tmp_path_factory.mktemp("lean")
    return run(folder / "lean"), run(folder / "whole", responses="all")


@pytest.fixture(scope="module")
def lossy(tmp_path_factory):
    """The same with lost presentations, of references and of evolved images."""
    folder, lose = tmp_path_factory.mktemp("lossy"), (*range(0, 400, 7), 1, 2)
    return run(folder / "lean", lose), run(folder / "whole", lose, responses="all")


def test_it_holds_what_the_whole_recording_holds_and_no_more(pair, lossy):
    for lean, whole in (pair, lossy):
        assert is_lean(lean)
        assert not is_lean(whole)
        own = lean["own_neuroid"].values
        everyone = whole["responses"].values
        common = own == ""
        assert set(np.unique(lean["thread"].values[common])) == {"reference"}
        np.testing.assert_array_equal(lean[ALL].values, everyone[common])
        columns = [lean["neuroid_id"].values.tolist().index(name) for name in own[~common]]
        np.testing.assert_array_equal(lean[OWN].values[~common], everyone[~common, columns])
        for name in ("score", "latent_code", "stimulus_id", "thread", "kind", "generation", "repeat"):
            np.testing.assert_array_equal(lean[name].values, whole[name].values)
        np.testing.assert_array_equal(lost(lean), lost(whole))
    assert lost(lossy[0]).any()


def test_summaries_are_those_of_the_whole_recording(pair, lossy):
    for lean, whole in (pair, lossy):
        assert told(lean) == told(whole)


def test_its_schema_is_newer_and_that_of_others_stays(pair):
    lean, whole = pair
    assert read_pointer(lean.encoding["source"])["schema"] == lean.attrs["closedloop_schema"] == NEWEST
    assert read_pointer(whole.encoding["source"])["schema"] == whole.attrs["closedloop_schema"] == SCHEMA


def test_what_was_not_recorded_is_an_error_and_never_nan(pair):
    lean, _ = pair
    evolved = np.flatnonzero(lean["kind"].values == "evolved")
    with pytest.raises(RecordingError, match=r"the response of linear\.\d to .* was not recorded.*responses='all'"):
        responses_at(lean, evolved, [0])
    own = evolved[lean["own_neuroid"].values[evolved] == lean["neuroid_id"].values[2]]
    assert responses_at(lean, own, [2]).shape == (len(own), 1)


def test_it_gives_ordinary_recordings(pair):
    lean, whole = pair
    natural = whole.isel(presentation=np.flatnonzero(whole["thread"].values == "reference"))
    found = all_units(lean)
    np.testing.assert_array_equal(found["responses"].values, natural["responses"].values)
    assert set(found.variables) == set(natural.variables)
    assert all_units(whole) is whole
    name = lean["evolution"].values[3]
    single = of_thread(lean, str(name), 3)
    rows = np.isin(whole["thread"].values, [name, "reference"])
    np.testing.assert_array_equal(single["responses"].values[:, 0], whole["responses"].values[rows, 3])


def test_memory_and_disk_give_the_same():
    disk_and_memory = run(), run(responses="all")
    assert is_lean(disk_and_memory[0])
    assert told(disk_and_memory[0]) == told(disk_and_memory[1])


def test_it_goes_on_after_a_crash(pair, tmp_path):
    """At each block, also before the first reference of a generation's turn."""
    lean, _ = pair
    for blocks in (1, 2, 4):
        folder = tmp_path / str(blocks)
        with pytest.raises(KeyboardInterrupt, match="enough"):
            run(folder, observers=[StopAfter(blocks)])
        found = resume(folder, subject=cells())
        xr.testing.assert_equal(found.load(), lean.load())


class StopAfter:
    """Interrupts a session after some blocks."""

    def __init__(self, blocks):
        self.left = blocks

    def begin(self, session):
        """Nothing to do."""

    def generation(self, generation):
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt("enough")

    def end(self, session):
        """Nothing to do."""


def test_without_references_there_is_no_response_of_all(tmp_path):
    lean = run(tmp_path / "run", references=None)
    assert lean.sizes["common"] == 0
    assert np.isfinite(summarize(lean)[0].evolved.mean)
    assert not all_units(lean).sizes["presentation"]


def test_blocks_without_references_between_those_with_some(tmp_path):
    """Rows of all units stay as they are while none is added."""
    lean, whole = (run(tmp_path / r, interleave=0, responses=r) for r in ("own", "all"))
    assert told(lean) == told(whole)
    open_recording(tmp_path / "own").load()


def test_chunks_that_are_filled_and_left(tmp_path):
    """Rows of all units end at, before and behind the end of a chunk, and blocks without any follow."""
    n = 2000
    units = Units(tuple(f"u{i}" for i in range(2000)), {})  # 8 MiB hold 524 rows of them
    layout = Layout(n, 1, units, {"subject": "s", "seed": 0}, {"own_neuroid": ("str", "")}, lean=True)
    rng = np.random.default_rng(0)
    recording, expected = Recording.create(tmp_path / "run", layout, {}), []
    for count in (30, 0, 34, 0, 64, 1, 0, 3):
        own = np.array([*[-1] * count, 5], dtype=np.int64)
        responses = rng.standard_normal((count + 1, len(units))).astype(np.float32)
        names = {"thread": "t", "kind": "evolved", "stimulus_id": "i"}
        coords = {name: np.full(count + 1, text, object) for name, text in names.items()}
        coords |= {"generation": np.zeros(count + 1, np.int32), "repeat": np.zeros(count + 1, np.int32)}
        coords |= {
            "onset_s": np.zeros(count + 1),
            "own_neuroid": np.array(["u5" if c >= 0 else "" for c in own], object),
        }
        nothing = np.full(count + 1, np.nan)
        recording.append(Rows(coords, responses, nothing[:, None], nothing, own=own), {})
        expected.append(responses[:count])
        recording.close()
        np.testing.assert_array_equal(open_recording(tmp_path / "run")[ALL].values, np.concatenate(expected))
        recording = Recording.reopen(tmp_path / "run")
    recording.close()


@pytest.mark.parametrize("to", ["netcdf", "nwb"])
def test_exports_are_read_back(pair, tmp_path, to):
    pytest.importorskip({"netcdf": "h5netcdf", "nwb": "pynwb"}[to])
    lean, _ = pair
    file = export(lean, to, tmp_path / f"run.{ {'netcdf': 'nc', 'nwb': 'nwb'}[to] }")
    found = open_recording(file).load()
    for name in (OWN, ALL, "own_neuroid", "common_row", "score", "latent_code"):
        np.testing.assert_array_equal(found[name].values, lean[name].values)
    assert told(found) == told(lean)


def test_a_table_has_one_column_of_responses(pair, tmp_path):
    import pandas as pd

    lean, _ = pair
    table = pd.read_csv(export(lean, "csv", tmp_path / "run.csv"), keep_default_na=False, na_values=[""])
    assert "linear.0" not in table.columns
    np.testing.assert_allclose(table[OWN].values, lean[OWN].values, rtol=1e-14)  # older pandas round the last digit


def test_what_needs_all_units_takes_references_and_says_so(pair):
    lean, whole = pair
    natural = whole.isel(presentation=np.flatnonzero(whole["thread"].values == "reference"))
    brainio = pytest.importorskip("closedloop.formats.brainio")
    with pytest.warns(UserWarning, match="evolved images are left out"):
        part = complete(lean, "the format brainio")
    np.testing.assert_array_equal(brainio.assembly(part, "a").values, natural["responses"].values)


def test_analyses_of_threads_and_of_units(pair):
    lean, whole = pair
    for name in ("success", "trajectory", "beyond_natural", "generations_to", "code_geometry"):
        function = getattr(analysis, name, None)
        if function is not None:
            xr.testing.assert_equal(function(lean).drop_vars("reason"), function(whole).drop_vars("reason"))
    for name in ("split_half", "noise_ceiling", "selectivity", "reference_drift"):
        function = getattr(analysis, name)
        xr.testing.assert_equal(function(lean), function(whole))
    with pytest.raises(RecordingError, match="lean recording"):
        analysis.split_half(lean, kind="evolved")


def test_cross_driving_is_known_on_the_diagonal(pair):
    lean, whole = (analysis.cross_driving(recording) for recording in pair)
    np.testing.assert_array_equal(np.diag(lean["response"].values), np.diag(whole["response"].values))
    assert np.isnan(lean["response"].values[~np.eye(UNITS, dtype=bool)]).all()


def test_lean_runs_join_with_each_other_and_with_whole_ones(pair, lossy):
    (lean, whole), (other, _) = pair, lossy
    for first, second in ((lean, other), (lean, whole), (whole, lean)):
        joined = concat({"a": first, "b": second})
        assert is_lean(joined)
        parts = dict(analysis.runs(joined))
        for name, part in (("a", first), ("b", second)):
            assert [s.evolved for s in summarize(parts[name])] == [s.evolved for s in summarize(part)]
        np.testing.assert_array_equal(lost(joined), np.concatenate([lost(first), lost(second)]))


def test_without_references_all_is_told_that_can_be():
    found = run(references=None)
    assert np.isnan(analysis.reference_drift(found)["slope"]).all()
    assert {c.kind for c in cautions(found)} >= {"no-reference"}
