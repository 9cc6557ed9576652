import hashlib

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from closedloop.errors import WeightsError
from closedloop.generators import Native, load_generator
from closedloop.generators.native import EMBEDDED, embedded, read_native, write_native
from closedloop.images.sets import read_folder
from closedloop.interfaces import Encoding, Fingerprinted
from closedloop.references import __path__ as references
from closedloop.testing import GeneratorContract


def photographs(n=8):
    """Bundled photographs ``(n, 3, 128, 128)``; none of them was used in the training."""
    return read_folder(references[0], 128).images[:: 160 // n][:n]


@pytest.fixture(scope="module")
def native():
    return Native(engine="eager")


class TestNative(GeneratorContract):
    keep = True

    def make(self):
        return Native(engine="eager")

    def red_code(self):
        red = np.zeros((1, 3, 128, 128), np.float32)
        red[:, 0] = 0.7
        return self.one().encode(red)[0]


class TestSecond(GeneratorContract):
    keep = True

    def make(self):
        return load_generator("native-2", engine="eager")


class TestNativeOnnx(GeneratorContract):
    keep = True

    def make(self):
        return Native(engine="onnx", resolution=96)


def test_what_the_package_ships(native):
    assert sum(embedded(name).stat().st_size for name in EMBEDDED) <= 30e6
    assert native.resolution == 128
    assert native.space.dim == 512
    assert native.space.scale == 1
    assert not native.space.bounded
    assert native.facts["photographs"] >= 100
    assert isinstance(native, Encoding)
    assert isinstance(native, Fingerprinted)


def test_the_shell_fixes_the_length_of_codes(native):
    codes = native.space.sample(2, np.random.default_rng(0))
    np.testing.assert_allclose(native(codes), native(3 * codes), atol=1e-4)
    free = Native(engine="eager", shell=False)
    assert np.abs(free(codes) - free(3 * codes)).mean() > 0.02
    on_shell = codes * np.sqrt(512) / np.linalg.norm(codes, axis=1, keepdims=True)
    np.testing.assert_allclose(free(on_shell), native(codes), atol=1e-4)


def test_draws_are_as_varied_as_photographs(native):
    images = native(native.space.sample(16, np.random.default_rng(0)))
    spread = images.std(axis=(1, 2, 3)).mean()
    natural = photographs(16).std(axis=(1, 2, 3)).mean()
    assert 0.5 * natural < spread < 1.5 * natural
    assert ((images <= 0) | (images >= 1)).mean() < 0.1


def test_photographs_are_encoded_as_codes_of_the_prior(native):
    codes = native.encode(photographs(16))
    assert codes.shape == (16, 512)
    ratio = np.linalg.norm(codes, axis=1) / np.sqrt(512)
    assert 0.5 < np.median(ratio) < 2


def test_an_encoded_photograph_is_drawn_again(native):
    images = photographs()
    error = np.sqrt(((native(native.encode(images)) - images) ** 2).mean(axis=(1, 2, 3)))
    other = np.sqrt(((native(native.encode(images[::-1].copy())) - images) ** 2).mean(axis=(1, 2, 3)))
    assert (error < 0.75 * other).all()


def test_images_of_any_size_are_encoded(native):
    image = np.kron(photographs(1), np.ones((2, 2), np.float32))
    assert np.abs(native.encode(image) - native.encode(photographs(1))).max() < 1.0


def test_no_image_no_code(native):
    assert native.encode(np.empty((0, 3, 128, 128), np.float32)).shape == (0, 512)


def test_fingerprint_tells_weights_and_options(native, tmp_path):
    model, facts = read_native(embedded())
    model.prior.mean += 0.5
    write_native(tmp_path / "other.safetensors", model, facts)
    prints = {
        native.fingerprint,
        Native(engine="eager", shell=False).fingerprint,
        Native(tmp_path / "other.safetensors", engine="eager").fingerprint,
    }
    assert len(prints) == 3
    assert all(len(p) == hashlib.sha256().digest_size * 2 for p in prints)


def test_a_users_weights_are_loaded_by_name(tmp_path):
    model, facts = read_native(embedded())
    path = tmp_path / "mine.safetensors"
    write_native(path, model, {**facts, "photographs": 7})
    mine = load_generator("native", weights=str(path), engine="eager")
    assert mine.facts["photographs"] == 7
    assert mine.recipe["weights"] == str(path)
    codes = mine.space.sample(1, np.random.default_rng(0))
    np.testing.assert_array_equal(mine(codes), Native(engine="eager")(codes))


def test_unfit_files_are_refused(tmp_path):
    with pytest.raises(WeightsError, match="does not exist"):
        Native(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights")
    with pytest.raises(WeightsError, match="cannot read"):
        Native(tmp_path / "text.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(WeightsError, match="train-generator"):
        Native(tmp_path / "foreign.safetensors")


def test_files_with_surplus_tensors_are_refused(tmp_path):
    model, facts = read_native(embedded())
    model.decoder.register_buffer("more", torch.zeros(1))
    write_native(tmp_path / "more.safetensors", model, facts)
    with pytest.raises(WeightsError, match=r"1 surplus \(decoder.more\)"):
        Native(tmp_path / "more.safetensors")


def test_all_weights_have_a_name_of_their_own(native):
    codes = native.space.sample(1, np.random.default_rng(0))
    made = {name: load_generator(name, engine="eager") for name in EMBEDDED}
    assert made["native-1"].fingerprint == native.fingerprint
    assert made["native-2"].fingerprint != native.fingerprint
    for name, generator in made.items():
        assert generator.recipe["weights"] == generator.weights == name
        np.testing.assert_array_equal(load_generator(**generator.recipe)(codes), generator(codes))
