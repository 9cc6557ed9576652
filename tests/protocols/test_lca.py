"""Loss change allocation around a training loop: recorded, resumed after a kill, and its assumptions watched."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from closedloop.analysis import read_allocation
from closedloop.analysis.allocation import definition
from closedloop.errors import AllocationWarning, CallOrderError, InvalidArgumentError, RecordingError, TrainingError
from closedloop.networks.modules import born
from closedloop.protocols import LossChangeAllocation
from closedloop.recording.reader import open_recording


def examples(n=120, seed=0):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(n, 6, generator=generator)
    return inputs, (inputs[:, 0] > 0).long()


def network():
    return born(lambda: nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 2)), 0)


class Loop:
    """A training loop of somebody, with Adam, dropout of its own randomness, and a schedule."""

    def __init__(self, save=None, exists="fail", **options):
        self.model, self.data = network(), examples()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.01, weight_decay=0.1)
        self.schedule = torch.optim.lr_scheduler.ExponentialLR(self.optimizer, 0.9)
        self.random = torch.Generator().manual_seed(1)
        options = {"every": 3, "check": 2, "chunk": 50, "label": "toy", **options}
        self.lca = LossChangeAllocation(
            self.model, cross_entropy, self.data, optimizer=self.optimizer, save=save, exists=exists,
            carry={"schedule": self.schedule, "random": self.random}, **options,
        )  # fmt: skip

    def learn(self):
        rows = torch.randint(120, (16,), generator=self.random)
        self.optimizer.zero_grad()
        self.model.train()
        cross_entropy(self.model(self.data[0][rows]), self.data[1][rows]).backward()

    def run(self, steps, die_at=None):
        for i in range(self.lca.steps_done, steps):
            if i == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            self.learn()
            with self.lca.step():
                self.optimizer.step()
                self.schedule.step()
        return self


def test_the_shares_of_a_run_add_up_and_are_recorded(tmp_path):
    loop = Loop(tmp_path / "run").run(7)
    start = loop.lca.dataset().loss_before[0]
    found = loop.lca.finish()
    assert float(found.loss[-1] - start) == pytest.approx(loop.lca.total(), rel=0.02)
    assert found.by_layer.dims == ("step", "layer")
    assert found.layer.values.tolist() == ["0", "1", "3"]
    assert found.sizes == {"step": 7, "layer": 3, "part": 3, "neuron": 12}
    np.testing.assert_allclose(found.by_neuron.sum("neuron"), found.change, rtol=1e-9)
    np.testing.assert_allclose(found.by_part.sum(("layer", "part")), found.change, rtol=1e-9)
    assert (found.helped + found.hurt + found.still == found.parameters).all()
    assert found.parameters.values.tolist() == [35, 10, 12]
    assert float(found.by_part.sel(layer="1", part="norm").sum()) == float(found.by_layer.sel(layer="1").sum())
    l2 = sum(0.05 * p.detach().double().square().sum() for p in loop.model.parameters())
    assert float(found.l2[-1]) == pytest.approx(float(l2))
    recording = open_recording(tmp_path / "run")
    assert recording.sizes["presentation"] == 7
    assert set(recording["parameter_group"].values) == {0}
    again = read_allocation(tmp_path / "run", parameters=True)
    assert again[list(found)].identical(found)
    np.testing.assert_allclose(again.total.sum(), found.change.sum())
    assert int(again.steps_helped.max()) <= 7


def test_a_loop_that_was_left_goes_on_bit_by_bit(tmp_path):
    left = Loop(tmp_path / "run").run(7).lca
    left._recording.close()  # as the system does at a kill; the seventh step is lost
    goes_on_bit_by_bit(tmp_path / "run")


@pytest.mark.long
def test_a_loop_that_was_killed_goes_on_bit_by_bit(tmp_path):
    code = f"from test_lca import Loop; Loop({str(tmp_path / 'run')!r}).run(8, die_at=7)"
    path = {**os.environ, "PYTHONPATH": os.path.dirname(__file__)}
    died = subprocess.run([sys.executable, "-c", code], env=path, capture_output=True, text=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    goes_on_bit_by_bit(tmp_path / "run")


def goes_on_bit_by_bit(run):
    assert open_recording(run).sizes["presentation"] == 6
    loop = Loop(run, "resume")
    assert loop.lca.steps_done == 6
    found = loop.run(8).lca.finish()
    whole = Loop().run(8)
    assert found.identical(whole.lca.finish())
    assert loop.lca.total() == whole.lca.total()
    assert all(torch.equal(p, q) for p, q in zip(loop.model.parameters(), whole.model.parameters(), strict=True))


def test_a_finished_run_is_read_and_not_gone_on_with(tmp_path):
    found = Loop(tmp_path / "run").run(3).lca.finish("enough")
    again = Loop(tmp_path / "run", "resume")
    assert again.lca.finished
    assert again.lca.steps_done == 3
    assert again.lca.dataset().identical(found)
    assert open_recording(tmp_path / "run").attrs["reason"] == "enough"
    with pytest.raises(CallOrderError, match="it is finished"):
        again.lca.stepped()
    with pytest.raises(RecordingError, match="expected a new or empty folder"):
        Loop(tmp_path / "run")
    with pytest.raises(RecordingError, match="another experiment: rule is 'simpson' there"):
        Loop(tmp_path / "run", "resume", rule="trapezoid")


def test_a_call_after_the_step_does_the_same():
    one, other = Loop().run(3), Loop()
    for _ in range(3):
        other.learn()
        other.optimizer.step()
        other.schedule.step()
        other.lca.stepped()
    assert other.lca.dataset().identical(one.lca.dataset())


@pytest.mark.parametrize("form", ["int8", "float16", "float32"])
def test_every_parameter_is_recorded_on_request(form):
    loop = Loop(series=form, losses={"validation": examples(40, 1)}).run(3)
    for of in ("train", "validation"):
        found = loop.lca.dataset(of, parameters=True)
        assert found.by_parameter.dims == ("step", "parameter")
        assert found.parameter_layer.values.tolist() == ["0"] * 35 + ["1"] * 10 + ["3"] * 12
        rounding = {"int8": 0.03, "float16": 1e-3, "float32": 1e-6}[form] * np.abs(found.total.values).max()
        np.testing.assert_allclose(found.by_parameter.sum("step"), found.total, atol=rounding)
    assert loop.lca.total("validation") == pytest.approx(float(loop.lca.dataset("validation").change.sum()))


def test_a_subset_is_the_loss_that_is_shared_out():
    lca = Loop(subset=30, seed=2).run(1).lca
    assert lca._content["losses"]["train"]["examples"] == 30
    with pytest.raises(InvalidArgumentError, match="subset: expected at most 120 examples, got 121"):
        Loop(subset=121)


def test_weights_that_change_between_steps_are_named():
    loop = Loop().run(2)
    with torch.no_grad():
        loop.model[3].bias += 0.1
    with pytest.raises(TrainingError, match=r"step 2: '3.bias' was changed elsewhere"):
        loop.run(3)


def test_frozen_weights_that_change_are_named():
    model = network()
    model[0].requires_grad_(False)
    lca = LossChangeAllocation(model, cross_entropy, examples(), check=1)
    with pytest.raises(TrainingError, match=r"'0.weight' was changed, which did not ask for a gradient"):
        with lca.step():
            model[0].weight.data += 1


def test_data_that_change_are_named():
    loop = Loop().run(1)
    loop.data[0][3] += 1
    with pytest.raises(TrainingError, match="train: examples 0 to 39 were changed"):
        loop.run(2)


def test_a_random_loss_is_named():
    def noisy(outputs, targets):
        return cross_entropy(outputs + torch.rand_like(outputs), targets)

    with pytest.raises(TrainingError, match="something in the network or in loss_fn is random"):
        LossChangeAllocation(network(), noisy, examples())


def test_much_that_is_missed_is_warned_of():
    model = born(lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2)), 0)
    lca = LossChangeAllocation(model, cross_entropy, examples(), rule="trapezoid")
    with lca.step():
        model[2].weight.data[0] += 30
    with pytest.warns(AllocationWarning, match="The shares miss"):
        lca.finish()


def test_an_error_in_the_step_is_not_shared_out():
    loop = Loop().run(1)
    with pytest.raises(ZeroDivisionError, match="division"), loop.lca.step():
        1 / 0  # noqa: B018
    assert loop.run(2).lca.steps_done == 2


def test_it_is_closed_by_its_block(tmp_path):
    def stopped():
        with Loop(tmp_path / "run").lca as lca:
            lca.stepped()
            lca.commit()
            raise KeyboardInterrupt("stop")

    with pytest.raises(KeyboardInterrupt, match="stop"):
        stopped()
    assert not open_recording(tmp_path / "run").attrs["finished"]
    loop = Loop(tmp_path / "run", "resume")
    with loop.lca:
        loop.run(2)
    assert open_recording(tmp_path / "run").attrs["finished"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "euler"}, "rule: expected 'first-order', 'trapezoid', 'simpson' or 'adaptive-simpson', got 'euler'"),
        ({"losses": {"train": examples()}}, "losses: expected names such as 'validation', got 'train'"),
        (
            {"losses": {"other": 3}},
            r"other: expected \(inputs, targets\), tensors with a row for each example, got int",
        ),
        ({"parameters": "some"}, "parameters: expected one of 'trained', 'all', got 'some'"),
        ({"exists": "resume"}, "save: expected the folder of the run"),
        ({"carry": {"x": 3}}, "x: expected something with state_dict"),
    ],
)
def test_what_does_not_fit_is_named(options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        LossChangeAllocation(network(), cross_entropy, examples(), **options).stepped()


def test_the_order_of_calls():
    lca = LossChangeAllocation(network(), cross_entropy, examples())
    with pytest.raises(CallOrderError, match="no step was shared out yet"):
        lca.dataset()
    with pytest.raises(CallOrderError, match="the step's block calls it"), lca.step():
        lca.stepped()
    with pytest.raises(InvalidArgumentError, match="of: expected one of 'train', got 'test'"):
        lca.total("test")


def test_nothing_hides_what_the_run_says_of_itself(tmp_path):
    with pytest.raises(InvalidArgumentError, match="experiment: expected entries with names of their own, got 'rule'"):
        Loop(tmp_path / "run", experiment={"rule": "magic", "note": "a"})
    assert not (tmp_path / "run").exists()
    assert Loop(experiment={"note": "a"}).lca._content["note"] == "a"


@pytest.mark.parametrize("end", ["finish", "close", "block"])
def test_a_run_without_a_step_leaves_nothing(tmp_path, end):
    lca = Loop(tmp_path / "run").lca
    if end == "finish":
        with pytest.raises(CallOrderError, match="no step was shared out yet"):
            lca.finish()
    elif end == "close":
        lca.close()
    else:
        with lca:
            pass
    assert not (tmp_path / "run").exists()


def test_weight_decay_of_all_optimizers_counts_once():
    model, data = small()
    one, two = (torch.optim.SGD(model[i].parameters(), lr=0.1, weight_decay=d) for i, d in ((0, 0.2), (2, 0.4)))
    lca = LossChangeAllocation(model, cross_entropy, data, optimizer=one, carry={"again": one, "other": two})
    lca.stepped()
    size = [sum(float(p.detach().double().square().sum()) for p in model[i].parameters()) for i in (0, 2)]
    assert float(lca.dataset().l2[0]) == pytest.approx(0.1 * size[0] + 0.2 * size[1])
    assert set(lca._recording.dataset()["parameter_group"].values.tolist()) == {0, 1}


def test_what_the_loss_is_and_what_was_done_to_layers_is_told(tmp_path):
    loop = Loop(tmp_path / "run", subset=30, changes="3 frozen").run(1)
    told = loop.lca.finish().attrs
    wanted = {"examples": 30, "examples_whole": 120, "chunk": 50, "batch_norm": "batch", "dropout": "off"}
    assert wanted.items() <= told.items()
    assert told["changes"] == "3 frozen"
    assert read_allocation(tmp_path / "run").attrs == told
    assert definition(loop.lca.dataset()) == (
        "mean loss over 30 of 120 examples, dropout off, batch norm by the statistics of chunks of at most 50. "
        "Training: 3 frozen"
    )
    model, data = small()
    lca = LossChangeAllocation(model, cross_entropy, data)
    lca.stepped()
    assert definition(lca.dataset()) == "mean loss over all 12 examples, dropout off"
    assert definition(lca.dataset().assign_attrs(of="other")).startswith("mean loss over all of other")
    assert definition(lca.dataset().drop_attrs()) == ""


class Lazy(nn.Module):
    """Makes a buffer when it is first run, as some tables of positions are."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 3)

    def forward(self, x):
        if not hasattr(self, "factor"):
            self.register_buffer("factor", torch.full((1,), 2.0))
        return self.factor * self.inner(x)


