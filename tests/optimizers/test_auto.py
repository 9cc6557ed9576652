"""Auto: the contract, known optima, noise, and what it does at the edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import BUDGET, Space
from closedloop.optimizers import Auto, SphereCMA, load_optimizer
from closedloop.optimizers.auto import SHELL
from closedloop.subjects import EnergySubject, GaborSubject, NormalizationSubject
from closedloop.testing import OptimizerContract
from closedloop.testing.common import through_a_file
from closedloop.testing.optimizers import assert_same, hill, trail


@pytest.mark.sampled(4)
class TestAutoContract(OptimizerContract):
    level_free = False  # it asks whether noise grows with the response

    def make(self, space, seed):
        return Auto(space, seed, images=self.budget, population=20)


@pytest.mark.sampled(2)
class TestShellContract(OptimizerContract):
    """In enough dimensions for the shell, with a window that is soon full."""

    spaces = {"unbounded": Space(24, scale=0.5), "bounded": Space(24, low=0.0, high=1.0, scale=12**-0.5)}  # noqa: RUF012
    learns = False  # the hill of the contract has its top beyond the shell
    level_free = False

    @pytest.fixture(autouse=True)
    def _small_window(self, monkeypatch):
        monkeypatch.setattr("closedloop.optimizers.auto.remembered_codes", lambda dim: 50)
        monkeypatch.setattr(Auto._judges, "__defaults__", (30,))

    def make(self, space, seed):
        return Auto(space, seed, images=self.budget, population=12)


class Drawn:
    """Images of a contrast norm within 64 directions of image space, one of which is the best image's."""

    space = Space(64)

    def __init__(self, best, norm):
        side = best.shape[-1]
        directions = np.random.default_rng(1).standard_normal((64, 3 * side**2))
        directions[0] = best.ravel() - 0.5
        turn = np.linalg.qr(np.random.default_rng(2).standard_normal((64, 64)))[0]
        self.axes, self.norm, self.shape = turn @ np.linalg.qr(directions.T)[0].T, norm, best.shape

    def __call__(self, codes):
        code = codes / np.linalg.norm(codes, axis=1, keepdims=True)
        images = 0.5 + self.norm * (code @ self.axes).reshape(-1, *self.shape)
        return np.clip(images, 0, 1).astype(np.float32)


@pytest.mark.parametrize("kind", [GaborSubject, EnergySubject, NormalizationSubject])
def test_comes_within_one_percent_of_the_known_best(kind):
    """Without noise, in 64 dimensions, and within half of 3,000 images."""
    subject = kind(resolution=16, cycles_per_image=2)
    norm = subject.largest_norm()
    generator = Drawn(subject.best_image(), norm)
    optimizer = load_optimizer("auto", generator.space, seed=0, images=1500)
    last = trail(optimizer, lambda codes: (subject.record(generator(codes))[:, 0], codes), 75)[-1]
    reached = subject.record(generator(last.mean(0)[None]))[0, 0]
    assert subject.best_response() * 0.99 < reached <= subject.best_response() * (1 + 1e-6)


def simple_cell(rng, nu=0.0, spikes=0):
    """max(0, the first coordinate) of codes on the shell of 128 dimensions, with a gain or with spikes as noise."""

    def landscape(codes):
        clean = np.maximum(codes[:, 0], 0) / np.sqrt(128)
        counts = rng.poisson(clean * spikes) / spikes if spikes else clean
        return counts * np.maximum(0, 1 + nu * rng.standard_normal(len(codes))), codes

    return landscape


@pytest.mark.parametrize("noise", [{"nu": 0.2}, {"spikes": 40}], ids=["gain", "spikes"])
def test_goes_further_than_sphere_cma_under_noise(noise):
    """The mean of the last codes, three seeds."""
    reached = []
    for make in (Auto, SphereCMA):
        runs = []
        for seed in range(3):
            landscape = simple_cell(np.random.default_rng(seed), **noise)
            last = trail(make(Space(128), seed, images=1200, population=40), landscape, 29)[-1].mean(0)
            runs.append(last[0] / np.linalg.norm(last))
        reached.append(np.mean(runs))
    assert reached[0] > reached[1] + 0.1


