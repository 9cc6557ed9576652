"""BigGAN: the three sizes from random weights, what is searched, local folders, and the package's download."""

from __future__ import annotations

import importlib.util
import json
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from closedloop.errors import InvalidArgumentError, MissingExtraError, UnknownNameError, WeightsError
from closedloop.generators import BigGAN, load_generator
from closedloop.generators import biggan as module
from closedloop.generators.biggan import BLOCKS
from closedloop.networks.modules import born
from closedloop.testing import GeneratorContract

installed = importlib.util.find_spec("pytorch_pretrained_biggan") is not None
needs_biggan = pytest.mark.skipif(not installed, reason="needs the extra biggan")


def small(size: str = "deep-128", **options) -> BigGAN:
    return BigGAN(size, "random", **{"channels": 16, "engine": "eager", **options})


def package():
    return importlib.import_module("pytorch_pretrained_biggan")


def write(folder, prefix="", change=lambda state: state, **settings):
    """The folder of a small network whose images are reddish, with its spectral normalization still outside."""
    config = package().BigGANConfig(layers=BLOCKS[128], channel_width=16, **settings)
    network = born(lambda: package().BigGAN(config), 1)
    with torch.no_grad():
        network.generator.bn.weight.fill_(0.1)
        network.generator.bn.bias.zero_()
        network.generator.conv_to_rgb.bias[:3] = torch.tensor([1.0, -1.0, -1.0])
        for part in network.modules():
            for normalize in [*part._forward_pre_hooks.values()] * 5:
                normalize(part, ())
            if "weight_orig" in part._parameters:
                part.weight_v.copy_(nn.functional.normalize(part.weight_orig.flatten(1).T @ part.weight_u, dim=0))
    folder.mkdir(exist_ok=True)
    (folder / f"{prefix}config.json").write_text(json.dumps(config.to_dict()))
    torch.save(change(dict(network.state_dict())), folder / f"{prefix}pytorch_model.bin")
    return network.eval()


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    if not installed:
        pytest.skip("needs the extra biggan")
    folder = tmp_path_factory.mktemp("biggan")
    return folder, write(folder)


@pytest.fixture(scope="module")
def goldfish(local):
    return BigGAN("deep-128", local[0], search="noise", label="goldfish", resolution=40, engine="eager")


@pytest.fixture
def contract(goldfish, request):
    request.cls.shared = goldfish


@pytest.mark.usefixtures("contract")
class TestBigGANContract(GeneratorContract):
    def make(self):
        return self.shared  # building one takes a second; its recipe builds another

    def red_code(self):
        return np.zeros(128)


@pytest.mark.sampled(1)
@needs_biggan
@pytest.mark.parametrize("size", ["deep-128", "deep-256", "deep-512"])
def test_shape_range_and_gradients_of_the_three_sizes(size):
    generator = small(size)
    pixels = int(size.split("-")[1])
    codes = generator.space.sample(2, np.random.default_rng(0))
    pictures = generator(codes)
    assert pictures.shape == (2, 3, pixels, pixels)
    assert pictures.min() >= 0
    assert pictures.max() <= 1
    assert np.abs(pictures[0] - pictures[1]).max() > 0.02
    tensor = torch.from_numpy(codes[:1]).float().requires_grad_()
    generator.forward(tensor).square().mean().backward()
    assert torch.isfinite(tensor.grad).all()
    noise, classes = tensor.grad.abs().split(128, 1)
    assert noise.max() > 0
    assert classes.max() > 0


@pytest.mark.long
@needs_biggan
def test_widths_and_counts_are_the_packages_own():
    counts = {}
    for pixels, blocks in BLOCKS.items():
        config = package().BigGANConfig(output_dim=pixels, layers=blocks)
        with torch.device("meta"):
            counts[pixels] = sum(p.numel() for p in package().BigGAN(config).parameters())
        assert blocks[0] == (False, 16, 16)
        assert 4 * 2 ** sum(up for up, _, _ in blocks) == pixels
        assert all(a[2] == b[1] for a, b in pairwise(blocks))
    assert package().BigGANConfig().layers == BLOCKS[128]
    # Counted in the package's own networks, so that a change of its configuration is noticed.
    assert {k: round(v / 1e6, 1) for k, v in counts.items()} == {128: 50.4, 256: 55.9, 512: 56.2}


