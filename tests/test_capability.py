"""Capabilities are asked for by attributes, on every Python the same."""

import numpy as np
import pytest

from closedloop.interfaces import Budgeted, Described, Generator, Optimizer, Presenting, Space, Stateful, Subject
from closedloop.optimizers import load_optimizer
from closedloop.subjects import load_subject


class Around:
    """Hands on all that it does not change, as users write wrappers."""

    def __init__(self, inner):
        self._inner = inner

    def __getattr__(self, name):
        return getattr(self._inner, name)


def test_what_is_handed_on_counts():
    subject, optimizer = load_subject("gabor"), load_optimizer("auto", Space(4))
    assert isinstance(Around(subject), Subject)
    assert not isinstance(Around(subject), (Presenting, Optimizer))
    assert isinstance(Around(optimizer), Optimizer)
    assert isinstance(Around(optimizer), Budgeted)
    assert isinstance(Around(optimizer), Described) == isinstance(optimizer, Described)


@pytest.mark.parametrize("kind", [Subject, Optimizer, Generator, Stateful])
def test_other_things_are_none(kind):
    assert not any(isinstance(thing, kind) for thing in (None, 3, "lite0", np.zeros(3), object()))


def test_a_method_that_is_none_is_missing():
    class Half:
        def state(self):
            return {}

        restore = None

    assert not isinstance(Half(), Stateful)
    Half.restore = lambda self, state: None
    assert isinstance(Half(), Stateful)


def test_who_inherits_is_one():
    class Own(Stateful):
        def state(self):
            return {}

        def restore(self, state):
            pass

    assert isinstance(Own(), Own)
    assert isinstance(Own(), Stateful)
    assert not isinstance(Around(Own()), Own)
    assert isinstance(Around(Own()), Stateful)
