"""What all layers of a network give: the same by the quick graph as by eager torch."""

import numpy as np
import pytest
import torch
from torch import nn

from closedloop.errors import InvalidArgumentError, UnknownNameError
from closedloop.subjects import Inside, as_maps, grid_of
from closedloop.subjects import inside as inside_module
from tests import small_networks


class Tokens(nn.Module):
    """Patches as tokens with a class token, and channels last after that."""

    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 6, 4, 4)
        self.tokens = small_networks.Function(lambda x: torch.cat([x.flatten(2).mT[:, :1], x.flatten(2).mT], 1))
        self.last = small_networks.Function(lambda x: x[:, 1:].reshape(len(x), 4, 4, 6))

    def forward(self, x):
        return self.last(self.tokens(self.patch(x))).mean((1, 2))


@pytest.fixture(scope="module")
def image():
    return small_networks.images(1)[0]


def test_layers_are_listed_once_and_give_what_eager_torch_gives(image):
    inside = Inside(small_networks.subject(small_networks.made()))
    assert inside.names == ("conv", "norm", "relu", "twice", "output")  # without what does nothing or never runs
    eager = inside.see(image, inside.names)
    assert inside.quicken()
    for one, other in zip(eager, inside.see(image, inside.names), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
    assert eager[0].shape == (6, 16, 16)


def test_a_network_that_draws_random_numbers_stays_with_torch(image):
    inside = Inside(small_networks.subject(small_networks.Function(lambda x: torch.rand_like(x).mean((2, 3)))))
    assert not inside.quicken()
    assert inside.see(image, ["output"])[0].shape == (3,)


def test_random_numbers_of_other_threads_are_none_of_the_network(image, monkeypatch):
    def beside(*given):
        torch.rand(1)
        return genuine(*given)

    genuine = inside_module.export_onnx
    monkeypatch.setattr(inside_module, "export_onnx", beside)
    assert Inside(small_networks.subject(small_networks.made())).quicken()


def test_a_network_that_branches_on_the_image_stays_with_torch(image):
    branches = small_networks.Function(lambda x: x.mean((2, 3)) if x.mean() > 0 else 2 * x.mean((2, 3)))
    inside = Inside(small_networks.subject(branches))
    bright, dark = inside.see(image + 1, ["output"])[0], inside.see(0 * image, ["output"])[0]
    assert not inside.quicken()
    np.testing.assert_array_equal(inside.see(image + 1, ["output"])[0], bright)
    np.testing.assert_array_equal(inside.see(0 * image, ["output"])[0], dark)


def test_a_network_in_double_precision_is_looked_into(image):
    inside = Inside(small_networks.subject(small_networks.made().double()))
    assert inside.see(image, ["conv"])[0].shape == (6, 16, 16)
    assert inside.driven(image, "conv", "output", lambda found: found[:, 0]).shape == (6, 16, 16)


def test_a_layer_that_is_not_listed_may_be_asked_for(image):
    inside = Inside(small_networks.subject(small_networks.made()))
    assert inside.see(image, ["twice#1"])[0].shape == (6, 16, 16)
    with pytest.raises(UnknownNameError, match="layer: no layer 'nothing'"):
        inside.see(image, ["nothing"])
    with pytest.raises(UnknownNameError, match="'unused' does not run"):
        inside.see(image, ["unused"])


def test_tokens_are_a_grid_and_the_class_token_apart(image):
    inside = Inside(small_networks.subject(Tokens()))
    found = dict(zip(inside.names, inside.see(image, inside.names), strict=True))
    maps, extra = as_maps(found["tokens"])
    assert (maps.shape, extra.shape) == ((6, 4, 4), (1, 6))
    np.testing.assert_allclose(maps, as_maps(found["patch"])[0], rtol=1e-5)
    np.testing.assert_allclose(extra[0], maps[:, 0, 0], rtol=1e-5)
    assert grid_of(inside.shape("tokens")) == (4, 4)
    if "last" in found:
        assert as_maps(found["last"])[0].shape == (6, 4, 4)


def test_units_without_positions_are_single_points():
    maps, extra = as_maps(np.arange(4, dtype=np.float32))
    assert (maps.shape, extra.shape) == ((4, 1, 1), (0, 4))


def test_the_graph_is_kept_and_folding_changes_nothing(image):
    subject = small_networks.subject(small_networks.made())
    inside = Inside(subject)
    x = torch.from_numpy(image[None]).requires_grad_()
    found = inside.forward("relu")(x)
    np.testing.assert_allclose(found.detach().numpy()[0], inside.see(image, ["relu"])[0], rtol=1e-3, atol=1e-4)
    (grad,) = torch.autograd.grad(found[:, 2].sum(), x)
    assert grad.abs().sum() > 0
    assert all(p.grad is None and p.requires_grad for p in subject.model.parameters())


def test_what_a_later_unit_is_driven_by(image):
    inside = Inside(small_networks.subject(small_networks.made()))
    # The output is a linear function of the mean over positions of the last map: its derivative is the weight / pixels.
    found = inside.driven(image, "twice", "output", lambda output: output[:, 3])
    weight = inside.subject.model.fc.weight[3].detach().numpy() / 256
    np.testing.assert_allclose(found, np.broadcast_to(weight[:, None, None], found.shape), rtol=1e-4)
    with pytest.raises(InvalidArgumentError, match="reaches"):
        inside.driven(image, "twice", "relu", lambda output: output[:, 3, 0, 0])
