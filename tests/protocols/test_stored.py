"""What the protocols share when they go on with a run."""

import numpy as np
import pytest

from closedloop.errors import InvalidArgumentError
from closedloop.interfaces import Units
from closedloop.protocols import Handed
from closedloop.protocols.stored import subject_of


class Silent:
    """A subject that is false as a truth value, for it holds nothing."""

    name, units = "silent", Units(("a",), {})

    def __len__(self):
        return 0

    def record(self, images):
        return np.zeros((len(images), 1))


def test_the_subject_that_was_handed_over_is_taken_whatever_it_is(tmp_path):
    subject = Silent()
    assert subject_of(tmp_path, {"subject": {"name": "gabor"}}, Handed(subject=subject)) is subject
    assert subject_of(tmp_path, {"subject": {"name": "gabor"}}, Handed()).name == "gabor"
    with pytest.raises(InvalidArgumentError, match="subject"):
        subject_of(tmp_path, {"subject": {"name": "python-object", "description": "Silent silent"}}, Handed())
