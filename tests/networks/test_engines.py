import io
import shutil
import sys
import warnings

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from closedloop.errors import CompanyWarning, InvalidArgumentError
from closedloop.networks import engines
from closedloop.networks.engines import (
    Eager,
    EngineWarning,
    build_engine,
    export_onnx,
    parity,
    probe_batch,
)
from closedloop.networks.modules import undisturbed
from closedloop.subjects import TorchSubject
from closedloop.subjects.options import OUTPUT
from closedloop.subjects.probe import Probe

SIZE = 16
CPU = torch.device("cpu")


class Net(nn.Module):
    """Operations in place after recorded layers, and a layer used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)
        self.twice = nn.Conv2d(6, 6, 3, padding=1)
        self.big = nn.Conv2d(6, 64, 3, stride=2)
        self.fc = nn.Linear(64, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.relu(self.norm(self.conv(x)))
        x = self.twice(x)
        x += 1
        x = self.big(self.twice(x)).relu_()
        return self.fc(x.mean((2, 3))), x


class Function(nn.Module):
    """A forward pass written in place after a first layer."""

    def __init__(self, function) -> None:
        super().__init__()
        self.conv = seeded(lambda: nn.Conv2d(3, 4, 3))
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.conv(x))


class Turned(nn.Module):
    """Channels and positions to positions and channels, which are tokens."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


