"""Treatments over seeds: what is compared with what, and a judgement that goes on after a stop."""

from importlib import import_module

import numpy as np
import pytest
import xarray as xr

from closedloop.analysis import judged_treatments
from closedloop.errors import InvalidArgumentError
from closedloop.loop.protocol import protocol_of
from closedloop.protocols import judge, resume, treat
from closedloop.recording.reader import open_recording, read_experiment
from closedloop.report import write_report


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A judgement that takes a second: bright halves, and a test with two groups."""
    rng = np.random.default_rng(0)

    def made(n):
        y = rng.integers(0, 2, n)
        x = 0.5 * rng.random((n, 3, 8, 8))
        x[y == 1, :, :, :4] += 0.1
        return x.astype(np.float32), y

    (x, y), (xl, yl), (xt, yt) = made(60), made(20), made(40)
    path = tmp_path_factory.mktemp("task") / "task.npz"
    np.savez(path, x=x, y=y, x_labelled=xl, y_labelled=yl, x_test=xt, y_test=yt, group_test=yt)
    return {"data": str(path), "steps": 20, "more": 20, "every": 20, "batch": 10, "suspects": 1, "preferred": 20,
            "treatments": ("none", "reweight", "errors", "freeze", "freeze:conv1+errors")}  # fmt: skip


@pytest.fixture(scope="module")
def run(told, tmp_path_factory):
    place = tmp_path_factory.mktemp("judge") / "run"
    judge(**told, seeds=3, seed=4, save=place)
    return place


@pytest.mark.long
def test_each_training_is_the_one_that_treat_does(told, run):
    found = judged_treatments(open_recording(run))
    assert found["treatment"].values.tolist() == list(told["treatments"])
    assert found["seed"].values.tolist() == [4, 5, 6]
    options = {name: value for name, value in told.items() if name != "treatments"}
    alone = treat(**options, seed=5, treatment="reweight")
    assert float(found["worst_by_seed"].sel(treatment="reweight", seed=5)) == float(alone["worst"][-1])
    both = treat(**options, seed=5, treatment=("freeze:conv1", "errors"))
    assert float(found["overall_by_seed"].sel(treatment="freeze:conv1+errors", seed=5)) == float(both["overall"][-1])
    before = treat(**options, seed=6, treatment="none")
    assert float(before["overall"][0]) == pytest.approx(
        float(open_recording(run)["responses"].values[2 * 6] @ before["group_size"].values / 40)
    )


@pytest.fixture(scope="module")
def few(told):
    """Two treatments of two seeds, and what they come to."""
    told = told | {"treatments": ("errors", "freeze")}
    return told, judge(**told, seeds=2)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("stop", [1, 2, 5])
def test_a_judgement_that_was_stopped_goes_on_as_if_it_had_not(few, tmp_path, stop):
    told, whole = few

    def watch(done, of):
        assert of == 6
        if done == stop:
            raise KeyboardInterrupt("enough")

    with pytest.raises(KeyboardInterrupt, match="enough"):
        judge(**told, seeds=2, save=tmp_path / "run", progress=watch)
    assert resume(tmp_path / "run").identical(whole)
    assert resume(tmp_path / "run").attrs["seeds"] == 2


def test_training_without_a_treatment_is_done_once(told, tmp_path, monkeypatch):
    module, done = import_module("closedloop.protocols.judge"), []

    def counted(**options):
        done.append(options["treatment"])
        return treat(**options)

    monkeypatch.setattr(module, "treat", counted)
    found = judge(**told | {"treatments": ("reweight", "none")}, seeds=1, save=tmp_path / "run")
    assert done == [("none",), ("reweight",), ("none",)]
    alone = open_recording(tmp_path / "run" / "seed-0")  # the second is that run, which was done by then
    assert float(found["overall_by_seed"].sel(treatment="none", seed=0)) == pytest.approx(
        float(alone["responses"].values[-1] @ alone["group_size"].values / 40)
    )
    assert sorted(p.name for p in (tmp_path / "run" / "seed-0").glob("*.safetensors")) == [
        "before.safetensors",
        "network.safetensors",
    ]


def test_a_person_is_told_what_does_not_help(run):
    content = read_experiment(run)
    summary = protocol_of(content, "run").summary(run, open_recording(run))
    table, gains = summary.tables
    assert [row[0] for row in table.rows][:3] == ["(before)", "none", "reweight"]
    assert [row[0] for row in gains.rows][:2] == ["reweight", "errors"]
    assert gains.rows[0][3] == ""  # over itself
    assert "t-intervals" in table.caption
    assert summary.figures["judgement"].draw().axes


def test_each_treatment_stands_in_the_sentence_of_its_verdict():
    low, high = [0.0, 0.1, -0.2, -0.1, np.nan], [0.0, 0.3, -0.1, 0.1, np.nan]
    found = xr.Dataset(
        {
            "worst_gain": ("treatment", np.zeros(5)),
            "worst_gain_low": ("treatment", low),
            "worst_gain_high": ("treatment", high),
            "overall_gain_high": ("treatment", [0.0, 0.1, -0.1, 0.1, np.nan]),
        },
        {"treatment": ["none", "cut", "remove", "freeze", "ablate"]},
    )
    assert import_module("closedloop.protocols.judge")._lines(found) == [
        "Better in the worst group than as many steps without: cut.",
        "Worse in the worst group than as many steps without: remove.",
        "No effect on the worst group was shown: freeze.",
        "It is not known whether these help, for too few seeds are done, or all gained the same: ablate.",
        "Overall accuracy falls under: remove.",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"treatments": ("none", "magic")}, "treatment: expected one of none, .* got 'magic'"),
        ({"seeds": 0}, "seeds: expected"),
        ({"layer": "nowhere"}, "layer: no layer .nowhere. in network"),
        ({"treatments": ("none", "freeze:conv9")}, "freeze: expected a layer of conv1, .* got 'conv9'"),
        ({"treatments": ("none", "errors+remove:conv1")}, "remove: expected a layer whose output has the shape"),
        ({"treatments": ("none", "cut+evolved", "evolved+cut")}, "treatments: expected one or more, each once"),
        ({"treatments": ("none", "cut+cut")}, "one or more others, each once, got .'cut', 'cut'."),
        ({"treatments": ()}, "treatments: expected one or more"),
        ({"treatments": 5}, "treatment: expected one of none, .* got '5'"),
        ({"treatments": {"none": 1}}, "treatments: expected a text, or several in a list, got {'none': 1}"),
        ({"speed": 1}, "speed: no such setting"),
    ],
)
def test_what_does_not_fit_is_named(told, tmp_path, options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        judge(**{**told, **options}, save=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_report_tells_it(run, tmp_path):
    page = write_report([run, run / "seed-4"], tmp_path / "page.html").read_text()
    assert "Gain in the worst group" in page
    assert "Accuracy under the treatment none" in page
