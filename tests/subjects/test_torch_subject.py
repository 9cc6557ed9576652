import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from closedloop.errors import InvalidArgumentError, UnknownNameError
from closedloop.images.resizing import resize_images
from closedloop.interfaces import Described, Differentiable, Layered, Stateful, Subject
from closedloop.recording.states import pack_state, unpack_state
from closedloop.subjects import TorchSubject, torch_subject
from closedloop.testing import SubjectContract
from tests.small_networks import SIZE, Function, Net, close, images, made, seeded, subject


class Noisy(nn.Module):
    """Random in evaluation mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.conv(x), 0.5, training=True).mean((2, 3))


@pytest.fixture
def net() -> Net:
    return made()


def normalized(x: np.ndarray) -> Tensor:
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (torch.from_numpy(x) - mean.view(3, 1, 1)) / std.view(3, 1, 1)


# The contract ---------------------------------------------------------------------------------------------------------


class TestEager(SubjectContract):
    def make(self) -> TorchSubject:
        return subject(made(), layer=["norm", "output"])


class TestOnnx(SubjectContract):
    def make(self) -> TorchSubject:
        return subject(made(), layer=["norm", "output"], engine="onnx")


class TestNoisy(SubjectContract):
    noisy = True

    def make(self) -> TorchSubject:
        return subject(seeded(Noisy))


def test_its_capabilities(net):
    made_by_hand = subject(net)
    assert isinstance(made_by_hand, Subject)
    assert isinstance(made_by_hand, Differentiable)
    assert isinstance(made_by_hand, Stateful)
    assert isinstance(made_by_hand, Described)
    assert made_by_hand.recipe is None
    assert made_by_hand.name == "Net"
    assert subject(net, name="mine").name == "mine"


# Responses ------------------------------------------------------------------------------------------------------------


def test_records_what_the_network_computes(net):
    recorded = subject(net, layer=["conv", "output"], units={"conv": [(2, 3, 4), 5], "output": "all"}).record(images())
    net.eval()
    with torch.no_grad():
        conv, logits = net.conv(normalized(images())), net(normalized(images()))["logits"]
    close(recorded[:, 0], conv[:, 2, 3, 4])
    close(recorded[:, 1], conv[:, 5, 8, 8])
    close(recorded[:, 2:], logits)
    assert recorded.dtype == np.float32


def test_is_recorded_elsewhere(net):
    """Another subject of the same network, in the same colours, that records other layers and units."""
    here = TorchSubject(net, resolution=SIZE, mean=(0.1, 0.2, 0.3), std=(0.5,) * 3, engine="eager", name="net")
    first = next(name for name, module in net.named_modules() if isinstance(module, nn.Conv2d))
    there = here.at([first, "output"], "0-1")
    assert isinstance(here, Layered)
    assert (there.name, there.model, there.units.coords["layer"]) == ("net", net, (first, first, "output", "output"))
    np.testing.assert_array_equal(there.record(images(2))[:, 2:], here.record(images(2))[:, :2])
    assert there.recipe is None
    with pytest.raises(UnknownNameError, match="no layer 'nowhere'"):
        here.at("nowhere")


def test_other_colors(net):
    recorded = subject(net, layer="conv", units=(0, 8, 8), mean=(0, 0, 0), std=(1, 1, 1)).record(images())
    close(recorded[:, 0], net.conv(torch.from_numpy(images())).detach()[:, 0, 8, 8])


@pytest.mark.parametrize("engine", ["eager", "onnx"])
def test_chunks_give_the_same_responses(net, monkeypatch, engine):
    recording = subject(net, layer=["conv", "output"], engine=engine)
    whole = recording.record(images(7))
    sizes = []
    run = recording._engine

    def counting(batch: np.ndarray) -> np.ndarray:
        sizes.append(len(batch))
        return run(batch)

    counting.runs_torch = run.runs_torch
    monkeypatch.setattr(recording, "_engine", counting)
    monkeypatch.setattr(torch_subject, "MEMORY", 3 * recording._bytes)
    close(recording.record(images(7)), whole)
    monkeypatch.setattr(torch_subject, "MEMORY", 1)
    close(recording.record(images(7)), whole)
    assert sizes == [3, 3, 1] + 7 * [1]


def test_memory_covers_the_largest_activation(net):
    assert subject(net)._bytes == 4 * 4 * 6 * SIZE * SIZE
    assert subject(net.double())._bytes == 4 * 8 * 6 * SIZE * SIZE


def test_a_chunk_is_halved_where_a_gpu_has_no_room(net, monkeypatch):
    recording = subject(net)
    whole, run, sizes = recording.record(images(5)), recording._engine, []

    def small(batch: np.ndarray) -> np.ndarray:
        sizes.append(len(batch))
        if len(batch) > 2:
            raise torch.cuda.OutOfMemoryError("no room")
        return run(batch)

    small.runs_torch = True
    monkeypatch.setattr(recording, "_engine", small)
    close(recording.record(images(5)), whole)
    assert sizes == [5, 2, 3, 1, 2]


@pytest.mark.parametrize("size", [8, 16, 29])
def test_images_of_another_size_are_resized_the_same_way_everywhere(net, size):
    recording = subject(net, layer=["conv", "output"])
    recorded = recording.record(images(size=size))
    close(recorded, recording.record(resize_images(images(size=size), SIZE)))
    close(recording.forward(torch.from_numpy(images(size=size))).detach(), recorded)


def test_oblong_images(net):
    wide = np.random.default_rng(0).random((2, 3, 12, 20), dtype=np.float32)
    close(subject(net).forward(torch.from_numpy(wide)).detach(), subject(net).record(wide))


def test_the_gradient_is_that_of_the_network(net):
    x = torch.from_numpy(images(2)).requires_grad_()
    (gradient,) = torch.autograd.grad(subject(net, units=3).forward(x).sum(), x)
    y = torch.from_numpy(images(2)).requires_grad_()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    net.eval()((y - mean.view(3, 1, 1)) / std.view(3, 1, 1))["logits"][:, 3].sum().backward()
    close(gradient, y.grad)
    assert gradient.abs().max() > 0


class Layout(nn.Module):
    """Notes how its images lie in memory; flattens its map by a view, as many networks do, or not."""

    def __init__(self, view: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.view = view
        self.last: list[bool] = []

    def forward(self, x: Tensor) -> Tensor:
        self.last.append(x.is_contiguous(memory_format=torch.channels_last))
        x = self.conv(x).relu()
        return x.view(len(x), -1) if self.view else x.flatten(1)


@pytest.mark.parametrize("view", [True, False])
def test_colors_lie_last_for_gradients_where_the_network_takes_that(view):
    network = seeded(lambda: Layout(view))
    subject = TorchSubject(network, units=[5, 70], resolution=SIZE, engine="eager")
    x = torch.from_numpy(images(2)).requires_grad_()
    responses = subject.forward(x)
    assert network.last[-1] != view
    close(responses.detach(), subject.record(images(2)))
    assert not network.last[-1]
    (gradient,) = torch.autograd.grad(responses.sum(), x)
    y = torch.from_numpy(images(2)).requires_grad_()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    network((y - mean.view(3, 1, 1)) / std.view(3, 1, 1))[:, [5, 70]].sum().backward()
    close(gradient, y.grad)


# Units ----------------------------------------------------------------------------------------------------------------


def test_units_say_what_was_recorded(net):
    recording = subject(
        net, layer=["conv", "output"], units={"output": [1, 7 - 4], "conv": [2, (2, 3, 4)]}, labels=["a", "b", "c"]
    )
    assert recording.units.neuroid_id == ("Net.conv.2@8,8", "Net.conv.2@3,4", "Net.output.1", "Net.output.3")
    coords = recording.units.coords
    assert coords["layer"] == ("conv", "conv", "output", "output")
    assert coords["channel"] == (2, 2, 1, 3)
    assert (coords["y"], coords["x"]) == ((8, 3, -1, -1), (8, 4, -1, -1))
    assert coords["position"] == ("central", "given", "none", "none")
    assert coords["label"] == ("", "", "b", "")
    assert coords["rf_method"] == ("computed",) * 4
    boxes = [tuple(coords[f"rf_{side}"][i] for side in ("y0", "x0", "y1", "x1")) for i in range(4)]
    assert boxes == [(7, 7, 10, 10), (2, 3, 5, 6), (0, 0, SIZE, SIZE), (0, 0, SIZE, SIZE)]


def test_an_early_layer_alone_has_a_computed_field(net):
    coords = subject(net.train(), layer="norm").units.coords  # in training mode it would see the whole batch
    assert (set(coords["rf_method"]), set(coords["rf_y0"]), set(coords["rf_y1"])) == ({"computed"}, {7}, {10})


def test_one_specification_for_all_layers(net):
    assert subject(net, layer=["conv", "twice"], units="random:2", seed=3).units.coords["layer"] == (
        "conv", "conv", "twice", "twice",
    )  # fmt: skip


def test_the_seed_draws_the_units(net):
    drawn = [subject(net, layer="conv", units="random:3", seed=seed).units.coords["channel"] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_network_without_gradient_has_an_unknown_field():
    rounded = Function(lambda x: torch.from_numpy(x.detach().numpy().mean((2, 3))))
    units = subject(rounded).units
    assert set(units.coords["rf_method"]) == {"unknown"}
    assert units.coords["rf_y1"] == (SIZE,) * 3
    assert subject(rounded).record(images()).shape == (4, 3)


# Left as it was found -------------------------------------------------------------------------------------------------


def snapshot(model: nn.Module) -> dict[str, object]:
    """All of a network and of the global random states that must stay as they are."""
    kind, keys, position, *rest = np.random.get_state()  # noqa: NPY002
    return {
        "modes": [m.training for m in model.modules()],
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "objects": [id(t) for t in (*model.parameters(), *model.buffers())],
        "values": [t.detach().numpy().tobytes() for t in (*model.parameters(), *model.buffers())],
        "grad": [None if p.grad is None else p.grad.numpy().tobytes() for p in model.parameters()],
        "hooks": [(list(m._forward_hooks.items()), list(m._forward_pre_hooks.items())) for m in model.modules()],
        "attributes": [sorted(vars(m)) for m in model.modules()],
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": (kind, keys.tobytes(), position, *rest),
        "grad mode": torch.is_grad_enabled(),
    }


@pytest.fixture
def mixed(net) -> Net:
    """In training mode with exceptions, partly frozen, with gradients and the user's own hooks."""
    net.train()
    net.norm.eval()
    net.conv.weight.requires_grad_(False)
    net.fc.bias.grad = torch.ones(5)
    net.conv.register_forward_hook(lambda module, arguments, output: output)
    net.conv.register_forward_pre_hook(lambda module, arguments: None)
    return net


