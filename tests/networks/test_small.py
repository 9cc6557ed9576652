import pytest
import torch
from torch import nn

from closedloop.errors import InvalidArgumentError
from closedloop.networks.small import SMALL, hold_channels, remove_layer, small_network


@pytest.mark.parametrize("name", sorted(SMALL))
def test_networks_come_from_their_seed(name):
    images = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    one, same, other = (small_network(name, 1, 8, 10, seed).eval()(images) for seed in (0, 0, 1))
    assert one.shape == (3, 10)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_a_layer_that_keeps_its_shape_is_removed():
    model, images = small_network("resnet", 1, 8, 10, 0), torch.zeros(2, 1, 8, 8)
    remove_layer(model, "block2", images)
    remove_layer(model, "block4.conv2", images)
    assert isinstance(model.block2, nn.Identity)
    assert isinstance(model.block4.conv2, nn.Identity)
    assert model(images).shape == (2, 10)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("block3", r"'block3': \(2, 8, 8, 8\) becomes \(2, 16, 4, 4\)"),
        ("block9", "expected a layer of the network, got 'block9'"),
        ("", "expected a layer of the network, got ''"),
        ("spare", "'block1.spare': it is not used"),
    ],
)
def test_others_are_not(name, message):
    model = small_network("resnet", 1, 8, 10, 0)
    model.block1.spare = nn.Linear(3, 3)
    with pytest.raises(InvalidArgumentError, match=message):
        remove_layer(model, f"block1.{name}" if name == "spare" else name, torch.zeros(2, 1, 8, 8))


def test_channels_are_held_still_in_training_too():
    model, images = small_network("conv", 3, 8, 10, 0), torch.rand(2, 3, 8, 8)
    means = torch.arange(24.0)[:, None, None].expand(24, 4, 4)
    hold_channels(model, "relu3", [4, 9], means)
    held = model.train()[:7](images)
    assert (held[:, 4] == 4).all()
    assert (held[:, 9] == 9).all()
    assert not (held[:, 5] == 5).any()
    model(images).sum().backward()
    assert (model.conv3.weight.grad[4] == 0).all()  # nothing it could learn is heard
    assert (model.conv3.weight.grad[5] != 0).any()