def test_says_how_noisy_the_subject_is():
    noise = []
    for nu in (0.0, 0.5):
        optimizer = Auto(Space(128), 0, images=800)
        trail(optimizer, simple_cell(np.random.default_rng(0), nu), 24)
        noise.append(optimizer.noise)
    assert noise[0] == 0
    assert noise[1] > 1


def test_one_code_comes_twice_in_every_third_generation():
    asked = trail(Auto(Space(40), 0, images=400), hill(Space(40)), 9)
    twice = [len(codes) - len(np.unique(codes, axis=0)) for codes in asked]
    assert twice == [1, 0, 0] * 3
    small = trail(Auto(Space(40), 0, images=400, population=3), hill(Space(40)), 3)
    assert all(len(np.unique(codes, axis=0)) == 3 for codes in small)


@pytest.mark.parametrize("space", [Space(40), Space(40, low=-90.0, high=90.0, scale=1.0)], ids=["shell", "bounded"])
def test_codes_come_in_mirrored_pairs(space):
    """The mean of a pair lies at the same place for all pairs; a code without a partner is left."""
    optimizer = Auto(space, 0, images=400, population=11)
    codes = trail(optimizer, hill(space), 3)[-1]
    if not space.bounded:  # lengths are mirrored as logarithms
        lengths = np.linalg.norm(codes, axis=1)
        np.testing.assert_allclose(lengths[:5] * lengths[5:10], lengths[0] * lengths[5])
        codes = codes / lengths[:, None] * 40**0.5
    middles = (codes[:5] + codes[5:10]) / 2
    np.testing.assert_allclose(middles, np.tile(middles[:1], (5, 1)), atol=1e-9)
    assert np.linalg.norm(codes[10] - middles[0]) == pytest.approx(np.linalg.norm(codes[0] - middles[0]), rel=0.5)
    assert len(np.unique(codes.round(9), axis=0)) == 11


def test_recommends_the_mean_then_the_average_of_its_means_then_what_it_expects_most_of():
    space = Space(40)
    optimizer = Auto(space, 0, images=2000)
    rng = np.random.default_rng(0)
    told = trail(optimizer, lambda c: (30 * c[:, 0] + rng.normal(0, 40, len(c)), c), 60)
    found = optimizer.recommend(6)
    state = optimizer.state()
    for code, expected in zip(found[:2], (state["m"][:40], state["average"][:40]), strict=True):
        np.testing.assert_allclose(code / np.linalg.norm(code), expected / np.linalg.norm(expected), atol=1e-9)
    shown = np.concatenate(told)
    expected = []
    for code in found[2:]:
        assert np.abs(shown - code).max(1).min() < 1e-4
        places = np.abs(state["x"][:, :40] - code / np.linalg.norm(code)).max(1)
        expected.append(state["expected"][places.argmin()])
    assert expected == sorted(state["expected"])[::-1][:4]
    cosines = [codes[:, 0] / np.linalg.norm(codes, axis=1) for codes in (found[:2], shown[-100:])]
    assert cosines[0].min() > cosines[1].mean()
    assert len(optimizer.recommend(10_000)) == 2 + len(state["y"])


def test_the_average_is_of_all_means_at_first_and_of_the_last_ones_later():
    """A twentieth of it is new in each generation, more while there are few."""
    optimizer, expected = Auto(Space(40), 0, images=1000), None
    for k in range(50):
        trail(optimizer, hill(Space(40)), 1)
        state = optimizer.state()
        new = max(0.05, 2 / (k + 2))
        expected = state["m"] if expected is None else (1 - new) * expected + new * state["m"]
        np.testing.assert_allclose(state["average"], expected, atol=1e-12)
    assert np.abs(state["average"] - state["m"]).max() > 1e-6


