"""Paths through codes and what they predict: against the singular value decomposition and brute force."""

import numpy as np
import pytest

from closedloop.analysis import code_geometry, concat, latent_regression
from closedloop.analysis.codes import principal_axes, ridge
from closedloop.errors import InvalidArgumentError, RecordingError
from closedloop.testing.common import untouched_randomness


@pytest.mark.parametrize("shape", [(30, 6), (6, 30), (5, 5)])
def test_principal_axes_are_singular_vectors(rng, shape):
    points = rng.standard_normal(shape) + 3
    axes, variance = principal_axes(points, 4)
    _, values, vectors = np.linalg.svd(points - points.mean(0))
    np.testing.assert_allclose(variance, values[:4] ** 2 / (shape[0] - 1))
    np.testing.assert_allclose(np.abs((axes * vectors[:4]).sum(1)), 1)
    np.testing.assert_allclose(axes @ axes.T, np.eye(4), atol=1e-10)


def test_axes_that_do_not_exist_are_left_out():
    axes, variance = principal_axes(np.outer(np.arange(5.0), [3.0, 4.0]), 2)
    np.testing.assert_allclose(np.abs(axes), [[0.6, 0.8]])
    assert variance.tolist() == pytest.approx([np.var(5 * np.arange(5), ddof=1)])
    assert principal_axes(np.ones((4, 3)), 2)[0].shape == (0, 3)


def straight(rng, generations=10, images=8, noise=0.01):
    """A path along the first coordinate, from -3 to 6."""
    codes = noise * rng.standard_normal((generations, images, 4))
    codes[..., 0] += np.arange(generations)[:, None] - 3
    return codes


def test_geometry_of_a_straight_path(evolution, rng):
    codes = straight(rng)
    found = code_geometry(evolution(codes[..., 0], codes=codes), "main", axes=2)
    np.testing.assert_allclose(found["components"].values[0], [1, 0, 0, 0], atol=0.01)
    assert found["share"].values[0] > 0.999
    assert found["path_share"].values[0] > 0.999
    np.testing.assert_allclose(found["path"].values[:, 0], np.arange(10) - 4.5, atol=0.02)
    np.testing.assert_allclose(found["norm"], np.abs(np.arange(10) - 3), atol=0.02)
    assert found["norm_growth"].item() == pytest.approx(2, abs=0.02)
    np.testing.assert_allclose(found["center"], codes.reshape(-1, 4).mean(0))
    backwards = code_geometry(evolution(codes[::-1, :, 0], codes=codes[::-1]), "main", axes=2)
    np.testing.assert_allclose(backwards["components"].values[0], [-1, 0, 0, 0], atol=0.01)


def test_shares_are_those_of_the_whole_variance(evolution, rng):
    codes = rng.standard_normal((6, 5, 4)) * [3, 2, 1, 0.5]
    found = code_geometry(evolution(codes[..., 0], codes=codes), "main", axes=4)
    assert found["share"].sum().item() == pytest.approx(1)
    assert (np.diff(found["share"]) < 0).all()
    assert found["path_share"].sum().item() == pytest.approx(1)
    lengths = np.linalg.norm(codes, axis=2)
    np.testing.assert_allclose(found["norm"], lengths.mean(1))
    np.testing.assert_allclose(found["norm_sd"], lengths.std(1, ddof=1))


def test_axes_beyond_the_codes_are_nan(evolution, rng):
    codes = straight(rng)
    found = code_geometry(evolution(codes[..., 0], codes=codes), "main")
    assert found.sizes["axis"] == 10
    assert np.isnan(found["share"].values[4:]).all()
    assert found["reason"].item() == "components, share, path: the codes have only 4 axes of variance"


def test_several_runs_with_codes_of_different_length(evolution, rng):
    codes = straight(rng)
    runs = {"short": evolution(codes[..., 0], codes=codes[..., :2]), "long": evolution(codes[..., 0], codes=codes)}
    found = code_geometry(concat(runs), axes=2)
    assert found["components"].dims == ("thread", "axis", "latent")
    assert np.isnan(found["components"].values[0, :, 2:]).all()
    alone = code_geometry(runs["short"], "main", axes=2)
    np.testing.assert_allclose(found["path"].values[0], alone["path"])


