"""Many runs in one Dataset: nothing that tells them apart is lost."""

import numpy as np
import pytest
import xarray as xr

from closedloop import CMAES, Session, Thread, Unit, analysis, summarize
from closedloop.analysis import concat, runs
from closedloop.analysis.runs import _moved
from closedloop.errors import InvalidArgumentError, RecordingError, UnknownNameError
from closedloop.generators import Fourier
from closedloop.protocols import evolve, present
from closedloop.subjects import GaborSubject


def pictures(n=6):
    return np.random.default_rng(0).random((n, 3, 16, 16), dtype=np.float32)


def run(seed=0, cutoff=2, count=2, objective="unit(1)", **options):
    generator = Fourier(resolution=16, cutoff=cutoff)
    return evolve(
        GaborSubject(resolution=16, count=count, seed=1), generator, CMAES(generator.space, seed=seed),
        objective=objective, references=pictures(), seed=seed, retest_repeats=2, interleave=2,
        **{"images": 60, **options},
    )  # fmt: skip


@pytest.fixture(scope="module")
def two():
    return {"first": run(seed=1), "second": run(seed=2, cutoff=3)}


def test_each_presentation_knows_its_run(two):
    joined = concat(two)
    assert joined.sizes["presentation"] == sum(r.sizes["presentation"] for r in two.values())
    second = joined.isel(presentation=(joined["run"] == "second").values)
    assert set(second["seed"].values) == {2}
    assert joined["evolution"].values.tolist() == ["first/main", "second/main"]
    assert joined["evolution_run"].values.tolist() == ["first", "second"]
    assert joined["objective"].values.tolist() == ["unit(1)", "unit(1)"]
    np.testing.assert_array_equal(second["responses"], two["second"]["responses"])
    np.testing.assert_array_equal(second["stimulus_id"], two["second"]["stimulus_id"])


def test_shorter_codes_are_padded_with_nan(two):
    joined = concat(two)
    short = two["first"].sizes["latent"]
    assert joined.sizes["latent"] == two["second"].sizes["latent"] > short
    first = joined.isel(presentation=(joined["run"] == "first").values)["latent_code"].values
    np.testing.assert_array_equal(first[:, :short], two["first"]["latent_code"])
    assert np.isnan(first[:, short:]).all()


def test_runs_come_apart_again(two):
    for name, part in runs(concat(two)):
        original = two[name]
        assert part["seed"].item() == original["seed"].item()
        assert set(original.coords) == set(part.coords)
        for coord in original.coords:
            np.testing.assert_array_equal(part[coord].values, original[coord].values, err_msg=coord)
        assert summarize(part) == summarize(original)


def test_a_joined_recording_can_be_joined_again(two):
    joined = concat({"both": concat(two), "third": run(seed=3)})
    assert list(dict(runs(joined))) == ["both/first", "both/second", "third"]


def test_units_are_joined_by_name_and_objectives_follow():
    a = run(count=2)
    b = run(count=2, seed=4).isel(neuroid=[1])
    b = b.assign_coords(neuroid_id=("neuroid", np.array(["other"], object)), objective=("evolution", ["unit(0) + 1.0"]))
    joined = concat([a, b])
    assert joined["neuroid_id"].values.tolist() == [*a["neuroid_id"].values.tolist(), "other"]
    second = dict(runs(joined))["1"]
    assert np.isnan(second["responses"].values[:, :2]).all()
    np.testing.assert_array_equal(second["responses"].values[:, 2], b["responses"].values[:, 0])
    assert second["objective"].item() == "unit(2) + 1.0"
    assert joined["x"].dims == ("neuroid",)


def test_a_recorded_set_of_images_joins_an_evolution(two):
    shown = present(GaborSubject(resolution=16, count=2, seed=1), pictures())
    joined = concat({"evolved": two["first"], "shown": shown})
    assert "objective" not in dict(runs(joined))["shown"].coords
    assert analysis.trajectory(joined)["thread"].values.tolist() == ["evolved/main"]
    assert np.isnan(joined.isel(presentation=(joined["run"] == "shown").values)["latent_code"]).all()


def test_results_are_those_of_the_single_runs(two):
    together = analysis.trajectory(concat(two))
    for name, recording in two.items():
        alone = analysis.trajectory(recording, "main")
        same = together.sel(thread=f"{name}/main")
        for variable in alone.data_vars:
            padded = same[variable].sel(generation=alone["generation"])
            np.testing.assert_array_equal(padded, alone[variable], err_msg=variable)


def test_threads_of_one_run():
    generator = Fourier(resolution=16, cutoff=2)
    threads = [Thread(generator, CMAES(generator.space, seed=i), Unit(i), n) for i, n in enumerate("ab")]
    recording = Session(GaborSubject(resolution=16, count=2, seed=1), threads, images=40).run()
    found = analysis.trajectory(recording)
    assert found["mean"].dims == ("thread", "generation")
    assert found["thread"].values.tolist() == ["a", "b"]
    np.testing.assert_array_equal(analysis.trajectory(recording, "b")["mean"], found["mean"].sel(thread="b"))
    assert found["reason"].dims == ("thread",)
    with pytest.raises(UnknownNameError, match=r"thread: no thread 'c' in the recording\. Known names: a, b"):
        analysis.trajectory(recording, "c")


def test_wrong_recordings(two):
    with pytest.raises(InvalidArgumentError, match="expected at least one recording, got none"):
        concat([])
    with pytest.raises(RecordingError, match=r"expected what closedloop\.open_recording returns"):
        concat([xr.Dataset()])
    for wrong in (None, 3, "run"):
        kind = type(wrong).__name__
        with pytest.raises(InvalidArgumentError, match=f"recordings: expected a list or a mapping .*, got {kind}"):
            concat(wrong)
        for function in (analysis.images_to, analysis.winners_curse, analysis.success, analysis.selectivity):
            with pytest.raises(RecordingError, match=rf"expected what closedloop\.open_recording returns.* got {kind}"):
                function(wrong)
    first = two["first"]
    with_time = first.assign(responses=first["responses"].expand_dims(time_bin=2, axis=2))
    with pytest.raises(InvalidArgumentError, match="expected the same time bins"):
        concat([first, with_time])
    with pytest.raises(RecordingError, match="expected an evolution, but it has no coordinate evolution, objective"):
        analysis.trajectory(first.drop_vars(["evolution", "objective"]))


@pytest.mark.parametrize(
    ("text", "moved"),
    [
        ("layer() - tv()", "layer([2, 0]) - tv()"),
        ('caption("a dog", {0: 0.75, 1: 0.25})', 'caption("a dog", {2: 0.75, 0: 0.25})'),
        ("contrast([0], [1])", "contrast([2], [0])"),
        ("not an objective", "not an objective"),
    ],
)
def test_any_objective_follows_its_units(text, moved):
    assert _moved(text, [2, 0]) == moved
    assert _moved(text, [0, 1]) == text
