"""The methods by name: their published settings, what they climb, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from closedloop.errors import InvalidArgumentError, UnknownNameError
from closedloop.generators import Fourier, PhaseOnly, Pixels
from closedloop.gradients.methods import METHODS, RETUNED, YOSINSKI, Request, find_method, make_plan
from closedloop.interfaces import Space
from closedloop.objectives import LogProbability, Probability, Unit
from closedloop.optimizers.gradient.regularizers import (
    Blur,
    Clip,
    Decay,
    FixedContrast,
    FixedNorm,
    SmallContribution,
    SmallNorm,
)


class Coded:
    """Pixels in [-∞, ∞] that know their own codes."""

    name, resolution, space = "coded", 4, Space(48)

    def __call__(self, codes):
        return np.clip(np.asarray(codes, np.float32), 0, 1).reshape(-1, 3, 4, 4)

    def encode(self, images):
        return np.asarray(images, dtype=float).reshape(len(images), -1)


def request(generator=None, steps=20, *, output=True, start=None, **options) -> Request:
    classes = (0, 1, 2) if output else (1,)
    return Request(
        Pixels(8) if generator is None else generator, Unit(1), 1, classes, output, 5, steps, start, 1, 8, 3, options
    )


@pytest.mark.parametrize(
    ("name", "steps"),
    [("raw", 500), ("yosinski-1", 500), ("yosinski-2", 750), ("yosinski-3", 1000), ("yosinski-4", 1000),
     ("lucid", 512), ("maco", 256), ("accentuate", 99), ("dgn-am", 200), ("ppgn", 200)],
)  # fmt: skip
def test_steps_are_as_published(name, steps):
    assert find_method(name).steps == steps


def test_sets_of_yosinski_are_as_published_and_in_its_order():
    found = {number: regularizers for number, (regularizers, _) in YOSINSKI.items()}
    assert found == {
        1: [Blur(0.5, 4), SmallNorm(50)],
        2: [Decay(0.3), SmallNorm(20)],
        3: [Decay(0.0001), Blur(1.0, 4)],
        4: [Blur(0.5, 4), SmallContribution(90)],
    }
    for number, (regularizers, policy) in YOSINSKI.items():
        climbed = make_plan(f"yosinski-{number}", request()).optimizer
        assert list(climbed.regularizers) == regularizers
        assert climbed.spare_last
        assert climbed.unit == 255
        for name, value in {**policy, **RETUNED[number]}.items():
            assert getattr(climbed, name) == value
        published = make_plan(f"yosinski-{number}", request(rate=policy["rate"], max_rate=policy.get("max_rate")))
        assert published.optimizer.rate == policy["rate"]


def test_raw_climbs_the_confidence_of_a_class_and_the_response_of_another_unit():
    of_class, of_unit = make_plan("raw", request()), make_plan("raw", request(output=False))
    assert of_class.objective == Probability(1, (0, 1, 2))
    assert (of_class.optimizer.policy, of_class.optimizer.rate, of_class.optimizer.late) == ("progress01", 0.02, 0.1)
    assert of_unit.objective == Unit(1)
    assert of_unit.optimizer.policy == "progress"
    own_rate = make_plan("raw", request(rate=0.5)).optimizer
    assert (own_rate.policy, own_rate.rate) == ("progress", 0.5)


def test_lucid_redirects_sixteen_steps_and_sees_the_image_robustly():
    plan = make_plan("lucid", request(Fourier(16, shell=False)))
    assert plan.gradient.redirected == 16
    assert plan.gradient.view is not None
    assert (plan.optimizer.rate, plan.optimizer.unit) == (0.05, 1.0)
    assert make_plan("raw", request()).gradient.view is None
    several = make_plan("lucid", request(Fourier(16, shell=False), views=3)).gradient.view
    assert (plan.gradient.view.copies, several.copies) == (1, 3)
    assert several.views[1:] == plan.gradient.view.views


def test_penalties_of_tv_are_weighted_terms():
    said = make_plan("tv", request(tv=2.0, norm=0.5, l1=0.25)).objective.describe()
    assert said == "unit(1) - 2.0*tv() - 0.5*alphanorm() - 0.25*l1()"


def test_mei_holds_a_contrast_or_a_norm():
    assert make_plan("mei", request(contrast=0.1)).optimizer.regularizers == (FixedContrast(0.1),)
    climbed = make_plan("mei", request(norm=2.0)).optimizer
    assert climbed.regularizers == (FixedNorm(2.0),)
    space = Pixels(8).space
    for _ in range(3):
        codes = climbed.ask()
        climbed.tell(codes, np.zeros(1), np.random.default_rng(0).standard_normal(codes.shape))
    np.testing.assert_allclose(np.linalg.norm(climbed.ask() - space.center, axis=1), 2.0, rtol=1e-6)


def test_maco_sees_as_many_crops_as_are_asked_for():
    plan = make_plan("maco", request(PhaseOnly(16), crops=5))
    assert plan.gradient.view.copies == 5
    assert plan.optimizer.nesterov
    crops = make_plan("maco", request(PhaseOnly(16), steps=11, first=0.3, last=0.1)).gradient.view.views[0]
    assert [crops.mean_side(step) for step in (0, 5, 10)] == pytest.approx([0.3, 0.2, 0.1])
    assert METHODS["maco"].generator["standardize"]  # the step is one of standardized phases


def test_dgn_am_clips_to_the_prior_and_then_decays():
    climbed = make_plan("dgn-am", request()).optimizer
    assert list(climbed.regularizers) == [Clip(-3.0, 3.0), Decay(0.01)]
    assert climbed.policy == "mean"
    assert climbed.last_rate == 1e-10


def test_ppgn_climbs_the_log_probability_and_switches_its_gradient():
    for exact in (True, False):
        plan = make_plan("ppgn", request(Coded(), exact=exact))
        assert plan.objective == LogProbability(1, (0, 1, 2), exact=exact)
    assert make_plan("ppgn", request(Coded(), output=False)).objective == Unit(1)


def test_what_a_method_does_not_take_is_named():
    with pytest.raises(UnknownNameError, match=r"no method 'lucd'.*'lucid'"):
        find_method("lucd")
    with pytest.raises(InvalidArgumentError, match=r"raet: method 'raw' has no such option.*'rate'"):
        make_plan("raw", request(raet=1))
    with pytest.raises(InvalidArgumentError, match="start: expected an image for 'accentuate'"):
        make_plan("accentuate", request(Fourier(16, shell=False)))
    with pytest.raises(InvalidArgumentError, match="expected one with an encoder"):
        make_plan("ppgn", request(Plainest()))


class Plainest:
    """A generator that cannot encode."""

    name, resolution, space = "plainest", 4, Space(48)

    def __call__(self, codes):
        return np.zeros((len(codes), 3, 4, 4), np.float32)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_says_where_it_comes_from(name):
    assert METHODS[name].source
    assert "name" in METHODS[name].generator


@pytest.mark.parametrize("name", ["raw", "yosinski-1", "deepdream"])
def test_methods_of_pixels_say_so_of_another_generator(name):
    with pytest.raises(
        InvalidArgumentError, match=r"generator: this method moves the values of pixels; .* got 'fourier'"
    ):
        make_plan(name, request(Fourier(16, 3)))


def test_grey_pixels_begin_around_the_luminance_of_the_mean_colour():
    grey, colour = (make_plan("raw", request(Pixels(6, channels=channels))).optimizer.ask() for channels in (1, 3))
    assert grey.shape == (1, 36)
    assert grey.mean() == pytest.approx(0.458, abs=0.02)  # .299 × .485 + .587 × .456 + .114 × .406
    np.testing.assert_allclose(colour.reshape(3, 36).mean(1), [0.485, 0.456, 0.406], atol=0.02)
