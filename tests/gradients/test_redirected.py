"""Lucid's rule, written out slowly; every spelling of a ReLU; and nothing left behind."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from closedloop.gradients.redirected import InwardClamp, RedirectedReLU
from closedloop.subjects import load_subject

RELUS = {
    "nn.ReLU": nn.ReLU(),
    "nn.ReLU(inplace)": nn.ReLU(inplace=True),
    "F.relu": functional.relu,
    "F.relu(inplace)": lambda x: functional.relu(x, inplace=True),
    "F.relu(True)": lambda x: functional.relu(x, True),
    "F.relu_": functional.relu_,
    "torch.relu": torch.relu,
    "torch.relu_": torch.relu_,
    "relu": lambda x: x.relu(),
    "relu_": lambda x: x.relu_(),
    "clamp": lambda x: x.clamp(min=0),
    "clamp_": lambda x: x.clamp_(0),
    "clip": lambda x: torch.clip(x, 0, None),
    "clamp_min": lambda x: torch.clamp_min(x, min=0.0),
    "clamp_min_": lambda x: x.clamp_min_(0),
}
RELU6S = {
    "nn.ReLU6": nn.ReLU6(),
    "nn.ReLU6(inplace)": nn.ReLU6(inplace=True),
    "F.relu6": functional.relu6,
    "F.relu6(inplace)": lambda x: functional.relu6(x, inplace=True),
    "F.hardtanh": lambda x: functional.hardtanh(x, 0.0, 6.0),
    "F.hardtanh(inplace)": lambda x: functional.hardtanh(x, min_val=0, max_val=6, inplace=True),
    "F.hardtanh_": lambda x: functional.hardtanh_(x, 0, 6),
    "clamp(0, 6)": lambda x: x.clamp(0, 6),
    "clip_(0, 6)": lambda x: x.clip_(0, 6),
}
OTHERS = {
    "clamp(0, 1)": lambda x: x.clamp(0, 1),
    "clamp(-1)": lambda x: x.clamp(min=-1),
    "clamp(max)": lambda x: x.clamp(max=0),
    "clamp of tensors": lambda x: x.clamp(torch.zeros(()), torch.ones(())),
    "hardtanh": functional.hardtanh,
    "elu": functional.elu,
    "leaky": functional.leaky_relu,
    "gelu": functional.gelu,
}


def slow(x: np.ndarray, gradient: np.ndarray, high: float) -> np.ndarray:
    """Lucid's two functions for one example after the other; the gradient is that of a score to be raised."""
    result = np.zeros_like(x)
    for i in range(len(x)):
        ordinary = np.where((x[i] <= 0) | (x[i] >= high), 0, gradient[i])
        lower = (x[i] <= 0) & (gradient[i] < 0)
        higher = (x[i] >= high) & (gradient[i] > 0)
        redirected = np.where(lower | higher, 0, gradient[i])
        result[i] = ordinary if np.linalg.norm(ordinary) > 0 else redirected
    return result


def gradient_of(function, x: np.ndarray, weights: np.ndarray, **options) -> tuple[np.ndarray, np.ndarray]:
    """Values, and gradient of their weighted sum, with ReLUs redirected."""
    leaf = torch.tensor(x, requires_grad=True)
    with RedirectedReLU(**options):
        values = function(leaf * 1)
    (gradient,) = torch.autograd.grad((values * torch.tensor(weights)).sum(), leaf)
    return values.detach().numpy(), gradient.numpy()


