import numpy as np
import pytest
import torch
from PIL import Image

from closedloop.generators import TrainingSettings
from closedloop.generators.spatial_training import SpatialTrainer
from closedloop.generators.training import cut_crops


def settings(**other):
    return TrainingSettings(**{"steps": 4, "batch": 4, "resolution": 64, "crops": 3, "draws_start": 1, **other})


@pytest.mark.long
def test_it_learns_to_draw_the_photographs(photographs, taps):
    trainer = SpatialTrainer(
        cut_crops(photographs, settings()), taps,
        settings(steps=60, draws_start=1000, feature_weight=0.0, learning_rate=2e-3),
    )  # fmt: skip
    losses = [trainer.run_step() for _ in range(60)]
    pixel = [loss["pixel"] for loss in losses]
    assert np.mean(pixel[-10:]) < 0.75 * np.mean(pixel[:10])


@pytest.mark.long
def test_the_adversary_tells_drawn_from_real(photographs, taps):
    trainer = SpatialTrainer(cut_crops(photographs, settings()), taps, settings(steps=60, adversary_rate=3e-3))
    losses = [trainer.run_step() for _ in range(40)]
    assert "judged" not in losses[0]
    assert losses[-1]["judged"] < losses[1]["judged"]


def test_every_other_draw_leans_and_all_lie_on_the_shell(photographs, taps):
    trainer = SpatialTrainer(cut_crops(photographs, settings()), taps, settings(leaning=1.0))
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
    crops = cut_crops(photographs, settings())
    weight = {"moments": "moments_weight", "recovery": "recovery_weight", "fooled": "adversary_weight"}[name]

    def change(value):
        none = dict.fromkeys(
            ("pixel_weight", "feature_weight", "moments_weight", "recovery_weight", "adversary_weight", "code_penalty"),
            0.0,
        )
        trainer = SpatialTrainer(crops, taps, settings(**none | {weight: value}, adversary_rate=0.0))
        values = []
        for _ in range(40):
            trainer.step = 3
            values.append(trainer.run_step()[name])
        return values[-1] - values[0]

    better = 1 if name == "fooled" else -1
    assert better * (change(1.0) - change(0.0)) > 0.1
