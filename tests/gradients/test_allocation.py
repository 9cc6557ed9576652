"""Sum checks: the shares of all parameters add up to the change of the loss."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from closedloop.errors import TrainingError
from closedloop.gradients.allocation import Allocator
from closedloop.gradients.whole_set import WholeSet
from closedloop.networks.modules import born
from closedloop.recording.states import pack_state, unpack_state


def examples(n=203, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(n, 12, generator=generator, dtype=dtype)
    return inputs, (inputs[:, :3] + 0.3 * inputs[:, 3:6] ** 2).argmax(1)


def mlp(activation=nn.Tanh, dtype=torch.float64):
    return born(lambda: nn.Sequential(nn.Linear(12, 20), activation(), nn.Linear(20, 3)), 0).to(dtype)


def conv():
    layers = (nn.Unflatten(1, (1, 3, 4)), nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(),
              nn.Linear(72, 3))  # fmt: skip
    return born(lambda: nn.Sequential(*layers), 0)


def trained(model, rule="simpson", steps=40, lr=0.05, momentum=0.9, loss=cross_entropy, data=None, **options):
    """All accounts of a training, with the loss before and after it."""
    inputs, targets = examples(dtype=next(model.parameters()).dtype) if data is None else data
    whole = WholeSet("train", model, loss, inputs, targets, 64)  # four chunks of 50 or 51
    allocator = Allocator(model, {"train": whole}, rule, **options)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr, momentum=momentum)
    start, accounts = allocator.losses["train"], []
    for i in range(steps):
        rows = torch.arange(32) + 17 * i
        optimizer.zero_grad()
        loss(model(inputs[rows % len(inputs)]), targets[rows % len(inputs)]).backward()
        optimizer.step()
        accounts.append(allocator.advance())
    return [one["train"] for one, _ in accounts], start, [n for _, n in accounts], allocator


def missed(accounts, start):
    """What is missed of the loss's change, relative to it."""
    change = accounts[-1].after - start
    return abs(sum(a.total + a.drift for a in accounts) - change) / abs(change)


@pytest.mark.parametrize("rule", ["trapezoid", "simpson"])
def test_a_quadratic_loss_is_shared_out_exactly(rule):
    inputs, _ = examples()
    data = inputs, inputs[:, :2] * 2
    accounts, *_ = trained(born(lambda: nn.Linear(12, 2), 0).double(), rule, steps=10, loss=mse_loss, data=data)
    assert max(abs(a.residual) for a in accounts) < 1e-12


def test_a_tanh_network_in_float64_misses_less_than_a_millionth():
    accounts, start, *_ = trained(mlp())
    assert missed(accounts, start) < 1e-6
    shorter, start, *_ = trained(mlp(), "first-order", steps=10)
    assert missed(shorter, start) > 1e-2


@pytest.mark.parametrize("make", [lambda: mlp(nn.ReLU), conv])
def test_networks_with_kinks_and_batch_norm_miss_less_than_a_thousandth(make):
    accounts, start, *_ = trained(make())
    assert missed(accounts, start) < 1e-3


def test_the_adaptive_rule_meets_its_tolerance_or_its_end():
    accounts, _, splits, _ = trained(mlp(nn.ReLU), "adaptive-simpson", steps=8, lr=0.2, tolerance=3e-6)
    assert set(splits) > {2}
    assert all(abs(a.residual) <= 3e-6 or n == 32 for a, n in zip(accounts, splits, strict=True))


def test_the_adaptive_rule_is_composite_simpson():
    """With a tolerance that nothing meets its shares are those of 32 intervals, computed here from their weights."""
    model, (inputs, targets) = mlp(), examples()
    allocator = Allocator(model, {"train": WholeSet("train", model, cross_entropy, inputs, targets, 500)},
                          "adaptive-simpson", tolerance=1e-30)  # fmt: skip
    before = [p.detach().clone() for p in model.parameters()]
    after = [b + 0.3 * torch.randn(b.shape, generator=torch.Generator().manual_seed(1)) for b in before]
    expected = [torch.zeros_like(b) for b in before]
    weights = np.array([1, *[4, 2] * 15, 4, 1]) / 96
    for j, weight in enumerate(weights):
        for p, b, a in zip(model.parameters(), before, after, strict=True):
            p.data = b + j / 32 * (a - b)
        found = torch.autograd.grad(cross_entropy(model(inputs), targets), tuple(model.parameters()))
        for total, gradient in zip(expected, found, strict=True):
            total += weight * gradient
    accounts, splits = allocator.advance()
    assert splits == 32
    columns = [(k * (a - b)).reshape(len(k), -1).sum(1) for k, a, b in zip(expected, after, before, strict=True)]
    np.testing.assert_allclose(accounts["train"].columns, torch.cat(columns).numpy(), rtol=1e-9, atol=1e-15)
    total, helped, hurt = allocator.totals("train")
    shares = torch.cat([(k * (a - b)).reshape(-1) for k, a, b in zip(expected, after, before, strict=True)])
    np.testing.assert_allclose(total, shares, atol=1e-14)
    np.testing.assert_array_equal(helped, total < 0)
    np.testing.assert_array_equal(hurt, total > 0)


