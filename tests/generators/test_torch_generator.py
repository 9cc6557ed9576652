"""Modules as generators: small ones with a known image, and a pretrained GAN of faces."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from closedloop.errors import InvalidArgumentError
from closedloop.generators import TorchGenerator, load_generator
from closedloop.images.resizing import resize_images
from closedloop.interfaces import Space
from closedloop.networks.engines import EngineWarning
from closedloop.networks.modules import born
from closedloop.networks.weights import load_weights
from closedloop.testing import GeneratorContract


class Gan(nn.Module):
    """A small DCGAN: normalization with statistics, an operation in place, a tanh."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(6, 8, 4)
        self.norm = nn.BatchNorm2d(8)
        self.out = nn.ConvTranspose2d(8, 3, 4, 2, 1)
        self.norm.running_mean.copy_(torch.linspace(-0.2, 0.2, 8))

    def forward(self, x: Tensor) -> Tensor:
        return self.out(nn.functional.relu_(self.norm(self.up(x)))).tanh()


class Function(nn.Module):
    """A module of one function of codes."""

    def __init__(self, function) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x * self.weight)


def gan() -> Gan:
    return born(Gan, 3)


def generator(**options) -> TorchGenerator:
    return TorchGenerator(gan(), 6, **{"code_shape": (6, 1, 1), "engine": "eager", **options})


class TestGanContract(GeneratorContract):
    def make(self):
        return generator()


class TestResizedInOnnxContract(GeneratorContract):
    def make(self):
        return generator(engine="onnx", resolution=13)


