"""Scoring: images go to those objectives alone that look at them."""

from __future__ import annotations

import numpy as np

from closedloop.objectives import ImageObjective, TotalVariation, Unit, evaluate, looks_at_images

RESPONSES, IMAGES = np.ones((2, 3)), np.zeros((2, 3, 4, 4))


class Plain:
    """An outsider's objective that knows nothing of images."""

    def __call__(self, responses):
        return responses[:, 0]

    def describe(self):
        return "mine"


class Bright:
    """An outsider's objective of images."""

    needs_images = True

    def __call__(self, responses, images=None):
        return images.mean((1, 2, 3))

    def describe(self):
        return "bright"


class Seldom(Bright):
    """One that could look at images, and does not."""

    needs_images = False

    def __call__(self, responses, images=None):
        return np.full(len(responses), 0.0 if images is None else 1.0)


def test_evaluate():
    assert evaluate(Seldom(), RESPONSES, IMAGES).tolist() == [0, 0]
    assert evaluate(Plain(), RESPONSES, IMAGES).tolist() == [1, 1]
    assert evaluate(Unit(0), RESPONSES, None).tolist() == [1, 1]
    assert evaluate(Bright(), RESPONSES, IMAGES).tolist() == [0, 0]
    assert evaluate(Unit(0) - TotalVariation(), RESPONSES, IMAGES).tolist() == [1, 1]


def test_the_capability_is_asked_for():
    assert [looks_at_images(o) for o in (Plain(), Bright(), Unit(0), TotalVariation())] == [False, True, False, True]
    assert isinstance(Bright(), ImageObjective)
    assert not isinstance(Plain(), ImageObjective)
