from dataclasses import dataclass
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from closedloop.errors import InvalidArgumentError, UnknownNameError
from closedloop.networks.modules import dtype_of
from closedloop.subjects.options import OUTPUT
from closedloop.subjects.probe import Probe, as_tensor, check_one_call, find_layer, survey

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)


class Net(nn.Module):
    """A layer followed by an operation in place, a layer used twice, a branch that never runs, and another name."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.twice = nn.Conv2d(4, 4, 3, padding=1)
        self.unused = nn.Linear(2, 2)
        self.alias = self.conv
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.conv(x)))
        x = self.twice(self.twice(x))
        return self.fc(x.mean((2, 3)))


class Function(nn.Module):
    """A forward pass written in place, with some modules it may use."""

    def __init__(self, function, **modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x: Tensor):
        return self.function(self, x)


@dataclass
class Answer:
    """What some networks return."""

    loss: Tensor | None
    pred: Tensor


class Named(NamedTuple):
    """What others do."""

    loss: Tensor | None
    pred: Tensor


@pytest.fixture
def net() -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Net()
        net.norm.running_mean.uniform_(-1, 1)
    return net.eval()


def probe(model: nn.Module, *layers: str, **options) -> Probe:
    return Probe(model, layers, MEAN, STD, **options)


def images(n: int = 2) -> Tensor:
    return torch.rand(n, 3, 6, 6, generator=torch.Generator().manual_seed(1))


def normalized(x: Tensor) -> Tensor:
    return (x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def hooks_of(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


# What is recorded -----------------------------------------------------------------------------------------------------


def test_several_layers_at_once(net):
    x = images()
    conv, fc, output = probe(net, "conv", "fc", OUTPUT)(x)
    torch.testing.assert_close(conv, net.conv(normalized(x)))
    torch.testing.assert_close(fc, net(normalized(x)))
    torch.testing.assert_close(output, fc)


@pytest.mark.parametrize("picked", [False, True])
def test_what_is_recorded_is_a_copy(net, picked):
    picks = [torch.arange(4 * 36)] if picked else None
    (recorded,) = probe(net, "norm", picks=picks)(images())  # a ReLU in place follows
    expected = net.norm(net.conv(normalized(images())))
    assert (expected < 0).any()
    torch.testing.assert_close(recorded.reshape(expected.shape), expected)


def test_picked_units(net):
    picks = [torch.tensor([7, 0, 100]), torch.tensor([4])]
    conv, fc = probe(net, "conv", "fc", picks=picks)(images())
    whole_conv, whole_fc = probe(net, "conv", "fc")(images())
    assert torch.equal(conv, whole_conv.flatten(1)[:, [7, 0, 100]])
    assert torch.equal(fc, whole_fc[:, [4]])
    assert probe(net, "conv", "fc", picks=picks).widths == (3, 1)
    assert probe(net, "conv").widths == ()


@pytest.mark.parametrize("calls", [None, {"twice": 2}])
def test_a_layer_called_twice_gives_its_last_output(net, calls):
    (recorded,) = probe(net, "twice", calls=calls)(images())
    before = net.relu(net.norm(net.conv(normalized(images()))))
    torch.testing.assert_close(recorded, net.twice(net.twice(before)))


@pytest.mark.parametrize("calls", [None, {"twice#1": 1}])
def test_the_call_of_a_layer_that_is_named(net, calls):
    before = net.relu(net.norm(net.conv(normalized(images()))))
    torch.testing.assert_close(probe(net, "twice#1", calls=calls)(images())[0], net.twice(before))
    both = probe(net, "twice#2", "twice#1", "twice")(images())
    torch.testing.assert_close(both[0], net.twice(net.twice(before)))
    torch.testing.assert_close(both[1], net.twice(before))
    assert torch.equal(both[0], both[2])


def test_names_of_calls(net):
    assert find_layer(net, "twice#1") == "twice#1"
    for wrong in ("#1", "nothing#1"):
        with pytest.raises(UnknownNameError, match=f"layer: no layer '{wrong}'"):
            find_layer(net, wrong)
    with pytest.raises(InvalidArgumentError, match=r"'twice#3': expected one of the calls 'twice#1', 'twice#2'"):
        check_one_call(net, "twice#3", 2)
    check_one_call(net, "twice", 2)
    check_one_call(net, "alias", 1)
    with pytest.raises(InvalidArgumentError, match=r"'conv' and 'alias' are one module, which runs 2 times.*'conv#2'"):
        check_one_call(net, "conv", 2)


def test_the_layers_above_the_deepest_one_do_not_run(net):
    ran = []
    for name in ("norm", "relu", "fc"):
        net.get_submodule(name).register_forward_hook(lambda *_, name=name: ran.append(name))
    probe(net, "conv", "norm", calls={"conv": 1, "norm": 1})(images())
    assert ran == ["norm"]
    probe(net, "conv", OUTPUT, calls={"conv": 1, OUTPUT: 1})(images())
    assert ran == ["norm", "norm", "relu", "fc"]


def test_a_layer_that_does_not_run(net):
    with pytest.raises(InvalidArgumentError, match="layer 'unused': it did not run for this image"):
        probe(net, "conv", "unused")(images())
    assert hooks_of(net) == 0


def test_both_names_of_one_layer(net):
    assert find_layer(net, "alias") == "alias"
    conv, alias = probe(net, "conv", "alias")(images())
    assert torch.equal(conv, alias)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_network_computes_in_its_own_type(net, dtype):
    (recorded,) = probe(net.to(dtype), OUTPUT)(images())
    assert recorded.dtype == dtype_of(net) == dtype
    torch.testing.assert_close(recorded, net(normalized(images()).to(dtype)))
    assert dtype_of(nn.ReLU()) == torch.float32


def test_the_gradient_passes(net):
    x = images().requires_grad_()
    probe(net, "norm")(x)[0].sum().backward()
    assert x.grad.abs().sum() > 0


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: x,
        lambda x: (x, None),
        lambda x: [x],
        lambda x: {"logits": x, "hidden": 2 * x},
        lambda x: {"aux": 2 * x, "out": x},
        lambda x: {"first": x, "second": 2 * x},
        lambda x: ({"out": (x,)}, 2 * x),
        lambda x: (None, x),
        lambda x: {"loss": None, "pred": x},
        lambda x: {"loss": x.sum(), "logits": x},
        lambda x: (x.sum(), x),
        lambda x: (x.sum(1), x),
        lambda x: Answer(None, x),
        lambda x: Named(None, x),
        lambda x: SimpleNamespace(loss=None, logits=x),
        lambda x: {"nothing": {}, "deep": [(), {"pred": x}]},
    ],
)
def test_the_tensor_in_an_output(wrap):
    x = torch.ones(2, 3)
    assert as_tensor(wrap(x), "layer") is x


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        (torch.ones(2, 3, dtype=torch.complex64), "expected real numbers, got torch.complex64"),
        (torch.ones(2, 3).to_sparse(), "expected a plain tensor, got one of layout torch.sparse_coo"),
    ],
)
def test_a_tensor_that_cannot_be_recorded(odd, message):
    with pytest.raises(InvalidArgumentError, match=f"layer 'conv': {message}"):
        as_tensor(odd, "conv")


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")  # said once in a process
def test_a_quantized_tensor_as_its_numbers():
    quantized = torch.quantize_per_tensor(torch.tensor([[0.5, 1.0]]), 0.5, 0, torch.qint8)
    assert as_tensor(quantized, "conv").tolist() == [[0.5, 1.0]]


@pytest.mark.parametrize("nothing", [None, (), {}, "text", {"out": None}])
def test_an_output_without_a_tensor(nothing):
    with pytest.raises(InvalidArgumentError, match="layer 'conv': expected an output tensor, got"):
        as_tensor(nothing, "conv")


# Hooks ----------------------------------------------------------------------------------------------------------------


class _Interrupt:
    """Stands for what may go wrong in the middle of a pass."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __call__(self, *_: object) -> None:
        raise self.error


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt("broken")])
@pytest.mark.parametrize("where", ["in the model", "in a hook"])
def test_no_hook_stays_behind(net, error, where):
    if where == "in the model":
        net.relu.forward = _Interrupt(error)
    else:
        handle = net.relu.register_forward_hook(_Interrupt(error))
    for run in (lambda: probe(net, "conv", "fc")(images()), lambda: survey(net, images(1))):
        with pytest.raises(type(error), match="broken"):
            run()
    if where == "in a hook":
        assert hooks_of(net) == 1
        handle.remove()
    assert hooks_of(net) == 0


