import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from closedloop.errors import InvalidArgumentError, TrainingError
from closedloop.gradients.whole_set import WholeSet
from closedloop.networks.modules import born


def network():
    return born(lambda: nn.Linear(4, 3), 0).double()


def examples(n=23):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, 4, generator=generator, dtype=torch.float64), torch.arange(n) % 3


def gradient(whole, model):
    into = [torch.zeros_like(p) for p in model.parameters()]
    return whole.mean(whole.add_gradient(list(model.parameters()), into)), into


@pytest.mark.parametrize("chunk", [1, 7, 10, 23, 100])
def test_chunks_count_by_their_size_and_none_is_dropped(chunk):
    model, (inputs, targets) = network(), examples()
    loss, found = gradient(WholeSet("train", model, cross_entropy, inputs, targets, chunk), model)
    expected = cross_entropy(model(inputs), targets)
    assert loss == pytest.approx(expected.item(), rel=1e-12)
    for one, other in zip(found, torch.autograd.grad(expected, tuple(model.parameters())), strict=True):
        torch.testing.assert_close(one, other)


def test_inputs_may_be_several_or_named():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network()

        def forward(self, left, right):
            return self.inner(left + right)

    model, (inputs, targets) = Two(), examples()
    plain = gradient(WholeSet("train", model.inner, cross_entropy, inputs, targets, 10), model)[0]
    for parts in ((inputs / 2, inputs / 2), {"left": inputs / 4, "right": inputs * 0.75}):
        assert gradient(WholeSet("train", model, cross_entropy, parts, targets, 10), model)[0] == pytest.approx(plain)


def test_a_subset_is_the_loss_of_some_examples():
    model, (inputs, targets) = network(), examples()
    whole = WholeSet("train", model, cross_entropy, inputs, targets, 10)
    rows = [1, 5, 20]
    assert gradient(whole.subset(rows), model)[0] == pytest.approx(
        cross_entropy(model(inputs[rows]), targets[rows]).item()
    )
    assert whole.subset(rows).fingerprint != whole.fingerprint


def test_examples_that_are_changed_are_named():
    model, (inputs, targets) = network(), examples()
    whole = WholeSet("train", model, cross_entropy, inputs, targets, 10)
    whole.check_same_data(0)
    inputs[15] += 1  # in another chunk; torch counts the change
    with pytest.raises(TrainingError, match="train: examples 15 to 22 were changed"):
        whole.check_same_data()


def test_examples_that_numpy_changes_are_found_in_their_turn():
    model, (inputs, targets) = network(), examples()
    array = inputs.numpy()
    whole = WholeSet("train", model, cross_entropy, array, targets, 10)
    array[0] += 1
    whole.check_same_data(1)
    with pytest.raises(TrainingError, match="train: examples 0 to 6 were changed"):
        whole.check_same_data(3)


def test_a_random_loss_is_named():
    model, (inputs, targets) = network(), examples()
    generator = torch.Generator().manual_seed(0)

    def noisy(outputs, targets):
        return cross_entropy(outputs + 0.1 * torch.randn(outputs.shape, generator=generator), targets)

    whole = WholeSet("train", model, noisy, inputs, targets, 10)
    losses = whole.add_gradient(list(model.parameters()), [torch.zeros_like(p) for p in model.parameters()])
    with pytest.raises(TrainingError, match="something in the network or in loss_fn is random"):
        whole.check_same_point(0, losses)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x, y[:5], cross_entropy), r"same number of examples, got \[5, 23\]"),
        (lambda x, y: (x[:0], y[:0], cross_entropy), "expected inputs and targets of one example or more, got none"),
        (lambda x, y: ("words", y, cross_entropy), "inputs: expected a tensor, got str"),
        (lambda x, y: (x, y, lambda a, b: cross_entropy(a, b, reduction="none")), r"got shape \(7,\)"),
        (lambda x, y: (x, y, lambda a, b: a.detach().mean()), "that depends on the parameters"),
        (lambda x, y: (x[:, :2], y, cross_entropy), "examples 0 to 6 cannot be computed"),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    model = network()
    inputs, targets, loss = change(*examples())
    with pytest.raises(InvalidArgumentError, match=message):
        gradient(WholeSet("train", model, loss, inputs, targets, 10), model)