@pytest.mark.parametrize("engine", ["auto", "eager", "onnx"])
def test_it_is_left_as_it_was_found(mixed, engine):
    before = snapshot(mixed)
    recording = subject(mixed, layer=["conv", "twice", "output"], engine=engine)
    assert snapshot(mixed) == before
    recording.record(images())
    assert snapshot(mixed) == before
    assert len(recording.units) == 17
    assert snapshot(mixed) == before
    x = torch.from_numpy(images()).requires_grad_()
    recording.forward(x).square().sum().backward()
    assert x.grad.abs().max() > 0
    assert snapshot(mixed) == before


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["model", "hook"])
def test_it_is_left_as_it_was_found_after_an_exception(mixed, error, where):
    broken = False

    def fail(*_):
        if broken:
            raise error("broken")

    mixed.twice.register_forward_hook(fail) if where == "hook" else mixed.relu.register_forward_pre_hook(fail)
    recording = subject(mixed, layer=["conv", "output"])
    before, broken = snapshot(mixed), True
    attempts = (
        lambda: recording.record(images()),
        lambda: recording.forward(torch.from_numpy(images()).requires_grad_()),
        lambda: recording.receptive_fields(),
    )
    for attempt in attempts:
        with pytest.raises(error, match="broken"):
            attempt()
        assert snapshot(mixed) == before
    with pytest.raises(InvalidArgumentError if error is RuntimeError else error, match="broken"):
        subject(mixed, layer="output")
    assert snapshot(mixed) == before