def test_the_hooks_of_the_user_stay_and_are_seen(net):
    calls = []
    net.conv.register_forward_hook(lambda module, arguments, output: (calls.append("after"), output + 1)[1])
    net.conv.register_forward_pre_hook(lambda module, arguments: calls.append("before"))
    (recorded,) = probe(net, "conv", calls={"conv": 1})(images())
    assert calls == ["before", "after"]
    assert hooks_of(net) == 2
    torch.testing.assert_close(recorded, net.conv(normalized(images())))


# Names ----------------------------------------------------------------------------------------------------------------


def test_a_wrong_name_gets_a_suggestion(net):
    with pytest.raises(UnknownNameError, match=r"layer: no layer 'con' in this network\. Did you mean 'conv'"):
        find_layer(net, "con")
    with pytest.raises(UnknownNameError, match="Did you mean 'output'"):
        find_layer(net, "outputs")
    with pytest.raises(UnknownNameError, match="no layer ''"):
        find_layer(net, "")
    assert find_layer(net, OUTPUT) == OUTPUT


# Survey ---------------------------------------------------------------------------------------------------------------


def test_a_survey_counts_calls_and_shapes(net):
    state = torch.get_rng_state()
    found = survey(net.train(), images(1))
    assert found["conv"] == found["alias"] == ((4, 6, 6), 1)
    assert found["twice"] == ((4, 6, 6), 2)
    assert found["fc"] == found[OUTPUT] == ((5,), 1)
    assert found["twice#1"] == ((4, 6, 6), 1)
    assert found["twice#2"] == ((4, 6, 6), 2)
    assert "unused" not in found
    assert "conv#1" not in found
    assert hooks_of(net) == 0
    assert net.training
    assert torch.equal(state, torch.get_rng_state())
    assert net.norm.num_batches_tracked == 0


def test_a_survey_leaves_out_what_has_no_batch_axis():
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten()[:7]

    model = Function(lambda self, x: (self.odd(x), self.conv(x))[0], odd=Odd(), conv=nn.Conv2d(3, 2, 1))
    assert survey(model, images(1)) == {"conv": ((2, 6, 6), 1)}


def test_the_output_of_the_network_is_meant_even_if_a_module_has_its_name():
    model = Function(lambda self, x: self.output(x).mean((2, 3)), output=nn.Conv2d(3, 2, 1))
    assert survey(model, images(1))[OUTPUT] == ((2,), 1)
    assert survey(model, images(1))["output#1"] == ((2, 6, 6), 1)
    assert probe(model, "output#1")(images())[0].shape == (2, 2, 6, 6)
    assert probe(model, OUTPUT)(images())[0].shape == (2, 2)


@pytest.mark.parametrize("number", ["0", "-1", "", "first"])
def test_a_call_without_a_number_from_1_is_told_what_is_expected(number):
    with pytest.raises(
        UnknownNameError, match=f"behind the # expected the number of a call, 1 for the first, got '{number}'"
    ):
        find_layer(nn.Sequential(nn.ReLU()), f"0#{number}")
