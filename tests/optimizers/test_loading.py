"""Optimizers by name, and the budget that only some of them take."""

from __future__ import annotations

import numpy as np
import pytest

from closedloop import recipes
from closedloop.errors import InvalidArgumentError, UnknownNameError
from closedloop.interfaces import Space
from closedloop.loop.experiment import build_threads, parse_experiment
from closedloop.loop.session import Session
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
    with pytest.raises(InvalidArgumentError, match=r"space: expected a Space, such as generator\.space, got 64"):
        load_optimizer("auto", 64)


@pytest.mark.parametrize(
    ("content", "own", "images"),
    [({"images": 90}, {}, 90), ({"images": 180, "repeats": 4}, {}, 45), ({"images": 90}, {"images": 90}, 90)],
)
def test_the_session_of_an_experiment_hands_out_its_budget_of_codes(content, own, images):
    """Its presentations over the repeats of each."""
    generator = {"name": "fourier", "resolution": 16, "cutoff": 2}
    experiment = parse_experiment(
        {"subject": "gabor", "generator": generator, "optimizer": {"name": "sphere-cma", **own}, **content}, "here"
    )
    subject = GaborSubject(resolution=16)
    thread = build_threads(experiment, subject)[0]
    Session(subject, [thread], **experiment.settings).run()
    assert thread.optimizer.recipe["images"] == images
