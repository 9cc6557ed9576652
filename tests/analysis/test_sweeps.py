"""A sweep as a table, and what its axes did, with planted effects."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from closedloop.analysis.sweeps import axes_of, axis_effects, confounded_axes, is_sweep, planned_runs, sweep_table
from closedloop.errors import InvalidArgumentError
from closedloop.protocols import sweep


def planted(units=12, seeds=3, gain=1.5, noise=0.05):
    """A table in which optimizer a reaches `gain` times what b does, on units that differ more than that."""
    rng = np.random.default_rng(0)
    rows = [
        {"axis_optimizer": o, "axis_unit": str(u), "axis_seed": str(s), "target": f"unit {u}",
         "ratio": (gain if o == "a" else 1.0) * (1 + u) * (1 + noise * rng.standard_normal())}
        for o in ("b", "a", "c") for u in range(units) for s in range(seeds)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_a_planted_effect_is_found_beneath_larger_differences_between_units():
    found = axis_effects(planted(), "optimizer")
    assert found["optimizer"].tolist()[0] == "a"
    assert found["n"].tolist() == [36, 36, 36]
    assert found["pairs"].tolist() == [0, 12, 12]  # units, not seeds of units
    assert (found["p_holm"].to_numpy()[1:] < 0.01).all()
    assert (found["p_holm"].to_numpy()[1:] >= found["p"].to_numpy()[1:]).all()
    assert np.isnan(found["p"][0])
    assert (found["low"] <= found["median"]).all()
    assert (found["median"] <= found["high"]).all()


def test_without_an_effect_p_is_uniform():
    small = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        table = planted(units=10, seeds=1, gain=1.0)
        table["ratio"] = rng.standard_normal(len(table))
        small += int((axis_effects(table, "optimizer")["p_holm"] < 0.05).any())
    assert small <= 12  # of two tests against the best of three: somewhat above 5 %, for the first was picked


def test_too_few_units_have_no_test():
    found = axis_effects(planted(units=5), "optimizer")
    assert np.isnan(found["p"]).all()
    assert found["pairs"].tolist() == [0, 5, 5]


def test_runs_that_are_missing_leave_the_pairs_that_are_there():
    table = planted()
    table = table[~((table["axis_optimizer"] == "c") & (table["axis_unit"].isin(["0", "1", "2"])))]
    found = axis_effects(table, "optimizer").set_index("optimizer")
    assert (found["pairs"]["b"], found["pairs"]["c"]) == (12, 9)
    table.loc[:, "ratio"] = np.nan
    assert not len(axis_effects(table, "optimizer"))


def test_what_is_no_axis_is_said():
    with pytest.raises(InvalidArgumentError, match=r"axis: expected one of \['optimizer'"):
        axis_effects(planted(), "colour")
    with pytest.raises(InvalidArgumentError, match="value: expected a number of the catalogue"):
        axis_effects(planted(), "optimizer", "target")


def test_axes_that_change_together_are_told():
    table = planted()
    assert axes_of(table) == ["optimizer", "unit", "seed"]
    assert confounded_axes(table) == []
    table["axis_layer"] = [f"layer {unit}" for unit in table["axis_unit"]]
    assert confounded_axes(table) == [("layer", "unit")]


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep") / "s"
    content = {
        "subject": {"name": "gabor", "resolution": 16, "count": 2, "seed": 1},
        "generator": {"name": "fourier", "cutoff": 2},
        "optimizers": [{"name": "isotropic", "population": 6}, {"name": "random", "population": 5}],
        "images": 12,
        "references": "none",
        "retest_candidates": 1,
        "retest_repeats": 2,
        "units": "0,7",
    }
    return folder, sweep(content, folder, workers=0, progress=False)


def test_the_table_of_a_sweep_has_its_axes_and_all_its_runs(swept):
    folder, result = swept
    assert is_sweep(folder)
    table = sweep_table(folder)
    assert len(table) == len(planned_runs(folder)) == 4
    assert table["axis_optimizer"].nunique() == table["axis_unit"].nunique() == 2
    assert table["state"].tolist().count("finished") == 2
    failed = table[table["state"] == "failed"]
    assert set(failed["axis_unit"]) == {"7"}
    assert failed["problem"].str.contains("7").all()
    assert result.table()["run"].tolist() == table["run"].tolist()


def test_a_note_that_was_left_behind_does_not_fail_a_finished_run(swept, tmp_path):
    folder = shutil.copytree(swept[0], tmp_path / "s")
    table = sweep_table(folder)
    done = table.loc[table["state"] == "finished", "path"].iloc[0]
    (folder / f"{done}.failed.json").write_text('{"reason": "the disk was full"}')
    again = sweep_table(folder).set_index("path").loc[done]
    assert (again["state"], again["problem"]) == ("finished", "")


def test_runs_that_have_not_begun_are_planned(swept, tmp_path):
    folder, _ = swept
    (tmp_path / "sweep.jsonl").write_text((folder / "sweep.jsonl").read_text())
    assert set(sweep_table(tmp_path)["state"]) == {"planned"}


def test_another_folder_is_none(tmp_path):
    assert not is_sweep(tmp_path)
    with pytest.raises(InvalidArgumentError, match="expected that of a sweep, with its list of runs"):
        sweep_table(tmp_path)
    (tmp_path / "sweep.jsonl").write_text(json.dumps({"facts": {}}) + "\n")
    with pytest.raises(InvalidArgumentError, match="expected that of a sweep"):
        planned_runs(tmp_path)