def test_frozen_parameters_are_absent_and_the_others_still_add_up():
    model = mlp()
    model[0].requires_grad_(False)
    accounts, start, _, allocator = trained(model)
    assert [t.layer for t in allocator.tensors] == ["2", "2"]
    assert missed(accounts, start) < 1e-6


def test_parameters_that_are_frozen_on_the_way_come_to_nothing_from_then_on():
    model, (inputs, targets) = mlp(), examples()
    allocator = Allocator(model, {"train": WholeSet("train", model, cross_entropy, inputs, targets, 500)})
    model[0].requires_grad_(False)
    model[2].weight.data += 0.1
    account = allocator.advance()[0]["train"]
    assert (account.columns[:40] == 0).all()
    assert abs(account.residual) < 1e-4
    assert not model[0].weight.requires_grad
    assert (account.helped + account.hurt).tolist() == [0, 0, 60, 0]


def test_the_network_is_left_as_it_was_found():
    model = conv().train()
    model[4] = nn.Sequential(nn.Dropout(0.5), nn.Flatten())
    model(torch.randn(20, 12, generator=torch.Generator().manual_seed(0))).sum().backward()
    inputs, targets = examples(dtype=torch.float32)
    held = {n: t.clone() for n, t in [*model.state_dict().items()]}
    gradients, random = [p.grad.clone() for p in model.parameters()], torch.get_rng_state()
    modes = [m.training for m in model.modules()]
    allocator = Allocator(model, {"train": WholeSet("train", model, cross_entropy, inputs, targets, 100)})
    allocator.advance()
    assert all(torch.equal(t, held[n]) for n, t in model.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
    assert torch.equal(torch.get_rng_state(), random)
    assert [m.training for m in model.modules()] == modes
    assert all(p.requires_grad for p in model.parameters())


def test_running_statistics_that_move_are_a_line_of_their_own():
    accounts, start, *_ = trained(conv(), steps=12, batch_norm="frozen", lr=0.02)
    drift = sum(a.drift for a in accounts)
    assert abs(drift) > 1e-3
    assert missed(accounts, start) < 1e-2
    assert accounts[0].before == pytest.approx(start + accounts[0].drift)


def test_several_losses_are_shared_out_side_by_side():
    model, (inputs, targets) = mlp(), examples()
    sets = {"train": WholeSet("train", model, cross_entropy, inputs, targets, 64),
            "validation": WholeSet("validation", model, cross_entropy, *examples(60, seed=1), 64)}  # fmt: skip
    allocator = Allocator(model, sets)
    before = allocator.losses
    model[0].weight.data += 0.05
    accounts, _ = allocator.advance()
    for name, account in accounts.items():
        assert account.before == before[name]
        assert account.total == pytest.approx(account.after - account.before, rel=1e-4)
    assert accounts["train"].total != accounts["validation"].total


def test_a_loss_that_is_not_finite_ends_it():
    model, (inputs, targets) = mlp(), examples()
    allocator = Allocator(model, {"train": WholeSet("train", model, cross_entropy, inputs, targets, 64)})
    model[0].weight.data[0, 0] = torch.nan
    with pytest.raises(TrainingError, match="step 1: the loss of train is nan"):
        allocator.advance()


def test_it_goes_on_from_a_saved_state_bit_by_bit():
    def step(model, allocator, i):
        model[2].weight.data[:, i] += 0.1
        return allocator.advance()[0]["train"]

    def made(model):
        return Allocator(model, {"train": WholeSet("train", model, cross_entropy, *examples(), 64)})

    model = mlp()
    allocator = made(model)
    step(model, allocator, 0)
    saved = unpack_state(pack_state(allocator.state()))
    expected = [step(model, allocator, i) for i in (1, 2)]
    again = mlp()
    other = made(again)
    other.restore(saved)
    for i, account in zip((1, 2), expected, strict=True):
        np.testing.assert_array_equal(step(again, other, i).columns, account.columns)
    assert other.steps == 3
    np.testing.assert_array_equal(other.totals("train")[0], allocator.totals("train")[0])