def test_recordings_without_codes(evolution):
    for measure in (code_geometry, latent_regression):
        with pytest.raises(RecordingError, match=r"expected codes \(latent_code\)"):
            measure(evolution([[1.0, 2.0]]))


@pytest.mark.parametrize("shape", [(20, 5), (12, 30)])
def test_ridge_is_the_closed_form_and_its_choice_that_of_leave_one_out(rng, shape):
    x = rng.standard_normal(shape) + 2
    y = x @ rng.standard_normal(shape[1]) + rng.standard_normal(shape[0])
    alphas = np.array([1e-3, 1e-1, 10.0])
    weights, intercept, chosen = ridge(x, y, alphas)

    def solve(a, b, strength):
        center = a.mean(0)
        w = np.linalg.solve(
            (a - center).T @ (a - center) + strength * np.eye(shape[1]), (a - center).T @ (b - b.mean())
        )
        return w, b.mean() - center @ w

    scale = ((x - x.mean(0)) ** 2).sum() / shape[0]
    errors = []
    for alpha in alphas:
        out = [(solve(np.delete(x, i, 0), np.delete(y, i), alpha * scale), x[i], y[i]) for i in range(shape[0])]
        errors.append(np.mean([(t - row @ w - b) ** 2 for (w, b), row, t in out]))
    assert chosen == alphas[np.argmin(errors)]
    expected = solve(x, y, chosen * scale)
    np.testing.assert_allclose(weights, expected[0], rtol=1e-6)
    assert intercept == pytest.approx(expected[1])


def regression_run(evolution, rng, noise, generations=20, images=20, latent=10):
    codes = rng.standard_normal((generations, images, latent))
    weights = rng.standard_normal(latent)
    weights /= np.linalg.norm(weights)
    return evolution(codes @ weights + noise * rng.standard_normal((generations, images)), codes=codes), weights


def test_regression_of_a_linear_unit(evolution, rng):
    recording, weights = regression_run(evolution, rng, 1.0)
    found = latent_regression(recording, "main")
    assert found["r_squared"].item() == pytest.approx(0.5, abs=0.06)  # signal and noise have the same variance
    assert found["correlation"].item() == pytest.approx(0.5**0.5, abs=0.05)
    assert np.corrcoef(found["weights"], weights)[0, 1] > 0.95
    assert found["n"].item() == 400


def test_regression_of_noise_predicts_nothing(evolution, rng):
    recording, _ = regression_run(evolution, rng, 50.0)
    found = latent_regression(recording, "main")
    assert found["r_squared"].item() < 0.03
    with untouched_randomness():
        again = latent_regression(recording, "main", seed=1)
    assert again["r_squared"].item() != found["r_squared"].item()


def test_a_code_shown_again_is_not_predicted_from_itself(evolution, rng):
    """Codes without any meaning, each shown five times: scores that repeat with them are not predictable."""
    codes, scores = rng.standard_normal((40, 60)), rng.standard_normal(40)
    found = latent_regression(evolution(np.tile(scores, (5, 1)), codes=np.tile(codes, (5, 1, 1))), "main")
    assert found["r_squared"].item() < 0.05
    few = latent_regression(evolution(np.tile(scores[:4], (5, 1)), codes=np.tile(codes[:4], (5, 1, 1))), "main")
    assert few["reason"].item() == "4 different codes; expected at least 5"


def test_regression_needs_images_and_variation(evolution):
    codes = np.random.default_rng(0).standard_normal((4, 5, 3))
    same = latent_regression(evolution(np.ones((4, 5)), codes=codes), "main")
    assert same["reason"].item() == "all scores, or all codes, are equal"
    assert np.isnan(same["r_squared"])
    assert np.isnan(same["weights"]).all()
    few = latent_regression(evolution(np.ones((1, 5)), codes=codes[:1]), "main")
    assert few["reason"].item() == "5 images with a score; expected at least 10"
    with pytest.raises(InvalidArgumentError, match="alphas: expected one or more finite numbers above 0"):
        latent_regression(evolution(np.ones((4, 5)), codes=codes), alphas=[0])
    with pytest.raises(InvalidArgumentError, match="folds: expected a whole number of at least 2, got 1"):
        latent_regression(evolution(np.ones((4, 5)), codes=codes), folds=1)