class Negated(torch.autograd.Function):
    """An operation that no exporter knows."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return torch.from_numpy(-x.detach().numpy())


def seeded(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make()


@pytest.fixture
def net() -> Net:
    net = seeded(Net)
    net.norm.running_mean.copy_(torch.linspace(-1, 1, 6))
    return net.eval()


def probe(model: nn.Module, *layers: str, units: int = 5) -> Probe:
    picks = [torch.arange(units)] * len(layers)
    return Probe(model.eval(), layers, (0.5,) * 3, (0.25,) * 3, picks)


def images(n: int = 5) -> np.ndarray:
    return np.random.default_rng(1).random((n, 3, SIZE, SIZE), dtype=np.float32)


def subject(model: nn.Module, layer=OUTPUT, engine: str = "auto", **options) -> TorchSubject:
    return TorchSubject(model, layer=layer, resolution=SIZE, engine=engine, **options)


def close(actual: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def export(model: nn.Module, layer: str) -> onnx.ModelProto:
    return onnx.load_model_from_string(exported(probe(model, layer)))


def exported(model: Probe) -> bytes:
    return export_onnx(model, torch.from_numpy(images(2)), "images", len(model.layers))


# ONNX -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", ["conv", "norm", "relu", "twice", "big", "fc", OUTPUT])
def test_onnx_records_the_same_at_every_layer(net, layer):
    fast, eager = subject(net, layer, "onnx"), subject(net, layer, "eager")
    assert (fast.engine, eager.engine) == ("onnx", "eager")
    recorded = fast.record(images())
    assert recorded.dtype == np.float32
    close(recorded, eager.record(images()))


def test_onnx_records_several_layers_in_their_order(net):
    layers = ["fc", "norm", OUTPUT, "twice"]
    close(subject(net, layers, "onnx").record(images()), subject(net, layers, "eager").record(images()))


def test_the_recorded_tensor_is_the_one_before_an_operation_in_place(net):
    recorded = subject(net, "norm", "onnx").record(images())
    assert (recorded < 0).any()


@pytest.mark.parametrize("engine", ["eager", "onnx"])
def test_a_response_does_not_depend_on_the_batch(net, engine):
    recording = subject(net, ["conv", OUTPUT], engine)
    whole = recording.record(images(9))
    close(np.concatenate([recording.record(image[None]) for image in images(9)]), whole)
    close(recording.record(images(9)[::-1])[::-1], whole)


def test_the_graph_ends_at_the_deepest_layer(net):
    early, late = export(net, "norm"), export(net, OUTPUT)
    assert len(early.graph.node) < len(late.graph.node)
    assert {"model.fc.weight", "model.big.weight"} <= {t.name for t in late.graph.initializer}
    assert not {"model.fc.weight", "model.big.weight"} & {t.name for t in early.graph.initializer}
    assert early.ByteSize() < 4000 < late.ByteSize()


def test_what_lies_above_the_deepest_layer_need_not_be_exportable():
    assert subject(Function(WRONG["an exception"]), "conv", "onnx").engine == "onnx"


def test_each_layer_is_compared_on_its_own_scale():
    wrong = Function(lambda x: x * (2e-6 if torch.onnx.is_in_onnx_export() else 1e-6))
    with pytest.raises(InvalidArgumentError, match=r"onnx differs from eager torch by 1\.0e\+00 relative"):
        subject(wrong, ["conv", OUTPUT], "onnx")


def test_an_export_leaves_the_network_alone(net):
    net.train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    state = torch.get_rng_state()
    with undisturbed(net):
        exported(probe(net.train(), "fc"))
    assert net.training
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert not torch.jit.is_tracing()


# The choice -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "expected", "runs"),
    [
        ({"onnx": 1.0, "eager": 2.5}, "onnx", ["eager", "onnx"]),  # clear at once
        ({"onnx": 1.0, "eager": 1.5}, "onnx", ["eager", "onnx"] + ["onnx"] * 2 + ["eager"] * 2),
        ({"onnx": 2.0, "eager": 1.0}, "eager", ["eager", "onnx"] + ["onnx"] * 2 + ["eager"] * 2),
    ],
)
def test_auto_takes_the_fastest_without_a_word(net, monkeypatch, seconds, expected, runs):
    timed = []

    def time(engine, images):
        timed.append(engine.name)
        return engine(images), seconds[engine.name]

    monkeypatch.setattr(engines, "_timed", time)
    assert subject(net).engine == expected
    assert timed == runs


WRONG = {
    "a branch on the image": lambda x: torch.cat([r if float(r.std()) > 0.01 else -r for r in x.split(1)]),
    "another number": lambda x: 2 * x if torch.onnx.is_in_onnx_export() else x,
    "a loop over images": lambda x: torch.stack([row for row in x]),  # noqa: C416 - unrolled
    "an unknown operation": Negated.apply,
    "an exception": lambda x: x if not torch.onnx.is_in_onnx_export() else 1 / 0,
    "random numbers": lambda x: F.dropout(x, 0.5, training=True),
    "a little noise": lambda x: x + 1e-6 * torch.randn_like(x),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_wrong_export_is_found_and_warned_of_once(wrong):
    model = Function(wrong)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        recording = subject(model)
    assert [w.category for w in caught] == [EngineWarning]
    assert "eager torch" in str(caught[0].message)
    assert caught[0].filename == __file__
    assert recording.engine == "eager"
    with pytest.raises(InvalidArgumentError, match="engine: "):
        subject(model, engine="onnx")


def test_a_failing_export_prints_nothing(capfd):
    with pytest.warns(EngineWarning, match="UnsupportedOperatorError"):
        subject(Function(lambda x: torch.fft.fft(x).real))
    assert capfd.readouterr() == ("", "")


def test_attention_is_exported():
    attention = seeded(lambda: nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)).eval()
    recording = subject(nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.Flatten(2), Turned(), attention), engine="onnx")
    with torch.no_grad():
        close(recording.record(images()), Eager(recording._probe, CPU)(images()))
    assert torch.backends.mha.get_fastpath_enabled()


def test_the_warning_says_what_went_wrong():
    with pytest.warns(
        EngineWarning, match=r"onnx differs from eager torch by .* expected at most 1e-03\. Running it with eager torch"
    ):
        subject(Function(WRONG["another number"]))
    with pytest.warns(EngineWarning, match="cannot be run by the fast engine .*ZeroDivisionError"):
        subject(Function(WRONG["an exception"]))
    with pytest.warns(EngineWarning, match="draws random numbers"):
        subject(Function(WRONG["random numbers"]))


class Deaf(nn.Module):
    """Answers the same to whatever it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.head = seeded(lambda: nn.Linear(1, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.ones(len(x), 1))


def test_of_a_network_that_looks_at_no_image_it_is_said():
    with pytest.warns(EngineWarning, match="its outputs do not depend on what it is given"):
        deaf = subject(Deaf())
    answers = deaf.record(np.random.default_rng(0).random((5, 3, 32, 32), dtype=np.float32))
    assert (answers == answers[0]).all()


COMPANY = {
    "a branch on the batch": lambda x: x if len(x) > 1 else 2 * x,
    "a constant of the batch": lambda x: x * len(x.tolist()),
    "a sum over the batch": lambda x: x - x.mean(0),
    "one row for all": lambda x: x.mean(0, keepdim=True),
    "a batch that is written in": lambda x: x.reshape(1, -1),
    "the first for all": lambda x: x[:1].expand(len(x), -1, -1, -1),
    "the last for all": lambda x: x[-1:].expand(len(x), -1, -1, -1),
    "the other order": lambda x: x.flip(0),
    "one at a time": lambda x: x if len(x) == 1 else 1 / 0,
    "batch statistics": lambda x: F.batch_norm(x, None, None, training=True),
}


@pytest.mark.parametrize("engine", ["auto", "eager", "onnx"])
@pytest.mark.parametrize("kind", COMPANY)
def test_a_network_whose_rows_depend_on_their_neighbours_is_shown_one_at_a_time(kind, engine):
    model = Function(COMPANY[kind])
    if (kind, engine) == ("batch statistics", "onnx"):
        pytest.skip("is not known to the exporter")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        recording = subject(model, units="random:1", engine=engine)
    caught = [warning for warning in caught if warning.category is CompanyWarning]
    assert len(caught) == 1
    assert "its answer to one of the images depends on those beside it" in str(caught[0].message)
    assert caught[0].filename == __file__
    with torch.no_grad():
        expected = np.concatenate([Eager(recording._probe, CPU)(image[None]) for image in images(5)])
    close(recording.record(images(5)), expected)
    forward = recording.forward(torch.from_numpy(images(5)))
    close(forward.detach().numpy(), expected)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_rounding_is_no_company(net, kind):
    with warnings.catch_warnings():
        warnings.simplefilter("error", CompanyWarning)
        subject(net.to(kind), "fc", engine="eager")
        subject(Function(lambda x: x * float("nan")), engine="eager")
        subject(Function(lambda x: torch.zeros_like(x)), engine="eager")


def test_random_numbers_are_no_company():
    drawn = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", CompanyWarning)
        subject(Function(lambda x: x + torch.randn_like(x)), engine="eager")
        subject(Function(lambda x: x + float(drawn.random())), engine="eager")


def test_an_interrupt_during_the_export_passes(net, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt("stop")

    monkeypatch.setattr(engines, "export_onnx", interrupted)
    net.train()
    with pytest.raises(KeyboardInterrupt, match="stop"):
        subject(net)
    assert all(module.training for module in net.modules())


def test_an_unknown_engine(net):
    with pytest.raises(InvalidArgumentError, match=r"engine: no engine 'onx'\. Did you mean 'onnx'"):
        subject(net, engine="onx")


def test_nothing_is_exported_for_eager_or_a_gpu(net, monkeypatch):
    monkeypatch.setattr(engines, "_checked", None)
    given = {"input_name": "images", "widths": (5,)}
    assert build_engine("eager", probe(net, "fc"), images(2), device=CPU, **given).name == "eager"
    cuda = torch.device("cuda")
    looked = engines._looked(Eager(probe(net, "fc"), CPU), images(2), (5,), 1e-3, "")
    monkeypatch.setattr(engines, "_looked", lambda *_: looked)
    assert build_engine("auto", probe(net, "fc"), images(2), device=cuda, autocast=True, **given).name == "eager"


def test_half_precision_is_for_a_gpu(net):
    plain, autocast = (Eager(probe(net, "fc"), CPU, autocast)(images()) for autocast in (False, True))
    assert np.array_equal(plain, autocast)


def test_other_floating_point_types_are_recorded_as_float32(net):
    with pytest.warns(EngineWarning, match="cannot be run by the fast engine"):
        recording = subject(seeded(Net).eval().double(), engine="auto")
    net = seeded(Net).eval()
    assert recording.record(images()).dtype == np.float32
    close(recording.record(images()), subject(net, engine="eager").record(images()))


# A generator's decoder ------------------------------------------------------------------------------------------------


class Decoder(nn.Module):
    """From codes to one tensor of images."""

    def __init__(self, wrong: float = 1.0) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 3 * 4 * 4)
        self.up = nn.ConvTranspose2d(3, 3, 4, stride=2, padding=1)
        self.wrong = wrong

    def forward(self, codes: Tensor) -> tuple[Tensor]:
        factor = self.wrong if torch.onnx.is_in_onnx_export() else 1.0
        return (factor * self.up(self.fc(codes).reshape(-1, 3, 4, 4)).sigmoid(),)


def codes(n: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((n, 6)).astype(np.float32)


@pytest.mark.parametrize("choice", ["onnx", "auto"])
def test_images_of_codes_come_from_the_fast_engine(choice):
    decoder = seeded(Decoder).eval()
    engine = build_engine(choice, decoder, codes(4), input_name="codes", device=CPU)
    eager = build_engine("eager", decoder, codes(4), input_name="codes", device=CPU)
    for n in (1, 5):
        pictures = engine(codes(n))
        assert pictures.shape == (n, 3, 8, 8)
        close(pictures, eager(codes(n)))


def test_a_decoder_whose_export_differs_is_refused():
    with pytest.raises(InvalidArgumentError, match=r"onnx differs from eager torch by 1\.0e-02 relative"):
        build_engine("onnx", seeded(lambda: Decoder(0.99)).eval(), codes(4), input_name="codes", device=CPU)


# Parity ---------------------------------------------------------------------------------------------------------------


def test_the_probe_batch_is_fixed_and_of_all_brightnesses():
    batch = probe_batch(20)
    assert batch.shape == (engines.PROBE_BATCH, 3, 20, 20)
    assert np.array_equal(batch, probe_batch(20))
    assert batch.min() == 0
    assert batch.max() <= 1
    means = batch.mean((1, 2, 3))
    assert means[0] > 0.4
    assert means[-1] == 0
    assert len(np.unique(means)) == len(batch)


def test_parity_is_relative_to_the_largest_response_of_a_unit():
    expected = np.array([[10, 100], [-20, 50]], np.float32)
    assert parity(expected, expected) == 0
    assert parity(expected + np.float32([[0.2, 0], [0, 0]]), expected) == pytest.approx(0.01)
    assert parity(expected + np.float32([[0, 0], [0, -1]]), expected) == pytest.approx(0.01)


def test_parity_of_a_silent_unit_is_relative_to_its_layer():
    expected = np.array([[0, 100]], np.float32)
    assert parity(np.array([[1e-5, 100]], np.float32), expected) == pytest.approx(2e-6)
    small = np.array([[1e-4, 1e4]], np.float32)
    assert parity(2 * small[:, :1], small[:, :1]) == 1
    assert parity(small * [[2, 1]], small) < 1e-4
    assert parity(small * [[2, 1]], small, widths=(1, 1)) == 1


@pytest.mark.parametrize("wrong", [[[np.nan, 1]], [[np.inf, 1]], [[1]]])
def test_parity_of_what_is_not_a_response(wrong):
    assert parity(np.array(wrong, np.float32), np.ones((1, 2), np.float32)) == np.inf


def test_threads_are_those_of_torch(net, monkeypatch):
    import onnxruntime

    seen = []
    real = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda *a: (seen.append(a[1].intra_op_num_threads), real(*a))[1]
    )
    subject(net, "fc", "onnx")
    assert seen == [torch.get_num_threads()]


# Compiled -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [["norm", "twice", OUTPUT], ["norm", "twice"]])
def test_the_compiled_graph_is_the_exported_probe(net, monkeypatch, layers):
    monkeypatch.setattr(torch, "compile", lambda module, dynamic: module)
    net.train()
    state = torch.get_rng_state()
    recording = subject(net, layers, "compile")
    assert recording.engine == "compile"
    assert net.training
    assert torch.equal(state, torch.get_rng_state())
    eager = subject(net, layers, "eager")
    for n in (1, 2, 7):
        close(recording.record(images(n)), eager.record(images(n)))


@pytest.mark.skipif(sys.platform == "win32" or not shutil.which("c++"), reason="torch.compile needs a C++ compiler")
@pytest.mark.long
def test_compiled_records_the_same():
    model = seeded(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True))).eval()
    recording = subject(model, "0", "compile")
    close(recording.record(images(3)), subject(model, "0", "eager").record(images(3)))


def test_a_network_that_cannot_be_compiled(monkeypatch):
    with pytest.raises(InvalidArgumentError, match="engine: this network cannot be run by the fast engine"):
        subject(Function(WRONG["an unknown operation"]), engine="compile")


def test_an_exported_graph_is_a_file_that_others_can_read(net):
    model = onnx.load(io.BytesIO(exported(probe(net, "conv", "fc"))))
    onnx.checker.check_model(model)
    assert [entry.name for entry in model.graph.input] == ["images"]
    assert [entry.name for entry in model.graph.output] == ["output0", "output1"]
