"""Optimizers by name, and the budget that only some of them take."""

from __future__ import annotations

import numpy as np
import pytest

from closedloop import recipes
from closedloop.errors import InvalidArgumentError, UnknownNameError
from closedloop.interfaces import Space
from closedloop.loop.experiment import build_threads, parse_experiment
from closedloop.optimizers import load_optimizer
from closedloop.subjects import GaborSubject


def test_the_budget_goes_to_those_that_take_it():
    assert recipes.takes("optimizers", "sphere-cma", "images")
    assert not recipes.takes("optimizers", "isotropic", "images")
    with_budget, without = (load_optimizer("isotropic", Space(4), 1, images=images) for images in (100, None))
    np.testing.assert_array_equal(with_budget.ask(), without.ask())
    with pytest.raises(UnknownNameError, match="no optimizer named 'sphere'"):
        recipes.takes("optimizers", "sphere", "images")


def test_a_name_and_a_space_are_asked_for():
    with pytest.raises(InvalidArgumentError, match="optimizer: expected a name such as 'auto', got None"):
        load_optimizer(None, Space(4))
    with pytest.raises(InvalidArgumentError, match="space: expected a Space, got 64; that of a generator is"):
        load_optimizer("auto", 64)


@pytest.mark.parametrize(
    ("content", "own", "images"),
    [({"images": 900}, {}, 900), ({"images": 900, "repeats": 4}, {}, 225), ({}, {"images": 77}, 77)],
)
def test_an_experiment_hands_on_its_budget_of_codes(content, own, images):
    """Its presentations over the repeats of each; an optimizer's own entry comes first."""
    generator = {"name": "fourier", "resolution": 16, "cutoff": 2}
    experiment = parse_experiment(
        {"subject": "gabor", "generator": generator, "optimizer": {"name": "sphere-cma", **own}, **content}, "here"
    )
    thread = build_threads(experiment, GaborSubject(resolution=16))[0]
    assert thread.optimizer.recipe["images"] == images