def test_the_memory_of_the_caller_is_left_alone(net):
    shown = images()
    before = shown.copy()
    overwriting = Function(lambda x: x.mul_(0).mean((2, 3)))
    for recording in (subject(net), subject(overwriting)):
        recording.record(shown)
        x = torch.from_numpy(shown).clone()
        recording.forward(x)
        assert np.array_equal(x.numpy(), before)
        assert np.array_equal(shown, before)


# Random networks ------------------------------------------------------------------------------------------------------


def test_a_random_network_draws_from_a_stream_of_its_own():
    first, second = (subject(seeded(Noisy), seed=seed).record(images()) for seed in (0, 1))
    assert not np.allclose(first, second)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    recording = subject(seeded(Noisy))
    again = [recording.record(images()), recording.record(images())]
    assert np.array_equal(again[0], first)
    assert not np.allclose(*again)
    assert torch.equal(state, torch.get_rng_state())


def test_its_state_brings_the_stream_back_through_a_file():
    recording = subject(seeded(Noisy))
    recording.record(images())
    state = unpack_state(pack_state(recording.state()))
    expected = [recording.record(images()), recording.forward(torch.from_numpy(images())).detach().numpy()]
    fresh = subject(seeded(Noisy), seed=7)
    for again in (recording, fresh):
        again.restore(state)
        assert np.array_equal(again.record(images()), expected[0])
        assert np.array_equal(again.forward(torch.from_numpy(images())).detach().numpy(), expected[1])


