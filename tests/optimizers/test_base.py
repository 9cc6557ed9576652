"""The optimizers' door, and the numbers they share."""

from __future__ import annotations

import numpy as np
import pytest

from closedloop.errors import CallOrderError, InvalidArgumentError, UnknownNameError
from closedloop.interfaces import Space
from closedloop.optimizers import load_optimizer
from closedloop.optimizers.base import averaged, check_start, check_tell, cumulative_step, field_population, log_weights
from closedloop.testing.optimizers import answer, hill

STEPPING = ["cma", "cma-diagonal", "cholesky-cma", "separable-cma", "isotropic"]
NAMES = [*STEPPING, "auto", "random", "sphere-cma", "xdream-ga", "ga-2019", "fdgd", "nes"]
#: The 2019 algorithm keeps its ten best, more than a small population has.
SMALL = {"ga-2019": {"n_conserve": 2}}


@pytest.mark.parametrize("name", NAMES)
def test_by_name(name):
    optimizer = load_optimizer(name, Space(4), 1, population=6, images=100, **SMALL.get(name, {}))
    assert optimizer.name == name
    assert optimizer.ask().shape == (6, 4)


@pytest.mark.parametrize("name", NAMES)
def test_the_state_of_something_else_is_refused_and_changes_nothing(name):
    optimizer, same, other, another = (
        load_optimizer(name, Space(dim), 1, images=100, **SMALL.get(name, {})) for dim in (4, 4, 7, 4)
    )
    for each in (other, another):
        answer(each, each.ask(), hill(each.space))
    with pytest.raises(InvalidArgumentError, match="state: expected one of 4 dimensions, got one of 7"):
        optimizer.restore(other.state())
    with pytest.raises(InvalidArgumentError, match=f"state: expected one of '{name}', got one without"):
        optimizer.restore({"dim": 4})
    np.testing.assert_array_equal(optimizer.ask(), same.ask())
    old = {key: value for key, value in another.state().items() if key != "dim"}  # as saved before it was known
    optimizer.restore(old)
    np.testing.assert_array_equal(optimizer.ask(), another.ask())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"populaton": 3}, "'populaton'. Did you mean 'population'?"),
        ({"population": 0}, "population: expected a whole number of at least .*, got 0"),
        ({"population": 7.5}, "population: expected a whole number"),
        ({"population": "many"}, "population: expected a whole number"),
        ({"seed": -1}, "seed: expected a whole number of at least 0, got -1"),
        ({"seed": 0.5}, "seed: expected a whole number"),
    ],
)
def test_bad_options(name, options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        load_optimizer(name, Space(4), **options)


@pytest.mark.parametrize("name", STEPPING)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigma": 0.0}, "sigma: expected a finite number above 0, got 0.0"),
        ({"sigma": np.nan}, "sigma: expected a finite number above 0"),
        ({"start": "middle"}, r"start: expected \(4,\) numbers, got 'middle'"),
        ({"start": np.zeros(3)}, r"start: expected shape \(4,\), got \(3,\)"),
        ({"start": np.full(4, 2.0)}, r"codes: expected values in \[0.0, 1.0\]"),
        ({"start": np.full(4, np.nan)}, "codes: expected finite numbers"),
    ],
)
def test_bad_options_of_those_that_learn(name, options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        load_optimizer(name, Space(4, low=0.0, high=1.0), **options)


@pytest.mark.parametrize("name", STEPPING)
def test_start_is_where_it_starts_and_is_in_the_recipe(name):
    start = np.array([1.0, -2.0, 3.0, 0.5])
    optimizer = load_optimizer(name, Space(4, scale=5.0), 0, start=start, sigma=1e-6)
    start[:] = 0
    codes = optimizer.ask()
    np.testing.assert_allclose(codes, np.broadcast_to([1.0, -2.0, 3.0, 0.5], codes.shape), atol=1e-4)
    recipe = dict(optimizer.recipe)
    again = load_optimizer(recipe.pop("name"), Space(4, scale=5.0), **recipe)
    np.testing.assert_array_equal(again.ask(), codes)


@pytest.mark.parametrize("name", STEPPING)
@pytest.mark.parametrize("sigma", [0.25, 1.0])
def test_first_step_is_in_units_of_the_prior(name, sigma):
    for space in (Space(50, scale=4.0), Space(50, low=-1e3, high=1e3, scale=4.0)):
        first = load_optimizer(name, space, 0, sigma=sigma, population=400).ask()
        assert first.std() == pytest.approx(4 * sigma, rel=0.03)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("images", [0, -3, 2.5, True])
def test_bad_budget(name, images):
    with pytest.raises(InvalidArgumentError, match="images: expected a whole number of at least 1, got"):
        load_optimizer(name, Space(4), images=images)


@pytest.mark.parametrize("name", [*STEPPING, "fdgd", "nes"])
def test_moves_and_stretches_with_the_problem(name):
    """A shifted start and problem give shifted codes; a stretched space and problem give stretched codes."""
    shift = np.array([5.0, -3.0, 2.0, 0.5, -8.0, 1.0])
    plain, shifted, stretched = (
        load_optimizer(name, Space(6, scale=scale), 3, start=start)
        for scale, start in ((1.0, np.zeros(6)), (1.0, shift), (4.0, np.zeros(6)))
    )
    for _ in range(8):
        codes, moved, wide = plain.ask(), shifted.ask(), stretched.ask()
        np.testing.assert_allclose(moved, codes + shift, atol=1e-9)
        np.testing.assert_allclose(wide, 4 * codes, atol=1e-9)
        scores = hill(plain.space)(codes)[0]
        for optimizer, told in ((plain, codes), (shifted, moved), (stretched, wide)):
            optimizer.tell(told, scores)


def test_unknown_name():
    with pytest.raises(UnknownNameError, match=r"optimizer: no optimizer named 'cmaes'. Did you mean 'cma'"):
        load_optimizer("cmaes", Space(2))


def test_check_tell():
    asked = np.arange(6.0).reshape(3, 2)
    codes, scores = check_tell(asked, asked.copy(), [1, np.nan, 3])
    assert scores.dtype == codes.dtype == np.float64
    with pytest.raises(CallOrderError, match=r"tell: expected a call of ask\(\) first"):
        check_tell(None, asked, scores)
    with pytest.raises(InvalidArgumentError, match="expected the 3 codes of the last ask"):
        check_tell(asked, asked + 1e-12, scores)
    with pytest.raises(InvalidArgumentError, match=r"scores: expected shape \(3,\), got \(2,\)"):
        check_tell(asked, asked, scores[:2])
    with pytest.raises(InvalidArgumentError, match="codes, scores: expected numbers, got something else"):
        check_tell(asked, asked, ["high", "low", "lost"])


def test_check_start():
    np.testing.assert_array_equal(check_start(None, Space(2, low=0.0, high=1.0)), [0.5, 0.5])
    given = np.ones(2)
    assert not np.shares_memory(check_start(given, Space(2)), given)


@pytest.mark.parametrize("n", [1, 2, 3, 10, 41])
def test_log_weights(n):
    weights = log_weights(n)
    assert len(weights) == max(n // 2, 1)
    assert weights.sum() == pytest.approx(1)
    assert (weights > 0).all()
    assert (np.diff(weights) < 0).all()


def test_log_weights_of_the_tutorial():
    raw = np.log(5.5) - np.log([1, 2, 3, 4, 5])  # λ = 10, Hansen 2016, eq. 49
    np.testing.assert_allclose(log_weights(10), raw / raw.sum())


def test_field_population():
    assert field_population(4096) == 40
    assert field_population(1) == 4


def test_the_path_keeps_its_length_on_chance():
    """For standard normal steps ‖p‖ stays at its expectation, and the step size at its value."""
    rng, p, log_factor, lengths = np.random.default_rng(0), np.zeros(50), 0.0, []
    for _ in range(4000):
        z = rng.standard_normal(50) / np.sqrt(5.0)
        p, factor = cumulative_step(p, z, 5.0)
        log_factor += np.log(factor)
        lengths.append(np.linalg.norm(p))
    assert np.mean(lengths[100:]) == pytest.approx(50**0.5, rel=0.03)
    assert abs(log_factor / 4000) < 0.01


@pytest.mark.parametrize(
    "name", ["cma", "cma-diagonal", "cholesky-cma", "separable-cma", "isotropic", "sphere-cma", "nes", "fdgd"]
)
def test_strategies_recommend_their_mean_and_the_average_of_their_means(name):
    """On a noisy slope the average lies between means, and a lost generation is none."""
    space, rng = Space(12), np.random.default_rng(0)
    optimizer, means = load_optimizer(name, space, 0, images=400), []
    for _ in range(8):
        codes = optimizer.ask()
        optimizer.tell(codes, codes[:, 0] + rng.standard_normal(len(codes)))
        means.append(optimizer.recommend(1)[0])
    expected = means[0]
    for k, mean in enumerate(means[1:], start=1):
        expected = averaged(expected, mean, k)
    found = optimizer.recommend(9)
    np.testing.assert_array_equal(found[0], means[-1])
    if name != "sphere-cma":  # whose average is brought out to the sphere
        np.testing.assert_allclose(found[1], expected, atol=1e-12)
    np.testing.assert_allclose(found[1] / np.linalg.norm(found[1]), expected / np.linalg.norm(expected), atol=1e-12)
    codes = optimizer.ask()
    optimizer.tell(codes, np.full(len(codes), np.nan))
    np.testing.assert_array_equal(optimizer.recommend(2), found)


def test_the_average_weighs_means_linearly_and_then_forgets():
    means = np.random.default_rng(0).standard_normal((60, 3))
    average = None
    for k, mean in enumerate(means[:39]):
        average = averaged(average, mean, k)
    np.testing.assert_allclose(average, np.arange(1, 40) @ means[:39] / np.arange(1, 40).sum())
    np.testing.assert_allclose(averaged(average, means[39], 39), 0.95 * average + 0.05 * means[39])


def test_a_state_without_an_average_recommends_nothing():
    optimizer = load_optimizer("isotropic", Space(4), 0)
    answer(optimizer, optimizer.ask(), hill(Space(4)))
    old = {key: value for key, value in optimizer.state().items() if key not in ("average", "moves")}
    optimizer.restore(old)
    assert optimizer.recommend(2).shape == (0, 4)
