import pytest
import torch

from closedloop.networks.published import PUBLISHED, published_network


@pytest.mark.parametrize(
    ("name", "parameters", "shape"),
    [
        ("mnist-fc", 84_060, (2, 1, 28, 28)),
        ("mnist-lenet", 808_970, (2, 1, 28, 28)),
        ("cifar-allcnn", 1_371_658, (2, 3, 32, 32)),
        ("cifar-resnet20", 273_066, (2, 3, 32, 32)),
    ],
)
def test_they_have_the_published_number_of_parameters(name, parameters, shape):
    model = published_network(name, 0)
    assert sum(p.numel() for p in model.parameters()) == parameters
    with torch.no_grad():
        assert model(torch.zeros(shape)).shape == (2, 10)


def test_weights_follow_from_the_seed_and_fit_the_fan_in():
    assert len(PUBLISHED) == 4
    one, same, other = (published_network("mnist-fc", seed).fc1.weight.detach() for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert float(one.std()) == pytest.approx((2 / 784) ** 0.5, rel=0.02)
