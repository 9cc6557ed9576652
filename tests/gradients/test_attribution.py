"""Attributions: hand-computed rules, captum as the reference where it applies, refusals, and no trace left."""

from __future__ import annotations

import sys

import captum.attr
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from closedloop import Unit
from closedloop.errors import InvalidArgumentError, MissingExtraError
from closedloop.gradients.attribution import (
    FILTERS,
    METHODS,
    RULES,
    AttributionWarning,
    attribute,
    attribution_pictures,
    graph_nodes,
)
from closedloop.networks.modules import born
from closedloop.subjects import EnergySubject, FunctionSubject, TorchSubject
from closedloop.testing.common import untouched_randomness

SIZE = 8


def images(n=3, size=SIZE, seed=0):
    return np.random.default_rng(seed).random((n, 3, size, size), dtype=np.float32)


def subject(model, **options):
    plain = {"resolution": SIZE, "mean": (0.0,) * 3, "std": (1.0,) * 3, "engine": "eager"}
    return TorchSubject(model, **(plain | options))


def network(activation=nn.ReLU):
    """Two convolutions and a readout of four units, with an activation after each convolution."""

    def make():
        return nn.Sequential(
            nn.Conv2d(3, 6, 3), activation(), nn.Conv2d(6, 5, 3), activation(), nn.Flatten(), nn.Linear(80, 4)
        )

    return born(make, 1)


