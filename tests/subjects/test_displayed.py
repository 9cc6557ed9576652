"""A screen in front of a subject: mean, contrast and gamma against arithmetic, what clips, and a rig's own word."""

from __future__ import annotations

import numpy as np
import pytest

from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import Differentiable, Presenting, Stateful
from closedloop.loop import notices
from closedloop.loop.experiment import build_subject, parse_experiment
from closedloop.loop.noise import parse_noise, wrap
from closedloop.presentations import Asked
from closedloop.subjects import Displayed, EnergySubject, FunctionSubject, Lossy, MotionEnergySubject, load_subject
from closedloop.subjects.displayed import REC_709
from closedloop.testing import SubjectContract
from tests.small_rig import SIDE, SmallRig

CELL = EnergySubject(orientation_deg=[0.0, 45.0], cycles_per_image=4.0, resolution=32)
#: Half a step of 8 bits, which rounding may move a mean by at most.
STEP = 0.5 / 255


def images(n=4, side=32, contrast=0.1):
    noise = np.random.default_rng(0).standard_normal((n, 3, side, side))
    return np.clip(0.5 + contrast * noise, 0, 1).astype(np.float32)


def seen_by(displayed, shown):
    """What the subject inside was shown, in float64."""
    seen = []

    def respond(light):
        seen.append(light.astype(np.float64))
        return light.mean((1, 2, 3))

    Displayed(FunctionSubject(respond), **displayed).record(shown)
    return seen[0]


def moments(light):
    y = np.einsum("nchw,c->nhw", light, REC_709)
    return y.mean((1, 2)), y.std((1, 2)) / y.mean((1, 2))


class TestDisplayedContract(SubjectContract):
    tolerance = 0.01  # what is shown is rounded to 8 bits, and what gradients are taken of is not

    def make(self):
        return Displayed(CELL, mean=0.4, rms=0.3, gamma=2.2, linearized="images")


class TestOnlyGammaContract(SubjectContract):
    tolerance = 0.01

    def make(self):
        return Displayed(CELL, gamma=2.2, linearized="nobody")


class TestMoviesContract(SubjectContract):
    tolerance = 0.01
    resolution = 16

    def make(self):
        return Displayed(MotionEnergySubject(resolution=16), rms=0.2)


class TestStackContract(SubjectContract):
    noisy = True

    def make(self):
        return Lossy(Displayed(CELL, mean=0.3), rate=0.2)


@pytest.mark.parametrize("linearized", ["rig", "images", "nobody"])
@pytest.mark.parametrize(("mean", "rms"), [(0.5, 0.2), (0.25, 0.4), (0.7, 0.1)])
def test_the_eye_gets_the_mean_and_contrast_that_were_asked_for(mean, rms, linearized):
    light = seen_by({"mean": mean, "rms": rms, "gamma": 2.2, "linearized": linearized}, images())
    got_mean, got_rms = moments(light)
    # Rounding is to half a step of the value sent; light has at most the slope γ of it.
    np.testing.assert_allclose(got_mean, mean, atol=5e-4 + 2.2 * STEP / 30)
    np.testing.assert_allclose(got_rms, rms, rtol=0.01)


def test_contrast_is_kept_where_the_mean_alone_is_moved_and_the_reverse():
    own_mean, own_rms = moments(images().astype(np.float64))
    got_mean, got_rms = moments(seen_by({"mean": 0.3}, images()))
    np.testing.assert_allclose(got_mean, 0.3, atol=1e-3)
    np.testing.assert_allclose(got_rms, own_rms, rtol=0.01)
    got_mean, got_rms = moments(seen_by({"rms": 0.25}, images()))
    np.testing.assert_allclose(got_mean, own_mean, atol=1e-3)
    np.testing.assert_allclose(got_rms, 0.25, rtol=0.01)


def test_one_offset_and_one_factor_for_all_colours():
    shown = images(2, contrast=0.05)
    light = seen_by({"mean": 0.4, "rms": 0.1}, shown)
    for before, after in zip(shown, light, strict=True):
        slope, offset = np.polyfit(before.ravel(), after.ravel(), 1)
        np.testing.assert_allclose(after, offset + slope * before, atol=1.1 * STEP)


