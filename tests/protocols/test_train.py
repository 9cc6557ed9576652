"""Training as an experiment: interventions on layers, going on after a stop, what a person sees."""

import numpy as np
import pytest
import torch

from closedloop.analysis import read_allocation
from closedloop.errors import InvalidArgumentError, RecordingError, TrainingError
from closedloop.loop.protocol import protocol_of
from closedloop.protocols import LossChangeAllocation, resume, train
from closedloop.protocols.train import batch_rows
from closedloop.recording.reader import open_recording, read_experiment, read_state


@pytest.fixture
def task(tmp_path):
    """A small set of images of two classes, as a file."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 60)
    x = rng.standard_normal((60, 4, 4)) + y[:, None, None]
    path = tmp_path / "task.npz"
    np.savez(path, x=x[:40], y=y[:40], x_validation=x[40:], y_validation=y[40:])
    return {"data": str(path), "batch": 10, "steps": 6}


def totals(run):
    return read_allocation(run).by_layer.sum("step").to_series()


def test_training_lowers_the_loss_and_shares_it_out(task, tmp_path):
    found = train(**task, save=tmp_path / "run")
    assert found.layer.values.tolist() == ["fc1", "fc2", "fc3", "output"]
    assert found.loss[-1] < found.loss_before[0]
    assert float(found.change.sum()) == pytest.approx(float(found.loss[-1] - found.loss_before[0]), rel=0.02)
    assert 0.5 < found.attrs["accuracy_train"] <= 1
    assert read_allocation(tmp_path / "run", "validation").sizes["step"] == 6


def test_each_example_is_seen_once_in_an_epoch():
    seen = np.concatenate([batch_rows(3, step, 10, 40) for step in range(4)])
    assert sorted(seen) == list(range(40))
    assert not np.array_equal(batch_rows(3, 0, 10, 40), batch_rows(3, 4, 10, 40))


def test_a_frozen_layer_comes_to_nothing_from_its_step_on(task, tmp_path):
    train(**task, save=tmp_path / "run", freeze=("fc2", "output@3"), l2=0.01)
    found = read_allocation(tmp_path / "run")
    still = (found.by_layer == 0).all("step").values
    assert still.tolist() == [False, True, False, False]
    output = found.by_layer.sel(layer="output").values
    assert (output[3:] == 0).all()
    assert (output[:3] != 0).all()


def test_a_layer_has_a_rate_and_a_momentum_of_its_own(task, tmp_path):
    train(**task, save=tmp_path / "run", layer_rate=("fc1=0",), layer_momentum=("fc1=0", "fc2=0.5"))
    assert totals(tmp_path / "run")["fc1"] == 0
    groups = open_recording(tmp_path / "run").to_dataframe()[["layer", "parameter_group"]].drop_duplicates()
    assert dict(groups.to_numpy()) == {"fc1": 1, "fc2": 2, "fc3": 0, "output": 0}


def test_a_layer_is_removed_and_the_rest_trained_on(task, tmp_path):
    train(**task, save=tmp_path / "whole")
    found = train(**task, save=tmp_path / "less", start=str(tmp_path / "whole"), remove=("fc2",))
    assert found.layer.values.tolist() == ["fc1", "fc3", "output"]
    held = read_state(tmp_path / "whole")["allocator"]["parameters"]
    same = train(**task, save=tmp_path / "same", start=str(tmp_path / "whole"), rate=1e-12)
    assert float(same.loss[0]) == pytest.approx(float(read_allocation(tmp_path / "whole").loss[-1]), abs=1e-6)
    assert len(held) == 8
    with pytest.raises(InvalidArgumentError, match="start: expected a run of this network"):
        train(**task, network="resnet", start=str(tmp_path / "whole"))
    with pytest.raises(RecordingError, match="start: nowhere: not a run of closedloop"):
        train(**task, start="nowhere")


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not(task, tmp_path):
    whole = train(**task, network="resnet", optimizer="adam", rate=0.002, save=tmp_path / "whole", every=2)
    seen = []

    def stop(done, of):
        seen.append(done)
        if done == 5:
            raise KeyboardInterrupt("stop")

    with pytest.raises(KeyboardInterrupt, match="stop"):
        train(**task, network="resnet", optimizer="adam", rate=0.002, save=tmp_path / "run", every=2, progress=stop)
    assert not open_recording(tmp_path / "run").attrs["finished"]
    resume(tmp_path / "run", progress=False)
    found = read_allocation(tmp_path / "run")
    assert found.identical(read_allocation(tmp_path / "whole"))
    assert found.loss.values.tolist() == whole.loss.values.tolist()
    assert seen[-1] == 5


def test_a_person_sees_layers_and_what_is_missed(task, tmp_path):
    train(**task, save=tmp_path / "run", rule="first-order")
    summary = protocol_of(read_experiment(tmp_path / "run"), "run").summary(
        tmp_path / "run", open_recording(tmp_path / "run")
    )
    assert [row[0] for row in summary.tables[0].rows] == ["fc1", "fc2", "fc3", "output"]
    words = " ".join(summary.lines)
    assert "by the rule first-order the shares miss" in words
    assert "is for teaching" in words
    assert list(summary.figures) == ["allocation"]


def test_a_loop_of_ones_own_is_shown_and_not_resumed(tmp_path):
    model = torch.nn.Linear(2, 2)
    lca = LossChangeAllocation(
        model, torch.nn.functional.cross_entropy, (torch.ones(4, 2), torch.arange(4) % 2), save=tmp_path / "run"
    )
    lca.stepped()
    lca.close()
    with pytest.raises(RecordingError, match="a training loop of your own"):
        resume(tmp_path / "run")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"freeze": ("fc9",)}, "freeze: expected a layer of fc1, fc2, fc3, output, got 'fc9'"),
        *(
            (
                {"freeze": (f"fc1@{since}",)},
                f"freeze: expected LAYER@STEP, a whole number from 0 to 5, got 'fc1@{since}'",
            )
            for since in ("1.5", "-1", "6", "", "nan", "²")
        ),
        ({"freeze": ("fc1", "fc1@2")}, "freeze: expected each layer once, got 'fc1' twice"),
        ({"freeze": 5}, "freeze: expected a layer of fc1, fc2, fc3, output, got '5'"),
        ({"freeze": 0.5}, "freeze: expected a text, or several in a list, got 0.5"),
        *(
            ({"layer_rate": (word,)}, f"layer_rate: expected LAYER=NUMBER, a finite one, got '{word}'")
            for word in ("fc1=quick", "fc1=nan", "fc1=inf", "fc1=", "fc1")
        ),
        ({"layer_momentum": ("fc1=0.1", "fc1=0.2")}, "layer_momentum: expected each layer once, got 'fc1' twice"),
        (
            {"network": "resnet", "layer_rate": ("block1=0.1",), "layer_momentum": ("block1.conv1=0",)},
            "layer_momentum: expected each layer once, got 'block1.conv1' beside 'block1', with which it shares",
        ),
        ({"remove": ("fc2", "fc2")}, "remove: expected each layer once, got 'fc2' twice"),
        ({"data": 5}, "data: expected a text, got 5"),
        ({"batch": 41}, "batch: expected at most 40, the examples that are trained on, got 41"),
        ({"momentum": -1.0}, "momentum below 1, got 0.05 and -1.0"),
        ({"data": "nowhere.npz"}, "data: expected 'digits' or an .npz file, got nowhere.npz"),
        ({"chunk": 0}, "chunk: expected"),
        ({"speed": 1}, "speed: no such setting"),
        ({"remove": ("fc1",)}, "remove: expected a layer whose output has the shape of its input"),
    ],
)
def test_what_does_not_fit_is_named(options, message, task):
    with pytest.raises(InvalidArgumentError, match=message):
        train(**{**task, **options})


def test_a_file_without_targets_is_named(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.zeros((3, 4, 4)))
    with pytest.raises(InvalidArgumentError, match=r"data: expected x \(n, channels, side, side\) and y"):
        train(data=str(tmp_path / "x.npz"))


def test_digits_come_with_scikit_learn():
    pytest.importorskip("sklearn")
    found = train(steps=2, subset=100)
    assert found.sizes["step"] == 2
    assert float(found.loss[0]) == pytest.approx(2.3, abs=0.2)


SCRIPT = """
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from closedloop.networks.modules import born
from closedloop.protocols import Training