def lazy(steps, save=None, exists="fail"):
    model, data = born(Lazy, 0), small()[1]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    lca = LossChangeAllocation(
        model, cross_entropy, data, optimizer=optimizer, save=save, exists=exists, every=1, batch_norm="frozen"
    )
    for _ in range(lca.steps_done, steps):
        optimizer.zero_grad()
        cross_entropy(model(data[0]), data[1]).backward()
        with lca.step():
            optimizer.step()
    return lca


def test_a_buffer_that_is_made_in_the_first_run_is_one_of_the_network(tmp_path):
    whole = lazy(4).finish()
    assert np.abs(whole.drift.values).max() == 0
    lazy(2, tmp_path / "run").close()
    assert lazy(4, tmp_path / "run", "resume").finish().identical(whole)


def test_parameters_without_a_number_are_left_alone():
    model, data = small()
    model.register_parameter("none", nn.Parameter(torch.zeros(0, 3)))
    lca = LossChangeAllocation(model, cross_entropy, data)
    with lca.step(), torch.no_grad():
        model[2].weight.mul_(0.9)
    assert lca.dataset().layer.values.tolist() == ["0", "2"]
    assert lca.finish().residual.item() == pytest.approx(0, abs=1e-6)


def test_what_gradients_cannot_reach_is_named():
    data = small()[1]
    with torch.inference_mode():
        model, inputs = nn.Linear(4, 3), data[0] + 0
    with pytest.raises(InvalidArgumentError, match=r"got 'weight', which was made in torch.inference_mode"):
        LossChangeAllocation(model, cross_entropy, data)
    with pytest.raises(InvalidArgumentError, match="train: inputs: expected a dense tensor"):
        LossChangeAllocation(small()[0], cross_entropy, (data[0].to_sparse(), data[1]))
    losses = [LossChangeAllocation(small()[0], cross_entropy, (x, data[1])).losses for x in (data[0], inputs)]
    assert losses[0] == losses[1]


