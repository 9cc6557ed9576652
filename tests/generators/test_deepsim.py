"""DeePSiM: published layouts, both namings of the files, colours, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from closedloop.errors import InvalidArgumentError, UnknownNameError, WeightsError
from closedloop.generators import DeePSiM, load_generator
from closedloop.generators.deepsim import LAYOUTS, SLOPE, DeePSiMNetwork, other_names, rename
from closedloop.networks.modules import born
from closedloop.testing import GeneratorContract

SMALL = 1 / 64
#: Names in the Ponce lab's files, by those in XDream's.
PONCE = {
    "fc6": {
        "fc7": "defc7", "fc6": "defc6", "fc5": "defc5", "tconv5_0": "deconv5", "tconv5_1": "conv5_1",
        "tconv4_0": "deconv4", "tconv4_1": "conv4_1", "tconv3_0": "deconv3", "tconv3_1": "conv3_1",
        "tconv2": "deconv2", "tconv1": "deconv1", "tconv0": "deconv0",
    },
    "pool5": {
        "conv6": "Rconv6", "conv7": "Rconv7", "conv8": "Rconv8", "tconv5_0": "deconv5", "tconv5_1": "conv5_1",
        "tconv4_0": "deconv4", "tconv4_1": "conv4_1", "tconv3_0": "deconv3", "tconv3_1": "conv3_1",
        "tconv2": "deconv2", "tconv1": "deconv1", "tconv0": "deconv0",
    },
}  # fmt: skip


def small(layer: str, seed: int = 0) -> DeePSiMNetwork:
    return born(lambda: DeePSiMNetwork(LAYOUTS[layer], SMALL).draw(1.0), seed)


def ponce(layer: str, outer: str = "", inner: str = "") -> dict[str, torch.Tensor]:
    """The state of a small network as the Ponce lab names it, biases included."""
    state = small(layer).state_dict()
    split = {key: key.rsplit(".", 1) for key in state}
    return {f"{outer}{PONCE[layer][split[k][0]]}.{inner}{split[k][1]}": v for k, v in state.items()}


def without_biases(layer: str) -> dict[str, torch.Tensor]:
    """The same as XDream's files: transposed convolutions have no bias."""
    return {k: v for k, v in small(layer).state_dict().items() if not ("tconv" in k and k.endswith("bias"))}


@pytest.fixture(scope="module")
def reddish(tmp_path_factory):
    """A file of a small fc6 network whose last layer adds red, which is its third channel."""
    state = without_biases("fc6")
    state["tconv0.bias"] = torch.tensor([-60.0, -60.0, 60.0])
    path = tmp_path_factory.mktemp("weights") / "upconvGAN_fc6.pt"
    torch.save(state, path)
    return path


@pytest.fixture
def contract(reddish, request):
    request.cls.path = reddish


@pytest.mark.usefixtures("contract")
class TestFc6Contract(GeneratorContract):
    keep = True

    def make(self):
        return DeePSiM("fc6", self.path, width=SMALL, engine="eager")

    def red_code(self):
        return np.zeros(64)


class TestNorm2Contract(GeneratorContract):
    keep = True

    def make(self):
        return DeePSiM("norm2", "random", width=SMALL, engine="eager", rectify=True, resolution=100)


#: Shapes of the weights as the networks of XDream declare them, in order.
TAIL = [
    (256, 256, 4, 4), (256, 512, 3, 3), (512, 256, 4, 4), (256, 256, 3, 3), (256, 128, 4, 4), (128, 128, 3, 3),
    (128, 64, 4, 4), (64, 32, 4, 4), (32, 3, 4, 4),
]  # fmt: skip
CONV = [
    (384, 384, 3, 3), (512, 384, 3, 3), (512, 512, 2, 2), (512, 256, 4, 4), (256, 256, 3, 3), (256, 128, 4, 4),
    (128, 128, 3, 3), (128, 128, 4, 4), (128, 128, 3, 3), (128, 64, 4, 4), (32, 64, 3, 3), (32, 16, 4, 4),
    (3, 16, 3, 3),
]  # fmt: skip
NORM = [
    (128, 128, 3, 3), (128, 128, 4, 4), (128, 128, 3, 3), (128, 64, 4, 4), (64, 64, 3, 3), (64, 32, 4, 4),
    (32, 32, 3, 3), (32, 16, 4, 4), (3, 16, 3, 3),
]  # fmt: skip
SHAPES = {
    "fc6": [(4096, 4096), (4096, 4096), (4096, 4096), *TAIL],
    "fc7": [(4096, 4096), (4096, 4096), (4096, 4096), *TAIL],
    "fc8": [(4096, 1000), (4096, 4096), (4096, 4096), *TAIL],
    "pool5": [(512, 256, 3, 3), (512, 512, 3, 3), (512, 512, 3, 3), (512, 256, 4, 4), *TAIL[1:]],
    "conv3": CONV,
    "conv4": CONV,
    "norm1": [(128, 96, 3, 3), (128, 128, 3, 3), *NORM],
    "norm2": [(256, 256, 3, 3), (128, 256, 3, 3), *NORM],
}