def test_the_noise_is_half_the_squared_difference_of_the_pairs():
    optimizer = Auto(Space(40), 0, images=4000)
    rng, told = np.random.default_rng(0), []

    def noisy(codes):
        told.append(30 * codes[:, 0] + rng.normal(0, 5, len(codes)))
        return told[-1], codes

    trail(optimizer, noisy, 9)
    assert len(optimizer.state()["y"]) == 9 * 10 - 3  # a code that came twice is one, with its mean score
    trail(optimizer, noisy, 36)
    state = optimizer.state()
    assert state["pairs"] == 15
    # Scores are kept in a unit of the optimizer's own, so that noise is told by its share of their variance.
    remembered = np.concatenate(told)[-len(state["y"]) :]
    assert state["doubt"] / state["y"].var() == pytest.approx(25 / remembered.var(), rel=0.9)
    assert optimizer.noise == pytest.approx(state["doubt"] / (state["y"].var() - state["doubt"]))


def test_a_lost_presentation_of_a_pair_tells_nothing():
    optimizer = Auto(Space(40), 0, images=400)
    codes = optimizer.ask()
    scores = codes[:, 0].copy()
    scores[-1] = np.nan
    optimizer.tell(codes, scores)
    assert optimizer.state()["pairs"] == 0
    assert optimizer.noise == 0


def test_a_state_from_before_codes_came_twice_is_read():
    optimizer = Auto(Space(40), 0, images=400)
    trail(optimizer, hill(Space(40)), 5)
    old = {k: v for k, v in optimizer.state().items() if k not in ("doubt", "pairs", "average")}
    again = Auto(Space(40), 1, images=400)
    again.restore(old)
    assert again.noise == 0
    np.testing.assert_array_equal(again.state()["y"], optimizer.state()["y"])
    np.testing.assert_allclose(again.recommend(2), optimizer.recommend(2)[[0, 0]])


def test_the_last_angle_is_small_without_noise_and_wide_with_it():
    ends = []
    for nu in (0.0, 0.5):
        optimizer = Auto(Space(128), 0, images=400)
        trail(optimizer, simple_cell(np.random.default_rng(0), nu), 38)
        ends.append(optimizer.angle_deg())
    assert ends[0] < 5
    assert ends[1] > 12


def test_codes_are_on_the_shell_of_many_dimensions_or_near_it():
    for codes in trail(Auto(Space(80, scale=3.0), 0, images=200, radius=40.0), hill(Space(80)), 5):
        np.testing.assert_allclose(np.linalg.norm(codes, axis=1), 40)
    around = np.concatenate(trail(Auto(Space(80, scale=3.0), 0, images=200), hill(Space(80)), 5))
    assert np.ptp(np.linalg.norm(around[:10], axis=1)) > 1
    assert np.abs(np.log(np.linalg.norm(around, axis=1) / (3 * 80**0.5))).max() < 1.5


def test_few_dimensions_have_no_shell_but_an_end():
    optimizer = Auto(Space(2, scale=2.0), 0, images=400)
    codes = trail(optimizer, lambda c: (-((c - [0.3, -0.2]) ** 2).sum(1), c), 40)[-1]
    np.testing.assert_allclose(codes.mean(0), [0.3, -0.2], atol=0.1)
    away = trail(Auto(Space(2, scale=2.0), 0, images=400), lambda c: (c.sum(1), c), 20)[-1]
    assert np.linalg.norm(away, axis=1).max() == pytest.approx(2 * 2**0.5 * (1 + 3 / 2))


def test_one_dimension():
    codes = trail(Auto(Space(1), 0, images=300, population=10), lambda c: (-np.abs(c[:, 0] - 1), c), 30)[-1]
    assert abs(codes.mean() - 1) < 0.1