@pytest.mark.long
@needs_biggan
def test_onnx_runtime_gives_the_same():
    fast, eager = small(engine="onnx"), small()
    codes = fast.space.sample(3, np.random.default_rng(0))
    assert fast.engine == "onnx"
    np.testing.assert_allclose(fast(codes), eager(codes), atol=1e-4)


def test_what_is_searched_is_noise_and_class_embedding(local):
    folder, network = local
    options = {"engine": "eager", "noise_scale": 0.5, "class_scale": 0.02, "truncation": 0.4}
    joint = BigGAN("deep-128", folder, **options)
    around = BigGAN("deep-128", folder, label=7, **options)
    noise = BigGAN("deep-128", folder, search="noise", label=7, **options)
    classes = BigGAN("deep-128", folder, search="class", label=7, seed=3, **options)
    assert [g.space.dim for g in (joint, around, noise, classes)] == [256, 256, 128, 128]
    codes = np.random.default_rng(0).standard_normal((2, 256))
    z, c = torch.from_numpy(codes).float().split(128, 1)
    embedding = network.embeddings.weight[:, 7]

    def pictures(noise, classes):
        with torch.no_grad():
            return (network.generator(torch.cat([noise, classes], 1), 0.4).numpy() + 1) / 2

    np.testing.assert_allclose(joint(codes), pictures(0.5 * z, 0.02 * c), atol=1e-5)
    np.testing.assert_allclose(around(codes), pictures(0.5 * z, embedding + 0.02 * c), atol=1e-5)
    np.testing.assert_allclose(noise(codes[:, :128]), pictures(0.5 * z, embedding.expand(2, -1)), atol=1e-5)
    center = torch.cat([z[:1] * 0, embedding[None]], 1)
    np.testing.assert_allclose(noise(np.zeros((1, 128))), pictures(*center.split(128, 1)), atol=1e-5)
    fixed = torch.from_numpy(module._fixed_noise(3, 0.5, 2))
    np.testing.assert_allclose(classes(codes[:, 128:]), pictures(fixed.expand(2, -1), embedding + 0.02 * c), atol=1e-5)


def test_default_scales_are_those_of_noise_and_classes(local):
    folder, network = local
    recipe = BigGAN("deep-128", folder, truncation=0.4, engine="eager").recipe
    assert recipe["noise_scale"] == 0.4
    assert recipe["class_scale"] == pytest.approx(float(network.embeddings.weight.detach().std()))


def test_truncation_selects_the_statistics(local):
    folder, _ = local
    codes = np.random.default_rng(0).standard_normal((1, 256))
    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    for name, tensor in state.items():
        if name.endswith("running_means"):
            tensor[:] = torch.linspace(-1, 1, 51)[:, None]
    other = folder / "truncated"
    other.mkdir()
    (other / "config.json").write_text((folder / "config.json").read_text())
    torch.save(state, other / "pytorch_model.bin")
    low, high = (BigGAN("deep-128", other, truncation=t, noise_scale=0.5, engine="eager")(codes) for t in (0.2, 1.0))
    assert np.abs(low - high).max() > 0.02


def test_fixed_noise_is_truncated_at_two_standard_deviations():
    drawn = np.concatenate([module._fixed_noise(seed, 0.7, 2) for seed in range(100)]) / 0.7
    assert np.abs(drawn).max() <= 2
    assert drawn.std() == pytest.approx(0.88, abs=0.02)
    assert not np.array_equal(module._fixed_noise(0, 1, 2), module._fixed_noise(1, 1, 2))


# Files ----------------------------------------------------------------------------------------------------------------


def old(state):
    """As a torch of 2019 wrote it: the normalized weight beside the original one, and one vector."""
    bare = {k: v for k, v in state.items() if not k.endswith("weight_v")}
    return bare | {k.removesuffix("_orig"): 0 * v for k, v in state.items() if k.endswith("weight_orig")}