def test_attention_that_pads_another_way_without_gradients_is_not_called_random():
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1)
            self.output = nn.Linear(8, 3)

        def forward(self, x, padding):
            return self.output(self.encoder(x, src_key_padding_mask=padding).mean(1))

    model, padding = born(Words, 0), torch.zeros(12, 5, dtype=torch.bool)
    padding[:, 3:] = True
    data = torch.randn(12, 5, 8, generator=torch.Generator().manual_seed(0)), padding
    lca = LossChangeAllocation(model, cross_entropy, (data, torch.arange(12) % 3), check=1)
    lca.stepped()
    assert lca.total() == 0


def small(seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    return model, (torch.randn(12, 4), torch.arange(12) % 3)


@pytest.mark.parametrize("chunk", [2, 5, 12])
def test_a_sum_over_examples_is_no_mean(chunk):
    model, data = small()
    with pytest.raises(InvalidArgumentError, match=r"loss_fn: expected the mean loss .* reduction='mean'"):
        LossChangeAllocation(model, nn.CrossEntropyLoss(reduction="sum"), data, chunk=chunk)
    LossChangeAllocation(model, nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0, 0.2])), data, chunk=chunk)


@pytest.mark.parametrize("within", [True, False])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.__setitem__(2, nn.Linear(5, 3)), "'2.weight' is another tensor"),
        (lambda m: setattr(m[0], "bias", None), "'0.bias' is gone"),
        (lambda m: m.append(nn.Linear(3, 3)), "'3.weight' is new"),
    ],
)
def test_a_network_of_other_parts_is_named(change, message, within):
    model, data = small()
    lca = LossChangeAllocation(model, cross_entropy, data)
    if not within:
        change(model)
    with pytest.raises(TrainingError, match=message), lca.step():
        change(model)


