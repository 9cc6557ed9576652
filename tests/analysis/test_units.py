"""Reading unit by unit: grouping against pandas, pieces against the whole, rounding against noise."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from closedloop import Units, analysis, open_recording
from closedloop.analysis import concat, selectivity, sparseness, split_half, tuning_curve
from closedloop.analysis import units as module
from closedloop.analysis.units import Moments, correlations, select
from closedloop.errors import ClosedLoopError, InvalidArgumentError, RecordingError
from closedloop.protocols import present

from .conftest import repeated


def test_moments_are_those_of_pandas(build, rng):
    values = 1e6 + rng.standard_normal((60, 3))  # a large offset costs no precision
    values[rng.random((60, 3)) < 0.2] = np.nan
    values[:3, 0] = np.nan
    ids = rng.integers(0, 12, 60).astype(str)
    ids[:3] = "lost"
    chosen = select(build(values, stimulus_id=ids), None)
    found = Moments.of(values[chosen.rows], chosen)
    table = pd.DataFrame(values).groupby(ids)
    np.testing.assert_allclose(found.mean, table.mean())
    np.testing.assert_allclose(found.variance, table.var(), rtol=1e-6)
    np.testing.assert_array_equal(found.n, table.count())
    assert chosen.names.tolist() == sorted(set(ids))


def test_identical_repeats_have_exactly_no_variance(repeated):
    recording = repeated(np.repeat([[0.1], [0.7], [1 / 3]], 7, axis=1))
    chosen = select(recording, None)
    found = Moments.of(recording["responses"].values, chosen)
    assert (found.squares == 0).all()
    assert found.noiseless.all()


@pytest.mark.parametrize(("noise", "noiseless"), [(0, True), (1e-7, True), (1e-3, False)])
def test_rounding_is_not_noise(repeated, rng, noise, noiseless):
    table = rng.random((20, 1, 1)) + noise * rng.standard_normal((20, 5, 1))
    found = selectivity(repeated(table))
    assert np.isnan(found["f"].item()) == noiseless
    assert ("noiseless" in found["reason"].item()) == noiseless


def test_a_silent_unit_is_constant_and_noiseless(repeated):
    recording = repeated(np.zeros((5, 3)))
    found = Moments.of(recording["responses"].values, select(recording, None))
    assert found.constant.all()
    assert found.noiseless.all()


@pytest.mark.parametrize("function", [selectivity, split_half, tuning_curve, sparseness])
def test_pieces_give_what_the_whole_gives(repeated, rng, monkeypatch, function):
    recording = repeated(rng.random((10, 4, 7)))
    whole = function(recording)
    monkeypatch.setitem(module.pieces.__kwdefaults__, "values_at_once", 90)  # two units at a time
    xr.testing.assert_allclose(function(recording), whole)


def test_nothing_is_loaded_that_is_not_needed(tmp_path, monkeypatch):
    class Many:
        name, units = "many", Units.numbered("many", 100)

        def record(self, images):
            return np.random.default_rng(int(images.sum() * 100)).random((len(images), 100), dtype=np.float32)

    images = np.random.default_rng(0).random((30, 3, 2, 2), dtype=np.float32)
    present(Many(), images, repeats=2, save=tmp_path / "run")
    recording = open_recording(tmp_path / "run")
    loaded = []
    genuine = xr.DataArray.values.fget
    monkeypatch.setitem(module.pieces.__kwdefaults__, "values_at_once", 500)
    monkeypatch.setattr(
        xr.DataArray, "values", property(lambda array: loaded.append((array.name, array.size)) or genuine(array))
    )
    selectivity(recording)
    assert max(size for name, size in loaded if name == "responses") <= 60 * 8
    assert sum(size for name, size in loaded if name == "responses") == recording["responses"].size
    assert "latent_code" not in dict(loaded)
    assert not recording["responses"].variable._in_memory


def test_time_is_averaged(build, rng):
    values = rng.random((6, 2, 5))
    ids = np.array(list("aabbcc"))
    with_time, without = (tuning_curve(build(v, stimulus_id=ids))["mean"] for v in (values, values.mean(-1)))
    np.testing.assert_allclose(with_time, without)


def test_only_the_kinds_that_are_asked_for(build):
    kind = np.array(["reference", "reference", "retest", "evolved"])
    recording = build([1.0, 3.0, 10.0, 20.0], kind=kind, stimulus_id=np.array(list("aaab")))
    assert tuning_curve(recording)["mean"].values.ravel().tolist() == [2]
    assert tuning_curve(recording, kind=("reference", "retest"))["mean"].item() == pytest.approx(14 / 3)
    assert tuning_curve(recording, kind="evolved")["stimulus_id"].values.tolist() == ["b"]
    with pytest.raises(RecordingError, match=r"no presentation of kind 'landscape'; the recording has \['evolved', "):
        tuning_curve(recording, kind="landscape")


def test_other_coordinates_and_wrong_ones(build):
    recording = build(np.arange(4.0), angle_deg=np.array([0.0, 90.0, 0.0, np.nan]), stimulus_id="x")
    found = tuning_curve(recording, by="angle_deg")
    assert found["angle_deg"].values.tolist() == [0, 90]
    assert found["mean"].values.ravel().tolist() == [1, 1]
    with pytest.raises(
        InvalidArgumentError, match=r"by: expected a coordinate of presentations, got 'angle'\. Did you"
    ):
        tuning_curve(recording, by="angle")
    with pytest.raises(RecordingError, match="expected what closedloop"):
        tuning_curve(xr.Dataset())


def test_images_of_one_name_in_several_runs(evolution):
    runs = [evolution([[1.0 + i, 2.0 + i]] * 2, references=[[5.0 + i]] * 2, seed=i) for i in range(2)]
    joined = concat(runs)
    natural = tuning_curve(joined)
    assert natural["n"].values.ravel().tolist() == [4]  # references are the same images
    evolved = tuning_curve(joined, kind="evolved")
    assert evolved.sizes["stimulus_id"] == 8  # evolved images are not, whatever their names
    assert evolved["mean"].sel(stimulus_id="1/main-g0000-000").item() == 2


def test_correlations_by_column(rng):
    a, b = rng.random((9, 3)), rng.random((9, 3))
    a[0, 0], b[1, 0], a[:, 2] = np.nan, np.nan, 5.0
    found = correlations(a, b)
    assert found[0] == pytest.approx(np.corrcoef(a[2:, 0], b[2:, 0])[0, 1])
    assert found[1] == pytest.approx(np.corrcoef(a[:, 1], b[:, 1])[0, 1])
    assert np.isnan(found[2])


FUNCTIONS = [
    analysis.code_geometry, analysis.class_elites, analysis.evolved_vs_reference, analysis.fano_factor,
    analysis.fit_kent, analysis.generation_scores, analysis.images_to, analysis.landscape_responses,
    analysis.latent_regression, analysis.naturalness, analysis.noise_ceiling, analysis.noise_correlation, analysis.psth,
    analysis.reference_drift, analysis.selectivity, analysis.signal_correlation, analysis.sparseness,
    analysis.split_half, analysis.success, analysis.trajectory, analysis.tuning_curve, analysis.winners_curse,
]  # fmt: skip


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("wrong", [None, 3, "run", {}, [1], np.zeros(3), xr.DataArray([1.0])], ids=repr)
def test_what_is_no_recording_is_refused(function, wrong):
    with pytest.raises(ClosedLoopError, match="recording"):
        function(wrong)


@pytest.mark.parametrize("factor", [2.0**-500, 2.0**500], ids=["tiny", "huge"])
def test_the_unit_of_the_responses_has_no_part_in_shares_and_correlations(factor, rng):
    table = 5 + rng.standard_normal((40, 1, 3)) + rng.standard_normal((40, 4, 3))
    one, other = repeated(table), repeated(factor * table)
    for function in (analysis.split_half, analysis.sparseness, analysis.signal_correlation, analysis.noise_correlation):
        xr.testing.assert_allclose(function(one), function(other))


@pytest.mark.parametrize("name", ["noise_ceiling", "split_half", "tuning_curve", "sparseness"])
def test_infinite_responses_are_refused_by_presentation(name, rng):
    function = getattr(analysis, name)
    recording = repeated(rng.standard_normal((5, 4, 3)))
    recording["responses"].values[7, 1] = np.inf
    with pytest.raises(RecordingError, match="got infinity in presentation 7; set it to NaN"):
        function(recording)


@pytest.mark.parametrize("name", ["noise_ceiling", "selectivity", "tuning_curve", "sparseness"])
def test_the_order_of_presentations_and_lost_units_do_not_matter(name, rng):
    function = getattr(analysis, name)
    recording = repeated(rng.standard_normal((12, 4, 3)))
    shuffled = recording.isel(presentation=rng.permutation(48))
    xr.testing.assert_allclose(function(shuffled), function(recording))
    recording["responses"].values[:, 1] = np.nan
    lost = function(recording)
    assert np.isnan(next(iter(lost.data_vars.values())).isel(neuroid=1)).all()
    assert lost["reason"].values[1]


MEASURES = {
    "fano_factor": ("fano", "slope"),
    "split_half": (),
    "noise_ceiling": (),
    "noise_correlation": (),
    "selectivity": (),
    "sparseness": (),
    "signal_correlation": (),
    "tuning_curve": ("mean", "sem"),
    "reference_drift": ("slope", "slope_sem"),
    "trajectory": ("mean", "sem", "maximum", "smoothed", "baseline", "baseline_sem"),
    "images_to": (),
    "latent_regression": ("weights",),
    "evolved_vs_reference": ("evolved", "reference"),
    "winners_curse": ("maximum", "retested", "gap", "mean_gap"),
}


@pytest.mark.parametrize("power", [-1000, -560, 300, 900])
@pytest.mark.parametrize("name", MEASURES)
def test_the_unit_of_responses_does_not_matter(repeated, evolution, name, power):
    def recording(unit):
        rng = np.random.default_rng(3)
        if name in ("noise_correlation", "signal_correlation", "sparseness"):
            return repeated(unit * rng.gamma(3, 2, (12, 6, 3)))
        scores, references, codes = rng.gamma(3, 2, (8, 8)), rng.gamma(3, 2, (8, 4)), rng.standard_normal((8, 8, 5))
        retests = {"main-g0007-001": ([9.0, 8, 7], [8.0, 8.5, 9]), "ref-001": ([4.0, 5, 6], [4.0, 5, 5.5])}
        retests = {image: [unit * np.array(part) for part in parts] for image, parts in retests.items()}
        return evolution(unit * scores, unit * references, retests=retests, codes=codes)

    function = getattr(analysis, name)
    usual, found = function(recording(1.0)), function(recording(2.0**power))
    np.testing.assert_array_equal(found["reason"], usual["reason"])
    for key, values in usual.data_vars.items():
        if values.dtype.kind == "f":
            unit = 2.0**power if key in MEASURES[name] else 1.0
            np.testing.assert_allclose(found[key] / unit, values, rtol=1e-9, err_msg=key)


@pytest.mark.parametrize("held", [np.float64, np.float32, np.round])
@pytest.mark.parametrize("offset", [0.0, 2.0**20])
def test_noise_on_an_offset_is_noise(repeated, rng, offset, held):
    table = 10 * rng.standard_normal((20, 1, 1)) + 3 * rng.standard_normal((20, 5, 1))
    found = selectivity(repeated(np.asarray(held(table + offset), float)))
    assert found["reason"].item() == ""
    np.testing.assert_allclose(found["f"], selectivity(repeated(table))["f"], rtol=0.1)


def test_a_constant_count_on_an_offset_that_never_varies_is_noiseless(repeated):
    table = np.repeat(2.0**20 + np.arange(20.0)[:, None, None], 5, axis=1)
    assert "noiseless" in selectivity(repeated(table))["reason"].item()


def test_what_a_call_lacks_is_said_by_python_itself(repeated):
    with pytest.raises(TypeError, match="objective"):
        analysis.reference_means(repeated(np.ones((3, 2))))
