"""Several images of one unit: as good as promised where the unit is invariant, and different from one another."""

import numpy as np
import pytest
import torch

from closedloop.analysis import diversity, verification
from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.generators import load_generator
from closedloop.gradients.diverse import as_images, nearest
from closedloop.protocols import present, verify
from closedloop.subjects import FunctionSubject, load_subject
from closedloop.twins import diverse_images, fit_twin
from tests import small_places, small_twins

SIDE = 16


def energy():
    """A complex cell: its best images are those of all phases."""
    return load_subject("energy", resolution=SIDE, count=1, seed=0)


@pytest.fixture(scope="module")
def found():
    return diverse_images(energy(), load_generator("fourier", resolution=SIDE), count=4, apart="pixels", seed=1)


def test_the_nearest_is_the_most_alike():
    where = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    np.testing.assert_allclose(nearest(where).numpy(), [0, 0, 1], atol=1e-6)


def test_images_of_a_complex_cell_differ_and_are_as_good(found):
    assert found.sizes["copy"] == 4
    assert found["predicted"].values[0] == found["predicted"].values.max()
    assert (found["predicted"].values >= 0.99 * 0.85 * found["predicted"].values[0]).all()
    assert np.median(found["distance"].values) > float(found["start_distance"])
    np.testing.assert_allclose(energy().record(as_images(found))[:, 0], found["predicted"].values, rtol=1e-5)


def test_a_simple_cell_leaves_less_room():
    """Its drive is linear: images of 85 % of the best have a cosine with its filter in common."""
    simple = load_subject("gabor", resolution=SIDE, count=1, seed=0)
    generator = load_generator("fourier", resolution=SIDE)
    one, many = (
        diverse_images(subject, generator, count=3, apart="pixels", above=0.95, seed=1)
        for subject in (simple, energy())
    )
    least = [found["distance"].values.min() for found in (one, many)]
    assert least[1] > least[0]


@pytest.mark.parametrize("apart", ["features", "codes"])
def test_by_a_twin(apart):
    images = small_places.shown(60)
    recording = present(small_places.looking(), images, progress=False, resolution=SIDE)
    twin = fit_twin(recording, small_places.Patches(), references=images)
    found = diverse_images(twin, load_generator("fourier", resolution=SIDE), 1, count=3, apart=apart, steps=30)
    assert found.sizes["copy"] == 3
    np.testing.assert_allclose(twin.record(as_images(found))[:, 1], found["predicted"].values, rtol=1e-5)


def judged(noise=0.02, repeats=6, save=None, seed=1):
    """The first unit answers to one image in full, and to the others by 0.95 and 0.5; the second to its only one."""
    levels = np.array([1.0, 0.95, 0.5, 0.8], np.float32)
    images = np.random.default_rng(0).random((4, 3, SIDE, SIDE), np.float32) * levels[:, None, None, None]
    rng = np.random.default_rng(seed)
    mean = dict(zip((np.round(255 * one).astype(np.uint8).tobytes() for one in images), levels, strict=True))

    def answer(shown):
        keys = [np.round(255 * one).astype(np.uint8).tobytes() for one in shown]
        signal = np.array([mean.get(key, 0.1) for key in keys])[:, None]
        return np.concatenate([signal, signal], 1) + noise * rng.standard_normal((len(shown), 2))

    subject = FunctionSubject(answer, units=["one", "two"], name="judge")
    return verify(subject, images, [0, 0, 0, 1], repeats=repeats, progress=False, save=save)


def test_re_tests_say_how_many_are_as_good(tmp_path, capsys):
    recording = judged(save=tmp_path / "run")
    found = diversity(recording)
    assert found["target"].values.tolist() == ["one"] * 3 + ["two"]
    np.testing.assert_allclose(found["share"].values, [1, 0.95, 0.5, 1], atol=0.04)
    assert (found["share_low"].values <= found["share"].values).all()
    assert found["share_high"].values[2] < 0.6
    assert np.isnan(found["alike"].values[3])
    assert np.abs(found["alike"].values[:3]).max() < 0.3
    assert verification(recording)["matrix"].shape == (2, 2)
    from closedloop.cli import main

    main(["show", str(tmp_path / "run")])
    said = " ".join(capsys.readouterr().out.split())
    assert "one: of 2 other images 1 drive it by at least 85 %" in said


def test_the_interval_of_a_share_holds_the_true_one():
    inside = []
    for seed in range(25):
        found = diversity(judged(0.2, 8, seed=seed))
        low, high = found["share_low"].values[1:3], found["share_high"].values[1:3]
        inside += ((low <= [0.95, 0.5]) & (high >= [0.95, 0.5])).tolist()
    assert np.mean(inside) >= 0.88


def test_errors_name_the_argument():
    generator = load_generator("fourier", resolution=SIDE)
    with pytest.raises(InvalidArgumentError, match="apart: expected 'codes' or 'pixels' for this model"):
        diverse_images(energy(), generator)
    with pytest.raises(InvalidArgumentError, match="above: expected a share"):
        diverse_images(energy(), generator, apart="codes", above=1.2)
    with pytest.raises(InvalidArgumentError, match="model: expected one with a forward"):
        diverse_images(small_twins.lab(), generator, apart="codes")
    with pytest.raises(InvalidArgumentError, match="unit: expected a column of 0 to 0"):
        diverse_images(energy(), generator, 3, apart="codes")
    with pytest.raises(InvalidArgumentError, match="those of one unit in succession"):
        verify(small_twins.lab(), small_twins.shown(3).images, [0, 1, 0], progress=False)
    with pytest.raises(RecordingError, match="role and target"):
        diversity(present(small_twins.lab(), small_twins.shown(4), progress=False))
