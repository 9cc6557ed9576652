"""The gradient of a score with respect to codes: right, independent of company, and without a trace."""

import gc

import numpy as np
import pytest
import torch
from torch import nn

from closedloop import CMAES, Mean, Session, Thread, Unit
from closedloop.errors import InvalidArgumentError, SubjectError
from closedloop.generators import Fourier, Pixels
from closedloop.gradients.appearance import Noise
from closedloop.gradients.crops import Crops, Repeat
from closedloop.gradients.geometry import Roll
from closedloop.gradients.path import PICTURES_AT_ONCE, GradientPath
from closedloop.gradients.settings import Anchor, GradientSettings
from closedloop.gradients.views import Chain
from closedloop.objectives import Diversity, TotalVariation
from closedloop.optimizers import Adam, GradientAscent
from closedloop.seeds import streams
from closedloop.subjects import EnergySubject, GaborSubject, TorchSubject
from closedloop.testing.common import untouched_randomness

from .conftest import SIDE, Plain, Tensors, filters, linear, network


def thread(generator, objective=None, name="main", optimizer=None, **gradient):
    optimizer = optimizer or Adam(generator.space, 0)
    return Thread(generator, optimizer, objective or Unit(0), name, GradientSettings(**gradient))


def slopes(subject, threads, codes, steps=None):
    return GradientPath(subject, threads).slopes(threads, codes, steps or [0] * len(threads))


def codes(generator, n=1, seed=0):
    return generator.space.sample(n, np.random.default_rng(seed))