@pytest.mark.parametrize("gamma", [0.8, 1.0, 2.2])
def test_who_linearizes(gamma):
    ramp = np.broadcast_to((np.arange(256, dtype=np.float32) / 255).reshape(1, 1, 16, 16), (1, 3, 16, 16)).copy()
    nobody = seen_by({"gamma": gamma, "linearized": "nobody"}, ramp)
    np.testing.assert_allclose(nobody, ramp.astype(np.float64) ** gamma, atol=1e-6)
    rig = seen_by({"gamma": gamma, "linearized": "rig"}, ramp)
    np.testing.assert_allclose(rig, ramp, atol=1e-7)
    # Encoded, sent and shown again: the round trip, up to the rounding of what is sent.
    sender = Displayed(CELL, gamma=gamma, linearized="images")
    sent = sender.sent(ramp).astype(np.float64)
    np.testing.assert_allclose(sent, np.rint(255 * ramp.astype(np.float64) ** (1 / gamma)) / 255, atol=STEP * 0.01)
    back = seen_by({"gamma": gamma, "linearized": "images"}, ramp)
    slope = max(gamma, 1.0) if gamma >= 1 else gamma * (1 / 510) ** (gamma - 1)
    assert abs(back - ramp).max() <= slope * STEP * 1.01


def test_what_clips_is_counted_and_said():
    light = images(4, contrast=0.02)
    light[:, :, :8] = 1.0  # a bright quarter, which no 40 % of contrast keeps below white
    told = []
    notices.listen(told.append)
    try:
        screen = Displayed(FunctionSubject(lambda x: x.mean((1, 2, 3))), mean=0.6, rms=0.5)
        screen.record(light)
        shown = screen.sent(light)
        screen.record(light)
    finally:
        notices.leave(told.append)
    found = screen.told
    assert found["images"] == 12
    assert found["clipped"] == pytest.approx(np.isin(shown, [0, 1]).mean(), abs=0.02)
    assert found["clipped"] > 0.2
    np.testing.assert_allclose(moments(shown.astype(np.float64))[0], 0.6, atol=2e-3)
    assert len(told) == 1
    assert "of the values of 4 images are beyond the screen and were clipped" in told[0]
    untouched = Displayed(CELL, mean=0.5, rms=0.1)
    untouched.record(images(3))
    assert untouched.told == {"images": 3, "clipped": 0.0, "flat": 0, "missed": 0}


def test_flat_images_stay_flat_and_are_counted():
    shown = np.concatenate([np.full((1, 3, 16, 16), v, np.float32) for v in (0.0, 0.2, 1.0)])
    shown[1, :, 0, 0] += np.float32(0.4 / 255)
    screen = Displayed(CELL, mean=0.5, rms=0.3)
    light = screen.sent(shown)
    np.testing.assert_allclose(light, 0.5, atol=1.1 / 255)
    assert screen.told["flat"] == 3
    assert screen.told["missed"] == 0


def test_a_contrast_that_an_image_cannot_have_is_counted():
    dot = np.zeros((1, 3, 32, 32), np.float32)
    dot[:, :, 0, 0] = 1  # one pixel of 1,024 cannot carry a contrast of 0.9 at a mean of 0.5
    screen = Displayed(CELL, mean=0.5, rms=0.9)
    light = screen.sent(dot)
    assert screen.told["missed"] == 1
    assert ((light >= 0) & (light <= 1)).all()


def test_no_image_depends_on_those_beside_it():
    easy, hard = images(1, 16), images(1, 16, contrast=0.5)
    screen = Displayed(CELL, mean=0.5, rms=0.45)
    alone = np.concatenate([screen.sent(easy), screen.sent(hard)])
    np.testing.assert_array_equal(screen.sent(np.concatenate([easy, hard])), alone)


def test_forward_is_what_record_shows_and_its_gradient_is_that_of_the_whole():
    torch = pytest.importorskip("torch")
    screen = Displayed(CELL, mean=0.4, rms=0.3, gamma=2.0, linearized="nobody")
    assert isinstance(screen, Differentiable)
    x = torch.from_numpy(images(2).astype(np.float64)).requires_grad_()
    torch.autograd.gradcheck(lambda one: screen._fitted(screen._asked_light(one))[0], (x[:1, :, :4, :4],), atol=1e-3)
    found = screen.forward(x).detach().numpy()
    np.testing.assert_allclose(found, screen.record(images(2)), rtol=0.02, atol=5e-4)
    assert not isinstance(Displayed(FunctionSubject(lambda i: i.mean((1, 2, 3)))), Differentiable)


