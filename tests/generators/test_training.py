import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import closedloop.generators.learning as learning
import closedloop.generators.training as module
from closedloop.errors import InvalidArgumentError, TrainingError, WeightsError
from closedloop.generators import FeatureTaps, Native, TrainingSettings, train_native
from closedloop.generators.spatial_training import SpatialTrainer
from tests.generators.conftest import four_photographs, small_taps


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setattr(module, "COMMIT_STEPS", 2)
    monkeypatch.setattr(module, "SHEET_STEPS", 3)


def settings(**other):
    return TrainingSettings(**{"steps": 4, "batch": 4, "resolution": 64, "crops": 3, "draws_start": 1, **other})


def test_crops_are_square_and_repeatable(photographs):
    crops = module.cut_crops(photographs, settings())
    assert crops.shape == (12, 3, 64, 64)
    assert crops.dtype == np.uint8
    np.testing.assert_array_equal(crops[0, :, 0, 0], (200, 30, 30))
    np.testing.assert_array_equal(module.cut_crops(photographs, settings()), crops)


def test_some_crops_turn_their_hue_and_some_are_stronger_in_colour(photographs):
    plain = module.cut_crops(photographs, settings(hue=0.0, saturation=1.0))[:3, :, 0, 0]
    np.testing.assert_array_equal(plain, [(200, 30, 30)] * 3)
    strong = module.cut_crops(photographs, settings(hue=0.0, saturation=3.0, crops=20))[:20, :, 0, 0]
    assert 4 < (strong[:, 0].astype(int) - strong[:, 1] > 175).sum() < 16
    turned = module.cut_crops(photographs, settings(hue=0.5, saturation=1.0, crops=20))[:20, :, 0, 0]
    assert 4 < (turned != [(200, 30, 30)]).any(1).sum() < 16
    assert abs(turned.max(1).astype(int) - 200).max() <= 2


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


@pytest.mark.long
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


@pytest.mark.long
def test_it_begins_at_given_weights(photographs, taps, tmp_path):
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    train_native(photographs, first, taps, settings())
    facts = train_native(photographs, second, taps, settings(steps=1, learning_rate=1e-9), start=first)
    assert facts["start"] == "first.safetensors"
    image = np.full((1, 3, 64, 64), 0.5, np.float32)
    a, b = (Native(p, engine="eager", shell=False) for p in (first, second))
    np.testing.assert_allclose(
        a._model.encoder(torch.zeros(1, 3, 64, 64)), b._model.encoder(torch.zeros(1, 3, 64, 64)), atol=0.02
    )
    assert a.encode(image).shape == b.encode(image).shape


