"""Networks of every kind, which of a module's calls is meant, what depends on the other images, and fingerprints."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from closedloop.errors import CompanyWarning, InvalidArgumentError, SubjectError
from closedloop.interfaces import Fingerprinted
from closedloop.networks.modules import undisturbed
from closedloop.subjects import torch_subject
from tests.small_networks import SIZE, Function, Net, close, images, made, seeded, subject


@pytest.fixture
def net() -> Net:
    return made()


def small() -> nn.Module:
    return seeded(
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(196, 5))
    ).eval()


def compiled_inside() -> nn.Module:
    network = small()
    network[0].compile()
    network[3] = torch.compile(network[3])
    return network


def exported(batch: int, free: bool = False):
    shapes = ({0: torch.export.Dim("n")},) if free else None
    return torch.export.export(small(), (torch.zeros(batch, 3, SIZE, SIZE),), dynamic_shapes=shapes)


COMPILES = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch warns of itself
WHOLE = {
    "compiled": lambda: torch.compile(small()),
    "compiled inside": compiled_inside,
    "parallel": lambda: nn.DataParallel(small()),
    "compiled and parallel": lambda: torch.compile(nn.DataParallel(small())),
    "traced by fx": lambda: torch.fx.symbolic_trace(small()),
    "colours last": lambda: small().to(memory_format=torch.channels_last),
    "double": lambda: small().double(),
    "half": lambda: small().half(),
    "bfloat16": lambda: small().bfloat16(),
}


@COMPILES
@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("layer", ["0", "1", "output"])
def test_every_kind_of_network_answers_as_the_plain_one(kind, layer):
    recording, plain = subject(WHOLE[kind](), layer=layer), subject(small(), layer=layer)
    tolerance = {"half": 2e-3, "bfloat16": 2e-2}.get(kind, 1e-5) * np.abs(plain.record(images())).max()
    np.testing.assert_allclose(recording.record(images()), plain.record(images()), atol=tolerance)
    found = recording.forward(torch.from_numpy(images()).requires_grad_())
    assert found.dtype == (torch.float64 if kind == "double" else torch.float32)
    np.testing.assert_allclose(found.detach(), plain.record(images()), atol=tolerance)
    assert recording.units.coords["rf_y0"] == plain.units.coords["rf_y0"]


def test_names_of_a_parallel_network_may_have_its_prefix():
    recording = subject(nn.DataParallel(small()), layer="module.0")
    assert recording.units.coords["layer"] == ("0",) * 4


SCRIPTS = {
    "scripted": lambda: torch.jit.script(small()),
    "frozen": lambda: torch.jit.freeze(torch.jit.script(small())),
    "traced": lambda: torch.jit.trace(small(), torch.zeros(2, 3, SIZE, SIZE)),
    "exported": lambda: exported(2, free=True),
    "its module": lambda: exported(2, free=True).module(),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("kind", SCRIPTS)
def test_of_a_scripted_or_exported_network_the_output_is_recorded(kind):
    recording, plain = subject(SCRIPTS[kind]()), subject(small())
    close(recording.record(images()), plain.record(images()))
    x, y = (torch.from_numpy(images()).requires_grad_() for _ in range(2))
    recording.forward(x)[:, 2].sum().backward()
    plain.forward(y)[:, 2].sum().backward()
    close(x.grad, y.grad)
    inner = [name for name, _ in recording.model.named_modules() if name]
    if inner:
        with pytest.raises(InvalidArgumentError, match="scripted or exported are not called one by one; record its"):
            subject(recording.model, layer=inner[0])


@COMPILES
def test_a_part_that_is_scripted():
    network = nn.Sequential(torch.jit.script(small()[0]), nn.ReLU())
    close(subject(network).record(images()), subject(small(), layer="1").record(images()))
    with pytest.raises(InvalidArgumentError, match="scripted or exported are not called one by one"):
        subject(network, layer="0")


@COMPILES
def test_a_scripted_network_is_left_as_it_was_found():
    network = torch.jit.script(made().norm.train())
    before = network.running_mean.clone()
    with torch.no_grad(), undisturbed(network):
        network(torch.rand(4, 6, 3, 3))
        assert not network.training
        network.running_mean.add_(1)
    assert network.training
    assert torch.equal(network.running_mean, before)


def test_programs_for_a_fixed_number_of_images():
    with pytest.warns(CompanyWarning, match="it takes one at a time"):
        recording = subject(exported(1))
    close(recording.record(images()), subject(small()).record(images()))
    with pytest.raises(
        InvalidArgumentError, match=r"size\(\)\[0\] == 4.* export one that was exported for more images"
    ):
        subject(exported(4))


def test_networks_without_values():
    with pytest.raises(
        InvalidArgumentError, match=r"model: '0.weight' is on the device 'meta', which holds shapes and no"
    ):
        subject(small().to("meta"))
    with pytest.raises(InvalidArgumentError, match=r"'0.weight' has no shape and no values yet; run the network once"):
        subject(nn.Sequential(nn.LazyConv2d(4, 3)))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_quantized_network_has_responses_and_no_gradient():
    network = torch.ao.quantization.quantize_dynamic(small(), {nn.Linear}, dtype=torch.qint8)
    recording, plain = subject(network), subject(small())
    expected = plain.record(images())
    np.testing.assert_allclose(recording.record(images()), expected, atol=0.05 * np.abs(expected).max())
    assert recording.units.coords["rf_method"] == ("unknown",) * 5
    assert len(recording.fingerprint) == 64
    with pytest.raises(InvalidArgumentError, match="it has no gradient, for its network is quantized"):
        recording.forward(torch.from_numpy(images()).requires_grad_())


def test_why_a_layer_cannot_be_recorded(net):
    transposed = nn.Sequential(nn.Flatten(), Function(lambda x: x.T))
    for model, layer, why in (
        (net, "unused", "it is not called; a network may hold a module for its parts"),
        (transposed, "1", r"it returns \(768, 1\) for 1 image"),
        (Function(lambda x: torch.fft.fft2(x)), "output", "expected real numbers, got torch.complex64"),
        (Function(lambda x: None), "output", "expected an output tensor, got NoneType"),
    ):
        with pytest.raises(InvalidArgumentError, match=rf"layer: '{layer}' does not run, or returns no tensor.*{why}"):
            subject(model, layer=layer)


# Calls and company ----------------------------------------------------------------------------------------------------


class Shared(nn.Module):
    """One rectifier under two names, called on maps of two sizes."""

    def __init__(self) -> None:
        super().__init__()
        relu = nn.ReLU()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3), relu)
        self.second = nn.Sequential(nn.Conv2d(4, 2, 3, stride=2), relu)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


@pytest.mark.parametrize("engine", ["eager", "onnx"])
def test_a_module_with_two_names_is_recorded_at_the_call_that_is_named(engine):
    network = seeded(Shared)
    with pytest.raises(
        InvalidArgumentError,
        match=r"'first.1' and 'second.1' are one module, which runs 2 times .*: 'first.1#1', 'first",
    ):
        subject(network, layer="first.1", engine=engine)
    recording = subject(network, layer=["first.1#1", "second.1#2"], units="full", engine=engine)
    assert set(recording.units.coords["layer"]) == {"first.1#1", "second.1#2"}
    first, second = (subject(network, layer=name, units="full") for name in ("first", "second"))
    close(recording.record(images()), np.hstack([first.record(images()), second.record(images())]))
    assert recording.units.coords["rf_y1"][0] == 3
    with pytest.raises(InvalidArgumentError, match=r"'first.1#3': expected one of the calls 'first.1#1', 'first.1#2'"):
        subject(network, layer="first.1#3")


@pytest.mark.parametrize("engine", ["eager", "onnx"])
def test_a_module_that_runs_twice_is_recorded_at_its_last_call_or_the_named_one(net, engine):
    conv = subject(net, layer="relu").record(images())
    assert conv.shape == (4, 6)
    first, second, last = (
        subject(net, layer=name, units="full", engine=engine).record(images())
        for name in ("twice#1", "twice#2", "twice")
    )
    close(second, last)
    assert not np.allclose(first, last)


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_batch_norm_without_statistics_is_warned_of_where_it_counts(where):
    """Also where the recorded unit is silent for every image that was tried."""
    norm = nn.BatchNorm2d(4, track_running_stats=False)
    silent = Function(lambda x: (x - 100).relu())
    order = [norm, silent] if where == "before" else [silent, norm]
    network = seeded(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), *order))
    layer = "2" if where == "before" else "1"
    if where == "before":
        with pytest.warns(
            CompanyWarning, match="batch norm '1' has no statistics of its own and takes those of the batch"
        ):
            subject(network, layer=layer)
    else:
        subject(network, layer=layer)


def test_a_part_that_switches_itself_to_training():
    class Training(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm.train()(x).square().mean((2, 3)) * self.norm.running_mean

    with pytest.warns(CompanyWarning, match="alone and together its answers differ"):
        recording = subject(Training())
    whole = recording.record(images())
    close(np.concatenate([recording.record(image[None]) for image in images()]), whole)
    close(recording.forward(torch.from_numpy(images())).detach(), whole)


def test_rows_are_counted_whenever_it_records(net, monkeypatch):
    recording = subject(net)

    def mixing(batch: np.ndarray) -> np.ndarray:
        return np.ones((1, 5), np.float32)

    mixing.runs_torch = True
    monkeypatch.setattr(recording, "_engine", mixing)
    with pytest.raises(
        SubjectError, match="subject 'Net': expected a row for each of 4 images, got 1; the network mixes"
    ):
        recording.record(images())


# The fingerprint ------------------------------------------------------------------------------------------------------


def test_the_fingerprint_tells_weights_units_and_colours_and_not_engines(net):
    known = subject(net).fingerprint
    assert len(known) == 64
    assert subject(made()).fingerprint == known
    assert subject(made(), engine="onnx", name="other").fingerprint == known
    others = [
        subject(made(), units=[0, 1]),
        subject(made(), layer="conv"),
        subject(made(), mean=(0, 0, 0)),
        subject(made(), resolution=17),
        subject(seeded(Net, 1)),
        subject(made().double()),
    ]
    assert len({known, *(other.fingerprint for other in others)}) == 7
    assert isinstance(subject(net), Fingerprinted)


def test_weights_are_read_once(net, monkeypatch):
    calls = []
    read = torch_subject.weights_sha256
    monkeypatch.setattr(torch_subject, "weights_sha256", lambda state: (calls.append(1), read(state))[1])
    recording = subject(net, recipe={"name": "net"})
    assert recording.fingerprint == recording.fingerprint
    assert len(recording.units.coords["rf_y0"]) == 5
    assert calls == [1]
