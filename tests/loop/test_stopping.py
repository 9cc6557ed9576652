"""When to stop."""

from __future__ import annotations

import numpy as np
import pytest

from closedloop.errors import InvalidArgumentError
from closedloop.loop.stopping import Plateau, Scored, Target


def history(means):
    return [Scored(m + 1, m, 10 * (i + 1)) for i, m in enumerate(means)]


def first_stop(rule, means):
    return next((i for i in range(len(means) + 1) if rule(history(means[:i]))), None)


def test_plateau_waits_for_two_windows():
    assert first_stop(Plateau(5), [1.0] * 30) == 10
    assert first_stop(Plateau(25), [1.0] * 49) is None


def test_plateau_reason():
    assert Plateau(2)(history([1.0] * 4)) == "plateau: the mean rose by less than 1.0 % over 2 generations"


def test_plateau_goes_on_while_the_mean_rises():
    rising = list(1.05 ** np.arange(60))
    assert first_stop(Plateau(5), rising) is None
    assert first_stop(Plateau(5), rising + [rising[-1]] * 20) == 68  # 1/5 of 5% is below 1%
    assert first_stop(Plateau(5, gain=10.0), rising) == 10


def test_plateau_of_negative_and_zero_scores():
    assert first_stop(Plateau(3), list(np.linspace(-10, -1, 30))) is None
    assert first_stop(Plateau(3), [-1.0] * 10) == 6
    assert first_stop(Plateau(3), [0.0] * 3 + [0.1] * 3) is None


def test_plateau_looks_at_the_mean_not_the_best():
    lucky = [Scored(float(i), 1.0, i) for i in range(20)]
    assert Plateau(5)(lucky)


def test_plateau_with_lost_generations():
    assert first_stop(Plateau(3), [1.0, np.nan, 1.0, np.nan, 1.0, 1.0]) == 6
    assert first_stop(Plateau(3), [np.nan] * 20) is None
    assert first_stop(Plateau(3), [1.0] * 3 + [np.nan] * 3) is None


@pytest.mark.parametrize(
    "options",
    [
        {"generations": 1},
        {"generations": 2.5},
        {"generations": True},
        {"generations": "3"},
        {"gain": -0.1},
        {"gain": np.nan},
        {"gain": np.inf},
        {"gain": None},
    ],
)
def test_plateau_refuses(options):
    with pytest.raises(InvalidArgumentError, match="Plateau: expected generations >= 2 and gain >= 0"):
        Plateau(**options)


def test_target():
    rule = Target(3.0)
    assert rule([]) is None
    assert first_stop(rule, [1.0, 2.9, np.nan, 3.0, 5.0]) == 4
    assert rule(history([3.0])) == "target: the generation mean reached 3"
    assert rule([Scored(9.0, 2.0, 1)]) is None


@pytest.mark.parametrize("score", [float("nan"), float("inf"), "high"])
def test_a_target_is_a_finite_score(score):
    with pytest.raises(InvalidArgumentError, match="Target: expected a finite score"):
        Target(score)
