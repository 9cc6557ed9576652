import numpy as np
import pytest
import torch
from torch import nn

import closedloop.generators.training as training
import closedloop.generators.two_part_training as module
from closedloop.errors import InvalidArgumentError
from closedloop.generators import FeatureTaps, Native, TrainingSettings, train_native
from closedloop.generators.training import cut_crops
from closedloop.generators.two_part_model import Flow
from closedloop.networks.modules import born


class Classifier(nn.Module):
    """Maps, and 3 numbers that say the mean colour."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 4, 4, 2, 1)

    def forward(self, x):
        self.a(x)
        return 4 * x.mean((2, 3))


@pytest.fixture
def classifier():
    return FeatureTaps(born(Classifier, 0), ("a", "output"), (0.5,) * 3, (0.5,) * 3, "colours")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(module, "FLOW_STEPS", 5)
    monkeypatch.setattr(training, "COMMIT_STEPS", 2)


def settings(**other):
    given = {"steps": 4, "batch": 4, "resolution": 64, "crops": 3, "draws_start": 0, "precision": "single"}
    return TrainingSettings(**given | {"model": "two-part"} | other)


def trainer(photographs, classifier, **other):
    chosen = settings(**other)
    return module.TwoPartTrainer(
        cut_crops(photographs, chosen), classifier, chosen, "cpu", training._start(training.embedded(training.FIRST))
    )


@pytest.mark.long
def test_a_flow_learns_what_is_no_gaussian():
    rng = torch.Generator().manual_seed(0)
    sides = torch.randint(2, (2000, 1), generator=rng) * 2.0 - 1
    codes = torch.cat([sides, sides], 1) * 0.9 + 0.2 * torch.randn((2000, 2), generator=rng)
    flow = born(lambda: Flow(2), 0)
    seen = module.fit_flow(flow, codes, None, 0, 100)
    assert np.mean(seen[-20:]) < np.mean(seen[:5]) - 0.3
    with torch.no_grad():
        draws = flow(torch.randn((500, 2), generator=rng))
    assert (draws[:, 0] * draws[:, 1] > 0).float().mean() > 0.9


def test_the_prior_says_what_is_seen_in_units_of_its_deviation(photographs, classifier):
    learning = trainer(photographs, classifier, saturation=1, hue=0)
    seen, spatial = learning._measure()
    assert seen.shape == (12, 3)
    assert spatial.shape == (12, 128)
    learning.fit_prior(seen, spatial)
    whitened = module.whitened(seen, learning.seen_mean, learning.seen_axes)
    torch.testing.assert_close(whitened.T.cov()[:2, :2], torch.eye(2), atol=1e-3, rtol=0)


def test_a_part_is_a_square_of_the_picture():
    images = torch.arange(64.0**2).view(1, 1, 64, 64)
    part = module._part(images, torch.Generator().manual_seed(0))
    assert part.shape == (1, 1, 56, 56)
    assert torch.equal(part[0, 0, 1:, 0] - part[0, 0, :-1, 0], torch.full((55,), 64.0))


def test_half_of_the_draws_show_what_photographs_show(photographs, classifier):
    learning = trainer(photographs, classifier)
    what = torch.randn((4, 3), generator=torch.Generator().manual_seed(0))
    drawn, spatial = learning._draw(what, torch.Generator().manual_seed(1))
    assert torch.equal(drawn[:2], what[:2])
    assert not torch.equal(drawn[2:], what[2:])
    assert spatial.shape == (4, 8, 4, 4)


@pytest.mark.long
def test_it_learns_to_draw_what_is_asked_for(photographs, classifier):
    none = dict.fromkeys(("pixel_weight", "feature_weight", "moments_weight", "adversary_weight"), 0.0)
    learning = trainer(photographs, classifier, steps=1000, **none)
    losses = [learning.run_step() for _ in range(40)]
    mean = [np.mean([loss["what"] for loss in part]) for part in (losses[:5], losses[-5:])]
    assert mean[1] < 0.8 * mean[0]


def test_only_what_is_new_learns(photographs, classifier):
    learning = trainer(photographs, classifier)
    before = {k: v.clone() for k, v in learning.nets.state_dict().items()}
    learning.run_step()
    losses = learning.run_step()  # what begins without effect hides what stands before it from the first step
    assert {"pixel", "feature", "read", "what", "layout", "fooled", "moments", "judged"} == set(losses)
    same = {k for k, v in learning.nets.state_dict().items() if torch.equal(v, before[k])}
    assert same == {k for k in before if k.startswith("reader.encoder.")}


@pytest.mark.long
def test_what_is_interrupted_goes_on_as_if_never_stopped(photographs, classifier, tmp_path):
    def stop(step, losses):
        if step == 3:
            raise KeyboardInterrupt

    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    facts = train_native(photographs, whole, classifier, settings())
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        train_native(photographs, parts, classifier, settings(), observe=stop)
    steps = []
    train_native(photographs, parts, classifier, settings(), observe=lambda step, losses: steps.append(step))
    assert steps == [3, 4]
    assert facts["start"] == "native.safetensors"
    first, second = (Native(path, engine="eager") for path in (whole, parts))
    codes = first.space.sample(2, np.random.default_rng(0))
    np.testing.assert_array_equal(first(codes), second(codes))


def test_it_needs_weights_to_begin_with_and_a_classifier(photographs, taps):
    with pytest.raises(InvalidArgumentError, match="the last layer of features must be a vector; got some, and 3 axes"):
        trainer(photographs, taps)
    crops = cut_crops(photographs, settings())
    with pytest.raises(InvalidArgumentError, match="got none"):
        module.TwoPartTrainer(crops, taps, settings())