@pytest.mark.parametrize(
    ("layer", "dim", "scale", "resolution"),
    [
        ("fc6", 4096, 3, 256), ("fc7", 4096, 3, 256), ("fc8", 1000, 1, 256), ("pool5", 9216, 1, 256),
        ("conv3", 64896, 1, 256), ("conv4", 64896, 1, 256), ("norm1", 69984, 1, 240), ("norm2", 43264, 1, 240),
    ],
)  # fmt: skip
def test_published_layouts(layer, dim, scale, resolution):
    with torch.device("meta"):
        network = DeePSiMNetwork(LAYOUTS[layer], 1)
        pictures = network(torch.empty(2, *network.code))
    weights = [tuple(p.shape) for name, p in network.named_parameters() if name.endswith("weight")]
    assert np.prod(network.code) == dim
    assert LAYOUTS[layer].scale == scale
    assert pictures.shape == (2, 3, resolution, resolution)
    assert weights == SHAPES[layer]


def test_published_size_of_fc6():
    with torch.device("meta"):
        network = DeePSiMNetwork(LAYOUTS["fc6"], 1)
    counted = [p.numel() for name, p in network.named_parameters() if not name.startswith("tconv") or "weight" in name]
    assert sum(counted) == 56_096_256


@pytest.mark.parametrize("layer", LAYOUTS)
def test_every_layer_runs_in_onnx_runtime(layer):
    fast = DeePSiM(layer, "random", width=SMALL, engine="onnx")
    eager = DeePSiM(layer, "random", width=SMALL, engine="eager")
    codes = fast.space.sample(2, np.random.default_rng(0))
    assert (fast.engine, eager.engine) == ("onnx", "eager")
    np.testing.assert_allclose(fast(codes), eager(codes), atol=1e-4)
    assert fast(codes).std() > 0.02


def test_against_a_plain_composition():
    network = small("fc8").double()
    code = torch.from_numpy(np.random.default_rng(0).standard_normal((2, network.code[0])))
    x = code
    for name in ("fc7", "fc6", "fc5"):
        x = torch.where((x := network.get_submodule(name)(x)) > 0, x, SLOPE * x)
    x = x.reshape(2, 4, 4, 4)
    for name in ("tconv5_0", "tconv5_1", "tconv4_0", "tconv4_1", "tconv3_0", "tconv3_1", "tconv2", "tconv1"):
        x = torch.where((x := network.get_submodule(name)(x)) > 0, x, SLOPE * x)
    blue, green, red = network.tconv0(x).unbind(1)
    expected = torch.stack([red + 123, green + 117, blue + 104], 1).clamp(0, 255) / 255
    torch.testing.assert_close(network(code), expected)


def test_convolutional_layers_end_in_a_scaled_tanh():
    network = small("conv3")
    with torch.no_grad():
        network.conv1_1.weight.zero_()
        network.conv1_1.bias.copy_(torch.tensor([-100.0, 0.0, 0.1]))
        picture = network(torch.zeros(1, *network.code))[0]
    assert picture[2].max() == 0
    assert picture[1].unique().item() == pytest.approx(117 / 255)
    assert picture[0].unique().item() == pytest.approx((123 + 255 * np.tanh(0.1)) / 255)


