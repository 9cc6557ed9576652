"""Captions as values: weights, names, and a text that a recording can hold."""

from __future__ import annotations

import numpy as np
import pytest

from closedloop.errors import InvalidArgumentError
from closedloop.objectives import CaptionDirection, parse_objective
from closedloop.objectives.captions.terms import Match, quoted


def test_scores_and_matches():
    objective = CaptionDirection("a dog", {4: 0.25, 2: 0.75}, ("hound", "terrier"))
    responses = np.arange(10.0).reshape(2, 5)
    np.testing.assert_allclose(objective(responses), 0.25 * responses[:, 4] + 0.75 * responses[:, 2])
    assert objective.matches() == [Match("terrier", 0.75, 2), Match("hound", 0.25, 4)]
    assert objective.moved([9, 8, 7, 6, 5]) == CaptionDirection("a dog", {5: 0.25, 7: 0.75})
    with pytest.raises(InvalidArgumentError, match=r"'caption\(\"a dog\", .*expected a response column 4, got 3 units"):
        objective(responses[:, :3])


@pytest.mark.parametrize("text", ['say "cheese"', "a; b\\; c", "new\nline", "naïve 🐶", "it's"])
def test_any_text_can_be_held(text):
    objective = CaptionDirection(text, {0: 1.0})
    assert ";" not in objective.describe()
    assert parse_objective(objective.describe()) == objective
    assert parse_objective((2 * objective - 1).describe()) == 2 * objective - 1
    assert "\n" not in quoted(text)


@pytest.mark.parametrize("weights", [{}, [1.0], {-1: 1.0}, {0: np.nan}])
def test_bad_weights(weights):
    with pytest.raises(InvalidArgumentError, match=r"weights: expected|unit: expected a response column"):
        CaptionDirection("a dog", weights)