def made(seed):
    x = torch.linspace(-1, 1, 40)[:, None]
    y = (x[:, 0] > 0).long()
    model = born(lambda: nn.Linear(1, 2), seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    def learn(step):
        optimizer.zero_grad()
        cross_entropy(model(x[step::4]), y[step::4]).backward()
    return Training(model, cross_entropy, (x, y), optimizer, learn)

def nothing(seed):
    return None

def broken(seed):
    raise ZeroDivisionError("oh")
"""


@pytest.fixture
def script(tmp_path, monkeypatch):
    """A module with trainings of one's own."""
    (tmp_path / "training_of_mine.py").write_text(SCRIPT)
    monkeypatch.syspath_prepend(tmp_path)
    return "training_of_mine"


def test_a_training_of_ones_own_is_recorded_and_never_started_by_a_file(script, tmp_path):
    def stop(done, of):
        if done == 3:
            raise KeyboardInterrupt("stop")

    told = {"script": f"{script}:made", "steps": 4, "save": tmp_path / "run", "every": 1}
    with pytest.raises(KeyboardInterrupt, match="stop"):
        train(**told, progress=stop)
    with pytest.raises(RecordingError, match="is a script, which no file may start; say closedloop lca"):
        resume(tmp_path / "run")
    found = train(**told, exists="resume")
    assert found.sizes["step"] == 4
    assert found.identical(train(**{**told, "save": tmp_path / "whole"}))


def test_a_script_may_be_named_by_its_file(script, tmp_path):
    file = f"{tmp_path / 'training_of_mine.py'}:made"
    assert train(script=file, steps=2).loss.equals(train(script=f"{script}:made", steps=2).loss)
    (tmp_path / "wrong.py").write_text("def made(seed: return")
    (tmp_path / "raising.py").write_text("nobody_knows_this")
    for wrong, why in (("nowhere", "FileNotFoundError"), ("wrong", "SyntaxError"), ("raising", "NameError")):
        with pytest.raises(InvalidArgumentError, match=rf"or FILE\.py:FUNCTION, got .* \({why}"):
            train(script=f"{tmp_path / wrong}.py:made")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"script": "training_of_mine:nothing"}, InvalidArgumentError, "to return closedloop.protocols.Training"),
        ({"script": "training_of_mine:missing"}, InvalidArgumentError, "script: expected MODULE:FUNCTION"),
        ({"script": "no_such_module:made"}, InvalidArgumentError, "script: expected MODULE:FUNCTION"),
        ({"script": "training_of_mine:broken"}, TrainingError, "script training_of_mine:broken raised ZeroDivision"),
        ({"script": "training_of_mine:made", "remove": ("fc1",)}, InvalidArgumentError, "none beside a script"),
    ],
)
def test_a_script_that_makes_no_training_is_named(options, error, message, script):
    with pytest.raises(error, match=message):
        train(**options)


def test_a_run_that_was_stopped_in_the_middle_of_a_step_takes_it_again(task, tmp_path, monkeypatch):
    whole = train(**task, save=tmp_path / "whole", every=4)
    stepped = LossChangeAllocation.stepped

    def stopped(self):
        if self.steps_done == 2:  # the optimizer has moved already, and so has its momentum
            raise KeyboardInterrupt("stop")
        stepped(self)

    monkeypatch.setattr(LossChangeAllocation, "stepped", stopped)
    with pytest.raises(KeyboardInterrupt, match="stop"):
        train(**task, save=tmp_path / "run", every=4)
    monkeypatch.undo()
    assert train(**task, save=tmp_path / "run", every=4, exists="resume").identical(whole)
