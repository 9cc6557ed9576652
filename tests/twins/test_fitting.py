"""Twins of subjects whose answer is known: a linear unit is recovered, and an unpredictable one is called that."""

import functools

import numpy as np
import pytest
import torch
from torch import nn

import closedloop
from closedloop.errors import InvalidArgumentError, RecordingError, WeightsError
from closedloop.images.sets import ImageSet
from closedloop.protocols import present
from closedloop.subjects import FunctionSubject, Pooled, TorchSubject, Twin, load_subject
from closedloop.testing import SubjectContract
from closedloop.twins import fit_twin
from tests.small_networks import seeded

SIZE = 16


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU()), nn.Sequential(nn.Conv2d(4, 6, 3, 2, 1), nn.ReLU())
        )

    def forward(self, x):
        return self.blocks(x).mean((2, 3))


def network() -> TorchSubject:
    return TorchSubject(seeded(Small).eval(), resolution=SIZE, engine="eager", name="small")


@functools.cache
def photographs(n: int = 120, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.random((n, 3, 4, 4), dtype=np.float32)
    return np.round(255 * np.kron(coarse, np.ones((1, 1, 4, 4), np.float32))).astype(np.float32) / 255


def shown(n: int = 120) -> ImageSet:
    return ImageSet(tuple(f"image{i}" for i in range(n)), photographs(n))


def truth(features: Pooled) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(len(features.units), 2)) * 3


def lab(noise: float, seed: int = 2) -> FunctionSubject:
    """Two linear units of the features, and one whose answer has nothing to do with the image."""
    features = Pooled(network())
    weights, rng = truth(features), np.random.default_rng(seed)

    def answer(images: np.ndarray) -> np.ndarray:
        linear = features.record(images) @ weights
        linear += noise * rng.normal(size=linear.shape)
        return np.concatenate([linear, rng.normal(size=(len(images), 1))], 1)

    return FunctionSubject(answer, units=["one", "two", "none"], name="lab")


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    run = tmp_path_factory.mktemp("lab") / "run"
    return present(lab(0.3), shown(), repeats=3, progress=False, save=run)


@pytest.fixture(scope="module")
def twin(recording) -> Twin:
    return fit_twin(recording, features=network())


photographs(20)  # drawn once, before a test watches who draws


class TestTwin(SubjectContract):
    """The contract of subjects, for a twin of random numbers."""

    def make(self) -> Twin:
        known = present(FunctionSubject(lambda x: x.mean((2, 3)), units=3), shown(20), progress=False)
        return fit_twin(known, features=network(), references=shown(20))


def test_linear_units_are_recovered(twin):
    fresh = photographs(200, seed=9)
    features = Pooled(network())
    expected = features.record(fresh) @ truth(features)
    found = twin.record(fresh)
    for i in range(2):
        assert np.corrcoef(expected[:, i], found[:, i])[0, 1] > 0.95
    table = twin.table
    assert (table["low"].values[:2] > 0.8).all()
    assert table["normalized"].values[:2] == pytest.approx(1, abs=0.1)
    assert table["images"].values.tolist() == [120] * 3
    assert table["presentations"].values.tolist() == [360] * 3


def test_a_unit_that_the_features_cannot_predict_is_called_that(twin):
    table = twin.table
    assert "unpredictable" in table["reason"].values[2]
    assert table["reason"].values[0] == ""
    assert table["low"].values[2] <= 0
    assert twin.record(photographs())[:, 2].std() < 0.1


def test_it_learns_more_from_more_images(twin):
    curve = twin.table["curve"].values[:, 0]
    assert curve[-1] > curve[0]
    assert twin.table["size"].values[-1] == 96


def test_a_gradient_is_that_of_what_it_records(twin):
    images = photographs(2)
    x = torch.from_numpy(images).requires_grad_()
    found = twin.forward(x)
    np.testing.assert_allclose(found.detach().numpy(), twin.record(images), rtol=1e-4, atol=1e-4)
    found[:, 0].sum().backward()
    step = x.detach() + 1e-2 * x.grad / x.grad.norm()
    assert (twin.forward(step)[:, 0] > found[:, 0]).all()


