"""Networks that compute no more of an image than their units see."""

import numpy as np
import pytest
import torch
from torch import nn

from closedloop.interfaces import Narrowing
from closedloop.subjects import TorchSubject
from closedloop.subjects.narrowed import Narrowed, window
from closedloop.subjects.receptive import ReceptiveField


def network(*more):
    torch.manual_seed(0)
    first = nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(4, 5, 3, stride=2, padding=1), nn.ReLU()
    return nn.Sequential(*first, *more, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 2)).eval()


def subject(*more, layer="3", units="all", resolution=96):
    return TorchSubject(network(*more), layer=layer, units=units, resolution=resolution, engine="eager")


@pytest.fixture
def images():
    return np.random.default_rng(0).random((5, 3, 96, 96)).astype(np.float32)


@pytest.mark.parametrize("units", ["all", [(0, 0, 0), (4, 1, 2)], [(2, 23, 23)]])
def test_it_answers_as_the_whole_network_does(images, units):
    whole = subject(units=units)
    assert isinstance(whole, Narrowing)
    found = whole.narrowed()
    assert isinstance(found, Narrowed)
    assert found.units.neuroid_id == whole.units.neuroid_id
    np.testing.assert_allclose(found.record(images), whole.record(images), rtol=1e-5, atol=1e-6)
    assert found.record(images[:0]).shape == (0, len(whole.units))


def test_its_gradient_is_that_of_the_whole_network(images):
    whole = subject()
    found = whole.narrowed()
    gradients = []
    for one in (whole, found):
        x = torch.from_numpy(images.copy()).requires_grad_()
        one.forward(x).square().sum().backward()
        gradients.append(x.grad)
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_images_of_another_size_are_resized_as_for_the_whole_network(images):
    whole, small = subject(), images[..., :50, :50]
    found = whole.narrowed()
    np.testing.assert_allclose(found.record(small), whole.record(small), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        found.forward(torch.from_numpy(small)).detach(), whole.record(small), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    "whole",
    [
        subject(layer="output"),  # sees all
        subject(nn.InstanceNorm2d(5), layer="4"),  # its values follow from the whole map
        subject(units=[(0, 0, 0), (0, 23, 23)]),  # corners that lie far apart
        subject(resolution=100),  # no multiple of the grid
    ],
    ids=["all", "norm", "corners", "size"],
)
def test_where_nothing_is_saved_it_is_the_network_itself(whole):
    assert whole.narrowed() is whole


def test_the_window_holds_what_units_see_and_lies_in_the_image():
    field = ReceptiveField((19, 19), (4, 4), (-6, -6), "computed")
    assert window([field], [[(28, 28)]], 224) == (96, 96, 32)
    assert window([field], [[(55, 0)]], 224) == (192, 0, 32)
    assert window([field], [[(0, 0), (20, 3)]], 224) == (0, 0, 96)
    assert window([ReceptiveField((19, 19), (4, 4), (-6, -6), "gradient")], [[(28, 28)]], 224) is None
    assert window([field], [[(-1, -1)]], 224) is None


class Placed(nn.Module):
    """Two layers, the first far louder than the second, whose weights belong to places in the image."""

    def __init__(self):
        super().__init__()
        self.loud, self.quiet = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1)
        self.places = nn.Parameter(torch.rand(1, 3, 96, 96))

    def forward(self, x):
        placed = x * self.places[:, :, : x.shape[2], : x.shape[3]]
        return self.loud(1e5 * x).mean((2, 3)) + self.quiet(placed).mean((2, 3))


def test_each_layer_is_compared_by_its_own_measure():
    torch.manual_seed(0)
    units = {"loud": [(0, 50, 50)], "quiet": [(0, 50, 50)]}
    whole = TorchSubject(Placed().eval(), layer=list(units), units=units, resolution=96, engine="eager")
    assert {field.method for field in whole.receptive_fields()} == {"computed"}
    assert whole.narrowed() is whole


class Noisy(nn.Module):
    """A network that draws numbers before its first layer."""

    def __init__(self):
        super().__init__()
        self.inner = network()

    def forward(self, x):
        return self.inner(nn.functional.dropout(x, 0.5, training=True))


def test_a_random_network_is_itself_and_draws_what_it_would_have_drawn():
    whole = TorchSubject(Noisy().eval(), layer="inner.3", units=[(0, 12, 12)], resolution=96, engine="eager")
    assert {field.method for field in whole.receptive_fields()} == {"computed"}
    before = whole.state()["random"]
    assert whole.narrowed() is whole
    np.testing.assert_array_equal(whole.state()["random"], before)


def test_what_no_probe_image_drives_is_not_taken_for_alike():
    torch.manual_seed(0)
    net = nn.Sequential(Placed().quiet, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    with torch.no_grad():
        net[0].bias.copy_(torch.tensor([0.0, 0.0, 0.0, -100.0]))
    alone, beside = (
        TorchSubject(net, layer="1", units=[(c, 50, 50) for c in channels], resolution=96, engine="eager")
        for channels in ([3], range(4))
    )
    assert alone.narrowed() is alone
    assert isinstance(beside.narrowed(), Narrowed)  # by what others answer there
