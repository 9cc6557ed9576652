import numpy as np
import torch
from torch import nn

from closedloop.networks.small import small_network
from closedloop.subjects import TrainedSubject
from closedloop.testing import SubjectContract

PIXELS = {"mean": (0.4,), "std": (0.25,)}


def grey(model, **options):
    told = {"layer": ["fc1", "output"], "units": "0-2", "resolution": 8, "channels": 1, **PIXELS, **options}
    return TrainedSubject(model, **told)


class TestTrainedContract(SubjectContract):
    resolution = 8

    def make(self):
        return grey(small_network("mlp", 1, 8, 10, seed=0))


class TestTrainedInColoursContract(SubjectContract):
    resolution = 8

    def make(self):
        return TrainedSubject(
            small_network("resnet", 3, 8, 10, seed=0),
            layer="block4",
            units="0-1",
            resolution=8,
            mean=(0.4, 0.5, 0.6),
            std=(0.2, 0.2, 0.3),
        )


def test_it_answers_as_the_network_and_follows_its_weights():
    model = small_network("mlp", 1, 8, 10, seed=0)
    subject = grey(model, units="all")
    images = np.random.default_rng(0).random((5, 1, 8, 8), dtype=np.float32)
    for _ in range(2):
        with torch.no_grad():
            x = (torch.from_numpy(images) - 0.4) / 0.25
            expected = torch.cat([model.fc1(model.flatten(x)), model(x)], 1).numpy()
        np.testing.assert_allclose(subject.record(images), expected, rtol=1e-4, atol=1e-5)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.5)
    assert grey(model).fingerprint != grey(small_network("mlp", 1, 8, 10, seed=0)).fingerprint


def test_layers_within_blocks_keep_their_names_and_the_network_its_modes():
    model = small_network("resnet", 1, 8, 10, seed=0).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    subject = grey(model, layer=["block1.conv1", "block3"], units="0,1")
    subject.record(np.full((3, 1, 8, 8), 0.5, np.float32))
    assert subject.units.coords["layer"] == ("block1.conv1",) * 2 + ("block3",) * 2
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_network_whose_own_code_asks_for_its_mode_is_in_evaluation():
    class Moody(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 2)

        def forward(self, x):
            return self.fc(x.flatten(1)) + (100 if self.training else 0)

    model = Moody().train()
    subject = TrainedSubject(model, layer="output", resolution=2, channels=1, **PIXELS)
    assert abs(subject.record(np.full((1, 1, 2, 2), 0.4, np.float32))).max() < 50
    assert model.training