def test_bad_arguments(photographs, taps, tmp_path):
    with pytest.raises(InvalidArgumentError, match="multiple of 32"):
        settings(resolution=100)
    with pytest.raises(InvalidArgumentError, match="steps"):
        settings(steps=0)
    with pytest.raises(InvalidArgumentError, match="moments_weight: expected a number of at least 0, got -1"):
        settings(moments_weight=-1)
    with pytest.raises(InvalidArgumentError, match="hue: expected a share from 0 to 1, got 2"):
        settings(hue=2)
    with pytest.raises(InvalidArgumentError, match=r"ends in \.safetensors"):
        train_native(photographs, tmp_path / "x.pt", taps, settings())
    (tmp_path / "there.safetensors").touch()
    with pytest.raises(InvalidArgumentError, match="exists"):
        train_native(photographs, tmp_path / "there.safetensors", taps, settings())
    (tmp_path / "x.safetensors.training.pt").write_text("damaged")
    with pytest.raises(WeightsError, match="training under way"):
        train_native(photographs, tmp_path / "x.safetensors", taps, settings())


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A folder with a training that was stopped after its first commit."""
    place = tmp_path_factory.mktemp("stopped")

    def stop(step, losses):
        if step == 3:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "COMMIT_STEPS", 2)
        with pytest.raises(KeyboardInterrupt, match=r"^$"):
            train_native(four_photographs(place), place / "x.safetensors", small_taps(), settings(), observe=stop)
    return place


@pytest.fixture
def under_way(stopped, tmp_path):
    """The file to come of a training that was stopped after its first commit."""
    for file in stopped.glob("x*"):
        shutil.copy(file, tmp_path)
    return tmp_path / "x.safetensors"


def test_a_training_under_way_keeps_its_settings(photographs, taps, under_way):
    with pytest.raises(InvalidArgumentError, match="'batch': 4"):
        train_native(photographs, under_way, taps, settings(batch=2))


def test_a_training_under_way_may_become_shorter_or_longer(photographs, taps, under_way):
    steps = []
    train_native(photographs, under_way, taps, settings(steps=3), observe=lambda step, losses: steps.append(step))
    assert steps == [3]


def test_a_training_under_way_keeps_its_model(photographs, under_way):
    network = nn.Sequential(nn.Conv2d(3, 4, 4, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    other = FeatureTaps(network, ("0", "output"), (0.5,) * 3, (0.5,) * 3, "small")
    with pytest.raises(InvalidArgumentError, match="'model': 'spatial'"):
        train_native(photographs, under_way, other, settings(model="two-part"))


def test_a_training_is_committed_after_some_time_too(photographs, taps, under_way, monkeypatch):
    monkeypatch.setattr(module, "COMMIT_S", 0.0)
    seen = []

    def look(step, losses):
        seen.append(module._read_state(under_way.with_name(under_way.name + module.UNDER_WAY))["step"])

    train_native(photographs, under_way, taps, settings(), observe=look)
    assert seen == [2, 3]


def test_a_training_under_way_keeps_its_photographs(photographs, taps, under_way):
    Image.new("RGB", (96, 80), (1, 2, 3)).save(photographs / "2.png")
    with pytest.raises(InvalidArgumentError, match=r"origin: the training under way has \{'photographs'"):
        train_native(photographs, under_way, taps, settings())


def test_a_training_under_way_keeps_its_network_of_features(photographs, taps, under_way):
    with torch.no_grad():
        taps.network.b.bias += 1
    with pytest.raises(InvalidArgumentError, match=r"origin: the training under way has \{'features'"):
        train_native(photographs, under_way, taps, settings())
    other = FeatureTaps(taps.network, ("a",), (0.5,) * 3, (0.5,) * 3, "small")
    with pytest.raises(InvalidArgumentError, match=r"origin: the training under way has \{'features'"):
        train_native(photographs, under_way, other, settings())


def test_a_training_under_way_keeps_its_start(photographs, taps, under_way, tmp_path):
    first = tmp_path / "first.safetensors"
    train_native(photographs, first, taps, settings(steps=1))
    with pytest.raises(InvalidArgumentError, match=r"origin: the training under way has \{'start'"):
        train_native(photographs, under_way, taps, settings(), start=first)


def test_a_training_under_way_keeps_its_precision(photographs, taps, under_way, monkeypatch):
    monkeypatch.setattr(learning, "quicker_precision", lambda device: "never measured again")
    state = module._read_state(under_way.with_name(under_way.name + module.UNDER_WAY))
    trainer = SpatialTrainer(module.cut_crops(photographs, settings()), taps, settings())
    trainer.restore(state)
    assert trainer.precision == state["precision"]
    assert state["precision"] in ("single", "bfloat16")


def test_any_change_of_a_training_under_way_is_noticed(under_way, tally, counted):
    file = under_way.with_name(under_way.name + module.UNDER_WAY)
    content, rng = file.read_bytes(), np.random.default_rng(0)
    assert module._read_state(file)["step"] == 2
    offsets = {
        0,
        20,
        80,
        len(content) // 2,
        len(content) - 1,
        *rng.integers(0, len(content), counted(quick=5, reduced=20, full=200)),
    }
    for at in offsets:
        for damaged in (content[:at], content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]):
            file.write_bytes(damaged)
            tally("damaged stores")
            with pytest.raises(WeightsError, match="the training under way"):
                module._read_state(file)


def test_the_state_of_an_older_training_is_read(under_way):
    file = under_way.with_name(under_way.name + module.UNDER_WAY)
    file.write_bytes(file.read_bytes().partition(b"\n")[2])
    assert module._read_state(file)["step"] == 2


def diverging(monkeypatch, when):
    """From its third step on, while `when` holds, the loss of pixels is a hundred times what it is."""
    run_step = SpatialTrainer.run_step

    def other(self):
        losses = run_step(self)
        return losses | {"pixel": losses["pixel"] * (100 if self.step == 3 and when(self) else 1)}

    monkeypatch.setattr(SpatialTrainer, "run_step", other)
    monkeypatch.setattr(module, "_ENOUGH", 1)


def test_a_training_that_diverges_goes_back_and_on_more_slowly(photographs, taps, tmp_path, monkeypatch):
    diverging(monkeypatch, lambda trainer: trainer.pace == 1)
    steps = []
    with pytest.warns(
        UserWarning, match=r"diverged at step 3 \(pixel .* was usual\): back to step 2, and on at 0.5 of"
    ):
        facts = train_native(
            photographs, tmp_path / "mine.safetensors", taps, settings(), observe=lambda step, _: steps.append(step)
        )
    assert steps == [1, 2, 3, 4]
    assert facts["pace"] == 0.5


@pytest.mark.filterwarnings("ignore:training. it diverged")
def test_one_that_always_diverges_ends_and_keeps_its_last_good_state(photographs, taps, tmp_path, monkeypatch):
    diverging(monkeypatch, lambda trainer: True)
    out = tmp_path / "mine.safetensors"
    with pytest.raises(
        TrainingError, match=r"diverged at step 3 .* lower learning rate. What was committed before stands"
    ):
        train_native(photographs, out, taps, settings())
    assert not out.exists()
    assert module._read_state(tmp_path / "mine.safetensors.training.pt")["step"] == 2


def test_one_that_diverges_before_its_first_commit_says_so(photographs, taps, tmp_path, monkeypatch):
    monkeypatch.setattr(SpatialTrainer, "run_step", lambda self: {"pixel": float("nan")})
    with pytest.raises(
        TrainingError, match=r"diverged at step 0 \(pixel nan\); begin another with a lower learning rate.$"
    ):
        train_native(photographs, tmp_path / "mine.safetensors", taps, settings())


def test_a_gradient_that_is_unusually_long_is_shortened_and_one_that_is_no_number_is_not_followed(photographs, taps):
    trainer = SpatialTrainer(module.cut_crops(photographs, settings()), taps, settings())
    trainer.run_step()
    usual = trainer._usual_norm
    (first, *_) = [p for group in trainer.adam.param_groups for p in group["params"]]
    for gradient, norm in ((1e9, 4 * usual), (float("nan"), None)):
        before = first.detach().clone()
        first.grad = torch.full_like(first, gradient)
        trainer._descend()
        if norm is None:
            assert torch.equal(first, before)
        else:
            assert float(first.grad.norm()) == pytest.approx(norm, rel=1e-3)
    assert trainer._usual_norm == pytest.approx(usual * (0.98 + 0.08))


def test_photographs_are_read_as_everywhere(tmp_path):
    """Upright, transparent parts on grey, 16-bit grey divided by 257."""
    wide = np.zeros((64, 128, 3), np.uint8)
    wide[:, :64] = 255
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera was held upright
    Image.fromarray(wide).save(tmp_path / "a.png", exif=turned)
    Image.fromarray(np.full((80, 80), 30000, np.uint16)).save(tmp_path / "b.png")
    Image.new("RGBA", (80, 80), (255, 0, 0, 0)).save(tmp_path / "c.png")
    plain = settings(crops=1, hue=0.0, saturation=1.0)
    first, second, third = module.cut_crops(tmp_path, plain)
    # The left half is white, so that after the turn to the right the upper half is: rows are of one colour.
    assert (first == first[:, :, :1]).all()
    np.testing.assert_array_equal(second, 117)
    np.testing.assert_array_equal(third, 128)