class Functional(nn.Module):
    """Two linear maps with a function between and after them."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.first, self.last = born(lambda: nn.Linear(3 * SIZE**2, 7), 1), born(lambda: nn.Linear(7, 2), 2)

    def forward(self, x):
        return self.last(self.function(self.first(x.flatten(1))))


@pytest.mark.parametrize("name", ["Saliency", "Deconvolution", "GuidedBackprop"])
@pytest.mark.filterwarnings("ignore:Setting backward hooks", "ignore:Input Tensor 0 did not already")
def test_captum_is_matched_where_all_rectifiers_are_relu_modules(name):
    method = {"Saliency": "gradient", "Deconvolution": "deconvnet", "GuidedBackprop": "guided-backprop"}[name]
    model = network()
    options = {"abs": False} if name == "Saliency" else {}
    wanted = getattr(captum.attr, name)(model).attribute(torch.tensor(images()), target=2, **options)
    found = attribute(subject(model), images(), 2, method)
    assert found.dims == ("image", "color", "y", "x")
    np.testing.assert_allclose(found, wanted.detach().numpy(), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(found["score"], subject(model).record(images())[:, 2], rtol=1e-5)


def test_the_three_rules_on_a_hand_made_net():
    """Hidden inputs -1, 2, 3 with readout weights 5, -7, 11."""
    model = Functional(torch.relu)
    model.first, model.last = nn.Linear(192, 3), nn.Linear(3, 1, bias=False)
    with torch.no_grad():
        model.first.weight.zero_()
        model.first.weight[[0, 1, 2], [0, 1, 2]] = 1
        model.first.bias.copy_(torch.tensor([-1.5, 1.5, 2.5]))
        model.last.weight.copy_(torch.tensor([[5.0, -7.0, 11.0]]))
    shown = np.full((1, 3, SIZE, SIZE), 0.5, np.float32)
    wanted = {"gradient": [0, -7, 11], "deconvnet": [5, 0, 11], "guided-backprop": [0, 0, 11]}
    for method, values in wanted.items():
        found = attribute(subject(model), shown, method=method)
        np.testing.assert_allclose(found.values[0].ravel()[:3], values)
        assert not found.values[0].ravel()[3:].any()


def test_the_rules_coincide_without_rectifiers():
    model = network(nn.Identity)
    found = [attribute(subject(model), images(), "unit(1) - unit(0)", m).values for m in METHODS[:3]]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def relu6_by_hand(x):
    return torch.clamp(x, 0, 6)


@pytest.mark.parametrize(
    "function",
    [
        functional.relu, torch.relu, torch.Tensor.relu, nn.ReLU(inplace=True), lambda x: (x * 1).relu_(),
        nn.Threshold(0.0, 0.0),
        lambda x: x.clamp(min=0), lambda x: torch.clamp_min(x, 0), lambda x: x.clip(min=torch.zeros(())),
    ],
    ids=["relu", "torch", "method", "inplace", "relu_", "threshold", "clamp", "clamp_min", "tensor"],
)  # fmt: skip
@pytest.mark.parametrize("method", RULES)
def test_a_rectifier_is_found_however_it_is_called(function, method):
    wanted = attribute(subject(Functional(nn.ReLU())), images(), 1, method)
    np.testing.assert_array_equal(attribute(subject(Functional(function)), images(), 1, method), wanted)
    assert not np.allclose(wanted, attribute(subject(Functional(function)), images(), 1, "gradient"))


@pytest.mark.parametrize("function", [nn.ReLU6(), functional.relu6, nn.ReLU6(inplace=True), relu6_by_hand])
def test_relu6_passes_nothing_where_it_is_full(function):
    model = Functional(function)
    with torch.no_grad():
        model.first.bias.copy_(torch.linspace(-4, 12, 7))
    hidden = model.first(torch.tensor(images()).flatten(1))
    assert (hidden > 6).any()
    assert (hidden < 0).any()
    down = model.last.weight[1]
    passed = {"gradient": (hidden > 0) * (hidden < 6) * down, "deconvnet": down.clamp(min=0).expand_as(hidden),
              "guided-backprop": (hidden > 0) * (hidden < 6) * down.clamp(min=0)}  # fmt: skip
    for method, gradient in passed.items():
        wanted = (gradient @ model.first.weight).reshape(-1, 3, SIZE, SIZE)
        np.testing.assert_allclose(
            attribute(subject(model), images(), 1, method), wanted.detach(), rtol=1e-4, atol=1e-5
        )


class Custom(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, g):
        return g


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (functional.silu, "SiLU"), (lambda x: x * torch.sigmoid(x), "SiLU"),
        (lambda x: torch.sigmoid(1.702 * x) * x, "SiLU"),
        (functional.gelu, "GELU"), (functional.elu, "ELU"), (functional.leaky_relu, "LeakyReLU"), (nn.PReLU(), "PReLU"),
        (functional.hardswish, "Hardswish"),
        (functional.mish, "Mish"), (functional.softplus, "Softplus"), (lambda x: torch.maximum(x, 0 * x), "maximum"),
        (lambda x: torch.where(x > 0, x, 0 * x), "where"), (Custom.apply, "a gradient of its own"),
        (nn.Threshold(0.1, 0.0), "Threshold at another value"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", RULES)
def test_other_activations_are_refused_by_name(function, name, method):
    with pytest.raises(InvalidArgumentError, match=f"this network has .*{name}.*; use 'gradient'"):
        attribute(subject(Functional(function)), images(1), 0, method)
    attribute(subject(Functional(function)), images(1), 0, "gradient")


def test_gates_are_no_rectifiers():
    gated = Functional(lambda x: torch.relu(x) * torch.sigmoid(x.mean(1, keepdim=True)))
    assert attribute(subject(gated), images(1), 0, "guided-backprop").values.any()


def test_integrated_gradients_are_complete():
    who = subject(network())
    few, many = (attribute(who, images(), 3, "integrated-gradients", steps=n) for n in (4, 256))
    for found in (few, many):
        rise = found["score"] - found["baseline_score"]
        np.testing.assert_allclose(found.sum(("color", "y", "x")) - rise, found["completeness_error"], atol=1e-5)
    assert np.abs(many["completeness_error"]).max() < 1e-3
    grey = who.record(np.full((1, 3, SIZE, SIZE), 0.5, np.float32))[0, 3]
    np.testing.assert_allclose(many["baseline_score"], grey, rtol=1e-5)


def test_integrated_gradients_of_a_linear_unit_are_weight_times_change():
    who = subject(born(lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), 0))
    shown, start = images(2), images(1, seed=5)[0]
    gradient = attribute(who, shown, 0, "gradient")
    found = attribute(who, shown, 0, "integrated-gradients", baseline=start, steps=2)
    np.testing.assert_allclose(found, gradient.values * (shown - start), rtol=1e-4, atol=1e-6)


def test_subjects_that_are_no_networks():
    who = EnergySubject(resolution=16, count=1, seed=1)
    shown = images(2, 16)
    found = attribute(who, shown)
    step = 1e-2 * found.values / np.abs(found.values).max()
    rise = who.record(np.clip(shown + step, 0, 1)) - who.record(np.clip(shown - step, 0, 1))
    assert (rise > 0).all()


def test_the_seed_may_be_the_activation():
    who = subject(network())
    for method in METHODS[:3]:
        one, scaled = (attribute(who, images(), -1 * Unit(0), method, seed=s) for s in ("one", "activation"))
        if method == "gradient":
            np.testing.assert_allclose(scaled, one * one["score"], rtol=1e-4, atol=1e-7)
        positive = one["score"].values > 0
        np.testing.assert_allclose(scaled[positive], (one * one["score"])[positive], rtol=1e-4, atol=1e-6)
    with pytest.raises(InvalidArgumentError, match="seed: expected 'one' for integrated gradients"):
        attribute(who, images(), 0, "integrated-gradients", seed="activation")


@pytest.mark.parametrize("method", METHODS)
def test_an_image_does_not_depend_on_its_neighbours_or_its_size(method):
    who = subject(network())
    shown = images(5, 12)
    together, alone = attribute(who, shown, 1, method, chunk=2), attribute(who, shown[3:4], 1, method)
    assert together.shape == (5, 3, 12, 12)
    np.testing.assert_allclose(together[3], alone[0], rtol=1e-4, atol=1e-6)
    assert attribute(who, shown[:0], 1, method).shape == (0, 3, 12, 12)


class Failing(nn.Module):
    """Fails in the backward pass."""

    def __init__(self):
        super().__init__()
        self.inner = network()

    def forward(self, x):
        y = self.inner(x)
        if y.requires_grad:
            y.register_hook(self.fail)
        return y

    def fail(self, gradient):
        raise KeyboardInterrupt("stop")


def traces(model):
    """All that an attribution might leave behind."""
    modules = list(model.modules())
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in modules]
    weights = [(p.requires_grad, p.grad is None, p.detach().clone()) for p in model.parameters()]
    return hooks, [m.training for m in modules], [w[:2] for w in weights], [w[2].tolist() for w in weights]


@pytest.mark.parametrize("method", METHODS)
def test_the_subject_is_left_as_it_was_found(method):
    for model in (network(), Failing()):
        model.train()
        next(model.parameters()).requires_grad_(False)
        before, shown = traces(model), images(1)
        who = subject(model)
        with untouched_randomness():
            if isinstance(model, Failing):
                with pytest.raises(KeyboardInterrupt, match="stop"):
                    attribute(who, shown, 0, method)
            else:
                attribute(who, shown, 0, method)
        assert traces(model) == before
        np.testing.assert_array_equal(shown, images(1))
        plain = torch.tensor(images(1)).requires_grad_()
        if not isinstance(model, Failing):  # the rule was that pass's own
            (gradient,) = torch.autograd.grad(who.forward(plain)[:, 0].sum(), plain)
            np.testing.assert_allclose(gradient, attribute(who, shown, 0, "gradient"), rtol=1e-5, atol=1e-7)


def test_a_random_network_goes_on_as_if_nothing_had_been_asked():
    model = nn.Sequential(nn.Flatten(), Noisy(), nn.Linear(192, 2))
    one, other = subject(model, seed=3), subject(model, seed=3)
    attribute(one, images(), 0)
    np.testing.assert_array_equal(one.record(images()), other.record(images()))


class Noisy(nn.Module):
    def forward(self, x):
        return x + 0.1 * torch.randn_like(x)


def test_a_silent_unit_is_named():
    model = Functional(torch.relu)
    with torch.no_grad():
        model.first.bias.fill_(-100)
    with pytest.warns(AttributionWarning, match=r"images \[0, 1\]: the attribution is zero everywhere"):
        found = attribute(subject(model), images(2), 0, "guided-backprop")
    assert set(found["reason"].values) == {"no path from the score to a pixel follows the rule"}
    assert (attribution_pictures(found, "raw") == 0.5).all()


def test_bad_arguments():
    who = subject(network())
    with pytest.raises(InvalidArgumentError, match=r"method: no method 'guided'\. Did you mean 'guided-backprop'"):
        attribute(who, images(), 0, "guided")
    with pytest.raises(InvalidArgumentError, match="seed: no seed 'two'"):
        attribute(who, images(), 0, seed="two")
    with pytest.raises(InvalidArgumentError, match=r"baseline: expected a grey level in \[0, 1\] or an image"):
        attribute(who, images(), 0, "integrated-gradients", baseline=2)
    with pytest.raises(InvalidArgumentError, match="steps: expected a whole number of at least 1, got 0"):
        attribute(who, images(), 0, steps=0)
    with pytest.raises(InvalidArgumentError, match=r"images: expected RGB in \[0, 1\]"):
        attribute(who, images() * 255)
    with pytest.raises(InvalidArgumentError, match="expected a response column 9"):
        attribute(who, images(), 9)
    with pytest.raises(InvalidArgumentError, match="subject: expected one with a forward"):
        attribute(FunctionSubject(lambda x: x.mean((1, 2, 3))), images())
    with pytest.raises(InvalidArgumentError, match="do not depend on the image in a way that can be differentiated"):
        attribute(subject(nn.Sequential(nn.Flatten(), Rounds(), nn.Linear(192, 2))), images())


class Rounds(nn.Module):
    def forward(self, x):
        return x.detach().round()


def test_the_graph_is_walked_once():
    x = torch.ones(1, requires_grad=True)
    for _ in range(40):  # 2**40 paths
        x = x + x
    assert len(graph_nodes(x.grad_fn)) == 41


def test_pictures():
    maps = np.zeros((2, 3, 64, 64), np.float32)
    maps[0, 0, 4, 4], maps[0, 1, 4, 4], maps[1, :, 32, 32] = -3, 4, 1
    raw, gray, norm, blur = (attribution_pictures(maps, f) for f in FILTERS)
    for pictures in (raw, gray, norm, blur):
        assert pictures.shape == maps.shape
        assert pictures.dtype == np.float32
        assert 0 <= pictures.min() <= pictures.max() <= 1
    np.testing.assert_allclose(raw[0, :, 4, 4], [0.5 - 3 / 8, 1, 0.5])
    assert raw[0, 0, 0, 0] == gray[0, 0, 0, 0] == 0.5
    np.testing.assert_allclose(gray[0, :, 4, 4], 1)
    np.testing.assert_allclose(norm[0, :, 4, 4], 1)
    assert norm[0, 0, 0, 0] == 0
    spread = (np.arange(64) - 32) ** 2 / (2 * 4**2)
    unclipped = np.abs(np.arange(64) - 32) > 4  # 1 value in 200 is at full contrast
    np.testing.assert_allclose(
        (blur[1, 0, 32] / blur[1, 0, 32, 40] * np.exp(-2))[unclipped], np.exp(-spread)[unclipped], atol=1e-3
    )
    with pytest.raises(InvalidArgumentError, match="filter: no filter 'blur'"):
        attribution_pictures(maps, "blur")
    with pytest.raises(InvalidArgumentError, match=r"attributions: expected finite numbers \(n, 3, h, w\)"):
        attribution_pictures(maps[:, :1])


def test_captum_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "captum", None)
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'closedloop\[attribution\]'"):
        attribute(subject(network()), images(1))
    attribute(subject(network()), images(1), 0, "guided-backprop")  # needs torch alone