def test_its_units_are_called_those_of_a_twin(twin):
    assert twin.units.neuroid_id == ("twin.one", "twin.two", "twin.none")
    assert twin.name == "twin-of-lab"


def test_the_same_image_in_two_recordings_is_one_image(recording):
    again = present(lab(0.3, seed=5), shown(), repeats=1, seed=3, progress=False)
    table = fit_twin([recording, again], features=network(), references=shown()).table
    assert table["images"].values.tolist() == [120] * 3
    assert table["presentations"].values.tolist() == [480] * 3


def test_repeats_of_an_image_never_stand_on_both_sides():
    """Responses that are a property of the image alone, of which features say nothing, are not predicted."""
    rng = np.random.default_rng(0)
    images = photographs(60)
    levels = {image.tobytes(): rng.normal() for image in images}
    images = np.concatenate([images, images])
    names = tuple(f"image{i}" for i in range(120))
    subject = FunctionSubject(lambda x: np.array([[levels[i.tobytes()]] for i in x]), name="memory")
    held = ImageSet(names, images)
    table = fit_twin(present(subject, held, progress=False), features=network(), references=held).table
    assert table["images"].item() == 60
    assert "unpredictable" in str(table["reason"].values[0])


def test_it_is_saved_and_loaded_by_name(tmp_path, twin, recording):
    with pytest.raises(InvalidArgumentError, match="Python object"):
        twin.save(tmp_path / "object")
    named = fit_twin(
        recording,
        features={"name": "lite0", "resolution": 32, "weights": "random", "engine": "eager"},
        layers=["blocks.0"],
        references=shown(),
    )
    stored = named.save(tmp_path / "twin")
    again = load_subject(**stored.recipe)
    images = photographs(3)
    np.testing.assert_array_equal(again.record(images), named.record(images))
    assert again.fingerprint == named.fingerprint
    assert again.readout.recordings == named.readout.recordings
    assert len(again.readout.recordings[0]) == 64
    assert again.table.equals(named.table)


def test_a_damaged_twin_is_refused(tmp_path, recording):
    folder = tmp_path / "twin"
    fit_twin(
        recording,
        features={"name": "lite0", "resolution": 32, "weights": "random", "engine": "eager"},
        layers="blocks.0",
        references=shown(),
    ).save(folder)
    data = bytearray((folder / "twin.safetensors").read_bytes())
    data[-3] ^= 1
    (folder / "twin.safetensors").write_bytes(data)
    with pytest.raises(WeightsError, match="not the file"):
        load_subject(f"twin:{folder}")
    with pytest.raises(WeightsError, match="expected a folder"):
        load_subject(f"twin:{tmp_path}")


def test_other_subjects_are_features_as_they_are(recording):
    class Means:
        name, units = "means", closedloop.interfaces.Units.numbered("means", 3)

        def record(self, images):
            return images.mean((2, 3))

        def forward(self, x):
            return x.mean((2, 3))

    assert fit_twin(recording, features=Means(), references=shown()).features.name == "means"


def test_errors_name_the_argument(recording):
    with pytest.raises(InvalidArgumentError, match="units: expected different columns"):
        fit_twin(recording, features=network(), units=[7])
    with pytest.raises(InvalidArgumentError, match="features: expected a network"):
        fit_twin(recording, features=lab(0.1))
    with pytest.raises(RecordingError, match="at least 10 images"):
        fit_twin(present(lab(0.1), shown(5), progress=False), features=network(), references=shown(5))


def test_the_course_of_an_evolution_is_taken_out():
    from closedloop.twins.judging import within

    group = np.repeat([0, 1, 2], 4)
    values = np.arange(12.0) + 10 * group
    np.testing.assert_allclose(within(values, group), np.tile([-1.5, -0.5, 0.5, 1.5], 3))