def test_a_rig_is_sent_values_and_not_light():
    rig = SmallRig()
    screen = Displayed(rig, mean=0.4, rms=0.2, gamma=2.2, linearized="images")
    assert isinstance(screen, Presenting)
    assert isinstance(screen, Stateful)
    asked = Asked(images(2, SIDE), np.array([1, 0, 1]), ("a", "b"), ("t",) * 2, ("evolved",) * 2)
    answers = screen.present(asked)
    assert len(answers.status) == 3
    sent = rig.asked[0].images
    np.testing.assert_array_equal(sent, screen.sent(asked.images))
    got_mean, got_rms = moments(sent.astype(np.float64) ** 2.2)
    np.testing.assert_allclose(got_mean, 0.4, atol=2e-3)
    np.testing.assert_allclose(got_rms, 0.2, rtol=0.02)
    assert rig.asked[0].ids == ("a", "b")
    again = Displayed(SmallRig(), mean=0.4, rms=0.2, gamma=2.2, linearized="images")
    again.restore(screen.state())
    assert again.told == screen.told


def test_the_word_of_a_rig_counts():
    def rig(gamma):
        made = SmallRig()
        made.welcome = {"screen": {"gamma": gamma}}
        return made

    assert Displayed(rig(2.3), linearized="images").gamma == 2.3
    assert Displayed(rig(1.0)).linearized == "rig"
    assert Displayed(rig("linear, by its table"), gamma=2.2, linearized="nobody").gamma == 2.2
    with pytest.raises(InvalidArgumentError, match=r"the rig says that its screen has an exponent of 2.3 for what it"):
        Displayed(rig(2.3))
    with pytest.raises(InvalidArgumentError, match=r"of 1 for what it is sent \(it linearizes\), got linearized='imag"):
        Displayed(rig(1), gamma=2.2, linearized="images")
    with pytest.raises(InvalidArgumentError, match=r"gamma: expected the exponent of the monitor.*got None"):
        Displayed(SmallRig(), linearized="nobody")


def test_it_stands_in_recipes_words_and_files():
    screen = Displayed(CELL, mean=0.5, rms=0.2, gamma=2.2, linearized="images")
    recipe = dict(screen.recipe)
    assert recipe == {
        "name": "displayed",
        "mean": 0.5,
        "rms": 0.2,
        "gamma": 2.2,
        "linearized": "images",
        "subject": dict(CELL.recipe),
    }
    again = load_subject(recipe.pop("name"), **recipe)
    np.testing.assert_array_equal(again.record(images()), screen.record(images()))
    assert again.fingerprint == screen.fingerprint != Displayed(CELL, mean=0.5, rms=0.2).fingerprint
    words = parse_noise(["displayed:0.5:rms=0.2:gamma=2.2:linearized=images"], 3)
    assert wrap({"name": "gabor"}, words) == {
        "name": "displayed",
        "mean": 0.5,
        "rms": 0.2,
        "gamma": 2.2,
        "linearized": "images",
        "subject": {"name": "gabor"},
    }
    content = {"subject": "gabor", "noise": ["displayed:rms=0.2", "lossy:0.1"], "generator": "fourier"}
    subject = build_subject(parse_experiment(content, "x"))
    assert isinstance(subject, Lossy)
    assert isinstance(subject.subject, Displayed)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean": 0}, "mean: expected a finite number from 0.01 to 0.99, got 0"),
        ({"rms": -0.1}, "rms: expected a finite number of at least 0, got -0.1"),
        ({"mean": 0.8, "rms": 0.6}, "rms: expected at most 0.5 at a mean of 0.8, which black and white pixels have"),
        ({"gamma": 0}, "gamma: expected a finite number above 0, got 0"),
        ({"linearized": "me"}, "linearized: expected rig, images, nobody, got 'me'"),
        ({"linearized": "images"}, "gamma: expected the exponent of the monitor, such as 2.2, for linearized='images'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        Displayed(CELL, **options)
