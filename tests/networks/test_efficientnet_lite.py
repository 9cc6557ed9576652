"""The networks that come with the installation are timm's, name by name and bit by bit."""

import pytest
import torch

from closedloop.networks.efficientnet_lite import EfficientNetLite
from closedloop.networks.modules import born
from closedloop.networks.torchvision import import_torchvision


@pytest.mark.parametrize("size", [0, 1, 2])
def test_it_is_that_of_timm(size):
    import_torchvision()
    import timm

    theirs = born(lambda: timm.create_model(f"tf_efficientnet_lite{size}", pretrained=False), 3).eval()
    ours = born(lambda: EfficientNetLite(size), 3).eval()
    assert [name for name, _ in ours.named_modules()] == [name for name, _ in theirs.named_modules()]
    weights, expected = ours.state_dict(), theirs.state_dict()
    assert list(weights) == list(expected)
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    images = torch.rand(2, 3, 97, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(ours(images), theirs(images))


@pytest.mark.parametrize("length", [7, 8, 9])
def test_a_map_is_divided_by_the_stride_and_rounded_up(length):
    stem = EfficientNetLite(0).conv_stem
    assert stem(torch.zeros(1, 3, length, 12)).shape[2:] == (-(-length // 2), 6)
