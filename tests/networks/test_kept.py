"""Small networks in files: what was done to them is done again."""

import pytest
import torch

from closedloop.errors import WeightsError
from closedloop.networks.kept import Facts, built, read_network, write_network
from closedloop.networks.small import hold_channels


@pytest.fixture
def facts():
    return Facts("conv", 8, ("a", "b", "c"), 0.25, 0.5, removed=("conv2",))


def test_a_network_is_read_as_it_was_written(facts, tmp_path):
    model = built(facts, 3)
    hold_channels(model, "relu3", [2, 5], torch.rand(24, 4, 4, generator=torch.Generator().manual_seed(0)))
    told = Facts(**{**vars(facts), "held": "relu3", "channels": (2, 5)})
    write_network(tmp_path / "network.safetensors", model, told)
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    for place in (tmp_path, tmp_path / "network.safetensors"):
        found, known = read_network(place)
        assert known == told
        assert torch.equal(found(images), model.eval()(images))


def test_what_is_none_is_named(facts, tmp_path):
    with pytest.raises(WeightsError, match="network: expected a run of treat"):
        read_network(tmp_path)
    (tmp_path / "network.safetensors").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match=r"cannot read .* as a network of treat"):
        read_network(tmp_path)