def some(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pre-activations and gradients: examples that fire, that are silent, that are saturated, and a mixture."""
    rng = np.random.default_rng(seed)
    x = np.abs(rng.standard_normal((7, 2, 3))) + 0.1
    x[1] *= -1
    x[2] += 6
    x[3, :, 0] *= -1
    x[4, 0], x[4, 1] = -1.0, 7.0
    x[5] = 0
    weights = rng.standard_normal(x.shape)
    x[6, 0], weights[6, 1] = -1.0, 0.0  # what fires has no gradient
    return x, weights


@pytest.mark.parametrize("name", [*RELUS, *RELU6S])
def test_every_spelling_follows_lucids_rule(name):
    high = 6.0 if name in RELU6S else np.inf
    x, weights = some()
    values, gradient = gradient_of({**RELUS, **RELU6S}[name], x, weights)
    np.testing.assert_array_equal(values, np.clip(x, 0, high))
    np.testing.assert_array_equal(gradient, slow(x, weights, high))
    assert (gradient[1] == np.maximum(weights[1], 0)).all()
    assert gradient[1].any()


@given(seed=st.integers(0, 10**6), high=st.sampled_from([6.0, np.inf]), shape=st.sampled_from([(1,), (4,), (2, 3)]))
def test_the_rule_on_any_numbers(seed, high, shape):
    rng = np.random.default_rng(seed)
    x = 5 * rng.standard_normal((3, *shape)) + rng.choice([-8, 0, 8], (3, *[1] * len(shape)))
    weights = rng.choice([-1, 0, 1], x.shape) * rng.random(x.shape)
    function = functional.relu if high == np.inf else functional.relu6
    np.testing.assert_array_equal(gradient_of(function, x, weights)[1], slow(x, weights, high))
    descent = gradient_of(function, x, -weights, maximize=False)[1]
    np.testing.assert_array_equal(descent, -slow(x, weights, high))


@pytest.mark.parametrize("name", OTHERS)
def test_other_functions_are_left_alone(name):
    x, weights = some()
    leaf = torch.tensor(x, requires_grad=True)
    (expected,) = torch.autograd.grad((OTHERS[name](leaf * 1) * torch.tensor(weights)).sum(), leaf)
    np.testing.assert_array_equal(gradient_of(OTHERS[name], x, weights)[1], expected)


def test_examples_do_not_depend_on_each_other():
    x, weights = some()
    whole = gradient_of(functional.relu6, x, weights)[1]
    for i in range(len(x)):
        np.testing.assert_array_equal(
            gradient_of(functional.relu6, x[i : i + 1], weights[i : i + 1])[1], whole[i : i + 1]
        )


def test_an_in_place_relu_changes_its_argument():
    with RedirectedReLU():
        x = torch.tensor([[-1.0, 2.0]], requires_grad=True) * 1
        functional.relu(x, inplace=True)
        assert x.tolist() == [[0.0, 2.0]]
        assert x.grad_fn is not None
        (y := x.sum()).backward()
    assert y.item() == 2


def net() -> nn.Sequential:
    """Two layers that are silent for an input of zeros."""
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 2), nn.ReLU6())
    with torch.no_grad():
        for i, parameter in enumerate(model.parameters()):
            parameter.copy_(torch.from_numpy(np.random.default_rng(i).uniform(0.1, 1, parameter.shape)))
        model[0].bias.fill_(-1)
        model[2].bias.fill_(-1)
    return model


def test_an_ascent_from_silence_begins_and_arrives():
    model = net()
    x = torch.zeros(1, 3, requires_grad=True)
    assert not torch.autograd.grad(model(x)[:, 0].sum(), x)[0].any()
    for step in range(60):
        with RedirectedReLU():
            score = model(x)[:, 0].sum()
        (gradient,) = torch.autograd.grad(score, x)
        assert step > 0 or gradient.all()
        x = (x + 0.1 * gradient / gradient.norm().clamp_min(1e-9)).detach().requires_grad_()
    assert score.item() > 1


class Interrupting(nn.Module):
    """What happens when somebody presses Ctrl-C."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise KeyboardInterrupt("enough")


def test_nothing_is_left_behind():
    model = net()
    hooks = [len(m._forward_hooks) + len(m._backward_hooks) for m in model.modules()]
    before = {k: v.clone() for k, v in model.state_dict().items()}
    x = torch.zeros(2, 3, requires_grad=True)

    def ordinary() -> torch.Tensor:
        return torch.autograd.grad(model(x).sum(), x)[0]

    assert not ordinary().any()
    with RedirectedReLU():
        assert ordinary().any()
    assert not ordinary().any()
    model.append(Interrupting())
    with pytest.raises(KeyboardInterrupt, match="enough"), RedirectedReLU():
        model(x)
    model.pop(4)
    assert not ordinary().any()
    assert torch.overrides._get_current_function_mode_stack() == []
    assert [len(m._forward_hooks) + len(m._backward_hooks) for m in model.modules()] == hooks
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_the_backward_pass_may_come_later_and_blocks_may_be_nested():
    model, x = net(), torch.zeros(2, 3, requires_grad=True)
    mode = RedirectedReLU()
    with mode:
        inside = torch.autograd.grad(model(x).sum(), x)[0]
        with RedirectedReLU():
            score = model(x).sum()
    assert torch.equal(torch.autograd.grad(score, x)[0], inside)
    with mode:
        assert torch.equal(torch.autograd.grad(model(x).sum(), x)[0], inside)


def test_without_a_gradient_nothing_is_recorded():
    with RedirectedReLU(), torch.no_grad():
        assert functional.relu(torch.ones(2, 2, requires_grad=True)).grad_fn is None
    with RedirectedReLU():
        assert functional.relu(torch.tensor(-1.0, requires_grad=True)).item() == 0
        empty = functional.relu(torch.zeros(0, 3, requires_grad=True) * 1)
        empty.sum().backward()


def test_on_a_network_with_relu6():
    """A unit of lite0 that is silent for grey: no gradient; redirected, it fires within Lucid's 16 steps."""
    subject = load_subject("lite0", layer="blocks.3.1.bn1", units=[23], engine="eager")
    assert any(isinstance(m, nn.ReLU6) for m in subject.model.modules())
    grey = np.full((1, 3, 224, 224), 0.5, np.float32)
    assert subject.record(grey) == 0

    def gradient(x: torch.Tensor) -> torch.Tensor:
        x = x.clone().requires_grad_()
        return torch.autograd.grad(subject.forward(x).sum(), x)[0]

    x = torch.from_numpy(grey.copy())
    assert not gradient(x).any()
    for _ in range(16):
        with RedirectedReLU():
            upward = gradient(x)
        assert upward.any()
        x = (x + 0.02 * upward / upward.abs().mean()).clamp(0, 1)
    assert subject.record(x.numpy()) > 0.5
    assert not gradient(torch.from_numpy(grey)).any()
    assert subject.record(grey) == 0
    assert all(p.grad is None for p in subject.model.parameters())
    assert all(not m._forward_hooks and not m._backward_hooks for m in subject.model.modules())


def inward(x: list[float], gradient: list[float]) -> list[float]:
    """Gradient that reaches values which were cut to [0, 1], for a gradient behind the cut."""
    values = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    with InwardClamp():
        cut = values.clamp(0, 1)
    (back,) = torch.autograd.grad(cut, values, torch.tensor(gradient, dtype=torch.float64))
    return back.tolist()


def test_what_is_black_or_white_may_come_back_but_not_go_further():
    x = [-0.5, -0.5, 1.5, 1.5, 0.3, 0.3, 0.0, 1.0]
    assert inward(x, [2.0, -2.0, 2.0, -2.0, 2.0, -2.0, -2.0, 2.0]) == [2.0, 0.0, 0.0, -2.0, 2.0, -2.0, -2.0, 2.0]


def test_values_are_those_of_clamp_and_other_ranges_are_left_alone():
    x = torch.linspace(-2, 8, 41, dtype=torch.float64, requires_grad=True)
    for low, high in ((0, 1), (0, 6), (-1, 1)):
        with InwardClamp():
            inside = x.clamp(low, high)
        assert torch.equal(inside, x.detach().clamp(low, high))
        (back,) = torch.autograd.grad(inside.sum(), x)
        plain = ((x >= low) & (x <= high)).double()
        assert torch.equal(back, plain) == ((low, high) != (0, 1))


def test_clamps_are_ordinary_again_after_an_error():
    with pytest.raises(RuntimeError, match="on purpose"), InwardClamp():
        raise RuntimeError("on purpose")
    x = torch.tensor([-1.0], requires_grad=True)
    assert torch.autograd.grad(x.clamp(0, 1), x)[0].item() == 0