@pytest.mark.parametrize("layer", ["fc6", "pool5"])
@pytest.mark.parametrize("naming", ["xdream", "ponce", "ponce nested", "ponce old", "safetensors"])
def test_the_circulating_namings(tmp_path, layer, naming):
    from safetensors.torch import save_file

    states = {
        "xdream": without_biases(layer),
        "ponce": ponce(layer),
        "ponce nested": ponce(layer, outer="G."),
        "ponce old": ponce(layer, inner="1."),
        "safetensors": ponce(layer),
    }
    path = tmp_path / ("w.safetensors" if naming == "safetensors" else "w.pt")
    (save_file if naming == "safetensors" else torch.save)(states[naming], path)
    loaded = DeePSiM(layer, path, width=SMALL, engine="eager", seed=9)
    expected = small(layer).state_dict()
    found = loaded.network.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_names_of_2019(tmp_path):
    state = {
        key.replace("tconv", "deconv").replace("fc", "defc"): value for key, value in small("fc6").state_dict().items()
    }
    assert {"deconv5_0.weight", "deconv5_1.bias", "defc7.weight"} <= state.keys()
    torch.save(state, tmp_path / "w.pt")
    loaded = DeePSiM("fc6", tmp_path / "w.pt", width=SMALL, engine="eager")
    assert torch.equal(loaded.network.tconv5_1.weight, state["deconv5_1.weight"])


def test_no_two_layers_share_a_name():
    for layout in LAYOUTS.values():
        names = [stage.name for stage in layout.stages]
        others = [name for stage in names for name in set(other_names(stage))]
        assert len({*names, *others}) == len(names) + len(others)
    assert rename("module.G.defc7.weight", {"defc7": "fc7"}) == "fc7.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {k: v for k, v in s.items() if k != "fc6.bias"}, r"1 missing \(fc6\.bias\)"),
        (lambda s: s | {"tconv9.weight": torch.zeros(1)}, r"1 surplus \(tconv9\.weight\)"),
        (lambda s: s | {"fc7.weight": torch.zeros(2, 2)}, r"1 of another shape \(fc7\.weight\)"),
        (lambda s: s | {"defc7.weight": s["fc7.weight"]}, r"names the layer 'fc7.weight' twice.* as 'defc7.weight'"),
        (lambda s: small("pool5").state_dict(), r"6 missing .*; 6 surplus"),
    ],
)
def test_files_that_do_not_fit(tmp_path, change, message):
    torch.save(change(without_biases("fc6")), tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=message):
        DeePSiM("fc6", tmp_path / "w.pt", width=SMALL, engine="eager")


def test_without_a_file_the_error_says_where_it_is_published():
    with pytest.raises(WeightsError, match=r"expected weights=FILE.*upconvGAN_norm1\.pt.*DeePSim_Dosovitskiy"):
        load_generator("deepsim:norm1", width=SMALL)


def test_codes_below_zero_can_be_cut_off():
    plain, rectified = (DeePSiM("fc6", "random", width=SMALL, rectify=r, engine="eager") for r in (False, True))
    codes = plain.space.sample(2, np.random.default_rng(0))
    np.testing.assert_array_equal(rectified(codes), plain(np.maximum(codes, 0)))
    assert np.abs(rectified(codes) - plain(codes)).max() > 0.01


def test_seed_of_random_weights_and_global_state():
    before = torch.get_rng_state()
    first, other = (DeePSiM("fc6", "random", width=SMALL, seed=s, engine="eager") for s in (0, 1))
    codes = first.space.sample(1, np.random.default_rng(0))
    assert np.abs(first(codes) - other(codes)).max() > 0.01
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"layer": "fc9"}, UnknownNameError, r"deepsim: no generator of layer 'fc9'\. Did you mean 'fc"),
        ({"width": 0}, InvalidArgumentError, "width: expected a number above 0, to 1, got 0"),
        ({"scale": -1.0}, InvalidArgumentError, "scale: expected a finite number above 0, got -1"),
        ({"weights": "nowhere.pt"}, WeightsError, "got nowhere.pt, which does not exist"),
        ({"resolution": 1}, InvalidArgumentError, "resolution: expected 2 to 4096 pixels, got 1"),
        ({"engine": "fast"}, InvalidArgumentError, "engine: no engine 'fast'"),
    ],
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        DeePSiM(**{"weights": "random", "width": SMALL, **options})
