import numpy as np
import pytest
import torch

from closedloop.errors import InvalidArgumentError, UnknownNameError, WeightsError
from closedloop.generators import Native, load_generator
from closedloop.generators.native import SHARED, embedded, read_native, write_native
from closedloop.generators.two_part_model import TwoPartModel
from closedloop.networks.modules import born
from closedloop.testing import GeneratorContract


def small(classes=1000):
    """A model of 64 pixels, steered by 6 numbers of what is seen and 10 of the layout."""

    def build():
        model = TwoPartModel(6, 10, 4, classes)
        for layer in (model.decoder.shape, *model.decoder.excite):
            torch.nn.init.normal_(layer.weight, std=0.02)
        torch.nn.init.normal_(model.prior.spatial_axes, std=0.3)
        torch.nn.init.normal_(model.classes, std=0.3)
        return model

    return born(build, 0).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "classes.safetensors"
    write_native(path, small(), {})
    return str(path)


def loaded(weights, **options):
    return load_generator("native-class", weights=weights, engine="eager", **options)


def draws(generator, n=3):
    return generator.space.sample(n, np.random.default_rng(0))


class TestJoint(GeneratorContract):
    keep = True

    @pytest.fixture(autouse=True)
    def _weights(self, weights):
        self.weights = weights

    def make(self):
        return loaded(self.weights, label="goldfish")


class TestEmbedded(GeneratorContract):
    keep = True

    def make(self):
        return load_generator("native-class", label="goldfish", engine="eager")


@pytest.mark.long
class TestNoise(TestJoint):
    def make(self):
        return loaded(self.weights, search="noise", label=7)


@pytest.mark.long
class TestClass(TestJoint):
    def make(self):
        return loaded(self.weights, search="class")


def test_joint_without_a_label_is_native(weights):
    joint, native = loaded(weights), Native(weights, engine="eager")
    assert joint.space == native.space
    np.testing.assert_allclose(joint(draws(joint)), native(draws(native)), atol=1e-6)


def test_each_search_has_the_numbers_of_its_part(weights):
    dims = {search: loaded(weights, search=search, label=3).space.dim for search in ("joint", "noise", "class")}
    assert dims == {"joint": 16, "noise": 10, "class": 6}


def test_the_searches_are_parts_of_one_space(weights):
    """A layout of the noise search is the joint one's at the class."""
    joint, noise = (loaded(weights, search=search, label=3) for search in ("joint", "noise"))
    layouts = draws(noise)
    np.testing.assert_allclose(noise(layouts), joint(np.pad(layouts, ((0, 0), (6, 0)))), atol=1e-6)


def test_classes_differ_and_a_step_away_is_scaled(weights):
    one, two = (loaded(weights, search="noise", label=label) for label in (3, 4))
    assert np.abs(one(draws(one)) - two(draws(two))).mean() > 1e-3
    near, far = (loaded(weights, search="class", label=3, class_scale=scale) for scale in (0.01, 1.0))
    spread = [generator(draws(generator, 8)).std(0).mean() for generator in (near, far)]
    assert spread[0] < 0.1 * spread[1]


def test_the_fixed_layout_follows_the_seed(weights):
    same, again, other = (loaded(weights, search="class", label=3, seed=seed) for seed in (0, 0, 1))
    code = np.zeros((1, 6))
    np.testing.assert_array_equal(same(code), again(code))
    assert np.abs(same(code) - other(code)).mean() > 1e-3


def test_recipe_and_fingerprint(weights):
    generators = [
        loaded(weights, label="goldfish"),
        loaded(weights, label=2),
        loaded(weights, label=2, class_scale=0.7),
        loaded(weights, label=2, search="class"),
        loaded(weights, label=2, search="class", seed=1),
    ]
    assert generators[0].label == "goldfish"
    assert len({generator.fingerprint for generator in generators}) == 5
    for generator in generators:
        again = load_generator(**generator.recipe)
        assert again.fingerprint == generator.fingerprint
        np.testing.assert_array_equal(again(draws(again)), generator(draws(generator)))


def test_options_that_decide_nothing_tell_no_generators_apart(weights):
    one, other = (loaded(weights, label=2, search="noise", **more) for more in ({}, {"class_scale": 0.7, "seed": 3}))
    np.testing.assert_array_equal(one(draws(one)), other(draws(other)))
    assert (one.fingerprint, one.recipe) == (other.fingerprint, other.recipe)
    one, other = (loaded(weights, label=2, seed=seed) for seed in (0, 3))
    assert one.fingerprint == other.fingerprint


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"search": "both"}, InvalidArgumentError, r"search: expected .*'joint', 'noise'.* got 'both'"),
        ({"search": "noise"}, InvalidArgumentError, "label: expected an ImageNet class whose layouts"),
        ({"label": "goldfisch"}, UnknownNameError, "Did you mean 'goldfish'"),
        ({"label": 3, "class_scale": 0}, InvalidArgumentError, "class_scale: "),
        ({"label": 3, "class_scale": float("nan")}, InvalidArgumentError, "class_scale: "),
        ({"class_scale": -1}, InvalidArgumentError, "class_scale: "),
        ({"seed": -1}, InvalidArgumentError, "seed: "),
    ],
)
def test_bad_choices(weights, options, error, message):
    with pytest.raises(error, match=message):
        loaded(weights, **options)


def test_weights_that_are_not_there_are_refused_by_the_names_of_those_that_are():
    with pytest.raises(WeightsError, match="got native-3, which does not exist; embedded are native-1 and native-2"):
        loaded("native-3")


def test_weights_without_classes_are_refused(tmp_path):
    for name, model in (("none", small(classes=0)), ("five", small(classes=5))):
        write_native(tmp_path / f"{name}.safetensors", model, {})
        with pytest.raises(WeightsError, match=r"weights: .* no codes of the 1,000 classes of ImageNet; native-2 does"):
            loaded(str(tmp_path / f"{name}.safetensors"))
    with pytest.raises(WeightsError, match="holds no codes"):
        loaded("native-1")


def test_the_encoder_of_the_first_weights_is_written_once(tmp_path):
    first, model = read_native(embedded("native-1"))[0], small()
    write_native(tmp_path / "own.safetensors", model, {})
    model.reader.encoder.load_state_dict(first.encoder.state_dict())
    write_native(tmp_path / "shared.safetensors", model, {})
    own, shared = ((tmp_path / f"{name}.safetensors").stat().st_size for name in ("own", "shared"))
    assert own - shared > 2e6
    read, _ = read_native(tmp_path / "shared.safetensors")
    for key, value in first.encoder.state_dict().items():
        assert torch.equal(read.reader.encoder.state_dict()[key], value)


def test_a_file_that_shares_unknown_weights_is_refused(tmp_path, monkeypatch):
    model = small()
    model.reader.encoder.load_state_dict(read_native(embedded("native-1"))[0].encoder.state_dict())
    write_native(tmp_path / "x.safetensors", model, {})
    content = (tmp_path / "x.safetensors").read_bytes()
    assert SHARED.encode() in content
    for name in ("native-9", "native-2"):  # the second has the encoder of the first
        (tmp_path / "x.safetensors").write_bytes(content.replace(b'"native-1"', f'"{name}"'.encode()))
        with pytest.raises(WeightsError, match=f"shares the encoder of '{name}', which this version does not have"):
            read_native(tmp_path / "x.safetensors")
