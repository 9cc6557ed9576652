"""Trainings in a sweep: each as if it were alone, and what a plan of them cannot say."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from closedloop import catalogue, open_recording
from closedloop.errors import InvalidArgumentError
from closedloop.protocols import develop, judge, sweep, train
from closedloop.protocols.sweep_plan import make_plan
from closedloop.report import write_report

#: What the trainings have in common.
SMALL = {"network": "mlp", "steps": 4, "batch": 10}
DEVELOP = {**SMALL, "looks": 2, "images": 40, "generator": {"name": "fourier", "cutoff": 2}, "strategy": "random"}
JUDGE = {"network": "mlp", "steps": 10, "more": 10, "every": 10, "batch": 10, "treatments": ["none", "reweight"]}


@pytest.fixture
def data(tmp_path):
    """The file of a small task."""
    rng = np.random.default_rng(0)
    sets = {
        f"x{key}": rng.random((40, 3, 8, 8)).astype(np.float32) for key in ("", "_labelled", "_test", "_validation")
    }
    sets |= {f"y{key}": np.arange(40) % 2 for key in ("", "_labelled", "_test", "_validation")}
    np.savez(tmp_path / "task.npz", **sets)
    return str(tmp_path / "task.npz")


def same(a, b):
    """The same numbers, and the same names of them."""
    assert a.sizes == b.sizes
    for name in a.variables:
        np.testing.assert_array_equal(a[name].values, b[name].values)


@pytest.mark.parametrize(
    ("name", "alone", "content"),
    [
        ("lca", train, SMALL),
        pytest.param("develop", develop, {**DEVELOP, "vary": {"units": ["0-1"]}}, marks=pytest.mark.long),
        pytest.param("judge", judge, {**JUDGE, "vary": {"seeds": [1]}}, marks=pytest.mark.long),
    ],
)
def test_a_training_in_a_sweep_is_that_alone(tmp_path, data, name, alone, content):
    plan = {"protocol": name, "data": "task.npz", **content, "seeds": [0, 1]}
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump({"out": "s", **plan}))
    result = sweep(tmp_path / "plan.yaml", workers=0, progress=False)
    assert (result.done, dict(result.failed)) == (2, {})
    made = make_plan(plan, tmp_path / "s", beside=tmp_path)
    for run in made.runs:
        options = {key: value for key, value in run.content.items() if key != "protocol"}
        assert options["data"] == data
        alone(save=tmp_path / run.id, **options)
        same(open_recording(tmp_path / "s" / run.place), open_recording(tmp_path / run.id))
    assert catalogue(tmp_path / "s")["protocol"].tolist() == [name] * 2
    again = sweep(tmp_path / "plan.yaml", workers=0, progress=False)
    assert (again.done, again.total) == (2, 2)
    assert write_report([tmp_path / "s"], tmp_path / "s.html").exists()


def test_a_default_that_is_said_gives_no_run_another_name(tmp_path):
    named = [make_plan({"protocol": "lca", **more}, tmp_path).runs[0].id for more in ({}, {"steps": 300, "seed": 0})]
    assert named[0] == named[1]
    other = make_plan({"protocol": "lca", "optimizers": ["sgd", "adam"], "seeds": "0-4"}, tmp_path).runs
    assert len({run.id for run in other}) == 10
    assert named[0] in {run.id for run in other}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"subject": "lite0"}, "subject: expected none for runs of lca, which train a network of their own"),
        ({"units": "0-3"}, "units: expected none for runs of lca"),
        ({"stepps": 3}, "runs of lca have no entry 'stepps'. Did you mean 'steps'"),
        ({"steps": 0}, "steps: expected"),
        ({"noise": "poisson:20"}, "runs of lca have no entry 'noise'"),
        ({"script": "mine.py:made"}, "script: expected none in a plan, which starts no script"),
        ({"protocol": "develop", "generator": "fourrier"}, "fourrier"),
        ({"protocol": "develop", "references": "nowhere"}, "references: expected a folder of images, got 'nowhere'"),
    ],
)
def test_what_a_plan_of_trainings_cannot_say(tmp_path, content, message):
    with pytest.raises(InvalidArgumentError, match=message):
        make_plan({"protocol": "lca", **content}, tmp_path)