def test_a_saved_state_does_not_move_on():
    recording = subject(seeded(Noisy))
    state = recording.state()
    before = state["random"].copy()
    recording.record(images())
    assert np.array_equal(state["random"], before)
    recording.restore(state)
    recording.record(images())
    assert np.array_equal(state["random"], before)


def test_the_gradient_path_draws_from_the_same_stream():
    recording, other = subject(seeded(Noisy)), subject(seeded(Noisy), seed=1)
    x = torch.from_numpy(images())
    first, second = recording.forward(x), recording.forward(x)
    assert not torch.allclose(first, second)
    assert not torch.allclose(first, other.forward(x))
    assert np.array_equal(subject(seeded(Noisy)).record(images()), first.detach().numpy())


# All kinds of networks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "units"),
    [
        (lambda x: x.mean((2, 3)), 3),
        (lambda x: (x.mean((2, 3)), x), 3),
        (lambda x: {"other": x, "out": x.mean(2)}, SIZE),
        (lambda x: x, 3),
    ],
    ids=["tensor", "tuple", "dictionary", "map"],
)
@pytest.mark.parametrize("engine", ["eager", "onnx"])
def test_a_network_without_parameters(function, units, engine):
    recording = subject(Function(function), engine=engine)
    assert recording.record(images()).shape == (4, units) == (4, len(recording.units))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_network_of_another_type(net, dtype):
    expected = subject(net, layer="conv").record(images())
    recording = subject(net.to(dtype), layer="conv")
    recorded = recording.record(images())
    assert recorded.dtype == np.float32
    np.testing.assert_allclose(recorded, expected, atol=1e-5 if dtype is torch.float64 else 0.1)
    x = torch.from_numpy(images()).requires_grad_()
    recording.forward(x).sum().backward()
    assert x.grad.dtype == torch.float32


def test_transformer_tokens():
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 8, 4, stride=4)
            self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.block(self.patches(x).flatten(2).transpose(1, 2))[:, 0]

    recording = subject(
        seeded(Tokens), layer=["block.linear1", "block"], units={"block.linear1": 15, "block": (3, 0, 9)}
    )
    assert recording.units.neuroid_id == ("Tokens.block.linear1.15@0,10", "Tokens.block.3@0,9")
    recorded = recording.record(images())
    close(subject(recording.model, layer="block", units="full").record(images())[:, 3 * 16 + 9], recorded[:, 1])


