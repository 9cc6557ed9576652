"""A step that failed: nothing that it left half done is committed, and what broke a training is named at its end."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from closedloop.errors import AllocationWarning, CallOrderError, InvalidArgumentError, TrainingError
from closedloop.networks.modules import born
from closedloop.protocols import LossChangeAllocation
from closedloop.recording.reader import open_recording


def examples(n=60):
    inputs = torch.randn(n, 5, generator=torch.Generator().manual_seed(1))
    return inputs, inputs[:, :3].argmax(1)


class Loop:
    """A training loop of somebody, with momentum; commits come after ten steps."""

    def __init__(self, save=None, exists="fail", data=None, loss=cross_entropy, **options):
        self.model = born(lambda: nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)), 0)
        self.data = examples() if data is None else data
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        self.lca = LossChangeAllocation(
            self.model, loss, self.data, optimizer=self.optimizer, save=save, exists=exists, **options
        )

    def learn(self):
        self.optimizer.zero_grad()
        cross_entropy(self.model(torch.as_tensor(self.data[0])), self.data[1]).backward()

    def run(self, steps):
        for _ in range(self.lca.steps_done, steps):
            self.learn()
            with self.lca.step():
                self.optimizer.step()
        return self


def interrupted(loop):
    def stop():
        loop.optimizer.step()
        raise KeyboardInterrupt("stop")

    with pytest.raises(KeyboardInterrupt, match="stop"), loop.lca.step():
        stop()


def diverged(loop):
    def diverge():
        loop.optimizer.step()
        loop.model[0].weight.data[0, 0] = torch.nan

    with pytest.raises(TrainingError, match="step 8: the loss of train is nan"), loop.lca.step():
        diverge()


@pytest.mark.parametrize("fail", [interrupted, diverged])
@pytest.mark.parametrize("end", ["close", "dataset", "commit"])
def test_a_step_that_failed_is_taken_again(tmp_path, fail, end):
    expected = Loop().run(12)
    loop = Loop(tmp_path / "run", every=5).run(7)
    loop.learn()
    fail(loop)
    getattr(loop.lca, end)()
    loop.lca.close()
    again = Loop(tmp_path / "run", "resume", every=5)
    assert again.lca.steps_done == 5  # what was committed before
    again.run(12)
    assert again.lca.total() == expected.lca.total()
    assert torch.equal(again.model[0].weight, expected.model[0].weight)


def test_an_error_before_anything_moved_does_not_hinder_later_commits(tmp_path):
    loop = Loop(tmp_path / "run", every=5).run(3)
    with pytest.raises(ZeroDivisionError, match="division"), loop.lca.step():
        1 / 0  # noqa: B018
    loop.run(5).lca.close()
    assert open_recording(tmp_path / "run").sizes["presentation"] == 5


@pytest.mark.parametrize("folder", [True, False])
def test_what_came_before_a_failure_can_be_finished(tmp_path, folder):
    loop = Loop(tmp_path / "run" if folder else None).run(7)
    total = loop.lca.total()
    diverged(loop)
    with pytest.raises(CallOrderError, match="step: the last one failed"), loop.lca.step():
        pass
    with pytest.raises(CallOrderError, match="step: the last one failed"):
        loop.lca.stepped()
    found = loop.lca.finish()
    assert found.sizes["step"] == 7
    assert float(found.change.sum()) == pytest.approx(loop.lca.total())
    assert loop.lca.total() == total


def test_no_share_is_booked_of_a_gradient_that_is_not_finite():
    loop = Loop(loss=lambda o, t: cross_entropy(o, t) + (0 * o).square().sum(1).sqrt().mean())
    with pytest.raises(TrainingError, match="its gradient is not"):
        loop.lca.stepped()
    assert loop.lca.total() == 0


def test_steps_keep_their_numbers_where_a_look_finds_something():
    loop = Loop(check=3)
    loop.model.register_parameter("spare", nn.Parameter(torch.zeros(2), requires_grad=False))
    lca = LossChangeAllocation(loop.model, cross_entropy, loop.data, check=3)
    for i in range(3):
        lca.stepped() if i < 2 else loop.model.spare.data.add_(1)
    with pytest.raises(TrainingError, match="'spare' was changed"):
        lca.stepped()
    assert lca.dataset().step.values.tolist() == [0, 1, 2]


def test_a_block_within_a_block_is_refused():
    loop = Loop().run(1)
    with pytest.raises(CallOrderError, match="step: another block of it is open"), loop.lca.step():
        with loop.lca.step():
            pass
    assert loop.lca.steps_done == 1


def test_a_parameter_that_becomes_nan_is_named_though_the_loss_does_not_see_it():
    loop = Loop()
    loop.model.spare = nn.Parameter(torch.zeros(2))
    lca = LossChangeAllocation(loop.model, cross_entropy, loop.data)
    with pytest.raises(TrainingError, match="step 1: 'spare' became NaN or infinite"), lca.step():
        loop.model.spare.data[0] = torch.nan


@pytest.mark.parametrize("call", ["step", "stepped"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.double(), r"'0.weight' was float32 \(8, 5\) on cpu, and is float64 \(8, 5\) on cpu"),
        (lambda m: setattr(m[0].weight, "data", torch.zeros(9, 5)), r"and is float32 \(9, 5\) on cpu"),
    ],
)
def test_a_parameter_of_another_form_is_named(change, message, call):
    loop = Loop()
    change(loop.model)
    with pytest.raises(TrainingError, match=message):
        loop.lca.stepped() if call == "stepped" else loop.lca.step().__enter__()


@pytest.mark.filterwarnings("ignore::closedloop.errors.AllocationWarning")
@pytest.mark.parametrize("form", ["numpy", "data"])
def test_data_that_torch_does_not_watch_are_looked_at_in_the_end(form):
    inputs, targets = examples()
    held = inputs.numpy() if form == "numpy" else inputs.data
    loop = Loop(data=(held, targets), chunk=7).run(10)
    if form == "numpy":
        held *= 1.3
    else:
        held.data.mul_(1.3)
    loop.run(20)
    with pytest.raises(TrainingError, match="train: examples 0 to 5 were changed since the beginning"):
        loop.lca.finish()


@pytest.mark.filterwarnings("ignore::closedloop.errors.AllocationWarning")
def test_a_loss_that_becomes_random_is_named_in_the_end():
    rng, late = np.random.default_rng(0), []
    loop = Loop(loss=lambda o, t: cross_entropy(o, t) * (1 + (0.1 * rng.random() if late else 0))).run(3)
    late.append(True)
    loop.run(6)
    with pytest.raises(TrainingError, match="something in the network or in loss_fn is random"):
        loop.lca.finish()


def test_a_run_that_cannot_be_finished_is_given_back(tmp_path):
    loop = Loop(tmp_path / "run")
    loop.model.register_parameter("spare", nn.Parameter(torch.zeros(2), requires_grad=False))
    lca = LossChangeAllocation(loop.model, cross_entropy, loop.data, save=tmp_path / "other")
    lca.stepped()
    loop.model.spare.data.add_(1)
    with pytest.raises(TrainingError, match="'spare' was changed"), lca:
        pass
    loop.model.spare.data.zero_()
    again = LossChangeAllocation(loop.model, cross_entropy, loop.data, save=tmp_path / "other", exists="resume")
    assert again.steps_done == 1


def test_weights_that_are_exchanged_before_the_end_are_nobodys_fault():
    loop = Loop().run(3)
    loop.model[0].weight.data.zero_()  # such as the best ones so far
    assert loop.lca.finish().sizes["step"] == 3


def test_a_loss_that_changes_from_step_to_step_is_among_what_a_warning_names():
    scale = [1.0]
    loop = Loop(loss=lambda o, t: scale[0] * cross_entropy(o, t))
    for i in range(1, 9):
        scale[0] += 0.1
        loop.run(i)
    with pytest.warns(AllocationWarning, match="or loss_fn is another function"):
        loop.lca.finish()


def test_examples_whose_loss_is_no_number_are_not_blamed_on_training():
    inputs, targets = examples()
    inputs[3] = torch.nan
    with pytest.raises(TrainingError, match="before the first step: the loss of train is nan; look at the examples"):
        Loop(data=(inputs, targets))


def test_no_examples_are_called_none():
    with pytest.raises(InvalidArgumentError, match="train: expected inputs and targets of one example or more"):
        Loop(data=tuple(t[:0] for t in examples()))


def test_a_loader_is_no_set_and_the_cure_is_said():
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*examples()))
    with pytest.raises(InvalidArgumentError, match=r"data: expected \(inputs, targets\), tensors .* got DataLoader"):
        Loop(data=loader)
