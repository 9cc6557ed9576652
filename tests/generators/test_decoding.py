"""A module as a decoder: chunks, the graph in other precisions, and no trace left in the module."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from closedloop.errors import InvalidArgumentError
from closedloop.generators import decoding
from closedloop.generators.decoding import Decoder, first_tensor
from closedloop.interfaces import Space
from closedloop.networks.modules import born


class Small(nn.Module):
    """A linear layer and a buffer, whose largest batch is remembered."""

    largest = 0

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 12)
        self.register_buffer("shift", torch.linspace(-1, 1, 12))

    def forward(self, x: Tensor) -> Tensor:
        self.largest = max(self.largest, len(x))
        return (self.fc(x) + self.shift).sigmoid().reshape(-1, 3, 2, 2)


@pytest.fixture
def module() -> Small:
    return born(Small, 0)


def codes(n: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((n, 4))


def test_many_codes_are_decoded_in_chunks(module, monkeypatch):
    whole = Decoder(module, Space(4), engine="eager")(codes(11))
    monkeypatch.setattr(decoding, "MEMORY", 5 * 4 * 4 * decoding.CHANNELS * 2**2)
    module.largest = 0
    np.testing.assert_allclose(Decoder(module, Space(4), engine="eager")(codes(11)), whole, atol=1e-6)
    assert module.largest == 5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_in_the_precision_of_the_codes_leave_the_module_alone(module, dtype):
    decoder = Decoder(module, Space(4), engine="eager")
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    x = torch.from_numpy(codes(2)).to(dtype).requires_grad_()
    pictures = decoder.forward(x)
    pictures.sum().backward()
    assert pictures.dtype == x.grad.dtype == dtype
    assert x.grad.abs().min() > 0
    assert all(p.grad is None and p.requires_grad and p.dtype == torch.float32 for p in module.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


def test_values_outside_the_range_are_clipped(module):
    decoder = Decoder(module, Space(4), output_range=(0.2, 0.8), engine="eager")
    pictures = decoder(3 * codes(20))
    assert pictures.min() == 0
    assert pictures.max() == 1


def test_first_tensor():
    x = torch.zeros(1)
    assert all(first_tensor(output) is x for output in (x, (x, 1), [x], {"a": x, "b": 1}, {"a": (x,)}))
    for wrong in (None, (), {}, ("x",)):
        with pytest.raises(InvalidArgumentError, match="module: expected it to return a tensor of images, got"):
            first_tensor(wrong)