class Colors(nn.Module):
    """Three numbers, red first, as a uniform image from -1 to 1."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sigmoid()[:, :, None, None].repeat(1, 1, 4, 4) * 2 - 1


class TestColorsContract(GeneratorContract):
    def make(self):
        return TorchGenerator(Colors(), Space(3, scale=2.0))

    def red_code(self):
        return np.array([3.0, -3.0, -3.0])


@pytest.mark.parametrize("training", [False, True])
def test_images_are_those_of_the_module_in_evaluation_mode(training):
    module = gan().train(training)
    codes = np.random.default_rng(0).standard_normal((5, 6)).astype(np.float32)
    with torch.no_grad():
        raw = gan().eval()(torch.from_numpy(codes)[:, :, None, None]).numpy()
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    fast = TorchGenerator(module, 6, code_shape=(6, 1, 1), engine="onnx", name="mine")
    np.testing.assert_allclose(fast(codes), (raw + 1) / 2, atol=1e-5)
    assert (fast.name, fast.engine, fast.resolution) == ("mine", "onnx", 8)
    assert module.training is training
    assert all(torch.equal(state[name], tensor) for name, tensor in module.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in module.parameters())


def test_the_declared_range_becomes_black_and_white():
    module = Function(lambda x: (100 * x.clamp(-1, 1)).reshape(-1, 3, 1, 1).repeat(1, 1, 2, 2))
    pictures = TorchGenerator(module, 3, output_range=(-50, 150), engine="eager")(np.array([[-1.0, 0.0, 1.0]]))
    np.testing.assert_allclose(pictures[0, :, 0, 0], [0, 0.25, 0.75])


def test_grey_images_become_three_equal_channels():
    module = Function(lambda x: x.sigmoid().reshape(-1, 1, 2, 2))
    grey = TorchGenerator(module, 4, output_range=(0, 1), engine="onnx")
    pictures = grey(np.array([[0.0, 1.0, 2.0, -1.0]]))
    assert pictures.shape == (1, 3, 2, 2)
    np.testing.assert_allclose(pictures[0, 1].ravel(), 1 / (1 + np.exp(-np.array([0.0, 1.0, 2.0, -1.0]))), atol=1e-6)
    assert (pictures == pictures[:, :1]).all()


@pytest.mark.parametrize("wrap", [lambda x: (x, 1), lambda x: {"sample": x}, lambda x: [x]])
def test_the_first_tensor_of_what_is_returned(wrap):
    module = Function(lambda x: wrap(x.sigmoid().reshape(-1, 3, 2, 2)))
    assert TorchGenerator(module, 12, output_range=(0, 1))(np.zeros((1, 12))).mean() == pytest.approx(0.5)


def test_another_resolution_is_the_resized_image():
    codes = generator().space.sample(2, np.random.default_rng(0))
    for size in (5, 20):
        expected = resize_images(generator()(codes), size)
        np.testing.assert_allclose(generator(resolution=size)(codes), expected, atol=1e-6)


def test_modules_of_other_precision():
    double = TorchGenerator(gan().double(), 6, code_shape=(6, 1, 1), engine="eager")
    codes = double.space.sample(2, np.random.default_rng(0))
    np.testing.assert_allclose(double(codes), generator()(codes), atol=1e-5)
    assert double(codes).dtype == np.float32


def test_a_module_that_cannot_be_exported_runs_eagerly_with_a_warning():
    module = Function(lambda x: x.sigmoid().reshape(-1, 3, 2, 2) * (1.0 if not torch.onnx.is_in_onnx_export() else 0.5))
    with pytest.warns(EngineWarning, match="onnx differs from eager torch by 5.0e-01 relative"):
        slow = TorchGenerator(module, 12, output_range=(0, 1))
    assert slow.engine == "eager"
    with pytest.raises(InvalidArgumentError, match="onnx differs from eager torch"):
        slow.save("never.onnx")
    assert not Path("never.onnx").exists()


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (lambda x: x, {}, r"expected images of shape \(n, 3, s, s\) or \(n, 1, s, s\), got \(3, 12\)"),
        (lambda x: x.reshape(-1, 2, 2, 3), {}, r"expected images of shape .*, got \(3, 2, 2, 3\)"),
        (lambda x: x.reshape(-1, 3, 4, 1), {}, r"expected images of shape .*, got \(3, 3, 4, 1\)"),
        (lambda x: x.reshape(-1, 3, 2, 2) / 0, {}, "expected finite images, got NaN or infinity"),
        (lambda x: "image", {}, "expected it to return a tensor of images, got str"),
        (lambda x: x @ torch.ones(5), {}, r"cannot be run on codes of shape \(n, 12\) \(RuntimeError: .*code_shape"),
        (lambda x: (x - x.mean()).reshape(-1, 3, 2, 2), {}, "an image depends on the other codes of its batch"),
        (lambda x: torch.rand_like(x).reshape(-1, 3, 2, 2), {}, "or on random numbers.*Fix its noise"),
        (
            lambda x: 9 * x.reshape(-1, 3, 2, 2),
            {},
            r"output_range: expected values from -1 \(black\) to 1 \(white\), got",
        ),
        (lambda x: x.reshape(-1, 3, 2, 2), {"output_range": (1, -1)}, r"output_range: expected .*got \(1, -1\)"),
        (lambda x: x.reshape(-1, 3, 2, 2), {"output_range": 255}, "output_range: expected .*got 255"),
        (lambda x: x.reshape(-1, 3, 2, 2), {"code_shape": (3, 1)}, r"code_shape: expected 12 numbers .*got \(3, 1\)"),
        (lambda x: x.reshape(-1, 3, 2, 2), {"device": "nowhere"}, "device: cannot run on 'nowhere'"),
    ],
)
def test_what_is_no_generator(function, options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        TorchGenerator(Function(function), 12, engine="eager", **options)


def test_what_is_no_module():
    with pytest.raises(InvalidArgumentError, match=r"module: expected a torch\.nn\.Module, got function"):
        TorchGenerator(lambda x: x, 12)


# Files ----------------------------------------------------------------------------------------------------------------


def test_a_saved_generator_is_loaded_with_its_name_and_space(tmp_path):
    path = tmp_path / "gan.onnx"
    made = TorchGenerator(
        gan(), Space(6, low=-2, high=2), code_shape=(6, 1, 1), engine="onnx", name="small", resolution=9
    )
    made.save(path)
    loaded = load_generator(f"onnx:{path}")
    codes = made.space.sample(3, np.random.default_rng(0))
    assert (loaded.name, loaded.space, loaded.resolution) == ("small", made.space, 9)
    np.testing.assert_allclose(loaded(codes), made(codes), atol=1e-6)
    assert [p.name for p in tmp_path.iterdir()] == ["gan.onnx"]


def test_a_saved_file_has_its_ending(tmp_path):
    with pytest.raises(InvalidArgumentError, match=r"path: expected a name that ends in \.onnx, got .*gan\.pt2"):
        generator().save(tmp_path / "gan.pt2")


# A pretrained GAN of faces --------------------------------------------------------------------------------------------


def faces() -> nn.Sequential:
    """The DCGAN of the package gan-face-generate, whose weights are read and whose code is not."""
    layers: list[nn.Module] = []
    for inputs, outputs, stride, padding in ((100, 512, 1, 0), (512, 256, 2, 1), (256, 128, 2, 1), (128, 64, 2, 1)):
        layers += [
            nn.ConvTranspose2d(inputs, outputs, 4, stride, padding, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers, nn.ConvTranspose2d(64, 3, 4, 2, 1, bias=False), nn.Tanh())


@pytest.fixture(scope="module")
def pretrained():
    package = importlib.util.find_spec("gan_face_generate")
    if package is None:
        pytest.skip("needs the extra faces")
    module = nn.ModuleDict({"main": faces()})
    load_weights(module, Path(package.submodule_search_locations[0]) / "weights.tar")
    return TorchGenerator(module["main"], 100, code_shape=(100, 1, 1), engine="onnx", name="faces")


def test_a_pretrained_gan_makes_faces(pretrained):
    pictures = pretrained(pretrained.space.sample(60, np.random.default_rng(0)))
    assert pictures.shape == (60, 3, 64, 64)
    red, _green, blue = pictures[:, :, 24:40, 24:40].mean((0, 2, 3))
    assert red > blue + 0.05  # skin, in the middle of the image
    neighbours = np.corrcoef(pictures[..., 1:].ravel(), pictures[..., :-1].ravel())[0, 1]
    assert neighbours > 0.9  # untrained weights make noise
    # Faces stand upright and look ahead: the mean face is closer to its mirror image than to its inverted one.
    face = pictures.mean((0, 1))
    assert np.abs(face - face[:, ::-1]).mean() < 0.5 * np.abs(face - face[::-1]).mean()


def test_a_pretrained_gan_has_gradients(pretrained):
    codes = torch.from_numpy(pretrained.space.sample(1, np.random.default_rng(1)).astype(np.float32)).requires_grad_()
    pictures = pretrained.forward(codes)
    pictures[:, 0].mean().backward()
    brighter = codes.detach().numpy() + 0.1 * codes.grad.numpy() / np.linalg.norm(codes.grad.numpy())
    assert pretrained(brighter)[:, 0].mean() > pictures[:, 0].mean().item()


def test_the_fingerprint_tells_weights_range_and_size():
    known = generator().fingerprint
    assert generator(engine="auto").fingerprint == known
    other = gan()
    with torch.no_grad():
        other.out.bias += 0.1
    others = [
        TorchGenerator(other, 6, code_shape=(6, 1, 1), engine="eager"),
        generator(resolution=13),
        generator(output_range=(-1.0, 2.0)),
        TorchGenerator(gan(), Space(6, scale=2.0), code_shape=(6, 1, 1), engine="eager"),
    ]
    assert len({known, *(made.fingerprint for made in others)}) == 5