def test_the_angle_shrinks_with_the_budget_and_the_last_codes_are_close_to_the_mean():
    optimizer = Auto(Space(300), 0, images=1000)
    asked = trail(optimizer, hill(Space(300)), 100)
    spread = []
    for codes in asked[1:]:
        mean = codes.mean(0)
        cosines = codes @ mean / np.linalg.norm(codes, axis=1) / np.linalg.norm(mean)
        spread.append(np.degrees(np.arccos(cosines)).mean())
    assert spread[0] == pytest.approx(44, abs=4)
    assert np.all(np.diff(np.reshape(spread[:-3], (-1, 8)).mean(1)) < 0)
    assert spread[-1] == pytest.approx(2.2, abs=0.2)
    assert optimizer.angle_deg() == pytest.approx(2.25)


def test_a_start_is_where_it_begins():
    start = np.random.default_rng(9).standard_normal(100)
    first = Auto(Space(100), 0, start=start).ask()
    cosines = first @ start / np.linalg.norm(first, axis=1) / np.linalg.norm(start)
    np.testing.assert_allclose(np.degrees(np.arccos(cosines)), 45)


def test_a_dead_unit_is_shown_fresh_draws_until_it_answers():
    optimizer = Auto(Space(50), 0)
    silent = np.concatenate([codes[:-1] for codes in trail(optimizer, lambda c: (np.zeros(len(c)), c), 6)])
    assert abs(np.corrcoef(silent)[np.triu_indices(54, 1)]).max() < 0.7
    trail(optimizer, lambda c: (np.maximum(c[:, 0], 0), c), 16)
    assert optimizer.ask()[:, 0].mean() > 2


def test_coordinates_that_matter_weigh_more():
    optimizer = Auto(Space(100), 0, images=1000)
    trail(optimizer, lambda c: (c[:, :5].sum(1), c), 40)
    w = optimizer.state()["w"]
    assert w[:100].mean() == pytest.approx(1)
    assert w[100] == 1  # that of the length
    assert w[:5].mean() > 1.6 * w[5:100].mean()  # 1.9 to 2.6 over six seeds


