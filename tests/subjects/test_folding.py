import copy

import pytest
import torch
from torch import Tensor, nn

from closedloop.subjects import TorchSubject, load_subject
from closedloop.subjects.folding import folded, version

SIZE = 12


def noisy(model: nn.Module) -> nn.Module:
    """A network whose batch norms are far from doing nothing, in double precision."""
    rng = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            module.running_mean.normal_(0, 0.5, generator=rng)
            module.running_var.uniform_(0.3, 3, generator=rng)
            if module.affine:
                nn.init.normal_(module.weight, 1, 0.5, generator=rng)
                nn.init.normal_(module.bias, 0, 0.5, generator=rng)
    return model.double().eval()


def convolutions(**options) -> nn.Module:
    return noisy(
        nn.Sequential(
            nn.Conv2d(3, 4, 3, **options), nn.BatchNorm2d(4), nn.ReLU6(), nn.Conv2d(4, 4, 3, groups=2, stride=2),
            nn.BatchNorm2d(4, affine=False), nn.ReLU(inplace=True), nn.Flatten(), nn.LazyLinear(5),
        )
    )  # fmt: skip


class Branched(nn.Module):
    """Looks at what a convolution returned twice: with the norm, and without."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return (self.norm(y) + y).mean((2, 3))


class Reused(nn.Module):
    """One convolution and one norm that are called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(self.norm(self.conv(x)))).mean((2, 3))


def example(n: int = 2) -> Tensor:
    return torch.rand(n, 3, SIZE, SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def initialized(model: nn.Module) -> nn.Module:
    model(example())
    return model


@pytest.mark.parametrize("bias", [True, False])
def test_a_folded_network_gives_the_same_and_the_same_gradient(bias):
    model = initialized(convolutions(bias=bias))
    twin = folded(model, ["output"], example())
    assert not any(isinstance(m, nn.BatchNorm2d) for m in twin.modules())
    x, y = (example().requires_grad_() for _ in range(2))
    torch.testing.assert_close(twin(y), model(x), rtol=1e-12, atol=1e-12)
    expected, given = (torch.autograd.grad(m(z)[:, 0].sum(), z)[0] for m, z in ((model, x), (twin, y)))
    torch.testing.assert_close(given, expected, rtol=1e-12, atol=1e-12)


def test_the_network_itself_stays_what_it_is():
    model = initialized(convolutions())
    before, modules = {k: v.clone() for k, v in model.state_dict().items()}, list(model.modules())
    folded(model, ["output"], example())
    assert list(model.modules()) == modules
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in modules)


def test_timms_norms_keep_their_activation():
    model = copy.deepcopy(load_subject("lite0", units=[0], engine="eager").model).double().eval()
    pictures = torch.rand(1, 3, 64, 64, dtype=torch.float64)
    twin = folded(model, ["output"], pictures)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in twin.modules())
    torch.testing.assert_close(twin(pictures), model(pictures), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("layer", ["0", "1", "3", "4"])
def test_recorded_layers_keep_their_values(layer):
    model = initialized(convolutions())
    seen = []
    twin = folded(model, [layer], example())
    for network in (model, twin):
        handle = network.get_submodule(layer).register_forward_hook(lambda m, x, y: seen.append(y.clone()))
        network(example())
        handle.remove()
    torch.testing.assert_close(seen[1], seen[0], rtol=1e-12, atol=1e-12)


def test_what_is_called_twice_is_not_folded():
    assert folded(noisy(Reused()), ["output"], example()) is None


def test_a_norm_that_a_user_listens_to_is_not_folded():
    model = initialized(convolutions())
    model[1].register_forward_hook(lambda m, x, y: None)
    assert isinstance(folded(model, ["output"], example())[1], nn.BatchNorm2d)


def test_a_norm_without_statistics_is_not_folded():
    model = noisy(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)))
    assert folded(model, ["output"], example()) is None


def test_a_network_that_cannot_be_copied_is_not_folded(tmp_path):
    model = initialized(convolutions())
    with (tmp_path / "log").open("w") as log:
        model.log = log
        assert folded(model, ["output"], example()) is None


def responses_and_gradient(subject: TorchSubject, model: nn.Module) -> None:
    """A subject's forward pass gives what the network gives, and its gradient."""
    images = example().float()
    x, y = images.clone().requires_grad_(), images.clone().requires_grad_()
    expected, given = model(x), subject.forward(y)
    torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-5)
    for one, other in zip(*(torch.autograd.grad(r.sum(), z) for r, z in ((expected, x), (given, y))), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5)


def subject_of(model: nn.Module) -> TorchSubject:
    return TorchSubject(model, resolution=SIZE, mean=(0, 0, 0), std=(1, 1, 1), engine="eager")


def test_a_subject_climbs_a_folded_network():
    model = initialized(convolutions()).float()
    subject = subject_of(model)
    responses_and_gradient(subject, model)
    assert subject._quick[1][0].model is not model


def test_a_subject_does_not_fold_where_the_responses_would_change():
    model = noisy(Branched()).float()
    assert folded(model, ["output"], example().float()) is not None  # which is why the subject compares
    subject = subject_of(model)
    responses_and_gradient(subject, model)
    assert subject._quick[1][0].model is model


def test_new_weights_are_climbed():
    model = initialized(convolutions()).float()
    subject = subject_of(model)
    subject.forward(example().float())
    with torch.no_grad():
        model[0].weight.mul_(-2)
        model[1].running_mean.add_(1)
    responses_and_gradient(subject, model)


def test_the_version_is_that_of_weights_and_buffers():
    model = initialized(convolutions())
    before = version(model)
    model(example())
    assert version(model) == before
    model[1].running_var.add_(1)
    assert version(model) != before
    model[0].weight = nn.Parameter(model[0].weight.detach().clone())
    assert len({version(model), before}) == 2


def test_gradients_leave_no_trace_in_the_network():
    model = initialized(convolutions()).float()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    subject_of(model).forward(example().float().requires_grad_()).sum().backward()
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