def test_grayscale_networks_and_fixed_sizes_give_a_clear_error():
    gray = nn.Sequential(nn.Conv2d(1, 4, 3))
    with pytest.raises(
        InvalidArgumentError, match=r"model: it cannot be run on an RGB image of 16 x 16 .*to have 1 channels"
    ):
        subject(gray)
    fixed = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))
    with pytest.raises(
        InvalidArgumentError, match=r"16 x 16 pixels \(RuntimeError: .*\)\. Give the resolution it was made"
    ):
        subject(fixed)
    assert subject(fixed, resolution=8).record(images()).shape == (4, 2)


# Errors ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": "con"}, r"no layer 'con' in this network\. Did you mean 'conv'"),
        ({"layer": "unused"}, "layer: 'unused' does not run, or returns no tensor with a batch axis"),
        ({"layer": "conv#1"}, "layer: 'conv#1': 'conv' is called once; name it 'conv' alone"),
        ({"layer": 3}, "layer: expected the names of one or more different layers"),
        ({"units": np.array(0)}, "units: expected a number, list, range"),
        ({"layer": []}, "layer: expected the names of one or more different layers"),
        ({"layer": ["conv", "conv"]}, "layer: expected the names of one or more different layers"),
        ({"layer": [nn.ReLU()]}, "layer: expected the names"),
        ({"layer": "conv", "units": 6}, "units: 6 is out of range; layer 'conv' has channels 0 to 5"),
        ({"layer": ["conv", "fc"], "units": {"conv": 1}}, r"units: expected an entry for each of \['conv', 'fc'\]"),
        ({"mean": 0.5}, "mean: expected three numbers"),
        ({"std": (0.1, 0, 0.1)}, "std: expected numbers above 0"),
        ({"resolution": 0}, "resolution: expected a whole number of pixels, got 0"),
        ({"resolution": (16, 16)}, r"resolution: expected a whole number of pixels, got \(16, 16\)"),
        ({"device": "nowhere"}, "device: cannot run on 'nowhere'"),
        ({"engine": "fast"}, "engine: no engine 'fast'"),
    ],
)
def test_wrong_arguments(net, options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        subject(net, **options)


def test_a_wrong_layer_is_an_unknown_name(net):
    with pytest.raises(UnknownNameError, match="Did you mean 'twice'"):
        subject(net, layer="twise")


def test_what_is_not_a_network():
    with pytest.raises(
        InvalidArgumentError, match=r"expected a torch.nn.Module, got function; wrap a function in FunctionS"
    ):
        TorchSubject(lambda x: x)


def test_where_it_runs(net):
    assert subject(net, device="cpu").record(images()).shape == (4, 5)
    if not torch.cuda.is_available():
        with pytest.raises(InvalidArgumentError, match="device: cannot run on 'cuda'"):
            subject(net, device="cuda")
        with pytest.raises(InvalidArgumentError, match="device: cannot run on 'cuda'"):
            subject(Function(lambda x: x.mean((2, 3))), device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
class TestGpu:
    """What differs on a GPU: its own random generator, half precision, free memory."""

    def test_records_the_same(self, net):
        expected = subject(net, layer=["conv", "output"]).record(images())
        recording = subject(net, layer=["conv", "output"], device="cuda", engine="auto")
        assert recording.engine == "eager"
        np.testing.assert_allclose(recording.record(images()), expected, atol=5e-3 * np.abs(expected).max())
        assert recording.units.coords["rf_method"][0] == "computed"

    def test_a_random_network_draws_from_a_stream_of_its_own(self):
        state = torch.cuda.get_rng_state()
        recording = subject(seeded(Noisy), device="cuda")
        saved = recording.state()
        first, second = recording.record(images()), recording.record(images())
        assert not np.allclose(first, second)
        recording.restore(saved)
        assert np.array_equal(recording.record(images()), first)
        assert torch.equal(state, torch.cuda.get_rng_state())

    def test_half_precision(self, net):
        expected = subject(net).record(images())
        recorded = subject(net, device="cuda", autocast=True).record(images())
        assert not np.array_equal(recorded, expected)
        np.testing.assert_allclose(recorded, expected, atol=0.05 * np.abs(expected).max())