@pytest.mark.parametrize("dim", [512, 12288])
def test_memory_is_bounded(dim):
    """The state holds at most 800 codes or 2²¹ numbers of them, in single precision, and their distances."""
    optimizer = Auto(Space(dim, low=0.0, high=1.0, scale=12**-0.5), 0)
    optimizer._pairs, optimizer._doubt = 1, 1e9  # all is noise
    optimizer._x = np.zeros((optimizer.window, dim), np.float32)
    optimizer._y = optimizer._expected = optimizer._t = np.arange(optimizer.window, dtype=float)
    trail(optimizer, lambda c: (c.sum(1), c), 1)
    state = optimizer.state()
    assert len(state["x"]) == optimizer.window == min(800, 2**21 // dim)
    total = sum(v.nbytes for v in state.values() if isinstance(v, np.ndarray))
    assert total < 4 * 2**21 + 4 * optimizer.window**2 + 40 * optimizer.window + 40 * dim


@pytest.mark.parametrize(("gain", "most"), [(0.0, 60), (0.5, 100)])
def test_what_is_remembered_is_less_where_no_noise_was_measured(monkeypatch, gain, most):
    monkeypatch.setattr("closedloop.optimizers.auto.remembered_codes", lambda dim: 100)
    monkeypatch.setattr("closedloop.optimizers.auto.QUIET_WINDOW", 60)
    optimizer, rng = Auto(Space(64), 0, images=400), np.random.default_rng(0)

    def answers(codes):
        responses = np.maximum(codes[:, 0], 0)
        return responses * (1 + gain * rng.standard_normal(len(codes))), codes

    trail(optimizer, answers, 30)
    state = optimizer.state()
    assert optimizer.quiet == (gain == 0)
    assert state["x"].shape == (most, 65)
    assert state["d"].shape == (most, most)
    again = Auto(Space(64), 0, images=400)
    again.restore(state)
    np.testing.assert_array_equal(trail(again, answers, 1)[0], optimizer.ask())


def test_few_pairs_that_happen_to_be_alike_are_no_sign_of_quiet():
    optimizer, rng, flags = Auto(Space(16), 0, images=4000, population=100), np.random.default_rng(0), []
    for generation in range(16):
        codes = optimizer.ask()
        scores = codes[:, 0] + 10 * rng.standard_normal(len(codes))
        if generation == 0:
            scores[-1] = scores[0]
        optimizer.tell(codes, scores)
        flags.append(optimizer.quiet)
    assert not any(flags)


@pytest.mark.parametrize("noisy_from", [0, 8, 99])
@pytest.mark.parametrize(("population", "heard"), [(10, 450), (10, 900), (4, 398), (3, 500)])
def test_others_may_tell_of_more_codes_than_are_remembered(population, heard, noisy_from):
    optimizer, rng = Auto(Space(16), 0, images=100_000, population=population), np.random.default_rng(0)
    for generation in range(16):
        codes, others = optimizer.ask(), rng.standard_normal((heard, 16))
        if generation > 12:
            optimizer.hear(others, others[:, 0])
        optimizer.tell(codes, codes[:, 0] + (generation >= noisy_from) * rng.standard_normal(len(codes)))
    assert len(optimizer.state()["y"]) >= heard + population - 1
    assert np.isfinite(optimizer.ask()).all()


def test_restored_with_a_full_window(monkeypatch):
    monkeypatch.setattr("closedloop.optimizers.auto.remembered_codes", lambda dim: 100)
    optimizer, landscape = Auto(Space(40), 3, images=2000), hill(Space(40))
    for told in (5, 1, 2, 4):
        trail(optimizer, landscape, told)
        state = through_a_file(optimizer.state())
        again = Auto(Space(40), 3, images=2000)
        again.restore(state)
        assert_same(trail(again, landscape, 5), trail(optimizer, landscape, 5))
        optimizer.restore(state)


@settings(max_examples=25)
@given(st.integers(1, 40), st.integers(2, 12), st.floats(0, 1), st.booleans(), st.integers(0, 99))
def test_codes_stay_valid(dim, population, lost, bounded, seed):
    """Any dimension, population and share of lost presentations; scores of any size."""
    space = Space(dim, low=-2.0, high=1.0, scale=3 / 12**0.5) if bounded else Space(dim, scale=0.1)
    rng, optimizer = np.random.default_rng(seed), Auto(space, seed, images=60, population=population)
    for _ in range(8):
        codes = space.check(optimizer.ask())
        assert codes.shape == (population, dim)
        scores = 10.0 ** rng.integers(-9, 9) * rng.standard_normal(population)
        optimizer.tell(codes, np.where(rng.random(population) < lost, np.nan, scores))


def test_the_budget_comes_through_the_loader():
    assert load_optimizer("auto", Space(8), images=860).images == 860
    assert load_optimizer("auto", Space(8)).images == BUDGET


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": 0}, "images: expected a whole number of at least 1, got 0"),
        ({"population": 1}, "population: expected a whole number of at least 2, got 1"),
        ({"start": np.zeros(3)}, r"start: expected shape \(20,\), got \(3,\)"),
        ({"start": np.zeros(20)}, "start: expected a code away from the middle"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        Auto(Space(20), **options)


def test_noise_widens_the_angle_on_a_shell():
    """Exponential over the budget, between two plans on a logarithmic scale; elsewhere the first angle stays."""
    optimizer = Auto(Space(64), seed=0, images=100)
    assert optimizer.angle_deg() == pytest.approx(SHELL.first[0])
    optimizer._used = 50
    assert optimizer.angle_deg() == pytest.approx((SHELL.first[0] * SHELL.last[0]) ** 0.5)
    optimizer._y, optimizer._doubt = np.array([0.0, 2.0]), 1.0  # all of the variance is noise
    assert optimizer.angle_deg() == pytest.approx((SHELL.first[1] * SHELL.last[1]) ** 0.5, rel=0.01)
    assert Auto(Space(64, low=0.0, high=1.0), seed=0, images=100).angle_deg() == 35.0


@pytest.mark.parametrize("length", [0.5, 2.0])
def test_the_length_is_found(length):
    """The top lies at half or at twice the radius of the prior."""
    space = Space(40, scale=3.0)
    top = length * 3 * 40**0.5 * np.eye(40)[0]
    optimizer = Auto(space, 0, images=500)
    trail(optimizer, lambda c: (-((c - top) ** 2).sum(1), c), 49)
    found = optimizer.recommend(1)[0]
    assert np.linalg.norm(found) == pytest.approx(length * 3 * 40**0.5, rel=0.05)
    assert np.linalg.norm(found - top) < 0.2 * np.linalg.norm(top)


def test_a_radius_is_kept():
    assert Auto(Space(40), radius=5.0).recipe["radius"] == 5
    for space in (Space(8), Space(40, low=0.0, high=1.0)):
        with pytest.raises(InvalidArgumentError, match="radius: expected none in Space"):
            Auto(space, radius=5.0)


def test_silence_widens_the_range_of_lengths():
    """A unit that answers to long codes alone is found, though draws from the prior never reach it."""
    optimizer = Auto(Space(40), 0, images=800)
    lengths = [np.linalg.norm(c, axis=1) / 40**0.5 for c in trail(optimizer, lambda c: (np.zeros(len(c)), c), 30)]
    assert np.ptp(np.log(lengths[0])) < 0.4
    assert np.log(lengths[-1]).max() > 0.8
    trail(optimizer, lambda c: (np.maximum(c[:, 0] - 3, 0), c), 40)
    assert optimizer.recommend(1)[0, 0] > 4


def test_a_preference_that_turns_is_followed():
    """By 90° within the run; without a memory that ends it was left behind."""
    optimizer, told = Auto(Space(32), 0, images=800), 0
    rng = np.random.default_rng(0)

    def turning(codes):
        nonlocal told
        angles = np.pi / 2 * (told + np.arange(len(codes))) / 800
        told += len(codes)
        u = codes / np.linalg.norm(codes, axis=1, keepdims=True)
        return np.maximum(np.cos(angles) * u[:, 0] + np.sin(angles) * u[:, 1], 0) * rng.normal(
            1, 0.3, len(codes)
        ), codes

    trail(optimizer, turning, 80)
    found = optimizer.recommend(1)[0]
    assert found[1] / np.linalg.norm(found) > 0.7


def test_noise_of_heavy_tails_does_not_lead_astray():
    optimizer, rng = Auto(Space(40), 0, images=600), np.random.default_rng(0)
    trail(optimizer, lambda c: (c[:, 0] + 2 * rng.standard_t(1.5, len(c)), c), 60)
    found = optimizer.recommend(2)
    assert (found[:, 0] / np.linalg.norm(found, axis=1)).max() > 0.6


def test_a_state_from_before_lengths_were_searched_is_read():
    optimizer = Auto(Space(40), 0, images=400)
    trail(optimizer, hill(Space(40)), 5)
    state = optimizer.state()
    old = {key: value for key, value in state.items() if key != "t"}
    old |= {key: state[key][..., :40] for key in ("x", "w", "relevance", "m", "average")} | {"laws": state["laws"][:3]}
    again = Auto(Space(40), 0, images=400)
    again.restore(old)
    codes = again.ask()
    again.tell(codes, hill(Space(40))(codes)[0])
    assert again.recommend(3).shape == (3, 40)