def test_of_a_linear_unit_it_is_the_filter():
    plain = Plain()
    (found,) = slopes(linear(), [thread(plain, Unit(1))], [codes(plain, 3)])
    np.testing.assert_allclose(found.gradients, np.tile(filters()[:, 1], (3, 1)), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(found.scores, (codes(plain, 3) - 0.5) @ filters()[:, 1].numpy(), atol=1e-6)
    assert found.pictures == 3


@pytest.mark.parametrize("subject", [EnergySubject(resolution=8), GaborSubject(resolution=8, exponent=2)])
@pytest.mark.parametrize("generator", [Pixels(8), Fourier(8, cutoff=2), Fourier(8, cutoff=2, shell=False)])
def test_it_is_the_numerical_one(subject, generator):
    point = generator.space.center + 0.9 * (codes(generator, seed=3) - generator.space.center)
    (found,) = slopes(subject, [thread(generator, Unit(0) - 0.3 * TotalVariation())], [point])
    rng = np.random.default_rng(1)
    for _ in range(3):
        d = rng.standard_normal(point.shape)
        d *= 1e-3 / np.abs(d).max()

        def score(x):
            images = generator.forward(torch.tensor(x)).numpy()
            return subject.record(images)[0, 0] - 0.3 * TotalVariation().of_images(images)[0]

        numeric = (score(point + d) - score(point - d)) / 2
        scale = np.linalg.norm(found.gradients) * np.linalg.norm(d)
        assert (found.gradients * d).sum() == pytest.approx(numeric, rel=1e-3, abs=1e-3 * scale)


@pytest.mark.parametrize("view", [None, Roll(2), Chain((Repeat(3), Roll(2), Noise(0.05)))])
def test_a_batch_of_threads_is_that_many_single_ones(view):
    """But for the order in which torch sums a batch: to 1e-6, of the largest entry for gradients."""
    subject, plain = TorchSubject(network(), resolution=SIDE, engine="eager"), Plain()
    threads = [thread(plain, Unit(i), f"unit-{i}", view=view, seed=5, redirected=i % 2) for i in range(4)]
    points = [codes(plain, 1 + i % 2, i) for i in range(4)]
    together = slopes(subject, threads, points)
    for i in range(4):
        (alone,) = slopes(subject, [threads[i]], [points[i]])
        np.testing.assert_allclose(together[i].scores, alone.scores, rtol=1e-5, atol=1e-6)
        scale = np.abs(alone.gradients).max()
        np.testing.assert_allclose(together[i].gradients, alone.gradients, atol=1e-6 * scale)
    turned = slopes(subject, threads[::-1], points[::-1])[::-1]
    for one, other in zip(turned, together, strict=True):
        np.testing.assert_allclose(one.gradients, other.gradients, atol=1e-6 * np.abs(one.gradients).max())


def test_elementwise_in_double_precision_a_batch_is_equal_bit_by_bit():
    subject, plain = Tensors(lambda x: (x**3).amax((2, 3)), 3), Plain()
    threads = [thread(plain, Unit(i), f"unit-{i}") for i in range(3)]
    points = [codes(plain, 1, i) for i in range(3)]
    for i, found in enumerate(slopes(subject, threads, points)):
        (alone,) = slopes(subject, [threads[i]], [points[i]])
        np.testing.assert_array_equal(found.gradients, alone.gradients)
        np.testing.assert_array_equal(found.scores, alone.scores)


def test_generators_of_several_kinds_in_one_session():
    threads = [
        thread(Pixels(8), Unit(0), "a"),
        thread(Fourier(8, cutoff=2), Unit(0), "b"),
        thread(Plain(), Unit(0), "c"),
    ]
    points = [codes(t.generator, seed=i) for i, t in enumerate(threads)]
    subject = EnergySubject(resolution=8)
    for i, found in enumerate(slopes(subject, threads, points)):
        assert found.gradients.shape == points[i].shape
        (alone,) = slopes(subject, [threads[i]], [points[i]])
        np.testing.assert_allclose(found.gradients, alone.gradients, rtol=1e-5, atol=1e-12)


def test_many_pictures_go_through_in_parts():
    sizes = []

    def function(x):
        sizes.append(len(x))
        return (x - 0.5).flatten(1) @ filters()

    plain = Plain()
    (found,) = slopes(Tensors(function), [thread(plain, view=Repeat(40))], [codes(plain, 3)])
    assert sum(sizes) == found.pictures == 120
    assert max(sizes) <= PICTURES_AT_ONCE
    np.testing.assert_allclose(found.gradients, np.tile(filters()[:, 0], (3, 1)), rtol=1e-5, atol=1e-8)


def test_the_view_draws_a_stream_of_its_own():
    def seen(images, step, rng):
        drawn.append(rng.standard_normal(9))
        return images

    drawn, plain = [], Plain()
    with streams(1):
        old = thread(plain, view=seen, seed=3)
    for threads in ([old], [thread(plain, view=seen, seed=3)]):
        slopes(linear(), threads, [codes(plain)])
    user = np.random.default_rng(3).standard_normal(9)
    assert np.array_equal(drawn[0], user)  # as in runs of older versions
    assert abs(np.corrcoef(drawn[-1], user)[0, 1]) < 0.9


def test_the_view_draws_by_step_and_seed():
    plain, point = Plain(), [codes(Plain())]
    subject = linear()
    first, again = (slopes(subject, [thread(plain, view=Roll(3), seed=1)], point)[0] for _ in range(2))
    np.testing.assert_array_equal(first.gradients, again.gradients)
    for other in (slopes(subject, [thread(plain, view=Roll(3), seed=s)], point, [k])[0] for s, k in ((1, 1), (2, 0))):
        assert not np.allclose(first.gradients, other.gradients)


def test_objectives_that_compare_images_see_all_copies_together():
    plain, points = Plain(), codes(Plain(), 2)
    (found,) = slopes(linear(), [thread(plain, Mean([0, 1]) - 3 * Diversity(), view=Repeat(20))], [points])
    (alone,) = slopes(linear(), [thread(plain, Mean([0, 1]) - 3 * Diversity(), view=Repeat(20))], [points[:1]])
    assert not np.allclose(found.gradients[0], alone.gradients[0], rtol=1e-3)


def test_rows_are_y_and_columns_are_x():
    """A unit at row 1, column 5 of a map moves the pixel at row 1, column 5."""
    conv = nn.Conv2d(3, 2, 1, bias=False)
    subject = TorchSubject(nn.Sequential(conv), layer="0", units=[(1, 1, 5)], resolution=SIDE, engine="eager")
    plain = Plain()
    (found,) = slopes(subject, [thread(plain)], [codes(plain)])
    moved = np.abs(found.gradients.reshape(3, SIDE, SIDE)).sum(0)
    assert np.argwhere(moved).tolist() == [[1, 5]]


def test_a_silent_unit_is_reached_by_redirection_alone():
    subject = Tensors(lambda x: torch.relu((x - 0.5).flatten(1) @ filters() - 9))
    plain = Plain()
    closed, opened = (slopes(subject, [thread(plain, redirected=r)], [codes(plain)])[0] for r in (0, 1))
    assert not closed.gradients.any()
    np.testing.assert_allclose(opened.gradients[0], filters()[:, 0], rtol=1e-5, atol=1e-8)
    (late,) = slopes(subject, [thread(plain, redirected=1)], [codes(plain)], [1])
    assert not late.gradients.any()


def test_the_distance_from_an_anchor_under_the_same_view():
    plain, subject = Plain(), linear(3)
    code = codes(plain)
    view = Chain((Crops(5, SIDE, steps=9), Noise(0.1)))
    anchored = thread(plain, Unit(0), view=view, anchor=Anchor(code[0], (1, 2)))
    (there,) = slopes(subject, [anchored], [code])
    np.testing.assert_allclose(there.distances, 0, atol=1e-6)
    (away,) = slopes(subject, [anchored], [code + 0.01])
    assert away.distances[0] > 1e-4
    assert away.pictures == 10
    step = 1e-3 * away.pulls / np.linalg.norm(away.pulls)
    (further,) = slopes(subject, [anchored], [code + 0.01 + step])
    assert further.distances[0] - away.distances[0] == pytest.approx((away.pulls * step).sum(), rel=0.02)
    (plainly,) = slopes(subject, [thread(plain, Unit(0), view=view)], [code + 0.01])
    np.testing.assert_array_equal(plainly.gradients, away.gradients)
    both = slopes(subject, [anchored, thread(plain, Unit(0), "b", view=view)], [code + 0.01, code + 0.01])
    assert both[1].distances is None
    alone, several = (
        slopes(subject, [thread(plain, view=view, anchor=Anchor(code[0], (1, 2)))], [code + 0.01])[0]
        for view in (None, Repeat(3))
    )
    expected = np.linalg.norm(0.01 * filters(3).numpy()[:, 1:].sum(0))
    np.testing.assert_allclose([alone.distances[0], several.distances[0]], expected, rtol=1e-4)
    np.testing.assert_allclose(several.pulls, alone.pulls, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(both[0].pulls, away.pulls, rtol=1e-5, atol=1e-9)


class Failing(nn.Module):
    """Fails in its backward or forward pass."""

    def __init__(self, error, backward):
        super().__init__()
        self.error, self.backward, self.armed = error, backward, False

    def forward(self, x):
        if self.armed and not self.backward:
            raise self.error
        if self.armed and x.requires_grad:
            x = x * 1
            x.register_hook(self._fail)
        return x

    def _fail(self, gradient):
        raise self.error


def snapshot(model):
    return {
        "hooks": [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in model.modules()],
        "modes": [m.training for m in model.modules()],
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "grad": [p.grad is None for p in model.parameters()],
        "buffers": [(id(b), b.clone()) for b in model.buffers()],
    }


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("error", [None, RuntimeError("broken"), KeyboardInterrupt("stop")])
def test_nothing_is_left_behind(error, backward):
    failing = Failing(error, backward)
    model = nn.Sequential(network(), failing).train()
    model[0][0].weight.requires_grad_(False)
    subject, plain = TorchSubject(model, resolution=SIDE, engine="eager"), Plain()
    failing.armed = error is not None
    before = snapshot(model)
    with untouched_randomness():
        if error is None:
            slopes(subject, [thread(plain, view=Roll(1), redirected=1)], [codes(plain)])
        else:
            raised = SubjectError if isinstance(error, Exception) else type(error)
            with pytest.raises(raised, match=str(error)):
                slopes(subject, [thread(plain, view=Roll(1), redirected=1)], [codes(plain)])
    after = snapshot(model)
    for (one, value), (other, kept) in zip(before.pop("buffers"), after.pop("buffers"), strict=True):
        assert one == other
        torch.testing.assert_close(value, kept, rtol=0, atol=0)
    assert before == after
    x = torch.full((1,), -1.0, requires_grad=True)
    torch.relu(x).sum().backward()
    assert x.grad.item() == 0


def test_no_graph_stays_alive():
    subject, plain = TorchSubject(network(), resolution=SIDE, engine="eager"), Plain()
    slopes(subject, [thread(plain)], [codes(plain)])

    def alive():
        gc.collect()
        return sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects())

    count = alive()
    for _ in range(3):
        slopes(subject, [thread(plain)], [codes(plain)])
    assert alive() <= count


def test_what_cannot_be_differentiated_is_named():
    plain = Plain()

    class Rig:
        name, units = "rig", linear().units

        def record(self, images):
            return images.mean((2, 3))

    class Drawn:
        name, resolution, space = "drawn", SIDE, plain.space

        def __call__(self, codes):
            return plain(codes)

    with pytest.raises(InvalidArgumentError, match=r"subject: expected a differentiable one.*'rig'"):
        GradientPath(Rig(), [thread(plain)])
    with pytest.raises(InvalidArgumentError, match=r"thread 'main': expected a differentiable generator.*'drawn'"):
        GradientPath(linear(), [thread(Drawn())])
    for broken in (
        lambda x: x.detach().flatten(1) @ filters(),
        lambda x: x.flatten(1).round().argmax(1)[:, None] * 1.0,
    ):
        with pytest.raises(InvalidArgumentError, match="subject: expected responses with a gradient"):
            slopes(Tensors(broken), [thread(plain)], [codes(plain)])
    plain.forward = lambda codes: Plain.forward(plain, codes).detach()
    with pytest.raises(InvalidArgumentError, match="generator: expected images with a gradient"):
        slopes(linear(), [thread(plain)], [codes(plain)])


def test_evolution_and_ascent_side_by_side_on_one_subject():
    plain, pixels = Plain(), Pixels(SIDE)
    climbing = thread(plain, Unit(0), "climbs", GradientAscent(plain.space, steps=12, rate=0.05), every=5)
    evolving = Thread(pixels, CMAES(pixels.space, 0, population=6), Unit(0), "evolves")
    ds = Session(linear(), [climbing, evolving], images=30, interleave=0, retest_repeats=1, retest_candidates=1).run()
    shown = ds.isel(presentation=(ds.kind == "evolved").values)
    assert int((shown.thread == "climbs").sum()) == 3  # before steps 0, 5 and 10
    assert int((shown.thread == "evolves").sum()) == 30
    assert "climbs: finished after 12 steps" in ds.attrs["reason"]
    scores = shown["score"].values[(shown.thread == "climbs").values]
    assert (np.diff(scores) > 0).all()


@pytest.mark.filterwarnings("ignore:subject 'tensors'. not a single response")
def test_lost_presentations_do_not_stop_a_climb():
    plain, subject = Plain(), linear()
    record = subject.record
    subject.record = lambda images: record(images) * np.nan
    ds = Session(subject, [thread(plain, optimizer=GradientAscent(plain.space, steps=4))], images=4, interleave=0).run()
    assert np.isnan(ds["score"]).all()
    last = ds["latent_code"].values[(ds.kind == "retest").values]
    assert len(last) > 0
    assert not np.array_equal(last[0], ds["latent_code"].values[0])


def test_the_sign_is_that_of_the_objective():
    plain = Plain()
    rise, fall = (
        Session(
            linear(), [thread(plain, o, optimizer=GradientAscent(plain.space, steps=9))], images=9, interleave=0
        ).run()
        for o in (Unit(0), -1 * Unit(0))
    )
    for ds, sign in ((rise, 1), (fall, -1)):
        responses = ds["responses"].values[:, 0]
        assert sign * (responses[-1] - responses[0]) > 0


class Cut(Plain):
    """Images that are cut to [0, 1], as those of decoders are."""

    def forward(self, codes):
        return (codes.reshape(-1, 3, SIDE, SIDE) - 1.5).clamp(0, 1)


def test_a_black_pixel_that_should_be_brighter_has_a_gradient():
    """The code lies where the whole image is cut to black: without help it would stay there for ever."""
    cut = Cut()
    (up, down) = slopes(
        linear(), [thread(cut, Mean([0]), "up"), thread(cut, -Mean([0]), "down")], [codes(cut), codes(cut)]
    )
    inward = filters()[:, 0].numpy()
    np.testing.assert_allclose(up.gradients[0], np.maximum(inward, 0), rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(down.gradients[0], np.maximum(-inward, 0), rtol=1e-5, atol=1e-8)
