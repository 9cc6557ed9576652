"""Making and running torch modules leaves no trace."""

import copy

import pytest
import torch
from torch import Tensor, nn

from closedloop.networks.modules import born, undisturbed


class Net(nn.Module):
    """Normalization, a layer used twice, and parameters that ask for gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.twice = nn.Conv2d(3, 3, 3, padding=1)
        self.fc = nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.twice(self.twice(self.norm(x))).mean((2, 3)))


@pytest.fixture
def net() -> Net:
    return born(Net, 0)


def images(n: int = 3) -> Tensor:
    return torch.rand(n, 3, 6, 6, generator=torch.Generator().manual_seed(0))


def test_a_module_is_born_from_its_seed():
    state = torch.get_rng_state()
    first, same, other = (born(Net, seed).fc.weight for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert torch.equal(state, torch.get_rng_state())


class Changing(nn.Module):
    """Changes its buffers at every pass, in evaluation mode too: in place, past autograd, and for new ones."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 1, 1))
        self.register_buffer("added", torch.zeros(3, 1, 1))
        self.register_buffer("data", torch.zeros(2))
        self.register_buffer("replaced", torch.zeros(2))
        self.register_buffer("absent", None)
        self.inner = nn.BatchNorm2d(3)
        self.shared = nn.Module()
        self.shared.register_buffer("added", self.added)

    def forward(self, x: Tensor) -> Tensor:
        self.added += 1
        assert torch.equal(self.shared.added, self.added)
        self.data.data.add_(1)
        self.replaced = self.replaced + 1
        self.absent = torch.ones(1)
        return self.inner(x * self.weight * self.added)


def test_buffers_are_as_before_and_the_same_objects():
    model = Changing()
    before = {name: (buffer, buffer.clone()) for name, buffer in model.named_buffers(remove_duplicate=False)}
    with undisturbed(model):
        model(images())
        assert model.added.max() == 1
    after = dict(model.named_buffers(remove_duplicate=False))
    assert after.keys() == before.keys()
    assert all(after[name] is old and torch.equal(old, value) for name, (old, value) in before.items())
    assert model.absent is None


def test_a_graph_outlives_the_buffers_it_used():
    model, x = Changing(), images().requires_grad_()
    with undisturbed(model):
        y = model(x)
    y.square().sum().backward()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("error", [None, RuntimeError("broken"), KeyboardInterrupt("broken")])
def test_modes_gradients_and_random_state_are_as_before(net, error):
    net.train()
    net.norm.eval()
    net.twice.weight.requires_grad_(False)
    net.fc.weight.grad = torch.ones_like(net.fc.weight)
    modes = [m.training for m in net.modules()]
    requires = [p.requires_grad for p in net.parameters()]
    weights = copy.deepcopy(net.state_dict())
    state = torch.get_rng_state()

    def run() -> None:
        with undisturbed(net):
            assert not any(m.training for m in net.modules())
            torch.rand(3)
            net(images().requires_grad_()).sum().backward()
            if error is not None:
                raise error

    if error is None:
        run()
    else:
        with pytest.raises(type(error), match="broken"):
            run()
    assert modes == [m.training for m in net.modules()]
    assert True in modes
    assert False in modes
    assert requires == [p.requires_grad for p in net.parameters()]
    assert torch.equal(net.fc.weight.grad, torch.ones_like(net.fc.weight))
    assert all(p.grad is None for p in net.parameters() if p is not net.fc.weight)
    assert all(torch.equal(weights[name], tensor) for name, tensor in net.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())


def test_a_random_stream_moves_on_and_the_global_one_does_not(net):
    state, stream = torch.get_rng_state(), torch.Generator().manual_seed(5).get_state()
    expected = torch.rand(4, generator=torch.Generator().manual_seed(5))
    with undisturbed(net, stream):
        first = torch.rand(2)
    with undisturbed(net, stream):
        second = torch.rand(2)
    assert torch.equal(torch.cat([first, second]), expected)
    assert torch.equal(state, torch.get_rng_state())
