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
    return TrainingSettings(**{"steps": 4, "batch": 4, "resolution": 64, "crops": 3, "draws_start": 1, **other})


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


@pytest.mark.long
def test_it_learns_to_draw_the_photographs(photographs, taps):
    trainer = module.Trainer(
        module.cut_crops(photographs, settings()), taps,
        settings(steps=60, draws_start=1000, feature_weight=0.0, learning_rate=2e-3),
    )  # fmt: skip
    losses = [trainer.run_step() for _ in range(60)]
    pixel = [loss["pixel"] for loss in losses]
    assert np.mean(pixel[-10:]) < 0.75 * np.mean(pixel[:10])


@pytest.mark.long
def test_the_adversary_tells_drawn_from_real(photographs, taps):
    trainer = module.Trainer(module.cut_crops(photographs, settings()), taps, settings(steps=60, adversary_rate=3e-3))
    losses = [trainer.run_step() for _ in range(40)]
    assert "judged" not in losses[0]
    assert losses[-1]["judged"] < losses[1]["judged"]


def test_moments_hold_means_and_products_of_channels():
    maps = torch.randn(3, 2, 4, 5, generator=torch.Generator().manual_seed(0))
    moments = module.second_moments(maps)
    flat = maps.permute(1, 0, 2, 3).reshape(2, -1)
    assert moments[0, 0] == 1
    torch.testing.assert_close(moments[0, 1:], flat.mean(1))
    torch.testing.assert_close(moments[1:, 1:], (flat[:, None] * flat[None]).mean(-1))


def test_every_other_draw_leans_and_all_lie_on_the_shell(photographs, taps):
    trainer = module.Trainer(module.cut_crops(photographs, settings()), taps, settings(leaning=1.0))
    codes = trainer._draw(200, torch.Generator().manual_seed(0))  # axes are the unit axes, the mean is 0
    torch.testing.assert_close(codes.norm(dim=1), torch.full((200,), 128**0.5))
    largest = (codes**2).amax(1)
    assert largest[1::2].median() > 2 * largest[::2].median()
    first = (codes[:, :16] ** 2).mean(1)
    assert first[::2].mean() == pytest.approx(1, abs=0.15)
    assert first[1::2].mean() > 1.5


@pytest.mark.long
@pytest.mark.parametrize("name", ["moments", "recovery", "fooled"])
def test_each_loss_of_the_draws_can_be_made_small(photographs, taps, name):
    """Forty steps on the same draws, with the weight of one loss alone, and with none."""
    rng = np.random.default_rng(0)
    for i in range(4):
        Image.fromarray(rng.integers(0, 256, (80, 96, 3), np.uint8)).save(photographs / f"{i}.png")
    crops = module.cut_crops(photographs, settings())
    weight = {"moments": "moments_weight", "recovery": "recovery_weight", "fooled": "adversary_weight"}[name]

    def change(value):
        none = dict.fromkeys(
            ("pixel_weight", "feature_weight", "moments_weight", "recovery_weight", "adversary_weight", "code_penalty"),
            0.0,
        )
        trainer = module.Trainer(crops, taps, settings(**none | {weight: value}, adversary_rate=0.0))
        values = []
        for _ in range(40):
            trainer.step = 3
            values.append(trainer.run_step()[name])
        return values[-1] - values[0]

    better = 1 if name == "fooled" else -1
    assert better * (change(1.0) - change(0.0)) > 0.1


def test_fine_detail_is_what_a_blur_leaves():
    flat = torch.full((1, 3, 8, 8), 0.3)
    torch.testing.assert_close(module.fine_detail(flat), torch.zeros(1, 48, 2, 2))
    board = flat.clone()
    board[..., ::4, ::4] += 0.9
    detail = module.fine_detail(board)
    assert detail.shape == (1, 48, 2, 2)
    torch.testing.assert_close(detail[0, ::16, 1, 1], torch.full((3,), 0.8))
    assert (detail[0, 1:16, 1, 1] < 1e-6).all()


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


@pytest.fixture
def under_way(photographs, taps, tmp_path):
    """The file to come of a training that was stopped after its first commit."""

    def stop(step, losses):
        if step == 3:
            raise KeyboardInterrupt

    out = tmp_path / "x.safetensors"
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        train_native(photographs, out, taps, settings(), observe=stop)
    return out


def test_a_training_under_way_keeps_its_settings(photographs, taps, under_way):
    with pytest.raises(InvalidArgumentError, match="'batch': 4"):
        train_native(photographs, under_way, taps, settings(batch=2))


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
    monkeypatch.setattr(module, "quicker_precision", lambda device: "never measured again")
    state = module._read_state(under_way.with_name(under_way.name + module.UNDER_WAY))
    trainer = module.Trainer(module.cut_crops(photographs, settings()), taps, settings())
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


@pytest.mark.parametrize(("ratio", "chosen"), [(0.5, "bfloat16"), (0.9, "single"), (15.0, "single")])
def test_the_quicker_precision_is_measured(monkeypatch, ratio, chosen):
    """A processor without bfloat16 emulates it; a clock stands for it here."""
    clock = [0.0]
    autocast = torch.autocast

    def slow(kind, dtype, enabled):
        clock[0] += ratio if enabled else 1.0
        return autocast(kind, dtype, enabled=enabled)

    monkeypatch.setattr(module.torch, "autocast", slow)
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock[0])
    assert module.quicker_precision(torch.device("cpu")) == chosen
