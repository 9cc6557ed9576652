"""What is done to codes between steps, each against numbers worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from closedloop.errors import InvalidArgumentError
from closedloop.optimizers.gradient.regularizers import (
    Blur,
    Clip,
    Decay,
    FixedContrast,
    FixedNorm,
    SmallContribution,
    SmallNorm,
    describe_regularizers,
    read_regularizers,
)

ALL = (
    Decay(0.3),
    Blur(0.5, 4),
    SmallNorm(50),
    SmallContribution(90.0),
    Clip(-1, 2),
    FixedNorm(3.0),
    FixedContrast(0.2),
)


def image(seed=0, n=2, side=8):
    return np.random.default_rng(seed).standard_normal((n, 3 * side**2))


def test_they_are_read_back_from_what_describes_them():
    described = describe_regularizers(ALL)
    assert described[1] == {"name": "blur", "radius": 0.5, "every": 4}
    assert read_regularizers(described) == ALL
    assert describe_regularizers([Decay(0.1), lambda w, g, k: w]) is None


@given(st.sampled_from(ALL), st.integers(0, 9), st.integers(0, 99))
@settings(max_examples=40)
def test_none_changes_its_arguments_or_mixes_images(regularizer, k, seed):
    w, g = image(seed), image(seed + 1)
    kept = w.copy(), g.copy()
    both = regularizer(w, g, k)
    np.testing.assert_array_equal((w, g), kept)
    for i in range(2):
        np.testing.assert_allclose(regularizer(w[i : i + 1], g[i : i + 1], k)[0], both[i], rtol=1e-12, atol=1e-15)


def test_blur_keeps_the_sum_and_comes_in_the_first_and_every_fourth_step():
    spike = np.zeros((1, 3, 9, 9))
    spike[0, 0, 4, 4] = 1
    seen = Blur(0.8, 4)(spike.reshape(1, -1), spike, 0).reshape(3, 9, 9)
    assert seen[0].sum() == pytest.approx(1)
    assert seen[0, 4, 5] / seen[0, 4, 4] == pytest.approx(np.exp(-0.5 / 0.64))
    assert not seen[1:].any()
    changed = [not np.array_equal(Blur(0.8, 4)(image(), image(), k), image()) for k in range(9)]
    assert changed == [True, False, False, False, True, False, False, False, True]


def test_small_norms_go_whole_pixels_at_a_time():
    w = image().reshape(2, 3, 8, 8)
    kept = SmallNorm(50)(w.reshape(2, -1), w, 0).reshape(w.shape)
    gone = (kept == 0).all(1)
    assert (gone.sum((1, 2)) == 32).all()
    norms = np.linalg.norm(w, axis=1)
    assert norms[gone].max() < np.inf
    assert (norms[0][gone[0]].max() <= norms[0][~gone[0]].min()).all()
    np.testing.assert_array_equal(kept.transpose(0, 2, 3, 1)[~gone], w.transpose(0, 2, 3, 1)[~gone])


def test_small_contributions_are_those_of_the_sum_over_colours():
    w, g = np.ones((1, 3, 2, 2)), np.zeros((1, 3, 2, 2))
    g[0, :, 0, 0] = 1, -1, 0  # large slopes that cancel
    g[0, :, 0, 1] = 0.2, 0.2, 0.2
    g[0, :, 1, 0] = -0.3, -0.3, -0.3
    kept = SmallContribution(50)(w.reshape(1, -1), g.reshape(1, -1), 0).reshape(3, 2, 2)
    np.testing.assert_array_equal(kept[0], [[0, 1], [1, 0]])


def test_norm_and_contrast_are_fixed():
    w = image() + 0.7
    np.testing.assert_allclose(np.linalg.norm(FixedNorm(3.0)(w, w, 0), axis=1), 3)
    centered, free = FixedContrast(0.2)(w, w, 0), FixedContrast(0.2, centered=False)(w, w, 0)
    np.testing.assert_allclose([centered.std(1), free.std(1)], 0.2)
    np.testing.assert_allclose(centered.mean(1), 0, atol=1e-15)
    np.testing.assert_allclose(free.mean(1), w.mean(1))


def test_nothing_comes_of_nothing():
    zero = np.zeros((1, 12))
    for regularizer in (FixedNorm(1.0), FixedContrast(1.0)):
        np.testing.assert_array_equal(regularizer(zero, zero, 0), zero)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Decay(1.5), "share: expected a finite number from 0 to 1, got 1.5"),
        (lambda: Blur(0.0), "radius: expected a finite number above 0"),
        (lambda: Blur(1.0, 0), "every: expected a whole number of at least 1"),
        (lambda: SmallNorm(101), "percentile: expected a finite number from 0 to 100, got 101"),
        (lambda: SmallContribution(-1), "percentile: expected"),
        (lambda: Clip(1, 1), "low, high: expected low < high, got 1 and 1"),
        (lambda: FixedNorm(-1.0), "norm: expected"),
        (lambda: FixedContrast(0.0), "std: expected"),
        (lambda: read_regularizers([{"name": "decay", "factor": 1}]), "regularizers: decay: .*factor"),
        (lambda: read_regularizers([{"radius": 1}]), "no regularizer ''"),
        (
            lambda: Blur(1.0)(np.zeros((1, 10)), np.zeros((1, 10)), 0),
            "expected the codes of a square RGB image.*got 10",
        ),
    ],
)
def test_bad_values_are_named(make, message):
    with pytest.raises(InvalidArgumentError, match=message):
        make()
