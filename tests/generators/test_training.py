import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import closedloop.generators.training as module
from closedloop.errors import InvalidArgumentError, WeightsError
from closedloop.generators import FeatureTaps, Native, TrainingSettings, train_native


class Small(nn.Module):
    """A network with two layers of maps, and a third that must not be needed."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 4, 2, 1), nn.Conv2d(4, 6, 4, 2, 1)
        self.calls = 0

    def forward(self, x):
        x = self.b(self.a(x).relu())
        self.calls += 1
        return x.mean((2, 3))


@pytest.fixture
def taps():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return FeatureTaps(Small(), ("a", "b"), (0.5,) * 3, (0.5,) * 3, "small")


@pytest.fixture
def photographs(tmp_path):
    """Four photographs of one colour each, 80 x 96 pixels."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, color in enumerate([(200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30)]):
        Image.new("RGB", (96, 80), color).save(folder / f"{i}.png")
    return folder


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setattr(module, "COMMIT_STEPS", 2)
    monkeypatch.setattr(module, "SHEET_STEPS", 3)


def settings(**other):
    return TrainingSettings(**{"steps": 4, "batch": 4, "resolution": 64, "crops": 3, "adversary_start": 1, **other})


def test_crops_are_square_and_repeatable(photographs):
    crops = module.cut_crops(photographs, settings())
    assert crops.shape == (12, 3, 64, 64)
    assert crops.dtype == np.uint8
    np.testing.assert_array_equal(crops[0, :, 0, 0], (200, 30, 30))
    np.testing.assert_array_equal(module.cut_crops(photographs, settings()), crops)


def test_features_stop_at_the_deepest_layer(taps):
    first, second = taps(torch.zeros(2, 3, 16, 16))
    assert first.shape == (2, 4, 8, 8)
    assert second.shape == (2, 6, 4, 4)
    assert taps.network.calls == 0


def test_it_learns_to_draw_the_photographs(photographs, taps):
    trainer = module.Trainer(
        module.cut_crops(photographs, settings()), taps,
        settings(steps=60, adversary_start=1000, feature_weight=0.0, learning_rate=2e-3),
    )  # fmt: skip
    losses = [trainer.run_step() for _ in range(60)]
    pixel = [loss["pixel"] for loss in losses]
    assert np.mean(pixel[-10:]) < 0.75 * np.mean(pixel[:10])


def test_the_adversary_tells_drawn_from_real(photographs, taps):
    trainer = module.Trainer(module.cut_crops(photographs, settings()), taps, settings(steps=60, adversary_rate=3e-3))
    losses = [trainer.run_step() for _ in range(40)]
    assert "judged" not in losses[0]
    assert losses[-1]["judged"] < losses[1]["judged"]


def test_the_file_holds_weights_and_facts(photographs, taps, tmp_path):
    out, seen = tmp_path / "mine.safetensors", []
    facts = train_native(photographs, out, taps, settings(), observe=lambda step, losses: seen.append(step))
    assert seen == [1, 2, 3, 4]
    generator = Native(out, engine="eager")
    assert generator.facts == facts
    assert facts["photographs"] == 4
    assert facts["settings"]["steps"] == 4
    assert facts["features"] == "small: a, b"
    assert generator.resolution == 64
    assert generator.space.dim == 128
    with Image.open(tmp_path / "mine-000003.png") as sheet:
        assert sheet.size == (8 * 64, 5 * 64)
    assert not list(tmp_path.glob("*.training.pt"))


def test_what_is_interrupted_goes_on_as_if_never_stopped(photographs, taps, tmp_path):
    def stop(step, losses):
        if step == 3:
            raise KeyboardInterrupt

    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    train_native(photographs, whole, taps, settings())
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        train_native(photographs, parts, taps, settings(), observe=stop)
    assert not parts.exists()
    steps = []
    train_native(photographs, parts, taps, settings(), observe=lambda step, losses: steps.append(step))
    assert steps == [3, 4]
    codes = np.random.default_rng(0).standard_normal((2, 128))
    np.testing.assert_array_equal(Native(parts, engine="eager")(codes), Native(whole, engine="eager")(codes))


def test_it_begins_at_given_weights(photographs, taps, tmp_path):
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    train_native(photographs, first, taps, settings())
    facts = train_native(photographs, second, taps, settings(steps=1, learning_rate=1e-9), start=first)
    assert facts["start"] == "first.safetensors"
    image = np.full((1, 3, 64, 64), 0.5, np.float32)
    a, b = (Native(p, engine="eager", shell=False) for p in (first, second))
    np.testing.assert_allclose(a._encoder(torch.zeros(1, 3, 64, 64)), b._encoder(torch.zeros(1, 3, 64, 64)), atol=0.02)
    assert a.encode(image).shape == b.encode(image).shape


def test_global_randomness_and_network_are_left_alone(photographs, taps):
    before = torch.get_rng_state(), taps.network.a.weight.clone()
    trainer = module.Trainer(module.cut_crops(photographs, settings()), taps, settings())
    trainer.run_step()
    trainer.run_step()
    assert torch.equal(before[0], torch.get_rng_state())
    assert torch.equal(before[1], taps.network.a.weight)


def test_bad_arguments(photographs, taps, tmp_path):
    with pytest.raises(InvalidArgumentError, match="multiple of 32"):
        settings(resolution=100)
    with pytest.raises(InvalidArgumentError, match="steps"):
        settings(steps=0)
    with pytest.raises(InvalidArgumentError, match=r"ends in \.safetensors"):
        train_native(photographs, tmp_path / "x.pt", taps, settings())
    (tmp_path / "there.safetensors").touch()
    with pytest.raises(InvalidArgumentError, match="exists"):
        train_native(photographs, tmp_path / "there.safetensors", taps, settings())
    (tmp_path / "x.safetensors.training.pt").write_text("damaged")
    with pytest.raises(WeightsError, match="training under way"):
        train_native(photographs, tmp_path / "x.safetensors", taps, settings())


def test_a_training_under_way_keeps_its_settings(photographs, taps, tmp_path):
    def stop(step, losses):
        if step == 3:
            raise KeyboardInterrupt

    out = tmp_path / "x.safetensors"
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        train_native(photographs, out, taps, settings(), observe=stop)
    with pytest.raises(InvalidArgumentError, match="'batch': 4"):
        train_native(photographs, out, taps, settings(batch=2))