def test_a_gradient_that_is_not_finite_is_named():
    model, data = small()

    def loss(outputs, targets):  # at 0 the root has no finite slope
        return cross_entropy(outputs, targets) + (0 * outputs).square().sum(1).sqrt().mean()

    lca = LossChangeAllocation(model, loss, data)
    with pytest.raises(TrainingError, match="step 1: the loss of train is finite, but its gradient is not"):
        lca.stepped()


def test_complex_parameters_are_refused():
    model, data = small()
    model.register_parameter("phase", nn.Parameter(torch.zeros(3, dtype=torch.complex64)))
    with pytest.raises(InvalidArgumentError, match="model: expected real parameters, got complex ones such as 'phase'"):
        LossChangeAllocation(model, cross_entropy, data)


def test_a_layer_that_thaws_is_named_at_the_end():
    model, data = small()
    model[0].requires_grad_(False)
    lca = LossChangeAllocation(model, cross_entropy, data)
    with lca.step(), torch.no_grad():
        model[0].weight.add_(0.1)
        model[2].weight.add_(0.1)
    with pytest.raises(TrainingError, match=r"'0.weight' was changed, which did not ask for a gradient"):
        lca.finish()


def test_parameters_that_are_not_finite_are_refused():
    model, data = small()
    model.register_parameter("spare", nn.Parameter(torch.full((2,), torch.nan)))
    with pytest.raises(InvalidArgumentError, match="model: expected finite parameters, got NaN or infinity in 'spare'"):
        LossChangeAllocation(model, cross_entropy, data)


def test_a_block_of_mixed_precision_changes_no_share():
    totals = []
    for mixed in (False, True):
        model, data = small()
        lca = LossChangeAllocation(model, cross_entropy, data)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
            cross_entropy(model(data[0]), data[1])  # weights are kept in bfloat16 by now
            with lca.step(), torch.no_grad():
                for parameter in model.parameters():
                    parameter.mul_(0.7)
        totals.append((lca.total(), lca.losses["train"]))
    assert totals[0] == totals[1]


def test_residuals_that_cancel_are_told():
    model, data = small()
    model[1] = nn.ReLU()
    with LossChangeAllocation(model, cross_entropy, data, rule="trapezoid") as lca:
        for sign in (1, -1) * 4:
            with lca.step(), torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(3.0 * sign)
        with pytest.warns(AllocationWarning, match="The shares miss"):
            lca.finish()
