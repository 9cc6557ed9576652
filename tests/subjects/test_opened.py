"""Layers whose channels are held still: what comes out must be what the network itself would give."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from closedloop.errors import ClosedLoopError
from closedloop.interfaces import Openable
from closedloop.subjects import TorchSubject
from tests.small_networks import close, images, made, seeded, subject


class Tokens(nn.Module):
    """Patches of 4 × 4 pixels as tokens, one mixture of them, and their mean; two classes."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 6, 4, 4)
        self.mix = nn.TransformerEncoderLayer(6, 2, 12, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.mix(self.patch(x).flatten(2).transpose(1, 2)).mean(1))


class Beside(nn.Module):
    """Maps from below and above put side by side, which no network can do with another number of images."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.high, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        low = self.low(x).relu()
        return self.head(torch.cat([low, self.high(low).relu_()], 1).mean((2, 3)))


def dense() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 8), nn.ReLU(inplace=True), nn.Linear(8, 4))


def by_hand(model, layer, call, x, channel, means, last):
    """Outputs for one image with a channel held still, by the plainest hook."""
    count = 0

    def hook(module, arguments, output):
        nonlocal count
        count += 1
        if count != call:
            return None
        changed = output.clone()
        place = (0, ..., channel) if last else (0, channel)
        changed[place] = torch.from_numpy(means[channel]).reshape(changed[place].shape)
        return changed

    handle = model.get_submodule(layer).register_forward_hook(hook)
    try:
        with torch.no_grad():
            found = model.eval()(x)
    finally:
        handle.remove()
    return (found["logits"] if isinstance(found, dict) else found)[0].numpy()


CASES = {
    "maps": (made, "norm", 1, False, True),
    "called twice": (made, "twice", 2, False, True),
    "first call": (made, "twice#1", 1, False, True),
    "tokens": (lambda: seeded(Tokens), "mix", 1, True, True),
    "fully connected": (lambda: seeded(dense), "2", 1, False, True),
    "side by side": (lambda: seeded(Beside), "high", 1, False, False),
}


@pytest.mark.parametrize("case", CASES)
def test_a_channel_is_set_to_its_mean_at_each_place(case):
    make, layer, call, last, forks = CASES[case]
    model = make()
    opened = subject(model).opened(layer)
    shown = images(3)
    activations, outputs = opened.look(shown)
    assert activations.shape == (3, opened.channels, int(np.prod(opened.grid)))
    means = activations.mean(0)
    channels = np.array([0, 3, 1])
    found = opened.ablated(shown[1], means, channels)
    mean, std = (np.array(c).reshape(3, 1, 1) for c in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    x = torch.from_numpy((shown[1:2] - mean) / std).float()
    for row, channel in enumerate(channels):
        close(found[row], by_hand(model, layer.partition("#")[0], call, x, channel, means, last))
    close(outputs, subject(model).record(shown))
    assert opened._forks is forks
    own = opened.ablated(shown[1], activations[1], channels)  # held at what it is, nothing changes
    close(own, np.tile(outputs[1], (3, 1)))


@pytest.mark.parametrize("case", CASES)
def test_attribution_is_activation_times_gradient(case):
    make, layer, *_ = CASES[case]
    opened = subject(make()).opened(layer)
    shown = images(2)
    found = opened.attributions(shown, np.array([[0, 1], [2, 0]]))
    assert found.shape == (2, 2, opened.channels)
    activations, outputs = opened.look(shown)
    step = 1e-2  # by differences: along each channel's own activation
    for channel in range(opened.channels):
        changed = opened.ablated(shown[1], activations[1] * (1 - step), np.array([channel]))[0]
        below = opened.ablated(shown[1], activations[1] * (1 + step), np.array([channel]))[0]
        slope = (below[2] - changed[2]) / (2 * step)
        assert found[1, 0, channel] == pytest.approx(slope, abs=2e-2 * float(np.abs(outputs).max()))


def test_in_a_linear_rest_the_attribution_of_the_deviation_is_the_effect():
    opened = subject(seeded(Beside)).opened("high")
    shown = images(4)
    activations, outputs = opened.look(shown)
    none = np.zeros(activations.shape[1:], np.float32)
    found = opened.attributions(shown[:1], np.array([[0, 1]]))[0]
    without = opened.ablated(shown[0], none, np.arange(opened.channels))
    np.testing.assert_allclose(outputs[0, 0] - without[:, 0], found[0], atol=1e-5)
    np.testing.assert_allclose(outputs[0, 1] - without[:, 1], found[1], atol=1e-5)


def test_the_network_is_left_as_it_was():
    model = made().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    opened = subject(model).opened("norm")
    opened.look(images(1))
    opened.attributions(images(1), np.array([[0, 1]]))
    opened.ablated(images(1)[0], np.zeros((6, 256), np.float32), np.arange(6))
    assert model.training
    assert not model.norm._forward_hooks
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("model", "layer"), [(made, "twice"), (lambda: seeded(Tokens), "mix"), (lambda: seeded(dense), "2")]
)
def test_the_layer_that_is_taken_where_none_is_named(model, layer):
    assert subject(model()).opened().layer == layer


def test_classes():
    named = TorchSubject(made(), resolution=16, engine="eager", labels=["a", "b"], layer="conv", units="0")
    assert isinstance(named, Openable)
    assert named.opened("norm").classes == ("a", "b", "", "", "")


@pytest.mark.parametrize(
    ("model", "layer", "message"),
    [
        (made, "nrm", "no layer 'nrm'.*norm"),
        (made, "output", "it is the answer itself"),
        (made, "unused", "'unused' cannot be held still"),
        (lambda: nn.Conv2d(3, 2, 3), None, "expected a classifier"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(768, 2)), "1", None),
    ],
)
def test_what_cannot_be_opened(model, layer, message):
    shown = subject(seeded(model) if model is not made else made())
    if message is None:
        assert shown.opened(layer).channels == 2
        return
    with pytest.raises(ClosedLoopError, match=message):
        shown.opened(layer)
