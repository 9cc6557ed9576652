import pytest
import torch
from torch import nn

from closedloop.networks.tensors import parameter_tensors


def known(model):
    return {t.name: t for t in parameter_tensors(model, [name for name, _ in model.named_parameters()])}


def test_layers_kinds_and_neurons():
    model = nn.Sequential(nn.Conv2d(3, 8, 5), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 4))
    found = known(model)
    assert {(t.layer, t.kind, t.neurons, t.size) for t in found.values()} == {
        ("0", "kernel", 8, 600),
        ("0", "bias", 8, 8),
        ("1", "norm", 8, 8),
        ("3", "kernel", 4, 32),
        ("3", "bias", 4, 4),
    }


def summed(tensor, values):
    return torch.cat([block.sum((1, 3)).reshape(-1) for (block,) in tensor.blocks(values)])


@pytest.mark.parametrize("columns", [3, 300_000])
def test_a_neuron_is_what_comes_in_to_it(columns):
    weight = torch.arange(2.0 * columns).reshape(2, columns)
    found = known(nn.Linear(columns, 2))["weight"]
    torch.testing.assert_close(summed(found, weight), weight.sum(1))


def test_a_transposed_convolution_has_its_outputs_behind_its_inputs():
    layer = nn.ConvTranspose2d(4, 6, 3, groups=2)
    found = known(nn.Sequential(layer))["0.weight"]
    weight = layer.weight.detach()
    expected = torch.cat([weight[:2].sum((0, 2, 3)), weight[2:].sum((0, 2, 3))])
    torch.testing.assert_close(summed(found, weight), expected)


def test_an_embedding_has_a_neuron_for_each_column():
    layer = nn.Embedding(7, 5)
    found = known(nn.Sequential(layer))["0.weight"]
    torch.testing.assert_close(summed(found, layer.weight.detach()), layer.weight.detach().sum(0))


def test_parameters_without_a_layer_and_those_of_a_parametrization():
    model = nn.Linear(3, 2)
    model.register_parameter("scale", nn.Parameter(torch.tensor(1.0)))
    assert known(model)["scale"].layer == "scale"
    normed = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)))
    assert {t.layer for t in known(normed).values()} == {"0"}