@pytest.mark.parametrize(("prefix", "change"), [("biggan-deep-128-", dict), ("", old)])
def test_other_folders(local, tmp_path, prefix, change):
    write(tmp_path / "other", prefix, change)
    codes = np.random.default_rng(0).standard_normal((2, 256))
    expected = BigGAN("deep-128", local[0], engine="eager")(codes)
    np.testing.assert_allclose(BigGAN("deep-128", tmp_path / "other", engine="eager")(codes), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {k: v for k, v in s.items() if "gen_z.bias" not in k}, r"1 missing \(generator\.gen_z\.bias\)"),
        (lambda s: s | {"discriminator.weight": torch.zeros(1)}, r"1 surplus \(discriminator\.weight\)"),
        (lambda s: s | {"embeddings.weight": torch.zeros(2, 2)}, r"1 of another shape \(embeddings\.weight\)"),
    ],
)
@needs_biggan
def test_files_that_do_not_fit(tmp_path, change, message):
    write(tmp_path, change=change)
    with pytest.raises(WeightsError, match=message):
        BigGAN("deep-128", tmp_path, engine="eager")


@needs_biggan
def test_folders_that_do_not_fit(tmp_path, local):
    with pytest.raises(WeightsError, match=r"expected a folder with config\.json and pytorch_model\.bin, .*lacks them"):
        BigGAN("deep-128", tmp_path)
    with pytest.raises(WeightsError, match=r"got nowhere, which is not a folder; an untrained network .* \"random\""):
        BigGAN("deep-128", "nowhere")
    with pytest.raises(WeightsError, match=r"config\.json is that of another size, 128 pixels"):
        BigGAN("deep-256", local[0])
    (tmp_path / "config.json").write_text("{")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"cannot read .*config\.json as its configuration"):
        BigGAN("deep-128", tmp_path)


@needs_biggan
def test_the_packages_download_is_used(local, monkeypatch):
    files = {"config": local[0] / "config.json", "pytorch_model": local[0] / "pytorch_model.bin"}
    asked = []

    def cached_path(address):
        asked.append(address)
        return str(next(path for word, path in files.items() if word in address))

    monkeypatch.setattr(package(), "cached_path", cached_path)
    generator = load_generator("biggan:deep-128", engine="eager")
    assert [address.split("/")[-1] for address in asked] == [
        "biggan-deep-128-config.json",
        "biggan-deep-128-pytorch_model.bin",
    ]
    assert generator.recipe["weights"] is None

    def fail(address):
        raise OSError("no route")

    monkeypatch.setattr(package(), "cached_path", fail)
    with pytest.raises(WeightsError, match=r"could not be downloaded \(OSError: no route\)\. Fetch config\.json"):
        BigGAN("deep-128")


# Choices --------------------------------------------------------------------------------------------------------------


@needs_biggan
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"size": "deep-64"}, UnknownNameError, r"biggan: no size 'deep-64'\. Did you mean"),
        ({"search": "both"}, InvalidArgumentError, "search: expected 'joint', 'noise' or 'class', got 'both'"),
        ({"search": "noise"}, InvalidArgumentError, "label: expected an ImageNet class whose noise is searched"),
        ({"truncation": 0}, InvalidArgumentError, "truncation: expected a number above 0, to 1, got 0"),
        ({"truncation": 1.1}, InvalidArgumentError, r"truncation: expected a number above 0, to 1, got 1\.1"),
        ({"noise_scale": 0}, InvalidArgumentError, "noise_scale: expected a finite number above 0, got 0"),
        ({"class_scale": np.inf}, InvalidArgumentError, "class_scale: expected a finite number above 0, got inf"),
        ({"weights": None, "channels": 64}, InvalidArgumentError, "channels: expected 128, or less for untrained"),
    ],
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        BigGAN(**{"size": "deep-128", "weights": "random", "channels": 16, "engine": "eager", **options})


def test_without_the_package_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_pretrained_biggan", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'closedloop\[biggan\]'"):
        BigGAN("deep-128", "random")
